//! A simulated Scylla cluster: members, keyspaces and data, with a REST, metrics and CQL server and a real
//! data directory for each node.
//!
//! Everything but the wall clock follows from the seed. The cluster agrees on one [`Model`]; what belongs to one
//! node is in [`crate::node`].

mod addresses;
mod builder;
mod data;
pub mod describe;
mod identity;
mod model;
mod ring;
mod schema;
mod system_tables;

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use chrono::{DateTime, TimeDelta, Utc};
use tempfile::TempDir;
use tokio::sync::{Notify, broadcast};
use uuid::Uuid;

pub use builder::{
    ClusterBuilder, CqlTls, Credentials, DEFAULT_RELEASE, GenerationIds, KeyspaceSpec, ManifestForm, Ports,
    Refusal, TableSpec,
};
pub use identity::{seeded_number, seeded_table_id, seeded_uuid, system_table_id, token_of};
pub use model::{
    Column, ColumnKind, Distribution, Keyspace, KeyspaceClass, Member, Membership, Model, NodeId,
    Replication, Table, TableKind, Tablet, TombstoneGc,
};
pub use ring::{TokenRange, replicas, tablet_ranges, vnode_ranges};

pub(crate) use builder::NodeOptions;
pub(crate) use schema::{NewTable, SchemaError, SchemaStatement};

use crate::node::faults::Rules;
use crate::node::{NodeCore, Observed, SchemaChange, SimNode};
use crate::sstable::{Row, merge_rows};

/// Schema events a slow CQL client may lag behind before it loses some.
const SCHEMA_EVENTS: usize = 256;

/// Why the simulated cluster could not do something.
#[derive(Debug, thiserror::Error)]
pub enum SimError {
    #[error("{doing} {}", path.display())]
    Disk {
        doing: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("bind {what} of node {address}; is another cluster running there?")]
    Bind {
        what: &'static str,
        address: IpAddr,
        #[source]
        source: io::Error,
    },
    #[error("no table {keyspace}.{table} in the simulated cluster")]
    NoSuchTable { keyspace: String, table: String },
    #[error("no node {0} in the simulated cluster")]
    NoSuchNode(String),
    #[error("a cluster needs a datacenter with a node; call ClusterBuilder::dc")]
    NoNodes,
    #[error("no free address range below 127.0.0.0/8; are hundreds of clusters running?")]
    NoAddresses,
    #[error("make the certificate of the CQL server")]
    Certificate(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// State that every node can reach.
pub(crate) struct Shared {
    model: Mutex<Model>,
    nodes: Mutex<Vec<Weak<NodeCore>>>,
    pub options: NodeOptions,
    pub rules: Rules,
    pub observed: Observed,
    /// Wakes those who wait until a node has the current schema.
    pub schema_changed: Notify,
    /// Schema changes, for CQL clients that registered for them.
    pub schema_events: broadcast::Sender<SchemaChange>,
    /// How far the cluster's clock is ahead of the machine's, in seconds.
    clock_ahead: AtomicI64,
}

impl Shared {
    /// The model, locked; never keep it across an await.
    pub fn model(&self) -> MutexGuard<'_, Model> {
        self.model.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The node with this number, unless the cluster is being dropped.
    pub fn node(&self, id: NodeId) -> Option<Arc<NodeCore>> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner).get(id.0).and_then(Weak::upgrade)
    }

    /// The time in this cluster.
    pub fn now(&self) -> DateTime<Utc> {
        Utc::now() + TimeDelta::seconds(self.clock_ahead.load(Ordering::Relaxed))
    }

    /// ID of the raft group that orders schema changes.
    pub fn group0_id(&self) -> Uuid {
        seeded_table_id(self.model().seed, "group 0")
    }

    /// What wrong credentials are answered with.
    pub fn refusal(&self) -> &'static str {
        match self.options.refusal {
            Refusal::Incorrect => "Username and/or password are incorrect",
            Refusal::Failed => "Remote authentication failed",
        }
    }

    /// Writes one row to memtables of its replicas.
    pub fn write(&self, keyspace: &str, table: &str, key: &[u8], value: &[u8]) -> Result<(), SimError> {
        let mutations = data::plan_write(&mut self.model(), keyspace, table, key, value)?;
        self.apply(mutations);
        Ok(())
    }

    /// Puts rows into the memtables of their nodes.
    pub fn apply(&self, mutations: data::Mutations) {
        for (node, table, row) in mutations {
            if let Some(node) = self.node(node) {
                node.insert(table, row);
            }
        }
    }
}

/// A running cluster. Dropping it stops all servers and removes temporary data.
pub struct SimCluster {
    shared: Arc<Shared>,
    nodes: Vec<SimNode>,
    data_root: PathBuf,
    _temporary: Option<TempDir>,
    _range: Option<addresses::Range>,
}

impl SimCluster {
    /// Describes a cluster to start.
    pub fn builder() -> ClusterBuilder {
        ClusterBuilder::new()
    }

    async fn start(builder: ClusterBuilder) -> Result<Self, SimError> {
        if builder.node_count() == 0 {
            return Err(SimError::NoNodes);
        }
        let range = match builder.first_address {
            Some(_) => None,
            None => Some(addresses::Range::claim()?),
        };
        let first = builder.first_address.or(range.as_ref().map(addresses::Range::first));
        let model = builder.model_at(first.ok_or(SimError::NoAddresses)?);
        let (data_root, temporary) = data_root(&builder)?;
        let ids: Vec<NodeId> = model.members.iter().map(|m| m.id).collect();
        let shared = Arc::new(Shared {
            model: Mutex::new(model),
            nodes: Mutex::new(Vec::new()),
            options: builder.options.clone(),
            rules: Rules::new(builder.seed),
            observed: Observed::default(),
            schema_changed: Notify::new(),
            schema_events: broadcast::Sender::new(SCHEMA_EVENTS),
            clock_ahead: AtomicI64::new(0),
        });
        let mut nodes = Vec::new();
        for id in ids {
            nodes.push(SimNode::create(id, &shared, &data_root)?);
        }
        *shared.nodes.lock().unwrap_or_else(PoisonError::into_inner) =
            nodes.iter().map(SimNode::weak).collect();
        let mut cluster = Self { shared, nodes, data_root, _temporary: temporary, _range: range };
        cluster.fill(&builder).await?;
        cluster.listen(builder.ports).await?;
        Ok(cluster)
    }

    /// Writes the first data of tables that have no SSTable yet.
    async fn fill(&self, builder: &ClusterBuilder) -> Result<(), SimError> {
        for keyspace in &builder.keyspaces {
            for table in keyspace.tables() {
                if self.has_sstables(keyspace.name(), &table.name)? {
                    continue;
                }
                for _ in 0..table.sstables {
                    let mutations = data::plan_batch(&mut self.shared.model(), keyspace.name(), table)?;
                    self.shared.apply(mutations);
                    for node in &self.nodes {
                        node.flush_filled(keyspace.name(), &table.name, table.fill).await?;
                    }
                }
            }
        }
        if builder.system_sstables {
            self.fill_system_tables().await?;
        }
        Ok(())
    }

    async fn fill_system_tables(&self) -> Result<(), SimError> {
        let tables: Vec<(String, String)> = self
            .shared
            .model()
            .tables()
            .filter(|(ks, _)| ks.class != KeyspaceClass::User)
            .filter(|(ks, t)| ks.name != "system" || ["local", "peers"].contains(&t.name.as_str()))
            .map(|(ks, t)| (ks.name.clone(), t.name.clone()))
            .collect();
        for (keyspace, table) in tables {
            if self.has_sstables(&keyspace, &table)? {
                continue;
            }
            let (_, mutations) = data::plan_rows(&mut self.shared.model(), &keyspace, &table, 2)?;
            self.shared.apply(mutations);
            for node in &self.nodes {
                node.flush(&keyspace, &table).await?;
            }
        }
        Ok(())
    }

    fn has_sstables(&self, keyspace: &str, table: &str) -> Result<bool, SimError> {
        for node in &self.nodes {
            if !node.sstables(keyspace, table)?.is_empty() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Opens all servers, each kind on the same port of every node.
    async fn listen(&mut self, ports: Ports) -> Result<(), SimError> {
        let mut ports = ports;
        for node in &self.nodes {
            ports = node.listen(ports).await?;
        }
        Ok(())
    }

    pub fn name(&self) -> String {
        self.shared.model().name.clone()
    }

    /// All nodes that ever were, in the order of their addresses at the start.
    pub fn nodes(&self) -> &[SimNode] {
        &self.nodes
    }

    /// Nodes of one datacenter.
    pub fn nodes_in(&self, dc: &str) -> Vec<SimNode> {
        self.nodes.iter().filter(|n| n.dc() == dc).cloned().collect()
    }

    /// The node with this address, host ID or number (from 1).
    ///
    /// # Errors
    /// When there is none.
    pub fn node(&self, name: &str) -> Result<&SimNode, SimError> {
        let named = |n: &&SimNode| {
            n.address().to_string() == name
                || n.host_id().to_string() == name
                || (n.id().0 + 1).to_string() == name
        };
        self.nodes.iter().find(named).ok_or_else(|| SimError::NoSuchNode(name.to_owned()))
    }

    /// Fault rules of all nodes.
    pub fn rules(&self) -> &Rules {
        &self.shared.rules
    }

    /// What the nodes saw so far.
    pub fn observed(&self) -> &Observed {
        &self.shared.observed
    }

    /// Whether tablets are being balanced.
    pub fn balancing(&self) -> bool {
        self.shared.model().balancing
    }

    /// Sets how far the cluster's clock is ahead of this machine's.
    pub fn set_clock_ahead(&self, ahead: TimeDelta) {
        self.shared.clock_ahead.store(ahead.num_seconds(), Ordering::Relaxed);
    }

    /// Drops a table with its views; snapshots stay.
    ///
    /// # Errors
    /// When there is no such table, or files cannot be removed.
    pub fn drop_table(&self, keyspace: &str, table: &str) -> Result<(), SimError> {
        self.shared.drop_table(keyspace, table)
    }

    /// Directory above the nodes' data directories.
    pub fn data_root(&self) -> &Path {
        &self.data_root
    }

    /// The shared model, locked. Look, take what you need, and drop it before the next await.
    pub fn model(&self) -> MutexGuard<'_, Model> {
        self.shared.model()
    }

    /// Writes `count` new rows to memtables of their replicas and returns the keys.
    ///
    /// # Errors
    /// When there is no such table.
    pub fn write_rows(&self, keyspace: &str, table: &str, count: usize) -> Result<Vec<Vec<u8>>, SimError> {
        let (keys, mutations) = data::plan_rows(&mut self.shared.model(), keyspace, table, count)?;
        self.shared.apply(mutations);
        Ok(keys)
    }

    /// Writes one row to memtables of its replicas.
    ///
    /// # Errors
    /// When there is no such table.
    pub fn insert(&self, keyspace: &str, table: &str, key: &str, value: &str) -> Result<(), SimError> {
        let mutations =
            data::plan_write(&mut self.shared.model(), keyspace, table, key.as_bytes(), value.as_bytes())?;
        self.shared.apply(mutations);
        Ok(())
    }

    /// Flushes one table, with its views and other derived tables, on all nodes.
    ///
    /// # Errors
    /// When there is no such table, or a disk fails.
    pub async fn flush(&self, keyspace: &str, table: &str) -> Result<(), SimError> {
        for node in &self.nodes {
            node.flush(keyspace, table).await?;
        }
        Ok(())
    }

    /// Compacts one table on all nodes into one SSTable each.
    ///
    /// # Errors
    /// When there is no such table, or a disk fails.
    pub async fn compact(&self, keyspace: &str, table: &str) -> Result<(), SimError> {
        for node in &self.nodes {
            node.compact(keyspace, table).await?;
        }
        Ok(())
    }

    /// Rows of a table as a read from all replicas returns them, by key.
    ///
    /// # Errors
    /// When there is no such table, or an SSTable cannot be read.
    pub fn rows(&self, keyspace: &str, table: &str) -> Result<BTreeMap<Vec<u8>, Row>, SimError> {
        let mut all = Vec::new();
        for node in &self.nodes {
            all.extend(node.rows(keyspace, table)?);
        }
        Ok(merge_rows(all).into_iter().map(|row| (row.key.clone(), row)).collect())
    }

    /// Rows that some replica lacks: a restore that forgot the repair shows here. Key and node.
    ///
    /// # Errors
    /// When there is no such table, or an SSTable cannot be read.
    pub fn missing_replicas(&self, keyspace: &str, table: &str) -> Result<Vec<(Vec<u8>, NodeId)>, SimError> {
        let rows = self.rows(keyspace, table)?;
        let mut held: BTreeMap<NodeId, BTreeMap<Vec<u8>, Row>> = BTreeMap::new();
        for node in &self.nodes {
            let rows = node.rows(keyspace, table)?.into_iter().map(|r| (r.key.clone(), r)).collect();
            held.insert(node.id(), rows);
        }
        let model = self.shared.model();
        let (ks, t) =
            model.keyspaces.get(keyspace).and_then(|ks| Some((ks, ks.tables.get(table)?))).ok_or_else(
                || SimError::NoSuchTable { keyspace: keyspace.to_owned(), table: table.to_owned() },
            )?;
        let mut missing = Vec::new();
        for (key, row) in &rows {
            for node in replicas(&model, ks, t, token_of(key), NodeId(0)) {
                if held.get(&node).and_then(|rows| rows.get(key)) != Some(row) {
                    missing.push((key.clone(), node));
                }
            }
        }
        Ok(missing)
    }

    /// Stops all servers and waits until they are gone.
    pub async fn shutdown(&self) {
        for node in &self.nodes {
            node.stop().await;
        }
    }
}

impl ClusterBuilder {
    /// Creates the data and starts all nodes.
    ///
    /// # Errors
    /// When a file cannot be written or an address is taken.
    pub async fn start(self) -> Result<SimCluster, SimError> {
        Box::pin(SimCluster::start(self)).await
    }
}

fn data_root(builder: &ClusterBuilder) -> Result<(PathBuf, Option<TempDir>), SimError> {
    match &builder.data_root {
        Some(root) => Ok((root.clone(), None)),
        None => {
            let dir = tempfile::Builder::new().prefix("simulated-scylla-").tempdir();
            let dir = dir.map_err(|source| SimError::Disk {
                doing: "create a directory below",
                path: std::env::temp_dir(),
                source,
            })?;
            Ok((dir.path().to_owned(), Some(dir)))
        }
    }
}
