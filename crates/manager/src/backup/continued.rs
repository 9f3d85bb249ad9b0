//! Whether the interrupted run that [`resume`](super::resume) chose can really be gone on with: whatever it left on
//! the nodes and in the locations must all be there (spec backup-format.md 3.6; section 11, 19).

use std::collections::{BTreeMap, BTreeSet};

use common::format::paths::{ManifestPath, NodePath};
use common::snapshot_tag::SnapshotTag;
use common::task::Stage;
use tracing::info;

use super::backups::Backups;
use super::error::BackupError;
use super::resume::{self, EarlierRun, Resume};
use super::target::{Node, Target};
use crate::agent_client::AgentClient;
use crate::hosts::at_most;
use crate::scheduler::Clock;
use crate::store::backup_progress::ProgressRow;
use crate::store::backup_runs::{BackupRun, RunKey};

/// Nodes that are looked at once.
const NODES_AT_ONCE: usize = 16;

/// The run that the policy chooses; nothing is checked.
///
/// # Errors
/// The database failed.
pub async fn candidate(
    backups: &Backups,
    key: RunKey,
    clock: Clock,
) -> Result<Option<BackupRun>, BackupError> {
    let runs = backups.store().latest_backup_runs(key.cluster, key.task, resume::LOOK_BACK).await?;
    let earlier: Vec<EarlierRun> = runs.iter().map(BackupRun::as_earlier).collect();
    match resume::choose(&earlier, clock.now(), backups.age_max()) {
        Resume::Continue(id) => Ok(runs.into_iter().find(|run| run.key.run == id)),
        Resume::Fresh(reason) => {
            info!(reason, "The backup starts from scratch");
            Ok(None)
        }
    }
}

/// The run to go on with, with the names that its manifests have.
///
/// # Errors
/// Nodes of it are down, or cannot be asked.
pub async fn find(
    backups: &Backups,
    key: RunKey,
    clock: Clock,
    client: &AgentClient,
    target: &Target,
) -> Result<Option<(BackupRun, SnapshotTag, Stage)>, BackupError> {
    let Some(run) = candidate(backups, key, clock).await? else { return Ok(None) };
    let (Some(tag), Some(stage)) = (run.tag, run.stage) else { return Ok(None) };
    let unusable = |reason: &str| {
        info!(run = %run.key.run, %tag, reason, "The interrupted backup cannot go on, this one starts from scratch");
    };
    if run.dcs != target.dcs {
        unusable("other datacenters are selected now");
        return Ok(None);
    }
    let live: BTreeMap<&str, &Node> = target.nodes.iter().map(|n| (n.host.id.as_str(), n)).collect();
    let missing: Vec<String> =
        run.nodes.iter().filter(|id| !live.contains_key(id.as_str())).map(ToString::to_string).collect();
    if !missing.is_empty() {
        return Err(BackupError::MissingHosts(missing.join(", ")));
    }
    let rows = backups.store().backup_progress(run.key).await?;
    let tables: BTreeSet<(String, String)> = client.tables().await?.into_iter().collect();
    let left = Left { run: &run, tag, stage, rows: &rows, tables: &tables };
    let nodes: Vec<&Node> = run.nodes.iter().filter_map(|id| live.get(id.as_str()).copied()).collect();
    let left = &left;
    let looks = nodes.into_iter().map(|node| left.on(client, node)).collect();
    for look in at_most(NODES_AT_ONCE, looks).await {
        if let Some(reason) = look? {
            unusable(&reason);
            return Ok(None);
        }
    }
    Ok(Some((run, tag, stage)))
}

/// What an interrupted run must have left.
struct Left<'a> {
    run: &'a BackupRun,
    tag: SnapshotTag,
    stage: Stage,
    rows: &'a [ProgressRow],
    /// Tables that the cluster has now.
    tables: &'a BTreeSet<(String, String)>,
}

impl Left<'_> {
    /// What is missing on a node; `None` when all is there.
    async fn on(&self, client: &AgentClient, node: &Node) -> Result<Option<String>, BackupError> {
        if self.stage > Stage::MoveManifest {
            return Ok(None);
        }
        let agent = client.on(node.host.address);
        let host = node.host.address;
        if self.stage >= Stage::Schema {
            let key = self.run.key;
            let dc = node.host.dc.clone();
            let path = NodePath { cluster: key.cluster, dc, node: node.host.id.clone() };
            let published = ManifestPath { node: path, task: key.task, tag: self.tag, temporary: false };
            let mut found = false;
            for path in [published.temporary(), published] {
                found |= agent.file_info(&node.location.remote_path(&path.to_string())).await?.is_some();
            }
            if !found {
                return Ok(Some(format!("the manifest of {host} is not in {}", node.location)));
            }
        }
        if self.stage == Stage::MoveManifest {
            return Ok(None);
        }
        let snapshots = agent.snapshots().await?;
        let tag = self.tag.to_string();
        let present: BTreeSet<(&str, &str)> = snapshots
            .iter()
            .filter(|snapshot| snapshot.tag == tag)
            .flat_map(|snapshot| &snapshot.tables)
            .map(|table| (table.keyspace.as_str(), table.table.as_str()))
            .collect();
        let gone = self.needed(&host.to_string()).into_iter().find(|table| !present.contains(table));
        Ok(gone.map(|(keyspace, table)| format!("the snapshot of {keyspace}.{table} on {host} is gone")))
    }

    /// Tables whose snapshot a node must still have.
    fn needed(&self, host: &str) -> Vec<(&str, &str)> {
        let mut needed = Vec::new();
        for (number, unit) in self.run.units.iter().enumerate() {
            for table in &unit.tables {
                let row = self.rows.iter().find(|r| r.host == host && r.unit == number && r.table == *table);
                let wanted = match row {
                    Some(row) => row.completed_at.is_none() && row.files_count > 0,
                    // Before the list is complete every table counts, unless it was dropped meanwhile.
                    None => {
                        self.stage <= Stage::Manifest
                            && self.tables.contains(&(unit.keyspace.clone(), table.clone()))
                    }
                };
                if wanted {
                    needed.push((unit.keyspace.as_str(), table.as_str()));
                }
            }
        }
        needed
    }
}

#[cfg(test)]
mod tests {
    use common::api::manager::Unit;

    use super::*;

    #[test]
    fn what_must_still_be_on_a_node() {
        let unit = |keyspace: &str, tables: &[&str]| Unit {
            keyspace: keyspace.into(),
            tables: tables.iter().map(|t| (*t).to_owned()).collect(),
            all_tables: true,
        };
        let run =
            BackupRun { units: vec![unit("a", &["done", "half", "empty", "new"])], ..BackupRun::sample() };
        let row = |table: &str, files_count, complete: bool| ProgressRow {
            host: "h".into(),
            table: table.into(),
            files_count,
            completed_at: complete.then_some(run.start),
            ..ProgressRow::default()
        };
        let rows = [row("done", 3, true), row("half", 3, false), row("empty", 0, false)];
        let tables = BTreeSet::from([("a".to_owned(), "new".to_owned())]);
        let tag = SnapshotTag::at(run.start);
        for (stage, expected) in [
            (Stage::Index, &["half", "new"][..]),
            (Stage::Manifest, &["half", "new"]),
            (Stage::Schema, &["half"]),
            (Stage::Upload, &["half"]),
        ] {
            let left = Left { run: &run, tag, stage, rows: &rows, tables: &tables };
            let needed: Vec<&str> = left.needed("h").into_iter().map(|(_, table)| table).collect();
            assert_eq!(needed, expected, "{stage}");
        }
        let left = Left { run: &run, tag, stage: Stage::Index, rows: &rows, tables: &BTreeSet::new() };
        assert!(left.needed("other").is_empty(), "dropped tables need no snapshot");
    }
}
