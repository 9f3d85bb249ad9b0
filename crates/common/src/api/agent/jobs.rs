//! Jobs that run in the background, and the limits that they keep (spec agent.md 2.6, `sync`, `job`, `core`).

use http::Method;
use serde::{Deserialize, Serialize};

use super::{Empty, SourceAndDestination};
use crate::api::{Endpoint, null_as_default};

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
        #[serde(with = "crate::api::zero_time")]
        started_at: Option<chrono::DateTime<chrono::Utc>>,
        /// Zero time while it runs.
        #[serde(with = "crate::api::zero_time")]
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
    fn job_times_use_the_zero_time_while_running() {
        let text = serde_json::to_string(&JobProgress::default()).unwrap();
        assert!(text.contains(r#""completed_at":"0001-01-01T00:00:00Z""#), "{text}");
        let read: JobProgress =
            serde_json::from_str(r#"{"status":"success","completed_at":"2026-01-01T00:00:00Z"}"#).unwrap();
        assert!(read.completed_at.is_some() && read.started_at.is_none());
    }
}
