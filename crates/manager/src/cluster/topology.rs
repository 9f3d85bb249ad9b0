//! Nodes of a cluster with their place and state, as its live members see them.

use std::net::IpAddr;

use common::ids::HostId;
use futures::{StreamExt, TryStreamExt};

use super::ClusterError;
use crate::agent_client::AgentClient;
use crate::hosts::Host;

/// Nodes whose place is asked for at once.
const PARALLEL: usize = 16;

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
    let (live, joining, leaving, ids) = tokio::try_join!(
        client.live_nodes(),
        client.joining_nodes(),
        client.leaving_nodes(),
        client.host_ids()
    )?;
    let contains = |list: &[IpAddr], address| list.contains(&address);
    let asked = futures::stream::iter(ids).map(|(address, id)| async move {
        let (dc, rack) = tokio::try_join!(client.datacenter(address), client.rack(address))?;
        Ok::<_, ClusterError>(Host { id: HostId::new(id), address, dc, rack })
    });
    let mut hosts: Vec<Host> = asked.buffer_unordered(PARALLEL).try_collect().await?;
    hosts.sort_by(|a, b| (&a.dc, a.address).cmp(&(&b.dc, b.address)));
    let member = |host: Host| {
        let state = match (contains(&joining, host.address), contains(&leaving, host.address)) {
            (true, _) => 'J',
            (false, true) => 'L',
            (false, false) => 'N',
        };
        Member { up: contains(&live, host.address), state, host }
    };
    Ok(hosts.into_iter().map(member).collect())
}
