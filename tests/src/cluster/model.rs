//! What the whole cluster agrees on: members, keyspaces, tables, schema version, balancing.
//!
//! One [`Model`] is shared by all nodes under a lock that is never held across an await. What belongs to
//! one node alone (memtables, files, flags) is in `node`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use uuid::Uuid;

use crate::sstable::SstableVersion;

/// Stable number of a node within its cluster; survives address and host ID changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub usize);

/// Membership as the token ring sees it; whether the process answers is another matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Membership {
    Joining,
    Normal,
    Leaving,
    /// Removed or decommissioned: no longer known to the others.
    Gone,
}

/// One member as the others know it.
#[derive(Clone, Debug)]
pub struct Member {
    pub id: NodeId,
    pub address: IpAddr,
    pub host_id: Uuid,
    pub dc: String,
    pub rack: String,
    pub shards: u32,
    /// Sorted.
    pub tokens: Vec<i64>,
    pub release_version: String,
    pub membership: Membership,
    /// Whether the other nodes consider it up.
    pub gossip_up: bool,
    /// Schema version this member has applied and gossips.
    pub schema_version: Uuid,
}

impl Member {
    /// In the token ring, up or down.
    pub fn is_in_ring(&self) -> bool {
        matches!(self.membership, Membership::Normal | Membership::Leaving)
    }

    /// Known to the cluster at all.
    pub fn is_member(&self) -> bool {
        self.membership != Membership::Gone
    }
}

/// Who a keyspace belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyspaceClass {
    /// `LocalStrategy`: each node has its own.
    Local,
    /// A system keyspace that is replicated.
    Internal,
    User,
}

/// Replication strategy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Replication {
    Local,
    Everywhere,
    Simple {
        factor: usize,
    },
    /// Replicas per datacenter.
    NetworkTopology(BTreeMap<String, usize>),
}

/// How the token range of a keyspace is divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Distribution {
    Vnodes,
    /// Each table has its own tablets; the number a new table starts with.
    Tablets {
        initial: u32,
    },
}

/// A keyspace and its tables.
#[derive(Clone, Debug)]
pub struct Keyspace {
    pub name: String,
    pub class: KeyspaceClass,
    pub replication: Replication,
    pub distribution: Distribution,
    pub durable_writes: bool,
    pub tables: BTreeMap<String, Table>,
}

impl Keyspace {
    /// True for tablet keyspaces.
    pub fn uses_tablets(&self) -> bool {
        matches!(self.distribution, Distribution::Tablets { .. })
    }
}

/// What a table is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TableKind {
    Base,
    /// A materialized view over `base`.
    View {
        base: String,
    },
    /// The backing view `<index>_index` of a secondary index over `base`.
    Index {
        base: String,
        index: String,
    },
    /// `<base>_scylla_cdc_log`.
    CdcLog {
        base: String,
    },
    /// `<base>$paxos`.
    Paxos {
        base: String,
    },
}

impl TableKind {
    /// True for what `system_schema.views` lists.
    pub fn is_view(&self) -> bool {
        matches!(self, Self::View { .. } | Self::Index { .. })
    }

    /// The table this one is derived from.
    pub fn base(&self) -> Option<&str> {
        match self {
            Self::Base => None,
            Self::View { base } | Self::Index { base, .. } | Self::CdcLog { base } | Self::Paxos { base } => {
                Some(base)
            }
        }
    }
}

/// Mode of tombstone garbage collection; a table without the option has `timeout`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TombstoneGc {
    Disabled,
    #[default]
    Timeout,
    Repair,
    Immediate,
}

impl TombstoneGc {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Disabled => "disabled",
            Self::Timeout => "timeout",
            Self::Repair => "repair",
            Self::Immediate => "immediate",
        }
    }
}

/// A column and its CQL type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    pub name: String,
    pub cql_type: String,
    pub kind: ColumnKind,
    pub position: i32,
}

/// Role of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ColumnKind {
    PartitionKey,
    Clustering,
    Regular,
}

impl ColumnKind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PartitionKey => "partition_key",
            Self::Clustering => "clustering",
            Self::Regular => "regular",
        }
    }
}

/// A table, view or index table.
#[derive(Clone, Debug)]
pub struct Table {
    pub name: String,
    pub id: Uuid,
    pub kind: TableKind,
    pub columns: Vec<Column>,
    /// `None`: the option was never set, which means `timeout`.
    pub tombstone_gc: Option<TombstoneGc>,
    /// Empty for vnode keyspaces.
    pub tablets: Vec<Tablet>,
    pub compressed: bool,
    /// Format of the SSTables it writes.
    pub version: SstableVersion,
    /// Every flush makes `Data.db` at least this large.
    pub min_data_size: u64,
}

impl Table {
    /// Name of its directory below the keyspace's.
    pub fn dir_name(&self) -> String {
        format!("{}-{}", self.name, self.id.simple())
    }
}

/// A piece of a table's token range with its own replicas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tablet {
    /// Last token it owns; it starts after the last one of its predecessor.
    pub last_token: i64,
    pub replicas: Vec<NodeId>,
}

/// State shared by all nodes.
#[derive(Debug)]
pub struct Model {
    pub name: String,
    pub seed: u64,
    pub members: Vec<Member>,
    pub keyspaces: BTreeMap<String, Keyspace>,
    pub schema_version: Uuid,
    /// Schema changes since the start, in order; the length is the committed group-0 index.
    pub group0_log: Vec<String>,
    /// Tablet load balancing.
    pub balancing: bool,
    /// Every value balancing was set to over REST, in order.
    pub balancing_changes: Vec<bool>,
    /// Members whose schema version stays what it is.
    pub schema_frozen: BTreeSet<NodeId>,
    /// Microseconds since 1970 of the next write; one write is one microsecond.
    pub write_clock: i64,
    /// Numbers handed out to rows without a key of their own.
    pub row_counter: u64,
    pub roles: Vec<String>,
}

impl Model {
    pub fn member(&self, id: NodeId) -> &Member {
        &self.members[id.0]
    }

    pub fn member_mut(&mut self, id: NodeId) -> &mut Member {
        &mut self.members[id.0]
    }

    /// The member with this address, unless it is gone.
    pub fn member_at(&self, address: IpAddr) -> Option<&Member> {
        self.members.iter().find(|m| m.address == address && m.is_member())
    }

    pub fn table(&self, keyspace: &str, table: &str) -> Option<&Table> {
        self.keyspaces.get(keyspace)?.tables.get(table)
    }

    /// Every table with its keyspace, ordered by name.
    pub fn tables(&self) -> impl Iterator<Item = (&Keyspace, &Table)> {
        self.keyspaces.values().flat_map(|ks| ks.tables.values().map(move |t| (ks, t)))
    }

    /// Names of all datacenters with members.
    pub fn dcs(&self) -> BTreeSet<&str> {
        self.members.iter().filter(|m| m.is_member()).map(|m| m.dc.as_str()).collect()
    }

    /// Records a schema change: new version, adopted by every member that is not frozen.
    pub fn commit_schema(&mut self, statement: &str) {
        self.group0_log.push(statement.to_owned());
        let name = format!("schema {}", self.group0_log.len());
        self.schema_version = super::identity::seeded_table_id(self.seed, &name);
        self.adopt_schema();
    }

    /// Lets every member that is not frozen adopt the current schema version.
    pub fn adopt_schema(&mut self) {
        for member in &mut self.members {
            if !self.schema_frozen.contains(&member.id) {
                member.schema_version = self.schema_version;
            }
        }
    }
}
