//! Writes rows into the cluster the way a coordinator does, and reads them back.

use std::collections::BTreeMap;

use super::model::{KeyspaceClass, Model, NodeId, TableKind};
use super::ring;
use super::{SimError, TableSpec, token_of};
use crate::sstable::Row;

/// Rows to put into memtables: node, table, row.
pub(crate) type Mutations = Vec<(NodeId, uuid::Uuid, Row)>;

/// Plans the write of one row: to every replica of the table and of its views.
pub(crate) fn plan_write(
    model: &mut Model,
    keyspace: &str,
    table: &str,
    key: &[u8],
    value: &[u8],
) -> Result<Mutations, SimError> {
    model.write_clock += 1;
    let row = Row { key: key.to_vec(), value: value.to_vec(), timestamp: model.write_clock };
    let missing = || SimError::NoSuchTable { keyspace: keyspace.to_owned(), table: table.to_owned() };
    let ks = model.keyspaces.get(keyspace).ok_or_else(missing)?;
    let base = ks.tables.get(table).ok_or_else(missing)?;
    let derived = ks.tables.values().filter(|t| match &t.kind {
        TableKind::View { base } | TableKind::Index { base, .. } | TableKind::CdcLog { base } => {
            base == table
        }
        TableKind::Base | TableKind::Paxos { .. } => false,
    });
    let mut mutations = Mutations::new();
    for target in std::iter::once(base).chain(derived) {
        let replicas = match ks.class {
            KeyspaceClass::Local => model.members.iter().map(|m| m.id).collect(),
            KeyspaceClass::Internal | KeyspaceClass::User => {
                ring::replicas(model, ks, target, token_of(key), NodeId(0))
            }
        };
        mutations.extend(replicas.into_iter().map(|node| (node, target.id, row.clone())));
    }
    Ok(mutations)
}

/// Plans `count` new rows with keys and values of their own; returns the keys too.
pub(crate) fn plan_rows(
    model: &mut Model,
    keyspace: &str,
    table: &str,
    count: usize,
) -> Result<(Vec<Vec<u8>>, Mutations), SimError> {
    let (mut keys, mut mutations) = (Vec::new(), Mutations::new());
    for _ in 0..count {
        model.row_counter += 1;
        let key = format!("key-{:08}", model.row_counter).into_bytes();
        let value = format!("value {} of {keyspace}.{table}", model.row_counter).into_bytes();
        mutations.extend(plan_write(model, keyspace, table, &key, &value)?);
        keys.push(key);
    }
    Ok((keys, mutations))
}

/// Plans one batch of first data: rows until every node that owns a part of the table has enough.
pub(crate) fn plan_batch(model: &mut Model, keyspace: &str, spec: &TableSpec) -> Result<Mutations, SimError> {
    let nodes = model.members.len();
    let mut held: BTreeMap<NodeId, usize> = BTreeMap::new();
    let mut mutations = Mutations::new();
    // Some nodes may own nothing (few tablets, another datacenter), so there must be an end.
    for _ in 0..spec.rows_per_sstable * nodes * 8 {
        let (_, row) = plan_rows(model, keyspace, &spec.name, 1)?;
        let base = model.table(keyspace, &spec.name).map(|t| t.id);
        for (node, _, _) in row.iter().filter(|(_, table, _)| Some(*table) == base) {
            *held.entry(*node).or_default() += 1;
        }
        mutations.extend(row);
        if held.len() == nodes && held.values().all(|rows| *rows >= spec.rows_per_sstable) {
            break;
        }
    }
    Ok(mutations)
}
