//! One glob of `-K`, `--dc` or `--host`, as it goes on the wire.

use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;

/// A glob as typed, except that `\!` in front becomes `!`: interactive shells need the backslash, the manager does
/// not (spec/sctool.md 3.6).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern(String);

impl FromStr for Pattern {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(match text.strip_prefix("\\!") {
            Some(rest) => format!("!{rest}"),
            None => text.to_owned(),
        }))
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
