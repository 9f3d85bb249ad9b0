//! Properties of a backup task: JSON in, checked values out (spec backup-format.md 3.1).

use std::collections::{BTreeMap, BTreeSet};

use common::api::null_as_default;
use common::filter::{GlobFilter, InvalidFilter};
use common::ids::TaskId;
use common::location::{Location, Provider};
use common::units::DcLimit;
use serde::{Deserialize, Serialize};

use super::retention::RetentionPolicy;

/// How bytes travel. Scylla's own backup is refused for now.
const METHODS: [&str; 3] = ["rclone", "native", "auto"];
/// Retention lock modes of the original.
const LOCK_MODES: [&str; 4] = ["disabled", "unlocked", "locked", "event-based-hold"];

/// Mistakes in the properties that the user can mend.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PropertiesError {
    /// Not the JSON that a backup has.
    #[error("malformed backup properties: {0}")]
    Malformed(String),
    /// No `--location`.
    #[error("missing location")]
    MissingLocation,
    /// The same storage twice for one datacenter.
    #[error("location {0} is specified multiple times")]
    DuplicateLocation(Location),
    /// Negative number of backups or days.
    #[error("negative retention: {0}")]
    NegativeRetention(i64),
    /// `--transfers`.
    #[error(
        "transfers param has to be equal to -1 (set transfers to the value from scylla-manager-agent.yaml config) \
         or greater than zero"
    )]
    Transfers,
    /// `--method`.
    #[error("unknown method: {0}")]
    UnknownMethod(String),
    /// `--method native`.
    #[error("method native is not supported by this release, use --method rclone or --method auto")]
    NativeMethod,
    /// `--retention-lock-mode`.
    #[error("unknown retention lock mode: {0}")]
    UnknownLockMode(String),
    /// A lock needs days.
    #[error("retention days must be set when retention lock mode {0:?} is used")]
    LockNeedsDays(String),
    /// A lock and a count contradict each other.
    #[error("count-based retention mustn't be set when retention lock mode {0:?} is used")]
    LockAndCount(String),
    /// `--override-retention-lock` without a lock to override.
    #[error("retention lock cannot be overridden when retention lock mode {0:?} is used")]
    LockOverride(String),
    /// A lock on a provider that has none.
    #[error("retention lock is not supported for {0} provider, it's supported only for gcs")]
    LockProvider(Provider),
    /// Locks are out of scope of this release.
    #[error("retention lock mode {0:?} is not supported by this release, use --retention-lock-mode disabled")]
    LockUnsupported(String),
    /// `--dc` or `--keyspace`.
    #[error(transparent)]
    Filter(#[from] InvalidFilter),
    /// Nothing is left after `--dc`.
    #[error("no matching DCs found for filters {filters:?}, the cluster has {}", there.join(", "))]
    NoDatacenters {
        /// `--dc`, as given.
        filters: Vec<String>,
        /// The datacenters of the cluster.
        there: Vec<String>,
    },
    /// A `dc:` that the cluster does not have.
    #[error("invalid {what}: no such datacenter {dc}, sctool status shows those of the cluster")]
    UnknownDatacenter {
        /// `location`, `rate-limit`, ...
        what: &'static str,
        /// The datacenter.
        dc: String,
    },
    /// A selected datacenter without a location.
    #[error(
        "invalid location: missing object for datacenter {0}, give it one with --location {0}:<provider>:<bucket>, or \
         leave it out with --dc"
    )]
    UncoveredDatacenter(String),
}

/// Properties of a backup task after parsing. Texts of later releases are ignored.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default)]
pub struct BackupProperties {
    /// Where backups go.
    #[serde(deserialize_with = "null_as_default")]
    pub location: Vec<Location>,
    /// Table globs.
    #[serde(deserialize_with = "null_as_default")]
    pub keyspace: Vec<String>,
    /// Datacenter globs.
    #[serde(deserialize_with = "null_as_default")]
    pub dc: Vec<String>,
    /// Snapshots to keep.
    pub retention: Option<i64>,
    /// Days to keep.
    pub retention_days: Option<i64>,
    /// MiB/s per node; absent means no limit.
    #[serde(deserialize_with = "null_as_default")]
    pub rate_limit: Vec<DcLimit>,
    /// Parallel transfers per node; -1 for the agent's own setting.
    pub transfers: i64,
    /// Nodes that take snapshots at once.
    #[serde(deserialize_with = "null_as_default")]
    pub snapshot_parallel: Vec<DcLimit>,
    /// Nodes that upload at once.
    #[serde(deserialize_with = "null_as_default")]
    pub upload_parallel: Vec<DcLimit>,
    /// Go on where an interrupted run stopped.
    #[serde(rename = "continue")]
    pub continue_run: bool,
    /// Run retention only.
    #[serde(deserialize_with = "null_as_default")]
    pub purge_only: bool,
    /// No schema.
    #[serde(deserialize_with = "null_as_default")]
    pub skip_schema: bool,
    /// `rclone`, `native`, `auto`; empty for the default.
    #[serde(deserialize_with = "null_as_default")]
    pub method: String,
    /// Empty for `disabled`.
    #[serde(deserialize_with = "null_as_default")]
    pub retention_lock_mode: String,
    /// Replace unlocked locks.
    #[serde(deserialize_with = "null_as_default")]
    pub override_retention_lock: bool,
    /// Policies of all backup tasks of the cluster; added at run time, never stored.
    #[serde(deserialize_with = "null_as_default")]
    pub retention_map: BTreeMap<TaskId, RetentionPolicy>,
}

impl Default for BackupProperties {
    fn default() -> Self {
        Self {
            location: Vec::new(),
            keyspace: Vec::new(),
            dc: Vec::new(),
            retention: None,
            retention_days: None,
            rate_limit: Vec::new(),
            transfers: -1,
            snapshot_parallel: Vec::new(),
            upload_parallel: Vec::new(),
            continue_run: true,
            purge_only: false,
            skip_schema: false,
            method: String::new(),
            retention_lock_mode: String::new(),
            override_retention_lock: false,
            retention_map: BTreeMap::new(),
        }
    }
}

/// Properties that only tell where backups are and how long they are kept; of any task, also of a broken one.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct RetentionProperties {
    /// Snapshots to keep.
    pub retention: Option<i64>,
    /// Days to keep.
    pub retention_days: Option<i64>,
}

impl BackupProperties {
    /// Reads the JSON of a task.
    ///
    /// # Errors
    /// A value is not of its type; the message names it.
    pub fn parse(properties: &serde_json::Map<String, serde_json::Value>) -> Result<Self, PropertiesError> {
        serde_json::from_value(serde_json::Value::Object(properties.clone()))
            .map_err(|e| PropertiesError::Malformed(e.to_string()))
    }

    /// The method, with the default filled in.
    pub fn method(&self) -> &str {
        if self.method.is_empty() { METHODS[0] } else { &self.method }
    }

    /// The lock mode, with the default filled in.
    pub fn lock_mode(&self) -> &str {
        if self.retention_lock_mode.is_empty() { LOCK_MODES[0] } else { &self.retention_lock_mode }
    }

    /// The retention of this task, with defaults filled in.
    pub fn policy(&self) -> RetentionPolicy {
        RetentionPolicy::of(self.retention, self.retention_days)
    }

    /// Applies the `--dc` globs.
    ///
    /// # Errors
    /// A glob is invalid, or no datacenter is left.
    pub fn select_datacenters(&self, all: &BTreeSet<String>) -> Result<Vec<String>, PropertiesError> {
        let filter = GlobFilter::new(&self.dc)?;
        let selected: Vec<String> = all.iter().filter(|dc| filter.matches(dc)).cloned().collect();
        if selected.is_empty() {
            let there = all.iter().cloned().collect();
            return Err(PropertiesError::NoDatacenters { filters: self.dc.clone(), there });
        }
        Ok(selected)
    }

    /// Checks what can be checked without asking any node.
    ///
    /// # Errors
    /// The first mistake, in the original's order.
    pub fn check(&self, all: &BTreeSet<String>, selected: &[String]) -> Result<(), PropertiesError> {
        self.check_values()?;
        self.check_locks()?;
        check_datacenters("location", self.location.iter().map(Location::dc), all)?;
        for (what, limits) in [
            ("rate-limit", &self.rate_limit),
            ("snapshot-parallel", &self.snapshot_parallel),
            ("upload-parallel", &self.upload_parallel),
        ] {
            check_datacenters(what, limits.iter().map(|l| l.dc.as_deref()), all)?;
        }
        match selected.iter().find(|dc| self.location_of(dc).is_none()) {
            Some(dc) => Err(PropertiesError::UncoveredDatacenter(dc.clone())),
            None => Ok(()),
        }
    }

    fn check_values(&self) -> Result<(), PropertiesError> {
        if self.location.is_empty() {
            return Err(PropertiesError::MissingLocation);
        }
        if let Some(negative) = [self.retention, self.retention_days].into_iter().flatten().find(|n| *n < 0) {
            return Err(PropertiesError::NegativeRetention(negative));
        }
        if self.transfers != -1 && self.transfers < 1 {
            return Err(PropertiesError::Transfers);
        }
        match self.method() {
            "native" => Err(PropertiesError::NativeMethod),
            known if METHODS.contains(&known) => Ok(()),
            unknown => Err(PropertiesError::UnknownMethod(unknown.to_owned())),
        }
    }

    /// The rules of the original (spec 5.1); whatever passes them is out of scope of this release.
    fn check_locks(&self) -> Result<(), PropertiesError> {
        let mode = self.lock_mode().to_owned();
        let by_days = matches!(mode.as_str(), "unlocked" | "locked");
        if !LOCK_MODES.contains(&mode.as_str()) {
            return Err(PropertiesError::UnknownLockMode(mode));
        }
        if self.override_retention_lock && !by_days {
            return Err(PropertiesError::LockOverride(mode));
        }
        if mode == LOCK_MODES[0] {
            return Ok(());
        }
        if let Some(other) = self.location.iter().find(|l| l.provider() != Provider::Gcs) {
            return Err(PropertiesError::LockProvider(other.provider()));
        }
        if by_days && self.retention_days.unwrap_or(0) == 0 {
            return Err(PropertiesError::LockNeedsDays(mode));
        }
        if by_days && self.retention.unwrap_or(0) > 0 {
            return Err(PropertiesError::LockAndCount(mode));
        }
        Err(PropertiesError::LockUnsupported(mode))
    }

    /// The location for nodes of `dc`: its own one, else the one for all.
    pub fn location_of(&self, dc: &str) -> Option<&Location> {
        location_of(&self.location, dc)
    }
}

/// The location for nodes of `dc`: its own one, else the one without a datacenter.
pub fn location_of<'a>(locations: &'a [Location], dc: &str) -> Option<&'a Location> {
    let own = locations.iter().find(|l| l.dc() == Some(dc));
    own.or_else(|| locations.iter().find(|l| l.dc().is_none()))
}

/// Entries of a list that matter for the selected datacenters: of these, or of none in particular.
pub fn restrict<T: Clone>(list: &[T], dc: impl Fn(&T) -> Option<&str>, selected: &[String]) -> Vec<T> {
    list.iter().filter(|e| dc(e).is_none_or(|d| selected.iter().any(|s| s == d))).cloned().collect()
}

/// Demands that every datacenter that a list names exists.
pub(super) fn check_datacenters<'a>(
    what: &'static str,
    named: impl Iterator<Item = Option<&'a str>>,
    all: &BTreeSet<String>,
) -> Result<(), PropertiesError> {
    match named.flatten().find(|dc| !all.contains(*dc)) {
        Some(dc) => Err(PropertiesError::UnknownDatacenter { what, dc: dc.to_owned() }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parse(value: serde_json::Value) -> Result<BackupProperties, PropertiesError> {
        BackupProperties::parse(value.as_object().unwrap())
    }

    fn verdict(value: serde_json::Value) -> String {
        let all: BTreeSet<String> = ["dc1", "dc2"].iter().map(|s| (*s).to_owned()).collect();
        let check = || {
            let properties = parse(value)?;
            let selected = properties.select_datacenters(&all)?;
            properties.check(&all, &selected)?;
            Ok::<_, PropertiesError>(selected.join(","))
        };
        check().unwrap_or_else(|e| e.to_string())
    }

    #[test]
    fn every_mistake_has_its_words() {
        for (properties, expected) in [
            (json!({"location": ["s3:b"]}), "dc1,dc2"),
            (json!({"location": ["s3:b"], "dc": ["*", "!dc2"], "rate_limit": null}), "dc1"),
            (
                json!({"location": ["s3:b"], "dc": ["x*"]}),
                "no matching DCs found for filters [\"x*\"], the cluster has dc1, dc2",
            ),
            (json!({}), "missing location"),
            (json!({"location": []}), "missing location"),
            (json!({"location": ["s3:b"], "retention": -1}), "negative retention: -1"),
            (
                json!({"location": ["s3:b"], "transfers": 0}),
                "transfers param has to be equal to -1 (set transfers to the value from scylla-manager-agent.yaml config) or greater than zero",
            ),
            (json!({"location": ["s3:b"], "transfers": 4}), "dc1,dc2"),
            (json!({"location": ["s3:b"], "method": "x"}), "unknown method: x"),
            (
                json!({"location": ["s3:b"], "method": "native"}),
                "method native is not supported by this release, use --method rclone or --method auto",
            ),
            (json!({"location": ["s3:b"], "method": "auto"}), "dc1,dc2"),
            (json!({"location": ["s3:b"], "retention_lock_mode": "x"}), "unknown retention lock mode: x"),
            (
                json!({"location": ["s3:b"], "retention_lock_mode": "locked"}),
                "retention lock is not supported for s3 provider, it's supported only for gcs",
            ),
            (
                json!({"location": ["gcs:b"], "retention_lock_mode": "locked"}),
                "retention days must be set when retention lock mode \"locked\" is used",
            ),
            (
                json!({"location": ["gcs:b"], "retention_lock_mode": "locked", "retention_days": 3, "retention": 1}),
                "count-based retention mustn't be set when retention lock mode \"locked\" is used",
            ),
            (
                json!({"location": ["gcs:b"], "override_retention_lock": true}),
                "retention lock cannot be overridden when retention lock mode \"disabled\" is used",
            ),
            (
                json!({"location": ["gcs:b"], "retention_lock_mode": "locked", "retention_days": 3}),
                "retention lock mode \"locked\" is not supported by this release, use --retention-lock-mode disabled",
            ),
            (
                json!({"location": ["dc9:s3:b"]}),
                "invalid location: no such datacenter dc9, sctool status shows those of the cluster",
            ),
            (
                json!({"location": ["dc1:s3:b"]}),
                "invalid location: missing object for datacenter dc2, give it one with --location dc2:<provider>:<bucket>, or leave it out with --dc",
            ),
            (json!({"location": ["dc1:s3:b"], "dc": ["dc1"]}), "dc1"),
            (
                json!({"location": ["s3:b"], "rate_limit": ["dc9:5"]}),
                "invalid rate-limit: no such datacenter dc9, sctool status shows those of the cluster",
            ),
            (
                json!({"location": ["s3:b"], "upload_parallel": ["dc9:5"]}),
                "invalid upload-parallel: no such datacenter dc9, sctool status shows those of the cluster",
            ),
        ] {
            assert_eq!(verdict(properties.clone()), expected, "{properties}");
        }
        assert!(verdict(json!({"location": "s3:b"})).starts_with("malformed backup properties: "));
        assert!(verdict(json!({"location": ["foo:b"]})).contains("unrecognised provider"));
    }

    #[test]
    fn entries_of_a_datacenter_win() {
        let locations: Vec<Location> = ["s3:all", "dc1:s3:one"].iter().map(|l| l.parse().unwrap()).collect();
        assert_eq!(location_of(&locations, "dc1").unwrap().bucket(), "one");
        assert_eq!(location_of(&locations, "dc2").unwrap().bucket(), "all");
        assert_eq!(restrict(&locations, |l| l.dc(), &["dc2".to_owned()]), locations[..1]);
    }
}
