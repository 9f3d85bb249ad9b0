//! From one host to all nodes of a cluster (spec manager.md 5.2).

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use futures::stream::FuturesUnordered;
use futures::{StreamExt, TryStreamExt};
use rand::seq::IteratorRandom;

use super::{ClusterError, Clusters};
use crate::agent_client::{AgentClient, HostError, Settings};
use crate::store::Cluster;

/// Limit of each call on the way.
const CONTACT_TIMEOUT: Duration = Duration::from_secs(5);

/// Nodes whose datacenter is asked for at once.
const PARALLEL: usize = 16;

/// Pings by which datacenters are ordered.
const PINGS: usize = 3;

impl Clusters {
    /// All nodes of datacenters with a live node, those of the nearest datacenter first.
    ///
    /// # Errors
    /// No host answers, or the one that does sees nobody.
    pub(super) async fn discover(&self, cluster: &Cluster) -> Result<Vec<IpAddr>, ClusterError> {
        let contact = self.contact(cluster).await?;
        let live: BTreeSet<IpAddr> = contact.live_nodes().await?.into_iter().collect();
        if live.is_empty() {
            return Err(ClusterError::NobodyLive);
        }
        let mut datacenters = datacenters(&contact).await?;
        datacenters.retain(|_, nodes| nodes.iter().any(|n| live.contains(n)));
        if datacenters.is_empty() {
            return Err(ClusterError::NobodyLive);
        }
        let mut ordered = Vec::new();
        let only_one = datacenters.len() == 1;
        for (dc, nodes) in datacenters {
            let distance = if only_one { Duration::ZERO } else { distance(&contact, &nodes, &live).await };
            ordered.push((distance, dc, nodes));
        }
        ordered.sort();
        Ok(ordered.into_iter().flat_map(|(_, _, nodes)| nodes).collect())
    }

    /// A client whose only host is one that answers: the stored one, else the first of the known ones.
    async fn contact(&self, cluster: &Cluster) -> Result<AgentClient, ClusterError> {
        let first = self.reach(cluster, &cluster.host).await;
        let mut reasons = match first {
            Ok(client) => return Ok(client),
            Err(error) => vec![error],
        };
        let mut others: FuturesUnordered<_> = cluster
            .known_hosts
            .iter()
            .map(ToString::to_string)
            .filter(|host| *host != cluster.host)
            .map(|host| async move { self.reach(cluster, &host).await })
            .collect();
        while let Some(outcome) = others.next().await {
            match outcome {
                Ok(client) => return Ok(client),
                Err(error) => reasons.push(error),
            }
        }
        let reasons = reasons.iter().map(|e| common::error::chain(e)).collect::<Vec<_>>().join("; ");
        Err(ClusterError::Unreachable { port: cluster.agent_port(), reasons })
    }

    async fn reach(&self, cluster: &Cluster, host: &str) -> Result<AgentClient, ClusterError> {
        let address = resolve(host).await.map_err(|source| unresolved(host, source))?;
        let settings = Settings { timeout: CONTACT_TIMEOUT, ..self.shared.settings };
        let client = self.client_with(cluster, vec![address], settings)?.interactive();
        client.on(address).scylla_version(CONTACT_TIMEOUT).await?;
        Ok(client)
    }
}

/// All nodes by datacenter, each group by address.
async fn datacenters(contact: &AgentClient) -> Result<BTreeMap<String, Vec<IpAddr>>, ClusterError> {
    let nodes = futures::stream::iter(contact.host_ids().await?.into_keys());
    let asked = nodes.map(|node| async move { Ok((contact.datacenter(node).await?, node)) });
    let places: Vec<(String, IpAddr)> =
        asked.buffered(PARALLEL).try_collect().await.map_err(ClusterError::Host)?;
    let mut datacenters: BTreeMap<String, Vec<IpAddr>> = BTreeMap::new();
    for (dc, node) in places {
        datacenters.entry(dc).or_default().push(node);
    }
    Ok(datacenters)
}

async fn resolve(host: &str) -> std::io::Result<IpAddr> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(address.to_canonical());
    }
    let mut found = tokio::net::lookup_host((host, 0)).await?;
    found.next().map(|a| a.ip()).ok_or_else(|| std::io::Error::other("the name has no address"))
}

fn unresolved(host: &str, source: std::io::Error) -> ClusterError {
    let source = common::http_client::ClientError::Connect {
        method: http::Method::GET,
        url: host.to_owned(),
        source: Box::new(source),
    };
    HostError::new(host, source).into()
}

/// The lowest of a few pings to live nodes; a datacenter that does not answer comes last.
async fn distance(contact: &AgentClient, nodes: &[IpAddr], live: &BTreeSet<IpAddr>) -> Duration {
    let probes = nodes.iter().copied().filter(|n| live.contains(n)).choose_multiple(&mut rand::rng(), PINGS);
    let pings = probes.into_iter().map(|node| async move { contact.on(node).ping(CONTACT_TIMEOUT).await });
    let answers = futures::future::join_all(pings).await;
    answers.into_iter().filter_map(Result::ok).min().unwrap_or(Duration::MAX)
}
