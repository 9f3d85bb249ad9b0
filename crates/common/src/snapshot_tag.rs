//! Snapshot tags: the name of one backup, on the nodes and in the bucket.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Datelike, Duration, NaiveDateTime, SubsecRound, Utc};
use serde_with::{DeserializeFromStr, SerializeDisplay};

/// Years have four digits in a tag.
const LAST_YEAR: i32 = 9999;

/// Name of one backup, e.g. `sm_20240131093000UTC`. Ordered by time.
///
/// Precision is one second, so two tasks may share a tag: key on `(TaskId, SnapshotTag)`,
/// never on the tag alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, SerializeDisplay, DeserializeFromStr)]
pub struct SnapshotTag(DateTime<Utc>);

/// A text that is not a snapshot tag.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a Scylla Manager snapshot tag, expected format is sm_20060102150405UTC: {input:?}")]
pub struct InvalidSnapshotTag {
    /// The refused text.
    pub input: String,
}

impl SnapshotTag {
    /// The tag of the second that `time` lies in.
    pub fn at(time: DateTime<Utc>) -> Self {
        Self(time.trunc_subsecs(0))
    }

    /// The time that the tag names, in whole seconds.
    pub fn time(self) -> DateTime<Utc> {
        self.0
    }

    /// The tag of the next second; `None` after the year 9999, the last one that the format can write.
    pub fn next(self) -> Option<Self> {
        let next = self.0.checked_add_signed(Duration::seconds(1))?;
        (next.year() <= LAST_YEAR).then_some(Self(next))
    }
}

impl fmt::Display for SnapshotTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sm_{}UTC", self.0.format("%Y%m%d%H%M%S"))
    }
}

impl FromStr for SnapshotTag {
    type Err = InvalidSnapshotTag;

    fn from_str(input: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidSnapshotTag { input: input.to_owned() };
        let digits = input.strip_prefix("sm_").and_then(|s| s.strip_suffix("UTC")).ok_or_else(invalid)?;
        let tag = NaiveDateTime::parse_from_str(digits, "%Y%m%d%H%M%S")
            .map(|t| Self(t.and_utc()))
            .map_err(|_| invalid())?;
        // The parser forgives short fields; accept only what we would print ourselves.
        if tag.to_string() == input { Ok(tag) } else { Err(invalid()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_round_trips_and_orders_by_time() {
        let a: SnapshotTag = "sm_20240131093000UTC".parse().unwrap();
        assert_eq!(a.to_string(), "sm_20240131093000UTC");
        assert!(a < a.next().unwrap());
        assert_eq!(a.next().unwrap().to_string(), "sm_20240131093001UTC");
        let last: SnapshotTag = "sm_99991231235959UTC".parse().unwrap();
        assert_eq!(last.next(), None);
    }

    #[test]
    fn anything_else_is_refused() {
        for bad in [
            "",
            "sm_UTC",
            "sm_2024013109300UTC",
            "sm_20241331093000UTC",
            "x_20240131093000UTC",
            "sm_20240131093000utc",
        ] {
            assert!(bad.parse::<SnapshotTag>().is_err(), "{bad}");
        }
    }
}
