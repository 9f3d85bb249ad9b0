//! Times, durations, percentages and lists as the tables show them (spec/sctool.md 4.1).

use std::time::Duration;

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use common::units::format_go_duration;
use serde_json::Value;

/// `02 Mar 26 02:42:17 UTC`; empty if not set.
pub fn time(time: Option<DateTime<Utc>>, tz: Tz) -> String {
    time.map(|time| time.with_timezone(&tz).format("%d %b %y %H:%M:%S %Z").to_string()).unwrap_or_default()
}

/// Time between two points; a missing end means "until now", a missing begin nothing.
pub fn elapsed(start: Option<DateTime<Utc>>, end: Option<DateTime<Utc>>, now: DateTime<Utc>) -> String {
    let elapsed = start.map(|start| end.unwrap_or(now) - start).unwrap_or_default();
    format_go_duration(elapsed.to_std().unwrap_or_default())
}

/// `237h2m1s` from seconds.
pub fn seconds(seconds: u64) -> String {
    format_go_duration(Duration::from_secs(seconds))
}

/// Whole percent of `part` in `whole`, rounded down; 100 of nothing.
pub fn percent(part: u64, whole: u64) -> u64 {
    scaled(part, whole).unwrap_or(100)
}

/// Whole percent, rounded up, so that a single failed byte shows.
pub fn percent_up(part: u64, whole: u64) -> u64 {
    match whole {
        0 => 0,
        _ => u64::try_from((u128::from(part) * 100).div_ceil(u128::from(whole))).unwrap_or(u64::MAX),
    }
}

fn scaled(part: u64, whole: u64) -> Option<u64> {
    let percent = (u128::from(part) * 100).checked_div(u128::from(whole))?;
    u64::try_from(percent).ok()
}

/// `66%`, or `66%/3%` if something failed.
pub fn progress(success: u64, failed: u64, size: u64) -> String {
    let done = percent(success, size);
    match failed {
        0 => format!("{done}%"),
        _ => format!("{done}%/{}%", percent_up(failed, size)),
    }
}

/// `(1 table)`, `(3 tables)`, or the names; `all ` in front of a whole keyspace.
pub fn tables(tables: &[String], all: bool, show_names: bool) -> String {
    let text = match (show_names, tables.len()) {
        (true, _) => format!("({})", tables.join(", ")),
        (false, 1) => "(1 table)".to_owned(),
        (false, count) => format!("({count} tables)"),
    };
    if all { format!("all {text}") } else { text }
}

/// `location: 's3:orders-backups', retention: 7`: one entry per property, sorted by name.
pub fn properties(properties: &serde_json::Map<String, Value>) -> Vec<String> {
    let mut all: Vec<String> = properties
        .iter()
        .map(|(key, value)| format!("{}: {}", key.replace('_', "-"), property(value)))
        .collect();
    all.sort();
    all
}

fn property(value: &Value) -> String {
    match value {
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(plain).collect();
            format!("'{}'", items.join(","))
        }
        Value::Object(map) => {
            let pairs: Vec<String> =
                map.iter().map(|(key, value)| format!("{key}={}", plain(value))).collect();
            format!("'{}'", pairs.join(","))
        }
        other => plain(other),
    }
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// `  - item` lines.
pub fn bullets<T: std::fmt::Display>(items: impl IntoIterator<Item = T>) -> String {
    items.into_iter().map(|item| format!("  - {item}\n")).collect()
}

/// `-` in place of nothing.
pub fn or_dash(text: String) -> String {
    if text.is_empty() { "-".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_local() {
        let at = "2026-03-02T02:42:17Z".parse().ok();
        assert_eq!(time(at, Tz::UTC), "02 Mar 26 02:42:17 UTC");
        assert_eq!(time(at, Tz::Europe__Oslo), "02 Mar 26 03:42:17 CET");
        assert_eq!(time(None, Tz::UTC), "");
    }

    #[test]
    fn durations_are_truncated_to_seconds() {
        let at = |text: &str| text.parse::<DateTime<Utc>>().ok();
        let now = at("2026-03-02T03:00:00Z").expect("valid");
        for (start, end, expected) in [
            (at("2026-03-02T02:30:00Z"), at("2026-03-02T02:42:17.9Z"), "12m17s"),
            (at("2026-03-02T02:00:00Z"), None, "1h0m0s"),
            (None, at("2026-03-02T02:00:00Z"), "0s"),
            (None, None, "0s"),
        ] {
            assert_eq!(elapsed(start, end, now), expected);
        }
        assert_eq!(seconds(853_321), "237h2m1s");
    }

    #[test]
    fn success_is_rounded_down_and_failure_up() {
        assert_eq!(progress(2, 0, 3), "66%");
        assert_eq!(progress(2, 1, 1000), "0%/1%");
        assert_eq!(progress(0, 0, 0), "100%");
        assert_eq!(progress(999, 0, 1000), "99%");
    }

    #[test]
    fn table_lists_are_counted_or_named() {
        let two = ["a".to_owned(), "b".to_owned()];
        assert_eq!(tables(&two[..1], false, false), "(1 table)");
        assert_eq!(tables(&two, true, false), "all (2 tables)");
        assert_eq!(tables(&two, false, true), "(a, b)");
        assert_eq!(tables(&[], false, false), "(0 tables)");
    }
}
