//! Fault rules: which call, on which node, fails how.
//!
//! The same rules come from Rust tests and, as JSON, over the admin port. A CQL request is a call too:
//! its method is `CQL`, its path the statement, or `OPTIONS`, `STARTUP`, `AUTH_RESPONSE`, `REGISTER`.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::SnapshotFault;

/// Number of a rule within its cluster.
pub type RuleId = u64;

/// One rule. All conditions must hold; absent ones always do.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Address of the node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// Glob over the path; `*` also matches slashes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Globs over query parameters that must be present.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub query: BTreeMap<String, String>,
    /// Only the nth call that fits, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nth: Option<u64>,
    /// Chance between 0 and 1, decided by the cluster's seed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probability: Option<f64>,
    /// How often it acts before it is spent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    pub action: Action,
}

/// What happens to a call that a rule fits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Action {
    /// Waits before the effect, plus up to `jitter_millis`.
    Delay {
        millis: u64,
        #[serde(default)]
        jitter_millis: u64,
    },
    /// Waits after the effect: a slow success, or a timeout of something that was done.
    DelayAfter { millis: u64 },
    /// Answers this instead of doing anything.
    Respond {
        status: u16,
        /// Default: the error shape of Scylla with a fitting text.
        #[serde(default)]
        body: Option<String>,
        #[serde(default)]
        content_type: Option<String>,
    },
    /// Does the work, then answers this.
    RespondAfter { status: u16 },
    /// Breaks the connection before the effect.
    Reset,
    /// Breaks the connection after the effect.
    ResetAfter,
    /// Never answers, until the rule is removed.
    Hang,
    /// Does the work, then never answers until the rule is removed.
    HangAfter,
    /// Cuts the body after so many bytes and breaks the connection.
    Truncate { bytes: usize },
    /// Label the answer wrongly, as Scylla does now and then.
    ContentType { value: String },
    /// Lets the snapshot that this call takes go wrong.
    Snapshot(SnapshotFault),
}

impl Rule {
    /// A rule for calls with this method and path (a glob) on any node.
    pub fn new(method: &str, path: &str, action: Action) -> Self {
        Self {
            node: None,
            method: Some(method.to_owned()),
            path: Some(path.to_owned()),
            query: BTreeMap::new(),
            nth: None,
            probability: None,
            count: None,
            action,
        }
    }

    /// Only on the node with this address.
    #[must_use]
    pub fn on(mut self, node: &super::SimNode) -> Self {
        self.node = Some(node.address().to_string());
        self
    }

    /// Only with a query parameter that fits the glob.
    #[must_use]
    pub fn query(mut self, name: &str, glob: &str) -> Self {
        self.query.insert(name.to_owned(), glob.to_owned());
        self
    }

    /// Only the nth call that fits, from 1.
    #[must_use]
    pub fn nth(mut self, nth: u64) -> Self {
        self.nth = Some(nth);
        self
    }

    /// Acts that many times, then no more.
    #[must_use]
    pub fn times(mut self, count: u64) -> Self {
        self.count = Some(count);
        self
    }

    /// Acts with this chance.
    #[must_use]
    pub fn probability(mut self, chance: f64) -> Self {
        self.probability = Some(chance);
        self
    }

    fn fits(&self, call: &CallFacts<'_>) -> bool {
        let is = |wanted: &Option<String>, actual: &str| wanted.as_deref().is_none_or(|w| w == actual);
        is(&self.node, call.node)
            && is(&self.method, call.method)
            && self.path.as_deref().is_none_or(|glob| glob_matches(glob, call.path))
            && self.query.iter().all(|(name, glob)| {
                call.query.iter().any(|(n, value)| n == name && glob_matches(glob, value))
            })
    }
}

/// What rules look at.
pub(crate) struct CallFacts<'a> {
    pub node: &'a str,
    pub method: &'a str,
    pub path: &'a str,
    pub query: &'a [(String, String)],
}

/// An answer that takes the place of the real one.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Substitute {
    pub status: u16,
    pub body: Option<String>,
    pub content_type: Option<String>,
}

/// Everything the rules want done to one call.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Decision {
    pub delay: Duration,
    pub hang: Option<RuleId>,
    pub reset: bool,
    pub instead: Option<Substitute>,
    pub snapshot_faults: Vec<SnapshotFault>,
    pub delay_after: Duration,
    pub hang_after: Option<RuleId>,
    pub reset_after: bool,
    pub answer_after: Option<u16>,
    pub truncate: Option<usize>,
    pub content_type: Option<String>,
}

struct Entry {
    id: RuleId,
    rule: Rule,
    /// Calls that fitted.
    seen: u64,
    /// Calls it acted on.
    acted: u64,
}

struct State {
    entries: Vec<Entry>,
    last_id: RuleId,
    random: SmallRng,
}

/// The rules of a cluster.
pub struct Rules {
    state: Mutex<State>,
    changed: watch::Sender<u64>,
}

impl Rules {
    pub(crate) fn new(seed: u64) -> Self {
        let random = SmallRng::seed_from_u64(seed);
        Self {
            state: Mutex::new(State { entries: Vec::new(), last_id: 0, random }),
            changed: watch::Sender::new(0),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a rule; all rules that fit a call act on it.
    pub fn add(&self, rule: Rule) -> RuleId {
        let mut state = self.state();
        state.last_id += 1;
        let id = state.last_id;
        state.entries.push(Entry { id, rule, seen: 0, acted: 0 });
        id
    }

    /// Removes a rule and releases the calls that hang on it; returns how often it acted.
    pub fn remove(&self, id: RuleId) -> u64 {
        let acted = self.acted(id);
        self.state().entries.retain(|e| e.id != id);
        self.changed.send_modify(|n| *n += 1);
        acted
    }

    /// Removes all rules and releases all calls that hang.
    pub fn clear(&self) {
        self.state().entries.clear();
        self.changed.send_modify(|n| *n += 1);
    }

    /// How often a rule acted; 0 for an unknown one.
    pub fn acted(&self, id: RuleId) -> u64 {
        self.state().entries.iter().find(|e| e.id == id).map_or(0, |e| e.acted)
    }

    /// All rules with the number of calls each acted on.
    pub fn list(&self) -> Vec<(RuleId, Rule, u64)> {
        self.state().entries.iter().map(|e| (e.id, e.rule.clone(), e.acted)).collect()
    }

    /// Waits until a rule is gone.
    pub(crate) async fn released(&self, id: RuleId) {
        let mut changed = self.changed.subscribe();
        while self.state().entries.iter().any(|e| e.id == id) {
            if changed.changed().await.is_err() {
                return;
            }
        }
    }

    /// Decides what happens to a call.
    pub(crate) fn decide(&self, call: &CallFacts<'_>) -> Decision {
        let mut state = self.state();
        let State { entries, random, .. } = &mut *state;
        let mut decision = Decision::default();
        for entry in entries.iter_mut().filter(|e| e.rule.fits(call)) {
            entry.seen += 1;
            let rule = &entry.rule;
            let due = rule.nth.is_none_or(|nth| nth == entry.seen)
                && rule.count.is_none_or(|count| entry.acted < count)
                && rule.probability.is_none_or(|chance| random.random_bool(chance.clamp(0.0, 1.0)));
            if due {
                entry.acted += 1;
                decision.add(entry.id, &rule.action, random);
            }
        }
        decision
    }
}

impl Decision {
    fn add(&mut self, id: RuleId, action: &Action, random: &mut SmallRng) {
        match action.clone() {
            Action::Delay { millis, jitter_millis } => {
                let jitter = random.random_range(0..=jitter_millis);
                self.delay += Duration::from_millis(millis + jitter);
            }
            Action::DelayAfter { millis } => self.delay_after += Duration::from_millis(millis),
            Action::Respond { status, body, content_type } => {
                self.instead.get_or_insert(Substitute { status, body, content_type });
            }
            Action::RespondAfter { status } => {
                self.answer_after.get_or_insert(status);
            }
            Action::Reset => self.reset = true,
            Action::ResetAfter => self.reset_after = true,
            Action::Hang => {
                self.hang.get_or_insert(id);
            }
            Action::HangAfter => {
                self.hang_after.get_or_insert(id);
            }
            Action::Truncate { bytes } => {
                self.truncate.get_or_insert(bytes);
            }
            Action::ContentType { value } => {
                self.content_type.get_or_insert(value);
            }
            Action::Snapshot(fault) => self.snapshot_faults.push(fault),
        }
    }
}

/// Matches `*` (any run, also of slashes) and `?` (one character).
pub(crate) fn glob_matches(glob: &str, text: &str) -> bool {
    fn matches(glob: &[char], text: &[char]) -> bool {
        match glob.split_first() {
            None => text.is_empty(),
            Some(('*', rest)) => (0..=text.len()).any(|skip| matches(rest, &text[skip..])),
            Some(('?', rest)) => !text.is_empty() && matches(rest, &text[1..]),
            Some((c, rest)) => text.first() == Some(c) && matches(rest, &text[1..]),
        }
    }
    matches(&glob.chars().collect::<Vec<_>>(), &text.chars().collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decide(rules: &Rules, path: &str, query: &[(&str, &str)]) -> Decision {
        let query: Vec<_> = query.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        rules.decide(&CallFacts { node: "127.0.0.11", method: "POST", path, query: &query })
    }

    #[test]
    fn globs() {
        for (glob, text, expected) in [
            ("/storage_service/*", "/storage_service/snapshots/size", true),
            ("/a/*/c", "/a/b/c", true),
            ("/a/?", "/a/b", true),
            ("/a/?", "/a/", false),
            ("*", "", true),
            ("/a", "/ab", false),
        ] {
            assert_eq!(glob_matches(glob, text), expected, "{glob} {text}");
        }
    }

    #[test]
    fn nth_count_and_query_select_calls() {
        let rules = Rules::new(1);
        let respond = |status| Action::Respond { status, body: None, content_type: None };
        rules.add(Rule::new("POST", "/s", respond(500)).query("kn", "ks*").nth(2));
        let counted = rules.add(Rule::new("POST", "/t", Action::Reset).times(1));
        assert_eq!(decide(&rules, "/s", &[("kn", "other")]), Decision::default());
        assert_eq!(decide(&rules, "/s", &[("kn", "ks1")]), Decision::default());
        assert_eq!(decide(&rules, "/s", &[("kn", "ks2")]).instead.map(|i| i.status), Some(500));
        assert_eq!(decide(&rules, "/s", &[("kn", "ks2")]), Decision::default());
        assert!(decide(&rules, "/t", &[]).reset);
        assert!(!decide(&rules, "/t", &[]).reset);
        assert_eq!(rules.remove(counted), 1);
    }

    #[test]
    fn probability_follows_the_seed() {
        let run = |seed| {
            let rules = Rules::new(seed);
            rules.add(Rule::new("POST", "*", Action::Reset).probability(0.5));
            (0..64).map(|_| decide(&rules, "/x", &[]).reset).collect::<Vec<_>>()
        };
        assert_eq!(run(7), run(7));
        assert_ne!(run(7), run(8));
        assert!(run(7).contains(&true) && run(7).contains(&false));
    }

    #[test]
    fn rules_read_and_write_as_json() {
        let json = r#"{"node":"127.0.0.11","method":"POST","path":"/storage_service/snapshots","query":{"kn":"ks*"},"count":2,"action":{"delay":{"millis":50}}}"#;
        let rule: Rule = serde_json::from_str(json).unwrap();
        assert_eq!(rule.action, Action::Delay { millis: 50, jitter_millis: 0 });
        for action in [
            r#""reset""#,
            r#""hang""#,
            r#"{"truncate":{"bytes":3}}"#,
            r#"{"respond":{"status":503}}"#,
            r#"{"snapshot":{"fails":{"table":"ks.t"}}}"#,
        ] {
            serde_json::from_str::<Action>(action).unwrap();
        }
        assert!(serde_json::from_str::<Rule>(r#"{"action":"reset","paht":"/"}"#).is_err());
    }
}
