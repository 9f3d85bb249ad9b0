//! What comes next for a task: pure functions from schedule, last activation and time (spec manager.md 4.6).

use chrono::{DateTime, Utc};

use super::runner::Properties;
use super::schedule::TaskSchedule;

/// A planned run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Activation {
    /// When it is due.
    pub at: DateTime<Utc>,
    /// When a run must pause; `None` for never.
    pub window_end: Option<DateTime<Utc>>,
    /// When the chain of attempts and pauses began that this belongs to.
    pub initial: DateTime<Utc>,
    /// 0 for the first attempt.
    pub retry: u32,
    /// Properties of the interrupted run, for a retry or a continuation; `None` for those of the task.
    pub properties: Option<Properties>,
    /// Asked for by hand for a task that is not in the schedule: it leaves the schedule afterwards.
    pub once: bool,
    /// Start from scratch, whatever an earlier run left.
    pub fresh: bool,
}

/// How a run ended, as far as planning is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunEnd {
    /// Success, a stop by the user, or an error that a retry cannot mend.
    Final,
    /// An error.
    Failed,
    /// The window was over.
    WindowEnd,
}

/// The first activation of a task that is due at `time`, moved into its window.
pub fn activation(schedule: &TaskSchedule, time: DateTime<Utc>, now: DateTime<Utc>) -> Activation {
    // An activation of the past (missed during a long run) is due now, but the chain keeps its time, so
    // that those missed after it follow. One that its window moved begins its chain where the window put it:
    // else an hourly task would make up for all the hours outside its window.
    let earliest = time.max(now);
    let slot = schedule.window.next(earliest, schedule.zone);
    Activation {
        at: slot.begin,
        window_end: slot.end,
        initial: if slot.begin > earliest { slot.begin } else { time },
        retry: 0,
        properties: None,
        once: false,
        fresh: false,
    }
}

/// The next activation by the trigger alone.
pub fn by_trigger(schedule: &TaskSchedule, now: DateTime<Utc>) -> Option<Activation> {
    schedule.trigger.next(now).map(|time| activation(schedule, time, now))
}

/// What follows a run that ended at `now`; `None` means that the task leaves the schedule.
///
/// `ran` is the activation of the run, with the properties it began with.
pub fn after_run(
    schedule: &TaskSchedule,
    ran: &Activation,
    end: RunEnd,
    now: DateTime<Utc>,
) -> Option<Activation> {
    match end {
        RunEnd::WindowEnd => Some(continuation(schedule, ran, now, ran.retry)),
        RunEnd::Failed => match schedule.retry.backoff(ran.retry.saturating_add(1)) {
            Some(wait) => Some(continuation(schedule, ran, now + wait, ran.retry + 1)),
            // Strictly after the activation that failed: a run that fails at once must not be due again at once.
            None if !ran.once => {
                let next = schedule.trigger.next_after(now.max(ran.initial));
                next.map(|time| activation(schedule, time, now))
            }
            None => None,
        },
        RunEnd::Final if ran.once => None,
        RunEnd::Final => {
            let next = schedule.trigger.next_after(ran.initial);
            next.map(|time| activation(schedule, time, now))
        }
    }
}

fn continuation(schedule: &TaskSchedule, ran: &Activation, time: DateTime<Utc>, retry: u32) -> Activation {
    let slot = schedule.window.next(time, schedule.zone);
    // The next attempt goes on where this one stopped, also when this one was to start from scratch.
    Activation { at: slot.begin, window_end: slot.end, retry, fresh: false, ..ran.clone() }
}

/// Moves an activation that waited in the queue beyond the end of its window into the next slot.
pub fn replan_into_window(schedule: &TaskSchedule, planned: Activation, now: DateTime<Utc>) -> Activation {
    let slot = schedule.window.next(now, schedule.zone);
    Activation { at: slot.begin, window_end: slot.end, ..planned }
}

#[cfg(test)]
mod tests {
    use common::api::manager::Schedule;

    use super::*;
    use crate::scheduler::schedule::normalize;

    fn at(text: &str) -> DateTime<Utc> {
        DateTime::parse_from_rfc3339(text).unwrap().to_utc()
    }

    /// 2026-03-02 is a Monday.
    fn day_time(text: &str) -> DateTime<Utc> {
        let (day, time) = text.split_once(' ').unwrap();
        at(&format!("2026-03-{day}T{time}Z"))
    }

    fn schedule(json: &str) -> TaskSchedule {
        let wire: Schedule = serde_json::from_str(json).unwrap();
        TaskSchedule::parse(&normalize(&wire, day_time("01 00:00:00")).unwrap().0).unwrap()
    }

    fn ran(initial: &str, retry: u32) -> Activation {
        let initial = day_time(initial);
        Activation {
            at: initial,
            window_end: None,
            initial,
            retry,
            properties: Some(Properties::new()),
            once: false,
            fresh: true,
        }
    }

    #[test]
    fn planning_after_a_run() {
        use RunEnd::{Failed, Final, WindowEnd};
        let daily = r#"{"cron":"0 2 * * *","num_retries":3,"retry_wait":"10m"}"#;
        let hourly_at_night = r#"{"cron":"0 * * * *","window":["23:00","06:00"],"num_retries":1}"#;
        let every_two_days = r#"{"interval":"2d","start_date":"2026-03-01T02:00:00Z"}"#;
        let single = r#"{"start_date":"2026-03-05T02:00:00Z","num_retries":1}"#;
        let night_single = r#"{"start_date":"2026-03-05T02:00:00Z","window":["23:00","06:00"]}"#;
        for (task, initial, retry, end, now, at, number, chain) in [
            (daily, "02 02:00:00", 0, Final, "02 02:30:00", Some("03 02:00:00"), 0, "03 02:00:00"),
            (daily, "02 02:00:00", 0, Failed, "02 02:30:00", Some("02 02:40:00"), 1, "02 02:00:00"),
            (daily, "02 02:00:00", 1, Failed, "02 02:50:00", Some("02 03:10:00"), 2, "02 02:00:00"),
            (daily, "02 02:00:00", 2, Failed, "02 03:50:00", Some("02 04:30:00"), 3, "02 02:00:00"),
            // Retries used up: the trigger, with a new budget.
            (daily, "02 02:00:00", 3, Failed, "02 04:50:00", Some("03 02:00:00"), 0, "03 02:00:00"),
            (daily, "02 02:00:00", 3, Final, "02 04:50:00", Some("03 02:00:00"), 0, "03 02:00:00"),
            // Longer than its period: at once, and the one missed after it too.
            (daily, "02 02:00:00", 0, Final, "04 12:00:00", Some("04 12:00:00"), 0, "03 02:00:00"),
            (daily, "03 02:00:00", 0, Final, "04 13:00:00", Some("04 13:00:00"), 0, "04 02:00:00"),
            (daily, "04 02:00:00", 0, Final, "04 14:00:00", Some("05 02:00:00"), 0, "05 02:00:00"),
            // ... but not after errors.
            (daily, "02 02:00:00", 3, Failed, "04 12:00:00", Some("05 02:00:00"), 0, "05 02:00:00"),
            // Out of the window: the next slot, same attempt, same chain.
            (
                hourly_at_night,
                "02 23:00:00",
                1,
                WindowEnd,
                "03 06:00:00",
                Some("03 23:00:00"),
                1,
                "02 23:00:00",
            ),
            (hourly_at_night, "02 23:00:00", 0, Final, "02 23:10:00", Some("03 00:00:00"), 0, "03 00:00:00"),
            (hourly_at_night, "03 05:00:00", 0, Final, "03 05:10:00", Some("03 23:00:00"), 0, "03 23:00:00"),
            // The hours outside the window are not made up for.
            (hourly_at_night, "03 23:00:00", 0, Final, "03 23:10:00", Some("04 00:00:00"), 0, "04 00:00:00"),
            (hourly_at_night, "03 05:00:00", 0, Failed, "03 05:55:00", Some("03 23:00:00"), 1, "03 05:00:00"),
            (every_two_days, "01 02:00:00", 0, Final, "01 03:00:00", Some("03 02:00:00"), 0, "03 02:00:00"),
            (every_two_days, "01 02:00:00", 0, Failed, "01 02:00:00", Some("03 02:00:00"), 0, "03 02:00:00"),
            (every_two_days, "01 02:00:00", 0, Final, "06 03:00:00", Some("06 03:00:00"), 0, "03 02:00:00"),
            (single, "05 02:00:00", 0, Final, "05 03:00:00", None, 0, ""),
            (single, "05 02:00:00", 0, Failed, "05 03:00:00", Some("05 03:10:00"), 1, "05 02:00:00"),
            (single, "05 02:00:00", 1, Failed, "05 03:30:00", None, 0, ""),
            // Started by hand before its date, which passed meanwhile.
            (single, "05 01:00:00", 0, Final, "05 03:00:00", Some("05 03:00:00"), 0, "05 02:00:00"),
            (night_single, "05 02:00:00", 0, WindowEnd, "05 06:00:00", Some("05 23:00:00"), 0, "05 02:00:00"),
            (night_single, "05 02:00:00", 0, Final, "05 23:30:00", None, 0, ""),
        ] {
            let next = after_run(&schedule(task), &ran(initial, retry), end, day_time(now));
            let case = format!("{task} {initial} #{retry} {end:?} at {now}");
            assert_eq!(next.as_ref().map(|a| a.at), at.map(day_time), "{case}");
            if let Some(next) = next {
                assert_eq!((next.retry, next.initial), (number, day_time(chain)), "{case}");
                assert_eq!(next.properties.is_some(), next.initial == day_time(initial), "{case}");
                assert!(!next.fresh, "{case}");
            }
        }
    }

    #[test]
    fn a_manual_run_of_an_idle_task_leaves_the_schedule() {
        let daily = schedule(r#"{"cron":"0 2 * * *","num_retries":1}"#);
        let once = Activation { once: true, ..ran("02 12:00:00", 0) };
        assert_eq!(after_run(&daily, &once, RunEnd::Final, day_time("02 12:30:00")), None);
        let retry = after_run(&daily, &once, RunEnd::Failed, day_time("02 12:30:00")).unwrap();
        assert_eq!((retry.retry, retry.once), (1, true));
        assert_eq!(after_run(&daily, &retry, RunEnd::Failed, day_time("02 12:50:00")), None);
    }

    #[test]
    fn an_activation_that_waited_too_long_moves_into_the_next_slot() {
        let nightly = schedule(r#"{"cron":"0 2 * * *","window":["23:00","06:00"]}"#);
        let planned = activation(&nightly, day_time("02 02:00:00"), day_time("02 01:00:00"));
        assert_eq!(planned.window_end, Some(day_time("02 06:00:00")));
        let moved = replan_into_window(&nightly, planned, day_time("02 06:00:00"));
        assert_eq!((moved.at, moved.initial), (day_time("02 23:00:00"), day_time("02 02:00:00")));
    }
}
