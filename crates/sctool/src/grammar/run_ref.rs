//! Which run of a task: an ID, `latest`, or `~N` (spec/sctool.md 2.15).

use std::fmt;
use std::str::FromStr;

use common::ids::{InvalidUuid, RunId};

/// A run as typed; the server resolves it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RunRef {
    #[default]
    Latest,
    /// The N-th run before the last.
    Before(u32),
    Id(RunId),
}

impl FromStr for RunRef {
    type Err = InvalidUuid;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidUuid { input: text.to_owned() };
        match (text, text.strip_prefix('~')) {
            ("latest" | "", _) | (_, Some("")) => Ok(Self::Latest),
            (_, Some(count)) => count.parse().map(Self::Before).map_err(|_| invalid()),
            _ => text.parse().map(Self::Id),
        }
    }
}

impl fmt::Display for RunRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Latest => f.write_str("latest"),
            Self::Before(count) => write!(f, "~{count}"),
            Self::Id(id) => id.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_latest_counted_or_named() {
        let id = "0f6b8c1a-5d20-11f1-9a3e-02420a000105";
        for (text, wire) in [("latest", "latest"), ("~", "latest"), ("~0", "~0"), ("~2", "~2"), (id, id)] {
            assert_eq!(text.parse::<RunRef>().expect(text).to_string(), wire);
        }
        assert_eq!("foo".parse::<RunRef>().expect_err("no run").to_string(), "invalid UUID \"foo\"");
        assert!("~x".parse::<RunRef>().is_err());
    }
}
