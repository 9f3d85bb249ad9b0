//! CQL text of the schema: what `DESCRIBE` returns and what `schema.cql` of a snapshot holds.

use std::fmt::Write;

use super::model::{ColumnKind, Distribution, Keyspace, Model, Replication, Table, TableKind};

/// One row of `DESCRIBE SCHEMA`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescribeRow {
    /// `None` for roles and service levels.
    pub keyspace: Option<String>,
    pub kind: &'static str,
    pub name: String,
    pub statement: String,
}

/// Rows of `DESCRIBE SCHEMA`, in an order in which they can be replayed; `internals` adds IDs and roles.
pub fn schema(model: &Model, internals: bool) -> Vec<DescribeRow> {
    let mut rows = Vec::new();
    let users = model.keyspaces.values().filter(|ks| ks.class == super::KeyspaceClass::User);
    for ks in users {
        rows.push(DescribeRow {
            keyspace: Some(ks.name.clone()),
            kind: "keyspace",
            name: identifier(&ks.name),
            statement: keyspace(ks),
        });
        let (base, derived): (Vec<&Table>, Vec<&Table>) =
            ks.tables.values().partition(|t| matches!(t.kind, TableKind::Base | TableKind::Paxos { .. }));
        for t in base.into_iter().chain(derived) {
            rows.push(DescribeRow {
                keyspace: Some(ks.name.clone()),
                kind: kind(t),
                name: identifier(object_name(t)),
                statement: statement(ks, t, internals),
            });
        }
    }
    if internals {
        for role in &model.roles {
            rows.push(DescribeRow {
                keyspace: None,
                kind: "role",
                name: identifier(role),
                statement: format!(
                    "CREATE ROLE IF NOT EXISTS {} WITH LOGIN = true AND SUPERUSER = true;",
                    identifier(role)
                ),
            });
        }
    }
    rows
}

/// The create statement of one table, view or index, as in `schema.cql`.
pub fn table(model: &Model, keyspace: &str, table: &Table) -> String {
    model.keyspaces.get(keyspace).map(|ks| statement(ks, table, true)).unwrap_or_default()
}

/// A name as CQL writes it: quoted unless it is a plain lower-case word.
pub fn identifier(name: &str) -> String {
    let plain = name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    if plain { name.to_owned() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
}

fn kind(table: &Table) -> &'static str {
    match table.kind {
        TableKind::Base | TableKind::CdcLog { .. } | TableKind::Paxos { .. } => "table",
        TableKind::View { .. } => "view",
        TableKind::Index { .. } => "index",
    }
}

/// An index is listed under its own name, not that of its backing view.
fn object_name(table: &Table) -> &str {
    match &table.kind {
        TableKind::Index { index, .. } => index,
        _ => &table.name,
    }
}

/// The create statement of a keyspace.
pub fn keyspace(ks: &Keyspace) -> String {
    let tablets = match ks.distribution {
        Distribution::Vnodes => " AND tablets = {'enabled': false}".to_owned(),
        Distribution::Tablets { initial } => {
            format!(" AND tablets = {{'enabled': true, 'initial': {initial}}}")
        }
    };
    format!(
        "CREATE KEYSPACE {} WITH replication = {} AND durable_writes = {}{tablets};",
        identifier(&ks.name),
        replication(&ks.replication),
        ks.durable_writes
    )
}

/// Class and options of a strategy, as `system_schema.keyspaces` holds them.
pub fn replication_options(replication: &Replication) -> Vec<(String, String)> {
    let class = |name: &str| ("class".to_owned(), format!("org.apache.cassandra.locator.{name}"));
    match replication {
        Replication::Local => vec![class("LocalStrategy")],
        Replication::Everywhere => vec![class("EverywhereStrategy")],
        Replication::Simple { factor } => {
            vec![class("SimpleStrategy"), ("replication_factor".to_owned(), factor.to_string())]
        }
        Replication::NetworkTopology(per_dc) => std::iter::once(class("NetworkTopologyStrategy"))
            .chain(per_dc.iter().map(|(dc, factor)| (dc.clone(), factor.to_string())))
            .collect(),
    }
}

fn replication(replication: &Replication) -> String {
    let options = replication_options(replication);
    let options: Vec<String> = options.iter().map(|(k, v)| format!("'{k}': '{v}'")).collect();
    format!("{{{}}}", options.join(", "))
}

fn statement(ks: &Keyspace, table: &Table, internals: bool) -> String {
    let keyspace = ks.name.as_str();
    let name = format!("{}.{}", identifier(keyspace), identifier(&table.name));
    match &table.kind {
        TableKind::Index { base, index } => {
            format!("CREATE INDEX {} ON {}.{}(v);", identifier(index), identifier(keyspace), identifier(base))
        }
        TableKind::View { base } => format!(
            "CREATE MATERIALIZED VIEW {name} AS\n    SELECT pk, v\n    FROM {}.{}\n    WHERE v IS NOT NULL\n    PRIMARY KEY (v, pk)\n    WITH {};",
            identifier(keyspace),
            identifier(base),
            options(table, internals)
        ),
        // The log comes with its base table; only its options are restored.
        TableKind::CdcLog { .. } => format!("ALTER TABLE {name} WITH {};", options(table, false)),
        TableKind::Base | TableKind::Paxos { .. } => {
            let is_log = |t: &Table| matches!(&t.kind, TableKind::CdcLog { base } if *base == table.name);
            let cdc = if ks.tables.values().any(is_log) { "\n    AND cdc = {'enabled': 'true'}" } else { "" };
            format!("CREATE TABLE {name} (\n{}\n) WITH {}{cdc};", columns(table), options(table, internals))
        }
    }
}

fn columns(table: &Table) -> String {
    let mut text = String::new();
    let named = |kind| {
        let names = table.columns.iter().filter(move |c| c.kind == kind).map(|c| identifier(&c.name));
        names.collect::<Vec<_>>()
    };
    for column in &table.columns {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "    {} {},", identifier(&column.name), column.cql_type);
    }
    let partition = named(ColumnKind::PartitionKey);
    let partition =
        if partition.len() == 1 { partition.join("") } else { format!("({})", partition.join(", ")) };
    let key: Vec<String> = std::iter::once(partition).chain(named(ColumnKind::Clustering)).collect();
    text.push_str(&format!("    PRIMARY KEY ({})", key.join(", ")));
    text
}

fn options(table: &Table, internals: bool) -> String {
    let mut options = Vec::new();
    if internals {
        options.push(format!("ID = {}", table.id));
    }
    let compression = if table.compressed {
        "{'sstable_compression': 'org.apache.cassandra.io.compress.LZ4Compressor'}"
    } else {
        "{}"
    };
    options.extend([
        "bloom_filter_fp_chance = 0.01".to_owned(),
        "caching = {'keys': 'ALL', 'rows_per_partition': 'ALL'}".to_owned(),
        "comment = ''".to_owned(),
        "compaction = {'class': 'IncrementalCompactionStrategy'}".to_owned(),
        format!("compression = {compression}"),
        "crc_check_chance = 1".to_owned(),
        "default_time_to_live = 0".to_owned(),
        "gc_grace_seconds = 864000".to_owned(),
        "max_index_interval = 2048".to_owned(),
        "memtable_flush_period_in_ms = 0".to_owned(),
        "min_index_interval = 128".to_owned(),
        "speculative_retry = '99.0PERCENTILE'".to_owned(),
    ]);
    if let Some(mode) = table.tombstone_gc {
        options.push(format!(
            "tombstone_gc = {{'mode': '{}', 'propagation_delay_in_seconds': '3600'}}",
            mode.as_str()
        ));
    }
    options.join("\n    AND ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::{ClusterBuilder, KeyspaceSpec, TableSpec};

    #[test]
    fn rows_come_in_an_order_that_can_be_replayed() {
        let model = ClusterBuilder::new()
            .dc("dc1", 3)
            .keyspace(KeyspaceSpec::new("shop").table(TableSpec::new("orders").view("by_v").index("ix")))
            .keyspace(KeyspaceSpec::new("Mixed-Case").tablets(4).table("t"))
            .model();
        let rows = schema(&model, true);
        let listed: Vec<_> = rows
            .iter()
            .map(|r| format!("{} {} {}", r.keyspace.as_deref().unwrap_or("null"), r.kind, r.name))
            .collect();
        insta::assert_snapshot!(listed.join("\n"), @r#"
        Mixed-Case keyspace "Mixed-Case"
        Mixed-Case table t
        shop keyspace shop
        shop table orders
        shop view by_v
        shop index ix
        null role cassandra
        "#);
        insta::assert_snapshot!(rows[0].statement, @r#"CREATE KEYSPACE "Mixed-Case" WITH replication = {'class': 'org.apache.cassandra.locator.NetworkTopologyStrategy', 'dc1': '3'} AND durable_writes = true AND tablets = {'enabled': true, 'initial': 4};"#);
        assert!(rows[3].statement.starts_with(
            "CREATE TABLE shop.orders (\n    pk text,\n    v text,\n    PRIMARY KEY (pk)\n) WITH ID = "
        ));
        assert!(rows[4].statement.contains("PRIMARY KEY (v, pk)"));
    }
}
