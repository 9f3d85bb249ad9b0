//! Closed lists of words: transfer methods and retention lock modes (spec/sctool.md 2.2).

use std::fmt;
use std::str::FromStr;

macro_rules! word_enum {
    ($(#[$doc:meta])* $name:ident, $error:ident, $what:literal, $($variant:ident = $text:literal),+) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name { $($variant),+ }

        #[derive(Debug, thiserror::Error)]
        #[error("unknown {what}: {input}", what = $what)]
        pub struct $error { input: String }

        impl FromStr for $name {
            type Err = $error;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                match text {
                    $($text => Ok(Self::$variant),)+
                    _ => Err($error { input: text.to_owned() }),
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $(Self::$variant => $text),+ })
            }
        }
    };
}

word_enum!(
    /// Who moves the bytes.
    Method, InvalidMethod, "Method", Rclone = "rclone", Native = "native", Auto = "auto"
);
word_enum!(
    /// How backed up objects are locked.
    LockMode,
    InvalidLockMode,
    "retention lock mode",
    Disabled = "disabled",
    Unlocked = "unlocked",
    Locked = "locked",
    EventBasedHold = "event-based-hold"
);
