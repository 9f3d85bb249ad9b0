//! Pings of nodes by CQL, REST and Alternator: the live status and the periodic checks (spec manager.md 6).

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use common::api::agent::NodeInfo;
use common::api::manager::NodeStatus;
use common::ids::ClusterId;
use futures::StreamExt;
use http::StatusCode;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;

use super::alternator::{self, Answer};
use super::cql::CqlAccess;
use super::topology::{Member, members};
use super::{ClusterError, Clusters, NodeFacts};
use crate::agent_client::AgentClient;

/// Nodes that are pinged at once.
const PARALLEL: usize = 50;

/// First pause between two OPTIONS requests; then it doubles up to a third of the limit.
const FIRST_PAUSE: Duration = Duration::from_millis(1);

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
    /// Why it is down, or what the last try met before the limit.
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
            let facts = facts.get(&member.host.address);
            Box::pin(self.node_status(&client, &access, member, facts, timeout))
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
        let nodes = self.nodes(id).await?;
        let access = self.cql_access(id).await?;
        // Only the REST ping goes through agents; the others must not suffer when no agent answers.
        let client = match kind {
            PingKind::Rest => Some(self.client(id).await.map_err(|e| common::error::chain(&e))),
            PingKind::Cql | PingKind::Alternator => None,
        };
        let pinged = futures::stream::iter(nodes.values().cloned()).map(|facts| {
            let (client, access) = (&client, &access);
            async move {
                let (node, info) = (facts.member.host.address, &facts.info);
                let ping = match client {
                    Some(Ok(client)) => ping_rest(&client.interactive(), node, timeout).await,
                    Some(Err(reason)) => Ping::error(reason),
                    None if kind == PingKind::Cql => ping_cql(access, node, info, timeout).await,
                    None => self.ping_alternator(node, info, timeout).await,
                };
                (facts, ping)
            }
        });
        Ok(pinged.buffer_unordered(PARALLEL).collect().await)
    }

    async fn node_status(
        &self,
        client: &AgentClient,
        access: &CqlAccess,
        member: Member,
        facts: Option<&NodeFacts>,
        timeout: Duration,
    ) -> NodeStatus {
        let address = member.host.address;
        let mut status = described(&member, facts, access);
        if !(member.up && member.state == 'N') {
            return status;
        }
        let unknown = || Ping::error("no host config available");
        let by_info = async {
            let Some(NodeFacts { info, .. }) = facts else { return (unknown(), unknown()) };
            let cql = ping_cql(access, address, info, timeout);
            tokio::join!(cql, self.ping_alternator(address, info, timeout))
        };
        let ((cql, alternator), rest) = tokio::join!(by_info, ping_rest(client, address, timeout));
        (status.cql_status, status.cql_rtt_ms, status.cql_cause) = parts(cql);
        (status.rest_status, status.rest_rtt_ms, status.rest_cause) = parts(rest);
        (status.alternator_status, status.alternator_rtt_ms, status.alternator_cause) = parts(alternator);
        status
    }

    async fn ping_alternator(&self, node: IpAddr, info: &NodeInfo, timeout: Duration) -> Ping {
        let Some(url) = alternator::url(node, info) else { return Ping::default() };
        let begin = Instant::now();
        let asked = self.shared.alternator.ping(&url, info.alternator_enforce_authorization);
        let outcome = tokio::time::timeout(timeout, asked).await;
        let rtt = begin.elapsed();
        match outcome {
            Err(_) => Ping::new("TIMEOUT", rtt),
            Ok(Answer::Good) => Ping::new("UP", rtt),
            Ok(Answer::Unauthorised) => Ping::new("UNAUTHORIZED", rtt),
            Ok(Answer::Bad(cause)) => Ping::down(rtt, cause),
        }
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

/// Everything about a node but its pings.
fn described(member: &Member, facts: Option<&NodeFacts>, access: &CqlAccess) -> NodeStatus {
    let status = NodeStatus {
        dc: member.host.dc.clone(),
        host_id: member.host.id.to_string(),
        host: member.host.address.to_string(),
        status: member.status(),
        ..NodeStatus::default()
    };
    let Some(NodeFacts { info, .. }) = facts else { return status };
    NodeStatus {
        ssl: access.uses_tls(info),
        total_ram: info.memory_total,
        uptime: info.uptime,
        cpu_count: info.cpu_count,
        scylla_version: info.scylla_version.clone(),
        agent_version: info.agent_version.clone(),
        ..status
    }
}

/// As the wire has it: a cause only where the status does not say it all.
fn parts(ping: Ping) -> (String, f64, String) {
    let told = matches!(ping.status.as_str(), "DOWN" | "ERROR");
    (ping.status, ping.rtt.as_millis() as f64, if told { ping.cause } else { String::new() })
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
    let way = access.address(node, info).and_then(|address| Ok((address, access.tls(info)?)));
    let (address, tls) = match way {
        Ok(way) => way,
        Err(error) => return Ping::error(common::error::chain(&error)),
    };
    let begin = Instant::now();
    let outcome = match access.login() {
        Some(_) => ping_by_login(access, node, info, timeout).await,
        None => ping_by_options(address, tls, timeout).await,
    };
    let rtt = begin.elapsed();
    match outcome {
        Ok(()) => Ping::new("UP", rtt),
        Err(cause) if rtt >= timeout => Ping { cause, ..Ping::new("TIMEOUT", rtt) },
        Err(cause) if is_unauthorised(&cause) => Ping::new("UNAUTHORIZED", rtt),
        Err(cause) => Ping::down(rtt, cause),
    }
}

/// The two messages with which a node refuses a login.
fn is_unauthorised(cause: &str) -> bool {
    cause.contains("authentication failed") || cause.contains("Username and/or password are incorrect")
}

async fn ping_by_login(
    access: &CqlAccess,
    node: IpAddr,
    info: &NodeInfo,
    timeout: Duration,
) -> Result<(), String> {
    let work = async {
        let session = access.session(node, info).await.map_err(|e| common::error::chain(&e))?;
        session.ping().await.map_err(|e| common::error::chain(&e))
    };
    tokio::time::timeout(timeout, work).await.unwrap_or_else(|_| Err("no answer".to_owned()))
}

/// Tries again after growing pauses until the limit, so that one lost packet is no alert. Returns the first
/// success, or at the limit what the last try met.
async fn ping_by_options(
    address: SocketAddr,
    tls: Option<Arc<ClientConfig>>,
    timeout: Duration,
) -> Result<(), String> {
    let mut last = "no answer".to_owned();
    let tries = async {
        let mut pause = FIRST_PAUSE;
        while let Err(cause) = options_once(address, tls.clone()).await {
            last = cause;
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(timeout / 3);
        }
    };
    match tokio::time::timeout(timeout, tries).await {
        Ok(()) => Ok(()),
        Err(_) => Err(last),
    }
}

async fn options_once(address: SocketAddr, tls: Option<Arc<ClientConfig>>) -> Result<(), String> {
    let stream = TcpStream::connect(address).await.map_err(|e| format!("connect to {address}: {e}"))?;
    match tls {
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

#[cfg(test)]
mod tests {
    use super::*;

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

    fn plain_node(port: u16) -> NodeInfo {
        NodeInfo {
            listen_address: "127.0.0.1".into(),
            native_transport_port: port.to_string(),
            ..NodeInfo::default()
        }
    }

    fn no_login() -> CqlAccess {
        CqlAccess::new(&crate::store::clusters::tests::sample("c"), crate::store::Secrets::default())
    }

    #[tokio::test]
    async fn a_cql_port_is_tried_until_the_limit() {
        let limit = Duration::from_millis(200);
        let node: IpAddr = "127.0.0.1".parse().unwrap();
        let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let info = plain_node(silent.local_addr().unwrap().port());
        let ping = ping_cql(&no_login(), node, &info, limit).await;
        assert_eq!((ping.status.as_str(), ping.cause.as_str()), ("TIMEOUT", "no answer"));
        drop(silent);
        let ping = ping_cql(&no_login(), node, &info, limit).await;
        assert!(ping.status == "TIMEOUT" && ping.cause.contains("refused"), "{ping:?}");
        assert!(ping.rtt >= limit && !ping.is_up());
        assert_eq!(parts(ping).2, "", "on the wire the status says it");
    }

    #[tokio::test]
    async fn a_node_that_cannot_be_asked_is_an_error() {
        let node: IpAddr = "127.0.0.1".parse().unwrap();
        let no_port = NodeInfo { native_transport_port: String::new(), ..plain_node(1) };
        let encrypted = NodeInfo {
            client_encryption_enabled: true,
            client_encryption_require_auth: true,
            native_transport_port_ssl: "9142".into(),
            ..plain_node(1)
        };
        for (info, cause) in [(no_port, "no CQL address"), (encrypted, "--ssl-user-key-file")] {
            let ping = ping_cql(&no_login(), node, &info, Duration::from_secs(1)).await;
            assert_eq!((ping.status.as_str(), ping.rtt), ("ERROR", Duration::ZERO));
            assert!(ping.cause.contains(cause), "{}", ping.cause);
            assert!(parts(ping).2.contains(cause));
        }
    }

    #[test]
    fn refused_logins_are_known_by_their_texts() {
        for (cause, refused) in [
            ("connect to CQL at x: authentication failed", true),
            ("connect: Username and/or password are incorrect", true),
            ("connect: connection refused", false),
        ] {
            assert_eq!(is_unauthorised(cause), refused, "{cause}");
        }
    }

    #[tokio::test]
    async fn a_cql_port_that_comes_up_in_time_is_up() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let serve = async {
            // The first connection is dropped, the second answered.
            drop(listener.accept().await.unwrap());
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 9];
            stream.read_exact(&mut request).await.unwrap();
            stream.write_all(&[0x84, 0, 0, 0, SUPPORTED, 0, 0, 0, 0]).await.unwrap();
        };
        let node: IpAddr = "127.0.0.1".parse().unwrap();
        let (access, info) = (no_login(), plain_node(port));
        let (ping, ()) = tokio::join!(ping_cql(&access, node, &info, Duration::from_secs(5)), serve);
        assert_eq!(ping.status, "UP");
    }
}
