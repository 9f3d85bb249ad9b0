//! HTTP API of the agent: wire types and endpoints (spec agent.md 2 and 4a).
//!
//! Peers leave zero values out, so every field has a default.

use std::collections::BTreeMap;

use http::Method;
use serde::{Deserialize, Serialize};

use super::{Endpoint, null_as_default};

/// Names in [`NodeInfo::capabilities`]: what our agent does beyond the original's (spec agent.md 4a).
pub mod capability {
    /// `job/files` lists what a job did with each file.
    pub const JOB_FILES: &str = "job-files";
    /// `sync/movedir` and `copydir` take `overwrite`.
    pub const OVERWRITE: &str = "overwrite";
    /// A rename by suffix never replaces an existing versioned copy.
    pub const SUFFIX_SAFE: &str = "suffix-safe";
    /// `operations/verify` reports the CRC-32 of stored objects.
    pub const VERIFY: &str = "verify";
}

macro_rules! rclone {
    ($(#[$meta:meta])* $name:ident, $path:literal, $body:ty, $reply:ty) => {
        $(#[$meta])*
        pub struct $name;

        impl Endpoint for $name {
            const METHOD: Method = Method::POST;
            const PATH: &'static str = concat!("/agent/rclone/", $path);
            type Query = ();
            type Body = $body;
            type Reply = $reply;
        }
    };
}

macro_rules! wire {
    ($(#[$meta:meta])* $name:ident { $($(#[$fmeta:meta])* $field:ident: $ty:ty,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
        #[serde(default)]
        pub struct $name { $($(#[$fmeta])* pub $field: $ty,)* }
    };
}

wire! {
    /// Facts about a node (`GET /agent/node_info`, spec agent.md 2.3). Ports are texts.
    NodeInfo {
        /// Address of Scylla's REST API as configured in the agent.
        api_address: String,
        /// Its port.
        api_port: String,
        /// `/v2/config/broadcast_address`.
        broadcast_address: String,
        /// `/v2/config/broadcast_rpc_address`.
        broadcast_rpc_address: String,
        /// `/v2/config/listen_address`.
        listen_address: String,
        /// `/v2/config/rpc_address`.
        rpc_address: String,
        /// `/v2/config/prometheus_address`.
        prometheus_address: String,
        /// `/v2/config/prometheus_port`.
        prometheus_port: String,
        /// CQL port.
        native_transport_port: String,
        /// CQL port with TLS.
        native_transport_port_ssl: String,
        /// Thrift port.
        rpc_port: String,
        /// Alternator address; empty when off.
        alternator_address: String,
        /// Alternator port; empty or `0` when off.
        alternator_port: String,
        /// Alternator port with TLS; empty or `0` when off.
        alternator_https_port: String,
        /// Alternator wants signed requests.
        alternator_enforce_authorization: bool,
        /// CQL speaks TLS.
        client_encryption_enabled: bool,
        /// CQL wants a client certificate.
        client_encryption_require_auth: bool,
        /// CQL wants a password.
        cql_password_protected: bool,
        /// New SSTables get UUID identifiers.
        sstable_uuid_format: bool,
        /// `/v2/config/consistent_cluster_management`.
        consistent_cluster_management: bool,
        /// `/v2/config/enable_tablets`; deprecated, decide per keyspace.
        enable_tablets: bool,
        /// Endpoints for Scylla's own backup.
        #[serde(skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "null_as_default")]
        object_storage_endpoints: BTreeMap<String, ObjectStorageEndpoint>,
        /// First data directory.
        data_directory: String,
        /// Bytes of RAM.
        memory_total: u64,
        /// Logical CPUs.
        cpu_count: u64,
        /// Uptime of the host in seconds.
        uptime: u64,
        /// Bytes of the file system that holds the data directory.
        storage_size: u64,
        /// Release of Scylla.
        scylla_version: String,
        /// Release of the agent.
        agent_version: String,
        /// Storage settings of the agent.
        rclone_backend_config: BackendConfig,
        /// Ours: see [`capability`]; absent from an original agent.
        #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_as_default")]
        capabilities: Vec<String>,
    }
}

impl NodeInfo {
    /// Whether the agent announces `capability`.
    pub fn can(&self, capability: &str) -> bool {
        self.capabilities.iter().any(|c| c == capability)
    }
}

wire! {
    /// An object storage endpoint in Scylla's configuration.
    ObjectStorageEndpoint {
        /// Name.
        name: String,
        /// Port.
        port: u16,
        /// TLS.
        use_https: bool,
        /// Region.
        aws_region: String,
        /// Role.
        iam_role_arn: String,
        /// `s3` or `gs`.
        #[serde(rename = "type")]
        kind: String,
    }
}

wire! {
    /// Storage settings that the manager may compare.
    BackendConfig {
        /// S3.
        s3: BackendEndpoint,
        /// GCS.
        gcs: BackendEndpoint,
    }
}

wire! {
    /// Endpoint and region of a provider.
    BackendEndpoint {
        /// Base URL; empty for the provider's own.
        endpoint: String,
        /// Region.
        #[serde(skip_serializing_if = "String::is_empty")]
        region: String,
    }
}

/// `GET /agent/node_info`.
pub struct GetNodeInfo;

impl Endpoint for GetNodeInfo {
    const METHOD: Method = Method::GET;
    const PATH: &'static str = "/agent/node_info";
    type Query = ();
    type Body = ();
    type Reply = NodeInfo;
}

wire! {
    /// Cloud and machine type; empty outside a cloud.
    CloudMetadata {
        /// `aws`, `gcp`, `azure` or empty.
        cloud_provider: String,
        /// E.g. `i4i.xlarge`.
        instance_type: String,
    }
}

/// `GET /agent/cloud/metadata`.
pub struct GetCloudMetadata;

impl Endpoint for GetCloudMetadata {
    const METHOD: Method = Method::GET;
    const PATH: &'static str = "/agent/cloud/metadata";
    type Query = ();
    type Body = ();
    type Reply = CloudMetadata;
}

wire! {
    /// CPUs that the agent is pinned to.
    PinnedCpus {
        /// In no particular order.
        #[serde(deserialize_with = "null_as_default")]
        cpu: Vec<usize>,
    }
}

/// `GET /agent/pin_cpu`.
pub struct GetPinnedCpus;

impl Endpoint for GetPinnedCpus {
    const METHOD: Method = Method::GET;
    const PATH: &'static str = "/agent/pin_cpu";
    type Query = ();
    type Body = ();
    type Reply = PinnedCpus;
}

/// `POST /agent/free_os_memory`.
pub struct FreeOsMemory;

impl Endpoint for FreeOsMemory {
    const METHOD: Method = Method::POST;
    const PATH: &'static str = "/agent/free_os_memory";
    type Query = ();
    type Body = ();
    type Reply = ();
}

wire! {
    /// No result: `{}`.
    Empty {}
}

wire! {
    /// A file or directory: `fs` is `<provider>:<bucket>`, `remote` the path below it.
    RemotePath {
        /// `<provider>:<root>`.
        fs: String,
        /// Path below it.
        #[serde(skip_serializing_if = "String::is_empty")]
        remote: String,
    }
}

wire! {
    /// Source and destination.
    SourceAndDestination {
        /// Root of the source.
        #[serde(rename = "srcFs")]
        src_fs: String,
        /// Path of the source.
        #[serde(rename = "srcRemote", skip_serializing_if = "String::is_empty")]
        src_remote: String,
        /// Root of the destination.
        #[serde(rename = "dstFs")]
        dst_fs: String,
        /// Path of the destination.
        #[serde(rename = "dstRemote", skip_serializing_if = "String::is_empty")]
        dst_remote: String,
    }
}

wire! {
    /// Upload of a directory in the background (spec agent.md 2.6.12).
    MoveDirRequest {
        /// Source and destination directory.
        #[serde(flatten)]
        paths: SourceAndDestination,
        /// `.<snapshot tag>`: suffix for objects that would be overwritten with other content.
        #[serde(skip_serializing_if = "String::is_empty")]
        suffix: String,
        /// Parallel transfers; -1 for the agent's own setting; absent leaves it as it is.
        #[serde(skip_serializing_if = "Option::is_none")]
        transfers: Option<i64>,
        /// `<n>M` MiB/s, `0M` for no limit; absent leaves it as it is.
        #[serde(skip_serializing_if = "String::is_empty")]
        bandwidth_rate: String,
        /// Ours: names that are sent whatever the destination holds.
        #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_as_default")]
        overwrite: Vec<String>,
    }
}

wire! {
    /// Download of files in the background (spec agent.md 2.6.13).
    CopyPathsRequest {
        /// Source and destination directory.
        #[serde(flatten)]
        dirs: SourceAndDestination,
        /// Files relative to both.
        #[serde(deserialize_with = "null_as_default")]
        paths: Vec<String>,
        /// As for [`MoveDirRequest`].
        #[serde(skip_serializing_if = "Option::is_none")]
        transfers: Option<i64>,
        /// As for [`MoveDirRequest`].
        #[serde(skip_serializing_if = "String::is_empty")]
        bandwidth_rate: String,
    }
}

wire! {
    /// A job that runs in the background.
    JobStarted {
        /// Its ID.
        jobid: u64,
    }
}

wire! {
    /// Asks for a job; blocks up to `wait` seconds.
    JobQuery {
        /// The job.
        jobid: u64,
        /// Seconds.
        #[serde(skip_serializing_if = "is_zero")]
        wait: u64,
    }
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}

/// Where a job stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum JobStatus {
    /// Not finished.
    #[default]
    Running,
    /// Finished well.
    Success,
    /// Failed or stopped.
    Error,
}

wire! {
    /// Progress of a job (spec agent.md 2.6.4).
    JobProgress {
        /// Where it stands.
        status: JobStatus,
        /// RFC 3339.
        #[serde(with = "super::zero_time")]
        started_at: Option<chrono::DateTime<chrono::Utc>>,
        /// Zero time while it runs.
        #[serde(with = "super::zero_time")]
        completed_at: Option<chrono::DateTime<chrono::Utc>>,
        /// Why it failed.
        error: String,
        /// Bytes moved, transfers in progress included.
        uploaded: u64,
        /// Bytes found identical at the destination.
        skipped: u64,
        /// Bytes of files whose transfer failed.
        failed: u64,
    }
}

wire! {
    /// Asks for a page of what a job did (ours).
    JobFilesQuery {
        /// The job.
        jobid: u64,
        /// First file of the page.
        offset: u64,
    }
}

/// What a job did with a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FileOutcome {
    /// Sent and confirmed.
    #[default]
    Uploaded,
    /// The destination had it.
    Skipped,
    /// Not sent.
    Failed,
}

wire! {
    /// One file of a job (ours).
    JobFile {
        /// Name.
        name: String,
        /// Bytes.
        size: u64,
        /// CRC-32 of the bytes that were read; `null` when they were not.
        crc32: Option<u32>,
        /// What was done.
        outcome: FileOutcome,
        /// A `Data.db` whose bytes differ from its own `Digest.crc32`.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        digest_mismatch: bool,
        /// Why it failed.
        #[serde(skip_serializing_if = "String::is_empty")]
        error: String,
    }
}

wire! {
    /// A page of [`JobFile`]s, 10,000 at most.
    JobFilesPage {
        /// The files.
        files: Vec<JobFile>,
        /// Offset of the next page; `null` after the last.
        next: Option<u64>,
    }
}

wire! {
    /// Names a statistics group, `job/<id>`.
    StatsGroup {
        /// The group; empty means all for a reset, none for a delete.
        #[serde(skip_serializing_if = "String::is_empty")]
        group: String,
    }
}

wire! {
    /// Sets the rate limit; empty to ask.
    BandwidthRequest {
        /// `<n>M`, `off`, ...
        #[serde(skip_serializing_if = "String::is_empty")]
        rate: String,
    }
}

wire! {
    /// The rate limit.
    Bandwidth {
        /// Canonical text; `off` when unlimited.
        rate: String,
        /// -1 when unlimited.
        #[serde(rename = "bytesPerSecond")]
        bytes_per_second: i64,
        /// -1 when unlimited.
        #[serde(rename = "bytesPerSecondTx")]
        bytes_per_second_tx: i64,
        /// -1 when unlimited.
        #[serde(rename = "bytesPerSecondRx")]
        bytes_per_second_rx: i64,
    }
}

wire! {
    /// Number of parallel transfers; absent to ask.
    Transfers {
        /// Files at once; -1 for the configured value.
        #[serde(skip_serializing_if = "Option::is_none")]
        transfers: Option<i64>,
    }
}

wire! {
    /// Space of a local provider in bytes.
    About {
        /// All.
        total: u64,
        /// Used.
        used: u64,
        /// Available to non-root.
        free: u64,
    }
}

wire! {
    /// Options of a listing (spec agent.md 2.6.8).
    ListOptions {
        /// Descend.
        recurse: bool,
        /// No directories.
        #[serde(rename = "filesOnly")]
        files_only: bool,
        /// No files.
        #[serde(rename = "dirsOnly")]
        dirs_only: bool,
        /// `ModTime` is `""`.
        #[serde(rename = "noModTime")]
        no_mod_time: bool,
        /// No `MimeType`.
        #[serde(rename = "noMimeType")]
        no_mime_type: bool,
        /// GCS only.
        #[serde(rename = "showRetentionInfo")]
        show_retention_info: bool,
        /// GCS only.
        #[serde(rename = "showEventBasedHold")]
        show_event_based_hold: bool,
        /// Hashes.
        #[serde(rename = "showHash")]
        show_hash: bool,
    }
}

wire! {
    /// A listing. `fs` is the complete path, `remote` is always sent.
    ListRequest {
        /// `<provider>:<bucket>/<path>`.
        fs: String,
        /// Empty.
        remote: String,
        /// Options.
        opt: ListOptions,
        /// Hide names with a snapshot tag as suffix.
        #[serde(rename = "newestOnly")]
        newest_only: bool,
        /// Show only those.
        #[serde(rename = "versionedOnly")]
        versioned_only: bool,
    }
}

/// One entry of a listing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ListItem {
    /// Relative to `fs`.
    pub path: String,
    /// Last element.
    pub name: String,
    /// Bytes; -1 for directories.
    pub size: i64,
    /// RFC 3339 or empty.
    pub mod_time: String,
    /// A directory.
    pub is_dir: bool,
    /// Only when asked for.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub mime_type: String,
    /// `unlocked` or `locked`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub retention_mode: String,
    /// RFC 3339.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub retain_until: String,
    /// Held.
    #[serde(alias = "eventBasedHold", skip_serializing_if = "std::ops::Not::not")]
    pub event_based_hold: bool,
}

wire! {
    /// A whole listing; the body of a big one is streamed instead.
    Listing {
        /// Entries.
        #[serde(deserialize_with = "null_as_default")]
        list: Vec<ListItem>,
    }
}

wire! {
    /// Size and time of a file.
    FileInfo {
        /// RFC 3339.
        #[serde(rename = "modTime")]
        mod_time: String,
        /// Bytes.
        size: i64,
    }
}

wire! {
    /// Files to delete, relative to `fs` and `remote`.
    DeletePathsRequest {
        /// `<provider>:<root>`.
        fs: String,
        /// Directory.
        #[serde(skip_serializing_if = "String::is_empty")]
        remote: String,
        /// Names, literal; 1000 at most by convention.
        #[serde(deserialize_with = "null_as_default")]
        paths: Vec<String>,
    }
}

wire! {
    /// How many files a [`DeletePaths`] deleted.
    Deleted {
        /// Files that were there.
        deletes: u64,
    }
}

wire! {
    /// Access check (spec agent.md 2.6.10).
    CheckPermissionsRequest {
        /// `<provider>:<bucket>`.
        fs: String,
        /// Directory for the scratch object.
        #[serde(skip_serializing_if = "String::is_empty")]
        remote: String,
        /// GCS only.
        #[serde(rename = "retentionMode", skip_serializing_if = "String::is_empty")]
        retention_mode: String,
        /// GCS only.
        #[serde(rename = "overrideUnlocked", skip_serializing_if = "std::ops::Not::not")]
        override_unlocked: bool,
        /// GCS only.
        #[serde(rename = "eventBasedHold", skip_serializing_if = "std::ops::Not::not")]
        event_based_hold: bool,
    }
}

rclone!(/// Sets or asks for the rate limit of the process.
    BandwidthLimit, "core/bwlimit", BandwidthRequest, Bandwidth);
rclone!(/// Sets or asks for the number of parallel transfers of the process.
    SetTransfers, "core/transfers", Transfers, Transfers);
rclone!(/// Forgets the statistics of a job.
    StatsDelete, "core/stats-delete", StatsGroup, Empty);
rclone!(/// Clears statistics.
    StatsReset, "core/stats-reset", StatsGroup, Empty);
rclone!(/// Long poll on a job.
    GetJobProgress, "job/progress", JobQuery, JobProgress);
rclone!(/// Details of a job, for tests and older managers.
    GetJobInfo, "job/info", JobQuery, serde_json::Value);
rclone!(/// Cancels a job.
    StopJob, "job/stop", JobQuery, Empty);
rclone!(/// What a job did with each file (capability `job-files`).
    GetJobFiles, "job/files", JobFilesQuery, JobFilesPage);
rclone!(/// Free space of a local provider.
    GetAbout, "operations/about", RemotePath, About);
rclone!(/// Content of a small file; the reply is raw bytes.
    Cat, "operations/cat", RemotePath, ());
rclone!(/// Tries put, list, read and delete in a location.
    CheckPermissions, "operations/check-permissions", CheckPermissionsRequest, Empty);
rclone!(/// Copies one file.
    CopyFile, "operations/copyfile", SourceAndDestination, Empty);
rclone!(/// Moves one file.
    MoveFile, "operations/movefile", SourceAndDestination, Empty);
rclone!(/// Deletes one file; missing is 404.
    DeleteFile, "operations/deletefile", RemotePath, Empty);
rclone!(/// Deletes files; missing ones are ignored.
    DeletePaths, "operations/deletepaths", DeletePathsRequest, Deleted);
rclone!(/// Size and time of a file.
    GetFileInfo, "operations/fileinfo", RemotePath, FileInfo);
rclone!(/// Lists a directory; read it as a stream.
    List, "operations/list", ListRequest, Listing);
rclone!(/// Deletes a directory with all in it.
    Purge, "operations/purge", RemotePath, Empty);
rclone!(/// Stores the body; parameters are in the query.
    Put, "operations/put", (), Empty);
rclone!(/// Uploads a directory in the background and deletes each file once it is confirmed.
    MoveDir, "sync/movedir", MoveDirRequest, JobStarted);
rclone!(/// Uploads a directory in the background.
    CopyDir, "sync/copydir", MoveDirRequest, JobStarted);
rclone!(/// Downloads files in the background.
    CopyPaths, "sync/copypaths", CopyPathsRequest, JobStarted);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_values_are_left_out_and_read_back() {
        let request = MoveDirRequest {
            paths: SourceAndDestination {
                src_fs: "data:ks".into(),
                dst_fs: "s3:b".into(),
                ..Default::default()
            },
            bandwidth_rate: "0M".into(),
            ..Default::default()
        };
        let text = serde_json::to_string(&request).unwrap();
        assert_eq!(text, r#"{"srcFs":"data:ks","dstFs":"s3:b","bandwidth_rate":"0M"}"#);
        assert_eq!(serde_json::from_str::<MoveDirRequest>(&text).unwrap(), request);
    }

    #[test]
    fn list_items_use_the_capitalised_keys() {
        let item = ListItem { path: "a/b".into(), name: "b".into(), size: 3, ..Default::default() };
        let text = serde_json::to_string(&item).unwrap();
        assert_eq!(text, r#"{"Path":"a/b","Name":"b","Size":3,"ModTime":"","IsDir":false}"#);
        let held: ListItem = serde_json::from_str(r#"{"Path":"x","eventBasedHold":true}"#).unwrap();
        assert!(held.event_based_hold);
    }

    #[test]
    fn job_times_use_the_zero_time_while_running() {
        let text = serde_json::to_string(&JobProgress::default()).unwrap();
        assert!(text.contains(r#""completed_at":"0001-01-01T00:00:00Z""#), "{text}");
        let read: JobProgress =
            serde_json::from_str(r#"{"status":"success","completed_at":"2026-01-01T00:00:00Z"}"#).unwrap();
        assert!(read.completed_at.is_some() && read.started_at.is_none());
    }
}
