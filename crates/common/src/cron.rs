//! Cron expressions of the original (spec sctool.md 3.3, manager.md 4.1).
//!
//! Our own, not a crate's: the dialect is narrower than what crates accept (no 7 for Sunday, no `L`, `W`,
//! `#`) and its error texts are part of the command line. The surprise is daylight saving time, see
//! [`Cron::next_after`].

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use chrono::{
    DateTime, Datelike, MappedLocalTime, NaiveDate, NaiveDateTime, NaiveTime, Offset, SubsecRound, TimeDelta,
    TimeZone, Timelike, Utc,
};
use chrono_tz::Tz;

use crate::units::{TaskDuration, parse_config_duration};

/// A pattern that has no match within this many calendar years never fires.
const SEARCH_YEARS: i32 = 5;

/// Clock changes are looked for this long around a time; the largest one of a usual zone is 2 h.
const CLOCK_CHANGE_RANGE: TimeDelta = TimeDelta::hours(3);

/// A parsed cron expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cron {
    text: String,
    zone: Option<Tz>,
    rule: Rule,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Rule {
    Fields(Fields),
    Every(TimeDelta),
}

/// An expression that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidCron {
    /// Not five or six fields.
    #[error("expected 5 to 6 fields, found {count}: [{text}]")]
    FieldCount {
        /// Fields found.
        count: usize,
        /// The expression.
        text: String,
    },
    /// A field with a number or name that is out of its range, or malformed.
    #[error("{reason}: {field}")]
    Field {
        /// What is wrong.
        reason: String,
        /// The part of the field.
        field: String,
    },
    /// An `@word` that is not known.
    #[error("unrecognized descriptor: {0}")]
    Descriptor(String),
    /// `@every` with something that is not a duration, or not a positive one.
    #[error("failed to parse duration {text}: {reason}")]
    Every {
        /// The expression.
        text: String,
        /// What is wrong.
        reason: String,
    },
    /// A time zone prefix that names no zone.
    #[error("provided bad location {0}: unknown time zone")]
    Zone(String),
}

impl Cron {
    /// The next activation strictly after `after`, on a whole second, with fields read in `zone` unless the
    /// expression brings its own (`TZ=`); `None` if there is none within five years.
    ///
    /// When the clock is put forward, a time that the day skips fires as much later as the clock jumped, so
    /// that no day goes without its backup. When it is put back, a time that the day has twice fires at the
    /// first. Patterns for every hour (`*/15 * * * *`) follow elapsed time instead: nothing extra in the
    /// first case, and both of the repeated hours in the second.
    pub fn next_after(&self, after: DateTime<Utc>, zone: Tz) -> Option<DateTime<Utc>> {
        match &self.rule {
            Rule::Every(period) => after.checked_add_signed(*period).map(|t| t.trunc_subsecs(0)),
            Rule::Fields(fields) => fields.next_after(after, self.zone.unwrap_or(zone)),
        }
    }

    /// The expression as it was given.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The zone of a `TZ=` or `CRON_TZ=` prefix.
    pub fn zone(&self) -> Option<Tz> {
        self.zone
    }
}

impl fmt::Display for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Cron {
    type Err = InvalidCron;

    fn from_str(input: &str) -> Result<Self, Self::Err> {
        let text = input.trim();
        let (zone, rest) = split_zone(text)?;
        let rule = if rest.starts_with('@') { descriptor(rest)? } else { Rule::Fields(Fields::parse(rest)?) };
        Ok(Self { text: text.to_owned(), zone, rule })
    }
}

fn split_zone(text: &str) -> Result<(Option<Tz>, &str), InvalidCron> {
    let Some(rest) = text.strip_prefix("CRON_TZ=").or_else(|| text.strip_prefix("TZ=")) else {
        return Ok((None, text));
    };
    let (name, rest) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    let zone = name.parse().map_err(|_| InvalidCron::Zone(name.to_owned()))?;
    Ok((Some(zone), rest.trim()))
}

fn descriptor(text: &str) -> Result<Rule, InvalidCron> {
    let fields = match text {
        "@yearly" | "@annually" => "0 0 1 1 *",
        "@monthly" => "0 0 1 * *",
        "@weekly" => "0 0 * * 0",
        "@daily" | "@midnight" => "0 0 * * *",
        "@hourly" => "0 * * * *",
        _ => return every(text),
    };
    Fields::parse(fields).map(Rule::Fields)
}

fn every(text: &str) -> Result<Rule, InvalidCron> {
    let period = text.strip_prefix("@every ").ok_or_else(|| InvalidCron::Descriptor(text.to_owned()))?.trim();
    let invalid = |reason: String| InvalidCron::Every { text: text.to_owned(), reason };
    // Days are ours; the original takes Go's units only.
    let parsed: Duration = match period.parse::<TaskDuration>() {
        Ok(duration) if duration >= TaskDuration::ZERO => duration.to_std(),
        Ok(_) => return Err(invalid("the period must be positive".to_owned())),
        Err(_) => parse_config_duration(period).map_err(|e| invalid(e.to_string()))?,
    };
    if parsed.is_zero() {
        return Err(invalid("the period must be positive".to_owned()));
    }
    let period = TimeDelta::from_std(parsed).map_err(|e| invalid(e.to_string()))?;
    Ok(Rule::Every(TimeDelta::seconds(period.num_seconds().max(1))))
}

/// Sets of allowed values, bit `n` for value `n`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Fields {
    seconds: u64,
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    /// Both day fields are restricted: a day that either allows is allowed.
    either_day: bool,
}

/// Range and names of one field.
struct FieldRange {
    min: u32,
    max: u32,
    names: &'static [&'static str],
}

const SECONDS: FieldRange = FieldRange { min: 0, max: 59, names: &[] };
const MINUTES: FieldRange = FieldRange { min: 0, max: 59, names: &[] };
const HOURS: FieldRange = FieldRange { min: 0, max: 23, names: &[] };
const DAYS: FieldRange = FieldRange { min: 1, max: 31, names: &[] };
const MONTHS: FieldRange = FieldRange {
    min: 1,
    max: 12,
    names: &["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"],
};
const WEEKDAYS: FieldRange =
    FieldRange { min: 0, max: 6, names: &["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"] };

impl Fields {
    fn parse(text: &str) -> Result<Self, InvalidCron> {
        let mut parts: Vec<&str> = text.split_whitespace().collect();
        if parts.len() == 5 {
            parts.insert(0, "0");
        }
        let [second, minute, hour, day, month, weekday] = parts[..] else {
            return Err(InvalidCron::FieldCount { count: parts.len(), text: text.to_owned() });
        };
        let (days, any_day) = DAYS.parse(day)?;
        let (weekdays, any_weekday) = WEEKDAYS.parse(weekday)?;
        Ok(Self {
            seconds: SECONDS.parse(second)?.0,
            minutes: MINUTES.parse(minute)?.0,
            hours: HOURS.parse(hour)?.0,
            days,
            months: MONTHS.parse(month)?.0,
            weekdays,
            either_day: !any_day && !any_weekday,
        })
    }

    fn allows_day(&self, date: NaiveDate) -> bool {
        let day = has(self.days, date.day());
        let weekday = has(self.weekdays, date.weekday().num_days_from_sunday());
        has(self.months, date.month()) && if self.either_day { day || weekday } else { day && weekday }
    }

    /// The first allowed time of a day at or after `from`.
    fn time_from(&self, from: NaiveTime) -> Option<NaiveTime> {
        let (h, m, s) = (from.hour(), from.minute(), from.second());
        for hour in values(self.hours).filter(|v| *v >= h) {
            for minute in values(self.minutes).filter(|v| hour > h || *v >= m) {
                let same_minute = hour == h && minute == m;
                if let Some(second) = values(self.seconds).find(|v| !same_minute || *v >= s) {
                    return NaiveTime::from_hms_opt(hour, minute, second);
                }
            }
        }
        None
    }

    /// The first match at or after `from` on a clock that is never changed.
    fn local_from(&self, from: NaiveDateTime) -> Option<NaiveDateTime> {
        let last_year = from.year() + SEARCH_YEARS;
        let (mut date, mut time) = (from.date(), from.time());
        while date.year() <= last_year {
            if self.allows_day(date)
                && let Some(found) = self.time_from(time)
            {
                return Some(date.and_time(found));
            }
            date = date.succ_opt()?;
            time = NaiveTime::MIN;
        }
        None
    }

    fn next_after(&self, after: DateTime<Utc>, zone: Tz) -> Option<DateTime<Utc>> {
        // Around a clock change the order of local times is not the order of events: start earlier by the
        // size of the change, and go on as far beyond the first hit.
        let start = local(after, zone) - clock_change(after, zone);
        let mut candidate = self.local_from(start.trunc_subsecs(0))?;
        let mut best: Option<DateTime<Utc>> = None;
        loop {
            for instant in self.instants(candidate, zone) {
                if instant > after && best.is_none_or(|b| instant < b) {
                    best = Some(instant);
                }
            }
            if let Some(found) = best {
                let change = clock_change(found, zone).max(clock_change(after, zone));
                if change.is_zero() || candidate > local(found, zone) + change {
                    return best;
                }
            }
            match self.local_from(candidate + TimeDelta::seconds(1)) {
                Some(next) => candidate = next,
                None => return best,
            }
        }
    }

    /// When a local time happens: once, or as [`Cron::next_after`] explains for skipped and repeated times.
    fn instants(&self, time: NaiveDateTime, zone: Tz) -> Vec<DateTime<Utc>> {
        let every_hour = self.hours == all(&HOURS);
        match zone.from_local_datetime(&time) {
            MappedLocalTime::Single(t) => vec![t.to_utc()],
            MappedLocalTime::Ambiguous(first, second) if every_hour => vec![first.to_utc(), second.to_utc()],
            MappedLocalTime::Ambiguous(first, _) => vec![first.to_utc()],
            MappedLocalTime::None if every_hour => vec![],
            MappedLocalTime::None => vec![skipped_local_time(time, zone)],
        }
    }
}

/// The instant of a local time, whatever the clock does: a skipped one counts as if the clock had not been
/// put forward yet, a repeated one as its first occurrence.
pub fn instant_of_local(time: NaiveDateTime, zone: Tz) -> DateTime<Utc> {
    match zone.from_local_datetime(&time).earliest() {
        Some(t) => t.to_utc(),
        None => skipped_local_time(time, zone),
    }
}

fn skipped_local_time(time: NaiveDateTime, zone: Tz) -> DateTime<Utc> {
    let day_before = time.and_utc() - TimeDelta::days(1);
    (time - offset(day_before, zone)).and_utc()
}

fn offset(at: DateTime<Utc>, zone: Tz) -> TimeDelta {
    TimeDelta::seconds(i64::from(zone.offset_from_utc_datetime(&at.naive_utc()).fix().local_minus_utc()))
}

fn local(at: DateTime<Utc>, zone: Tz) -> NaiveDateTime {
    at.naive_utc() + offset(at, zone)
}

/// By how much the clock changes around `at`; zero on most days.
fn clock_change(at: DateTime<Utc>, zone: Tz) -> TimeDelta {
    let near = [at - CLOCK_CHANGE_RANGE, at, at + CLOCK_CHANGE_RANGE].map(|t| offset(t, zone));
    match (near.iter().max(), near.iter().min()) {
        (Some(max), Some(min)) => *max - *min,
        _ => TimeDelta::zero(),
    }
}

fn has(set: u64, value: u32) -> bool {
    set & (1 << value) != 0
}

fn values(set: u64) -> impl Iterator<Item = u32> {
    (0..64).filter(move |v| has(set, *v))
}

fn all(range: &FieldRange) -> u64 {
    (range.min..=range.max).fold(0, |set, v| set | 1 << v)
}

impl FieldRange {
    /// The set of a comma list, and whether it is an unrestricted `*`.
    fn parse(&self, text: &str) -> Result<(u64, bool), InvalidCron> {
        let mut set = 0;
        let mut any = false;
        for part in text.split(',') {
            let (values, star) = self.part(part)?;
            set |= values;
            any |= star;
        }
        Ok((set, any))
    }

    /// `*`, `?`, `a`, `a-b`, each with an optional `/step`.
    fn part(&self, text: &str) -> Result<(u64, bool), InvalidCron> {
        let fail = |reason: String| Err(InvalidCron::Field { reason, field: text.to_owned() });
        let (range, step) = match text.split_once('/') {
            Some((_, step)) if step.contains('/') => return fail("too many slashes".to_owned()),
            Some((range, step)) => (range, Some(self.number(step, text)?)),
            None => (text, None),
        };
        let star = range == "*" || range == "?";
        let (first, last) = match range.split_once('-') {
            _ if star => (self.min, self.max),
            Some((_, last)) if last.contains('-') => return fail("too many hyphens".to_owned()),
            Some((first, last)) => (self.value(first, text)?, self.value(last, text)?),
            // `a/n` runs to the end of the range.
            None if step.is_some() => (self.value(range, text)?, self.max),
            None => (self.value(range, text)?, self.value(range, text)?),
        };
        if first < self.min {
            return fail(format!("beginning of range ({first}) below minimum ({})", self.min));
        }
        if last > self.max {
            return fail(format!("end of range ({last}) above maximum ({})", self.max));
        }
        if first > last {
            return fail(format!("beginning of range ({first}) beyond end of range ({last})"));
        }
        let step = step.unwrap_or(1);
        if step == 0 {
            return fail("step of range should be a positive number".to_owned());
        }
        let set = (first..=last).step_by(step as usize).fold(0, |set, v| set | 1_u64 << v);
        Ok((set, star && step == 1))
    }

    fn value(&self, text: &str, part: &str) -> Result<u32, InvalidCron> {
        match self.names.iter().position(|n| n.eq_ignore_ascii_case(text)) {
            Some(index) => Ok(self.min + index as u32),
            None => self.number(text, part),
        }
    }

    fn number(&self, text: &str, part: &str) -> Result<u32, InvalidCron> {
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let parsed = if digits { text.parse().ok() } else { None };
        parsed.ok_or_else(|| InvalidCron::Field {
            reason: format!("failed to parse int from {text:?}"),
            field: part.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests;
