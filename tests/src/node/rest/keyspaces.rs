//! Keyspaces, tables, their size, and flush and compaction switches.

use std::sync::Arc;

use serde_json::{Value, json};

use super::super::http::{Ask, Reply, RestError};
use super::super::{NodeCore, blocking};
use super::Answer;
use super::topology::{no_keyspace, no_table};
use crate::cluster::{KeyspaceClass, Table};
use crate::sstable::Fill;

pub(super) fn list(core: &Arc<NodeCore>, ask: &Ask) -> Answer {
    // Unknown values filter nothing, as in releases that do not know them.
    let class = |class: KeyspaceClass| match ask.query.get("type") {
        Some("user") => class == KeyspaceClass::User,
        Some("non_local_strategy") => class != KeyspaceClass::Local,
        _ => true,
    };
    let distribution = |tablets: bool| match ask.query.get("replication") {
        Some("tablets") => tablets,
        Some("vnodes") => !tablets,
        _ => true,
    };
    let model = core.shared.model();
    let names = model.keyspaces.values().filter(|ks| class(ks.class) && distribution(ks.uses_tablets()));
    Ok(Reply::Json(names.map(|ks| json!(ks.name)).collect()))
}

pub(super) fn tables(core: &Arc<NodeCore>) -> Answer {
    let model = core.shared.model();
    Ok(Reply::Json(model.tables().map(|(ks, t)| json!(format!("{}:{}", ks.name, t.name))).collect()))
}

pub(super) async fn disk_space(core: &Arc<NodeCore>, name: &str) -> Answer {
    let (keyspace, table) = named_table(core, name)?;
    let bytes = blocking(core, move |core| core.disk_usage(&keyspace, &table)).await?;
    Ok(Reply::Json(json!(bytes)))
}

pub(super) fn autocompaction(core: &Arc<NodeCore>, name: &str) -> Answer {
    let (_, table) = named_table(core, name)?;
    Ok(Reply::Json(json!(!core.state().autocompaction_off.contains(&table.id))))
}

pub(super) fn set_autocompaction(core: &Arc<NodeCore>, name: &str, on: bool) -> Answer {
    let (_, table) = named_table(core, name)?;
    let mut state = core.state();
    if on {
        state.autocompaction_off.remove(&table.id);
    } else {
        state.autocompaction_off.insert(table.id);
    }
    Ok(Reply::Void)
}

/// The table named `keyspace:table` in a path; the name itself may hold colons.
fn named_table(core: &Arc<NodeCore>, name: &str) -> Result<(String, Table), RestError> {
    let missing = || RestError::bad_request(format!("Column family '{name}' not found"));
    let (keyspace, table) = name.split_once(':').ok_or_else(missing)?;
    let found = core.table(keyspace, table).map_err(|_| missing())?;
    Ok((keyspace.to_owned(), found))
}

pub(super) async fn flush(core: &Arc<NodeCore>, keyspace: &str, ask: &Ask) -> Answer {
    let tables = choose_tables(core, keyspace, &ask.query.list("cf"))?;
    let keyspace = keyspace.to_owned();
    blocking(core, move |core| {
        tables.iter().try_for_each(|t| core.flush_table(&keyspace, t, Fill::Noise).map(|_| ()))
    })
    .await?;
    Ok(Reply::Void)
}

/// The named tables of a keyspace, or all when none is named.
pub(super) fn choose_tables(
    core: &Arc<NodeCore>,
    keyspace: &str,
    names: &[String],
) -> Result<Vec<Table>, RestError> {
    let model = core.shared.model();
    let ks = model.keyspaces.get(keyspace).ok_or_else(|| no_keyspace(keyspace))?;
    if names.is_empty() {
        return Ok(ks.tables.values().cloned().collect());
    }
    names.iter().map(|n| ks.tables.get(n).cloned().ok_or_else(|| no_table(keyspace, n))).collect()
}

/// Build state of a view on every node; nothing is known of what is no view.
pub(super) fn view_build_statuses(core: &Arc<NodeCore>, keyspace: &str, view: &str) -> Answer {
    let model = core.shared.model();
    let is_view = model.table(keyspace, view).is_some_and(|t| t.kind.is_view());
    let members = model.members.iter().filter(|m| is_view && m.is_in_ring());
    let statuses: Vec<Value> = members.map(|m| json!({ "key": m.address, "value": "SUCCESS" })).collect();
    Ok(Reply::Json(json!(statuses)))
}
