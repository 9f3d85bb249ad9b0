//! Checks a cron expression before it is sent (spec/sctool.md 3.3).
//!
//! The manager evaluates it; the client only refuses what can never work, so that the error comes with the flag.
//! A parsed expression keeps the text as typed, because that is what goes on the wire.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use common::units::TaskDuration;

/// A valid cron expression, as typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CronExpr(String);

impl CronExpr {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for CronExpr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why an expression is refused; the texts are the original's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidCron {
    #[error("empty spec string")]
    Empty,
    #[error("expected 5 to 6 fields, found {count}: [{fields}]")]
    FieldCount { count: usize, fields: String },
    #[error("provided bad location {0}: unknown time zone {0}")]
    Zone(String),
    #[error("unrecognized descriptor: {0}")]
    Descriptor(String),
    #[error("failed to parse duration {0}: use units d, h, m, s such as @every 12h")]
    Every(String),
    #[error("too many hyphens: {0}")]
    Hyphens(String),
    #[error("too many slashes: {0}")]
    Slashes(String),
    #[error("failed to parse int from {text}: not a number or name in {expr}")]
    Number { text: String, expr: String },
    #[error("beginning of range ({value}) below minimum ({limit}): {expr}")]
    BelowMinimum { value: u32, limit: u32, expr: String },
    #[error("end of range ({value}) above maximum ({limit}): {expr}")]
    AboveMaximum { value: u32, limit: u32, expr: String },
    #[error("beginning of range ({begin}) beyond end of range ({end}): {expr}")]
    Backwards { begin: u32, end: u32, expr: String },
    #[error("step of range should be a positive number: {0}")]
    Step(String),
}

const DESCRIPTORS: [&str; 7] = ["@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly"];
pub(super) const MONTHS: [&str; 12] =
    ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"];
pub(super) const DAYS: [&str; 7] = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];

impl FromStr for CronExpr {
    type Err = InvalidCron;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.is_empty() {
            return Ok(Self(String::new())); // an empty flag removes the schedule on update
        }
        let (zone, spec) = split_zone(text);
        if let Some(zone) = zone {
            zone.parse::<chrono_tz::Tz>().map_err(|_| InvalidCron::Zone(zone.to_owned()))?;
        }
        if spec.is_empty() {
            return Err(InvalidCron::Empty);
        }
        if spec.starts_with('@') {
            check_descriptor(spec)?;
        } else {
            check_fields(spec)?;
        }
        Ok(Self(text.to_owned()))
    }
}

/// Splits the optional `CRON_TZ=<zone> ` or `TZ=<zone> ` prefix off.
pub fn split_zone(text: &str) -> (Option<&str>, &str) {
    let text = text.trim();
    let Some(after) = text.strip_prefix("CRON_TZ=").or_else(|| text.strip_prefix("TZ=")) else {
        return (None, text);
    };
    match after.split_once(char::is_whitespace) {
        Some((zone, spec)) => (Some(zone), spec.trim()),
        None => (Some(after), ""),
    }
}

fn check_descriptor(spec: &str) -> Result<(), InvalidCron> {
    if let Some(every) = spec.strip_prefix("@every ") {
        // Go's units include ms, us and ns; a backup every millisecond is nobody's wish.
        let parsed = every.trim().parse::<TaskDuration>();
        return parsed.map(|_| ()).map_err(|_| InvalidCron::Every(spec.to_owned()));
    }
    match DESCRIPTORS.contains(&spec) {
        true => Ok(()),
        false => Err(InvalidCron::Descriptor(spec.to_owned())),
    }
}

fn check_fields(spec: &str) -> Result<(), InvalidCron> {
    let fields: Vec<&str> = spec.split_whitespace().collect();
    let seconds = match fields.len() {
        5 => None,
        6 => Some(fields[0]),
        count => return Err(InvalidCron::FieldCount { count, fields: fields.join(" ") }),
    };
    if let Some(seconds) = seconds {
        check_field(seconds, 0..=59, &[], 0)?;
    }
    let five = &fields[fields.len() - 5..];
    check_field(five[0], 0..=59, &[], 0)?;
    check_field(five[1], 0..=23, &[], 0)?;
    check_field(five[2], 1..=31, &[], 0)?;
    check_field(five[3], 1..=12, &MONTHS, 1)?;
    check_field(five[4], 0..=6, &DAYS, 0)
}

fn check_field(
    field: &str,
    bounds: RangeInclusive<u32>,
    names: &[&str],
    first: u32,
) -> Result<(), InvalidCron> {
    field.split(',').try_for_each(|expr| check_range(expr, &bounds, names, first))
}

fn check_range(expr: &str, bounds: &RangeInclusive<u32>, names: &[&str], first: u32) -> Result<(), InvalidCron> {
    let mut parts = expr.split('/');
    let range = parts.next().unwrap_or_default();
    let step = parts.next();
    if parts.next().is_some() {
        return Err(InvalidCron::Slashes(expr.to_owned()));
    }
    let (begin, end) = match range {
        "*" | "?" => (*bounds.start(), *bounds.end()),
        _ => read_range(range, expr, step.is_some(), bounds, names, first)?,
    };
    let expr_text = || expr.to_owned();
    if begin < *bounds.start() {
        return Err(InvalidCron::BelowMinimum { value: begin, limit: *bounds.start(), expr: expr_text() });
    }
    if end > *bounds.end() {
        return Err(InvalidCron::AboveMaximum { value: end, limit: *bounds.end(), expr: expr_text() });
    }
    if begin > end {
        return Err(InvalidCron::Backwards { begin, end, expr: expr_text() });
    }
    match step.map(|step| number(step, expr, &[], 0)).transpose()? {
        Some(0) => Err(InvalidCron::Step(expr_text())),
        _ => Ok(()),
    }
}

fn read_range(
    range: &str,
    expr: &str,
    stepped: bool,
    bounds: &RangeInclusive<u32>,
    names: &[&str],
    first: u32,
) -> Result<(u32, u32), InvalidCron> {
    let mut ends = range.split('-');
    let begin = number(ends.next().unwrap_or_default(), expr, names, first)?;
    let end = match ends.next() {
        Some(end) => number(end, expr, names, first)?,
        None if stepped => *bounds.end(),
        None => begin,
    };
    match ends.next() {
        Some(_) => Err(InvalidCron::Hyphens(expr.to_owned())),
        None => Ok((begin, end)),
    }
}

fn number(text: &str, expr: &str, names: &[&str], first: u32) -> Result<u32, InvalidCron> {
    if let Some(at) = names.iter().position(|name| name.eq_ignore_ascii_case(text)) {
        return Ok(first + at as u32);
    }
    text.parse().map_err(|_| InvalidCron::Number { text: text.to_owned(), expr: expr.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_what_the_original_accepts() {
        for text in [
            "30 2 * * *",
            "0 0 12 * * *",
            "*/15 8-17 1,15 JAN-mar sun",
            "0 0 ? * 1-5",
            "5/10 * * * *",
            "@daily",
            "@every 15s",
            "@every 7d",
            "CRON_TZ=Europe/Oslo 30 2 * * *",
            "TZ=UTC @weekly",
            "",
        ] {
            assert_eq!(text.parse::<CronExpr>().map(|cron| cron.0), Ok(text.to_owned()));
        }
    }

    #[test]
    fn refuses_with_the_words_of_the_original() {
        for (text, expected) in [
            ("bad", "expected 5 to 6 fields, found 1: [bad]"),
            ("1 2 3 4 5 6 7", "expected 5 to 6 fields, found 7: [1 2 3 4 5 6 7]"),
            ("0 0 * * 7", "end of range (7) above maximum (6): 7"),
            ("60 0 * * *", "end of range (60) above maximum (59): 60"),
            ("0 0 0 * *", "beginning of range (0) below minimum (1): 0"),
            ("0 9-8 * * *", "beginning of range (9) beyond end of range (8): 9-8"),
            ("0 1-2-3 * * *", "too many hyphens: 1-2-3"),
            ("*/5/5 0 * * *", "too many slashes: */5/5"),
            ("*/0 0 * * *", "step of range should be a positive number: */0"),
            ("x 0 * * *", "failed to parse int from x: not a number or name in x"),
            ("@never", "unrecognized descriptor: @never"),
            ("@every soon", "failed to parse duration @every soon: use units d, h, m, s such as @every 12h"),
            ("TZ=Mars/Base 0 0 * * *", "provided bad location Mars/Base: unknown time zone Mars/Base"),
        ] {
            let error = text.parse::<CronExpr>().expect_err(text);
            assert_eq!(error.to_string(), expected, "{text}");
        }
    }
}
