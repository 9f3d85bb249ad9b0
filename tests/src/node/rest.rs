//! The Scylla REST API: which handler answers which path.
//!
//! Only what the manager and the agent use is here. Everything else is `404 Not found`, as for a wrong
//! method, and counted.

mod keyspaces;
mod snapshots;
#[cfg(test)]
mod tests;
mod topology;

use std::sync::Arc;

use super::NodeCore;
use super::config;
use super::http::{Ask, Reply, RestError};

type Answer = Result<Reply, RestError>;

/// Finds and runs the handler.
pub(super) async fn dispatch(core: &Arc<NodeCore>, ask: &Ask) -> Answer {
    let segments: Vec<&str> = ask.segments.iter().map(String::as_str).collect();
    match (ask.method.as_str(), segments.as_slice()) {
        ("GET", ["v2", "config", name]) => config::value(core, name).map(Reply::Json),

        ("GET", ["storage_service", "host_id"]) => topology::host_ids(core),
        ("GET", ["storage_service", "hostid", "local"]) => topology::local_host_id(core),
        ("GET", ["gossiper", "endpoint", "live"]) => topology::live(core),
        ("GET", ["gossiper", "endpoint", "down"]) => topology::down(core),
        ("GET", ["storage_service", "nodes", state @ ("joining" | "leaving" | "moving")]) => {
            topology::in_state(core, state)
        }
        ("GET", ["snitch", "datacenter"]) => topology::datacenter(core, ask),
        ("GET", ["snitch", "rack"]) => topology::rack(core, ask),
        ("GET", ["storage_service", "cluster_name"]) => topology::cluster_name(core),
        ("GET", ["storage_service", "scylla_release_version"]) => topology::release_version(core),
        ("GET", ["storage_service", "schema_version"]) => topology::schema_version(core),
        ("GET", ["storage_service", "tokens", address]) => topology::tokens(core, address),
        ("GET", ["storage_service", "tokens"]) => topology::tokens(core, &core.address().to_string()),
        ("GET", ["storage_service", "describe_ring", keyspace]) => {
            topology::describe_ring(core, keyspace, ask)
        }
        ("POST", ["storage_service", "tablets", "balancing"]) => topology::set_balancing(core, ask),
        ("POST", ["raft", "read_barrier"]) => topology::read_barrier(core, ask).await,

        ("GET", ["storage_service", "keyspaces"]) => keyspaces::list(core, ask),
        ("GET", ["column_family", "name"]) => keyspaces::tables(core),
        ("GET", ["column_family", "metrics", "total_disk_space_used", name]) => {
            keyspaces::disk_space(core, name).await
        }
        ("GET", ["column_family", "autocompaction", name]) => keyspaces::autocompaction(core, name),
        ("POST", ["column_family", "autocompaction", name]) => {
            keyspaces::set_autocompaction(core, name, true)
        }
        ("DELETE", ["column_family", "autocompaction", name]) => {
            keyspaces::set_autocompaction(core, name, false)
        }
        ("POST", ["storage_service", "keyspace_flush", keyspace]) => {
            keyspaces::flush(core, keyspace, ask).await
        }
        ("GET", ["storage_service", "view_build_statuses", keyspace, view]) => {
            keyspaces::view_build_statuses(core, keyspace, view)
        }

        ("GET", ["storage_service", "snapshots"]) => snapshots::list(core).await,
        ("GET", ["storage_service", "snapshots", "size", "true"]) => snapshots::true_size(core).await,
        ("POST", ["storage_service", "snapshots"]) => snapshots::take(core, ask).await,
        ("DELETE", ["storage_service", "snapshots"]) => snapshots::delete(core, ask).await,

        _ => Err(RestError::unknown_route()),
    }
}
