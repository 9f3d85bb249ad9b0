//! Rules that make requests fail on purpose, before or after they took effect.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use globset::{Glob, GlobMatcher};
use tokio::sync::watch;

use super::request::{RequestKind, Target};

/// What happens to a request that a rule matches.
#[derive(Clone, Debug)]
pub enum Fault {
    /// Answered with this error; has no effect.
    Status {
        /// HTTP status.
        status: u16,
        /// Code in the XML body, e.g. `SlowDown`.
        code: &'static str,
        /// Value of a `Retry-After` header, seconds.
        retry_after: Option<u32>,
    },
    /// Served this much later.
    Delay(Duration),
    /// Served at once, answered this much later.
    DelayReply(Duration),
    /// The connection ends before anything happened.
    Reset,
    /// The connection ends after this many bytes of the request's body.
    CutRequest(u64),
    /// Takes effect; the connection ends after this many bytes of the reply's body.
    CutReply(u64),
    /// Takes effect; the connection ends without a reply.
    LostReply,
    /// Confirmed as a stored object, but not kept.
    Forget,
    /// The request's body is read at this many bytes per second.
    Throttle(u64),
    /// Waits until the test opens the gate.
    Hold(Gate),
}

impl Fault {
    /// The reply of an overloaded bucket.
    #[must_use]
    pub fn slow_down() -> Self {
        Self::Status { status: 503, code: "SlowDown", retry_after: None }
    }

    /// The reply of a server with a bug or a broken disk.
    #[must_use]
    pub fn internal_error() -> Self {
        Self::Status { status: 500, code: "InternalError", retry_after: None }
    }

    /// The reply to credentials that may not do this.
    #[must_use]
    pub fn access_denied() -> Self {
        Self::Status { status: 403, code: "AccessDenied", retry_after: None }
    }
}

/// Which of the matching requests a rule applies to, counted from 1 per rule.
#[derive(Clone, Copy, Debug)]
pub enum Calls {
    /// All of them.
    All,
    /// Only the n-th.
    Nth(u64),
    /// The first n.
    First(u64),
    /// All from the n-th on.
    From(u64),
    /// Every n-th.
    Every(u64),
}

impl Calls {
    fn include(self, call: u64) -> bool {
        match self {
            Self::All => true,
            Self::Nth(n) => call == n,
            Self::First(n) => call <= n,
            Self::From(n) => call >= n,
            Self::Every(n) => n > 0 && call.is_multiple_of(n),
        }
    }
}

/// A fault and the requests it hits.
#[derive(Clone, Debug)]
pub struct Rule {
    kinds: Vec<RequestKind>,
    key: Option<GlobMatcher>,
    calls: Calls,
    fault: Fault,
}

impl Rule {
    /// `fault` for every request; narrow it with the methods below.
    #[must_use]
    pub fn new(fault: Fault) -> Self {
        Self { kinds: Vec::new(), key: None, calls: Calls::All, fault }
    }

    /// Only requests of these kinds.
    #[must_use]
    pub fn on(mut self, kinds: &[RequestKind]) -> Self {
        self.kinds = kinds.to_vec();
        self
    }

    /// Only keys that match this glob; `*` crosses `/`.
    ///
    /// # Panics
    /// The glob does not parse: it is written in a test.
    #[must_use]
    pub fn key(mut self, glob: &str) -> Self {
        self.key = Some(Glob::new(glob).expect("a glob in a test parses").compile_matcher());
        self
    }

    /// Only some of the matching requests.
    #[must_use]
    pub fn calls(mut self, calls: Calls) -> Self {
        self.calls = calls;
        self
    }

    fn matches(&self, target: &Target) -> bool {
        (self.kinds.is_empty() || self.kinds.contains(&target.kind))
            && self.key.as_ref().is_none_or(|glob| glob.is_match(&target.key))
    }
}

/// Names a rule for removal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FaultId(u64);

struct Active {
    id: FaultId,
    rule: Rule,
    matched: u64,
    applied: u64,
}

#[derive(Default)]
struct State {
    next: u64,
    rules: Vec<Active>,
}

/// The rules in force on a server; clones share them.
#[derive(Clone, Default)]
pub struct Faults(Arc<Mutex<State>>);

impl Faults {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a rule in force from the next request on.
    pub fn add(&self, rule: Rule) -> FaultId {
        let mut state = self.lock();
        state.next += 1;
        let id = FaultId(state.next);
        state.rules.push(Active { id, rule, matched: 0, applied: 0 });
        id
    }

    /// Takes a rule out of force; answers how often it was applied.
    pub fn remove(&self, id: FaultId) -> u64 {
        let mut state = self.lock();
        let at = state.rules.iter().position(|active| active.id == id);
        at.map_or(0, |at| state.rules.remove(at).applied)
    }

    /// How often a rule was applied so far.
    pub fn applied(&self, id: FaultId) -> u64 {
        self.lock().rules.iter().find(|active| active.id == id).map_or(0, |active| active.applied)
    }

    /// Takes all rules out of force.
    pub fn clear(&self) {
        self.lock().rules.clear();
    }

    pub(super) fn for_request(&self, target: &Target) -> Vec<Fault> {
        let mut faults = Vec::new();
        for active in &mut self.lock().rules {
            if active.rule.matches(target) {
                active.matched += 1;
                if active.rule.calls.include(active.matched) {
                    active.applied += 1;
                    faults.push(active.rule.fault.clone());
                }
            }
        }
        faults
    }
}

/// Holds requests back until a test lets them go, so that "in mid-upload" is a state and not a guess about time.
#[derive(Clone, Debug)]
pub struct Gate(Arc<GateState>);

#[derive(Debug)]
struct GateState {
    open: watch::Sender<bool>,
    waiting: watch::Sender<usize>,
}

impl Default for Gate {
    fn default() -> Self {
        Self(Arc::new(GateState { open: watch::Sender::new(false), waiting: watch::Sender::new(0) }))
    }
}

impl Gate {
    /// Waits until at least `count` requests stand at the gate; `false` when that did not happen within `limit`.
    pub async fn reached(&self, count: usize, limit: Duration) -> bool {
        let mut waiting = self.0.waiting.subscribe();
        tokio::time::timeout(limit, waiting.wait_for(|waiting| *waiting >= count)).await.is_ok()
    }

    /// Lets all requests through, now and later.
    pub fn open(&self) {
        self.0.open.send_replace(true);
    }

    pub(super) async fn pass(&self) {
        let mut open = self.0.open.subscribe();
        self.0.waiting.send_modify(|waiting| *waiting += 1);
        let _leave = LeaveGate(&self.0);
        // Fails only when the sender is gone, and `self` holds it.
        let _ = open.wait_for(|open| *open).await;
    }
}

/// Counts a request out also when its connection ends while it waits.
struct LeaveGate<'a>(&'a GateState);

impl Drop for LeaveGate<'_> {
    fn drop(&mut self) {
        self.0.waiting.send_modify(|waiting| *waiting -= 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(kind: RequestKind, key: &str) -> Target {
        Target { kind, bucket: "b".into(), key: key.into() }
    }

    #[test]
    fn a_rule_hits_its_calls_only() {
        let cases: [(Calls, &[u64]); 5] = [
            (Calls::All, &[1, 2, 3, 4]),
            (Calls::Nth(2), &[2]),
            (Calls::First(2), &[1, 2]),
            (Calls::From(3), &[3, 4]),
            (Calls::Every(2), &[2, 4]),
        ];
        for (calls, expected) in cases {
            let faults = Faults::default();
            faults.add(Rule::new(Fault::Reset).on(&[RequestKind::PutObject]).key("*/sst/*").calls(calls));
            let mut hit = Vec::new();
            for call in 1..=4 {
                assert!(faults.for_request(&target(RequestKind::GetObject, "backup/sst/x")).is_empty());
                assert!(faults.for_request(&target(RequestKind::PutObject, "backup/meta/x")).is_empty());
                if !faults.for_request(&target(RequestKind::PutObject, "backup/sst/x")).is_empty() {
                    hit.push(call);
                }
            }
            assert_eq!(hit, expected, "{calls:?}");
        }
    }
}
