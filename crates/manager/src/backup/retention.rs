//! Which snapshots are kept and which are stale (spec backup-format.md 4.10, design 3.7). Pure.
//!
//! Everything is keyed on `(task, tag)`: two tasks may share a tag, and the original's staleness by tag alone
//! would let one task purge the other's snapshot.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use chrono::{DateTime, Duration, Utc};
use common::format::paths::ManifestPath;
use common::ids::TaskId;
use common::location::Location;
use common::snapshot_tag::SnapshotTag;
use serde::{Deserialize, Serialize};

/// Snapshots of a task that nobody knows, e.g. after the database was lost, are kept this long.
const UNKNOWN_TASK_DAYS: i64 = 30;
/// Snapshots that a deleted task kept by count are kept at least this long.
const DELETED_TASK_DAYS: i64 = 30;
/// Count when a task sets neither count nor days.
const DEFAULT_COUNT: i64 = 3;

/// One snapshot of one task.
pub type Snapshot = (TaskId, SnapshotTag);

/// How long a task keeps its snapshots. Both zero: for ever.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RetentionPolicy {
    /// Days; 0 for no limit by age.
    pub retention_days: i64,
    /// Newest snapshots; 0 for no limit by count.
    pub retention: i64,
}

impl RetentionPolicy {
    /// The policy that stored properties mean.
    pub fn of(retention: Option<i64>, retention_days: Option<i64>) -> Self {
        match (retention, retention_days) {
            (None, None) => Self { retention: DEFAULT_COUNT, retention_days: 0 },
            (retention, days) => {
                Self { retention: retention.unwrap_or(0), retention_days: days.unwrap_or(0) }
            }
        }
    }

    /// The policy of the same task once it is deleted: nobody makes new snapshots, so a count would keep
    /// them for ever.
    #[must_use]
    pub fn deleted(self) -> Self {
        if self.retention > 0 {
            Self { retention: 0, retention_days: self.retention_days.max(DELETED_TASK_DAYS) }
        } else {
            self
        }
    }

    fn unknown_task() -> Self {
        Self { retention: 0, retention_days: UNKNOWN_TASK_DAYS }
    }
}

/// A manifest as a listing shows it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ListedManifest {
    /// Where it lies; without a datacenter.
    pub location: Location,
    /// Its path, taken apart.
    pub path: ManifestPath,
    /// Its key as listed: what must be read and deleted.
    pub key: String,
    /// Under a hold, or a retention lock that has not ended.
    pub protected: bool,
}

impl ListedManifest {
    /// The snapshot that it belongs to.
    pub fn snapshot(&self) -> Snapshot {
        (self.path.task, self.path.tag)
    }
}

/// Splits off the temporary manifests whose published form exists (*shadowed*): they count for nothing, but
/// go when the published one goes.
pub fn split_shadowed(manifests: Vec<ListedManifest>) -> (Vec<ListedManifest>, Vec<ListedManifest>) {
    let published: BTreeSet<(Location, ManifestPath)> = manifests
        .iter()
        .filter(|m| !m.path.temporary)
        .map(|m| (m.location.clone(), m.path.clone()))
        .collect();
    manifests
        .into_iter()
        .partition(|m| !m.path.temporary || !published.contains(&(m.location.clone(), m.path.regular())))
}

/// Why a snapshot goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StaleReason {
    /// A node's manifest was never published, and no run can go on with it.
    Unfinished,
    /// Older than the task's days.
    TooOld {
        /// The limit.
        days: i64,
    },
    /// Not among the newest ones.
    BeyondCount {
        /// The limit.
        keep: i64,
    },
    /// The user asked for it (`backup delete`).
    Requested,
}

impl fmt::Display for StaleReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unfinished => f.write_str("its upload was never finished and cannot go on"),
            Self::TooOld { days } => write!(f, "older than {days} days"),
            Self::BeyondCount { keep } => write!(f, "not among the newest {keep} of its task"),
            Self::Requested => f.write_str("asked for"),
        }
    }
}

/// Why a snapshot stays although its policy lets it go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hold {
    /// A retention lock or an event-based hold.
    Protected,
    /// A run can still go on with its temporary manifests.
    Continuable,
    /// The newest backup of a node has a file whose bytes rotted on the disk: older copies may be the only
    /// sound ones.
    BitRot {
        /// The node.
        node: String,
        /// `keyspace.table`.
        table: String,
    },
}

impl fmt::Display for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Protected => f.write_str("protected by a retention lock or an event-based hold"),
            Self::Continuable => f.write_str("its run can still go on"),
            Self::BitRot { node, table } => write!(
                f,
                "the newest backup of node {node} has a damaged file in table {table}, older copies are kept; \
                 scrub the table, then back it up again"
            ),
        }
    }
}

/// Which run of which task can still go on.
#[derive(Clone, Debug, Default)]
pub struct Continuable {
    /// Tasks that this manager knows, each with the tag that its next run would take up.
    pub known: BTreeMap<TaskId, Option<SnapshotTag>>,
    /// Tags before this are too old to go on with; `None` for no limit (`backup.age_max`).
    pub oldest: Option<SnapshotTag>,
}

impl Continuable {
    /// Tasks that nobody knows may belong to another manager: then only the newest tag can go on.
    fn allows(&self, snapshot: Snapshot, newest_of_task: Option<SnapshotTag>) -> bool {
        let (task, tag) = snapshot;
        let candidate = self.known.get(&task).copied().unwrap_or(newest_of_task);
        candidate == Some(tag) && newest_of_task == Some(tag) && self.oldest.is_none_or(|o| tag >= o)
    }
}

/// What retention decides about each snapshot, with a reason.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RetentionPlan {
    /// Snapshots that go.
    pub stale: BTreeMap<Snapshot, StaleReason>,
    /// Snapshots that would go, but stay.
    pub held: BTreeMap<Snapshot, Hold>,
}

impl RetentionPlan {
    /// Takes a snapshot out of the stale ones.
    pub fn hold(&mut self, snapshot: Snapshot, hold: Hold) {
        if self.stale.remove(&snapshot).is_some() {
            self.held.insert(snapshot, hold);
        }
    }
}

/// Decides what retention lets go, from all manifests of one cluster. `manifests` must hold no shadowed ones;
/// `shadowed` only protects.
pub fn plan_retention(
    now: DateTime<Utc>,
    manifests: &[ListedManifest],
    shadowed: &[ListedManifest],
    policies: &BTreeMap<TaskId, RetentionPolicy>,
    continuable: &Continuable,
) -> RetentionPlan {
    let mut plan = RetentionPlan::default();
    let mut by_task: BTreeMap<TaskId, Vec<&ListedManifest>> = BTreeMap::new();
    for manifest in manifests {
        by_task.entry(manifest.path.task).or_default().push(manifest);
    }
    for (task, manifests) in by_task {
        let policy = policies.get(&task).copied().unwrap_or_else(RetentionPolicy::unknown_task);
        plan_task(now, &manifests, policy, continuable, &mut plan);
    }
    for protected in manifests.iter().chain(shadowed).filter(|m| m.protected) {
        plan.hold(protected.snapshot(), Hold::Protected);
    }
    plan
}

fn plan_task(
    now: DateTime<Utc>,
    manifests: &[&ListedManifest],
    policy: RetentionPolicy,
    continuable: &Continuable,
    plan: &mut RetentionPlan,
) {
    let newest = manifests.iter().map(|m| m.path.tag).max();
    let mut unfinished = BTreeSet::new();
    for manifest in manifests.iter().filter(|m| m.path.temporary) {
        let snapshot = manifest.snapshot();
        unfinished.insert(snapshot.1);
        if continuable.allows(snapshot, newest) {
            plan.held.insert(snapshot, Hold::Continuable);
        } else {
            plan.stale.insert(snapshot, StaleReason::Unfinished);
        }
    }
    let mut finished: BTreeSet<Snapshot> = manifests.iter().map(|m| m.snapshot()).collect();
    finished.retain(|(_, tag)| !unfinished.contains(tag));

    let limit = Duration::try_days(policy.retention_days).and_then(|d| now.checked_sub_signed(d));
    let too_old = |tag: SnapshotTag| policy.retention_days > 0 && limit.is_some_and(|l| tag.time() < l);
    let mut kept = 0;
    for snapshot in finished.into_iter().rev() {
        if too_old(snapshot.1) {
            plan.stale.insert(snapshot, StaleReason::TooOld { days: policy.retention_days });
        } else if policy.retention > 0 && kept >= policy.retention {
            plan.stale.insert(snapshot, StaleReason::BeyondCount { keep: policy.retention });
        } else {
            kept += 1;
        }
    }
}

/// Decides what `backup delete` deletes: every snapshot with one of the tags, whatever its task.
///
/// # Errors
/// The tags that a lock or hold protects; then nothing must be deleted.
pub fn plan_delete(
    tags: &BTreeSet<SnapshotTag>,
    manifests: &[ListedManifest],
    shadowed: &[ListedManifest],
) -> Result<RetentionPlan, BTreeSet<SnapshotTag>> {
    let asked = || manifests.iter().chain(shadowed).filter(|m| tags.contains(&m.path.tag));
    let protected: BTreeSet<_> = asked().filter(|m| m.protected).map(|m| m.path.tag).collect();
    if !protected.is_empty() {
        return Err(protected);
    }
    let stale = asked().map(|m| (m.snapshot(), StaleReason::Requested)).collect();
    Ok(RetentionPlan { stale, held: BTreeMap::new() })
}

#[cfg(test)]
pub(crate) mod tests {
    use common::format::paths::NodePath;
    use common::ids::HostId;
    use proptest::prelude::*;

    use super::*;

    pub(crate) fn task(n: u8) -> TaskId {
        uuid::Uuid::from_u128(u128::from(n) + 1).into()
    }

    pub(crate) fn day(n: i64) -> SnapshotTag {
        SnapshotTag::at(DateTime::from_timestamp(1_700_000_000 + n * 86_400, 0).unwrap())
    }

    pub(crate) fn listed(task_n: u8, tag: SnapshotTag, node: &str, temporary: bool) -> ListedManifest {
        let node =
            NodePath { cluster: uuid::Uuid::from_u128(9).into(), dc: "dc1".into(), node: HostId::new(node) };
        let path = ManifestPath { node, task: task(task_n), tag, temporary };
        ListedManifest { location: "s3:b".parse().unwrap(), key: path.to_string(), path, protected: false }
    }

    fn now() -> DateTime<Utc> {
        day(100).time() + Duration::hours(1)
    }

    fn policies(list: &[(u8, i64, i64)]) -> BTreeMap<TaskId, RetentionPolicy> {
        list.iter()
            .map(|(t, retention, retention_days)| {
                (task(*t), RetentionPolicy { retention: *retention, retention_days: *retention_days })
            })
            .collect()
    }

    fn stale_days(plan: &RetentionPlan, of: u8) -> Vec<i64> {
        let base = day(0).time();
        plan.stale
            .keys()
            .filter(|(t, _)| *t == task(of))
            .map(|(_, tag)| (tag.time() - base).num_days())
            .collect()
    }

    #[test]
    fn policies_by_count_age_and_both() {
        let manifests: Vec<_> = [60, 69, 71, 98, 99, 100].map(|d| listed(1, day(d), "n", false)).to_vec();
        for (count, days, stale) in [
            (0, 0, vec![]),
            (2, 0, vec![60, 69, 71, 98]),
            (0, 30, vec![60, 69]),
            (3, 30, vec![60, 69, 71]),
            (9, 2, vec![60, 69, 71, 98]),
            (1, 9999, vec![60, 69, 71, 98, 99]),
            (0, i64::MAX, vec![]),
        ] {
            let plan = plan_retention(
                now(),
                &manifests,
                &[],
                &policies(&[(1, count, days)]),
                &Continuable::default(),
            );
            assert_eq!(stale_days(&plan, 1), stale, "{count} {days}");
        }
        let plan = plan_retention(now(), &manifests, &[], &policies(&[]), &Continuable::default());
        assert_eq!(stale_days(&plan, 1), [60, 69], "unknown task: 30 days");
    }

    #[test]
    fn defaults_and_deleted_tasks() {
        for (retention, days, expected) in [
            (None, None, (3, 0)),
            (Some(7), None, (7, 0)),
            (None, Some(5), (0, 5)),
            (Some(0), Some(0), (0, 0)),
        ] {
            let policy = RetentionPolicy::of(retention, days);
            assert_eq!((policy.retention, policy.retention_days), expected);
        }
        let deleted = |retention, retention_days| {
            let p = RetentionPolicy { retention, retention_days }.deleted();
            (p.retention, p.retention_days)
        };
        assert_eq!(
            [deleted(3, 0), deleted(3, 40), deleted(0, 7), deleted(0, 0)],
            [(0, 30), (0, 40), (0, 7), (0, 0)]
        );
    }

    #[test]
    fn tasks_that_share_a_tag_do_not_touch_each_other() {
        let manifests = vec![
            listed(1, day(98), "n", false),
            listed(1, day(99), "n", false),
            listed(2, day(98), "n", false),
        ];
        let plan = plan_retention(
            now(),
            &manifests,
            &[],
            &policies(&[(1, 1, 0), (2, 1, 0)]),
            &Continuable::default(),
        );
        assert_eq!(stale_days(&plan, 1), [98]);
        assert_eq!(stale_days(&plan, 2), [] as [i64; 0]);
    }

    #[test]
    fn temporaries_stay_only_while_their_run_can_go_on() {
        let manifests = vec![
            listed(1, day(98), "n", false),
            listed(1, day(100), "a", true),
            listed(1, day(100), "b", false),
        ];
        let young = Some(day(99));
        let known = |tag| BTreeMap::from([(task(1), tag)]);
        for (continuable, stale) in [
            (Continuable { known: known(Some(day(100))), oldest: young }, vec![]),
            (Continuable { known: known(Some(day(100))), oldest: Some(day(101)) }, vec![100]),
            (Continuable { known: known(Some(day(98))), oldest: young }, vec![100]),
            (Continuable { known: known(None), oldest: young }, vec![100]),
            (Continuable { known: BTreeMap::new(), oldest: young }, vec![]),
        ] {
            let plan = plan_retention(now(), &manifests, &[], &policies(&[(1, 5, 0)]), &continuable);
            assert_eq!(stale_days(&plan, 1), stale, "{continuable:?}");
            // An unfinished snapshot never counts among those that are kept.
            let plan = plan_retention(now(), &manifests, &[], &policies(&[(1, 1, 0)]), &continuable);
            assert!(!plan.stale.contains_key(&(task(1), day(98))));
        }
    }

    #[test]
    fn shadowed_temporaries_do_not_count() {
        let all = vec![
            listed(1, day(99), "n", false),
            listed(1, day(99), "n", true),
            listed(1, day(98), "n", true),
        ];
        let (count, shadowed) = split_shadowed(all);
        assert_eq!((count.len(), shadowed.len()), (2, 1));
        let plan = plan_retention(now(), &count, &shadowed, &policies(&[(1, 1, 0)]), &Continuable::default());
        assert_eq!(stale_days(&plan, 1), [98]);
    }

    #[test]
    fn protected_snapshots_stay_and_cannot_be_deleted() {
        let mut manifests = vec![listed(1, day(98), "n", false), listed(1, day(99), "n", false)];
        manifests[0].protected = true;
        let plan = plan_retention(now(), &manifests, &[], &policies(&[(1, 1, 0)]), &Continuable::default());
        assert!(plan.stale.is_empty());
        assert_eq!(plan.held.get(&(task(1), day(98))), Some(&Hold::Protected));
        assert_eq!(plan_delete(&BTreeSet::from([day(98)]), &manifests, &[]), Err(BTreeSet::from([day(98)])));
        let plan = plan_delete(&BTreeSet::from([day(99)]), &manifests, &[]).unwrap();
        assert_eq!(plan.stale.len(), 1);
        assert!(plan_delete(&BTreeSet::from([day(1)]), &manifests, &[]).unwrap().stale.is_empty());
    }

    proptest! {
        /// P3, P4: the newest `retention` finished snapshots inside the days stay; nothing else does.
        #[test]
        fn exactly_the_policy_is_applied(
            days in prop::collection::btree_set(0..100_i64, 0..12),
            count in 0..5_i64,
            max_days in 0..60_i64,
        ) {
            let manifests: Vec<_> = days.iter().map(|d| listed(1, day(*d), "n", false)).collect();
            let plan = plan_retention(now(), &manifests, &[], &policies(&[(1, count, max_days)]), &Continuable::default());
            let young: Vec<i64> = days.iter().copied().filter(|d| max_days == 0 || day(*d).time() >= now() - Duration::days(max_days)).collect();
            let skip = if count == 0 { 0 } else { young.len().saturating_sub(usize::try_from(count).unwrap()) };
            let kept: BTreeSet<i64> = young.into_iter().skip(skip).collect();
            let expected: Vec<i64> = days.iter().copied().filter(|d| !kept.contains(d)).collect();
            prop_assert_eq!(stale_days(&plan, 1), expected);
        }
    }
}
