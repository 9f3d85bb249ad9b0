//! The keyspaces and tables that every Scylla cluster brings along.
//!
//! Virtual tables are left out: they have neither a directory nor files.

use std::collections::BTreeMap;

use super::identity::system_table_id;
use super::model::{
    Column, ColumnKind, Distribution, Keyspace, KeyspaceClass, Replication, Table, TableKind,
};
use crate::sstable::SstableVersion;

const SYSTEM: &[&str] = &[
    "IndexInfo",
    "aggregates",
    "batchlog",
    "built_views",
    "cdc_generations_v3",
    "cdc_local",
    "commitlog_cleanups",
    "compaction_history",
    "dicts",
    "discovery",
    "group0_history",
    "hints",
    "large_cells",
    "large_partitions",
    "large_rows",
    "local",
    "paxos",
    "peer_events",
    "peers",
    "raft",
    "raft_snapshot_config",
    "raft_snapshots",
    "range_xfers",
    "repair_history",
    "role_attributes",
    "role_members",
    "role_permissions",
    "roles",
    "scylla_local",
    "scylla_table_schema_history",
    "scylla_views_builds_in_progress",
    "service_levels_v2",
    "sstable_activity",
    "sstables",
    "tablets",
    "topology",
    "topology_requests",
    "truncated",
    "view_build_status_v2",
    "views_builds_in_progress",
];

const SYSTEM_SCHEMA: &[&str] = &[
    "aggregates",
    "columns",
    "computed_columns",
    "dropped_columns",
    "functions",
    "indexes",
    "keyspaces",
    "scylla_aggregates",
    "scylla_keyspaces",
    "scylla_tables",
    "tables",
    "triggers",
    "types",
    "view_virtual_columns",
    "views",
];

const SYSTEM_AUTH: &[&str] = &["role_attributes", "role_members", "role_permissions", "roles"];

/// With the bookkeeping tables of cluster-wide snapshots, which a backup leaves out.
const SYSTEM_DISTRIBUTED: &[&str] = &[
    "cdc_generation_timestamps",
    "cdc_streams_descriptions_v2",
    "service_levels",
    "snapshot_keyspaces",
    "snapshot_nodes",
    "snapshot_remote_locations",
    "snapshot_sstables",
    "snapshot_tables",
    "snapshot_tablets",
    "snapshots",
    "view_build_status",
];

const SYSTEM_DISTRIBUTED_EVERYWHERE: &[&str] = &["cdc_generation_descriptions_v2"];
const SYSTEM_REPLICATED_KEYS: &[&str] = &["encrypted_keys"];

const SYSTEM_TRACES: &[&str] =
    &["events", "node_slow_log", "node_slow_log_time_idx", "sessions", "sessions_time_idx"];

/// All system keyspaces. `dcs` gives the datacenters that the authentication keyspace is replicated to.
pub fn system_keyspaces(dcs: &[(String, usize)], version: SstableVersion) -> Vec<Keyspace> {
    let everywhere = dcs.iter().map(|(dc, nodes)| (dc.clone(), (*nodes).min(3))).collect();
    let keyspace = |name: &str, replication: Replication, tables: &[&str]| Keyspace {
        name: name.to_owned(),
        class: match replication {
            Replication::Local => KeyspaceClass::Local,
            Replication::Everywhere | Replication::Simple { .. } | Replication::NetworkTopology(_) => {
                KeyspaceClass::Internal
            }
        },
        replication,
        distribution: Distribution::Vnodes,
        durable_writes: true,
        tables: tables.iter().map(|t| ((*t).to_owned(), table(name, t, version))).collect::<BTreeMap<_, _>>(),
    };
    vec![
        keyspace("system", Replication::Local, SYSTEM),
        keyspace("system_schema", Replication::Local, SYSTEM_SCHEMA),
        keyspace("system_auth", Replication::NetworkTopology(everywhere), SYSTEM_AUTH),
        keyspace("system_distributed", Replication::Simple { factor: 3 }, SYSTEM_DISTRIBUTED),
        keyspace("system_distributed_everywhere", Replication::Everywhere, SYSTEM_DISTRIBUTED_EVERYWHERE),
        keyspace("system_replicated_keys", Replication::Everywhere, SYSTEM_REPLICATED_KEYS),
        keyspace("system_traces", Replication::Simple { factor: 2 }, SYSTEM_TRACES),
    ]
}

fn table(keyspace: &str, name: &str, version: SstableVersion) -> Table {
    Table {
        name: name.to_owned(),
        id: system_table_id(keyspace, name),
        kind: TableKind::Base,
        columns: key_value_columns(),
        tombstone_gc: None,
        tablets: Vec::new(),
        compressed: true,
        version,
        min_data_size: 0,
    }
}

/// Columns of a simulated table: one text key, one text value.
pub fn key_value_columns() -> Vec<Column> {
    vec![
        Column {
            name: "pk".to_owned(),
            cql_type: "text".to_owned(),
            kind: ColumnKind::PartitionKey,
            position: 0,
        },
        Column { name: "v".to_owned(), cql_type: "text".to_owned(), kind: ColumnKind::Regular, position: -1 },
    ]
}
