//! `backup delete` and `backup delete local-snapshot` (spec backup-format.md 6.5, 6.6).

use std::collections::{BTreeMap, BTreeSet};

use common::ids::ClusterId;
use common::snapshot_tag::SnapshotTag;
use futures::StreamExt;

use super::location::{LocationError, Reader};
use super::purge::{PurgeError, Purged, assign, by_node, purge_location};
use super::retention::{plan_delete, split_shadowed};
use crate::agent_client::{Agent, AgentClient, HostError, join_hosts};
use crate::cluster::topology::Member;
use crate::hosts::Host;

/// Nodes whose snapshots are deleted at once.
const PARALLEL_NODES: usize = 20;

/// Why backups were not deleted.
#[derive(Debug, thiserror::Error)]
pub enum DeleteError {
    /// A location cannot be read.
    #[error(transparent)]
    Location(#[from] LocationError),
    /// A node's part could not be deleted.
    #[error(transparent)]
    Purge(#[from] PurgeError),
    /// Locks or holds; nothing was deleted.
    #[error(
        "snapshots protected by retention lock or event based hold cannot be deleted: [{}]",
        .0.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
    )]
    Protected(BTreeSet<SnapshotTag>),
    /// No such snapshot in any location.
    #[error("not found")]
    NotFound,
    /// A running backup may rely on the files.
    #[error("a backup of this cluster is uploading and may rely on these files, try again when it has ended")]
    Busy,
    /// Nodes that failed.
    #[error("{0}")]
    Hosts(String),
}

/// Deletes all backups of a cluster with one of the tags, and every file that no other backup needs. The caller
/// holds the cluster's [`DeleteGuard`](super::locks::DeleteGuard).
///
/// # Errors
/// Nothing has one of the tags, a tag is protected (then nothing is deleted), or a node's part failed.
pub async fn delete_backups(
    cluster: ClusterId,
    readers: &[Reader],
    hosts: &[Host],
    client: &AgentClient,
    tags: &BTreeSet<SnapshotTag>,
) -> Result<Purged, DeleteError> {
    let mut planned = Vec::new();
    for reader in readers {
        let (manifests, shadowed) = split_shadowed(reader.manifests(Some(cluster)).await?);
        let plan = plan_delete(tags, &manifests, &shadowed).map_err(DeleteError::Protected)?;
        planned.push((reader, by_node(&plan, &manifests, &shadowed)));
    }
    let mut total = Purged::default();
    for (reader, nodes) in planned {
        let work = assign(nodes, hosts)
            .into_iter()
            .map(|(host, node)| (Reader { agent: client.on(host), location: reader.location.clone() }, node))
            .collect();
        total.add(&purge_location(cluster, &reader.location, work, BTreeMap::new()).await?);
    }
    if total.manifests == 0 { Err(DeleteError::NotFound) } else { Ok(total) }
}

/// Deletes every snapshot with a name of ours on all nodes that are up; the bucket is not touched.
///
/// # Errors
/// All nodes that failed; the others are done.
pub async fn delete_local_snapshots(client: &AgentClient, members: &[Member]) -> Result<(), DeleteError> {
    let mut up = Vec::new();
    for member in members.iter().filter(|m| m.up) {
        up.push(delete_on_node(client.on(member.host.address)));
    }
    let outcomes: Vec<Result<(), HostError>> =
        futures::stream::iter(up).buffer_unordered(PARALLEL_NODES).collect().await;
    let failed: Vec<HostError> = outcomes.into_iter().filter_map(Result::err).collect();
    if failed.is_empty() { Ok(()) } else { Err(DeleteError::Hosts(join_hosts(&failed))) }
}

async fn delete_on_node(agent: Agent) -> Result<(), HostError> {
    for snapshot in agent.snapshots().await? {
        if snapshot.tag.parse::<SnapshotTag>().is_ok() {
            agent.delete_snapshot(&snapshot.tag, None, None).await?;
        }
    }
    Ok(())
}
