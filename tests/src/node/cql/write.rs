//! Carries out statements that change something: schema and rows.

use std::sync::Arc;

use super::super::{NodeCore, blocking};
use super::ddl::Insert;
use super::parse::Term;
use super::response::{CqlError, CqlResult, ErrorCode, Marker};
use super::select::Bound;
use super::values::CqlType;
use crate::cluster::{SchemaError, SchemaStatement, SimError};

/// Changes the schema on all nodes.
pub(super) async fn change_schema(
    core: &Arc<NodeCore>,
    statement: SchemaStatement,
    text: &str,
) -> Result<CqlResult, CqlError> {
    let text = text.to_owned();
    let changed = blocking(core, move |core| core.shared.change_schema(&statement, &text)).await;
    Ok(changed?.map_or(CqlResult::Void, CqlResult::SchemaChange))
}

impl From<SchemaError> for CqlError {
    fn from(error: SchemaError) -> Self {
        match &error {
            SchemaError::Exists { keyspace, table } => Self::already_exists(keyspace, table),
            SchemaError::NoKeyspace(_) => Self::new(ErrorCode::Config, error.to_string()),
            SchemaError::NoTable(_) | SchemaError::Invalid(_) => Self::invalid(error.to_string()),
            SchemaError::Disk(_) => Self::new(ErrorCode::Server, error.to_string()),
        }
    }
}

/// Bind markers of an INSERT.
pub(super) fn markers(insert: &Insert) -> Vec<Marker> {
    let marker = |(name, term): &(String, Term)| match term {
        Term::Marker(_) => Some(Marker { name: name.clone(), cql_type: CqlType::Text, list: false }),
        Term::Literal(_) => None,
    };
    insert.values.iter().filter_map(marker).collect()
}

/// Writes one row: the simulated tables have the key `pk` and the value `v`.
pub(super) fn insert(core: &NodeCore, insert: &Insert, bound: &Bound) -> Result<CqlResult, CqlError> {
    let keyspace =
        insert.keyspace.as_deref().ok_or_else(|| CqlError::invalid("No keyspace has been specified"))?;
    let value = |column: &str| {
        let (_, term) = insert.values.iter().find(|(name, _)| name == column)?;
        match term {
            Term::Literal(text) => Some(text.as_bytes().to_vec()),
            Term::Marker(at) => bound.get(*at).cloned().flatten().map(|v| v.to_vec()),
        }
    };
    if let Some((other, _)) = insert.values.iter().find(|(name, _)| name != "pk" && name != "v") {
        return Err(CqlError::invalid(format!("Unrecognized name {other}")));
    }
    let key =
        value("pk").ok_or_else(|| CqlError::invalid("Invalid null value in condition for column pk"))?;
    match core.shared.write(keyspace, &insert.table, &key, &value("v").unwrap_or_default()) {
        Ok(()) => Ok(CqlResult::Void),
        Err(error @ SimError::NoSuchTable { .. }) => Err(CqlError::invalid(error.to_string())),
        Err(error) => Err(CqlError::new(ErrorCode::Server, error.to_string())),
    }
}
