//! Progress of a validation of backed up files.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::api::{null_as_default, optional_time};

/// What one host found in one location (spec manager.md 3.8). The progress of a run is an array of these.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ValidateHostProgress {
    /// Datacenter.
    pub dc: String,
    /// IP address, or the host ID if the address is not known.
    pub host: String,
    /// Location, as text.
    pub location: String,
    /// Manifests read.
    pub manifests: u64,
    /// Files found below the host's directories.
    pub scanned_files: u64,
    /// Tags of snapshots that lack files.
    #[serde(deserialize_with = "null_as_default")]
    pub broken_snapshots: Vec<String>,
    /// Files that a manifest names and the location lacks.
    pub missing_files: u64,
    /// Files that no manifest names.
    pub orphaned_files: u64,
    /// Their bytes.
    pub orphaned_bytes: u64,
    /// Orphaned files that were deleted.
    pub deleted_files: u64,
    /// When the host began.
    #[serde(with = "optional_time")]
    pub started_at: Option<DateTime<Utc>>,
    /// When the host ended.
    #[serde(with = "optional_time")]
    pub completed_at: Option<DateTime<Utc>>,
}
