//! Deletes what a plan lets go: files first, manifests last (spec backup-format.md 4.10, 6.5).
//!
//! For one node nothing is deleted while any of its manifests is unreadable. The surprise: schema files belong
//! to a snapshot and not to a node, so that they go only when every node's part of the snapshot went well; a
//! node that could not be purged keeps them for the next time. What cannot be deleted keeps its manifests, so
//! that there is a next time.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use common::api::agent::{ListOptions, ListRequest};
use common::format::manifest::TableEntry;
use common::format::paths::{NodePath, SchemaKind, SchemaPath};
use common::ids::ClusterId;
use common::location::Location;
use common::snapshot_tag::SnapshotTag;
use futures::TryStreamExt;
use tracing::{info, warn};

use super::location::{ReadError, Reader};
use super::purge_plan::NodePurge;
use super::retention::{Hold, ListedManifest, RetentionPlan, Snapshot};
use crate::agent_client::HostError;
use crate::hosts::{Host, at_most};

/// Directories whose files are deleted at once.
const PARALLEL_DIRS: usize = 100;

/// Nodes that are purged at once. Each takes memory for the file names of its stale manifests, some 120 bytes for each;
/// the original's 12 would be too many for a small manager.
const PARALLEL_NODES: usize = 2;

/// A node was not purged, or not to the end.
#[derive(Debug, thiserror::Error)]
pub enum PurgeError {
    /// Nothing was deleted for this node.
    #[error(
        "nothing was purged for node {node}: one of its manifests cannot be read (find out more with sctool backup \
         validate, or set the object aside and remove the snapshot with sctool backup delete)"
    )]
    Unreadable {
        /// The node.
        node: String,
        /// Which manifest, and why.
        #[source]
        source: ReadError,
    },
    /// A deletion or listing failed; the next purge goes on.
    #[error("purge of node {node}")]
    Host {
        /// The node.
        node: String,
        /// Which host, and why.
        #[source]
        source: HostError,
    },
    /// A schema file or manifest could not be deleted; its snapshot stays listed, and the next purge goes on.
    #[error("delete {key}")]
    Object {
        /// Its key.
        key: String,
        /// Which host, and why.
        #[source]
        source: HostError,
    },
}

/// What a purge did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Purged {
    /// Files to delete.
    pub files: u64,
    /// Files that were there and are deleted.
    pub deleted: u64,
    /// Manifests that are gone.
    pub manifests: u64,
    /// Files to delete and files that were there, by the host that deleted them.
    pub by_host: BTreeMap<String, (u64, u64)>,
}

impl Purged {
    /// Adds what was done elsewhere.
    pub fn add(&mut self, other: &Self) {
        self.files += other.files;
        self.deleted += other.deleted;
        self.manifests += other.manifests;
        for (host, (files, deleted)) in &other.by_host {
            let sums = self.by_host.entry(host.clone()).or_default();
            *sums = (sums.0 + files, sums.1 + deleted);
        }
    }
}

/// The manifests of one node in one location, by what becomes of them.
#[derive(Clone, Debug)]
pub struct NodeManifests {
    /// The node.
    pub node: NodePath,
    /// Those that go.
    pub stale: Vec<ListedManifest>,
    /// Those that stay, temporary ones of runs that can go on included.
    pub kept: Vec<ListedManifest>,
    /// Temporary ones whose published form exists.
    pub shadowed: Vec<ListedManifest>,
}

/// Groups manifests by node, for those nodes that lose something. Pure.
pub fn by_node(
    plan: &RetentionPlan,
    manifests: &[ListedManifest],
    shadowed: &[ListedManifest],
) -> Vec<NodeManifests> {
    let mut nodes: BTreeMap<&NodePath, NodeManifests> = BTreeMap::new();
    let empty = |node: &NodePath| NodeManifests {
        node: node.clone(),
        stale: Vec::new(),
        kept: Vec::new(),
        shadowed: Vec::new(),
    };
    for manifest in manifests {
        let node = nodes.entry(&manifest.path.node).or_insert_with_key(|n| empty(n));
        let stale = plan.stale.contains_key(&manifest.snapshot());
        if stale { &mut node.stale } else { &mut node.kept }.push(manifest.clone());
    }
    for manifest in shadowed {
        let node = nodes.entry(&manifest.path.node).or_insert_with_key(|n| empty(n));
        node.shadowed.push(manifest.clone());
    }
    nodes.into_values().filter(|n| !n.stale.is_empty()).collect()
}

/// Chooses who purges which node: a node itself when it is there, else the others in turn. Pure.
pub fn assign(nodes: Vec<NodeManifests>, hosts: &[Host]) -> Vec<(IpAddr, NodeManifests)> {
    let mut others = hosts.iter().cycle();
    let pairs = nodes.into_iter().filter_map(|node| {
        let own = hosts.iter().find(|h| h.id == node.node.node);
        let host = own.or_else(|| others.next())?;
        Some((host.address, node))
    });
    pairs.collect()
}

/// Keeps snapshots that hold the last sound copy of a table (design 3.3): while a node's newest backup has a
/// damaged file in a table, no snapshot with that table of that node goes.
///
/// Returns the nodes for which this cannot be told: nothing of them may go.
pub async fn hold_for_bit_rot(
    reader: &Reader,
    plan: &mut RetentionPlan,
    nodes: &[NodeManifests],
) -> BTreeMap<NodePath, ReadError> {
    let mut unreadable = BTreeMap::new();
    for node in nodes {
        if let Err(error) = hold_node(reader, plan, node).await {
            unreadable.insert(node.node.clone(), error);
        }
    }
    unreadable
}

async fn hold_node(reader: &Reader, plan: &mut RetentionPlan, node: &NodeManifests) -> Result<(), ReadError> {
    let all = node.kept.iter().chain(&node.stale);
    let Some(newest) = all.filter(|m| !m.path.temporary).max_by_key(|m| m.path.tag) else { return Ok(()) };
    let mut rotten: BTreeSet<(String, String)> = BTreeSet::new();
    let note = |entry: TableEntry| {
        if !entry.digest_mismatch.is_empty() {
            rotten.insert((entry.keyspace, entry.table));
        }
    };
    reader.read(newest, note).await?;
    if rotten.is_empty() {
        return Ok(());
    }
    for manifest in &node.stale {
        let mut found = None;
        let look = |entry: TableEntry| {
            let table = (entry.keyspace, entry.table);
            if rotten.contains(&table) {
                found = Some(format!("{}.{}", table.0, table.1));
            }
        };
        reader.read(manifest, look).await?;
        if let Some(table) = found {
            plan.hold(manifest.snapshot(), Hold::BitRot { node: node.node.node.to_string(), table });
        }
    }
    Ok(())
}

/// Takes snapshots that are held after all out of what goes. Pure.
pub fn without_held(plan: &RetentionPlan, nodes: Vec<NodeManifests>) -> Vec<NodeManifests> {
    let settled = nodes.into_iter().map(|mut node| {
        let goes = |m: &ListedManifest| plan.stale.contains_key(&m.snapshot());
        let (stale, held): (Vec<_>, Vec<_>) = std::mem::take(&mut node.stale).into_iter().partition(goes);
        node.kept.extend(held);
        NodeManifests { stale, ..node }
    });
    settled.filter(|node| !node.stale.is_empty()).collect()
}

/// Deletes files, schema and manifests of everything stale in one location. Of the nodes in `unreadable` nothing is
/// deleted.
///
/// # Errors
/// The first node that failed; the others are purged all the same.
pub async fn purge_location(
    cluster: ClusterId,
    location: &Location,
    work: Vec<(Reader, NodeManifests)>,
    mut unreadable: BTreeMap<NodePath, ReadError>,
) -> Result<Purged, PurgeError> {
    let deletions = work.into_iter().map(|(reader, node)| {
        let refused = unreadable.remove(&node.node);
        async move {
            let outcome = match refused {
                Some(source) => Err(PurgeError::Unreadable { node: node.node.node.to_string(), source }),
                None => delete_files(&reader, &node).await,
            };
            (reader, node, outcome)
        }
    });
    let outcomes = at_most(PARALLEL_NODES, deletions.collect()).await;
    let failed: BTreeSet<Snapshot> = outcomes
        .iter()
        .filter(|(_, _, outcome)| outcome.is_err())
        .flat_map(|(_, node, _)| node.stale.iter().map(ListedManifest::snapshot))
        .collect();
    let mut purged = Purged::default();
    let mut first_error = None;
    let mut note = |error: PurgeError| {
        warn!(%cluster, %location, error = common::error::chain(&error), "A purge is incomplete");
        first_error.get_or_insert(error);
    };
    let mut done = Vec::new();
    for (reader, node, outcome) in outcomes {
        match outcome {
            Ok(files) => {
                purged.add(&files);
                done.push((reader, node));
            }
            Err(error) => note(error),
        }
    }
    let mut stuck: BTreeSet<Snapshot> = BTreeSet::new();
    let mut seen = failed;
    for (reader, node) in &done {
        for snapshot in node.stale.iter().map(ListedManifest::snapshot) {
            if seen.insert(snapshot)
                && let Err(error) = delete_schema(reader, cluster, snapshot).await
            {
                stuck.insert(snapshot);
                note(error);
            }
        }
    }
    let mut last = Vec::new();
    for (reader, node) in &done {
        last.push(delete_manifests(reader, node, &stuck));
    }
    for (gone, error) in at_most(PARALLEL_NODES, last).await {
        purged.manifests += gone;
        if let Some(error) = error {
            note(error);
        }
    }
    info!(%cluster, %location, ?purged, "Purge ended");
    first_error.map_or(Ok(purged), Err)
}

/// Deletes the files of one node that only stale manifests list.
async fn delete_files(reader: &Reader, node: &NodeManifests) -> Result<Purged, PurgeError> {
    let name = node.node.node.to_string();
    let unreadable = |source| PurgeError::Unreadable { node: name.clone(), source };
    let failed = |source| PurgeError::Host { node: name.clone(), source };
    let mut purge = NodePurge::new(node.node.clone());
    for manifest in &node.stale {
        reader.read(manifest, |entry| purge.stale(entry)).await.map_err(unreadable)?;
    }
    for manifest in &node.kept {
        reader.read(manifest, |entry| purge.kept(&entry)).await.map_err(unreadable)?;
    }
    let oldest_kept: Option<SnapshotTag> = node.kept.iter().map(|m| m.path.tag).min();
    add_older_copies(reader, &node.node, oldest_kept, &mut purge).await.map_err(failed)?;

    let files = purge.into_files();
    let planned = files.values().map(|names| names.len() as u64).sum();
    let deletions = files.into_iter().map(|(dir, names)| async move {
        let dir = reader.location.remote_path(&dir);
        reader.agent.delete_paths(&dir, &names).await
    });
    let mut deleted = 0;
    for outcome in at_most(PARALLEL_DIRS, deletions.collect()).await {
        deleted += outcome.map_err(failed)?;
    }
    let by_host = BTreeMap::from([(reader.agent.host().to_owned(), (planned, deleted))]);
    Ok(Purged { files: planned, deleted, manifests: 0, by_host })
}

async fn add_older_copies(
    reader: &Reader,
    node: &NodePath,
    oldest_kept: Option<SnapshotTag>,
    purge: &mut NodePurge,
) -> Result<(), HostError> {
    let options = ListOptions {
        recurse: true,
        files_only: true,
        no_mod_time: true,
        no_mime_type: true,
        ..ListOptions::default()
    };
    let request = ListRequest { opt: options, versioned_only: true, ..ListRequest::default() };
    let dir = node.sst_dir();
    let mut items = reader.agent.list_if_exists(&reader.location.remote_path(&dir), request).await?;
    while let Some(item) = items.try_next().await? {
        purge.older_copy(&format!("{dir}/{}", item.path), oldest_kept);
    }
    Ok(())
}

/// Deletes an object; a missing one is no error.
async fn delete_object(reader: &Reader, key: &str) -> Result<(), PurgeError> {
    let outcome = reader.agent.delete_file(&reader.location.remote_path(key)).await;
    outcome.map(drop).map_err(|source| PurgeError::Object { key: key.to_owned(), source })
}

/// Deletes the schema files of a snapshot.
async fn delete_schema(reader: &Reader, cluster: ClusterId, (task, tag): Snapshot) -> Result<(), PurgeError> {
    for kind in SchemaKind::ALL {
        delete_object(reader, &SchemaPath { cluster, task, tag, kind }.to_string()).await?;
    }
    Ok(())
}

/// Deletes the stale manifests of a node, each after its shadowed form. Returns how many are gone, and what went
/// wrong first.
async fn delete_manifests(
    reader: &Reader,
    node: &NodeManifests,
    stuck: &BTreeSet<Snapshot>,
) -> (u64, Option<PurgeError>) {
    let (mut gone, mut first_error) = (0, None);
    for manifest in node.stale.iter().filter(|m| !stuck.contains(&m.snapshot())) {
        match delete_manifest(reader, manifest, &node.shadowed).await {
            Ok(()) => gone += 1,
            Err(error) => {
                first_error.get_or_insert(error);
            }
        }
    }
    (gone, first_error)
}

async fn delete_manifest(
    reader: &Reader,
    manifest: &ListedManifest,
    shadowed: &[ListedManifest],
) -> Result<(), PurgeError> {
    for shadow in shadowed.iter().filter(|s| s.path.regular() == manifest.path.regular()) {
        delete_object(reader, &shadow.key).await?;
    }
    delete_object(reader, &manifest.key).await
}
