//! Contents of the system tables that driver and manager read, made from the model at each query.

use std::net::IpAddr;

use super::values::{CqlType, CqlValue, tombstone_gc_extension};
use crate::cluster::describe::replication_options;
use crate::cluster::{Distribution, KeyspaceClass, Member, Model, NodeId, Table, TableKind};

use CqlType::{Blob, Boolean, Double, Inet, Int, ListText, MapTextBlob, MapTextText, SetText, Text, Uuid};

type Cells = Vec<CqlValue>;

/// A system table: columns, and its rows as one node sees them.
pub(super) struct SystemTable {
    pub keyspace: &'static str,
    pub name: &'static str,
    pub columns: &'static [(&'static str, CqlType)],
    pub rows: fn(&Model, NodeId) -> Vec<Cells>,
}

/// The table with this name.
pub(super) fn find(keyspace: &str, name: &str) -> Option<&'static SystemTable> {
    TABLES.iter().find(|t| t.keyspace == keyspace && t.name == name)
}

static TABLES: &[SystemTable] = &[
    SystemTable {
        keyspace: "system",
        name: "local",
        columns: &[
            ("key", Text),
            ("bootstrapped", Text),
            ("broadcast_address", Inet),
            ("cluster_name", Text),
            ("cql_version", Text),
            ("data_center", Text),
            ("gossip_generation", Int),
            ("host_id", Uuid),
            ("listen_address", Inet),
            ("native_protocol_version", Text),
            ("partitioner", Text),
            ("rack", Text),
            ("release_version", Text),
            ("rpc_address", Inet),
            ("schema_version", Uuid),
            ("tokens", SetText),
        ],
        rows: local,
    },
    SystemTable {
        keyspace: "system",
        name: "peers",
        columns: &[
            ("peer", Inet),
            ("data_center", Text),
            ("host_id", Uuid),
            ("preferred_ip", Inet),
            ("rack", Text),
            ("release_version", Text),
            ("rpc_address", Inet),
            ("schema_version", Uuid),
            ("tokens", SetText),
        ],
        rows: peers,
    },
    SystemTable {
        keyspace: "system_schema",
        name: "keyspaces",
        columns: &[("keyspace_name", Text), ("durable_writes", Boolean), ("replication", MapTextText)],
        rows: keyspaces,
    },
    SystemTable {
        keyspace: "system_schema",
        name: "scylla_keyspaces",
        columns: &[("keyspace_name", Text), ("initial_tablets", Int)],
        rows: scylla_keyspaces,
    },
    SystemTable {
        keyspace: "system_schema",
        name: "tables",
        columns: &[
            ("keyspace_name", Text),
            ("table_name", Text),
            ("bloom_filter_fp_chance", Double),
            ("comment", Text),
            ("default_time_to_live", Int),
            ("extensions", MapTextBlob),
            ("flags", SetText),
            ("gc_grace_seconds", Int),
            ("id", Uuid),
        ],
        rows: tables,
    },
    SystemTable {
        keyspace: "system_schema",
        name: "scylla_tables",
        columns: &[("keyspace_name", Text), ("table_name", Text), ("partitioner", Text)],
        rows: scylla_tables,
    },
    SystemTable {
        keyspace: "system_schema",
        name: "views",
        columns: &[
            ("keyspace_name", Text),
            ("view_name", Text),
            ("base_table_id", Uuid),
            ("base_table_name", Text),
            ("extensions", MapTextBlob),
            ("id", Uuid),
            ("include_all_columns", Boolean),
            ("where_clause", Text),
        ],
        rows: views,
    },
    SystemTable {
        keyspace: "system_schema",
        name: "indexes",
        columns: &[
            ("keyspace_name", Text),
            ("table_name", Text),
            ("index_name", Text),
            ("kind", Text),
            ("options", MapTextText),
        ],
        rows: indexes,
    },
    SystemTable {
        keyspace: "system_schema",
        name: "columns",
        columns: &[
            ("keyspace_name", Text),
            ("table_name", Text),
            ("column_name", Text),
            ("clustering_order", Text),
            ("column_name_bytes", Blob),
            ("kind", Text),
            ("position", Int),
            ("type", Text),
        ],
        rows: columns,
    },
    SystemTable {
        keyspace: "system_schema",
        name: "types",
        columns: &[
            ("keyspace_name", Text),
            ("type_name", Text),
            ("field_names", ListText),
            ("field_types", ListText),
        ],
        rows: |_, _| Vec::new(),
    },
    SystemTable {
        keyspace: "system_schema",
        name: "functions",
        columns: &[("keyspace_name", Text), ("function_name", Text), ("argument_types", ListText)],
        rows: |_, _| Vec::new(),
    },
    SystemTable {
        keyspace: "system_schema",
        name: "aggregates",
        columns: &[("keyspace_name", Text), ("aggregate_name", Text), ("argument_types", ListText)],
        rows: |_, _| Vec::new(),
    },
];

fn address(address: IpAddr) -> CqlValue {
    CqlValue::Inet(address)
}

fn tokens(member: &Member) -> CqlValue {
    if member.tokens.is_empty() || !member.is_in_ring() {
        return CqlValue::Null;
    }
    CqlValue::Texts(member.tokens.iter().map(i64::to_string).collect())
}

fn local(model: &Model, node: NodeId) -> Vec<Cells> {
    let me = model.member(node);
    vec![vec![
        CqlValue::text("local"),
        CqlValue::text("COMPLETED"),
        address(me.address),
        CqlValue::text(&model.name),
        CqlValue::text("3.3.1"),
        CqlValue::text(&me.dc),
        CqlValue::Int(1_742_860_800),
        CqlValue::Uuid(me.host_id),
        address(me.address),
        CqlValue::text("4"),
        CqlValue::text("org.apache.cassandra.dht.Murmur3Partitioner"),
        CqlValue::text(&me.rack),
        // The Cassandra release that Scylla claims to be compatible with.
        CqlValue::text("3.0.8"),
        address(me.address),
        CqlValue::Uuid(me.schema_version),
        tokens(me),
    ]]
}

fn peers(model: &Model, node: NodeId) -> Vec<Cells> {
    let peers = model.members.iter().filter(|m| m.is_member() && m.id != node);
    peers
        .map(|m| {
            vec![
                address(m.address),
                CqlValue::text(&m.dc),
                CqlValue::Uuid(m.host_id),
                address(m.address),
                CqlValue::text(&m.rack),
                CqlValue::text("3.0.8"),
                address(m.address),
                CqlValue::Uuid(m.schema_version),
                tokens(m),
            ]
        })
        .collect()
}

fn keyspaces(model: &Model, _: NodeId) -> Vec<Cells> {
    let row = |ks: &crate::cluster::Keyspace| {
        let replication = CqlValue::TextMap(replication_options(&ks.replication));
        vec![CqlValue::text(&ks.name), CqlValue::Boolean(ks.durable_writes), replication]
    };
    model.keyspaces.values().map(row).collect()
}

/// Only keyspaces with options that Cassandra does not have.
fn scylla_keyspaces(model: &Model, _: NodeId) -> Vec<Cells> {
    let row = |ks: &crate::cluster::Keyspace| match ks.distribution {
        Distribution::Vnodes => None,
        Distribution::Tablets { initial } => {
            let initial = i32::try_from(initial).unwrap_or(i32::MAX);
            Some(vec![CqlValue::text(&ks.name), CqlValue::Int(initial)])
        }
    };
    model.keyspaces.values().filter_map(row).collect()
}

fn extensions(table: &Table) -> CqlValue {
    let mode = table.tombstone_gc.map(|mode| tombstone_gc_extension(mode.as_str()));
    CqlValue::BlobMap(mode.map(|value| ("tombstone_gc".to_owned(), value)).into_iter().collect())
}

fn tables(model: &Model, _: NodeId) -> Vec<Cells> {
    let tables = model.tables().filter(|(_, t)| !t.kind.is_view());
    tables
        .map(|(ks, t)| {
            vec![
                CqlValue::text(&ks.name),
                CqlValue::text(&t.name),
                CqlValue::Double(0.01),
                CqlValue::text(""),
                CqlValue::Int(0),
                extensions(t),
                CqlValue::Texts(vec!["compound".to_owned()]),
                CqlValue::Int(864_000),
                CqlValue::Uuid(t.id),
            ]
        })
        .collect()
}

fn scylla_tables(model: &Model, _: NodeId) -> Vec<Cells> {
    let user = model.tables().filter(|(ks, _)| ks.class == KeyspaceClass::User);
    user.map(|(ks, t)| vec![CqlValue::text(&ks.name), CqlValue::text(&t.name), CqlValue::Null]).collect()
}

/// Materialized views and the backing views of indexes.
fn views(model: &Model, _: NodeId) -> Vec<Cells> {
    let views = model.tables().filter(|(_, t)| t.kind.is_view());
    views
        .map(|(ks, t)| {
            let base = t.kind.base().unwrap_or_default();
            vec![
                CqlValue::text(&ks.name),
                CqlValue::text(&t.name),
                ks.tables.get(base).map_or(CqlValue::Null, |b| CqlValue::Uuid(b.id)),
                CqlValue::text(base),
                extensions(t),
                CqlValue::Uuid(t.id),
                CqlValue::Boolean(false),
                CqlValue::text("v IS NOT NULL"),
            ]
        })
        .collect()
}

fn indexes(model: &Model, _: NodeId) -> Vec<Cells> {
    let index = |(ks, t): (&crate::cluster::Keyspace, &Table)| match &t.kind {
        TableKind::Index { base, index } => Some(vec![
            CqlValue::text(&ks.name),
            CqlValue::text(base),
            CqlValue::text(index),
            CqlValue::text("COMPOSITES"),
            CqlValue::TextMap(vec![("target".to_owned(), "v".to_owned())]),
        ]),
        TableKind::Base | TableKind::View { .. } | TableKind::CdcLog { .. } | TableKind::Paxos { .. } => None,
    };
    model.tables().filter_map(index).collect()
}

fn columns(model: &Model, _: NodeId) -> Vec<Cells> {
    let columns = model.tables().flat_map(|(ks, t)| t.columns.iter().map(move |c| (ks, t, c)));
    columns
        .map(|(ks, t, c)| {
            let order = if c.kind == crate::cluster::ColumnKind::Clustering { "asc" } else { "none" };
            vec![
                CqlValue::text(&ks.name),
                CqlValue::text(&t.name),
                CqlValue::text(&c.name),
                CqlValue::text(order),
                CqlValue::Blob(c.name.as_bytes().to_vec()),
                CqlValue::text(c.kind.as_str()),
                CqlValue::Int(c.position),
                CqlValue::text(&c.cql_type),
            ]
        })
        .collect()
}
