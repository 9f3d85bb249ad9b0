//! Everything that can end a command, and how it is printed (spec/sctool.md 1.5).

use std::io::{self, Write};
use std::sync::LazyLock;

use common::api::ApiError;
use common::http_client::ClientError;
use regex::Regex;
use reqwest::Method;

use crate::args::ArgError;
use crate::grammar::task_ref::TaskRefError;

/// Why a command did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// The command line is wrong.
    #[error(transparent)]
    Args(#[from] ArgError),
    /// No task fits the reference.
    #[error(transparent)]
    TaskRef(#[from] TaskRefError),
    /// The server answered with an error; `prefix` is what this program puts before it.
    #[error("{prefix}{error}")]
    Server { prefix: String, error: ApiError },
    /// No usable answer.
    #[error("{0}")]
    Request(String),
    /// Anything that this program finds wrong by itself.
    #[error("{0}")]
    Text(String),
    /// stdout or stderr cannot be written.
    #[error("write output: {0}")]
    Output(#[from] io::Error),
    /// A followed run ended otherwise than DONE; it was printed already.
    #[error("run is not done")]
    RunNotDone,
}

impl CliError {
    pub fn text(message: impl Into<String>) -> Self {
        Self::Text(message.into())
    }

    /// Puts `prefix: ` before the message.
    pub fn prefixed(self, prefix: &str) -> Self {
        match self {
            Self::Server { prefix: inner, error } => {
                Self::Server { prefix: format!("{prefix}: {inner}"), error }
            }
            Self::Output(_) | Self::RunNotDone => self,
            other => Self::Text(format!("{prefix}: {other}")),
        }
    }

    /// True where the reader has gone away: nobody is left to tell.
    pub fn is_broken_pipe(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }
}

impl From<ClientError> for CliError {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::Api(error) => Self::Server { prefix: String::new(), error },
            ClientError::Connect { method, url, source } => {
                let hint = if got_through(source.as_ref()) {
                    went_away(&method)
                } else {
                    "is scylla-manager running there? see --api-url"
                };
                unanswered(&method, &url, source.as_ref(), hint)
            }
            ClientError::Body { method, url, source } => {
                unanswered(&method, &url, source.as_ref(), went_away(&method))
            }
            other => Self::Request(common::error::chain(&other)),
        }
    }
}

fn unanswered(
    method: &Method,
    url: &str,
    source: &(dyn std::error::Error + 'static),
    hint: &str,
) -> CliError {
    let reason = root_cause(source);
    CliError::Request(format!("{} {url:?}: {reason} ({hint})", go_method(method.as_str())))
}

/// Whether there was a connection, so that the other side may have got the request.
fn got_through(source: &(dyn std::error::Error + 'static)) -> bool {
    source.downcast_ref::<reqwest::Error>().is_some_and(|error| !error.is_connect())
}

/// What to do when the manager got a request and never answered it.
fn went_away(method: &Method) -> &'static str {
    if *method == Method::GET {
        "scylla-manager went away before it answered, is it being restarted? Try again"
    } else {
        "scylla-manager went away before it answered, is it being restarted? It may have done what was asked for: look \
         before you try again, e.g. with sctool tasks"
    }
}

/// `Get` for `GET`: how the original's HTTP library names methods in errors.
fn go_method(method: &str) -> String {
    let mut chars = method.chars();
    chars.next().map(|first| first.to_string() + &chars.as_str().to_lowercase()).unwrap_or_default()
}

/// The innermost cause, without the number of the operating system's error.
fn root_cause(error: &(dyn std::error::Error + 'static)) -> String {
    let mut deepest = error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    if let Some(io) = deepest.downcast_ref::<io::Error>()
        && io.kind() == io::ErrorKind::ConnectionRefused
    {
        return "connection refused".to_owned();
    }
    let text = deepest.to_string();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}

/// Prints an error, with the empty line that always follows.
pub fn print(error: &CliError, err: &mut dyn Write) -> io::Result<()> {
    match error {
        CliError::RunNotDone => Ok(()),
        CliError::Server { error: server, .. } => {
            if !server.details.is_empty() {
                write!(err, "{}\n\n", server.details.trim_end())?;
            }
            writeln!(err, "Error: {}", split_hosts(&error.to_string()))?;
            if !server.trace_id.is_empty() {
                writeln!(err, "Trace ID: {} (grep in scylla-manager logs)", server.trace_id)?;
            }
            writeln!(err)
        }
        _ => write!(err, "Error: {error}\n\n"),
    }
}

/// Puts each host of a joined message on a line of its own: `a: 10.0.0.1: x; 10.0.0.2: y`.
pub fn split_hosts(message: &str) -> String {
    static HOST: LazyLock<Regex> = LazyLock::new(|| {
        let ip = r"(?:\d{1,3}\.){3}\d{1,3}|(?:[0-9a-fA-F]{1,4}:){7}[0-9a-fA-F]{1,4}";
        Regex::new(&format!(r"(?:^|: |; )({ip}): ")).expect("a constant expression")
    });
    HOST.replace_all(message, "\n $1: ").into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(error: &CliError) -> String {
        let mut text = Vec::new();
        print(error, &mut text).expect("memory");
        String::from_utf8(text).expect("UTF-8")
    }

    fn server(message: &str, details: &str) -> CliError {
        CliError::Server {
            prefix: String::new(),
            error: ApiError {
                status: http_status(),
                message: message.to_owned(),
                details: details.to_owned(),
                trace_id: "Xk3Yt0aQS2ybTz8m4mW1eA".to_owned(),
            },
        }
    }

    fn http_status() -> reqwest::StatusCode {
        reqwest::StatusCode::BAD_REQUEST
    }

    #[test]
    fn hosts_get_their_own_lines() {
        let text = "get backup target: location is not accessible: 10.20.0.11: operation put: bucket missing; \
                    10.20.0.12: operation put: bucket missing";
        insta::assert_snapshot!(printed(&server(text, "")), @r"
        Error: get backup target: location is not accessible
         10.20.0.11: operation put: bucket missing
         10.20.0.12: operation put: bucket missing
        Trace ID: Xk3Yt0aQS2ybTz8m4mW1eA (grep in scylla-manager logs)
        ");
    }

    #[test]
    fn splitting_follows_separators_only() {
        for (text, expected) in [
            ("10.0.0.1: down", "\n 10.0.0.1: down"),
            ("a: 2001:0:0:0:0:0:0:1: down", "a\n 2001:0:0:0:0:0:0:1: down"),
            ("dial 10.0.0.1: refused", "dial 10.0.0.1: refused"),
            ("no host: here", "no host: here"),
        ] {
            assert_eq!(split_hosts(text), expected);
        }
    }

    #[test]
    fn details_come_first_and_prefixes_stay() {
        let error = server("stop task: not found", "look\ncloser\n").prefixed("stop");
        assert_eq!(
            printed(&error),
            "look\ncloser\n\nError: stop: stop task: not found\n\
             Trace ID: Xk3Yt0aQS2ybTz8m4mW1eA (grep in scylla-manager logs)\n\n"
        );
        assert_eq!(printed(&CliError::text("nothing to do")), "Error: nothing to do\n\n");
    }
}
