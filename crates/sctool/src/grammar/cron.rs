//! The value of `--cron` (spec/sctool.md 3.3).
//!
//! The manager evaluates it; the client only refuses what can never work, so that the error comes with the flag.
//! The value keeps the text as typed, because that is what goes on the wire.

use std::fmt;
use std::str::FromStr;

use common::cron::{Cron, InvalidCron};

/// A valid cron expression, or the empty text that removes a schedule on update.
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

impl FromStr for CronExpr {
    type Err = InvalidCron;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if !text.is_empty() {
            text.parse::<Cron>()?;
        }
        Ok(Self(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_what_was_typed() {
        for text in ["30 2 * * *", "0 0 12 * * *", "@every 7d", "CRON_TZ=Europe/Oslo 30 2 * * *", ""] {
            assert_eq!(text.parse::<CronExpr>().map(|cron| cron.0), Ok(text.to_owned()));
        }
    }

    #[test]
    fn refuses_with_the_words_of_the_original() {
        for (text, expected) in [
            ("bad", "expected 5 to 6 fields, found 1: [bad]"),
            ("0 0 * * 7", "end of range (7) above maximum (6): 7"),
            ("@never", "unrecognized descriptor: @never"),
        ] {
            assert_eq!(text.parse::<CronExpr>().expect_err(text).to_string(), expected);
        }
    }
}
