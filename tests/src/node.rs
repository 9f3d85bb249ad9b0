//! One simulated Scylla node: memtables, a real data directory, and the servers in front of it.
//!
//! [`NodeCore`] is what the servers share; [`SimNode`] is the handle for tests, which can also stop and
//! start the servers. Stopping loses nothing but connections: files and memtables stay, as if the commit
//! log were replayed.

mod config;
mod cql;
mod disk;
pub mod faults;
mod http;
mod metrics;
mod observed;
mod rest;
mod servers;
mod snapshots;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use uuid::Uuid;

use crate::cluster::{Membership, NodeId, Ports, Shared, SimError, Table};
use crate::sstable::{Fill, Row, Sstable};

pub(crate) use cql::SchemaChange;
pub use disk::SameName;
pub use observed::{Call, Observed};
pub use snapshots::{SnapshotFault, TableSnapshot};

/// State of one node that no other node sees.
#[derive(Debug, Default)]
pub(crate) struct NodeState {
    /// Rows not flushed yet, by table ID and key.
    memtables: HashMap<Uuid, BTreeMap<Vec<u8>, Row>>,
    /// Last integer generation given out, by table ID.
    last_integer: HashMap<Uuid, u64>,
    /// UUID generations given out.
    uuid_generations: u64,
    /// Tables whose automatic compaction is switched off.
    autocompaction_off: HashSet<Uuid>,
    /// Configuration entries that differ from the usual; `None`: unknown to this release.
    config_overrides: BTreeMap<String, Option<serde_json::Value>>,
    ports: Ports,
    disk: DiskFault,
    snapshot_faults: Vec<SnapshotFault>,
}

/// What is wrong with the node's disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DiskFault {
    #[default]
    None,
    /// This many files can still be created or linked, then `ENOSPC`.
    FullAfter(u64),
}

/// A node without its servers.
pub(crate) struct NodeCore {
    pub id: NodeId,
    pub shared: Arc<Shared>,
    pub data_dir: PathBuf,
    state: Mutex<NodeState>,
    /// Held while files of tables appear or vanish, on blocking threads only.
    disk: Mutex<()>,
    /// Operations on snapshots are serialised on a node; reading them is not.
    snapshot_lock: tokio::sync::RwLock<()>,
}

impl NodeCore {
    fn new(id: NodeId, shared: &Arc<Shared>, data_dir: PathBuf) -> Self {
        Self {
            id,
            shared: Arc::clone(shared),
            data_dir,
            state: Mutex::default(),
            disk: Mutex::default(),
            snapshot_lock: tokio::sync::RwLock::default(),
        }
    }

    /// The node's own state, locked; never keep it across an await.
    pub fn state(&self) -> MutexGuard<'_, NodeState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn address(&self) -> IpAddr {
        self.shared.model().member(self.id).address
    }

    /// Puts a row into a memtable; an older version of a row never replaces a newer one.
    pub fn insert(&self, table: Uuid, row: Row) {
        let mut state = self.state();
        let memtable = state.memtables.entry(table).or_default();
        match memtable.get(&row.key) {
            Some(known) if known.timestamp >= row.timestamp => {}
            _ => {
                memtable.insert(row.key.clone(), row);
            }
        }
    }

    /// A copy of the table's definition.
    pub fn table(&self, keyspace: &str, table: &str) -> Result<Table, SimError> {
        self.shared
            .model()
            .table(keyspace, table)
            .cloned()
            .ok_or_else(|| SimError::NoSuchTable { keyspace: keyspace.to_owned(), table: table.to_owned() })
    }
}

/// Runs disk work of a node on a blocking thread.
pub(crate) async fn blocking<T: Send + 'static>(
    core: &Arc<NodeCore>,
    work: impl FnOnce(&NodeCore) -> T + Send + 'static,
) -> T {
    let core = Arc::clone(core);
    match tokio::task::spawn_blocking(move || work(&core)).await {
        Ok(value) => value,
        Err(failed) => std::panic::resume_unwind(failed.into_panic()),
    }
}

/// Handle of one node; clones mean the same node.
#[derive(Clone)]
pub struct SimNode {
    core: Arc<NodeCore>,
    servers: Arc<tokio::sync::Mutex<Option<servers::Servers>>>,
}

impl SimNode {
    pub(crate) fn create(id: NodeId, shared: &Arc<Shared>, data_root: &Path) -> Result<Self, SimError> {
        let address = shared.model().member(id).address;
        let data_dir = data_root.join(address.to_string()).join("data");
        let core = Arc::new(NodeCore::new(id, shared, data_dir));
        core.create_all_tables()?;
        Ok(Self { core, servers: Arc::default() })
    }

    pub(crate) fn weak(&self) -> Weak<NodeCore> {
        Arc::downgrade(&self.core)
    }

    /// Opens the servers for the first time and returns the ports they got.
    pub(crate) async fn listen(&self, ports: Ports) -> Result<Ports, SimError> {
        let (servers, ports) = servers::Servers::open(&self.core, ports).await?;
        self.core.state().ports = ports;
        *self.servers.lock().await = Some(servers);
        Ok(ports)
    }

    pub fn id(&self) -> NodeId {
        self.core.id
    }

    pub fn address(&self) -> IpAddr {
        self.core.address()
    }

    pub fn host_id(&self) -> Uuid {
        self.core.shared.model().member(self.core.id).host_id
    }

    pub fn dc(&self) -> String {
        self.core.shared.model().member(self.core.id).dc.clone()
    }

    pub fn rack(&self) -> String {
        self.core.shared.model().member(self.core.id).rack.clone()
    }

    /// Directory of the keyspaces: the `data_file_directories` entry of its configuration.
    pub fn data_dir(&self) -> &Path {
        &self.core.data_dir
    }

    /// Address of the Scylla REST API, what an agent calls `scylla.api_address` and `api_port`.
    pub fn rest_addr(&self) -> SocketAddr {
        SocketAddr::new(self.address(), self.core.state().ports.rest)
    }

    pub fn metrics_addr(&self) -> SocketAddr {
        SocketAddr::new(self.address(), self.core.state().ports.metrics)
    }

    pub fn cql_addr(&self) -> SocketAddr {
        SocketAddr::new(self.address(), self.core.state().ports.cql)
    }

    /// Address of CQL over TLS, where the cluster has it.
    pub fn cql_tls_addr(&self) -> SocketAddr {
        SocketAddr::new(self.address(), self.core.state().ports.cql_tls)
    }

    /// The REST API as a router, for callers in this process. Faults that break a connection show as a
    /// body that fails.
    pub fn rest_router(&self) -> axum::Router {
        http::router(Arc::clone(&self.core), http::Port::Rest)
    }

    /// The metrics port as a router.
    pub fn metrics_router(&self) -> axum::Router {
        http::router(Arc::clone(&self.core), http::Port::Metrics)
    }

    /// True while the servers listen.
    pub async fn is_running(&self) -> bool {
        self.servers.lock().await.is_some()
    }

    /// Stops all servers, breaking open connections; the others see the node as down at once.
    pub async fn stop(&self) {
        self.stop_servers().await;
        self.set_gossip(false);
    }

    /// Stops all servers, while the others still consider the node up.
    pub async fn stop_servers(&self) {
        let servers = self.servers.lock().await.take();
        if let Some(servers) = servers {
            servers.close().await;
        }
    }

    /// Starts a stopped node on its old addresses. As after a real restart, automatic compaction is on
    /// for all tables.
    ///
    /// # Errors
    /// When a port was taken in the meantime.
    pub async fn start(&self) -> Result<(), SimError> {
        let mut servers = self.servers.lock().await;
        if servers.is_none() {
            let ports = self.core.state().ports;
            self.core.state().autocompaction_off.clear();
            let (opened, _) = servers::Servers::open(&self.core, ports).await?;
            *servers = Some(opened);
        }
        self.set_gossip(true);
        Ok(())
    }

    /// What the others think of this node, whether it runs or not.
    pub fn set_gossip(&self, up: bool) {
        self.core.shared.model().member_mut(self.core.id).gossip_up = up;
    }

    pub fn set_membership(&self, membership: Membership) {
        self.core.shared.model().member_mut(self.core.id).membership = membership;
    }

    /// Gives the node another host ID, as after its replacement.
    pub fn set_host_id(&self, host_id: Uuid) {
        self.core.shared.model().member_mut(self.core.id).host_id = host_id;
    }

    /// Sets the release this node reports.
    pub fn set_release(&self, release: &str) {
        self.core.shared.model().member_mut(self.core.id).release_version = release.to_owned();
    }

    /// Sets a configuration entry; `None` makes the node answer `No such config entry`.
    pub fn set_config(&self, name: &str, value: Option<serde_json::Value>) {
        self.core.state().config_overrides.insert(name.to_owned(), value);
    }

    /// Keeps the node on the schema version it has, until released with `false`.
    pub fn freeze_schema(&self, frozen: bool) {
        let mut model = self.core.shared.model();
        if frozen {
            model.schema_frozen.insert(self.core.id);
        } else {
            model.schema_frozen.remove(&self.core.id);
            model.adopt_schema();
            self.core.shared.schema_changed.notify_waiters();
        }
    }

    /// Breaks or mends the node's disk.
    pub fn set_disk_fault(&self, fault: DiskFault) {
        self.core.state().disk = fault;
    }

    /// Adds a fault for the next snapshot that it fits.
    pub fn add_snapshot_fault(&self, fault: SnapshotFault) {
        self.core.state().snapshot_faults.push(fault);
    }

    /// Whether automatic compaction of a table is on.
    ///
    /// # Errors
    /// When there is no such table.
    pub fn autocompaction(&self, keyspace: &str, table: &str) -> Result<bool, SimError> {
        let id = self.core.table(keyspace, table)?.id;
        Ok(!self.core.state().autocompaction_off.contains(&id))
    }

    /// Directory of a table.
    ///
    /// # Errors
    /// When there is no such table.
    pub fn table_dir(&self, keyspace: &str, table: &str) -> Result<PathBuf, SimError> {
        Ok(self.core.table_dir(keyspace, &self.core.table(keyspace, table)?))
    }

    /// Live SSTables of a table.
    ///
    /// # Errors
    /// When there is no such table, or its directory cannot be read.
    pub fn sstables(&self, keyspace: &str, table: &str) -> Result<Vec<Sstable>, SimError> {
        self.core.sstables(keyspace, &self.core.table(keyspace, table)?)
    }

    /// Rows of a table on this node, in memory and on disk, newest versions.
    ///
    /// # Errors
    /// When there is no such table, or an SSTable cannot be read.
    pub fn rows(&self, keyspace: &str, table: &str) -> Result<Vec<Row>, SimError> {
        self.core.rows(keyspace, &self.core.table(keyspace, table)?)
    }

    /// Flushes a table and the tables derived from it; each with rows in memory gets one new SSTable.
    ///
    /// # Errors
    /// When there is no such table, or the disk fails.
    pub async fn flush(&self, keyspace: &str, table: &str) -> Result<Vec<Sstable>, SimError> {
        self.flush_filled(keyspace, table, Fill::Noise).await
    }

    pub(crate) async fn flush_filled(
        &self,
        keyspace: &str,
        table: &str,
        fill: Fill,
    ) -> Result<Vec<Sstable>, SimError> {
        self.on_tables(keyspace, table, move |core, ks, t| core.flush_table(ks, t, fill)).await
    }

    /// Replaces all SSTables of a table, and of those derived from it, by one each.
    ///
    /// # Errors
    /// When there is no such table, or the disk fails.
    pub async fn compact(&self, keyspace: &str, table: &str) -> Result<Vec<Sstable>, SimError> {
        self.on_tables(keyspace, table, |core, ks, t| core.compact_table(ks, t)).await
    }

    /// Writes every SSTable with an integer generation again under the same name: what data loss and
    /// restarted numbering lead to. Snapshots keep the old files.
    ///
    /// # Errors
    /// When there is no such table, or the disk fails.
    pub async fn rewrite_same_names(
        &self,
        keyspace: &str,
        table: &str,
        how: SameName,
    ) -> Result<Vec<Sstable>, SimError> {
        let (keyspace, table) = (keyspace.to_owned(), self.core.table(keyspace, table)?);
        blocking(&self.core, move |core| core.rewrite_same_names(&keyspace, &table, how)).await
    }

    /// Loses all rows of a table on this node, in memory and on disk, and restarts integer generations
    /// from 1. Snapshots stay.
    ///
    /// # Errors
    /// When there is no such table, or the disk fails.
    pub async fn lose_table(&self, keyspace: &str, table: &str) -> Result<(), SimError> {
        let (keyspace, table) = (keyspace.to_owned(), self.core.table(keyspace, table)?);
        blocking(&self.core, move |core| core.lose_table(&keyspace, &table)).await
    }

    /// All snapshots found on disk, by tag.
    ///
    /// # Errors
    /// When a directory cannot be read.
    pub async fn snapshots(&self) -> Result<BTreeMap<String, Vec<TableSnapshot>>, SimError> {
        blocking(&self.core, NodeCore::list_snapshots).await
    }

    async fn on_tables(
        &self,
        keyspace: &str,
        table: &str,
        work: impl Fn(&NodeCore, &str, &Table) -> Result<Option<Sstable>, SimError> + Send + 'static,
    ) -> Result<Vec<Sstable>, SimError> {
        let tables = self.with_derived(keyspace, table)?;
        let keyspace = keyspace.to_owned();
        blocking(&self.core, move |core| {
            tables.iter().filter_map(|t| work(core, &keyspace, t).transpose()).collect()
        })
        .await
    }

    fn with_derived(&self, keyspace: &str, table: &str) -> Result<Vec<Table>, SimError> {
        let base = self.core.table(keyspace, table)?;
        let model = self.core.shared.model();
        let derived = model.keyspaces.get(keyspace).into_iter().flat_map(|ks| ks.tables.values());
        let derived = derived.filter(|t| t.kind.base() == Some(table)).cloned();
        Ok(std::iter::once(base).chain(derived).collect())
    }
}
