//! Logs of the daemons: JSON lines by default, one constant sentence with fields.

use serde::{Deserialize, Serialize};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::writer::BoxMakeWriter;

/// Where log lines go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogMode {
    /// Standard error.
    #[default]
    Stderr,
    /// Standard output.
    Stdout,
}

/// The lowest level that is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// A person must look.
    Error,
    /// Unexpected, went on.
    #[serde(alias = "warning")]
    Warn,
    /// State changes.
    #[default]
    Info,
    /// One line per request and more.
    Debug,
}

/// Shape of a line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogEncoding {
    /// One JSON object a line.
    #[default]
    Json,
    /// For people.
    Console,
}

/// What [`init`] needs to know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogSettings {
    /// Where lines go.
    pub mode: LogMode,
    /// Lowest level.
    pub level: LogLevel,
    /// Shape of a line.
    pub encoding: LogEncoding,
    /// Human-readable whatever the encoding says.
    pub development: bool,
}

/// Installs the subscriber of the process. A second call changes nothing, so tests may call it at will.
///
/// The HTTP, TLS, storage and CQL libraries are kept at `warn`.
pub fn init(settings: LogSettings) {
    let level = match settings.level {
        LogLevel::Error => "error",
        LogLevel::Warn => "warn",
        LogLevel::Info => "info",
        LogLevel::Debug => "debug",
    };
    let filter = EnvFilter::new(directives(level));
    let writer = match settings.mode {
        LogMode::Stderr => BoxMakeWriter::new(std::io::stderr),
        LogMode::Stdout => BoxMakeWriter::new(std::io::stdout),
    };
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer);
    // An error only says that a subscriber is installed already.
    let _ = if settings.encoding == LogEncoding::Json && !settings.development {
        builder.json().flatten_event(true).with_current_span(true).with_span_list(false).try_init()
    } else {
        builder.with_ansi(false).try_init()
    };
}

/// Filter of a level. Targets match by prefix, so that of the CQL driver would silence our own programs too.
fn directives(level: &str) -> String {
    let quiet = if level == "error" { "error" } else { "warn" };
    format!(
        "{level},hyper={quiet},hyper_util={quiet},h2={quiet},rustls={quiet},reqwest={quiet},aws={quiet},\
         aws_config={quiet},aws_smithy_runtime={quiet},aws_smithy_runtime_api={quiet},aws_sdk_s3={quiet},\
         aws_sigv4={quiet},scylla={quiet},scylla_manager={level},s3s={quiet},tower={quiet}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_quiet_and_our_programs_are_not() {
        for (level, ours, theirs) in
            [("info", true, false), ("debug", true, false), ("warn", false, false), ("error", false, false)]
        {
            let filter = EnvFilter::new(directives(level));
            let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::sink);
            tracing::subscriber::with_default(subscriber.finish(), || {
                let enabled = [
                    tracing::enabled!(target: "scylla_manager_agent::agent", tracing::Level::INFO),
                    tracing::enabled!(target: "scylla_manager::run", tracing::Level::INFO),
                    tracing::enabled!(target: "testbed", tracing::Level::INFO),
                    tracing::enabled!(target: "scylla::transport", tracing::Level::INFO),
                    tracing::enabled!(target: "hyper_util::client", tracing::Level::INFO),
                ];
                assert_eq!(enabled, [ours, ours, ours, theirs, theirs], "{level}");
            });
        }
    }
}
