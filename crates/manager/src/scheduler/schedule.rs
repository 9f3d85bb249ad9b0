//! The schedule of a task: from the wire form to a trigger, a window and a retry policy.

use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;
use common::api::manager::{CronText, Schedule};
use common::cron::{Cron, InvalidCron};

use super::retry::RetryPolicy;
use super::trigger::Trigger;
use super::window::{InvalidWindow, Window};

/// A schedule that cannot be read. Goes to the user as it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSchedule {
    /// The cron expression.
    #[error("cron: {0}")]
    Cron(#[source] InvalidCron),
    /// The window.
    #[error("window: {0}")]
    Window(#[source] InvalidWindow),
    /// No such zone.
    #[error("timezone: unknown time zone {0}")]
    Timezone(String),
    /// A negative duration.
    #[error("{field}: {value} is negative")]
    Negative {
        /// Field of the schedule.
        field: &'static str,
        /// Its value.
        value: String,
    },
}

/// When a task runs, ready to be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskSchedule {
    /// Gives the activations.
    pub trigger: Trigger,
    /// Restricts them.
    pub window: Window,
    /// Where cron and window are read.
    pub zone: Tz,
    /// What follows a failure.
    pub retry: RetryPolicy,
}

impl TaskSchedule {
    /// Reads a schedule in its stored form, see [`normalize`].
    ///
    /// # Errors
    /// A field cannot be read.
    pub fn parse(stored: &Schedule) -> Result<Self, InvalidSchedule> {
        let zone = parse_zone(&stored.timezone)?;
        let cron = CronText::parse(&stored.cron);
        let start = stored.start_date.unwrap_or(DateTime::UNIX_EPOCH);
        let trigger = if !cron.spec.is_empty() {
            let parsed: Cron = cron.spec.parse().map_err(InvalidSchedule::Cron)?;
            Trigger::Cron { cron: parsed, start: cron.start_date, zone }
        } else if stored.interval.is_zero() {
            Trigger::At(start)
        } else {
            Trigger::Interval { start, every: stored.interval.to_chrono() }
        };
        Ok(Self {
            trigger,
            window: parse_window(stored)?,
            zone,
            retry: RetryPolicy { retries: stored.num_retries, wait: stored.retry_wait.to_chrono() },
        })
    }

    /// Whether it is a single run that a window may cut into pieces.
    pub fn is_windowed_one_shot(&self) -> bool {
        self.trigger.is_one_shot() && !self.window.is_open()
    }
}

/// Whether a task that is created runs at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FirstRun {
    /// Now, as far as its window allows; the trigger comes after that.
    Immediate,
    /// When the trigger says.
    Planned,
}

/// Brings the schedule of a request into the form that is stored, and says what it means for a new task
/// (spec manager.md 4.3, sctool.md 3.5).
///
/// The cron becomes an object in text with the start date in it, window points lose their padding, a missing
/// start date becomes now.
///
/// # Errors
/// A field cannot be read.
pub fn normalize(request: &Schedule, now: DateTime<Utc>) -> Result<(Schedule, FirstRun), InvalidSchedule> {
    for (field, value) in [("interval", request.interval), ("retry_wait", request.retry_wait)] {
        if value.to_chrono() < TimeDelta::zero() {
            return Err(InvalidSchedule::Negative { field, value: value.to_string() });
        }
    }
    let mut cron = CronText::parse(&request.cron);
    cron.spec = cron.spec.trim().to_owned();
    // A client sends back what it read: the creation date of a cron that had no start is none either.
    let echoed = is_object(&request.cron) && cron.start_date.is_none() && !is_future(request, now);
    cron.start_date = match request.start_date {
        _ if cron.spec.is_empty() => None,
        Some(start) if !echoed => Some(start),
        _ => cron.start_date,
    };
    let points = parse_window(request)?.points();
    let stored = Schedule {
        cron: cron.to_wire(),
        window: (!points.is_empty()).then_some(points),
        start_date: Some(request.start_date.unwrap_or(now)),
        ..request.clone()
    };
    // Also checks the rest.
    let parsed = TaskSchedule::parse(&stored)?;
    let overdue = stored.start_date.is_some_and(|start| start <= now);
    let first = match parsed.trigger {
        Trigger::Cron { .. } => FirstRun::Planned,
        Trigger::Interval { .. } if request.start_date.is_none() => FirstRun::Immediate,
        Trigger::Interval { .. } => FirstRun::Planned,
        Trigger::At(_) if overdue => FirstRun::Immediate,
        Trigger::At(_) => FirstRun::Planned,
    };
    Ok((stored, first))
}

fn is_object(cron: &str) -> bool {
    cron.trim_start().starts_with('{')
}

fn is_future(schedule: &Schedule, now: DateTime<Utc>) -> bool {
    schedule.start_date.is_some_and(|start| start > now)
}

fn parse_zone(name: &str) -> Result<Tz, InvalidSchedule> {
    if name.is_empty() {
        return Ok(Tz::UTC);
    }
    name.parse().map_err(|_| InvalidSchedule::Timezone(name.to_owned()))
}

fn parse_window(schedule: &Schedule) -> Result<Window, InvalidSchedule> {
    Window::parse(schedule.window.as_deref().unwrap_or_default()).map_err(InvalidSchedule::Window)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        DateTime::parse_from_rfc3339(text).unwrap().to_utc()
    }

    fn schedule(json: &str) -> Schedule {
        serde_json::from_str(json).unwrap()
    }

    const NOW: &str = "2026-03-02T10:00:00Z";

    #[test]
    fn a_new_task_runs_at_once_or_when_its_trigger_says() {
        for (request, first, next) in [
            (r#"{}"#, FirstRun::Immediate, None),
            (r#"{"start_date":"2026-03-02T13:00:00Z"}"#, FirstRun::Planned, Some("2026-03-02T13:00:00Z")),
            (r#"{"start_date":"2019-12-09T15:16:05Z"}"#, FirstRun::Immediate, None),
            (r#"{"start_date":"0001-01-01T00:00:00Z"}"#, FirstRun::Immediate, None),
            (r#"{"interval":"1d"}"#, FirstRun::Immediate, Some("2026-03-03T10:00:00Z")),
            (
                r#"{"interval":"1d","start_date":"2019-12-09T15:16:05Z"}"#,
                FirstRun::Planned,
                Some("2026-03-02T15:16:05Z"),
            ),
            (
                r#"{"interval":"7d","start_date":"2026-03-04T00:00:00Z"}"#,
                FirstRun::Planned,
                Some("2026-03-04T00:00:00Z"),
            ),
            (
                r#"{"cron":"0 2 * * *","timezone":"Europe/Warsaw"}"#,
                FirstRun::Planned,
                Some("2026-03-03T01:00:00Z"),
            ),
            (
                r#"{"cron":"0 2 * * *","start_date":"2026-03-05T01:30:00Z"}"#,
                FirstRun::Planned,
                Some("2026-03-05T02:00:00Z"),
            ),
            // Cron wins over the interval.
            (r#"{"cron":"0 2 * * *","interval":"1h"}"#, FirstRun::Planned, Some("2026-03-03T02:00:00Z")),
        ] {
            let (stored, actual) = normalize(&schedule(request), at(NOW)).unwrap();
            assert_eq!(actual, first, "{request}");
            let parsed = TaskSchedule::parse(&stored).unwrap();
            assert_eq!(parsed.trigger.next_after(at(NOW)), next.map(at), "{request}");
        }
    }

    #[test]
    fn the_stored_form_is_stable_over_a_round_trip() {
        let request = schedule(
            r#"{"cron":" 0 2 * * * ","start_date":"2026-03-05T01:30:00Z","window":["mon-00:00","FRI-15:00"],
                "timezone":"Europe/Warsaw","num_retries":3,"retry_wait":"10m"}"#,
        );
        let (stored, _) = normalize(&request, at(NOW)).unwrap();
        assert_eq!(stored.cron, r#"{"spec":"0 2 * * *","start_date":"2026-03-05T01:30:00Z"}"#);
        assert_eq!(stored.window, Some(vec!["Mon-0:00".into(), "Fri-15:00".into()]));
        assert_eq!(normalize(&stored, at("2026-03-02T11:00:00Z")).unwrap().0, stored);

        let (plain, _) = normalize(&schedule(r#"{"cron":"0 2 * * *"}"#), at(NOW)).unwrap();
        assert_eq!(normalize(&plain, at("2026-03-02T11:00:00Z")).unwrap().0, plain);

        let (empty, _) = normalize(&schedule(r#"{"window":[]}"#), at(NOW)).unwrap();
        assert_eq!(empty.cron, r#"{"spec":"","start_date":"0001-01-01T00:00:00Z"}"#);
        assert_eq!((empty.window, empty.start_date), (None, Some(at(NOW))));
    }

    #[test]
    fn a_new_start_date_replaces_that_in_the_cron() {
        let request = schedule(
            r#"{"cron":"{\"spec\":\"0 2 * * *\",\"start_date\":\"2026-03-01T00:00:00Z\"}",
                "start_date":"2026-03-05T01:30:00Z"}"#,
        );
        let (stored, _) = normalize(&request, at(NOW)).unwrap();
        assert_eq!(stored.cron, r#"{"spec":"0 2 * * *","start_date":"2026-03-05T01:30:00Z"}"#);
    }

    #[test]
    fn faults_are_named() {
        for (request, message) in [
            (r#"{"cron":"bad"}"#, "cron: expected 5 to 6 fields, found 1: [bad]"),
            (r#"{"cron":"{broken"}"#, "cron: expected 5 to 6 fields, found 1: [{broken]"),
            (r#"{"window":["24:00","1:00"]}"#, "window: invalid hour 24"),
            (r#"{"window":["1:00"]}"#, "window: number of points must be even"),
            (r#"{"timezone":"Mars/Base"}"#, "timezone: unknown time zone Mars/Base"),
            (r#"{"interval":"-1d"}"#, "interval: -1d is negative"),
            (r#"{"retry_wait":"-1m"}"#, "retry_wait: -1m is negative"),
        ] {
            let error = normalize(&schedule(request), at(NOW)).unwrap_err();
            assert_eq!(common::error::chain(&error), message, "{request}");
        }
    }
}
