//! Describes a cluster before it starts: datacenters, keyspaces, data, ports, faults of its version.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::PathBuf;

use super::identity::{seeded_number, seeded_table_id, seeded_uuid};
use super::model::{
    ColumnKind, Distribution, Keyspace, KeyspaceClass, Member, Membership, Model, NodeId, Replication, Table,
    TableKind,
};
use super::ring::make_tablets;
use super::system_tables::{key_value_columns, system_keyspaces};
use crate::sstable::{Fill, SstableVersion};

/// Release every node runs unless told otherwise.
pub const DEFAULT_RELEASE: &str = "2025.1.0-0.20250325.9dca28d2b818";

/// Which generation IDs nodes give to new SSTables.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GenerationIds {
    /// Small numbers, which come back after data loss.
    Integer,
    #[default]
    Uuid,
    /// Alternating, as in a cluster that was upgraded.
    Mixed,
}

/// Form of the `manifest.json` that a snapshot writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ManifestForm {
    /// `{"files":[...]}`.
    FileList,
    /// With node, table and SSTable facts, written by newer releases.
    Detailed,
}

/// Ports of every node; 0 lets the system choose one that is free on all addresses.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ports {
    pub rest: u16,
    pub metrics: u16,
    pub cql: u16,
    pub cql_tls: u16,
}

impl Ports {
    /// The ports of a real installation.
    pub const SCYLLA: Self = Self { rest: 10_000, metrics: 9_180, cql: 9_042, cql_tls: 9_142 };
}

/// User name and password that CQL demands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    pub username: String,
    pub password: String,
}

/// Wording of the refusal of wrong credentials; both are in use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Refusal {
    /// `Username and/or password are incorrect`.
    #[default]
    Incorrect,
    /// A text that ends in `authentication failed`.
    Failed,
}

/// TLS on the CQL port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CqlTls {
    Off,
    /// Server certificate only.
    Server,
    /// Clients must present a certificate; any is accepted.
    ClientCertificate,
}

/// A user table to create, with its derived tables and first data.
#[derive(Clone, Debug)]
pub struct TableSpec {
    pub(crate) name: String,
    pub(crate) sstables: usize,
    pub(crate) rows_per_sstable: usize,
    pub(crate) data_size: u64,
    pub(crate) fill: Fill,
    pub(crate) views: Vec<String>,
    pub(crate) indexes: Vec<String>,
    pub(crate) cdc: bool,
    pub(crate) paxos: bool,
    pub(crate) compressed: bool,
    pub(crate) version: Option<SstableVersion>,
}

impl TableSpec {
    /// A compressed table with one small SSTable on each replica.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            sstables: 1,
            rows_per_sstable: 4,
            data_size: 0,
            fill: Fill::Noise,
            views: Vec::new(),
            indexes: Vec::new(),
            cdc: false,
            paxos: false,
            compressed: true,
            version: None,
        }
    }

    /// SSTables on each replica at the start; 0 gives an empty table.
    #[must_use]
    pub fn sstables(mut self, count: usize) -> Self {
        self.sstables = count;
        self
    }

    /// Rows that each replica holds per SSTable, at least.
    #[must_use]
    pub fn rows_per_sstable(mut self, count: usize) -> Self {
        self.rows_per_sstable = count;
        self
    }

    /// Least size of every `Data.db` in bytes, filled up with noise.
    #[must_use]
    pub fn data_size(mut self, bytes: u64) -> Self {
        self.data_size = bytes;
        self
    }

    /// Fills the first SSTables with a hole instead of noise.
    #[must_use]
    pub fn sparse(mut self) -> Self {
        self.fill = Fill::Sparse;
        self
    }

    /// Adds a materialized view.
    #[must_use]
    pub fn view(mut self, name: impl Into<String>) -> Self {
        self.views.push(name.into());
        self
    }

    /// Adds a secondary index; its backing table is `<name>_index`.
    #[must_use]
    pub fn index(mut self, name: impl Into<String>) -> Self {
        self.indexes.push(name.into());
        self
    }

    /// Adds the CDC log table `<name>_scylla_cdc_log`.
    #[must_use]
    pub fn cdc(mut self) -> Self {
        self.cdc = true;
        self
    }

    /// Adds the LWT state table `<name>$paxos`.
    #[must_use]
    pub fn paxos(mut self) -> Self {
        self.paxos = true;
        self
    }

    /// Stores the table uncompressed: `CRC.db` in place of `CompressionInfo.db`.
    #[must_use]
    pub fn uncompressed(mut self) -> Self {
        self.compressed = false;
        self
    }

    /// SSTable format, if not the cluster's.
    #[must_use]
    pub fn version(mut self, version: SstableVersion) -> Self {
        self.version = Some(version);
        self
    }
}

impl From<&str> for TableSpec {
    fn from(name: &str) -> Self {
        Self::new(name)
    }
}

/// A user keyspace to create.
#[derive(Clone, Debug)]
pub struct KeyspaceSpec {
    name: String,
    replicas: BTreeMap<String, usize>,
    distribution: Distribution,
    tables: Vec<TableSpec>,
}

impl KeyspaceSpec {
    /// A vnode keyspace with three replicas in each datacenter, or as many as there are nodes.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            replicas: BTreeMap::new(),
            distribution: Distribution::Vnodes,
            tables: Vec::new(),
        }
    }

    /// Replicas in one datacenter. Once given, datacenters without a number hold no replica.
    #[must_use]
    pub fn replicas(mut self, dc: impl Into<String>, factor: usize) -> Self {
        self.replicas.insert(dc.into(), factor);
        self
    }

    /// Divides the tables into tablets, `initial` at first.
    #[must_use]
    pub fn tablets(mut self, initial: u32) -> Self {
        self.distribution = Distribution::Tablets { initial };
        self
    }

    #[must_use]
    pub fn table(mut self, table: impl Into<TableSpec>) -> Self {
        self.tables.push(table.into());
        self
    }
}

/// Builder of a [`SimCluster`](super::SimCluster); everything has a default but the datacenters.
#[derive(Clone, Debug)]
pub struct ClusterBuilder {
    pub(crate) name: String,
    dcs: Vec<(String, usize)>,
    pub(crate) keyspaces: Vec<KeyspaceSpec>,
    pub(crate) seed: u64,
    shards: u32,
    tokens_per_node: usize,
    racks: usize,
    release: String,
    version: SstableVersion,
    pub(crate) options: NodeOptions,
    pub(crate) system_sstables: bool,
    pub(crate) data_root: Option<PathBuf>,
    pub(crate) first_address: Option<Ipv4Addr>,
    pub(crate) ports: Ports,
}

/// What all nodes of a cluster have in common and needs no model.
#[derive(Clone, Debug)]
pub(crate) struct NodeOptions {
    pub generation_ids: GenerationIds,
    pub manifest_form: ManifestForm,
    pub auth: Option<Credentials>,
    pub refusal: Refusal,
    pub cql_tls: CqlTls,
    pub memory_per_shard: u64,
}

impl Default for ClusterBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl ClusterBuilder {
    pub fn new() -> Self {
        Self {
            name: "test-cluster".to_owned(),
            dcs: Vec::new(),
            keyspaces: Vec::new(),
            seed: 1,
            shards: 2,
            tokens_per_node: 16,
            racks: 3,
            release: DEFAULT_RELEASE.to_owned(),
            version: SstableVersion::Me,
            options: NodeOptions {
                generation_ids: GenerationIds::Uuid,
                manifest_form: ManifestForm::FileList,
                auth: None,
                refusal: Refusal::Incorrect,
                cql_tls: CqlTls::Off,
                memory_per_shard: 1 << 30,
            },
            system_sstables: true,
            data_root: None,
            first_address: None,
            ports: Ports::default(),
        }
    }

    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Adds a datacenter with that many nodes.
    #[must_use]
    pub fn dc(mut self, name: impl Into<String>, nodes: usize) -> Self {
        self.dcs.push((name.into(), nodes));
        self
    }

    #[must_use]
    pub fn keyspace(mut self, keyspace: KeyspaceSpec) -> Self {
        self.keyspaces.push(keyspace);
        self
    }

    /// Adds keyspaces `ks1`, `ks2`, ... with tables `t1`, `t2`, ... like `table`; every second keyspace
    /// uses tablets.
    #[must_use]
    pub fn generate(mut self, keyspaces: usize, tables: usize, table: &TableSpec) -> Self {
        for ks in 1..=keyspaces {
            let mut spec = KeyspaceSpec::new(format!("ks{ks}"));
            if ks % 2 == 0 {
                spec = spec.tablets(8);
            }
            for t in 1..=tables {
                spec = spec.table(TableSpec { name: format!("t{t}"), ..table.clone() });
            }
            self = self.keyspace(spec);
        }
        self
    }

    /// Decides all IDs, tokens, keys and contents.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    #[must_use]
    pub fn shards(mut self, shards: u32) -> Self {
        self.shards = shards;
        self
    }

    #[must_use]
    pub fn tokens_per_node(mut self, tokens: usize) -> Self {
        self.tokens_per_node = tokens;
        self
    }

    /// Racks per datacenter that nodes are dealt to in turn.
    #[must_use]
    pub fn racks(mut self, racks: usize) -> Self {
        self.racks = racks.max(1);
        self
    }

    /// Release all nodes report, `<semver>-<build>`.
    #[must_use]
    pub fn release(mut self, release: impl Into<String>) -> Self {
        self.release = release.into();
        self
    }

    #[must_use]
    pub fn generation_ids(mut self, ids: GenerationIds) -> Self {
        self.options.generation_ids = ids;
        self
    }

    #[must_use]
    pub fn sstable_version(mut self, version: SstableVersion) -> Self {
        self.version = version;
        self
    }

    #[must_use]
    pub fn manifest_form(mut self, form: ManifestForm) -> Self {
        self.options.manifest_form = form;
        self
    }

    /// Demands this login on CQL.
    #[must_use]
    pub fn auth(mut self, username: impl Into<String>, password: impl Into<String>) -> Self {
        self.options.auth = Some(Credentials { username: username.into(), password: password.into() });
        self
    }

    /// How wrong credentials are refused.
    #[must_use]
    pub fn refusal(mut self, refusal: Refusal) -> Self {
        self.options.refusal = refusal;
        self
    }

    #[must_use]
    pub fn cql_tls(mut self, tls: CqlTls) -> Self {
        self.options.cql_tls = tls;
        self
    }

    /// Leaves the system tables without SSTables, for benchmarks that count files.
    #[must_use]
    pub fn empty_system_tables(mut self) -> Self {
        self.system_sstables = false;
        self
    }

    /// Keeps node data below `root` after the cluster is gone, and takes up what is there already:
    /// tables that have SSTables get no first data. Default: a temporary directory.
    #[must_use]
    pub fn data_root(mut self, root: impl Into<PathBuf>) -> Self {
        self.data_root = Some(root.into());
        self
    }

    /// Address of the first node; the others follow. Default: a range of 127.0.0.0/8 that no other
    /// cluster on this machine has taken.
    #[must_use]
    pub fn first_address(mut self, address: Ipv4Addr) -> Self {
        self.first_address = Some(address);
        self
    }

    #[must_use]
    pub fn ports(mut self, ports: Ports) -> Self {
        self.ports = ports;
        self
    }

    /// Number of nodes in all datacenters.
    pub fn node_count(&self) -> usize {
        self.dcs.iter().map(|(_, nodes)| nodes).sum()
    }

    /// The model this builder describes, at addresses from 127.0.0.11 on unless told otherwise.
    pub fn model(&self) -> Model {
        self.model_at(self.first_address.unwrap_or(Ipv4Addr::new(127, 0, 0, 11)))
    }

    pub(crate) fn model_at(&self, first: Ipv4Addr) -> Model {
        let schema_version = seeded_table_id(self.seed, "schema 0");
        let mut model = Model {
            name: self.name.clone(),
            seed: self.seed,
            members: self.members(first, schema_version),
            keyspaces: BTreeMap::new(),
            schema_version,
            group0_log: Vec::new(),
            balancing: true,
            balancing_changes: Vec::new(),
            schema_frozen: Default::default(),
            write_clock: 1_735_689_600_000_000,
            row_counter: 0,
            roles: vec!["cassandra".to_owned()],
        };
        for keyspace in system_keyspaces(&self.dcs, self.version) {
            model.keyspaces.insert(keyspace.name.clone(), keyspace);
        }
        for spec in &self.keyspaces {
            let keyspace = self.keyspace_model(&model, spec);
            model.keyspaces.insert(keyspace.name.clone(), keyspace);
        }
        model
    }

    fn members(&self, first: Ipv4Addr, schema_version: uuid::Uuid) -> Vec<Member> {
        let placed = self.dcs.iter().flat_map(|(dc, nodes)| (0..*nodes).map(move |n| (dc, n)));
        placed
            .enumerate()
            .map(|(id, (dc, n))| Member {
                id: NodeId(id),
                address: Ipv4Addr::from(u32::from(first) + id as u32).into(),
                host_id: seeded_uuid(self.seed, &format!("host {id}")),
                dc: dc.clone(),
                rack: format!("r{}", n % self.racks + 1),
                shards: self.shards,
                tokens: self.tokens(id),
                release_version: self.release.clone(),
                membership: Membership::Normal,
                gossip_up: true,
                schema_version,
            })
            .collect()
    }

    pub(crate) fn tokens(&self, id: usize) -> Vec<i64> {
        let mut tokens: Vec<i64> = (0..self.tokens_per_node)
            .map(|n| seeded_number(self.seed, &format!("token {id} {n}")) as i64)
            .collect();
        tokens.sort_unstable();
        tokens
    }

    fn keyspace_model(&self, model: &Model, spec: &KeyspaceSpec) -> Keyspace {
        let all = |(dc, nodes): &(String, usize)| (dc.clone(), (*nodes).min(3));
        let replicas =
            if spec.replicas.is_empty() { self.dcs.iter().map(all).collect() } else { spec.replicas.clone() };
        let mut keyspace = Keyspace {
            name: spec.name.clone(),
            class: KeyspaceClass::User,
            replication: Replication::NetworkTopology(replicas),
            distribution: spec.distribution,
            durable_writes: true,
            tables: BTreeMap::new(),
        };
        for table in spec.tables.iter().flat_map(|t| self.table_models(&spec.name, t)) {
            let tablets = match keyspace.distribution {
                Distribution::Vnodes => Vec::new(),
                Distribution::Tablets { initial } => {
                    make_tablets(model, &keyspace, initial, keyspace.tables.len())
                }
            };
            keyspace.tables.insert(table.name.clone(), Table { tablets, ..table });
        }
        keyspace
    }

    /// A table and those derived from it.
    fn table_models(&self, keyspace: &str, spec: &TableSpec) -> Vec<Table> {
        let base = || spec.name.clone();
        let mut kinds = vec![(base(), TableKind::Base)];
        kinds.extend(spec.views.iter().map(|v| (v.clone(), TableKind::View { base: base() })));
        kinds.extend(
            spec.indexes
                .iter()
                .map(|i| (format!("{i}_index"), TableKind::Index { base: base(), index: i.clone() })),
        );
        if spec.cdc {
            kinds.push((format!("{}_scylla_cdc_log", spec.name), TableKind::CdcLog { base: base() }));
        }
        if spec.paxos {
            kinds.push((format!("{}$paxos", spec.name), TableKind::Paxos { base: base() }));
        }
        kinds
            .into_iter()
            .map(|(name, kind)| new_table(self.seed, keyspace, name, kind, spec, self.version))
            .collect()
    }
}

fn new_table(
    seed: u64,
    keyspace: &str,
    name: String,
    kind: TableKind,
    spec: &TableSpec,
    version: SstableVersion,
) -> Table {
    let mut columns = key_value_columns();
    if kind.is_view() {
        // Views are keyed by the value; the base key follows.
        columns.swap(0, 1);
        columns[0].kind = ColumnKind::PartitionKey;
        columns[0].position = 0;
        columns[1].kind = ColumnKind::Clustering;
        columns[1].position = 0;
    }
    Table {
        id: seeded_table_id(seed, &format!("table {keyspace}.{name}")),
        name,
        kind,
        columns,
        tombstone_gc: None,
        tablets: Vec::new(),
        compressed: spec.compressed,
        version: spec.version.unwrap_or(version),
        min_data_size: spec.data_size,
    }
}

impl KeyspaceSpec {
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn tables(&self) -> &[TableSpec] {
        &self.tables
    }
}
