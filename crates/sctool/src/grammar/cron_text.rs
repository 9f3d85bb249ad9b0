//! Describes a cron expression in English, for the parentheses behind it (spec/sctool.md 3.3).
//!
//! The wording follows the table there, which is that of a well-known family of describers: time of day, day of
//! month, day of week, month. An expression this module cannot describe (`@daily`, nonsense) gets an empty text.

const MONTHS: [&str; 12] =
    ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"];
const DAYS: [&str; 7] = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];
const MONTH_NAMES: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAY_NAMES: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

/// `At 02:30 AM` for `30 2 * * *`; empty where there is nothing to say.
pub fn describe(cron: &str) -> String {
    let Some(fields) = Fields::read(without_zone(cron)) else { return String::new() };
    let parts = [
        fields.time_of_day(),
        day_of_month(&fields.day),
        day_of_week(&fields.weekday, fields.day != "*"),
        month(&fields.month),
    ];
    capitalised(&parts.concat())
}

/// The expression without its `CRON_TZ=<zone> ` or `TZ=<zone> ` prefix.
fn without_zone(cron: &str) -> &str {
    let cron = cron.trim();
    if cron.starts_with("CRON_TZ=") || cron.starts_with("TZ=") {
        return cron.split_once(char::is_whitespace).map_or("", |(_, spec)| spec);
    }
    cron
}

struct Fields {
    second: String,
    minute: String,
    hour: String,
    day: String,
    month: String,
    weekday: String,
}

impl Fields {
    fn read(spec: &str) -> Option<Self> {
        let mut fields: Vec<String> =
            spec.split_whitespace().map(|field| field.to_uppercase().replace('?', "*")).collect();
        if fields.len() == 5 {
            fields.insert(0, "0".to_owned());
        }
        let [second, minute, hour, day, month, weekday] = <[String; 6]>::try_from(fields).ok()?;
        let mut fields = Self {
            second: simplified(&second, "0"),
            minute: simplified(&minute, "0"),
            hour: simplified(&hour, "0"),
            day: simplified(&day, "1"),
            month: simplified(&numbered(&month, &MONTHS, 1), "1"),
            weekday: simplified(&numbered(&weekday, &DAYS, 0), "0"),
        };
        if fields.second == "0" {
            fields.second.clear();
        }
        fields.widen_single_hour();
        Some(fields)
    }

    /// `*/10 15 * * *` means the whole hour from 15:00: describe it as a range.
    fn widen_single_hour(&mut self) {
        let repeats = |field: &str| field.contains(['*', '/']);
        if is_plain(&self.hour) && (repeats(&self.minute) || repeats(&self.second)) {
            self.hour = format!("{0}-{0}", self.hour);
        }
    }

    fn time_of_day(&self) -> String {
        if is_plain(&self.minute) && is_plain(&self.hour) && is_plain(&self.second) {
            return format!("at {}", clock(&self.hour, &self.minute, &self.second));
        }
        if self.second.is_empty() && is_plain(&self.minute) && is_plain_list(&self.hour) {
            let times: Vec<String> = self.hour.split(',').map(|hour| clock(hour, &self.minute, "")).collect();
            return format!("at {}", listed(&times));
        }
        if self.second.is_empty()
            && is_plain(&self.hour)
            && let Some((from, to)) = plain_range(&self.minute)
        {
            let (from, to) = (clock(&self.hour, from, ""), clock(&self.hour, to, ""));
            return format!("every minute between {from} and {to}");
        }
        let mut parts = vec![seconds(&self.second), self.minutes(), hours(&self.hour)];
        parts.retain(|part| !part.is_empty());
        parts.dedup();
        // "every minute, every hour" says no more than its first part.
        let redundant = |part: &String| matches!(part.as_str(), "every minute" | "every hour");
        let first = parts.remove(0);
        parts.retain(|part| !redundant(part));
        std::iter::once(first).chain(parts).collect::<Vec<_>>().join(", ")
    }

    fn minutes(&self) -> String {
        if self.minute == "0" && self.second.is_empty() && !self.hour.contains('/') {
            return "every hour".to_owned();
        }
        segment(
            &self.minute,
            &Words {
                all: "every minute",
                single: &|minutes| format!("at {minutes} minutes past the hour"),
                step: &|step| format!("every {step} minutes"),
                range: &|from, to| format!("minutes {from} through {to} past the hour"),
                item: &plain_item,
            },
        )
    }
}

fn seconds(field: &str) -> String {
    segment(
        field,
        &Words {
            all: "every second",
            single: &|seconds| format!("at {seconds} seconds past the minute"),
            step: &|step| format!("every {step} seconds"),
            range: &|from, to| format!("seconds {from} through {to} past the minute"),
            item: &plain_item,
        },
    )
}

fn hours(field: &str) -> String {
    segment(
        field,
        &Words {
            all: "every hour",
            single: &|times| format!("at {times}"),
            step: &|step| format!("every {step} hours"),
            range: &|from, to| format!("between {from} and {}", to.replacen(":00", ":59", 1)),
            item: &|hour| clock(hour, "0", ""),
        },
    )
}

fn day_of_month(field: &str) -> String {
    prefixed(segment(
        field,
        &Words {
            all: "",
            single: &|days| format!("on day {days} of the month"),
            step: &|step| format!("every {step} days"),
            range: &|from, to| format!("between day {from} and {to} of the month"),
            item: &plain_item,
        },
    ))
}

fn day_of_week(field: &str, day_of_month_too: bool) -> String {
    // With both day fields restricted either one fires, hence the "and".
    let lead = if day_of_month_too { "and on" } else { "only on" };
    prefixed(segment(
        field,
        &Words {
            all: "",
            single: &|days| format!("{lead} {days}"),
            step: &|step| format!("every {step} days of the week"),
            range: &|from, to| format!("{from} through {to}"),
            item: &|day| name(&DAY_NAMES, day, 0),
        },
    ))
}

fn month(field: &str) -> String {
    prefixed(segment(
        field,
        &Words {
            all: "",
            single: &|months| format!("only in {months}"),
            step: &|step| format!("every {step} months"),
            range: &|from, to| format!("{from} through {to}"),
            item: &|month| name(&MONTH_NAMES, month, 1),
        },
    ))
}

/// How one field words its forms; `item` words a single value.
struct Words<'a> {
    all: &'a str,
    single: &'a dyn Fn(&str) -> String,
    step: &'a dyn Fn(&str) -> String,
    range: &'a dyn Fn(&str, &str) -> String,
    item: &'a dyn Fn(&str) -> String,
}

fn segment(field: &str, words: &Words<'_>) -> String {
    if field.is_empty() {
        return String::new();
    }
    if field == "*" {
        return words.all.to_owned();
    }
    if field.contains(',') {
        let items: Vec<String> = field.split(',').map(|part| list_item(part, words)).collect();
        return (words.single)(&listed(&items));
    }
    let range = |from: &str, to: &str| (words.range)(&(words.item)(from), &(words.item)(to));
    if let Some((base, step)) = field.split_once('/') {
        let every = (words.step)(step);
        return match base.split_once('-') {
            Some((from, to)) => format!("{every}, {}", range(from, to)),
            None if base == "*" => every,
            None => format!("{every}, starting {}", (words.single)(&(words.item)(base))),
        };
    }
    match field.split_once('-') {
        Some((from, to)) => range(from, to),
        None => (words.single)(&(words.item)(field)),
    }
}

fn list_item(part: &str, words: &Words<'_>) -> String {
    match part.split_once('-') {
        Some((from, to)) => format!("{} through {}", (words.item)(from), (words.item)(to)),
        None => (words.item)(part),
    }
}

fn listed(items: &[String]) -> String {
    match items {
        [] => String::new(),
        [one] => one.clone(),
        [one, two] => format!("{one} and {two}"),
        [most @ .., last] => format!("{}, and {last}", most.join(", ")),
    }
}

fn plain_item(value: &str) -> String {
    value.parse::<u32>().map_or_else(|_| value.to_owned(), |number| number.to_string())
}

fn name(names: &[&str], value: &str, first: usize) -> String {
    let index = value.parse::<usize>().ok().and_then(|number| number.checked_sub(first));
    index.and_then(|index| names.get(index)).map_or_else(|| value.to_owned(), ToString::to_string)
}

/// `02:30 AM`, with seconds only where they are set.
fn clock(hour: &str, minute: &str, second: &str) -> String {
    let number = |text: &str| text.parse::<u32>().unwrap_or(0);
    let (half, hour) = (if number(hour) < 12 { "AM" } else { "PM" }, number(hour) % 12);
    let hour = if hour == 0 { 12 } else { hour };
    match second {
        "" => format!("{hour:02}:{:02} {half}", number(minute)),
        _ => format!("{hour:02}:{:02}:{:02} {half}", number(minute), number(second)),
    }
}

fn is_plain(field: &str) -> bool {
    !field.contains(['*', '/', '-', ','])
}

fn is_plain_list(field: &str) -> bool {
    field.contains(',') && !field.contains(['*', '/', '-'])
}

fn plain_range(field: &str) -> Option<(&str, &str)> {
    field.split_once('-').filter(|_| !field.contains(['/', ',', '*']))
}

/// `*/1` is `*`, and a step from the first value is a step of all.
fn simplified(field: &str, first: &str) -> String {
    let field = match field.strip_prefix(&format!("{first}/")) {
        Some(step) => format!("*/{step}"),
        None => field.to_owned(),
    };
    if field == "*/1" { "*".to_owned() } else { field }
}

fn numbered(field: &str, names: &[&str], first: usize) -> String {
    names
        .iter()
        .enumerate()
        .fold(field.to_owned(), |text, (at, name)| text.replace(name, &(at + first).to_string()))
}

fn prefixed(text: String) -> String {
    if text.is_empty() { text } else { format!(", {text}") }
}

fn capitalised(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|first| first.to_uppercase().collect::<String>() + chars.as_str()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::describe;

    #[test]
    fn describes_the_table_of_the_spec() {
        for (cron, expected) in [
            ("30 2 * * *", "At 02:30 AM"),
            ("0 3 * * 1-5", "At 03:00 AM, Monday through Friday"),
            ("*/15 * * * *", "Every 15 minutes"),
            ("30 2 1 * *", "At 02:30 AM, on day 1 of the month"),
            ("0 23 * * SAT", "At 11:00 PM, only on Saturday"),
            ("0 0 12 * * *", "At 12:00 PM"),
            ("15 6,18 * * *", "At 06:15 AM and 06:15 PM"),
            ("0 */8 * * *", "At 0 minutes past the hour, every 8 hours"),
            ("30 */2 * * 0", "At 30 minutes past the hour, every 2 hours, only on Sunday"),
            ("0 9-17 * * *", "Every hour, between 09:00 AM and 05:59 PM"),
            (
                "*/10 8-17 * * MON-FRI",
                "Every 10 minutes, between 08:00 AM and 05:59 PM, Monday through Friday",
            ),
            ("45 3 * * 1,4", "At 03:45 AM, only on Monday and Thursday"),
            ("10 1 * 7 *", "At 01:10 AM, only in July"),
            ("0 12 1 1 *", "At 12:00 PM, on day 1 of the month, only in January"),
            ("15 14 1 */3 *", "At 02:15 PM, on day 1 of the month, every 3 months"),
            ("0 0 1,15 * *", "At 12:00 AM, on day 1 and 15 of the month"),
            ("20 5 1-7 * SUN", "At 05:20 AM, between day 1 and 7 of the month, and on Sunday"),
            ("10 30 4 * * *", "At 04:30:10 AM"),
            ("* * * * *", "Every minute"),
            ("@daily", ""),
            ("@every 15s", ""),
        ] {
            assert_eq!(describe(cron), expected, "{cron}");
        }
    }

    #[test]
    fn describes_what_the_table_leaves_out() {
        for (cron, expected) in [
            ("0 * * * *", "Every hour"),
            ("30 * * * *", "At 30 minutes past the hour"),
            ("*/5 15 * * *", "Every 5 minutes, between 03:00 PM and 03:59 PM"),
            ("0 8-18/2 * * *", "At 0 minutes past the hour, every 2 hours, between 08:00 AM and 06:59 PM"),
            ("0 0 1,10,20 * *", "At 12:00 AM, on day 1, 10, and 20 of the month"),
            ("0 0 */2 * *", "At 12:00 AM, every 2 days"),
            ("CRON_TZ=Europe/Oslo 30 2 * * *", "At 02:30 AM"),
            ("0 5 ? * sat,sun", "At 05:00 AM, only on Saturday and Sunday"),
            ("0-10 11 * * *", "Every minute between 11:00 AM and 11:10 AM"),
            ("*/30 * * * * *", "Every 30 seconds"),
            ("bad", ""),
            ("", ""),
        ] {
            assert_eq!(describe(cron), expected, "{cron}");
        }
    }
}
