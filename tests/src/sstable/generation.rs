//! Generation IDs of SSTables: a small integer, or a time-UUID in four base-36 fields.

use std::fmt;
use std::str::FromStr;

const TICKS_PER_SECOND: u64 = 10_000_000;
const SECONDS_PER_DAY: u64 = 86_400;
/// Seconds from the start of the Gregorian calendar (UUID time) to the Unix epoch.
const GREGORIAN_TO_UNIX: u64 = 12_219_292_800;

/// Generation of one SSTable, unique within a table; ordered as written: integers first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Generation {
    /// Restarts from 1 after data loss, so a name can come back with other content.
    Integer(u64),
    /// Never repeats: 100-ns ticks since 1582-10-15 and the low half of the UUID.
    Uuid { ticks: u64, low: u64 },
}

impl Generation {
    /// UUID generation of a Unix time in seconds, further 100-ns ticks, and the UUID's low half.
    pub fn from_time(unix_seconds: u64, ticks: u64, low: u64) -> Self {
        Self::Uuid { ticks: (unix_seconds + GREGORIAN_TO_UNIX) * TICKS_PER_SECOND + ticks, low }
    }

    /// True for IDs that never come back.
    pub fn is_uuid(self) -> bool {
        matches!(self, Self::Uuid { .. })
    }

    /// The ID as a UUID, for the `sstables` list of a snapshot manifest; `None` for integers.
    pub fn as_uuid(self) -> Option<uuid::Uuid> {
        let Self::Uuid { ticks, low } = self else { return None };
        let time_low = ticks & 0xffff_ffff;
        let time_mid = (ticks >> 32) & 0xffff;
        let time_high = (ticks >> 48) & 0x0fff;
        let high = (time_low << 32) | (time_mid << 16) | 0x1000 | time_high;
        Some(uuid::Uuid::from_u64_pair(high, low))
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Integer(n) => write!(f, "{n}"),
            Self::Uuid { ticks, low } => {
                let seconds = ticks / TICKS_PER_SECOND;
                let days = base36(seconds / SECONDS_PER_DAY, 4);
                let second_of_day = base36(seconds % SECONDS_PER_DAY, 4);
                let fraction = base36(ticks % TICKS_PER_SECOND, 5);
                write!(f, "{days}_{second_of_day}_{fraction}{}", base36(low, 13))
            }
        }
    }
}

/// The text is no generation ID.
#[derive(Debug, thiserror::Error)]
#[error(
    "{0:?} is not an SSTable generation; expected an integer or dddd_ssss_xxxxx and 13 base-36 characters"
)]
pub struct InvalidGeneration(String);

impl FromStr for Generation {
    type Err = InvalidGeneration;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Ok(n) = text.parse() {
            return Ok(Self::Integer(n));
        }
        parse_uuid(text).ok_or_else(|| InvalidGeneration(text.to_owned()))
    }
}

fn parse_uuid(text: &str) -> Option<Generation> {
    let mut fields = text.split('_');
    let (days, seconds, rest) = (fields.next()?, fields.next()?, fields.next()?);
    if fields.next().is_some() || days.len() != 4 || seconds.len() != 4 || rest.len() != 18 {
        return None;
    }
    let number = |field: &str| u64::from_str_radix(field, 36).ok();
    let seconds = number(days)? * SECONDS_PER_DAY + number(seconds)?;
    let ticks = seconds * TICKS_PER_SECOND + number(rest.get(..5)?)?;
    Some(Generation::Uuid { ticks, low: number(rest.get(5..)?)? })
}

fn base36(mut number: u64, width: usize) -> String {
    const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
    let mut digits = vec![b'0'; width];
    for place in digits.iter_mut().rev() {
        *place = DIGITS[(number % 36) as usize];
        number /= 36;
    }
    digits.into_iter().map(char::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn real_names_round_trip() {
        for text in ["1", "42", "3gsm_0lob_1zdg02we44my8dy25w"] {
            assert_eq!(text.parse::<Generation>().unwrap().to_string(), text);
        }
        for text in [
            "",
            "x",
            "3gsm_0lob_1zdg02we44my8dy25",
            "3gsm-0lob-1zdg02we44my8dy25w",
            "3g!m_0lob_1zdg02we44my8dy25w",
        ] {
            assert!(text.parse::<Generation>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_uuid_of_a_real_name_is_a_time_uuid() {
        let uuid = "3gsm_0lob_1zdg02we44my8dy25w".parse::<Generation>().unwrap().as_uuid().unwrap();
        assert_eq!(uuid.get_version_num(), 1);
        let (seconds, _) = uuid.get_timestamp().unwrap().to_unix();
        let day = chrono::DateTime::from_timestamp(seconds as i64, 0).unwrap().date_naive();
        assert_eq!(day.to_string()[..3], *"202");
    }

    proptest! {
        #[test]
        fn any_time_round_trips(seconds in 0u64..4_000_000_000, ticks in 0u64..TICKS_PER_SECOND, low: u64) {
            let generation = Generation::from_time(seconds, ticks, low);
            prop_assert_eq!(generation.to_string().parse::<Generation>().unwrap(), generation);
        }
    }
}
