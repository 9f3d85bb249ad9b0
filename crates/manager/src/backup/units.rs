//! Which tables a backup takes (spec backup-format.md 3.3). Pure: what the cluster said goes in, units come out.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::LazyLock;

use common::api::manager::Unit;
use common::filter::{InvalidFilter, KeyspaceFilter, selects};
use regex::Regex;

/// Keyspace whose tables are always taken: the original refuses to restore a schema without them.
pub const SCHEMA_KEYSPACE: &str = "system_schema";

/// Scylla's own notes about backups.
const BOOKKEEPING: [&str; 7] = [
    "snapshot_sstables",
    "snapshot_remote_locations",
    "snapshots",
    "snapshot_nodes",
    "snapshot_keyspaces",
    "snapshot_tables",
    "snapshot_tablets",
];

/// Keyspaces that Scylla fills itself and a restored cluster does without: traces of queries, and notes about views and
/// streams being built. Scylla spreads them over all nodes without regard to datacenters, so hardly any selection of
/// datacenters has a replica of each range.
const DISPENSABLE: [&str; 2] = ["system_distributed", "system_traces"];

static SYSTEM_CDC: LazyLock<Regex> =
    LazyLock::new(|| Regex::new("(^|_)cdc(_|$)").expect("the pattern is a constant"));

/// Why no table list came out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnitsError {
    /// Nothing besides the schema.
    #[error(
        "no keyspace matched criteria{}; --dry-run --show-tables without -K shows what can be backed up",
        if patterns.is_empty() { String::new() } else { format!(" {patterns:?}") }
    )]
    NothingSelected {
        /// `--keyspace`, as given.
        patterns: Vec<String>,
    },
    /// Data that only unselected or dead nodes have.
    #[error(
        "{keyspace}.{table}: the whole replica set [{}] is filtered out, so the data owned by it can't be backed up; \
         start one of these nodes, select its datacenter (--dc), or leave the table out (-K '*,!{keyspace}.{table}')",
        replicas.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
    )]
    ReplicaSetLost {
        /// Keyspace.
        keyspace: String,
        /// Table.
        table: String,
        /// Its replicas, none of them live and selected.
        replicas: Vec<IpAddr>,
    },
    /// The ring of a table was not asked for: a mistake of the caller.
    #[error("{keyspace}.{table}: ring is not known")]
    NoRing {
        /// Keyspace.
        keyspace: String,
        /// Table.
        table: String,
    },
}

/// What the cluster says about a keyspace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyspaceFacts {
    /// Made by users.
    pub user: bool,
    /// Its replication strategy is not local.
    pub replicated: bool,
    /// Spread by tablets: each table has a ring of its own.
    pub tablets: bool,
    /// All tables, views and index tables included.
    pub tables: BTreeSet<String>,
}

/// All that selection needs, besides rings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SchemaFacts {
    /// By name.
    pub keyspaces: BTreeMap<String, KeyspaceFacts>,
    /// `(keyspace, view)`; `None` when CQL could not be asked, then views are backed up like tables.
    pub views: Option<BTreeSet<(String, String)>>,
}

/// Where the ring of a table is found: one per keyspace, or one per table with tablets.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RingKey {
    /// Keyspace.
    pub keyspace: String,
    /// Table; `None` for vnodes.
    pub table: Option<String>,
}

/// A replica with its datacenter.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Replica {
    /// Address.
    pub host: IpAddr,
    /// Datacenter.
    pub dc: String,
}

/// The distinct replica sets of a ring.
pub type Ring = BTreeSet<Vec<Replica>>;

/// Tables that all filters let pass which need no ring.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Candidates {
    tables: BTreeMap<String, BTreeSet<String>>,
    rings: BTreeMap<(String, String), RingKey>,
    /// The globs that let them pass.
    patterns: Vec<String>,
    /// Those globs that should select something and match no table.
    unmatched: Vec<String>,
}

impl Candidates {
    /// The rings that must be read before [`select`].
    pub fn rings(&self) -> BTreeSet<&RingKey> {
        self.rings.values().collect()
    }

    /// What the operator should know: a pattern that matches no table is a slip, or its table does not exist yet.
    pub fn warnings(&self) -> Vec<String> {
        let text = |pattern: &String| format!("--keyspace {pattern:?} matches no table of this cluster");
        self.unmatched.iter().map(text).collect()
    }
}

/// The tables that a backup takes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// In the order in which they are backed up.
    pub units: Vec<Unit>,
    /// Dispensable keyspaces with data that no selected datacenter has.
    pub out_of_reach: BTreeSet<String>,
}

impl Selection {
    /// What the operator should know.
    pub fn warnings(&self, datacenters: &[String]) -> Vec<String> {
        let text = |keyspace: &String| {
            format!(
                "{keyspace} is left out: some of its data is in none of the datacenters {}; back up all datacenters, or \
                 have Scylla replicate it to each of them (NetworkTopologyStrategy); -K '*,!{keyspace}' silences this",
                datacenters.join(", ")
            )
        };
        self.out_of_reach.iter().map(text).collect()
    }
}

/// Applies every filter that needs no ring. `patterns` are the globs of `--keyspace`.
///
/// # Errors
/// A glob is invalid.
pub fn candidates(facts: &SchemaFacts, patterns: &[String]) -> Result<Candidates, InvalidFilter> {
    let filter = KeyspaceFilter::new(patterns)?;
    let mut found = Candidates {
        patterns: patterns.to_vec(),
        unmatched: unmatched(facts, patterns)?,
        ..Candidates::default()
    };
    for (keyspace, about) in &facts.keyspaces {
        if keyspace == SCHEMA_KEYSPACE || !(about.user || about.replicated) {
            continue;
        }
        for table in &about.tables {
            if !filter.matches(keyspace, table) || is_bookkeeping(keyspace, table) {
                continue;
            }
            if is_change_log(about.user, table) || is_view(facts, keyspace, table) {
                continue;
            }
            let key = RingKey { keyspace: keyspace.clone(), table: about.tablets.then(|| table.clone()) };
            found.rings.insert((keyspace.clone(), table.clone()), key);
            found.tables.entry(keyspace.clone()).or_default().insert(table.clone());
        }
    }
    Ok(found)
}

/// The selecting patterns that match no table at all.
fn unmatched(facts: &SchemaFacts, patterns: &[String]) -> Result<Vec<String>, InvalidFilter> {
    let mut unmatched = Vec::new();
    for pattern in patterns.iter().filter(|pattern| selects(pattern)) {
        let filter = KeyspaceFilter::new(&[pattern])?;
        let matches = |(keyspace, about): (&String, &KeyspaceFacts)| {
            about.tables.iter().any(|table| filter.matches(keyspace, table))
        };
        if !facts.keyspaces.iter().any(matches) {
            unmatched.push(pattern.clone());
        }
    }
    Ok(unmatched)
}

/// State of lightweight transactions, or Scylla's notes about backups.
fn is_bookkeeping(keyspace: &str, table: &str) -> bool {
    table.ends_with("$paxos")
        || (keyspace == "system" && table == "paxos")
        || (keyspace == "system_distributed" && BOOKKEEPING.contains(&table))
}

fn is_change_log(user: bool, table: &str) -> bool {
    if user { table.ends_with("_scylla_cdc_log") } else { SYSTEM_CDC.is_match(table) }
}

fn is_view(facts: &SchemaFacts, keyspace: &str, table: &str) -> bool {
    let views = facts.views.as_ref();
    views.is_some_and(|views| views.contains(&(keyspace.to_owned(), table.to_owned())))
}

/// Applies the filters that need rings, checks that no data is out of reach, and orders the units.
///
/// # Errors
/// Nothing is selected, or a replica set has no node that is live and selected.
pub fn select(
    facts: &SchemaFacts,
    candidates: &Candidates,
    rings: &BTreeMap<RingKey, Ring>,
    datacenters: &[String],
    live: &BTreeSet<IpAddr>,
    skip_schema: bool,
) -> Result<Selection, UnitsError> {
    let mut selection = Selection::default();
    let mut refused = None;
    for (keyspace, tables) in &candidates.tables {
        let mut taken = Vec::new();
        for table in tables {
            let of_table = || (keyspace.clone(), table.clone());
            let ring = candidates
                .rings
                .get(&of_table())
                .and_then(|key| rings.get(key))
                .ok_or_else(|| UnitsError::NoRing { keyspace: keyspace.clone(), table: table.clone() })?;
            let is_selected = |replica: &Replica| datacenters.contains(&replica.dc);
            if !ring.iter().flatten().any(is_selected) {
                continue;
            }
            let reach = check_reach(keyspace, table, ring, live);
            let deselected = ring.iter().any(|set| !set.iter().any(is_selected));
            if deselected && DISPENSABLE.contains(&keyspace.as_str()) {
                selection.out_of_reach.insert(keyspace.clone());
                refused = refused.or(reach.err());
                continue;
            }
            reach?;
            taken.push(table.clone());
        }
        if !taken.is_empty() {
            selection.units.push(unit(facts, keyspace, taken));
        }
    }
    if selection.units.is_empty() {
        let nothing = UnitsError::NothingSelected { patterns: candidates.patterns.clone() };
        return Err(refused.unwrap_or(nothing));
    }
    selection.units.sort_by(|a, b| order(&a.keyspace).cmp(&order(&b.keyspace)));
    if let Some(schema) = facts.keyspaces.get(SCHEMA_KEYSPACE).filter(|_| !skip_schema) {
        let tables = schema.tables.iter().cloned().collect();
        selection.units.push(unit(facts, SCHEMA_KEYSPACE, tables));
    }
    Ok(selection)
}

fn check_reach(keyspace: &str, table: &str, ring: &Ring, live: &BTreeSet<IpAddr>) -> Result<(), UnitsError> {
    match ring.iter().find(|set| !set.iter().any(|replica| live.contains(&replica.host))) {
        None => Ok(()),
        Some(lost) => Err(UnitsError::ReplicaSetLost {
            keyspace: keyspace.to_owned(),
            table: table.to_owned(),
            replicas: lost.iter().map(|replica| replica.host).collect(),
        }),
    }
}

fn unit(facts: &SchemaFacts, keyspace: &str, tables: Vec<String>) -> Unit {
    let known = facts.keyspaces.get(keyspace).map_or(0, |k| k.tables.len());
    Unit { keyspace: keyspace.to_owned(), all_tables: tables.len() == known, tables }
}

/// System keyspaces first, then by name.
fn order(keyspace: &str) -> (bool, &str) {
    (!keyspace.starts_with("system"), keyspace)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> SchemaFacts {
        let mut keyspaces = BTreeMap::new();
        for (name, user, replicated, tablets, tables) in [
            ("zeta", true, true, false, &["a", "b", "b_by_c", "a_scylla_cdc_log", "a$paxos"][..]),
            ("shop", true, true, true, &["cart", "cdc"]),
            ("local_user", true, false, false, &["t"]),
            ("system", false, false, false, &["peers", "paxos"]),
            ("system_schema", false, false, false, &["tables", "views"]),
            ("system_auth", false, true, false, &["roles"]),
            (
                "system_distributed",
                false,
                true,
                false,
                &["view_build_status", "cdc_generations", "my_cdc", "cdcx", "snapshots", "snapshot_tablets"],
            ),
        ] {
            let tables = tables.iter().map(|t| (*t).to_owned()).collect();
            keyspaces.insert(name.to_owned(), KeyspaceFacts { user, replicated, tablets, tables });
        }
        let views = Some(BTreeSet::from([("zeta".to_owned(), "b_by_c".to_owned())]));
        SchemaFacts { keyspaces, views }
    }

    fn host(n: u8) -> IpAddr {
        [192, 0, 2, n].into()
    }

    fn replica(n: u8) -> Replica {
        Replica { host: host(n), dc: if n < 10 { "dc1".into() } else { "dc2".into() } }
    }

    fn ring(sets: &[&[u8]]) -> Ring {
        sets.iter().map(|set| set.iter().map(|n| replica(*n)).collect()).collect()
    }

    fn resolve(
        patterns: &[&str],
        special: &[(&str, Option<&str>, Ring)],
        live: &[u8],
        skip_schema: bool,
    ) -> Result<Vec<String>, String> {
        resolve_with(&facts(), patterns, special, live, skip_schema)
    }

    fn resolve_with(
        facts: &SchemaFacts,
        patterns: &[&str],
        special: &[(&str, Option<&str>, Ring)],
        live: &[u8],
        skip_schema: bool,
    ) -> Result<Vec<String>, String> {
        let selection = selection(facts, patterns, special, live, skip_schema)?;
        let print = |u: Unit| {
            let all = if u.all_tables { " (all)" } else { "" };
            format!("{}: {}{all}", u.keyspace, u.tables.join(" "))
        };
        Ok(selection.units.into_iter().map(print).collect())
    }

    fn selection(
        facts: &SchemaFacts,
        patterns: &[&str],
        special: &[(&str, Option<&str>, Ring)],
        live: &[u8],
        skip_schema: bool,
    ) -> Result<Selection, String> {
        let patterns: Vec<String> = patterns.iter().map(|p| (*p).to_owned()).collect();
        let found = candidates(facts, &patterns).unwrap();
        let mut rings: BTreeMap<RingKey, Ring> =
            found.rings().into_iter().map(|key| (key.clone(), ring(&[&[1, 11], &[2, 12]]))).collect();
        for (keyspace, table, ring) in special {
            let key = RingKey { keyspace: (*keyspace).into(), table: table.map(str::to_owned) };
            assert!(rings.insert(key, ring.clone()).is_some(), "no such ring is asked for");
        }
        let live = live.iter().map(|n| host(*n)).collect();
        select(facts, &found, &rings, &["dc1".to_owned()], &live, skip_schema).map_err(|e| e.to_string())
    }

    #[test]
    fn everything_that_can_be_restored_is_taken_in_order() {
        assert_eq!(
            resolve(&[], &[], &[1, 2], false).unwrap(),
            [
                "system_auth: roles (all)",
                "system_distributed: cdcx view_build_status",
                "local_user: t (all)",
                "shop: cart cdc (all)",
                "zeta: a b",
                "system_schema: tables views (all)",
            ]
        );
    }

    #[test]
    fn globs_do_not_touch_the_schema() {
        let units = resolve(&["*", "!system*", "!zeta", "zeta.b"], &[], &[1, 2], false).unwrap();
        assert_eq!(
            units,
            ["local_user: t (all)", "shop: cart cdc (all)", "zeta: b", "system_schema: tables views (all)"]
        );
        for nothing in ["system_schema", "system", "zeta.c"] {
            let refused = resolve(&[nothing], &[], &[1, 2], false).unwrap_err();
            assert!(
                refused.starts_with(&format!("no keyspace matched criteria [{nothing:?}]; --dry-run")),
                "{refused}"
            );
        }
        assert_eq!(resolve(&["shop.cart"], &[], &[1, 2], true).unwrap(), ["shop: cart"]);
    }

    #[test]
    fn patterns_without_a_table_are_told() {
        let patterns = ["shop", "shpo.cart", "zeta.*", "zeta.c", "!nothing", "*x", ""].map(str::to_owned);
        let found = candidates(&facts(), &patterns).unwrap();
        assert_eq!(
            found.warnings(),
            ["shpo.cart", "zeta.c", "*x"]
                .map(|p| format!("--keyspace {p:?} matches no table of this cluster"))
        );
    }

    #[test]
    fn tables_without_replica_in_the_datacenters_are_left_out() {
        let elsewhere = ring(&[&[11, 12]]);
        let units = resolve(&["zeta", "shop"], &[("zeta", None, elsewhere.clone())], &[1, 2], true).unwrap();
        assert_eq!(units, ["shop: cart cdc (all)"]);
        let units = resolve(&["shop"], &[("shop", Some("cdc"), elsewhere)], &[1, 2], true).unwrap();
        assert_eq!(units, ["shop: cart"]);
    }

    #[test]
    fn data_out_of_reach_is_refused() {
        let one_down = resolve(&["zeta"], &[("zeta", None, ring(&[&[1, 2], &[2, 3]]))], &[1, 3], true);
        assert!(one_down.is_ok());
        let lost = resolve(&["zeta"], &[("zeta", None, ring(&[&[1, 2], &[2, 11]]))], &[1, 3], true);
        assert_eq!(
            lost.unwrap_err(),
            "zeta.a: the whole replica set [192.0.2.2 192.0.2.11] is filtered out, so the data owned by it can't be \
             backed up; start one of these nodes, select its datacenter (--dc), or leave the table out \
             (-K '*,!zeta.a')"
        );
    }

    #[test]
    fn what_scylla_can_do_without_does_not_stop_a_backup_of_some_datacenters() {
        let distributed = |sets: &[&[u8]], patterns: &[&str], live: &[u8]| {
            selection(&facts(), patterns, &[("system_distributed", None, ring(sets))], live, true)
        };
        let partly_elsewhere: &[&[u8]] = &[&[1, 11], &[11, 12]];
        let without = distributed(partly_elsewhere, &["system_distributed", "shop"], &[1, 2]).unwrap();
        assert_eq!(without.units.iter().map(|u| u.keyspace.as_str()).collect::<Vec<_>>(), ["shop"]);
        let warnings = without.warnings(&["dc1".to_owned()]);
        assert!(
            warnings[0].starts_with(
                "system_distributed is left out: some of its data is in none of the datacenters dc1; "
            ),
            "{warnings:?}"
        );

        let alone = distributed(partly_elsewhere, &["system_distributed"], &[1, 2]).unwrap_err();
        assert!(alone.contains("the whole replica set [192.0.2.11 192.0.2.12] is filtered out"), "{alone}");
        // A selected node that is down is something else: it can be started.
        let down = distributed(&[&[1, 11], &[2, 12]], &["system_distributed", "shop"], &[1]).unwrap_err();
        assert!(down.contains("the whole replica set [192.0.2.2 192.0.2.12] is filtered out"), "{down}");
    }

    #[test]
    fn without_cql_views_are_backed_up() {
        let facts = SchemaFacts { views: None, ..facts() };
        assert_eq!(resolve_with(&facts, &["zeta"], &[], &[1, 2], true).unwrap(), ["zeta: a b b_by_c"]);
    }
}
