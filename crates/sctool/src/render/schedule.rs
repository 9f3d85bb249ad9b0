//! Schedules in words: cron with its description, interval, first activation (spec/sctool.md 4.3, 4.8, 4.9).

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use common::api::manager::{CronText, Schedule};
use common::cron::Cron;

use crate::grammar::cron_text::describe;

/// The cron expression of a schedule, unwrapped; empty if there is none.
pub fn cron_spec(schedule: &Schedule) -> String {
    CronText::parse(&schedule.cron).spec
}

/// The `Cron:` and `Tz:` lines on top of a dry run, with the empty line after them.
pub fn dry_run_header(schedule: &Schedule) -> String {
    let spec = cron_spec(schedule);
    if spec.is_empty() {
        return String::new();
    }
    let description = match describe(&spec) {
        text if text.is_empty() => text,
        text => format!(" ({text})"),
    };
    let zone = match schedule.timezone.as_str() {
        "" => String::new(),
        zone => format!("Tz:\t{zone}\n"),
    };
    format!("Cron:\t{spec}{description}\n{zone}\n")
}

/// The `Schedule` cell of the tasks table.
pub fn cell(schedule: &Schedule, now: DateTime<Utc>) -> String {
    let cron = CronText::parse(&schedule.cron);
    if cron.spec.is_empty() {
        return schedule.interval.to_string();
    }
    match cron.start_date.filter(|start| *start > now).and_then(|start| first_match(&cron.spec, start)) {
        Some(first) => {
            format!("{} with first activation after {}", cron.spec, first.format("%Y-%m-%d %H:%M:%S"))
        }
        None => cron.spec,
    }
}

/// First match after `start`, evaluated in UTC whatever the zone of the task (spec/sctool.md 4.8).
fn first_match(spec: &str, start: DateTime<Utc>) -> Option<DateTime<Utc>> {
    spec.parse::<Cron>().ok()?.next_after(start, Tz::UTC)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(cron: &str) -> Schedule {
        Schedule { cron: cron.to_owned(), timezone: "Europe/Oslo".to_owned(), ..Schedule::default() }
    }

    #[test]
    fn headers_name_cron_and_zone() {
        assert_eq!(
            dry_run_header(&schedule("30 2 * * *")),
            "Cron:\t30 2 * * * (At 02:30 AM)\nTz:\tEurope/Oslo\n\n"
        );
        assert_eq!(dry_run_header(&schedule("@weekly")), "Cron:\t@weekly\nTz:\tEurope/Oslo\n\n");
        assert_eq!(dry_run_header(&schedule("")), "");
    }

    #[test]
    fn cells_show_a_first_activation_that_is_still_to_come() {
        let now: DateTime<Utc> = "2026-03-02T00:00:00Z".parse().expect("valid");
        let stored = |start: &str| schedule(&format!(r#"{{"spec":"0 0 1 * *","start_date":"{start}"}}"#));
        assert_eq!(cell(&stored("2026-01-01T00:00:00Z"), now), "0 0 1 * *");
        assert_eq!(
            cell(&stored("2099-01-15T00:00:00Z"), now),
            "0 0 1 * * with first activation after 2099-02-01 00:00:00"
        );
        let interval = Schedule { interval: "168h".parse().expect("valid"), ..schedule("") };
        assert_eq!(cell(&interval, now), "7d");
    }
}
