//! `backup delete` and `backup delete local-snapshot` (spec backup-format.md 6.5, 6.6).

use std::collections::{BTreeMap, BTreeSet};

use common::ids::ClusterId;
use common::location::Location;
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
/// Each location comes with a way into it. A node's part is deleted by the node itself where it is one of
/// `hosts`, else by another one of the location's datacenter.
///
/// # Errors
/// Nothing has one of the tags, a tag is protected (then nothing is deleted), or a node's part failed (the others
/// are deleted).
pub async fn delete_backups(
    cluster: ClusterId,
    places: &[(Location, Reader)],
    hosts: &[Host],
    client: &AgentClient,
    tags: &BTreeSet<SnapshotTag>,
) -> Result<Purged, DeleteError> {
    let mut planned = Vec::new();
    let mut protected = BTreeSet::new();
    for (location, reader) in places {
        let (manifests, shadowed) = split_shadowed(reader.manifests(Some(cluster)).await?);
        match plan_delete(tags, &manifests, &shadowed) {
            Ok(plan) => planned.push((location, by_node(&plan, &manifests, &shadowed))),
            Err(tags) => protected.extend(tags),
        }
    }
    if !protected.is_empty() {
        return Err(DeleteError::Protected(protected));
    }
    let mut total = Purged::default();
    let mut first_error = None;
    for (location, nodes) in planned {
        let near: Vec<Host> =
            hosts.iter().filter(|h| location.dc().is_none_or(|dc| dc == h.dc)).cloned().collect();
        let work = assign(nodes, &near)
            .into_iter()
            .map(|(host, node)| (Reader { agent: client.on(host), location: location.without_dc() }, node))
            .collect();
        match purge_location(cluster, &location.without_dc(), work, BTreeMap::new()).await {
            Ok(purged) => total.add(&purged),
            Err(error) => {
                first_error.get_or_insert(error);
            }
        }
    }
    match first_error {
        Some(error) => Err(error.into()),
        None if total.manifests == 0 => Err(DeleteError::NotFound),
        None => Ok(total),
    }
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
