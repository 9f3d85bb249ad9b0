//! Response bodies: results, errors, events.

use bytes::{BufMut, Bytes, BytesMut};

use super::frame::{PutCql, opcode};
use super::values::{CqlType, CqlValue};

/// Error codes of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ErrorCode {
    Server = 0x0000,
    Protocol = 0x000a,
    BadCredentials = 0x0100,
    Syntax = 0x2000,
    Invalid = 0x2200,
    Config = 0x2300,
    AlreadyExists = 0x2400,
    Unprepared = 0x2500,
}

/// A statement or request that failed.
#[derive(Debug)]
pub(super) struct CqlError {
    pub code: ErrorCode,
    pub message: String,
    /// What some codes append to the message.
    pub details: Bytes,
}

impl CqlError {
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), details: Bytes::new() }
    }

    pub fn syntax(input: &str) -> Self {
        Self::new(ErrorCode::Syntax, format!("line 1:0 no viable alternative at input '{input}'"))
    }

    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::Invalid, message)
    }

    /// The statement must be prepared again.
    pub fn unprepared(id: &[u8]) -> Self {
        let mut details = BytesMut::new();
        details.put_short_bytes(id);
        let message = "No prepared statement with this ID found.";
        Self { code: ErrorCode::Unprepared, message: message.to_owned(), details: details.freeze() }
    }

    /// A keyspace (empty `table`) or table exists already.
    pub fn already_exists(keyspace: &str, table: &str) -> Self {
        let mut details = BytesMut::new();
        details.put_string(keyspace);
        details.put_string(table);
        let message = if table.is_empty() {
            format!("Cannot add existing keyspace \"{keyspace}\"")
        } else {
            format!("Cannot add already existing table \"{table}\" to keyspace \"{keyspace}\"")
        };
        Self { code: ErrorCode::AlreadyExists, message, details: details.freeze() }
    }
}

/// Name and type of a result column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ColumnSpec {
    pub name: String,
    pub cql_type: CqlType,
}

/// A table of cells.
#[derive(Clone, Debug)]
pub(super) struct RowSet {
    pub keyspace: String,
    pub table: String,
    pub columns: Vec<ColumnSpec>,
    pub rows: Vec<Vec<CqlValue>>,
}

/// What changed in the schema, as the protocol tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SchemaChange {
    /// `CREATED`, `UPDATED` or `DROPPED`.
    pub change: &'static str,
    /// `KEYSPACE` or `TABLE`.
    pub target: &'static str,
    pub keyspace: String,
    /// Empty for keyspaces.
    pub table: String,
}

/// A bind marker of a prepared statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Marker {
    pub name: String,
    pub cql_type: CqlType,
    /// `IN ?`: the value is a list of that type.
    pub list: bool,
}

/// A successful result.
#[derive(Debug)]
pub(super) enum CqlResult {
    Void,
    SchemaChange(SchemaChange),
    Rows(RowSet),
    SetKeyspace(String),
}

/// Opcode and body of a response.
pub(super) type Response = (u8, Bytes);

pub(super) fn error(error: &CqlError) -> Response {
    let mut out = BytesMut::new();
    out.put_i32(error.code as i32);
    out.put_string(&error.message);
    out.put_slice(&error.details);
    (opcode::ERROR, out.freeze())
}

pub(super) fn result(result: &CqlResult, skip_metadata: bool) -> Response {
    let mut out = BytesMut::new();
    match result {
        CqlResult::Void => out.put_i32(1),
        CqlResult::SchemaChange(change) => {
            out.put_i32(5);
            put_schema_change(&mut out, change);
        }
        CqlResult::Rows(rows) => {
            out.put_i32(2);
            put_rows(&mut out, rows, skip_metadata);
        }
        CqlResult::SetKeyspace(keyspace) => {
            out.put_i32(3);
            out.put_string(keyspace);
        }
    }
    (opcode::RESULT, out.freeze())
}

/// Result of PREPARE; version 4 adds the partition key's place among the markers, which we leave open.
pub(super) fn prepared(version: u8, id: &[u8], markers: &[Marker], result: Option<&RowSet>) -> Response {
    let mut out = BytesMut::new();
    out.put_i32(4);
    out.put_short_bytes(id);
    let (keyspace, table) = result.map_or(("", ""), |r| (&r.keyspace, &r.table));
    out.put_i32(1);
    out.put_i32(markers.len() as i32);
    if version >= 4 {
        out.put_i32(0);
    }
    out.put_string(keyspace);
    out.put_string(table);
    for marker in markers {
        out.put_string(&marker.name);
        if marker.list {
            out.put_u16(0x20);
        }
        marker.cql_type.put(&mut out);
    }
    match result {
        Some(rows) => put_metadata(&mut out, rows, false),
        None => {
            out.put_i32(4);
            out.put_i32(0);
        }
    }
    (opcode::RESULT, out.freeze())
}

/// A schema change pushed to clients that registered for it.
pub(super) fn schema_event(change: &SchemaChange) -> Response {
    let mut out = BytesMut::new();
    out.put_string("SCHEMA_CHANGE");
    put_schema_change(&mut out, change);
    (opcode::EVENT, out.freeze())
}

pub(super) fn supported(options: &[(&str, Vec<String>)]) -> Response {
    let mut out = BytesMut::new();
    out.put_u16(options.len() as u16);
    for (name, values) in options {
        out.put_string(name);
        out.put_u16(values.len() as u16);
        values.iter().for_each(|v| out.put_string(v));
    }
    (opcode::SUPPORTED, out.freeze())
}

pub(super) fn authenticate(class: &str) -> Response {
    let mut out = BytesMut::new();
    out.put_string(class);
    (opcode::AUTHENTICATE, out.freeze())
}

pub(super) fn auth_success() -> Response {
    let mut out = BytesMut::new();
    out.put_value(None);
    (opcode::AUTH_SUCCESS, out.freeze())
}

pub(super) fn ready() -> Response {
    (opcode::READY, Bytes::new())
}

fn put_schema_change(out: &mut BytesMut, change: &SchemaChange) {
    out.put_string(change.change);
    out.put_string(change.target);
    out.put_string(&change.keyspace);
    if !change.table.is_empty() {
        out.put_string(&change.table);
    }
}

fn put_rows(out: &mut BytesMut, rows: &RowSet, skip_metadata: bool) {
    put_metadata(out, rows, skip_metadata);
    out.put_i32(rows.rows.len() as i32);
    rows.rows.iter().flatten().for_each(|cell| cell.put(out));
}

fn put_metadata(out: &mut BytesMut, rows: &RowSet, skip: bool) {
    const GLOBAL_TABLE: i32 = 1;
    const NO_METADATA: i32 = 4;
    out.put_i32(if skip { NO_METADATA } else { GLOBAL_TABLE });
    out.put_i32(rows.columns.len() as i32);
    if skip {
        return;
    }
    out.put_string(&rows.keyspace);
    out.put_string(&rows.table);
    for column in &rows.columns {
        out.put_string(&column.name);
        column.cql_type.put(out);
    }
}
