//! Sizes, durations and per-datacenter limits: parse and print.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde_with::{DeserializeFromStr, SerializeDisplay};

/// One mebibyte: the unit of rate limits, per second.
pub const MIB: u64 = 1024 * 1024;

/// Prints bytes as the tables do: `0B`, `17.293KiB`, `1GiB` (spec sctool.md 4.1.1).
pub fn format_size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1024 {
        return format!("{bytes}B");
    }
    let mut unit = 1024_u64;
    let mut name = UNITS[0];
    for next in &UNITS[1..] {
        if bytes / unit < 1024 {
            break;
        }
        unit *= 1024;
        name = next;
    }
    if bytes.is_multiple_of(unit) {
        return format!("{}{name}", bytes / unit);
    }
    format!("{:.3}{name}", bytes as f64 / unit as f64)
}

/// A duration that cannot be read. The texts follow the original's (spec sctool.md 3.1).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidDuration {
    /// A number with a unit that is not known.
    #[error("time: unknown unit {unit} in duration {input}")]
    UnknownUnit {
        /// The refused unit.
        unit: String,
        /// The whole text.
        input: String,
    },
    /// A number without a unit.
    #[error("time: missing unit in duration {input}")]
    MissingUnit {
        /// The whole text.
        input: String,
    },
    /// Anything else.
    #[error("time: invalid duration {input}")]
    Invalid {
        /// The whole text.
        input: String,
    },
}

const TASK_UNITS: &[(&str, f64)] = &[("d", 86_400.0), ("h", 3_600.0), ("m", 60.0), ("s", 1.0)];
const CONFIG_UNITS: &[(&str, f64)] =
    &[("h", 3_600.0), ("m", 60.0), ("s", 1.0), ("ms", 1e-3), ("us", 1e-6), ("µs", 1e-6), ("ns", 1e-9)];

/// Parses `([0-9.]+unit)+` into seconds; the sign is kept.
fn parse_seconds(input: &str, units: &[(&str, f64)]) -> Result<f64, InvalidDuration> {
    let invalid = || InvalidDuration::Invalid { input: input.to_owned() };
    let (sign, mut rest) = match input.as_bytes().first() {
        Some(b'-') => (-1.0, &input[1..]),
        Some(b'+') => (1.0, &input[1..]),
        _ => (1.0, input),
    };
    if rest == "0" {
        return Ok(0.0);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let number: f64 = rest[..digits].parse().map_err(|_| invalid())?;
        rest = &rest[digits..];
        let letters = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        let unit = &rest[..letters];
        if unit.is_empty() {
            return Err(InvalidDuration::MissingUnit { input: input.to_owned() });
        }
        let Some((_, factor)) = units.iter().find(|(name, _)| *name == unit) else {
            return Err(InvalidDuration::UnknownUnit { unit: unit.to_owned(), input: input.to_owned() });
        };
        seconds += number * factor;
        rest = &rest[letters..];
    }
    Ok(sign * seconds)
}

/// A duration in a task: units `d h m s`, printed largest first with zero parts left out; zero is `""`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, SerializeDisplay, DeserializeFromStr,
)]
pub struct TaskDuration {
    milliseconds: i64,
}

impl TaskDuration {
    /// No duration; the empty text.
    pub const ZERO: Self = Self { milliseconds: 0 };

    /// A duration of whole seconds.
    pub const fn from_secs(seconds: i64) -> Self {
        Self { milliseconds: seconds * 1000 }
    }

    /// Whether it is zero, which means "not set".
    pub fn is_zero(self) -> bool {
        self.milliseconds == 0
    }

    /// As a signed chrono duration.
    pub fn to_chrono(self) -> chrono::Duration {
        chrono::Duration::milliseconds(self.milliseconds)
    }

    /// As an unsigned duration; negative ones become zero.
    pub fn to_std(self) -> Duration {
        Duration::from_millis(u64::try_from(self.milliseconds).unwrap_or(0))
    }
}

impl FromStr for TaskDuration {
    type Err = InvalidDuration;

    fn from_str(input: &str) -> Result<Self, Self::Err> {
        if input.is_empty() {
            return Ok(Self::ZERO);
        }
        let seconds = parse_seconds(input, TASK_UNITS)?;
        // 292 years, the original's own limit, keeps every later sum within range.
        if seconds.abs() > 9.2e9 {
            return Err(InvalidDuration::Invalid { input: input.to_owned() });
        }
        Ok(Self { milliseconds: (seconds * 1000.0).round() as i64 })
    }
}

impl fmt::Display for TaskDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.milliseconds < 0 {
            f.write_str("-")?;
        }
        let mut rest = self.milliseconds.unsigned_abs();
        for (unit, size) in [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000)] {
            if rest >= size {
                write!(f, "{}{unit}", rest / size)?;
                rest %= size;
            }
        }
        match (rest / 1000, rest % 1000) {
            (0, 0) => Ok(()),
            (s, 0) => write!(f, "{s}s"),
            (s, ms) => write!(f, "{}s", format!("{s}.{ms:03}").trim_end_matches('0')),
        }
    }
}

/// Parses a duration of a configuration file, Go syntax: `30s`, `1h15m`, `50ms`, `0`.
///
/// # Errors
/// Not of that form, or negative.
pub fn parse_config_duration(input: &str) -> Result<Duration, InvalidDuration> {
    let seconds = parse_seconds(input, CONFIG_UNITS)?;
    Duration::try_from_secs_f64(seconds).map_err(|_| InvalidDuration::Invalid { input: input.to_owned() })
}

/// Prints a duration as Go does, truncated to seconds: `0s`, `1m0s`, `237h2m1s`.
pub fn format_go_duration(duration: Duration) -> String {
    let total = duration.as_secs();
    let (h, m, s) = (total / 3600, total / 60 % 60, total % 60);
    if h > 0 {
        format!("{h}h{m}m{s}s")
    } else if m > 0 {
        format!("{m}m{s}s")
    } else {
        format!("{s}s")
    }
}

/// A limit for one datacenter, or for all that have none of their own: `[<dc>:]<number>`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, SerializeDisplay, DeserializeFromStr)]
pub struct DcLimit {
    /// The datacenter; absent means "everywhere else".
    pub dc: Option<String>,
    /// The limit; 0 means none.
    pub limit: u64,
}

/// A text that is not a limit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid limit {input:?}, the format is [dc:]<number>")]
pub struct InvalidDcLimit {
    /// The refused text.
    pub input: String,
}

impl DcLimit {
    /// The limit that counts for `dc` in a list: its own entry, else the one without a datacenter.
    pub fn for_dc(limits: &[Self], dc: &str) -> Option<u64> {
        let own = limits.iter().find(|l| l.dc.as_deref() == Some(dc));
        own.or_else(|| limits.iter().find(|l| l.dc.is_none())).map(|l| l.limit)
    }
}

impl fmt::Display for DcLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(dc) = &self.dc {
            write!(f, "{dc}:")?;
        }
        self.limit.fmt(f)
    }
}

impl FromStr for DcLimit {
    type Err = InvalidDcLimit;

    fn from_str(input: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidDcLimit { input: input.to_owned() };
        let (dc, number) = match input.rsplit_once(':') {
            Some((dc, number)) => (Some(dc), number),
            None => (None, input),
        };
        let dc_ok = dc.is_none_or(|d| {
            !d.is_empty() && d.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
        });
        if !dc_ok || !number.bytes().all(|b| b.is_ascii_digit()) {
            return Err(invalid());
        }
        let limit = number.parse().map_err(|_| invalid())?;
        Ok(Self { dc: dc.map(str::to_owned), limit })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (bytes, text) in [
            (0, "0B"),
            (1023, "1023B"),
            (1024, "1KiB"),
            (17_708, "17.293KiB"),
            (1 << 30, "1GiB"),
            (4_563_402_752, "4.250GiB"),
            (7 * (1 << 30) + 300, "7.000GiB"),
            (1 << 60, "1024PiB"),
        ] {
            assert_eq!(format_size(bytes), text);
        }
    }

    #[test]
    fn task_durations_are_printed_canonically() {
        for (input, text) in [
            ("24h", "1d"),
            ("7d", "7d"),
            ("90m", "1h30m"),
            ("25h", "1d1h"),
            ("36000s", "10h"),
            ("1.5h", "1h30m"),
            ("3d2h10m", "3d2h10m"),
            ("0", ""),
            ("", ""),
            ("+1s", "1s"),
            ("-7d", "-7d"),
            ("0.5s", "0.5s"),
        ] {
            assert_eq!(input.parse::<TaskDuration>().unwrap().to_string(), text, "{input}");
        }
    }

    #[test]
    fn bad_durations_name_the_fault() {
        for (input, message) in [
            ("5x", "time: unknown unit x in duration 5x"),
            ("5", "time: missing unit in duration 5"),
            ("h", "time: invalid duration h"),
            ("10ms", "time: unknown unit ms in duration 10ms"),
            ("-", "time: invalid duration -"),
            ("999999999999d", "time: invalid duration 999999999999d"),
        ] {
            assert_eq!(input.parse::<TaskDuration>().unwrap_err().to_string(), message);
        }
    }

    #[test]
    fn config_durations() {
        assert_eq!(parse_config_duration("15m0s").unwrap(), Duration::from_secs(900));
        assert_eq!(parse_config_duration("50ms").unwrap(), Duration::from_millis(50));
        assert_eq!(parse_config_duration("0").unwrap(), Duration::ZERO);
        assert!(parse_config_duration("7d").is_err());
        assert!(parse_config_duration("-1s").is_err());
        assert_eq!(format_go_duration(Duration::from_secs(853_321)), "237h2m1s");
    }

    #[test]
    fn dc_limits() {
        let limits: Vec<DcLimit> = ["berlin:2", "5"].iter().map(|l| l.parse().unwrap()).collect();
        assert_eq!(DcLimit::for_dc(&limits, "berlin"), Some(2));
        assert_eq!(DcLimit::for_dc(&limits, "oslo"), Some(5));
        assert_eq!(DcLimit::for_dc(&limits[..1], "oslo"), None);
        assert_eq!(limits[0].to_string(), "berlin:2");
        for bad in ["", "x", "dc:", ":5", "-1", "a b:1", "1.5"] {
            assert!(bad.parse::<DcLimit>().is_err(), "{bad}");
        }
    }
}
