//! Tags only go forward (design 3.6). Pure.

use chrono::{DateTime, Utc};
use common::snapshot_tag::SnapshotTag;

/// The tag for a backup that starts now: later than the newest tag known to the database or found in the
/// cluster's locations, also when the clock was set back.
///
/// # Errors
/// Somebody put a backup with the last tag of all into a location.
pub fn next_tag(now: DateTime<Utc>, newest_known: Option<SnapshotTag>) -> Result<SnapshotTag, NoTagLeft> {
    let by_clock = SnapshotTag::at(now);
    match newest_known {
        Some(newest) if newest >= by_clock => newest.next().ok_or(NoTagLeft { newest }),
        _ => Ok(by_clock),
    }
}

/// No tag is later than the newest one.
#[derive(Debug, thiserror::Error)]
#[error(
    "no tag is later than {newest}, which a backup in the locations has: remove it with sctool backup delete \
     --snapshot-tag {newest}"
)]
pub struct NoTagLeft {
    newest: SnapshotTag,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_end_of_all_tags_is_an_error() {
        let now = DateTime::from_timestamp(1_700_000_000, 0).unwrap();
        let tag = |text: &str| text.parse::<SnapshotTag>().ok();
        assert_eq!(next_tag(now, tag("sm_99991231235958UTC")).ok(), tag("sm_99991231235959UTC"));
        let error = next_tag(now, tag("sm_99991231235959UTC")).unwrap_err().to_string();
        assert!(error.ends_with("sctool backup delete --snapshot-tag sm_99991231235959UTC"), "{error}");
    }

    proptest! {
        #[test]
        fn tags_only_go_forward(clock in prop::collection::vec(1_600_000_000_i64..1_600_000_100, 1..20)) {
            let mut newest = None;
            for second in clock {
                let now = DateTime::from_timestamp(second, 999).unwrap();
                let tag = next_tag(now, newest).unwrap();
                prop_assert!(newest.is_none_or(|n| tag > n));
                prop_assert!(tag >= SnapshotTag::at(now));
                newest = Some(tag);
            }
        }
    }
}
