//! Sizes and rates as the original's file engine writes them: `50M`, `off`, `10M:1M` (spec agent.md 2.6.1).
//!
//! The one surprise: a bare number counts KiB, not bytes.

use std::fmt;
use std::str::FromStr;

const UNITS: [(char, u64); 6] =
    [('b', 1), ('k', 1 << 10), ('M', 1 << 20), ('G', 1 << 30), ('T', 1 << 40), ('P', 1 << 50)];

/// Bytes, or bytes per second; `None` stands for `off`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct SizeSuffix(pub Option<u64>);

/// A text that is not a size.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{input:?} is not a size; expected a number with an optional suffix b, k, M, G, T or P, or \"off\"")]
pub struct InvalidSize {
    input: String,
}

impl SizeSuffix {
    /// The number of bytes; `off` and `0` are both "no limit" for rates.
    pub fn limit(self) -> Option<u64> {
        self.0.filter(|bytes| *bytes > 0)
    }
}

impl FromStr for SizeSuffix {
    type Err = InvalidSize;

    fn from_str(input: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidSize { input: input.to_owned() };
        if input.eq_ignore_ascii_case("off") {
            return Ok(Self(None));
        }
        let last = input.chars().last().ok_or_else(invalid)?;
        let unit = UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(&last));
        let (digits, factor) = match unit {
            Some((_, factor)) => (&input[..input.len() - 1], *factor),
            None => (input, 1 << 10),
        };
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
            return Err(invalid());
        }
        let bytes = match digits.parse::<u64>() {
            Ok(whole) => whole.checked_mul(factor).ok_or_else(invalid)?,
            Err(_) => (digits.parse::<f64>().map_err(|_| invalid())? * factor as f64) as u64,
        };
        // The original keeps sizes in a signed number.
        if bytes > i64::MAX as u64 { Err(invalid()) } else { Ok(Self(Some(bytes))) }
    }
}

impl fmt::Display for SizeSuffix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(bytes) = self.0 else { return f.write_str("off") };
        let (name, unit) = UNITS.iter().rev().find(|(_, unit)| bytes >= *unit).unwrap_or(&UNITS[0]);
        match (name, bytes.is_multiple_of(*unit)) {
            // Below one KiB the original prints no suffix, although it would read that as KiB.
            ('b', _) => write!(f, "{bytes}"),
            (_, true) => write!(f, "{}{name}", bytes / unit),
            (_, false) => write!(f, "{:.3}{name}", bytes as f64 / *unit as f64),
        }
    }
}

/// A rate limit for both directions, or `<up>:<down>`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RatePair {
    /// Bytes per second that leave the node.
    pub up: SizeSuffix,
    /// Bytes per second that arrive.
    pub down: SizeSuffix,
}

impl FromStr for RatePair {
    type Err = InvalidSize;

    fn from_str(input: &str) -> Result<Self, Self::Err> {
        let (up, down) = input.split_once(':').unwrap_or((input, input));
        Ok(Self { up: up.parse()?, down: down.parse()? })
    }
}

impl RatePair {
    /// One limit for both directions.
    pub fn both(bytes_per_second: Option<u64>) -> Self {
        Self { up: SizeSuffix(bytes_per_second), down: SizeSuffix(bytes_per_second) }
    }
}

impl fmt::Display for RatePair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let canonical = |rate: SizeSuffix| SizeSuffix(rate.limit());
        canonical(self.up).fmt(f)?;
        if canonical(self.up) != canonical(self.down) {
            write!(f, ":{}", canonical(self.down))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read() {
        for (input, bytes) in [
            ("50M", Some(50 << 20)),
            ("1", Some(1024)),
            ("7b", Some(7)),
            ("1.5k", Some(1536)),
            ("2g", Some(2 << 30)),
            ("0", Some(0)),
            ("0M", Some(0)),
            ("off", None),
            ("OFF", None),
        ] {
            assert_eq!(input.parse::<SizeSuffix>().unwrap().0, bytes, "{input}");
        }
        for bad in ["", "M", "-1", "1X", "1MB", " 1M", "1e3", "1..2M", "99999999999P", "é"] {
            assert!(bad.parse::<SizeSuffix>().is_err(), "{bad}");
        }
    }

    #[test]
    fn rates_are_printed_canonically() {
        for (input, printed) in [
            ("100M", "100M"),
            ("102400", "100M"),
            ("1536b", "1.500k"),
            ("0", "off"),
            ("0M", "off"),
            ("off", "off"),
            ("10M:1M", "10M:1M"),
            ("10M:10M", "10M"),
            ("off:1M", "off:1M"),
            ("100b", "100"),
        ] {
            assert_eq!(input.parse::<RatePair>().unwrap().to_string(), printed, "{input}");
        }
        assert!("1M:2M:3M".parse::<RatePair>().is_err());
    }
}
