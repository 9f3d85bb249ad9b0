//! The four snapshot calls.

use std::sync::Arc;

use serde_json::{Value, json};

use super::super::http::{Ask, Reply, RestError};
use super::super::snapshots::{Selection, SnapshotError, SnapshotRequest, TableSnapshot};
use super::super::{NodeCore, blocking};
use super::Answer;
use super::keyspaces::choose_tables;

pub(super) async fn list(core: &Arc<NodeCore>) -> Answer {
    let _reading = core.snapshot_lock.read().await;
    let snapshots = blocking(core, NodeCore::list_snapshots).await?;
    let describe = |t: &TableSnapshot| json!({ "ks": t.keyspace, "cf": t.table, "total": t.total_bytes, "live": t.live_bytes });
    let entries = snapshots
        .iter()
        .map(|(tag, tables)| json!({ "key": tag, "value": tables.iter().map(describe).collect::<Value>() }));
    Ok(Reply::Json(entries.collect()))
}

pub(super) async fn true_size(core: &Arc<NodeCore>) -> Answer {
    let _reading = core.snapshot_lock.read().await;
    let snapshots = blocking(core, NodeCore::list_snapshots).await?;
    let live: u64 = snapshots.values().flatten().map(|t| t.live_bytes).sum();
    Ok(Reply::Json(json!(live)))
}

pub(super) async fn take(core: &Arc<NodeCore>, ask: &Ask) -> Answer {
    let request = SnapshotRequest {
        tag: ask.query.get("tag").unwrap_or_default().to_owned(),
        tables: choose(core, ask)?,
        skip_flush: ask.query.flag("sf")?,
        ttl_seconds: ask.query.get("ttl").map(parse_ttl).transpose()?,
    };
    if request.tag.is_empty() {
        return Err(RestError::internal("You must supply a snapshot name."));
    }
    let _writing = core.snapshot_lock.write().await;
    blocking(core, move |core| core.take_snapshot(&request)).await.map_err(RestError::from)?;
    Ok(Reply::Void)
}

/// Tables to snapshot, checked in the order that Scylla checks.
fn choose(core: &Arc<NodeCore>, ask: &Ask) -> Result<Selection, RestError> {
    let (mut keyspaces, tables) = (ask.query.list("kn"), ask.query.list("cf"));
    if !tables.is_empty() {
        match keyspaces.len() {
            0 => return Err(RestError::bad_request("The keyspace of column families must be specified")),
            1 => {}
            _ => {
                return Err(RestError::bad_request(
                    "Only one keyspace allowed when specifying a column family",
                ));
            }
        }
    }
    if keyspaces.is_empty() {
        keyspaces = core.shared.model().keyspaces.keys().cloned().collect();
    }
    keyspaces.into_iter().map(|ks| choose_tables(core, &ks, &tables).map(|tables| (ks, tables))).collect()
}

fn parse_ttl(text: &str) -> Result<u64, RestError> {
    let seconds = |text: &str| {
        let unit = text.chars().last()?;
        let (number, factor) = match unit {
            's' => (&text[..text.len() - 1], 1),
            'm' => (&text[..text.len() - 1], 60),
            'h' => (&text[..text.len() - 1], 3_600),
            'd' => (&text[..text.len() - 1], 86_400),
            _ => (text, 1),
        };
        number.parse::<u64>().ok().map(|n| n * factor)
    };
    seconds(text).ok_or_else(|| RestError::bad_request(format!("Invalid snapshot ttl: {text}")))
}

pub(super) async fn delete(core: &Arc<NodeCore>, ask: &Ask) -> Answer {
    let tag = ask.query.get("tag").map(str::to_owned);
    let (keyspaces, table) = (ask.query.list("kn"), ask.query.get("cf").map(str::to_owned));
    let _writing = core.snapshot_lock.write().await;
    blocking(core, move |core| core.delete_snapshots(tag.as_deref(), &keyspaces, table.as_deref())).await?;
    Ok(Reply::Void)
}

impl From<SnapshotError> for RestError {
    fn from(error: SnapshotError) -> Self {
        match error {
            SnapshotError::Exists { .. } | SnapshotError::Injected(_) => Self::internal(error.to_string()),
            SnapshotError::Disk(error) => Self::from(error),
        }
    }
}
