//! Which interrupted run a new run goes on with (spec backup-format.md 3.6 and section 11). Pure.

use chrono::{DateTime, Duration, Utc};
use common::ids::RunId;
use common::snapshot_tag::SnapshotTag;
use common::task::Stage;

/// Runs of the task that are looked at.
pub const LOOK_BACK: usize = 20;

/// What the store knows about an earlier run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EarlierRun {
    /// The run.
    pub id: RunId,
    /// Where it stopped; `None` before its first stage.
    pub stage: Option<Stage>,
    /// Its tag; `None` before it chose one.
    pub tag: Option<SnapshotTag>,
    /// The seal found files missing that the node no longer has: it can never end well.
    pub abandoned: bool,
}

/// What a new run does about earlier ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resume {
    /// Starts from scratch, for this reason.
    Fresh(&'static str),
    /// Goes on with this run.
    Continue(RunId),
}

/// Whether a run that stopped in `stage` can be gone on with. Before INDEX there is nothing worth keeping.
/// SCHEMA is resumable too: the schema is dumped again.
pub fn is_resumable(stage: Stage) -> bool {
    match stage {
        Stage::Init | Stage::Snapshot | Stage::AwaitSchema | Stage::Done => false,
        Stage::Index
        | Stage::Manifest
        | Stage::Schema
        | Stage::Deduplicate
        | Stage::Upload
        | Stage::MoveManifest
        | Stage::RetentionLock
        | Stage::Migrate
        | Stage::Purge => true,
    }
}

/// Decides which run to go on with; `runs` are the latest of the task, newest first.
///
/// The caller must still check that what the run left on the nodes and in the locations is all there.
pub fn choose(runs: &[EarlierRun], now: DateTime<Utc>, age_max: Option<Duration>) -> Resume {
    for run in runs.iter().take(LOOK_BACK) {
        let Some(stage) = run.stage else {
            return Resume::Fresh("an earlier run never began");
        };
        if stage == Stage::Done {
            return Resume::Fresh("the last run is complete");
        }
        if run.abandoned {
            return Resume::Fresh("files of the last run are lost");
        }
        // A newer run that took snapshots has deleted those of all older ones (section 11, 19).
        if stage == Stage::Snapshot || stage == Stage::AwaitSchema {
            return Resume::Fresh("the last run did not get past its snapshots");
        }
        if !is_resumable(stage) {
            continue;
        }
        return match run.tag {
            None => Resume::Fresh("the last run has no snapshot tag"),
            Some(tag) if age_max.is_some_and(|max| tag.time() < now - max) => {
                Resume::Fresh("the last run is too old")
            }
            Some(_) => Resume::Continue(run.id),
        };
    }
    Resume::Fresh("no run to go on with")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(n: i64, stage: Option<Stage>) -> EarlierRun {
        let start = DateTime::from_timestamp(1_700_000_000 + n, 0).unwrap();
        EarlierRun { id: RunId::at(start), stage, tag: Some(SnapshotTag::at(start)), abandoned: false }
    }

    #[test]
    fn the_newest_resumable_run_is_taken() {
        let now = DateTime::from_timestamp(1_700_000_100, 0).unwrap();
        let day = Some(Duration::days(1));
        for (stages, taken) in [
            (vec![], None),
            (vec![Some(Stage::Done)], None),
            (vec![None, Some(Stage::Upload)], None),
            (vec![Some(Stage::Upload)], Some(0)),
            (vec![Some(Stage::Schema)], Some(0)),
            (vec![Some(Stage::Purge)], Some(0)),
            (vec![Some(Stage::Init), Some(Stage::Upload)], Some(1)),
            (vec![Some(Stage::Snapshot), Some(Stage::Upload)], None),
            (vec![Some(Stage::AwaitSchema), Some(Stage::Upload)], None),
            (vec![Some(Stage::Init), Some(Stage::Done), Some(Stage::Upload)], None),
        ] {
            let runs: Vec<_> = (0..).zip(&stages).map(|(n, s)| run(-n, *s)).collect();
            let chosen = match choose(&runs, now, day) {
                Resume::Continue(id) => runs.iter().position(|r| r.id == id),
                Resume::Fresh(_) => None,
            };
            assert_eq!(chosen, taken, "{stages:?}");
        }
    }

    #[test]
    fn old_and_abandoned_runs_are_left_alone() {
        let upload = run(0, Some(Stage::Upload));
        let at = |hours| DateTime::from_timestamp(1_700_000_000, 0).unwrap() + Duration::hours(hours);
        let day = Some(Duration::days(1));
        assert_eq!(choose(std::slice::from_ref(&upload), at(24), day), Resume::Continue(upload.id));
        assert!(matches!(choose(std::slice::from_ref(&upload), at(25), day), Resume::Fresh(_)));
        assert_eq!(choose(std::slice::from_ref(&upload), at(9999), None), Resume::Continue(upload.id));
        let lost = EarlierRun { abandoned: true, ..upload };
        assert!(matches!(choose(&[lost], at(1), day), Resume::Fresh(_)));
        let untagged = EarlierRun { tag: None, ..run(0, Some(Stage::Index)) };
        assert!(matches!(choose(&[untagged], at(1), day), Resume::Fresh(_)));
    }
}
