//! Tags only go forward (design 3.6). Pure.

use chrono::{DateTime, Utc};
use common::snapshot_tag::SnapshotTag;

/// The tag for a backup that starts now: later than the newest tag known to the database or found in the
/// cluster's locations, also when the clock was set back.
pub fn next_tag(now: DateTime<Utc>, newest_known: Option<SnapshotTag>) -> SnapshotTag {
    let by_clock = SnapshotTag::at(now);
    match newest_known {
        Some(newest) if newest >= by_clock => newest.next(),
        _ => by_clock,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn tags_only_go_forward(clock in prop::collection::vec(1_600_000_000_i64..1_600_000_100, 1..20)) {
            let mut newest = None;
            for second in clock {
                let now = DateTime::from_timestamp(second, 999).unwrap();
                let tag = next_tag(now, newest);
                prop_assert!(newest.is_none_or(|n| tag > n));
                prop_assert!(tag >= SnapshotTag::at(now));
                newest = Some(tag);
            }
        }
    }
}
