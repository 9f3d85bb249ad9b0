//! What everything in the daemon shares.

use crate::backup::locks::ClusterLocks;
use crate::cluster::Clusters;
use crate::config::Config;
use crate::metrics::Metrics;
use crate::scheduler::{Clock, Runners, Scheduler};
use crate::store::Store;

/// The parts of the manager, built once by [`crate::run`]; handlers and tasks hold it in an `Arc`.
pub struct Manager {
    /// Checked configuration.
    pub config: Config,
    /// State.
    pub store: Store,
    /// Clusters and their agents.
    pub clusters: Clusters,
    /// Who may delete stored files, and when.
    pub backup_locks: ClusterLocks,
    /// What dashboards see.
    pub metrics: Metrics,
    /// Runs tasks.
    pub scheduler: Scheduler,
    /// What each task type does.
    pub runners: Runners,
    /// Time of day.
    pub clock: Clock,
}
