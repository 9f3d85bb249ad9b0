//! From one host to all nodes of a cluster (spec manager.md 5.2).

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use futures::stream::FuturesUnordered;
use futures::{StreamExt, TryStreamExt};
use http::StatusCode;
use rand::seq::IteratorRandom;

use super::{ClusterError, Clusters};
use crate::agent_client::{AgentClient, Settings};
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
        let only_one = datacenters.len() == 1;
        let measured = datacenters.into_iter().map(|(dc, nodes)| {
            let (contact, live) = (&contact, &live);
            async move {
                let far = if only_one { Duration::ZERO } else { distance(contact, &nodes, live).await };
                (far, dc, nodes)
            }
        });
        let mut ordered = futures::future::join_all(measured).await;
        ordered.sort();
        Ok(ordered.into_iter().flat_map(|(_, _, nodes)| nodes).collect())
    }

    /// A client whose only host is one that answers: the stored one, else the first of the known ones.
    async fn contact(&self, cluster: &Cluster) -> Result<AgentClient, ClusterError> {
        let mut failed = match self.reach(cluster).await {
            Ok(client) => return Ok(client),
            Err(failed) => failed,
        };
        let others = cluster.known_hosts.iter().filter(|host| host.to_string() != cluster.host);
        match first_good(others.map(|host| self.reach_address(cluster, *host))).await {
            Ok(client) => return Ok(client),
            Err(more) => failed.extend(more),
        }
        if failed.iter().any(|e| matches!(e, ClusterError::Token)) {
            return Err(ClusterError::Token);
        }
        let remedy = remedy(failed.iter().map(status), cluster.agent_port());
        let reasons = failed.iter().map(|e| common::error::chain(e)).collect::<Vec<_>>().join("; ");
        Err(ClusterError::Unreachable { remedy, reasons })
    }

    /// By the stored host, whose name may have several addresses.
    async fn reach(&self, cluster: &Cluster) -> Result<AgentClient, Vec<ClusterError>> {
        let host = &cluster.host;
        let addresses = resolve(host)
            .await
            .map_err(|source| vec![ClusterError::Unresolved { host: host.clone(), source }])?;
        first_good(addresses.into_iter().map(|address| self.reach_address(cluster, address))).await
    }

    async fn reach_address(&self, cluster: &Cluster, address: IpAddr) -> Result<AgentClient, ClusterError> {
        let settings = Settings { timeout: CONTACT_TIMEOUT, ..self.shared.settings };
        let client = self.client_with(cluster, vec![address], settings)?.interactive();
        client.on(address).scylla_version(CONTACT_TIMEOUT).await?;
        Ok(client)
    }
}

fn status(error: &ClusterError) -> Option<StatusCode> {
    match error {
        ClusterError::Host(error) => error.status(),
        ClusterError::NotFound(_)
        | ClusterError::Store(_)
        | ClusterError::Unreachable { .. }
        | ClusterError::NobodyLive
        | ClusterError::Token
        | ClusterError::Unresolved { .. } => None,
    }
}

/// What to look at when hosts answered with these statuses, or not at all.
pub(super) fn remedy(statuses: impl IntoIterator<Item = Option<StatusCode>>, port: u16) -> String {
    let statuses: BTreeSet<Option<u16>> =
        statuses.into_iter().map(|status| status.map(|s| s.as_u16())).collect();
    let mut parts = Vec::new();
    if statuses.contains(&None) {
        parts.push(format!(
            "make sure that the address is right, that scylla-manager-agent runs there, and that port {port} is open"
        ));
    }
    if statuses.contains(&Some(401)) {
        parts.push(
            "make sure that --auth-token is the auth_token in the configuration of the agents".to_owned(),
        );
    }
    if parts.is_empty() {
        parts.push("see the logs of scylla-manager-agent and Scylla there".to_owned());
    }
    parts.join("; ")
}

/// All at once; the first success, or all failures.
async fn first_good<T, E>(
    attempts: impl IntoIterator<Item = impl Future<Output = Result<T, E>>>,
) -> Result<T, Vec<E>> {
    let mut attempts: FuturesUnordered<_> = attempts.into_iter().collect();
    let mut failed = Vec::new();
    while let Some(outcome) = attempts.next().await {
        match outcome {
            Ok(good) => return Ok(good),
            Err(error) => failed.push(error),
        }
    }
    Err(failed)
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

/// The addresses of a name, at least one.
pub(super) async fn resolve(host: &str) -> std::io::Result<Vec<IpAddr>> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![address.to_canonical()]);
    }
    let found = tokio::time::timeout(CONTACT_TIMEOUT, tokio::net::lookup_host((host, 0))).await??;
    let addresses: BTreeSet<IpAddr> = found.map(|a| a.ip().to_canonical()).collect();
    if addresses.is_empty() {
        return Err(std::io::Error::other("it has no address"));
    }
    Ok(addresses.into_iter().collect())
}

/// The lowest of a few pings to live nodes; a datacenter that does not answer comes last.
async fn distance(contact: &AgentClient, nodes: &[IpAddr], live: &BTreeSet<IpAddr>) -> Duration {
    let probes = nodes.iter().copied().filter(|n| live.contains(n)).choose_multiple(&mut rand::rng(), PINGS);
    let pings = probes.into_iter().map(|node| async move { contact.on(node).ping(CONTACT_TIMEOUT).await });
    let answers = futures::future::join_all(pings).await;
    answers.into_iter().filter_map(Result::ok).min().unwrap_or(Duration::MAX)
}
