//! Maintenance windows: the times of the week at which runs may work (spec manager.md 4.2).
//!
//! A window is a list of points, each pair of them begin and end; a range such as `SAT,SUN-00:00-06:00` is short for
//! the pairs of its days. A window is read in the task's zone. The surprise: slots that overlap or touch are one slot, also across
//! the end of the week, so windows that cover the whole week are no restriction at all.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Datelike, NaiveTime, TimeDelta, TimeZone, Utc};
use chrono_tz::Tz;
use common::cron::instant_of_local;

const DAY: u32 = 24 * 60;
const WEEK: u32 = 7 * DAY;
const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
const FULL_DAYS: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];

/// A window that cannot be read. The API puts `window: ` in front.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidWindow {
    /// Neither `[DAY-]HH:MM` nor the end of a range.
    #[error(
        "invalid format {0:?}, the format is [<weekday>-]HH:MM, or <weekday>,...-HH:MM-HH:MM for a range"
    )]
    Format(String),
    /// A weekday that does not exist.
    #[error("unknown day of week {0:?}")]
    Weekday(String),
    /// 24 and above.
    #[error("invalid hour {0}")]
    Hour(u32),
    /// 60 and above.
    #[error("invalid minute {0}")]
    Minute(u32),
    /// A begin without an end.
    #[error("number of points must be even")]
    Odd,
    /// Weekdays that no range follows.
    #[error("weekday {0:?} without a time, say e.g. {0}-00:00-06:00 or {0}-00:00,{0}-06:00")]
    NoTime(&'static str),
    /// A pair in which only one point has a weekday.
    #[error("[{first},{}]: begin and end must be each day or both must name a weekday", .first + 1)]
    Mixed {
        /// Index of the begin.
        first: usize,
    },
    /// A pair of equal points.
    #[error("[{first},{}]: equal", .first + 1)]
    Equal {
        /// Index of the begin.
        first: usize,
    },
}

/// One point, e.g. `Mon-0:00` or `23:00`. Printed with a short weekday and an unpadded hour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Point {
    /// Days since Monday; `None` for every day.
    day: Option<u32>,
    /// Minutes since midnight.
    minute: u32,
}

impl FromStr for Point {
    type Err = InvalidWindow;

    fn from_str(input: &str) -> Result<Self, Self::Err> {
        let (day, time) = match input.rsplit_once('-') {
            Some((day, time)) => (Some(weekday(day)?), time),
            None => (None, input),
        };
        Ok(Self { day, minute: minute_of_day(time, input)? })
    }
}

impl Point {
    /// The pair for a time span that begins on this day and lasts less than one.
    fn span(day: Option<u32>, begin: u32, end: u32) -> [Self; 2] {
        let end_day = day.map(|day| if end < begin { (day + 1) % 7 } else { day });
        [Self { day, minute: begin }, Self { day: end_day, minute: end }]
    }
}

/// Reads `HH:MM`; `whole` is what an error names.
fn minute_of_day(time: &str, whole: &str) -> Result<u32, InvalidWindow> {
    let format = || InvalidWindow::Format(whole.to_owned());
    let (hour, minute) = time.split_once(':').ok_or_else(format)?;
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    if !matches!(hour.len(), 1 | 2) || minute.len() != 2 || !digits(hour) || !digits(minute) {
        return Err(format());
    }
    let (hour, minute): (u32, u32) =
        (hour.parse().map_err(|_| format())?, minute.parse().map_err(|_| format())?);
    if hour > 23 {
        return Err(InvalidWindow::Hour(hour));
    }
    if minute > 59 {
        return Err(InvalidWindow::Minute(minute));
    }
    Ok(hour * 60 + minute)
}

/// Reads the items of a window: points as they are, ranges as the pairs they stand for.
///
/// An item that holds two times is a range. Weekdays alone belong to the range behind them, so that
/// `SAT,SUN-00:00-06:00` opens both nights; a point never has a weekday alone, so no text can be read in both ways.
fn points(items: &[&str]) -> Result<Vec<Point>, InvalidWindow> {
    let mut points = Vec::new();
    let mut days: Vec<Option<u32>> = Vec::new();
    for item in items {
        match item.rsplit_once('-').filter(|(before, _)| before.contains(':')) {
            Some(_) if !points.len().is_multiple_of(2) => return Err(InvalidWindow::Odd),
            Some((before, end)) => {
                let first: Point = before.parse()?;
                let end = minute_of_day(end, item)?;
                if first.day.is_some() || days.is_empty() {
                    days.push(first.day);
                }
                points.extend(days.drain(..).flat_map(|day| Point::span(day, first.minute, end)));
            }
            None if !item.contains(':') && weekday(item).is_ok() => days.push(Some(weekday(item)?)),
            None if days.is_empty() => points.push(item.parse()?),
            None => break,
        }
    }
    match days.into_iter().flatten().next() {
        Some(day) => Err(InvalidWindow::NoTime(DAYS[day as usize])),
        None => Ok(points),
    }
}

fn weekday(text: &str) -> Result<u32, InvalidWindow> {
    let named = |names: &[&str]| names.iter().position(|d| d.eq_ignore_ascii_case(text));
    let index = named(&DAYS).or_else(|| named(&FULL_DAYS));
    index.map(|i| i as u32).ok_or_else(|| InvalidWindow::Weekday(text.to_owned()))
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(day) = self.day {
            write!(f, "{}-", DAYS[day as usize])?;
        }
        write!(f, "{}:{:02}", self.minute / 60, self.minute % 60)
    }
}

/// A time span in which a run may work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// Earliest start.
    pub begin: DateTime<Utc>,
    /// When a run must pause; `None` for never.
    pub end: Option<DateTime<Utc>>,
}

/// The slots of a week. The default has no restriction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Window {
    points: Vec<Point>,
    /// Minutes since Monday 0:00, sorted, apart from each other; an end may lie in the next week.
    slots: Vec<(u32, u32)>,
}

impl Window {
    /// Reads pairs of points and ranges; an empty list is no restriction.
    ///
    /// # Errors
    /// A malformed item, an odd number of points, a pair that mixes daily and weekly points or has no length.
    pub fn parse<S: AsRef<str>>(texts: &[S]) -> Result<Self, InvalidWindow> {
        let items: Vec<&str> = texts.iter().map(|text| text.as_ref().trim()).collect();
        let points = points(&items)?;
        if !points.len().is_multiple_of(2) {
            return Err(InvalidWindow::Odd);
        }
        let mut slots = vec![];
        for (index, pair) in points.chunks(2).enumerate() {
            slots.extend(pair_slots(2 * index, pair[0], pair[1])?);
        }
        Ok(Self { points, slots: merge(slots) })
    }

    /// The points as they are stored and shown, e.g. `Mon-0:00`.
    pub fn points(&self) -> Vec<String> {
        self.points.iter().map(Point::to_string).collect()
    }

    /// Whether runs may work at any time.
    pub fn is_open(&self) -> bool {
        self.slots.is_empty()
    }

    /// The slot in which work planned for `time` may run: the current one from `time` on, else the next.
    pub fn next(&self, time: DateTime<Utc>, zone: Tz) -> Slot {
        let monday = {
            let local = zone.from_utc_datetime(&time.naive_utc()).date_naive();
            local - TimeDelta::days(i64::from(local.weekday().num_days_from_monday()))
        };
        // A slot may have begun last week, and a clock change may swallow one whole.
        let weeks = [-1, 0, 1, 2].map(|w| monday + TimeDelta::weeks(w));
        let candidates = weeks.iter().flat_map(|week| {
            self.slots.iter().map(move |(begin, end)| {
                let instant = |minute: u32| {
                    let local = week.and_time(NaiveTime::MIN) + TimeDelta::minutes(i64::from(minute));
                    instant_of_local(local, zone)
                };
                (instant(*begin), instant(*end))
            })
        });
        match candidates.filter(|(begin, end)| *end > time && begin < end).min_by_key(|(_, end)| *end) {
            Some((begin, end)) => Slot { begin: begin.max(time), end: Some(end) },
            None => Slot { begin: time, end: None },
        }
    }
}

/// The slots of one pair in minutes of the week.
fn pair_slots(first: usize, begin: Point, end: Point) -> Result<Vec<(u32, u32)>, InvalidWindow> {
    if begin == end {
        return Err(InvalidWindow::Equal { first });
    }
    let wrap = |begin: u32, end: u32, length: u32| if end < begin { end + length } else { end };
    match (begin.day, end.day) {
        (Some(from), Some(to)) => {
            let (begin, end) = (from * DAY + begin.minute, to * DAY + end.minute);
            Ok(vec![(begin, wrap(begin, end, WEEK))])
        }
        (None, None) => {
            let end = wrap(begin.minute, end.minute, DAY);
            Ok((0..7).map(|day| (day * DAY + begin.minute, day * DAY + end)).collect())
        }
        _ => Err(InvalidWindow::Mixed { first }),
    }
}

/// Joins slots that overlap or touch, also across the end of the week. A full week leaves no slot.
fn merge(mut slots: Vec<(u32, u32)>) -> Vec<(u32, u32)> {
    slots.sort_unstable();
    let mut merged: Vec<(u32, u32)> = vec![];
    for (begin, end) in slots {
        match merged.last_mut() {
            Some(last) if begin <= last.1 => last.1 = last.1.max(end),
            _ => merged.push((begin, end)),
        }
    }
    // The last slots may reach into the first ones of the next week.
    while merged.len() > 1
        && let Some(&(begin, end)) = merged.last()
        && begin > merged[0].0
        && end >= merged[0].0 + WEEK
    {
        let first = merged.remove(0);
        let last = merged.len() - 1;
        merged[last].1 = end.max(first.1 + WEEK);
    }
    let full = merged.iter().any(|(begin, end)| end - begin >= WEEK);
    if full { vec![] } else { merged }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        DateTime::parse_from_rfc3339(text).unwrap().to_utc()
    }

    fn window(text: &str) -> Window {
        Window::parse(&text.split(',').collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn faults_are_named() {
        for (text, message) in [
            ("23:00", "number of points must be even"),
            ("Foo-1:00-2:00", "unknown day of week \"Foo\""),
            ("1:00-25:00", "invalid hour 25"),
            ("1:00-1:00", "[0,1]: equal"),
            ("Mon-1:00,2:00-3:00", "number of points must be even"),
            ("SAT,SUN", "weekday \"Sat\" without a time, say e.g. Sat-00:00-06:00 or Sat-00:00,Sat-06:00"),
            (
                "SAT,SUN-00:00,SUN-06:00",
                "weekday \"Sat\" without a time, say e.g. Sat-00:00-06:00 or Sat-00:00,Sat-06:00",
            ),
            ("Foo-1:00,Mon-6:00", "unknown day of week \"Foo\""),
            ("24:00,6:00", "invalid hour 24"),
            ("23:60,6:00", "invalid minute 60"),
            ("1:00,2:00,Mon-3:00,4:00", "[2,3]: begin and end must be each day or both must name a weekday"),
            ("1:00,01:00", "[0,1]: equal"),
            ("Mon-1:00,monday-1:00", "[0,1]: equal"),
        ] {
            let points: Vec<&str> = text.split(',').collect();
            assert_eq!(Window::parse(&points).unwrap_err().to_string(), message, "{text}");
        }
    }

    #[test]
    fn malformed_points_are_named_with_both_formats() {
        for (text, named) in [
            ("2300,6:00", "2300"),
            ("23:0,6:00", "23:0"),
            ("+1:00,6:00", "+1:00"),
            ("1:00-2", "1:00-2"),
            ("", ""),
        ] {
            let points: Vec<&str> = text.split(',').collect();
            let message = Window::parse(&points).unwrap_err().to_string();
            assert_eq!(
                message,
                format!(
                    "invalid format {named:?}, the format is [<weekday>-]HH:MM, or <weekday>,...-HH:MM-HH:MM for a range"
                )
            );
        }
    }

    #[test]
    fn ranges_stand_for_pairs_of_points() {
        for (text, points) in [
            ("SAT,SUN-00:00-06:00", "Sat-0:00,Sat-6:00,Sun-0:00,Sun-6:00"),
            ("SAT-00:00-06:00,SUN-00:00-06:00", "Sat-0:00,Sat-6:00,Sun-0:00,Sun-6:00"),
            ("sat,sunday,00:00-06:00", "Sat-0:00,Sat-6:00,Sun-0:00,Sun-6:00"),
            ("SUN-22:00-06:00", "Sun-22:00,Mon-6:00"),
            ("23:00-06:00", "23:00,6:00"),
            ("FRI-23:00,MON-05:00,Wed-1:00-2:00", "Fri-23:00,Mon-5:00,Wed-1:00,Wed-2:00"),
            ("1:00-2:00,3:00,4:00", "1:00,2:00,3:00,4:00"),
        ] {
            assert_eq!(window(text).points().join(","), points, "{text}");
        }
    }

    #[test]
    fn points_are_printed_without_padding() {
        assert_eq!(
            window("MON-00:00,friday-15:00,23:00,06:00").points(),
            ["Mon-0:00", "Fri-15:00", "23:00", "6:00"]
        );
        assert!(Window::parse::<&str>(&[]).unwrap().is_open());
    }

    #[test]
    fn slots_merge() {
        for (text, slots) in [
            ("0:00,12:00,12:00,0:00", vec![]),
            ("Mon-0:00,Mon-6:00,Mon-6:00,Mon-8:00", vec![(0, 480)]),
            ("Mon-0:00,Tue-0:00,Mon-5:00,Mon-6:00", vec![(0, 1440)]),
            // Over the end of the week, joined with Monday's.
            ("Sat-0:00,Mon-2:00,Mon-1:00,Mon-4:00", vec![(5 * DAY, WEEK + 240)]),
            ("Sun-22:00,Mon-0:00,Mon-0:00,Mon-4:00", vec![(6 * DAY + 1320, WEEK + 240)]),
            ("Fri-15:00,Mon-0:00", vec![(4 * DAY + 900, WEEK)]),
            ("Tue-0:00,Mon-0:00,Mon-0:00,Tue-0:00", vec![]),
        ] {
            assert_eq!(window(text).slots, slots, "{text}");
        }
        assert_eq!(window("23:00,6:00").slots.len(), 7);
    }

    #[test]
    fn next_slot() {
        use chrono_tz::{Europe::Warsaw, UTC};
        // 2026-03-02 is a Monday.
        for (text, zone, time, begin, end) in [
            ("23:00,06:00", UTC, "2026-03-02T12:00:00Z", "2026-03-02T23:00:00Z", "2026-03-03T06:00:00Z"),
            ("23:00,06:00", UTC, "2026-03-03T01:00:00Z", "2026-03-03T01:00:00Z", "2026-03-03T06:00:00Z"),
            ("23:00,06:00", UTC, "2026-03-03T06:00:00Z", "2026-03-03T23:00:00Z", "2026-03-04T06:00:00Z"),
            ("23:00,06:00", UTC, "2026-03-02T23:00:00Z", "2026-03-02T23:00:00Z", "2026-03-03T06:00:00Z"),
            // Over the week end, from Sunday night and on Monday morning.
            ("23:00,06:00", UTC, "2026-03-08T23:30:00Z", "2026-03-08T23:30:00Z", "2026-03-09T06:00:00Z"),
            ("23:00,06:00", UTC, "2026-03-09T00:30:00Z", "2026-03-09T00:30:00Z", "2026-03-09T06:00:00Z"),
            (
                "Fri-15:00,Mon-6:00",
                UTC,
                "2026-03-09T00:30:00Z",
                "2026-03-09T00:30:00Z",
                "2026-03-09T06:00:00Z",
            ),
            (
                "Fri-15:00,Mon-6:00",
                UTC,
                "2026-03-09T07:00:00Z",
                "2026-03-13T15:00:00Z",
                "2026-03-16T06:00:00Z",
            ),
            (
                "Mon-0:00,Fri-15:00",
                UTC,
                "2026-03-07T00:00:00Z",
                "2026-03-09T00:00:00Z",
                "2026-03-13T15:00:00Z",
            ),
            // The zone decides on the day; the clock goes forward on 2026-03-29.
            ("1:00,4:00", Warsaw, "2026-03-28T12:00:00Z", "2026-03-29T00:00:00Z", "2026-03-29T02:00:00Z"),
            ("1:00,4:00", Warsaw, "2026-10-24T12:00:00Z", "2026-10-24T23:00:00Z", "2026-10-25T03:00:00Z"),
            ("2:15,2:45", Warsaw, "2026-03-28T12:00:00Z", "2026-03-29T01:15:00Z", "2026-03-29T01:45:00Z"),
            (
                "Mon-0:00,Mon-1:00",
                Warsaw,
                "2026-03-01T22:30:00Z",
                "2026-03-01T23:00:00Z",
                "2026-03-02T00:00:00Z",
            ),
        ] {
            let expected = Slot { begin: at(begin), end: Some(at(end)) };
            assert_eq!(window(text).next(at(time), zone), expected, "{text} at {time}");
        }
        let open = Window::default().next(at("2026-03-02T12:00:00Z"), UTC);
        assert_eq!(open, Slot { begin: at("2026-03-02T12:00:00Z"), end: None });
    }

    proptest! {
        #[test]
        fn a_minute_is_open_as_its_pairs_say(
            pairs in proptest::collection::vec((proptest::option::of(0_u32..7), 0_u32..DAY, 0_u32..7, 0_u32..DAY), 1..5),
            minute in 0_u32..WEEK,
        ) {
            let text: Vec<String> = pairs.iter().flat_map(|(day, begin, end_day, end)| {
                let point = |day: Option<u32>, minute| Point { day, minute }.to_string();
                [point(*day, *begin), point(day.map(|_| *end_day), *end)]
            }).collect();
            prop_assume!(pairs.iter().all(|(day, begin, end_day, end)| match day {
                Some(day) => (day, begin) != (end_day, end),
                None => begin != end,
            }));
            let inside = |from: u32, to: u32, m: u32| if from < to { from <= m && m < to } else { m >= from || m < to };
            let open = pairs.iter().any(|(day, begin, end_day, end)| match day {
                Some(day) => inside(day * DAY + begin, end_day * DAY + end, minute),
                None => inside(*begin, *end, minute % DAY),
            });

            let monday = at("2026-03-02T00:00:00Z");
            let time = monday + TimeDelta::minutes(i64::from(minute));
            let slot = Window::parse(&text).unwrap().next(time, chrono_tz::UTC);
            prop_assert_eq!(slot.begin == time, open);
            prop_assert!(slot.begin >= time && slot.end.is_none_or(|e| e > slot.begin));
        }
    }
}
