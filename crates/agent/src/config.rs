//! Configuration: YAML text checked once into typed values (spec agent.md 1.3 and 4a).
//!
//! [`load`] reads files; tests and the simulated cluster build a [`Config`] directly, every field has a
//! default. Secrets are [`Secret`]s, so that neither `Debug` nor serialising a configuration reveals one:
//! serialising is how the effective configuration gets into the log.

mod file;
mod s3;
#[cfg(test)]
mod tests;
mod values;

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use common::logging::LogSettings;
use common::units::parse_config_duration;
use serde::Serialize;

pub use common::secret::Secret;
pub use s3::{MIN_CHUNK, S3Config, S3Provider, SignPayload};
pub use values::{InvalidListenAddress, ListenAddress};

use crate::size_suffix::{RatePair, SizeSuffix};
use file::{BandwidthFile, CpuFile, File};

/// Where the daemon looks without `-c`.
pub const DEFAULT_FILE: &str = "/etc/scylla-manager-agent/scylla-manager-agent.yaml";

/// Port of the agent's API.
pub const DEFAULT_HTTPS_PORT: u16 = 10001;

/// Smallest byte budget: eight parts of the least size that S3 takes.
const MIN_TRANSFER_MEMORY: u64 = 8 * MIN_CHUNK;

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file cannot be read or parsed; the cause names file, line and key.
    #[error(transparent)]
    File(#[from] common::config::ConfigError),
    /// A value makes no sense.
    #[error(transparent)]
    Value(#[from] ConfigProblem),
}

/// A key whose value makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("configuration key {key}: {value:?} is not accepted: {hint}")]
pub struct ConfigProblem {
    key: &'static str,
    value: String,
    hint: String,
}

impl ConfigProblem {
    fn new(key: &'static str, value: &str, hint: String) -> Self {
        Self { key, value: value.to_owned(), hint }
    }
}

/// Lowest TLS version that the API speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub enum TlsVersion {
    /// 1.2, and 1.3 where the client can.
    #[default]
    #[serde(rename = "TLSv1.2")]
    V1_2,
    /// 1.3 only.
    #[serde(rename = "TLSv1.3")]
    V1_3,
}

/// Certificate and key in PEM files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CertificateFiles {
    /// Chain, leaf first.
    pub cert: PathBuf,
    /// Private key.
    pub key: PathBuf,
}

/// CPUs that the agent's threads may use.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub enum CpuChoice {
    /// Those that Scylla does not use.
    #[default]
    Auto,
    /// Exactly these.
    List(Vec<usize>),
}

/// The node's Scylla REST API.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ScyllaConfig {
    /// Address.
    pub api_address: String,
    /// Port; a text on the wire as well.
    pub api_port: String,
    /// Authority (PEM); set when the API is behind TLS.
    pub ca_file: Option<PathBuf>,
}

impl Default for ScyllaConfig {
    fn default() -> Self {
        Self { api_address: "0.0.0.0".into(), api_port: "10000".into(), ca_file: None }
    }
}

impl ScyllaConfig {
    /// `host:port`, with brackets where the host is an IPv6 address.
    pub fn authority(&self) -> String {
        authority(&self.api_address, &self.api_port)
    }

    /// `http://host:port`, or https when an authority is configured.
    pub fn base_url(&self) -> String {
        let scheme = if self.ca_file.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.authority())
    }
}

/// Joins host and port; an IPv6 host gets brackets.
pub fn authority(host: &str, port: &str) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// Engine-wide settings that have an effect here.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EngineConfig {
    /// Listings and probes at once.
    pub checkers: u32,
    /// Files in transfer at once; what `transfers: -1` in a request means.
    pub transfers: u32,
    /// Attempts per file and per request to a store.
    pub low_level_retries: u32,
    /// Requests to a store per second.
    pub tps_limit: f64,
    /// Requests that may go at once before the limit counts.
    pub tps_limit_burst: u32,
    /// A different file at the destination is an error rather than overwritten.
    pub immutable: bool,
    /// Bytes from which a download is made of ranges in parallel.
    pub multi_thread_cutoff: u64,
    /// Ranges in parallel at most.
    pub multi_thread_streams: u32,
    /// Limit for connecting to a store.
    pub connect_timeout: Duration,
    /// Limit for an idle connection to a store.
    pub timeout: Duration,
    /// Rate limit at start, bytes per second; `None` for none.
    #[serde(serialize_with = "rate_text")]
    pub bandwidth: RatePair,
    /// How storage services see us.
    pub user_agent: String,
    /// Do not verify a store's certificate.
    pub insecure_skip_verify: bool,
    /// Authority (PEM) for stores.
    pub ca_cert: Option<PathBuf>,
    /// Local address of connections to stores.
    pub bind_addr: Option<IpAddr>,
}

fn rate_text<S: serde::Serializer>(rate: &RatePair, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(rate)
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            checkers: 100,
            transfers: 2,
            low_level_retries: 20,
            tps_limit: 5000.0,
            tps_limit_burst: 1,
            immutable: false,
            multi_thread_cutoff: 262_144_000,
            multi_thread_streams: 4,
            connect_timeout: Duration::from_secs(60),
            timeout: Duration::from_secs(300),
            bandwidth: RatePair::default(),
            user_agent: format!("Scylla Manager Agent {}", common::version::VERSION),
            insecure_skip_verify: false,
            ca_cert: None,
            bind_addr: None,
        }
    }
}

/// The part of the `gcs` section that other nodes may ask for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct GcsConfig {
    /// Base URL instead of Google's.
    pub endpoint: String,
    /// OAuth client secret.
    pub client_secret: Secret,
    /// OAuth token.
    pub token: Secret,
    /// Service account as JSON text.
    pub service_account_credentials: Secret,
    /// Service account as a file.
    pub service_account_file: Option<PathBuf>,
}

/// The part of the `azure` section with secrets, for the masked log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct AzureConfig {
    /// Storage account.
    pub account: String,
    /// Account key.
    pub key: Secret,
    /// URL with a signature in it.
    pub sas_url: Secret,
    /// Use the machine's identity.
    pub use_msi: bool,
    /// Base URL instead of Azure's.
    pub endpoint: String,
}

/// Everything the agent can be told. `Config::default()` is a file with nothing in it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Config {
    /// What callers must show; the daemon refuses to start without.
    pub auth_token: Secret,
    /// Where the API listens; `None`: Scylla's `listen_address` and `https_port`.
    pub https: Option<ListenAddress>,
    /// Port for the default of `https`.
    pub https_port: u16,
    /// Lowest TLS version.
    pub tls_version: TlsVersion,
    /// Certificate; `None`: generated at each start.
    pub tls_files: Option<CertificateFiles>,
    /// Metrics server; `None`: off.
    pub prometheus: Option<ListenAddress>,
    /// Diagnosis server; `None`: off.
    pub debug: Option<ListenAddress>,
    /// CPU pinning.
    pub cpu: CpuChoice,
    /// Logs.
    #[serde(skip)]
    pub logger: LogSettings,
    /// The node's REST API.
    pub scylla: ScyllaConfig,
    /// Engine.
    pub rclone: EngineConfig,
    /// Provider `s3`.
    pub s3: S3Config,
    /// Provider `gcs`.
    pub gcs: GcsConfig,
    /// Provider `azure`.
    pub azure: AzureConfig,
    /// Root of the provider `localstorage`; `None`: not offered.
    pub localstorage: Option<PathBuf>,
    /// Bytes that all buffers of transfers may take together.
    pub transfer_memory: u64,
    /// Keys that a file sets and that change nothing here, for the log.
    #[serde(skip)]
    pub without_effect: Vec<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            auth_token: Secret::default(),
            https: None,
            https_port: DEFAULT_HTTPS_PORT,
            tls_version: TlsVersion::V1_2,
            tls_files: None,
            prometheus: Some(ListenAddress::new("", 5090)),
            debug: Some(ListenAddress::new("127.0.0.1", 5112)),
            cpu: CpuChoice::Auto,
            logger: LogSettings::default(),
            scylla: ScyllaConfig::default(),
            rclone: EngineConfig::default(),
            s3: S3Config::default(),
            gcs: GcsConfig::default(),
            azure: AzureConfig { use_msi: true, ..AzureConfig::default() },
            localstorage: None,
            transfer_memory: 48 << 20,
            without_effect: Vec::new(),
        }
    }
}

impl Config {
    /// The effective configuration as JSON, secrets masked.
    pub fn masked(&self) -> String {
        serde_json::to_string(self).unwrap_or_else(|e| format!("not printable: {e}"))
    }
}

/// Reads and merges the files; later keys win, files that do not exist are skipped.
///
/// # Errors
/// A file that cannot be read, an unknown key, a value of the wrong type or out of range; the text names
/// the file with its line, or the key.
pub fn load(files: &[PathBuf]) -> Result<Config, ConfigError> {
    let file: File = common::config::read_yaml_files(files)?;
    Ok(Config::from_file(file)?)
}

impl Config {
    fn from_file(file: File) -> Result<Self, ConfigProblem> {
        let without_effect = without_effect(&file);
        let tls_version = file.tls_version.or(file.tls_mode).map_or(String::new(), |t| t.0);
        let azure_account = file.azure.account.0;
        Ok(Self {
            auth_token: file.auth_token,
            https: listen("https", &file.https.0)?,
            https_port: number("https_port", &file.https_port.0, DEFAULT_HTTPS_PORT)?,
            tls_version: parse_tls_version(&tls_version)?,
            tls_files: certificate_files(&file.tls_cert_file.0, &file.tls_key_file.0)?,
            prometheus: listen("prometheus", &file.prometheus.map_or(String::new(), |t| t.0))?,
            debug: listen("debug", &file.debug.map_or(String::new(), |t| t.0))?,
            cpu: cpu_choice(file.cpu)?,
            logger: LogSettings {
                mode: file.logger.mode,
                level: file.logger.level,
                encoding: file.logger.encoding,
                development: file.logger.development,
            },
            scylla: ScyllaConfig {
                api_address: required("scylla.api_address", file.scylla.api_address.0)?,
                api_port: required("scylla.api_port", file.scylla.api_port.0)?,
                ca_file: optional_path(file.scylla.ca_file.0),
            },
            rclone: EngineConfig::from_file(file.rclone)?,
            s3: S3Config::from_file(file.s3)?,
            gcs: GcsConfig {
                endpoint: file.gcs.endpoint.0,
                client_secret: file.gcs.client_secret,
                token: file.gcs.token,
                service_account_credentials: file.gcs.service_account_credentials,
                service_account_file: optional_path(file.gcs.service_account_file.0),
            },
            azure: AzureConfig {
                use_msi: azure_account.is_empty() || boolean("azure.use_msi", &file.azure.use_msi.0, false)?,
                account: azure_account,
                key: file.azure.key,
                sas_url: file.azure.sas_url,
                endpoint: file.azure.endpoint.0,
            },
            localstorage: optional_path(file.localstorage.path.0),
            transfer_memory: transfer_memory(&file.transfer.memory.0)?,
            without_effect,
        })
    }
}

impl EngineConfig {
    fn from_file(file: file::RcloneFile) -> Result<Self, ConfigProblem> {
        let defaults = Self::default();
        let at_least_one = |key, n: u32| {
            if n > 0 { Ok(n) } else { Err(ConfigProblem::new(key, "0", "expected at least 1".into())) }
        };
        let user_agent = file.user_agent.0;
        Ok(Self {
            checkers: at_least_one("rclone.checkers", file.checkers)?,
            transfers: at_least_one("rclone.transfers", file.transfers)?,
            low_level_retries: at_least_one("rclone.low_level_retries", file.low_level_retries)?,
            tps_limit: file.tps_limit,
            tps_limit_burst: file.tps_limit_burst.max(1),
            immutable: file.immutable,
            multi_thread_cutoff: bytes("rclone.multi_thread_cutoff", &file.multi_thread_cutoff.0)?,
            multi_thread_streams: file.multi_thread_streams.max(1),
            connect_timeout: duration("rclone.connect_timeout", &file.connect_timeout.0)?,
            timeout: duration("rclone.timeout", &file.timeout.0)?,
            bandwidth: start_bandwidth(&file.bw_limit)?,
            user_agent: if user_agent.is_empty() { defaults.user_agent } else { user_agent },
            insecure_skip_verify: file.insecure_skip_verify,
            ca_cert: optional_path(file.ca_cert.0),
            bind_addr: bind_address(&file.bind_addr.0)?,
        })
    }
}

/// Keys that are set and change nothing: parts of the original's engine that do not exist here, and stores that this
/// build does not have.
fn without_effect(file: &File) -> Vec<String> {
    let of = |section: &'static str, keys: Vec<&'static str>| {
        keys.into_iter().map(move |key| format!("{section}.{key}")).collect::<Vec<_>>()
    };
    // Lines are never dropped here, also not equal ones.
    let sampling = file.logger.sampling.as_ref().map(|_| "sampling");
    let mut keys = of("logger", sampling.into_iter().collect());
    keys.extend(of("scylla", file.scylla.ignored()));
    keys.extend(of("rclone", file.rclone.ignored()));
    keys.extend(of("s3", file.s3.ignored()));
    keys.extend(of("s3", file.s3.changed_in_vain()));
    keys.extend(file.gcs.is_used().then(|| "gcs".to_owned()));
    keys.extend(file.azure.is_used().then(|| "azure".to_owned()));
    keys
}

fn parse_tls_version(text: &str) -> Result<TlsVersion, ConfigProblem> {
    match text {
        "" | "TLSv1.2" => Ok(TlsVersion::V1_2),
        "TLSv1.3" => Ok(TlsVersion::V1_3),
        "TLSv1.0" => {
            let hint = "its cipher suites are broken and not available here; use TLSv1.2 or TLSv1.3";
            Err(ConfigProblem::new("tls_version", text, hint.into()))
        }
        other => Err(ConfigProblem::new("tls_version", other, "expected TLSv1.2 or TLSv1.3".into())),
    }
}

fn certificate_files(cert: &str, key: &str) -> Result<Option<CertificateFiles>, ConfigProblem> {
    let hint = || "tls_cert_file and tls_key_file belong together; set both or none".to_owned();
    match (cert, key) {
        ("", "") => Ok(None),
        ("", _) => Err(ConfigProblem::new("tls_cert_file", "", hint())),
        (_, "") => Err(ConfigProblem::new("tls_key_file", "", hint())),
        (cert, key) => Ok(Some(CertificateFiles { cert: cert.into(), key: key.into() })),
    }
}

fn cpu_choice(file: CpuFile) -> Result<CpuChoice, ConfigProblem> {
    let list = match file {
        CpuFile::One(-1) => return Ok(CpuChoice::Auto),
        CpuFile::One(cpu) => vec![cpu],
        CpuFile::Many(list) if list.is_empty() || list == [-1] => return Ok(CpuChoice::Auto),
        CpuFile::Many(list) => list,
    };
    let bad = |cpu: i64| ConfigProblem::new("cpu", &cpu.to_string(), "expected a CPU number or -1".into());
    let list: Result<Vec<usize>, _> = list.iter().map(|c| usize::try_from(*c).map_err(|_| bad(*c))).collect();
    list.map(CpuChoice::List)
}

fn start_bandwidth(file: &BandwidthFile) -> Result<RatePair, ConfigProblem> {
    let key = "rclone.bw_limit";
    match file {
        BandwidthFile::Rate(text) if text.is_empty() => Ok(RatePair::default()),
        BandwidthFile::Rate(text) => text.parse().map_err(|e| ConfigProblem::new(key, text, format!("{e}"))),
        BandwidthFile::Timetable { slots: 0 } => Ok(RatePair::default()),
        BandwidthFile::Timetable { slots } => {
            let hint = "timetables are not supported; use one rate, or a task's --rate-limit";
            Err(ConfigProblem::new(key, &format!("{slots} slots"), hint.into()))
        }
    }
}

fn transfer_memory(text: &str) -> Result<u64, ConfigProblem> {
    let memory = bytes("transfer.memory", text)?;
    if memory >= MIN_TRANSFER_MEMORY {
        return Ok(memory);
    }
    let hint = format!("expected at least {}", SizeSuffix(Some(MIN_TRANSFER_MEMORY)));
    Err(ConfigProblem::new("transfer.memory", text, hint))
}

fn bind_address(text: &str) -> Result<Option<IpAddr>, ConfigProblem> {
    if text.is_empty() {
        return Ok(None);
    }
    let bad = |_| ConfigProblem::new("rclone.bind_addr", text, "expected an IP address".into());
    text.parse().map(Some).map_err(bad)
}

fn listen(key: &'static str, text: &str) -> Result<Option<ListenAddress>, ConfigProblem> {
    if text.is_empty() {
        return Ok(None);
    }
    text.parse()
        .map(Some)
        .map_err(|_| ConfigProblem::new(key, text, "expected host:port, [IPv6]:port or :port".into()))
}

fn required(key: &'static str, text: String) -> Result<String, ConfigProblem> {
    if text.is_empty() { Err(ConfigProblem::new(key, "", "it must not be empty".into())) } else { Ok(text) }
}

fn optional(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

fn optional_path(text: String) -> Option<PathBuf> {
    optional(text).map(PathBuf::from)
}

fn boolean(key: &'static str, text: &str, empty: bool) -> Result<bool, ConfigProblem> {
    match text.to_ascii_lowercase().as_str() {
        "" => Ok(empty),
        "true" | "1" | "t" => Ok(true),
        "false" | "0" | "f" => Ok(false),
        _ => Err(ConfigProblem::new(key, text, "expected true or false".into())),
    }
}

fn number<T: std::str::FromStr>(key: &'static str, text: &str, empty: T) -> Result<T, ConfigProblem> {
    if text.is_empty() {
        return Ok(empty);
    }
    text.parse().map_err(|_| ConfigProblem::new(key, text, "expected a whole number in range".into()))
}

/// A size in the engine's notation, where a bare number counts KiB.
fn size(key: &'static str, text: &str, empty: u64) -> Result<u64, ConfigProblem> {
    if text.is_empty() {
        return Ok(empty);
    }
    let parsed = text.parse::<SizeSuffix>().map_err(|e| ConfigProblem::new(key, text, e.to_string()))?;
    Ok(parsed.0.unwrap_or(i64::MAX as u64))
}

/// A size where a bare number counts bytes.
fn bytes(key: &'static str, text: &str) -> Result<u64, ConfigProblem> {
    match text.parse() {
        Ok(bytes) => Ok(bytes),
        Err(_) => size(key, text, 0),
    }
}

fn duration(key: &'static str, text: &str) -> Result<Duration, ConfigProblem> {
    parse_config_duration(text).map_err(|e| ConfigProblem::new(key, text, e.to_string()))
}
