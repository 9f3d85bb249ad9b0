//! Members, ring and cluster-wide switches.

use std::net::IpAddr;
use std::sync::Arc;

use serde_json::{Value, json};

use super::super::NodeCore;
use super::super::http::{Ask, Reply, RestError};
use super::Answer;
use crate::cluster::{Member, Membership, Model, TokenRange, tablet_ranges, vnode_ranges};

/// Timeout of a read barrier, in seconds, when the caller gives none.
const READ_BARRIER_SECONDS: u64 = 60;

/// All members in the ring, up or down.
pub(super) fn host_ids(core: &Arc<NodeCore>) -> Answer {
    let model = core.shared.model();
    let members = model.members.iter().filter(|m| m.is_in_ring());
    let pairs: Vec<Value> = members.map(|m| json!({ "key": m.address, "value": m.host_id })).collect();
    Ok(Reply::Json(json!(pairs)))
}

pub(super) fn local_host_id(core: &Arc<NodeCore>) -> Answer {
    Ok(Reply::Json(json!(core.shared.model().member(core.id).host_id)))
}

/// Members this node considers up, itself always among them.
pub(super) fn live(core: &Arc<NodeCore>) -> Answer {
    addresses(core, |m| m.is_member() && (m.gossip_up || m.id == core.id))
}

pub(super) fn down(core: &Arc<NodeCore>) -> Answer {
    addresses(core, |m| m.is_member() && !m.gossip_up && m.id != core.id)
}

pub(super) fn in_state(core: &Arc<NodeCore>, state: &str) -> Answer {
    let wanted = match state {
        "joining" => Membership::Joining,
        "leaving" => Membership::Leaving,
        // Tokens cannot be moved between nodes.
        _ => return Ok(Reply::Json(json!([]))),
    };
    addresses(core, |m| m.membership == wanted)
}

fn addresses(core: &Arc<NodeCore>, wanted: impl Fn(&Member) -> bool) -> Answer {
    let model = core.shared.model();
    let found: Vec<IpAddr> = model.members.iter().filter(|m| wanted(m)).map(|m| m.address).collect();
    Ok(Reply::Json(json!(found)))
}

pub(super) fn datacenter(core: &Arc<NodeCore>, ask: &Ask) -> Answer {
    Ok(Reply::Json(json!(locate(core, ask).0)))
}

pub(super) fn rack(core: &Arc<NodeCore>, ask: &Ask) -> Answer {
    Ok(Reply::Json(json!(locate(core, ask).1)))
}

/// Datacenter and rack of the host asked for; an unknown one is where the snitch puts unknown hosts.
fn locate(core: &Arc<NodeCore>, ask: &Ask) -> (String, String) {
    let model = core.shared.model();
    let member = match ask.query.get("host") {
        None => Some(model.member(core.id)),
        Some(host) => host.parse().ok().and_then(|address| model.member_at(address)),
    };
    member.map_or_else(
        || ("UNKNOWN_DC".to_owned(), "UNKNOWN_RACK".to_owned()),
        |m| (m.dc.clone(), m.rack.clone()),
    )
}

pub(super) fn cluster_name(core: &Arc<NodeCore>) -> Answer {
    Ok(Reply::Json(json!(core.shared.model().name)))
}

pub(super) fn release_version(core: &Arc<NodeCore>) -> Answer {
    Ok(Reply::Json(json!(core.shared.model().member(core.id).release_version)))
}

pub(super) fn schema_version(core: &Arc<NodeCore>) -> Answer {
    Ok(Reply::Json(json!(core.shared.model().member(core.id).schema_version)))
}

/// Tokens as text, sorted; none for a host outside the ring.
pub(super) fn tokens(core: &Arc<NodeCore>, address: &str) -> Answer {
    let model = core.shared.model();
    let member = address.parse().ok().and_then(|address| model.member_at(address));
    let tokens = member.filter(|m| m.is_in_ring()).map(|m| m.tokens.as_slice()).unwrap_or_default();
    Ok(Reply::Json(json!(tokens.iter().map(i64::to_string).collect::<Vec<_>>())))
}

pub(super) fn describe_ring(core: &Arc<NodeCore>, keyspace: &str, ask: &Ask) -> Answer {
    let model = core.shared.model();
    let ks = model.keyspaces.get(keyspace).ok_or_else(|| no_keyspace(keyspace))?;
    let table = match ask.query.get("table").or_else(|| ask.query.get("cf")) {
        None => None,
        Some(name) => Some(ks.tables.get(name).ok_or_else(|| no_table(keyspace, name))?),
    };
    let ranges = match table {
        _ if !ks.uses_tablets() => vnode_ranges(&model, ks, core.id),
        Some(table) => tablet_ranges(table),
        None => {
            return Err(RestError::internal(format!(
                "The keyspace {keyspace} has tablet table. Query describe_ring with the table parameter!"
            )));
        }
    };
    Ok(Reply::Json(ranges.iter().map(|range| describe(&model, range)).collect()))
}

fn describe(model: &Model, range: &TokenRange) -> Value {
    let replicas: Vec<&Member> = range.replicas.iter().map(|id| model.member(*id)).collect();
    let addresses: Vec<IpAddr> = replicas.iter().map(|m| m.address).collect();
    let details: Vec<Value> =
        replicas.iter().map(|m| json!({ "host": m.address, "datacenter": m.dc, "rack": m.rack })).collect();
    json!({
        "start_token": range.start.to_string(),
        "end_token": range.end.to_string(),
        "endpoints": addresses,
        "rpc_endpoints": addresses,
        "endpoint_details": details,
    })
}

pub(super) fn set_balancing(core: &Arc<NodeCore>, ask: &Ask) -> Answer {
    let enabled = ask.query.required_flag("enabled")?;
    let mut model = core.shared.model();
    model.balancing = enabled;
    model.balancing_changes.push(enabled);
    Ok(Reply::Void)
}

/// Waits until this node has applied every schema change, which a frozen node never does.
pub(super) async fn wait_for_schema(core: &Arc<NodeCore>, timeout: std::time::Duration) -> bool {
    let deadline = tokio::time::Instant::now() + timeout;
    loop {
        let changed = core.shared.schema_changed.notified();
        {
            let model = core.shared.model();
            if model.member(core.id).schema_version == model.schema_version {
                return true;
            }
        }
        if tokio::time::timeout_at(deadline, changed).await.is_err() {
            return false;
        }
    }
}

pub(super) async fn read_barrier(core: &Arc<NodeCore>, ask: &Ask) -> Answer {
    let seconds = match ask.query.get("timeout") {
        None => READ_BARRIER_SECONDS,
        Some(text) => match text.parse::<u64>() {
            Ok(seconds) if seconds > 0 => seconds,
            _ => {
                return Err(RestError::bad_request("Timeout must be a positive number."));
            }
        },
    };
    let group0 = core.shared.group0_id();
    match ask.query.get("group_id") {
        Some(id) if id != group0.to_string() => {
            return Err(RestError::bad_request(format!("Cannot find raft group {id}")));
        }
        _ => {}
    }
    if wait_for_schema(core, std::time::Duration::from_secs(seconds)).await {
        Ok(Reply::Void)
    } else {
        Err(RestError::internal("raft::read_barrier: timed out"))
    }
}

pub(super) fn no_keyspace(keyspace: &str) -> RestError {
    RestError::bad_request(format!("Can't find a keyspace {keyspace}"))
}

pub(super) fn no_table(keyspace: &str, table: &str) -> RestError {
    RestError::bad_request(format!("Can't find a column family {table} in keyspace {keyspace}"))
}
