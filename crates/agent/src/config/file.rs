//! The YAML file as it is written: every key of spec agent.md 1.3, each value still a plain text or number.
//!
//! Nothing outside `config` sees these types. Keys that are accepted and have no effect here are listed too,
//! because an unknown key is an error.

use std::fmt;

use common::config::text;
use common::secret::Secret;
use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// A value in quotes or not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Text(pub String);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        text(deserializer).map(Self)
    }
}

/// A key that must be accepted and changes nothing; true where a file sets it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Ignored(bool);

impl<'de> Deserialize<'de> for Ignored {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Option::<serde::de::IgnoredAny>::deserialize(deserializer).map(|value| Self(value.is_some()))
    }
}

/// Declares a section: keys with their default, then keys that are accepted and ignored.
macro_rules! section {
    ($name:ident { $($key:ident: $type:ty = $default:expr,)* } ignored { $($ignored:ident)* }) => {
        #[derive(Clone, Debug, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        #[allow(dead_code, reason = "some keys are accepted for compatibility only")]
        pub(super) struct $name { $(pub $key: $type,)* $($ignored: Ignored,)* }

        impl Default for $name {
            fn default() -> Self {
                Self { $($key: $default,)* $($ignored: Ignored::default(),)* }
            }
        }

        impl $name {
            /// Keys that are set and change nothing.
            #[allow(dead_code, reason = "of some sections the caller knows that nothing counts")]
            pub(super) fn ignored(&self) -> Vec<&'static str> {
                let keys: &[(&'static str, Ignored)] = &[$((stringify!($ignored), self.$ignored),)*];
                keys.iter().filter(|(_, ignored)| ignored.0).map(|(key, _)| *key).collect()
            }
        }
    };
}

fn some(text: &str) -> Option<Text> {
    Some(Text(text.to_owned()))
}

fn of(text: &str) -> Text {
    Text(text.to_owned())
}

/// `cpu`: one number or a list.
// Not an untagged enum: those lose the line of an error.
#[derive(Clone, Debug)]
pub(super) enum CpuFile {
    One(i64),
    Many(Vec<i64>),
}

impl<'de> Deserialize<'de> for CpuFile {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NumberOrList;

        impl<'de> Visitor<'de> for NumberOrList {
            type Value = CpuFile;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a CPU number, -1, or a list of CPU numbers")
            }
            fn visit_i64<E>(self, cpu: i64) -> Result<CpuFile, E> {
                Ok(CpuFile::One(cpu))
            }
            fn visit_u64<E: serde::de::Error>(self, cpu: u64) -> Result<CpuFile, E> {
                i64::try_from(cpu).map(CpuFile::One).map_err(E::custom)
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<CpuFile, A::Error> {
                let mut cpus = Vec::new();
                while let Some(cpu) = seq.next_element()? {
                    cpus.push(cpu);
                }
                Ok(CpuFile::Many(cpus))
            }
        }

        deserializer.deserialize_any(NumberOrList)
    }
}

/// `bw_limit`: a rate, or the timetable of the original's engine, of which only the empty one is taken.
#[derive(Clone, Debug)]
pub(super) enum BandwidthFile {
    Rate(String),
    Timetable { slots: usize },
}

impl<'de> Deserialize<'de> for BandwidthFile {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct RateOrTimetable;

        impl<'de> Visitor<'de> for RateOrTimetable {
            type Value = BandwidthFile;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a rate such as 100M, or []")
            }
            fn visit_str<E>(self, rate: &str) -> Result<BandwidthFile, E> {
                Ok(BandwidthFile::Rate(rate.to_owned()))
            }
            fn visit_u64<E>(self, rate: u64) -> Result<BandwidthFile, E> {
                Ok(BandwidthFile::Rate(rate.to_string()))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<BandwidthFile, A::Error> {
                let mut slots = 0;
                while seq.next_element::<serde::de::IgnoredAny>()?.is_some() {
                    slots += 1;
                }
                Ok(BandwidthFile::Timetable { slots })
            }
        }

        deserializer.deserialize_any(RateOrTimetable)
    }
}

section! { File {
    auth_token: Secret = Secret::default(),
    https: Text = of(""),
    https_port: Text = of("10001"),
    tls_version: Option<Text> = None,
    tls_mode: Option<Text> = None,
    tls_cert_file: Text = of(""),
    tls_key_file: Text = of(""),
    prometheus: Option<Text> = some(":5090"),
    debug: Option<Text> = some("127.0.0.1:5112"),
    cpu: CpuFile = CpuFile::One(-1),
    logger: LoggerFile = LoggerFile::default(),
    scylla: ScyllaFile = ScyllaFile::default(),
    rclone: RcloneFile = RcloneFile::default(),
    s3: S3File = S3File::default(),
    gcs: GcsFile = GcsFile::default(),
    azure: AzureFile = AzureFile::default(),
    localstorage: LocalStorageFile = LocalStorageFile::default(),
    transfer: TransferFile = TransferFile::default(),
} ignored {} }

section! { LoggerFile {
    mode: common::logging::LogMode = common::logging::LogMode::Stderr,
    level: common::logging::LogLevel = common::logging::LogLevel::Info,
    encoding: common::logging::LogEncoding = common::logging::LogEncoding::Json,
    development: bool = false,
    sampling: Option<SamplingFile> = None,
} ignored {} }

section! { SamplingFile {
    initial: u32 = 1,
    thereafter: u32 = 100,
} ignored {} }

section! { ScyllaFile {
    api_address: Text = of("0.0.0.0"),
    api_port: Text = of("10000"),
    ca_file: Text = of(""),
} ignored { listenaddress prometheusaddress prometheusport datadirectory broadcastrpcaddress rpcaddress } }

section! { LocalStorageFile {
    path: Text = of(""),
} ignored {} }

section! { TransferFile {
    memory: Text = of("48M"),
} ignored {} }

section! { RcloneFile {
    checkers: u32 = 100,
    transfers: u32 = 2,
    low_level_retries: u32 = 20,
    tps_limit: f64 = 5000.0,
    tps_limit_burst: u32 = 1,
    immutable: bool = false,
    multi_thread_cutoff: Text = of("262144000b"),
    multi_thread_streams: u32 = 4,
    connect_timeout: Text = of("1m"),
    timeout: Text = of("5m"),
    bw_limit: BandwidthFile = BandwidthFile::Timetable { slots: 0 },
    user_agent: Text = of(""),
    insecure_skip_verify: bool = false,
    ca_cert: Text = of(""),
    bind_addr: Text = of(""),
} ignored {
    check_sum ignore_checksum no_traverse ignore_errors no_update_mod_time use_server_mod_time use_mmap
    max_stats_groups max_backlog expect_continue_timeout buffer_size streaming_upload_cutoff bw_limit_file
    log_level stats_log_level modify_window max_delete max_depth max_transfer delete_mode
    track_renames_strategy data_rate_unit stats_file_name_length ask_password multi_thread_set
    use_json_log dry_run interactive size_only ignore_times ignore_existing dump track_renames update_older
    no_gzip ignore_size ignore_case_sync check_first no_check_dest no_unicode_normalization compare_dest
    copy_dest backup_dir suffix suffix_keep_extension use_list_r disable_features auto_confirm
    password_command max_duration cutoff_mode stats_one_line stats_one_line_date stats_one_line_date_format
    error_on_no_transfer progress progress_terminal_title cookie client_cert client_key order_by
    upload_headers download_headers headers refresh_times no_console
} }

section! { S3File {
    provider: Text = of("AWS"),
    env_auth: Text = of("true"),
    access_key_id: Secret = Secret::default(),
    secret_access_key: Secret = Secret::default(),
    session_token: Secret = Secret::default(),
    shared_credentials_file: Text = of(""),
    profile: Text = of(""),
    region: Text = of(""),
    endpoint: Text = of(""),
    force_path_style: Text = of(""),
    v2_auth: Text = of(""),
    use_accelerate_endpoint: Text = of(""),
    requester_pays: Text = of(""),
    disable_http2: Text = of(""),
    leave_parts_on_error: Text = of(""),
    no_head: Text = of(""),
    no_check_bucket: Text = of("true"),
    location_constraint: Text = of(""),
    acl: Text = of(""),
    bucket_acl: Text = of(""),
    server_side_encryption: Text = of(""),
    sse_kms_key_id: Text = of(""),
    sse_customer_algorithm: Text = of(""),
    sse_customer_key: Secret = Secret::default(),
    sse_customer_key_md5: Text = of(""),
    storage_class: Text = of(""),
    upload_cutoff: Text = of(""),
    chunk_size: Text = of("50M"),
    max_upload_parts: Text = of(""),
    upload_concurrency: Text = of("2"),
    copy_cutoff: Text = of(""),
    disable_checksum: Text = of("true"),
    list_chunk: Text = of(""),
    ca_file: Text = of(""),
    sign_payload: Text = of("auto"),
} ignored { encoding memory_pool_flush_time memory_pool_use_mmap } }

section! { GcsFile {
    client_secret: Secret = Secret::default(),
    token: Secret = Secret::default(),
    service_account_credentials: Secret = Secret::default(),
    service_account_file: Text = of(""),
    endpoint: Text = of(""),
} ignored {
    client_id auth_url token_url project_number anonymous object_acl bucket_acl bucket_policy_only location
    storage_class encoding memory_pool_flush_time memory_pool_use_mmap chunk_size list_chunk
    allow_create_bucket
} }

section! { AzureFile {
    account: Text = of(""),
    key: Secret = Secret::default(),
    sas_url: Secret = Secret::default(),
    use_msi: Text = of(""),
    endpoint: Text = of(""),
} ignored {
    service_principal_file msi_object_id msi_client_id msi_mi_res_id use_emulator upload_cutoff chunk_size
    list_chunk access_tier archive_tier_delete disable_checksum memory_pool_flush_time memory_pool_use_mmap
    encoding
} }

impl GcsFile {
    /// Whether a file sets any of its keys.
    pub(super) fn is_used(&self) -> bool {
        let secrets = [&self.client_secret, &self.token, &self.service_account_credentials];
        let texts = [&self.service_account_file, &self.endpoint];
        !self.ignored().is_empty()
            || secrets.iter().any(|secret| !secret.is_empty())
            || texts.iter().any(|text| !text.0.is_empty())
    }
}

impl AzureFile {
    /// Whether a file sets any of its keys.
    pub(super) fn is_used(&self) -> bool {
        let texts = [&self.account, &self.use_msi, &self.endpoint];
        !self.ignored().is_empty()
            || [&self.key, &self.sas_url].iter().any(|secret| !secret.is_empty())
            || texts.iter().any(|text| !text.0.is_empty())
    }
}

impl S3File {
    /// Keys with another value than the default, which changes nothing: buckets are never created or probed, whole
    /// files get no MD5, and there is neither a HEAD after uploads nor HTTP/2.
    pub(super) fn changed_in_vain(&self) -> Vec<&'static str> {
        let defaults = Self::default();
        let keys = [
            ("no_check_bucket", &self.no_check_bucket, &defaults.no_check_bucket),
            ("location_constraint", &self.location_constraint, &defaults.location_constraint),
            ("bucket_acl", &self.bucket_acl, &defaults.bucket_acl),
            ("disable_checksum", &self.disable_checksum, &defaults.disable_checksum),
        ];
        keys.into_iter().filter(|(_, set, default)| set != default).map(|(key, _, _)| key).collect()
    }
}
