//! Pings of nodes by CQL, REST and Alternator: the live status and the periodic checks (spec manager.md 6).

use std::net::IpAddr;
use std::time::Duration;

use common::api::agent::NodeInfo;
use common::api::manager::NodeStatus;
use common::ids::ClusterId;
use futures::StreamExt;
use http::StatusCode;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;

use super::cql::CqlAccess;
use super::topology::{Member, members};
use super::{ClusterError, Clusters, NodeFacts};
use crate::agent_client::AgentClient;

/// Nodes that are pinged at once.
const PARALLEL: usize = 50;

/// A protocol v4 OPTIONS request, and the opcode of the answer SUPPORTED.
const OPTIONS: [u8; 9] = [4, 0, 0, 0, 5, 0, 0, 0, 0];
const SUPPORTED: u8 = 6;

/// What is pinged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PingKind {
    /// The CQL port.
    Cql,
    /// Scylla's REST API through the agent.
    Rest,
    /// The DynamoDB port.
    Alternator,
}

/// Outcome of a ping.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ping {
    /// `UP`, `DOWN`, `TIMEOUT`, `UNAUTHORIZED`, `ERROR`, `HTTP <code>`; empty when there is nothing to ping.
    pub status: String,
    /// Round trip.
    pub rtt: Duration,
    /// Why it is down.
    pub cause: String,
}

impl Ping {
    /// Whether the node is fine, or has no such port.
    pub fn is_up(&self) -> bool {
        self.status == "UP" || self.status.is_empty()
    }

    fn new(status: impl Into<String>, rtt: Duration) -> Self {
        Self { status: status.into(), rtt, cause: String::new() }
    }

    fn down(rtt: Duration, cause: impl Into<String>) -> Self {
        Self { status: "DOWN".into(), rtt, cause: cause.into() }
    }

    /// No request was sent.
    fn error(cause: impl Into<String>) -> Self {
        Self { status: "ERROR".into(), rtt: Duration::ZERO, cause: cause.into() }
    }
}

impl Clusters {
    /// Live status of all nodes; those that are not `UN` are not pinged.
    ///
    /// # Errors
    /// The list of nodes cannot be read.
    pub async fn status(&self, id: ClusterId, timeout: Duration) -> Result<Vec<NodeStatus>, ClusterError> {
        let client = self.client(id).await?.interactive();
        let members = members(&client).await?;
        let facts = self.nodes(id).await?;
        let access = self.cql_access(id).await?;
        let pinged = futures::stream::iter(members).map(|member| {
            let facts = facts.get(&member.host.address).cloned();
            let (client, access) = (&client, &access);
            async move { Box::pin(node_status(client, access, member, facts, timeout)).await }
        });
        let mut nodes: Vec<NodeStatus> = pinged.buffer_unordered(PARALLEL).collect().await;
        nodes.sort_by(|a, b| (&a.dc, address_key(&a.host)).cmp(&(&b.dc, address_key(&b.host))));
        Ok(nodes)
    }

    /// Pings all nodes in the cache one way, for the periodic check.
    ///
    /// # Errors
    /// Nothing is known about the cluster's nodes, or the database failed.
    pub async fn ping_all(
        &self,
        id: ClusterId,
        kind: PingKind,
        timeout: Duration,
    ) -> Result<Vec<(NodeFacts, Ping)>, ClusterError> {
        let client = self.client(id).await?.interactive();
        let nodes = self.nodes(id).await?;
        let access = self.cql_access(id).await?;
        let pinged = futures::stream::iter(nodes.values().cloned()).map(|facts| {
            let (client, access) = (&client, &access);
            async move {
                let ping =
                    ping(client, access, facts.member.host.address, Some(&facts.info), kind, timeout).await;
                (facts, ping)
            }
        });
        Ok(pinged.buffer_unordered(PARALLEL).collect().await)
    }

    /// How to reach CQL on the nodes of a cluster.
    ///
    /// # Errors
    /// The cluster does not exist or the database failed.
    pub async fn cql_access(&self, id: ClusterId) -> Result<CqlAccess, ClusterError> {
        let cluster = self.cluster(id).await?;
        Ok(CqlAccess::new(&cluster, self.shared.store.secrets(id).await?))
    }
}

fn address_key(host: &str) -> (Option<IpAddr>, String) {
    (host.parse().ok(), host.to_owned())
}

async fn node_status(
    client: &AgentClient,
    access: &CqlAccess,
    member: Member,
    facts: Option<NodeFacts>,
    timeout: Duration,
) -> NodeStatus {
    let address = member.host.address;
    let info = facts.map(|f| f.info);
    let mut status = NodeStatus {
        dc: member.host.dc.clone(),
        host_id: member.host.id.to_string(),
        host: address.to_string(),
        status: member.status(),
        ..NodeStatus::default()
    };
    if let Some(info) = &info {
        status.ssl = access.uses_tls(info);
        status.total_ram = info.memory_total;
        status.uptime = info.uptime;
        status.cpu_count = info.cpu_count;
        status.scylla_version.clone_from(&info.scylla_version);
        status.agent_version.clone_from(&info.agent_version);
    }
    if !(member.up && member.state == 'N') {
        return status;
    }
    let ping = |kind| ping(client, access, address, info.as_ref(), kind, timeout);
    let (cql, rest, alternator) =
        tokio::join!(ping(PingKind::Cql), ping(PingKind::Rest), ping(PingKind::Alternator));
    (status.cql_status, status.cql_rtt_ms, status.cql_cause) = parts(cql);
    (status.rest_status, status.rest_rtt_ms, status.rest_cause) = parts(rest);
    (status.alternator_status, status.alternator_rtt_ms, status.alternator_cause) = parts(alternator);
    status
}

fn parts(ping: Ping) -> (String, f64, String) {
    (ping.status, ping.rtt.as_millis() as f64, ping.cause)
}

async fn ping(
    client: &AgentClient,
    access: &CqlAccess,
    node: IpAddr,
    info: Option<&NodeInfo>,
    kind: PingKind,
    timeout: Duration,
) -> Ping {
    let unknown = || Ping::error("no host config available");
    match (kind, info) {
        (PingKind::Rest, _) => ping_rest(client, node, timeout).await,
        (PingKind::Cql, Some(info)) => ping_cql(access, node, info, timeout).await,
        (PingKind::Alternator, Some(info)) => ping_alternator(node, info, timeout).await,
        (PingKind::Cql | PingKind::Alternator, None) => unknown(),
    }
}

async fn ping_rest(client: &AgentClient, node: IpAddr, timeout: Duration) -> Ping {
    let begin = Instant::now();
    let outcome = client.on(node).scylla_ping(timeout).await;
    let rtt = begin.elapsed();
    match outcome {
        Ok(rtt) => Ping::new("UP", rtt),
        Err(error) if error.is_timeout() => Ping::new("TIMEOUT", rtt),
        Err(error) => match error.status() {
            Some(StatusCode::UNAUTHORIZED) => Ping::new("UNAUTHORIZED", rtt),
            Some(status) => Ping::new(format!("HTTP {}", status.as_u16()), rtt),
            None => Ping::down(rtt, error.reason()),
        },
    }
}

async fn ping_cql(access: &CqlAccess, node: IpAddr, info: &NodeInfo, timeout: Duration) -> Ping {
    let begin = Instant::now();
    let login = access.login().is_some();
    let work = async {
        if login {
            ping_by_login(access, node, info).await
        } else {
            ping_by_options(access, node, info).await
        }
    };
    let outcome = tokio::time::timeout(timeout, work).await;
    let rtt = begin.elapsed();
    match outcome {
        Err(_) => Ping::new("TIMEOUT", rtt),
        Ok(Ok(())) => Ping::new("UP", rtt),
        Ok(Err(cause)) if is_unauthorised(&cause) => Ping::new("UNAUTHORIZED", rtt),
        Ok(Err(cause)) => Ping::down(rtt, cause),
    }
}

/// The two messages with which a node refuses a login.
fn is_unauthorised(cause: &str) -> bool {
    cause.contains("authentication failed") || cause.contains("Username and/or password are incorrect")
}

async fn ping_by_login(access: &CqlAccess, node: IpAddr, info: &NodeInfo) -> Result<(), String> {
    let session = access.session(node, info).await.map_err(|e| common::error::chain(&e))?;
    session.ping().await.map_err(|e| common::error::chain(&e))
}

async fn ping_by_options(access: &CqlAccess, node: IpAddr, info: &NodeInfo) -> Result<(), String> {
    let address = access.address(node, info).map_err(|e| e.to_string())?;
    let stream = TcpStream::connect(address).await.map_err(|e| format!("connect to {address}: {e}"))?;
    match access.tls(info).map_err(|e| e.to_string())? {
        None => ask_options(stream).await,
        Some(tls) => {
            let name = ServerName::from(address.ip());
            let stream = TlsConnector::from(tls).connect(name, stream).await;
            ask_options(stream.map_err(|e| format!("TLS with {address}: {e}"))?).await
        }
    }
}

async fn ask_options(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> Result<(), String> {
    let mut answer = [0; 9];
    let exchange = async {
        stream.write_all(&OPTIONS).await?;
        stream.read_exact(&mut answer).await
    };
    exchange.await.map_err(|e| e.to_string())?;
    if answer[4] == SUPPORTED { Ok(()) } else { Err(format!("unexpected answer, opcode {}", answer[4])) }
}

/// Where a node serves Alternator; `None` when it does not.
fn alternator_url(node: IpAddr, info: &NodeInfo) -> Option<String> {
    let port = |text: &str| text.parse::<u16>().ok().filter(|p| *p != 0);
    let (scheme, port) = match (port(&info.alternator_https_port), port(&info.alternator_port)) {
        (Some(port), _) => ("https", port),
        (None, Some(port)) => ("http", port),
        (None, None) => return None,
    };
    let host = crate::agent_client::host_address(&info.alternator_address)
        .filter(|ip| !ip.is_unspecified())
        .unwrap_or(node);
    let host = if host.is_ipv6() { format!("[{host}]") } else { host.to_string() };
    Some(format!("{scheme}://{host}:{port}/"))
}

/// Alternator answers `GET /` without a login.
async fn ping_alternator(node: IpAddr, info: &NodeInfo, timeout: Duration) -> Ping {
    let Some(url) = alternator_url(node, info) else { return Ping::default() };
    let client = match crate::agent_client::network(None) {
        Ok(common::http_client::Transport::Network(client)) => client,
        Ok(common::http_client::Transport::InProcess(_)) => return Ping::error("no network"),
        Err(error) => return Ping::error(common::error::chain(&error)),
    };
    let begin = Instant::now();
    let outcome = tokio::time::timeout(timeout, client.get(url).send()).await;
    let rtt = begin.elapsed();
    match outcome {
        Err(_) => Ping::new("TIMEOUT", rtt),
        Ok(Ok(answer)) if answer.status().is_success() => Ping::new("UP", rtt),
        Ok(Ok(answer)) if answer.status() == reqwest::StatusCode::UNAUTHORIZED => {
            Ping::new("UNAUTHORIZED", rtt)
        }
        Ok(Ok(answer)) => Ping::down(rtt, format!("HTTP {}", answer.status().as_u16())),
        Ok(Err(error)) => Ping::down(rtt, common::error::chain(&error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alternator_addresses() {
        let node = "192.0.2.1".parse().unwrap();
        for (address, port, https, url) in [
            ("", "", "", None),
            ("", "0", "0", None),
            ("", "8000", "", Some("http://192.0.2.1:8000/")),
            ("0.0.0.0", "8000", "0", Some("http://192.0.2.1:8000/")),
            ("192.0.2.9", "8000", "8043", Some("https://192.0.2.9:8043/")),
        ] {
            let info = NodeInfo {
                alternator_address: address.into(),
                alternator_port: port.into(),
                alternator_https_port: https.into(),
                ..NodeInfo::default()
            };
            assert_eq!(alternator_url(node, &info).as_deref(), url);
        }
    }

    #[tokio::test]
    async fn options_wants_supported() {
        for (opcode, good) in [(6, true), (0, false)] {
            let (client, mut server) = tokio::io::duplex(64);
            let serve = async move {
                let mut request = [0; 9];
                server.read_exact(&mut request).await.unwrap();
                assert_eq!(request, OPTIONS);
                server.write_all(&[0x84, 0, 0, 0, opcode, 0, 0, 0, 0]).await.unwrap();
            };
            let (answer, ()) = tokio::join!(ask_options(client), serve);
            assert_eq!(answer.is_ok(), good);
        }
    }
}
