//! What can be wrong with a command line, in the exact words of the original (spec/sctool.md 1.6).
//!
//! The nearest known name is appended as a hint where there is one; the text before the hint never changes.

/// A command line that cannot be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ArgError {
    /// `--bogus`; `hint` is the nearest long flag.
    #[error("unknown flag: --{name}{}", did_you_mean(.hint))]
    UnknownFlag { name: String, hint: Option<String> },
    /// `-T`, alone or in a group such as `-aT`.
    #[error("unknown shorthand flag: '{short}' in {token}{}", did_you_mean(.hint))]
    UnknownShorthand { short: char, token: String, hint: Option<String> },
    /// `--location` as the last word.
    #[error("flag needs an argument: --{name}")]
    LongNeedsArgument { name: String },
    /// `-L` as the last word.
    #[error("flag needs an argument: '{short}' in {token}")]
    ShortNeedsArgument { short: char, token: String },
    /// A value that its grammar refuses; `flag` is `-i, --interval` or `--cron`.
    #[error("invalid argument {value:?} for {flag:?} flag: {reason}")]
    InvalidValue { value: String, flag: String, reason: String },
    /// A word that is neither a command nor wanted as an argument.
    #[error("unknown command {word:?} for {path:?}{}", did_you_mean(.hint))]
    UnknownCommand { word: String, path: String, hint: Option<String> },
    /// A command with exactly one argument got another number of them.
    #[error("accepts {wanted} arg(s), received {received}")]
    WrongCount { wanted: usize, received: usize },
    /// A command with an optional argument got too many.
    #[error("accepts at most {limit} arg(s), received {received}")]
    TooMany { limit: usize, received: usize },
    /// Required flags that are missing, in the order of their names.
    #[error("required flag(s) {} not set", quoted(.0))]
    MissingFlags(Vec<String>),
    /// An argument that is not UTF-8 or otherwise unusable; clap's own words.
    #[error("{0}")]
    Other(String),
}

fn did_you_mean(hint: &Option<String>) -> String {
    hint.as_ref().map(|hint| format!(", did you mean {hint}?")).unwrap_or_default()
}

fn quoted(names: &[String]) -> String {
    names.iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", ")
}
