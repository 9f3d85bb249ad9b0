//! When a task is due: cron, interval or a single date (spec manager.md 4.1, sctool.md 3.5).
//!
//! Pure: the reference time is an argument. Windows come afterwards, see [`super::window`].

use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;
use common::cron::Cron;

/// The rule that gives a task its activations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// Every match of an expression, in a zone, after a start date.
    Cron {
        /// The expression.
        cron: Cron,
        /// Only matches after this time.
        start: Option<DateTime<Utc>>,
        /// Where the fields are read.
        zone: Tz,
    },
    /// `start + n × every`, n ≥ 0. `every` is positive.
    Interval {
        /// The first activation.
        start: DateTime<Utc>,
        /// The period.
        every: TimeDelta,
    },
    /// Once, at that time.
    At(DateTime<Utc>),
}

impl Trigger {
    /// The first activation that is not over at `now`: for a cron strictly after `now`, for the others at
    /// `now` or later. `None` means never again.
    pub fn next(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        match self {
            Self::Cron { cron, start, zone } => {
                let reference = start.map_or(now, |s| s.max(now));
                cron.next_after(reference, *zone)
            }
            Self::Interval { start, every } => aligned(*start, *every, now),
            Self::At(start) => (*start > now).then_some(*start),
        }
    }

    /// The first activation strictly after `time`.
    pub fn next_after(&self, time: DateTime<Utc>) -> Option<DateTime<Utc>> {
        match self {
            Self::Cron { .. } => self.next(time),
            // The store keeps milliseconds: there is nothing in between.
            Self::Interval { .. } | Self::At(_) => self.next(time + TimeDelta::milliseconds(1)),
        }
    }

    /// Whether it can fire at most once.
    pub fn is_one_shot(&self) -> bool {
        matches!(self, Self::At(_))
    }
}

/// The smallest `start + n × every` (n ≥ 0) that is not before `now`.
///
/// The original rounds `(now - start) / every` half up and then advances until it is not before now,
/// which is the same.
fn aligned(start: DateTime<Utc>, every: TimeDelta, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let (elapsed, period) = ((now - start).num_milliseconds(), every.num_milliseconds());
    if period <= 0 {
        return None;
    }
    // Rounds up; with a start in the future the first activation is the start itself.
    let periods = elapsed.div_euclid(period) + i64::from(elapsed.rem_euclid(period) != 0);
    let offset = periods.max(0).checked_mul(period)?;
    start.checked_add_signed(TimeDelta::milliseconds(offset))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        DateTime::parse_from_rfc3339(text).unwrap().to_utc()
    }

    fn interval(start: &str, every: TimeDelta) -> Trigger {
        Trigger::Interval { start: at(start), every }
    }

    #[test]
    fn intervals_are_aligned_to_the_start() {
        let day = TimeDelta::days(1);
        for (every, start, now, expected) in [
            (day, "2019-12-09T15:16:05Z", "2026-03-02T10:00:00Z", "2026-03-02T15:16:05Z"),
            (day, "2019-12-09T15:16:05Z", "2026-03-02T15:16:05Z", "2026-03-02T15:16:05Z"),
            (day, "2019-12-09T15:16:05Z", "2026-03-02T15:16:05.001Z", "2026-03-03T15:16:05Z"),
            (day, "2026-03-02T15:00:00Z", "2026-03-01T00:00:00Z", "2026-03-02T15:00:00Z"),
            (day, "2026-03-02T15:00:00Z", "2026-03-02T15:00:00Z", "2026-03-02T15:00:00Z"),
            (TimeDelta::days(7), "2026-03-02T00:00:00Z", "2026-03-02T00:00:01Z", "2026-03-09T00:00:00Z"),
            (TimeDelta::days(30), "2026-01-01T00:00:00Z", "2026-02-15T00:00:00Z", "2026-03-02T00:00:00Z"),
            (TimeDelta::days(2), "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z", "2026-01-03T00:00:00Z"),
            (TimeDelta::seconds(1), "2026-01-01T00:00:00Z", "2026-01-01T00:00:00.5Z", "2026-01-01T00:00:01Z"),
        ] {
            assert_eq!(interval(start, every).next(at(now)), Some(at(expected)), "{start} {every} {now}");
        }
    }

    #[test]
    fn intervals_count_elapsed_time_over_clock_changes() {
        // A day is 24 h: in Warsaw the hour shifts with the clock, as in the original.
        let trigger = interval("2026-03-28T01:00:00Z", TimeDelta::days(1));
        assert_eq!(trigger.next_after(at("2026-03-28T01:00:00Z")), Some(at("2026-03-29T01:00:00Z")));
        assert_eq!(trigger.next_after(at("2026-03-29T01:00:00Z")), Some(at("2026-03-30T01:00:00Z")));
    }

    #[test]
    fn a_date_fires_once() {
        let trigger = Trigger::At(at("2026-03-02T15:00:00Z"));
        assert_eq!(trigger.next(at("2026-03-02T14:59:59Z")), Some(at("2026-03-02T15:00:00Z")));
        assert_eq!(trigger.next(at("2026-03-02T15:00:00Z")), None);
        assert_eq!(trigger.next_after(at("2026-03-02T15:00:00Z")), None);
    }

    #[test]
    fn a_cron_waits_for_its_start_date_and_keeps_its_zone() {
        let trigger = Trigger::Cron {
            cron: "0 2 * * *".parse().unwrap(),
            start: Some(at("2026-03-10T23:30:00Z")),
            zone: chrono_tz::Europe::Warsaw,
        };
        assert_eq!(trigger.next(at("2026-03-02T00:00:00Z")), Some(at("2026-03-11T01:00:00Z")));
        assert_eq!(trigger.next(at("2026-03-11T01:00:00Z")), Some(at("2026-03-12T01:00:00Z")));
    }

    proptest! {
        #[test]
        fn an_interval_hits_its_grid_at_once(
            start in 0_i64..4_000_000_000_000,
            now in 0_i64..4_000_000_000_000,
            every in 1_i64..10_000_000_000,
        ) {
            let time = |ms| DateTime::from_timestamp_millis(ms).unwrap();
            let trigger = Trigger::Interval { start: time(start), every: TimeDelta::milliseconds(every) };
            let next = trigger.next(time(now)).unwrap().timestamp_millis();
            prop_assert!(next >= now && next >= start);
            prop_assert_eq!((next - start) % every, 0);
            prop_assert!(next == start || next - every < now);
        }
    }
}
