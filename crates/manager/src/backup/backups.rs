//! What outlives a single run: settings, locks, and which runs work now.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, Utc};
use common::ids::{ClusterId, TaskId};
use common::snapshot_tag::SnapshotTag;
use common::task::TaskType;
use serde_json::{Map, Value};

use super::error::BackupError;
use super::locks::ClusterLocks;
use super::properties::RetentionProperties;
use super::rate_limit::RateLimit;
use super::resume::{self, EarlierRun, Resume};
use super::retention::{Continuable, RetentionPolicy};
use super::tag::{NoTagLeft, next_tag};
use crate::cluster::Clusters;
use crate::config;
use crate::metrics::BackupMetrics;
use crate::store::Store;
use crate::store::backup_runs::BackupRun;

/// Backups of all clusters. Cheap to clone.
#[derive(Clone)]
pub struct Backups {
    shared: Arc<Shared>,
}

struct Shared {
    clusters: Clusters,
    config: config::Backup,
    locks: ClusterLocks,
    metrics: BackupMetrics,
    /// The last tag that was given: two runs that begin at once must not share one.
    last_tag: Mutex<Option<SnapshotTag>>,
    working: Mutex<HashMap<(ClusterId, TaskId), Working>>,
}

/// A run that works now.
#[derive(Clone, Debug)]
pub struct Working {
    /// Its hosts with their datacenters; none before it has chosen them.
    pub hosts: Vec<(IpAddr, String)>,
    /// Limit of its jobs.
    pub rate_limit: RateLimit,
}

/// Makes a run known as working until it is dropped.
pub struct Enlisted {
    backups: Backups,
    task: (ClusterId, TaskId),
    rate_limit: RateLimit,
}

impl Enlisted {
    /// Limit of the run's jobs.
    pub fn rate_limit(&self) -> &RateLimit {
        &self.rate_limit
    }

    /// Says on which hosts the run works.
    pub fn set_hosts(&self, hosts: Vec<(IpAddr, String)>) {
        if let Some(working) = self.backups.lock_working().get_mut(&self.task) {
            working.hosts = hosts;
        }
    }
}

impl Drop for Enlisted {
    fn drop(&mut self) {
        let mut working = self.backups.lock_working();
        // A run that ignored its stop may end while the next one works already.
        if working.get(&self.task).is_some_and(|w| w.rate_limit.is(&self.rate_limit)) {
            working.remove(&self.task);
        }
    }
}

impl Backups {
    /// Backups of the clusters of `clusters`.
    pub fn new(
        clusters: Clusters,
        config: config::Backup,
        locks: ClusterLocks,
        metrics: BackupMetrics,
    ) -> Self {
        let shared = Shared {
            clusters,
            config,
            locks,
            metrics,
            last_tag: Mutex::default(),
            working: Mutex::default(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// The managed clusters.
    pub fn clusters(&self) -> &Clusters {
        &self.shared.clusters
    }

    /// State.
    pub fn store(&self) -> &Store {
        self.shared.clusters.store()
    }

    /// Settings.
    pub fn config(&self) -> &config::Backup {
        &self.shared.config
    }

    /// Who may delete what a backup relies on.
    pub fn locks(&self) -> &ClusterLocks {
        &self.shared.locks
    }

    /// Gauges.
    pub fn metrics(&self) -> &BackupMetrics {
        &self.shared.metrics
    }

    /// Makes a run of a task known as working.
    pub fn enlist(&self, cluster: ClusterId, task: TaskId) -> Enlisted {
        let rate_limit = RateLimit::default();
        let working = Working { hosts: Vec::new(), rate_limit: rate_limit.clone() };
        self.lock_working().insert((cluster, task), working);
        Enlisted { backups: self.clone(), task: (cluster, task), rate_limit }
    }

    /// The run of a task that works now.
    pub fn working(&self, cluster: ClusterId, task: TaskId) -> Option<Working> {
        self.lock_working().get(&(cluster, task)).cloned()
    }

    fn lock_working(&self) -> MutexGuard<'_, HashMap<(ClusterId, TaskId), Working>> {
        self.shared.working.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives out a tag that nobody has: later than the newest one known, and than every one given before.
    ///
    /// # Errors
    /// There is none.
    pub fn give_tag(
        &self,
        now: DateTime<Utc>,
        newest_known: Option<SnapshotTag>,
    ) -> Result<SnapshotTag, NoTagLeft> {
        let mut last = self.shared.last_tag.lock().unwrap_or_else(PoisonError::into_inner);
        let tag = next_tag(now, newest_known.max(*last))?;
        *last = Some(tag);
        Ok(tag)
    }

    /// Retention of every backup task that the cluster ever had. A deleted task keeps nothing by count.
    ///
    /// # Errors
    /// The database failed.
    pub async fn policies(
        &self,
        cluster: ClusterId,
    ) -> Result<BTreeMap<TaskId, RetentionPolicy>, BackupError> {
        let tasks = self.store().tasks_with_deleted(cluster, TaskType::Backup).await?;
        let policy = |deleted: bool, properties: &Map<String, Value>| {
            // Properties that cannot be read keep their backups.
            let for_ever = RetentionProperties { retention: Some(0), retention_days: Some(0) };
            let stored = serde_json::from_value(Value::Object(properties.clone())).unwrap_or(for_ever);
            let policy = RetentionPolicy::of(stored.retention, stored.retention_days);
            if deleted { policy.deleted() } else { policy }
        };
        Ok(tasks.iter().map(|t| (t.id, policy(t.deleted, &t.properties))).collect())
    }

    /// Which interrupted runs of the cluster's tasks can still be gone on with.
    ///
    /// # Errors
    /// The database failed.
    pub async fn continuable(
        &self,
        cluster: ClusterId,
        now: DateTime<Utc>,
    ) -> Result<Continuable, BackupError> {
        let mut known = BTreeMap::new();
        for task in self.store().tasks_with_deleted(cluster, TaskType::Backup).await? {
            let runs = self.store().latest_backup_runs(cluster, task.id, resume::LOOK_BACK).await?;
            let earlier: Vec<EarlierRun> = runs.iter().map(BackupRun::as_earlier).collect();
            let tag = match resume::choose(&earlier, now, self.age_max()) {
                Resume::Continue(id) if !task.deleted => {
                    runs.iter().find(|r| r.key.run == id).and_then(|r| r.tag)
                }
                Resume::Continue(_) | Resume::Fresh(_) => None,
            };
            known.insert(task.id, tag);
        }
        let oldest = self.age_max().and_then(|max| now.checked_sub_signed(max)).map(SnapshotTag::at);
        Ok(Continuable { known, oldest })
    }

    /// `backup.age_max`; `None` for no limit.
    pub fn age_max(&self) -> Option<chrono::Duration> {
        let max = self.shared.config.age_max;
        if max.is_zero() { None } else { chrono::Duration::from_std(max).ok() }
    }
}

impl BackupRun {
    /// What matters of it when a later run looks for one to go on with.
    pub fn as_earlier(&self) -> EarlierRun {
        EarlierRun { id: self.key.run, stage: self.stage, tag: self.tag, abandoned: self.abandoned }
    }
}
