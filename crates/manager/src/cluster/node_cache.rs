//! Facts about nodes that rarely change, read now and then (spec manager.md 5.6).

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, PoisonError};

use common::api::agent::NodeInfo;
use common::ids::ClusterId;
use futures::StreamExt;
use tracing::{error, warn};

use super::topology::{Member, members};
use super::{ClusterError, Clusters};

/// Nodes that are asked at once.
const PARALLEL: usize = 20;

/// What is known about a node.
#[derive(Clone, Debug)]
pub struct NodeFacts {
    /// Its place and state when it was asked.
    pub member: Member,
    /// What its agent said.
    pub info: NodeInfo,
}

/// Nodes of one cluster; one that did not answer is missing.
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

    /// Asks all nodes anew. Nodes that fail are missing afterwards; if nobody answers the old facts stay.
    ///
    /// # Errors
    /// The cluster cannot be reached.
    pub async fn refresh_nodes(&self, id: ClusterId) -> Result<Arc<Nodes>, ClusterError> {
        let client = self.client(id).await?.interactive();
        let members = members(&client).await?;
        let asked = futures::stream::iter(members).map(|member| {
            let agent = client.on(member.host.address);
            async move {
                let info = agent.node_info().await;
                (member, info)
            }
        });
        let answers: Vec<_> = asked.buffer_unordered(PARALLEL).collect().await;
        let mut nodes = Nodes::new();
        for (member, info) in answers {
            match info {
                Ok(info) => {
                    nodes.insert(member.host.address, NodeFacts { member, info });
                }
                Err(error) if member.up => {
                    warn!(cluster = %id, error = common::error::chain(&error), "A node's facts cannot be read");
                }
                Err(_) => {}
            }
        }
        let nodes = Arc::new(nodes);
        let mut cache = self.shared.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        cache.insert(id, nodes.clone());
        Ok(nodes)
    }

    /// Refreshes every cluster; failures are logged.
    pub async fn refresh_all(&self) {
        let clusters = match self.shared.store.clusters().await {
            Ok(clusters) => clusters,
            Err(error) => {
                error!(error = common::error::chain(&error), "Clusters cannot be read");
                return;
            }
        };
        let refreshes = clusters.iter().map(|c| async move { (c.id, self.refresh_nodes(c.id).await) });
        for (id, outcome) in futures::future::join_all(refreshes).await {
            if let Err(error) = outcome {
                warn!(cluster = %id, error = common::error::chain(&error), "Node facts cannot be refreshed");
            }
        }
    }
}
