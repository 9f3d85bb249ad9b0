//! Nodes of a cluster with their place and state, as its live members see them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use common::ids::HostId;

use super::ClusterError;
use crate::agent_client::AgentClient;
use crate::hosts::Host;

/// A node and how its cluster sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its addresses and place.
    pub host: Host,
    /// In the list of live nodes.
    pub up: bool,
    /// `N` normal, `J` joining, `L` leaving.
    pub state: char,
}

impl Member {
    /// Two letters as `nodetool status` prints them, e.g. `UN`.
    pub fn status(&self) -> String {
        format!("{}{}", if self.up { 'U' } else { 'D' }, self.state)
    }
}

/// All members, sorted by datacenter and address.
///
/// # Errors
/// No host of the cluster answers.
pub async fn members(client: &AgentClient) -> Result<Vec<Member>, ClusterError> {
    let live: BTreeSet<IpAddr> = client.live_nodes().await?.into_iter().collect();
    let joining: BTreeSet<IpAddr> = client.joining_nodes().await?.into_iter().collect();
    let leaving: BTreeSet<IpAddr> = client.leaving_nodes().await?.into_iter().collect();
    let ids: BTreeMap<IpAddr, String> = client.host_ids().await?;
    let mut members = Vec::with_capacity(ids.len());
    for (address, id) in ids {
        let dc = client.datacenter(address).await?;
        let rack = client.rack(address).await?;
        let state = match (joining.contains(&address), leaving.contains(&address)) {
            (true, _) => 'J',
            (false, true) => 'L',
            (false, false) => 'N',
        };
        let host = Host { id: HostId::new(id), address, dc, rack };
        members.push(Member { host, up: live.contains(&address), state });
    }
    members.sort_by(|a, b| (&a.host.dc, a.host.address).cmp(&(&b.host.dc, b.host.address)));
    Ok(members)
}
