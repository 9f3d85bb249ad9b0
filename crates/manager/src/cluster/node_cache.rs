//! Facts about nodes that rarely change, read now and then (spec manager.md 5.6).

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use common::api::agent::NodeInfo;
use common::ids::ClusterId;
use futures::StreamExt;
use tracing::error;

use super::topology::{Member, members};
use super::{ClusterError, Clusters};
use crate::agent_client::AgentClient;

/// Nodes that are asked at once.
const PARALLEL: usize = 20;

/// What is known about a node.
#[derive(Clone, Debug)]
pub struct NodeFacts {
    /// Its place and state when it was asked.
    pub member: Member,
    /// What its agent said.
    pub info: NodeInfo,
    /// Shards of Scylla; 0 when the node did not say.
    pub shards: u64,
}

/// Nodes of one cluster; one that never answered is missing.
pub type Nodes = BTreeMap<IpAddr, NodeFacts>;

impl Clusters {
    /// Facts about the nodes of a cluster, from the cache or fresh when there are none.
    ///
    /// # Errors
    /// The cluster cannot be reached.
    pub async fn nodes(&self, id: ClusterId) -> Result<Arc<Nodes>, ClusterError> {
        match self.cached_nodes(id) {
            Some(nodes) => Ok(nodes),
            None => self.refresh_nodes(id).await,
        }
    }

    /// What the cache holds, without asking anybody.
    pub fn cached_nodes(&self, id: ClusterId) -> Option<Arc<Nodes>> {
        self.shared.nodes.lock().unwrap_or_else(PoisonError::into_inner).get(&id).cloned()
    }

    /// Asks all nodes anew. A member that does not answer keeps the facts known before, so that health checks
    /// go on to report it as failed; the original forgets it, and with it the alert. If nobody answers all
    /// facts stay as they are.
    ///
    /// # Errors
    /// The cluster cannot be reached.
    pub async fn refresh_nodes(&self, id: ClusterId) -> Result<Arc<Nodes>, ClusterError> {
        let forgotten = self.shared.forgotten.load(Ordering::Acquire);
        let client = self.client(id).await?.interactive();
        let before = self.cached_nodes(id).unwrap_or_default();
        let asked = futures::stream::iter(members(&client).await?).map(|member| {
            let before = before.get(&member.host.address);
            facts(&client, id, member, before)
        });
        let found: Vec<Option<NodeFacts>> = asked.buffer_unordered(PARALLEL).collect().await;
        let nodes: Nodes =
            found.into_iter().flatten().map(|facts| (facts.member.host.address, facts)).collect();
        let nodes = Arc::new(nodes);
        let mut cache = self.shared.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        if self.shared.forgotten.load(Ordering::Acquire) == forgotten {
            cache.insert(id, nodes.clone());
        }
        Ok(nodes)
    }
}

/// Facts about one member, fresh or from before. Nodes that are down are not asked: their agent could only say
/// that Scylla does not answer.
async fn facts(
    client: &AgentClient,
    cluster: ClusterId,
    member: Member,
    before: Option<&NodeFacts>,
) -> Option<NodeFacts> {
    let before = |member: Member| before.map(|facts| NodeFacts { member, ..facts.clone() });
    if !member.up {
        return before(member);
    }
    let agent = client.on(member.host.address);
    match tokio::join!(agent.node_info(), agent.shard_count()) {
        (Ok(info), shards) => Some(NodeFacts { member, info, shards: shards.unwrap_or(0) }),
        (Err(error), _) => {
            error!(%cluster, error = common::error::chain(&error), "Facts about a node cannot be read");
            before(member)
        }
    }
}
