//! The configuration file: strict YAML, checked once, then only read (spec manager.md 1.4).
//!
//! Keys that only the original's back end needs are accepted and ignored, so that an operator can keep the file.

mod check;

use std::path::{Path, PathBuf};
use std::time::Duration;

use common::logging::{LogEncoding, LogLevel, LogMode, LogSettings};
use common::retry::Backoff;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::Secret;

pub use check::ConfigError;

/// Where the file is unless `-c` says otherwise.
pub const DEFAULT_CONFIG_FILE: &str = "/etc/scylla-manager/scylla-manager.yaml";

macro_rules! section {
    ($(#[$meta:meta])* $name:ident { $($(#[$fmeta:meta])* $field:ident: $ty:ty = $default:expr,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct $name { $($(#[$fmeta])* pub $field: $ty,)* }

        impl Default for $name {
            fn default() -> Self {
                Self { $($field: $default,)* }
            }
        }
    };
}

section! {
    /// The whole file.
    Config {
        /// Address of the REST API over HTTP; empty for none.
        http: String = String::new(),
        /// Address of the REST API over HTTPS; empty for none.
        https: String = String::new(),
        /// Lowest TLS version of `https`.
        #[serde(alias = "tls_mode")]
        tls_version: String = "TLSv1.2".into(),
        /// PEM; generated when empty.
        tls_cert_file: String = String::new(),
        /// PEM; generated when empty.
        tls_key_file: String = String::new(),
        /// PEM; when set, clients must show a certificate of this authority.
        tls_ca_file: String = String::new(),
        /// Address of metrics and service discovery; empty for none.
        prometheus: String = ":5090".into(),
        /// Address for diagnosis; empty for none.
        debug: String = "127.0.0.1:5112".into(),
        /// Lifetime of a cached agent client; zero for no caching.
        #[serde(with = "go_duration")]
        client_cache_timeout: Duration = Duration::from_secs(15 * 60),
        /// Log lines.
        logger: Logger = Logger::default(),
        /// State.
        database: Database = Database::default(),
        /// Of the original's back end; ignored.
        ssl: Ssl = Ssl::default(),
        /// Pings.
        healthcheck: HealthCheck = HealthCheck::default(),
        /// Cached facts about nodes.
        config_cache: ConfigCache = ConfigCache::default(),
        /// Backups.
        backup: Backup = Backup::default(),
        /// Restores.
        restore: Restore = Restore::default(),
        /// Out of scope; checked and ignored.
        repair: Repair = Repair::default(),
        /// Calls to agents.
        agent_client: AgentClient = AgentClient::default(),
    }
}

section! {
    /// Log lines.
    Logger {
        /// Where they go.
        mode: LogMode = LogMode::Stderr,
        /// Lowest level.
        level: LogLevel = LogLevel::Info,
        /// Shape.
        encoding: LogEncoding = LogEncoding::Json,
        /// Accepted; equal lines are not dropped here.
        sampling: Option<Sampling> = None,
        /// For people.
        development: bool = false,
    }
}

section! {
    /// Accepted; equal lines are not dropped here.
    Sampling {
        /// Lines per second before sampling begins.
        initial: u64 = 0,
        /// Then every so many.
        thereafter: u64 = 0,
    }
}

section! {
    /// State. All but `path` belongs to the original's back end and is ignored.
    Database {
        /// SQLite file.
        path: PathBuf = "/var/lib/scylla-manager/scylla-manager.db".into(),
        /// Ignored.
        hosts: Vec<String> = Vec::new(),
        /// Ignored.
        port: u16 = 9042,
        /// Ignored.
        ssl: bool = false,
        /// Ignored.
        user: String = String::new(),
        /// Ignored.
        password: Secret = Secret::default(),
        /// Ignored.
        local_dc: String = String::new(),
        /// Ignored.
        keyspace: String = "scylla_manager".into(),
        /// Ignored.
        #[serde(with = "go_duration")]
        timeout: Duration = Duration::from_secs(1),
        /// Ignored.
        token_aware: bool = true,
        /// Ignored.
        replication_factor: u32 = 1,
        /// Ignored.
        #[serde(with = "go_duration")]
        migrate_timeout: Duration = Duration::from_secs(30),
        /// Ignored.
        #[serde(with = "go_duration")]
        migrate_max_wait_schema_agreement: Duration = Duration::from_secs(300),
    }
}

section! {
    /// TLS of the original's back end; ignored.
    Ssl {
        /// Ignored.
        cert_file: String = String::new(),
        /// Ignored.
        validate: bool = true,
        /// Ignored.
        user_cert_file: String = String::new(),
        /// Ignored.
        user_key_file: String = String::new(),
    }
}

section! {
    /// Pings.
    HealthCheck {
        /// Limit of one ping of any kind.
        #[serde(with = "go_duration")]
        max_timeout: Duration = Duration::from_secs(1),
        /// Without effect, as in the original.
        #[serde(with = "go_duration")]
        node_info_ttl: Duration = Duration::from_secs(300),
        /// Cron of `healthcheck/cql`.
        cql_ping_cron: String = EVERY_MINUTE.into(),
        /// Cron of `healthcheck/rest`.
        rest_ping_cron: String = EVERY_MINUTE.into(),
        /// Cron of `healthcheck/alternator`.
        alternator_ping_cron: String = EVERY_MINUTE.into(),
        /// Obsolete.
        probes: u64 = 0,
        /// Obsolete.
        #[serde(with = "go_duration")]
        relative_timeout: Duration = Duration::ZERO,
    }
}

const EVERY_MINUTE: &str = "* * * * *";

section! {
    /// Cached facts about nodes.
    ConfigCache {
        /// Time between refreshes.
        #[serde(with = "go_duration")]
        update_frequency: Duration = Duration::from_secs(300),
    }
}

section! {
    /// Backups.
    Backup {
        /// Free disk share in percent that a node needs to take a snapshot, 0 to 99.
        disk_space_free_min_percent: u8 = 10,
        /// Oldest snapshot that an interrupted backup goes on from; zero for no limit.
        #[serde(with = "go_duration")]
        age_max: Duration = Duration::from_secs(24 * 3600),
        /// Poll period of agent jobs in seconds.
        long_polling_timeout_seconds: u64 = 10,
        /// Age at which left-overs of access checks may be removed from a bucket; zero for never.
        #[serde(with = "go_duration")]
        permission_check_files_ttl: Duration = Duration::from_secs(300),
    }
}

section! {
    /// Restores.
    Restore {
        /// Free disk share in percent that a node needs to take part, 0 to 99.
        disk_space_free_min_percent: u8 = 10,
        /// Poll period of agent jobs in seconds.
        long_polling_timeout_seconds: u64 = 10,
    }
}

section! {
    /// Repairs are out of scope; the keys are checked and have no effect.
    Repair {
        /// No effect.
        #[serde(with = "go_duration")]
        status_timeout: Duration = Duration::ZERO,
        /// No effect.
        #[serde(with = "go_duration")]
        poll_interval: Duration = Duration::from_millis(50),
        /// No effect.
        long_polling_timeout_seconds: u64 = 10,
        /// No effect.
        #[serde(with = "go_duration")]
        age_max: Duration = Duration::ZERO,
        /// No effect.
        #[serde(with = "go_duration")]
        graceful_stop_timeout: Duration = Duration::from_secs(30),
        /// No effect.
        force_repair_type: RepairType = RepairType::Auto,
        /// No effect.
        murmur3_partitioner_ignore_msb_bits: u32 = 12,
    }
}

/// Kinds of repair of the original.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RepairType {
    /// By cluster.
    Auto,
    /// Row level.
    RowLevel,
    /// Before row level.
    Legacy,
}

section! {
    /// Calls to agents.
    AgentClient {
        /// Limit of one request.
        #[serde(with = "go_duration")]
        timeout: Duration = Duration::from_secs(30),
        /// Most that a limit grows to when it is doubled after a timeout.
        #[serde(with = "go_duration")]
        max_timeout: Duration = Duration::from_secs(3600),
        /// Limit until the next piece of a listing arrives.
        #[serde(with = "go_duration")]
        list_timeout: Duration = Duration::from_secs(300),
        /// Retries of background work against one host.
        backoff: BackoffConfig = BackoffConfig::default(),
        /// Retries on behalf of an API call or a health check.
        interactive_backoff: BackoffConfig = BackoffConfig {
            wait_max: Duration::ZERO, max_retries: 1, multiplier: 0.0, jitter: 0.0, ..BackoffConfig::default()
        },
        /// Window over which response times of hosts are measured.
        #[serde(with = "go_duration")]
        pool_decay_duration: Duration = Duration::from_secs(30 * 60),
        /// Ours: PEM of the authority that signed the agents' certificates; when empty they are not verified, as in
        /// the original, because agents sign their own by default.
        tls_ca_file: String = String::new(),
    }
}

section! {
    /// Exponential back-off.
    BackoffConfig {
        /// First wait.
        #[serde(with = "go_duration")]
        wait_min: Duration = Duration::from_secs(1),
        /// Longest wait; zero for no cap.
        #[serde(with = "go_duration")]
        wait_max: Duration = Duration::from_secs(30),
        /// Retries after the first attempt.
        max_retries: u32 = 9,
        /// Factor between waits; below 1 counts as 1.
        multiplier: f64 = 2.0,
        /// Random share of a wait, 0 to 1.
        jitter: f64 = 0.2,
    }
}

impl BackoffConfig {
    /// As a policy.
    pub fn policy(&self) -> Backoff {
        Backoff {
            wait_min: self.wait_min,
            wait_max: self.wait_max,
            max_retries: self.max_retries,
            multiplier: self.multiplier,
            jitter: self.jitter,
        }
    }
}

impl Config {
    /// Reads, merges and checks files; later ones win key by key, missing ones are skipped.
    ///
    /// # Errors
    /// The first thing that is wrong, with its file and line where it has one.
    pub fn load(paths: &[PathBuf]) -> Result<Self, ConfigError> {
        let config: Self = common::config::read_yaml_files(paths)?;
        config.check(paths)?;
        Ok(config)
    }

    /// For the logger.
    pub fn log_settings(&self) -> LogSettings {
        LogSettings {
            mode: self.logger.mode,
            level: self.logger.level,
            encoding: self.logger.encoding,
            development: self.logger.development,
        }
    }

    /// The effective configuration as JSON, secrets masked, for the log.
    pub fn masked_json(&self) -> String {
        // Structs of texts and numbers: nothing that could fail to serialise.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Sections that are there for the original's sake and do nothing here; for one line in the log.
    pub fn ignored_sections(&self) -> Vec<&'static str> {
        let backend = Database { path: self.database.path.clone(), ..Database::default() };
        [
            (self.database != backend, "database (all but path)"),
            (self.ssl != Ssl::default(), "ssl"),
            (self.repair != Repair::default(), "repair"),
            (self.logger.sampling.is_some(), "logger.sampling"),
        ]
        .into_iter()
        .filter_map(|(set, name)| set.then_some(name))
        .collect()
    }
}

/// A file of the configuration, or `None` when the key is empty.
pub fn optional_path(text: &str) -> Option<&Path> {
    (!text.is_empty()).then(|| Path::new(text))
}

/// Durations as Go writes them; a bare `0` is allowed also as a number.
mod go_duration {
    use super::{Deserialize, Deserializer, Duration, Serializer};

    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Raw {
        Text(String),
        Number(i64),
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        let text = match Raw::deserialize(deserializer)? {
            Raw::Text(text) => text,
            Raw::Number(number) => number.to_string(),
        };
        common::units::parse_config_duration(&text).map_err(serde::de::Error::custom)
    }

    pub fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{duration:?}"))
    }
}
