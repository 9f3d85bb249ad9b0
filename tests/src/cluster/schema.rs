//! Schema changes: what a statement does to the model and to the nodes' directories.
//!
//! Each change gets a new schema version and an entry in the group-0 log, and clients that registered for
//! events hear of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use uuid::Uuid;

use super::identity::seeded_table_id;
use super::model::{
    Column, Distribution, Keyspace, KeyspaceClass, Model, NodeId, Replication, Table, TableKind, TombstoneGc,
};
use super::ring::make_tablets;
use super::{Shared, SimError};
use crate::node::{NodeCore, SchemaChange};

/// A table to create, as a statement describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NewTable {
    pub name: String,
    /// `WITH ID`; otherwise the cluster chooses one.
    pub id: Option<Uuid>,
    pub kind: TableKind,
    pub columns: Vec<Column>,
    pub tombstone_gc: Option<TombstoneGc>,
    pub compressed: bool,
    /// Has a log of its changes.
    pub cdc: bool,
}

/// A schema-changing statement. `lenient` is `IF [NOT] EXISTS`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SchemaStatement {
    CreateKeyspace {
        lenient: bool,
        keyspace: String,
        /// Strategy class and options, in the order given.
        replication: Vec<(String, String)>,
        /// Tablets at the start; `None`: vnodes.
        tablets: Option<u32>,
        durable_writes: bool,
    },
    CreateTable {
        lenient: bool,
        keyspace: String,
        table: NewTable,
    },
    DropKeyspace {
        lenient: bool,
        keyspace: String,
    },
    /// A table or materialized view.
    DropTable {
        lenient: bool,
        keyspace: String,
        table: String,
        view: bool,
    },
    DropIndex {
        lenient: bool,
        keyspace: String,
        index: String,
    },
    /// Its options are accepted and forgotten.
    CreateRole {
        lenient: bool,
        role: String,
    },
    /// Sets `tombstone_gc` of a table or view; other options are accepted and forgotten.
    Alter {
        keyspace: String,
        table: String,
        tombstone_gc: Option<TombstoneGc>,
    },
}

/// Why a schema change was refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SchemaError {
    /// `table` is empty for keyspaces.
    #[error("{keyspace}.{table} exists already")]
    Exists { keyspace: String, table: String },
    #[error("Cannot find keyspace '{0}'")]
    NoKeyspace(String),
    #[error("unconfigured table {0}")]
    NoTable(String),
    #[error("{0}")]
    Invalid(String),
    #[error(transparent)]
    Disk(#[from] SimError),
}

/// Effect of a change: what clients are told, and the files it makes or removes.
struct Change {
    told: SchemaChange,
    created: Vec<Table>,
    dropped: Vec<Table>,
}

impl Shared {
    /// Carries out a statement; `None` if there was nothing to do. Blocks: it touches files.
    pub fn change_schema(
        &self,
        statement: &SchemaStatement,
        text: &str,
    ) -> Result<Option<SchemaChange>, SchemaError> {
        let change = {
            let mut model = self.model();
            let Some(change) = change_model(&mut model, statement)? else { return Ok(None) };
            model.commit_schema(text);
            change
        };
        self.schema_changed.notify_waiters();
        for node in self.all_nodes() {
            for table in &change.created {
                node.create_table(&change.told.keyspace, table)?;
            }
            for table in &change.dropped {
                node.remove_table(&change.told.keyspace, table)?;
            }
        }
        // Nobody listening is fine.
        let _ = self.schema_events.send(change.told.clone());
        Ok(Some(change.told))
    }

    /// Drops a table with its views.
    pub fn drop_table(&self, keyspace: &str, table: &str) -> Result<(), SimError> {
        let (keyspace, table) = (keyspace.to_owned(), table.to_owned());
        let text = format!("DROP TABLE {keyspace}.{table}");
        let missing = SimError::NoSuchTable { keyspace: keyspace.clone(), table: table.clone() };
        let statement = SchemaStatement::DropTable { lenient: false, keyspace, table, view: false };
        match self.change_schema(&statement, &text) {
            Ok(_) => Ok(()),
            Err(SchemaError::Disk(error)) => Err(error),
            Err(_) => Err(missing),
        }
    }

    /// Every node there is.
    pub fn all_nodes(&self) -> Vec<Arc<NodeCore>> {
        let count = self.model().members.len();
        (0..count).filter_map(|n| self.node(NodeId(n))).collect()
    }
}

fn change_model(model: &mut Model, statement: &SchemaStatement) -> Result<Option<Change>, SchemaError> {
    match statement {
        SchemaStatement::CreateKeyspace { lenient, keyspace, replication, tablets, durable_writes } => {
            if model.keyspaces.contains_key(keyspace) {
                let (keyspace, table) = (keyspace.clone(), String::new());
                return if *lenient { Ok(None) } else { Err(SchemaError::Exists { keyspace, table }) };
            }
            let created = Keyspace {
                name: keyspace.clone(),
                class: KeyspaceClass::User,
                replication: parse_replication(model, replication)?,
                distribution: tablets
                    .map_or(Distribution::Vnodes, |initial| Distribution::Tablets { initial }),
                durable_writes: *durable_writes,
                tables: BTreeMap::new(),
            };
            model.keyspaces.insert(keyspace.clone(), created);
            Ok(Some(change("CREATED", keyspace, "")))
        }
        SchemaStatement::CreateTable { lenient, keyspace, table } => {
            create_table(model, *lenient, keyspace, table)
        }
        SchemaStatement::DropKeyspace { lenient, keyspace } => match model.keyspaces.remove(keyspace) {
            Some(gone) => Ok(Some(Change {
                dropped: gone.tables.into_values().collect(),
                ..change("DROPPED", keyspace, "")
            })),
            None if *lenient => Ok(None),
            None => Err(SchemaError::NoKeyspace(keyspace.clone())),
        },
        SchemaStatement::DropTable { lenient, keyspace, table, view } => {
            drop_tables(model, *lenient, keyspace, table, |t| {
                let same = t.name == *table && t.kind.is_view() == *view;
                same || (!view && t.kind.base() == Some(table))
            })
        }
        SchemaStatement::DropIndex { lenient, keyspace, index } => drop_tables(
            model,
            *lenient,
            keyspace,
            index,
            |t| matches!(&t.kind, TableKind::Index { index: i, .. } if i == index),
        ),
        // Roles are data of system_auth: the schema version stays.
        SchemaStatement::CreateRole { lenient, role } => match model.roles.contains(role) {
            true if *lenient => Ok(None),
            true => Err(SchemaError::Invalid(format!("{role} already exists"))),
            false => {
                model.roles.push(role.clone());
                Ok(None)
            }
        },
        SchemaStatement::Alter { keyspace, table, tombstone_gc } => {
            let ks = model.keyspaces.get_mut(keyspace);
            let ks = ks.ok_or_else(|| SchemaError::NoKeyspace(keyspace.clone()))?;
            let altered = ks.tables.get_mut(table).ok_or_else(|| SchemaError::NoTable(table.clone()))?;
            if tombstone_gc.is_some() {
                altered.tombstone_gc = *tombstone_gc;
            }
            Ok(Some(change("UPDATED", keyspace, table)))
        }
    }
}

fn change(change: &'static str, keyspace: &str, table: &str) -> Change {
    let target = if table.is_empty() { "KEYSPACE" } else { "TABLE" };
    let told = SchemaChange { change, target, keyspace: keyspace.to_owned(), table: table.to_owned() };
    Change { told, created: Vec::new(), dropped: Vec::new() }
}

fn create_table(
    model: &mut Model,
    lenient: bool,
    keyspace: &str,
    new: &NewTable,
) -> Result<Option<Change>, SchemaError> {
    let ks = model.keyspaces.get(keyspace).ok_or_else(|| SchemaError::NoKeyspace(keyspace.to_owned()))?;
    if ks.tables.contains_key(&new.name) {
        let (keyspace, table) = (keyspace.to_owned(), new.name.clone());
        return if lenient { Ok(None) } else { Err(SchemaError::Exists { keyspace, table }) };
    }
    let base = match new.kind.base() {
        None => None,
        Some(base) => Some(ks.tables.get(base).ok_or_else(|| SchemaError::NoTable(base.to_owned()))?),
    };
    let tablets = match ks.distribution {
        Distribution::Vnodes => Vec::new(),
        Distribution::Tablets { initial } => make_tablets(model, ks, initial, ks.tables.len()),
    };
    // The log tells apart tables that were dropped and made again.
    let name = format!("table {keyspace}.{} {}", new.name, model.group0_log.len());
    let version = model.tables().map(|(_, t)| t.version).next().unwrap_or_default();
    let table = Table {
        name: new.name.clone(),
        id: new.id.unwrap_or_else(|| seeded_table_id(model.seed, &name)),
        kind: new.kind.clone(),
        columns: typed_columns(&new.columns, base),
        tombstone_gc: new.tombstone_gc,
        tablets,
        compressed: new.compressed,
        version,
        min_data_size: 0,
    };
    if let Some(ks) = model.keyspaces.get_mut(keyspace) {
        ks.tables.insert(new.name.clone(), table.clone());
    }
    let mut created = vec![table];
    if new.cdc {
        let log = NewTable {
            name: format!("{}_scylla_cdc_log", new.name),
            id: None,
            kind: TableKind::CdcLog { base: new.name.clone() },
            tombstone_gc: None,
            cdc: false,
            ..new.clone()
        };
        let of_log = create_table(model, false, keyspace, &log)?;
        created.extend(of_log.into_iter().flat_map(|change| change.created));
    }
    Ok(Some(Change { created, ..change("CREATED", keyspace, &new.name) }))
}

/// Columns of a view have the types of its base; an index without columns has those of its base.
fn typed_columns(columns: &[Column], base: Option<&Table>) -> Vec<Column> {
    let Some(base) = base else { return columns.to_vec() };
    if columns.is_empty() {
        return base.columns.clone();
    }
    let typed = |column: &Column| {
        let cql_type = base.columns.iter().find(|c| c.name == column.name).map(|c| c.cql_type.clone());
        Column { cql_type: cql_type.unwrap_or_else(|| column.cql_type.clone()), ..column.clone() }
    };
    columns.iter().map(typed).collect()
}

fn drop_tables(
    model: &mut Model,
    lenient: bool,
    keyspace: &str,
    name: &str,
    goes: impl Fn(&Table) -> bool,
) -> Result<Option<Change>, SchemaError> {
    let missing = |error| if lenient { Ok(None) } else { Err(error) };
    let Some(ks) = model.keyspaces.get_mut(keyspace) else {
        return missing(SchemaError::NoKeyspace(keyspace.to_owned()));
    };
    let dropped: Vec<Table> = ks.tables.values().filter(|t| goes(t)).cloned().collect();
    if dropped.is_empty() {
        return missing(SchemaError::NoTable(name.to_owned()));
    }
    ks.tables.retain(|_, t| !goes(t));
    Ok(Some(Change { dropped, ..change("DROPPED", keyspace, name) }))
}

/// Reads strategy options; a plain `replication_factor` of NetworkTopologyStrategy means every datacenter.
fn parse_replication(model: &Model, options: &[(String, String)]) -> Result<Replication, SchemaError> {
    let invalid = |text: &str| SchemaError::Invalid(text.to_owned());
    let class = options.iter().find(|(k, _)| k == "class").map(|(_, v)| v.as_str());
    let class = class.ok_or_else(|| invalid("Missing mandatory replication strategy class"))?;
    let mut factors = BTreeMap::new();
    for (name, value) in options.iter().filter(|(k, _)| k != "class") {
        let factor: usize = value.parse().map_err(|_| invalid("Replication factor must be numeric"))?;
        factors.insert(name.clone(), factor);
    }
    match class.rsplit('.').next().unwrap_or(class) {
        "SimpleStrategy" => {
            let factor = factors.get("replication_factor").copied();
            let factor = factor.ok_or_else(|| invalid("SimpleStrategy requires a replication_factor"))?;
            Ok(Replication::Simple { factor })
        }
        "NetworkTopologyStrategy" => {
            if let Some(factor) = factors.remove("replication_factor") {
                for dc in model.dcs() {
                    factors.entry(dc.to_owned()).or_insert(factor);
                }
            }
            match factors.keys().find(|dc| !model.dcs().contains(dc.as_str())) {
                Some(dc) => Err(SchemaError::Invalid(format!("Unrecognized strategy option {{{dc}}}"))),
                None => Ok(Replication::NetworkTopology(factors)),
            }
        }
        "EverywhereStrategy" => Ok(Replication::Everywhere),
        "LocalStrategy" => Ok(Replication::Local),
        other => Err(SchemaError::Invalid(format!("Unable to find replication strategy class '{other}'"))),
    }
}
