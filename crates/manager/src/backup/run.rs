//! One backup run: what all stages share, and how a stage is entered, watched and marked.

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use chrono::{DateTime, Utc};
use common::api::manager::Unit;
use common::format::manifest::TableEntry;
use common::format::paths::{ManifestPath, NodePath, SchemaKind, SchemaPath};
use common::ids::ClusterId;
use common::location::Location;
use common::snapshot_tag::SnapshotTag;
use common::task::Stage;
use common::units::DcLimit;
use futures::future::BoxFuture;
use tracing::{error, info};

use super::Backups;
use super::error::{BackupError, all_hosts};
use super::locks::UploadGuard;
use super::properties::BackupProperties;
use super::rate_limit::RateLimit;
use super::target::Node;
use crate::agent_client::{Agent, AgentClient};
use crate::hosts::on_hosts;
use crate::metrics::{TableLabels, TableNumbers};
use crate::scheduler::{Clock, StopSignal};
use crate::store::backup_progress::ProgressRow;
use crate::store::backup_runs::RunKey;

/// What every stage needs.
pub struct Run {
    /// Everything that outlives the run.
    pub backups: Backups,
    /// Its name.
    pub key: RunKey,
    /// Name of the cluster.
    pub cluster_name: String,
    /// Name of the snapshot.
    pub tag: SnapshotTag,
    /// Properties of this run, also when it goes on with an older one.
    pub properties: BackupProperties,
    /// Nodes that take part.
    pub nodes: Vec<Node>,
    /// Tables.
    pub units: Vec<Unit>,
    /// Keyspaces that are spread by tablets.
    pub tablet_keyspaces: std::collections::BTreeSet<String>,
    /// Calls to the agents.
    pub client: AgentClient,
    /// Where the run that this one goes on with stopped.
    pub reached: Option<Stage>,
    /// Asked-for stop.
    pub stop: StopSignal,
    /// Time of day.
    pub clock: Clock,
    /// Limit of the jobs; may change while the run works.
    pub rate_limit: RateLimit,
    /// Rows of tables by host, unit and table: the run is their only writer.
    pub rows: Mutex<HashMap<(String, usize, String), ProgressRow>>,
}

impl Run {
    /// Whether an earlier run got beyond `stage`.
    pub fn completed(&self, stage: Stage) -> bool {
        self.reached.is_some_and(|reached| reached > stage)
    }

    /// Works on a stage: marks it in the store, drops the work when the run is asked to stop, and adds the stage
    /// to an error. The mark only moves forward.
    ///
    /// # Errors
    /// The work failed or the run was asked to stop.
    pub fn stage<'a, T: Send + 'a>(
        &'a self,
        stage: Stage,
        work: impl Future<Output = Result<T, BackupError>> + Send + 'a,
    ) -> BoxFuture<'a, Result<T, BackupError>> {
        let work = Box::pin(work);
        let until_stop = async move {
            tokio::select! {
                biased;
                () = self.stop.stopped() => Err(BackupError::Stopped),
                outcome = work => outcome,
            }
        };
        self.stage_to_end(stage, until_stop)
    }

    /// Like [`Run::stage`] for a short stage that is better not left halfway: once begun, it ignores a stop.
    ///
    /// # Errors
    /// The work failed, or the run was asked to stop before.
    pub fn stage_to_end<'a, T: Send + 'a>(
        &'a self,
        stage: Stage,
        work: impl Future<Output = Result<T, BackupError>> + Send + 'a,
    ) -> BoxFuture<'a, Result<T, BackupError>> {
        let work = Box::pin(work);
        Box::pin(async move {
            if self.stop.is_stopped() {
                return Err(BackupError::Stopped);
            }
            let begin = self.now();
            self.backups.store().advance_backup_run(self.key, stage).await?;
            info!(%stage, "Stage begins");
            let outcome = work.await;
            let took_ms = (self.now() - begin).num_milliseconds();
            match outcome {
                Ok(value) => {
                    info!(%stage, took_ms, "Stage ends");
                    Ok(value)
                }
                Err(BackupError::Stopped) => Err(BackupError::Stopped),
                Err(error @ BackupError::Stage { .. }) => Err(error),
                Err(source) => {
                    error!(%stage, took_ms, error = common::error::chain(&source), "Stage failed");
                    Err(BackupError::Stage { stage, source: Box::new(source) })
                }
            }
        })
    }

    /// Waits for the right to count on what lies in the locations: no deletion works meanwhile.
    ///
    /// # Errors
    /// The run was asked to stop.
    pub async fn locked(&self) -> Result<UploadGuard, BackupError> {
        tokio::select! {
            biased;
            () = self.stop.stopped() => Err(BackupError::Stopped),
            guard = self.backups.locks().upload(self.key.cluster) => Ok(guard),
        }
    }

    /// Works on all nodes, as many at once as `limits` allow.
    ///
    /// # Errors
    /// Every host that failed, by name.
    pub async fn on_nodes<'a, T, F>(
        &'a self,
        limits: &[DcLimit],
        work: impl Fn(&'a Node) -> F,
    ) -> Result<BTreeMap<IpAddr, T>, BackupError>
    where
        F: Future<Output = Result<T, BackupError>>,
    {
        let hosts: Vec<_> = self.nodes.iter().map(|n| n.host.clone()).collect();
        let outcomes = on_hosts(&hosts, limits, |host| {
            let node = self.nodes.iter().find(|n| n.host.id == host.id);
            let work = node.map(&work);
            async move {
                match work {
                    Some(work) => work.await,
                    None => Err(BackupError::other("the node is not part of the run")),
                }
            }
        })
        .await;
        let address = |id| self.nodes.iter().find(|n| n.host.id == id).map(|n| n.host.address);
        let by_address = outcomes.into_iter().filter_map(|(id, outcome)| Some((address(id)?, outcome)));
        Ok(all_hosts(by_address)?.into_iter().collect())
    }

    /// The agent of a node.
    pub fn agent(&self, node: &Node) -> Agent {
        self.client.on(node.host.address)
    }

    /// The time.
    pub fn now(&self) -> DateTime<Utc> {
        self.clock.now()
    }

    /// The cluster.
    pub fn cluster(&self) -> ClusterId {
        self.key.cluster
    }

    /// A node as the bucket knows it.
    pub fn node_path(&self, node: &Node) -> NodePath {
        NodePath { cluster: self.key.cluster, dc: node.host.dc.clone(), node: node.host.id.clone() }
    }

    /// Path of a node's published manifest.
    pub fn manifest_path(&self, node: &Node) -> ManifestPath {
        ManifestPath { node: self.node_path(node), task: self.key.task, tag: self.tag, temporary: false }
    }

    /// Key of the CQL schema file.
    pub fn schema_key(&self) -> String {
        let (cluster, task) = (self.key.cluster, self.key.task);
        SchemaPath { cluster, task, tag: self.tag, kind: SchemaKind::Safe }.to_string()
    }

    /// Key of the directory of a table.
    pub fn table_dir(&self, node: &Node, entry: &TableEntry) -> String {
        self.node_path(node).table_dir(&entry.keyspace, &entry.table, &entry.version)
    }

    /// Distinct locations, each with its nodes.
    pub fn locations(&self) -> BTreeMap<Location, Vec<&Node>> {
        let mut locations: BTreeMap<Location, Vec<&Node>> = BTreeMap::new();
        for node in &self.nodes {
            locations.entry(node.location.clone()).or_default().push(node);
        }
        locations
    }

    /// Index of the unit that holds a keyspace.
    pub fn unit_of(&self, keyspace: &str) -> Option<usize> {
        self.units.iter().position(|unit| unit.keyspace == keyspace)
    }

    /// The row of a table; an empty one when there is none.
    pub fn row(&self, node: &Node, keyspace: &str, table: &str) -> ProgressRow {
        let unit = self.unit_of(keyspace).unwrap_or(0);
        let host = node.host.address.to_string();
        let rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        rows.get(&(host.clone(), unit, table.to_owned())).cloned().unwrap_or(ProgressRow {
            host,
            unit,
            table: table.to_owned(),
            ..ProgressRow::default()
        })
    }

    /// Keeps rows in memory and publishes their metrics; the caller writes them to the store.
    pub fn remember(&self, node: &Node, rows: &[ProgressRow]) {
        for row in rows {
            let keyspace = self.units.get(row.unit).map(|u| u.keyspace.as_str()).unwrap_or_default();
            let labels = TableLabels {
                cluster: self.key.cluster,
                keyspace,
                table: &row.table,
                host: node.host.address,
            };
            let numbers = TableNumbers {
                size: row.size,
                uploaded: row.uploaded,
                skipped: row.skipped,
                failed: row.failed,
                files: row.files_count,
                files_skipped: row.files_skipped_count,
            };
            self.backups.metrics().set_table(labels, numbers);
        }
        let mut known = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        for row in rows {
            known.insert((row.host.clone(), row.unit, row.table.clone()), row.clone());
        }
    }

    /// Writes rows of a node.
    ///
    /// # Errors
    /// The database failed.
    pub async fn put_rows(&self, node: &Node, rows: Vec<ProgressRow>) -> Result<(), BackupError> {
        self.remember(node, &rows);
        Ok(self.backups.store().put_backup_progress(self.key, rows).await?)
    }

    /// Tells the operator something about this backup: in the log and in its progress.
    pub async fn warn(&self, warning: &str) {
        tracing::warn!(warning, "A backup needs attention");
        if let Err(error) = self.backups.store().warn_backup_run(self.key, warning).await {
            error!(error = common::error::chain(&error), "A warning cannot be stored");
        }
    }
}
