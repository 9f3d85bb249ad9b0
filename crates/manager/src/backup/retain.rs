//! PURGE: lets go what no task wants to keep any longer (spec backup-format.md 4.10, design 3.7).
//!
//! The plan is a pure function of the listed manifests; this module lists, asks for the plan, says what it will do
//! and why, and has it carried out. The backup itself is complete before: a failure here never harms it.

use common::location::Location;
use common::snapshot_tag::SnapshotTag;
use tracing::{info, warn};

use super::error::{BackupError, HostFailure};
use super::location::Reader;
use super::purge::{NodeManifests, Purged, assign, by_node, hold_for_bit_rot, purge_location, without_held};
use super::retention::{Hold, ListedManifest, RetentionPlan, plan_retention, split_shadowed};
use super::run::Run;
use super::target::Node;
use crate::hosts::{Host, at_most};

/// Nodes whose snapshots are deleted at once.
const NODES_AT_ONCE: usize = 32;

/// Deletes the run's snapshots on its nodes, then everything stale in its locations.
///
/// # Errors
/// A location cannot be listed, or parts could not be deleted; the others are.
pub async fn purge(run: &Run, left_over: Option<SnapshotTag>) -> Result<Purged, BackupError> {
    delete_snapshots(run, left_over).await;
    let now = run.now();
    let policies = if run.properties.retention_map.is_empty() {
        run.backups.policies(run.cluster()).await?
    } else {
        run.properties.retention_map.clone()
    };
    let continuable = run.backups.continuable(run.cluster(), now).await?;

    let mut places = Vec::new();
    let mut all = Vec::new();
    for (location, nodes) in run.locations() {
        let (reader, manifests) = list(run, &location, &nodes).await?;
        all.extend(manifests);
        places.push((reader, nodes));
    }
    let (manifests, shadowed) = split_shadowed(all);
    let mut plan = plan_retention(now, &manifests, &shadowed, &policies, &continuable);
    let groups = |location: &Location, plan: &RetentionPlan| {
        let here = |list: &[ListedManifest]| -> Vec<ListedManifest> {
            list.iter().filter(|m| m.location == *location).cloned().collect()
        };
        by_node(plan, &here(&manifests), &here(&shadowed))
    };
    let mut work = Vec::new();
    for (reader, nodes) in places {
        let groups: Vec<NodeManifests> = groups(&reader.location, &plan);
        let unreadable = hold_for_bit_rot(&reader, &mut plan, &groups).await;
        work.push((reader, nodes, groups, unreadable));
    }
    tell(&plan);

    let mut total = Purged::default();
    let mut failures = Vec::new();
    for (reader, nodes, groups, unreadable) in work {
        let hosts: Vec<Host> = nodes.iter().map(|n| n.host.clone()).collect();
        let assigned = assign(without_held(&plan, groups), &hosts)
            .into_iter()
            .map(|(host, node)| {
                let agent = run.client.on(host);
                (Reader { agent, location: reader.location.clone() }, node)
            })
            .collect();
        match purge_location(run.cluster(), &reader.location, assigned, unreadable).await {
            Ok(purged) => total.add(&purged),
            Err(error) => failures.push(error),
        }
    }
    for (host, (files, deleted)) in &total.by_host {
        if let Ok(host) = host.parse() {
            run.backups.metrics().set_purge(run.cluster(), host, *files, *deleted);
        }
    }
    failures.into_iter().next().map_or(Ok(total), |error| Err(error.into()))
}

/// Lists a location through the first of its nodes that can.
async fn list(
    run: &Run,
    location: &Location,
    nodes: &[&Node],
) -> Result<(Reader, Vec<ListedManifest>), BackupError> {
    let mut failed = BackupError::NoLiveNodes;
    for node in nodes {
        let reader = Reader { agent: run.agent(node), location: location.clone() };
        match reader.manifests(Some(run.cluster())).await {
            Ok(manifests) => return Ok((reader, manifests)),
            Err(error) => failed = error.into(),
        }
    }
    Err(failed)
}

/// What was uploaded is not needed on the nodes any more. A failure costs disk space until the next backup deletes
/// the snapshot, so it is only logged.
async fn delete_snapshots(run: &Run, left_over: Option<SnapshotTag>) {
    let tags: Vec<String> = std::iter::once(run.tag).chain(left_over).map(|tag| tag.to_string()).collect();
    let tags = &tags;
    let work = run.nodes.iter().map(|node| async move {
        for tag in tags {
            if let Err(error) = run.agent(node).delete_snapshot(tag, None, None).await {
                let reason = HostFailure::new(node.host.address, &error.into()).reason;
                warn!(host = %node.host.address, tag, error = reason, "A snapshot cannot be deleted yet");
            }
        }
    });
    at_most(NODES_AT_ONCE, work.collect()).await;
}

fn tell(plan: &RetentionPlan) {
    for ((task, tag), reason) in &plan.stale {
        info!(%task, %tag, %reason, "A snapshot is purged");
    }
    for ((task, tag), hold) in &plan.held {
        match hold {
            Hold::BitRot { .. } => warn!(%task, %tag, reason = %hold, "A snapshot is kept beyond its time"),
            Hold::Protected | Hold::Continuable => {
                info!(%task, %tag, reason = %hold, "A snapshot is kept beyond its time");
            }
        }
    }
    info!(stale = plan.stale.len(), held = plan.held.len(), "Retention is planned");
}
