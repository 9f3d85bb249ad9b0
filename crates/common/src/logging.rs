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
/// The HTTP, TLS and SQL libraries are kept at `warn` unless the level is `debug`.
pub fn init(settings: LogSettings) {
    let level = match settings.level {
        LogLevel::Error => "error",
        LogLevel::Warn => "warn",
        LogLevel::Info => "info",
        LogLevel::Debug => "debug",
    };
    let quiet = if settings.level == LogLevel::Error { "error" } else { "warn" };
    let filter = EnvFilter::new(format!(
        "{level},hyper={quiet},hyper_util={quiet},h2={quiet},rustls={quiet},reqwest={quiet},aws={quiet},\
         aws_config={quiet},aws_smithy_runtime={quiet},aws_smithy_runtime_api={quiet},aws_sdk_s3={quiet},\
         aws_sigv4={quiet},scylla={quiet},s3s={quiet},tower={quiet}"
    ));
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
