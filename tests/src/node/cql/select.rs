//! Runs a SELECT: on a system table from the model, on a user table from the rows of all replicas.

use std::sync::Arc;

use bytes::Bytes;
use uuid::Uuid;

use super::super::{NodeCore, blocking};
use super::frame::Body;
use super::parse::{Condition, Select, Selector, Term};
use super::response::{ColumnSpec, CqlError, Marker, RowSet};
use super::system_tables;
use super::values::{CqlType, CqlValue};
use crate::cluster::{NodeId, Table};
use crate::sstable::{Row, merge_rows};

/// Values bound to the markers of a statement.
pub(super) type Bound = [Option<Bytes>];

/// Columns of a table that can be selected from.
struct Source {
    keyspace: String,
    table: String,
    columns: Vec<ColumnSpec>,
}

/// Bind markers of a SELECT, in order, and its result without rows.
pub(super) fn describe(core: &NodeCore, select: &Select) -> Result<(Vec<Marker>, RowSet), CqlError> {
    let source = source(core, select)?;
    let mut markers: Vec<(usize, Marker)> = Vec::new();
    for condition in &select.conditions {
        let (column, terms, list): (_, Vec<usize>, _) = match condition {
            Condition::Equals(column, Term::Marker(at)) => (column, vec![*at], false),
            Condition::Equals(column, Term::Literal(_)) => (column, Vec::new(), false),
            Condition::In(column, terms) => {
                let at = |t: &Term| match t {
                    Term::Marker(at) => Some(*at),
                    Term::Literal(_) => None,
                };
                (column, terms.iter().filter_map(at).collect(), false)
            }
            Condition::InMarker(column, at) => (column, vec![*at], true),
        };
        let spec = &source.columns[column_index(&source, column)?];
        let name = if list { format!("in({column})") } else { column.clone() };
        for at in terms {
            markers.push((at, Marker { name: name.clone(), cql_type: spec.cql_type, list }));
        }
    }
    markers.sort_by_key(|(at, _)| *at);
    let shape = shape(&source, select)?;
    let rows = RowSet { keyspace: source.keyspace, table: source.table, columns: shape, rows: Vec::new() };
    Ok((markers.into_iter().map(|(_, m)| m).collect(), rows))
}

/// Rows that fit the conditions.
pub(super) async fn run(core: &Arc<NodeCore>, select: &Select, bound: &Bound) -> Result<RowSet, CqlError> {
    let source = source(core, select)?;
    let columns = shape(&source, select)?;
    let all = rows(core, &source).await?;
    let mut fitting = Vec::new();
    for row in all {
        if fits(&source, select, bound, &row)? {
            fitting.push(row);
        }
    }
    fitting.truncate(select.limit.unwrap_or(usize::MAX));
    let rows = match &select.selectors {
        None => fitting,
        Some(selectors) if selectors.contains(&Selector::CountAll) => {
            vec![vec![CqlValue::BigInt(fitting.len() as i64)]]
        }
        Some(selectors) => {
            let pick = |row: &Vec<CqlValue>| {
                selectors
                    .iter()
                    .map(|s| match s {
                        Selector::Column(name) => Ok(row[column_index(&source, name)?].clone()),
                        Selector::Now | Selector::CountAll => Ok(CqlValue::Uuid(now(core))),
                    })
                    .collect::<Result<Vec<_>, CqlError>>()
            };
            fitting.iter().map(pick).collect::<Result<_, _>>()?
        }
    };
    Ok(RowSet { keyspace: source.keyspace, table: source.table, columns, rows })
}

fn source(core: &NodeCore, select: &Select) -> Result<Source, CqlError> {
    let Some(keyspace) = select.keyspace.clone() else {
        return Err(CqlError::invalid(
            "No keyspace has been specified. USE a keyspace, or explicitly specify keyspace.tablename",
        ));
    };
    let spec = |name: &str, cql_type| ColumnSpec { name: name.to_owned(), cql_type };
    let columns = if let Some(table) = system_tables::find(&keyspace, &select.table) {
        table.columns.iter().map(|(name, cql_type)| spec(name, *cql_type)).collect()
    } else {
        let table = core.table(&keyspace, &select.table);
        let table = table.map_err(|_| CqlError::invalid(format!("unconfigured table {}", select.table)))?;
        if table.columns.iter().any(|c| c.cql_type != "text") {
            return Err(CqlError::invalid("the simulator reads tables with text columns only"));
        }
        table.columns.iter().map(|c| spec(&c.name, CqlType::Text)).collect()
    };
    Ok(Source { keyspace, table: select.table.clone(), columns })
}

fn column_index(source: &Source, name: &str) -> Result<usize, CqlError> {
    let found = source.columns.iter().position(|c| c.name == name);
    found.ok_or_else(|| CqlError::invalid(format!("Unrecognized name {name}")))
}

fn shape(source: &Source, select: &Select) -> Result<Vec<ColumnSpec>, CqlError> {
    let Some(selectors) = &select.selectors else { return Ok(source.columns.clone()) };
    let spec = |name: &str, cql_type| ColumnSpec { name: name.to_owned(), cql_type };
    selectors
        .iter()
        .map(|selector| match selector {
            Selector::Column(name) => Ok(source.columns[column_index(source, name)?].clone()),
            Selector::Now => Ok(spec("system.now()", CqlType::TimeUuid)),
            Selector::CountAll => Ok(spec("count", CqlType::BigInt)),
        })
        .collect()
}

async fn rows(core: &Arc<NodeCore>, source: &Source) -> Result<Vec<Vec<CqlValue>>, CqlError> {
    if let Some(table) = system_tables::find(&source.keyspace, &source.table) {
        return Ok((table.rows)(&core.shared.model(), core.id));
    }
    let table = core.table(&source.keyspace, &source.table).map_err(|e| CqlError::invalid(e.to_string()))?;
    let (keyspace, columns) = (source.keyspace.clone(), source.columns.clone());
    let rows = blocking(core, move |core| read_everywhere(core, &keyspace, &table)).await?;
    let text = |bytes: &[u8]| CqlValue::text(String::from_utf8_lossy(bytes));
    Ok(rows
        .into_iter()
        .map(|row| {
            let cell = |c: &ColumnSpec| match c.name.as_str() {
                "pk" => text(&row.key),
                "v" => text(&row.value),
                _ => CqlValue::Null,
            };
            columns.iter().map(cell).collect()
        })
        .collect())
}

/// Rows of a user table on all nodes, newest versions.
fn read_everywhere(core: &NodeCore, keyspace: &str, table: &Table) -> Result<Vec<Row>, CqlError> {
    let nodes = core.shared.model().members.len();
    let mut rows = Vec::new();
    for node in (0..nodes).filter_map(|n| core.shared.node(NodeId(n))) {
        let found = node.rows(keyspace, table);
        rows.extend(found.map_err(|e| CqlError::new(super::response::ErrorCode::Server, e.to_string()))?);
    }
    Ok(merge_rows(rows))
}

fn fits(source: &Source, select: &Select, bound: &Bound, row: &[CqlValue]) -> Result<bool, CqlError> {
    for condition in &select.conditions {
        let (name, wanted) = match condition {
            Condition::Equals(name, term) => (name, vec![value(source, name, term, bound)?]),
            Condition::In(name, terms) => {
                let values = terms.iter().map(|t| value(source, name, t, bound));
                (name, values.collect::<Result<_, _>>()?)
            }
            Condition::InMarker(name, at) => (name, list(bound, *at)?),
        };
        let actual = row[column_index(source, name)?].bytes();
        if actual.is_none() || !wanted.contains(&actual) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn value(source: &Source, column: &str, term: &Term, bound: &Bound) -> Result<Option<Vec<u8>>, CqlError> {
    match term {
        Term::Marker(at) => bound
            .get(*at)
            .map(|value| value.as_ref().map(|v| v.to_vec()))
            .ok_or_else(|| CqlError::invalid("Invalid amount of bind variables")),
        Term::Literal(text) => {
            let cql_type = source.columns[column_index(source, column)?].cql_type;
            let literal = cql_type.literal(text);
            let invalid = || CqlError::invalid(format!("Invalid value {text} for column {column}"));
            literal.map(Some).ok_or_else(invalid)
        }
    }
}

/// Items of a bound list.
fn list(bound: &Bound, at: usize) -> Result<Vec<Option<Vec<u8>>>, CqlError> {
    let bytes = bound.get(at).cloned().flatten();
    let mut body = Body(bytes.ok_or_else(|| CqlError::invalid("Invalid null value for IN"))?);
    let count = body.int().map_err(|e| CqlError::invalid(e.to_string()))?;
    (0..count)
        .map(|_| {
            let item = body.bytes().map_err(|e| CqlError::invalid(e.to_string()))?;
            Ok(item.map(|i| i.to_vec()))
        })
        .collect()
}

/// A time-UUID of now.
fn now(core: &NodeCore) -> Uuid {
    let now = core.shared.now();
    let seconds = u64::try_from(now.timestamp()).unwrap_or_default();
    let timestamp = uuid::Timestamp::from_unix(uuid::NoContext, seconds, now.timestamp_subsec_nanos());
    let host = core.shared.model().member(core.id).host_id;
    let node: [u8; 6] = host.as_bytes()[..6].try_into().expect("a UUID has sixteen bytes");
    Uuid::new_v1(timestamp, &node)
}
