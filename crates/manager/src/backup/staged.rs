//! MANIFEST: stores each node's list of files as a temporary manifest (spec backup-format.md 4.4).
//!
//! From here on this manifest is the only complete list of the node's files: upload takes files off the node.

use std::collections::BTreeMap;
use std::net::IpAddr;

use bytes::Bytes;
use common::format::manifest::{self, InstanceDetails, ManifestHeader, TableEntry, Writer};
use common::format::paths::scylla_manifest_name;
use tracing::warn;

use super::error::BackupError;
use super::file_lists::{ManifestTables, snapshot_dir};
use super::index::PackedIndex;
use super::run::Run;
use super::target::Node;
use crate::agent_client::Moved;
use crate::hosts::at_most;

/// Nodes whose manifests are in memory at once, packed (the original's number).
const MANIFESTS_AT_ONCE: usize = 12;

/// Reads a node's list of files back.
///
/// # Errors
/// It is missing or damaged.
pub async fn tables(run: &Run, node: &Node) -> Result<ManifestTables, BackupError> {
    let agent = run.agent(node);
    let temporary = run.manifest_path(node).temporary();
    match ManifestTables::fetch(&agent, &node.location, &temporary.to_string()).await {
        Err(BackupError::Host(error)) if error.is_not_found() => {
            let published = run.manifest_path(node).to_string();
            ManifestTables::fetch(&agent, &node.location, &published).await
        }
        outcome => outcome,
    }
}

/// Stores the manifests that are not stored yet, and moves Scylla's own manifests to their place in the location.
///
/// # Errors
/// A node failed.
pub async fn store(
    run: &Run,
    mut index: BTreeMap<IpAddr, Option<PackedIndex>>,
    schema: &str,
) -> Result<(), BackupError> {
    let work = run.nodes.iter().map(|node| {
        let packed = index.remove(&node.host.address).flatten();
        async move {
            let outcome = async {
                if let Some(packed) = packed {
                    store_one(run, node, packed, schema).await?;
                }
                move_scylla_manifests(run, node).await
            };
            (node.host.address, outcome.await)
        }
    });
    super::error::all_hosts(at_most(MANIFESTS_AT_ONCE, work.collect()).await).map(drop)
}

async fn store_one(run: &Run, node: &Node, index: PackedIndex, schema: &str) -> Result<(), BackupError> {
    let header = header(run, node, index.size, schema).await?;
    let (tag, id) = (run.tag, node.host.id.clone());
    let packed = repack(index.packed.into(), header, move |mut entry: TableEntry| {
        for name in &mut entry.scylla_manifests {
            *name = scylla_manifest_name(tag, &id, name);
        }
        entry
    })
    .await?;
    let path = run.manifest_path(node).temporary().to_string();
    Ok(run.agent(node).put(&node.location.remote_path(&path), packed).await?)
}

/// Rewrites a packed manifest table by table on a blocking thread.
async fn repack(
    packed: Bytes,
    header: ManifestHeader,
    change: impl Fn(TableEntry) -> TableEntry + Send + 'static,
) -> Result<Bytes, BackupError> {
    let work = move || {
        let mut writer = Writer::new(Vec::new(), &header)?;
        let mut written = Ok(());
        manifest::read(&*packed, |entry| {
            if written.is_ok() {
                written = writer.entry(&change(entry));
            }
        })?;
        written?;
        writer.finish()
    };
    match tokio::task::spawn_blocking(work).await {
        Ok(outcome) => outcome.map(Bytes::from).map_err(|e| BackupError::other(common::error::chain(&e))),
        Err(_) => Err(BackupError::other("writing the manifest panicked")),
    }
}

async fn header(run: &Run, node: &Node, size: u64, schema: &str) -> Result<ManifestHeader, BackupError> {
    let agent = run.agent(node);
    let tokens = agent.tokens(node.host.address).await?;
    let tokens: Result<Vec<i64>, _> = tokens.iter().map(|t| t.parse()).collect();
    let cloud = agent.cloud_metadata().await.unwrap_or_else(|error| {
        warn!(host = %node.host.address, error = common::error::chain(&error), "Cloud metadata is unknown");
        Default::default()
    });
    Ok(ManifestHeader {
        version: "v2".to_owned(),
        scylla_version: node.info.scylla_version.clone(),
        cluster_name: run.cluster_name.clone(),
        ip: node.host.address.to_string(),
        size,
        tokens: tokens.map_err(|e| BackupError::other(format!("a token is no number: {e}")))?,
        schema: schema.to_owned(),
        rack: node.host.rack.clone(),
        shard_count: agent.shard_count().await?,
        cpu_count: node.info.cpu_count,
        storage_size: node.info.storage_size,
        instance_details: InstanceDetails {
            cloud_provider: cloud.cloud_provider,
            instance_type: cloud.instance_type,
        },
        dc: node.host.dc.clone(),
        cluster_id: Some(run.cluster()),
        node_id: node.host.id.to_string(),
        task_id: Some(run.key.task),
        snapshot_tag: Some(run.tag),
    })
}

/// Moves Scylla's own manifests from the snapshot to the location, as the stored manifest names them. What an
/// earlier run moved is found there.
async fn move_scylla_manifests(run: &Run, node: &Node) -> Result<(), BackupError> {
    let prefix = scylla_manifest_name(run.tag, &node.host.id, "");
    let tag = run.tag.to_string();
    let mut moves = Vec::new();
    let mut tables = tables(run, node).await?;
    while let Some(entry) = tables.next().await {
        for name in &entry.scylla_manifests {
            let Some(original) = name.strip_prefix(&prefix) else { continue };
            let source = format!("{}/{original}", snapshot_dir(&entry, &tag));
            let target = node.location.remote_path(&format!("{}/{name}", run.table_dir(node, &entry)));
            moves.push((source, target));
        }
    }
    tables.finish().await?;
    let parallel = usize::try_from(node.info.cpu_count).unwrap_or(1).clamp(1, 16);
    let moved = moves.into_iter().map(|(source, target)| async move {
        let agent = run.agent(node);
        if agent.move_file(&source, &target).await? == Moved::SourceMissing
            && agent.file_info(&target).await?.is_none()
        {
            return Err(BackupError::other(format!("{source} is gone, and {target} is not there")));
        }
        Ok(())
    });
    at_most(parallel, moved.collect()).await.into_iter().collect()
}
