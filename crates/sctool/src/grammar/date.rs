//! Dates: RFC 3339, or `now` with a signed duration (spec/sctool.md 3.2).

use std::str::FromStr;

use chrono::{DateTime, SecondsFormat, Utc};
use common::units::{InvalidDuration, TaskDuration};

/// A date as typed. `now` stays relative until the clock is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// `now`, plus or minus a duration.
    FromNow(TaskDuration),
    /// A point in time.
    At(DateTime<Utc>),
}

#[derive(Debug, thiserror::Error)]
pub enum InvalidDate {
    #[error("{0}")]
    Offset(#[from] InvalidDuration),
    #[error(
        "parsing time {input:?} as \"2006-01-02T15:04:05Z07:00\": {reason}; now+3h and the like work too"
    )]
    Format { input: String, reason: chrono::ParseError },
}

impl When {
    /// The time for a filter: `now` is the client's.
    pub fn absolute(self, now: DateTime<Utc>) -> DateTime<Utc> {
        match self {
            Self::FromNow(offset) => now + offset.to_chrono(),
            Self::At(time) => time,
        }
    }

    /// The start date of a task: plain `now` means "not set", so that the server takes its own clock.
    pub fn start_date(self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        match self {
            Self::FromNow(offset) if offset.is_zero() => None,
            other => Some(other.absolute(now)),
        }
    }
}

impl FromStr for When {
    type Err = InvalidDate;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.strip_prefix("now") {
            Some("") => Ok(Self::FromNow(TaskDuration::ZERO)),
            Some(offset) if offset.starts_with(['+', '-']) => Ok(Self::FromNow(offset.parse()?)),
            _ => DateTime::parse_from_rfc3339(text)
                .map(|time| Self::At(time.to_utc()))
                .map_err(|reason| InvalidDate::Format { input: text.to_owned(), reason }),
        }
    }
}

/// The form on the wire: UTC with milliseconds.
pub fn wire_time(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Millis, true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_relative_or_rfc3339() {
        let now: DateTime<Utc> = "2026-03-02T01:00:00Z".parse().expect("valid");
        for (text, expected) in [
            ("now", "2026-03-02T01:00:00.000Z"),
            ("now+3h", "2026-03-02T04:00:00.000Z"),
            ("now+3d2h10m", "2026-03-05T03:10:00.000Z"),
            ("now-7d", "2026-02-23T01:00:00.000Z"),
            ("2019-12-09T15:16:05Z", "2019-12-09T15:16:05.000Z"),
            ("2026-03-02T04:30:00+02:00", "2026-03-02T02:30:00.000Z"),
            ("2026-03-02T04:30:00.25Z", "2026-03-02T04:30:00.250Z"),
        ] {
            let when: When = text.parse().expect(text);
            assert_eq!(wire_time(when.absolute(now)), expected, "{text}");
        }
    }

    #[test]
    fn plain_now_is_no_start_date() {
        let now = DateTime::UNIX_EPOCH;
        for (text, set) in
            [("now", false), ("now+0s", false), ("now+1s", true), ("2019-12-09T15:16:05Z", true)]
        {
            assert_eq!(text.parse::<When>().expect(text).start_date(now).is_some(), set, "{text}");
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for (text, expected) in [
            ("yesterday", "parsing time \"yesterday\" as \"2006-01-02T15:04:05Z07:00\": "),
            ("now+5x", "time: unknown unit x in duration +5x"),
            ("nowish", "parsing time \"nowish\""),
            ("2019-12-09", "parsing time \"2019-12-09\""),
        ] {
            let error = text.parse::<When>().expect_err(text).to_string();
            assert!(error.starts_with(expected), "{text}: {error}");
        }
    }
}
