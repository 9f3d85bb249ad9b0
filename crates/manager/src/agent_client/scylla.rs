//! Scylla's own REST API, behind the agent's proxy (spec scylla-node.md 2, manager.md 5.1).

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use common::http_client::{Call, ClientError, decode, encode_segment};
use http::Method;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use super::policy::{CallOptions, RetryOn, may_ask_another};
use super::{Agent, AgentClient, HostError};

/// Limit of snapshot calls and of the switch for tablet balancing, which wait for work in Scylla.
const SNAPSHOT_TIMEOUT: Duration = Duration::from_secs(30 * 60);

/// Limit of `describe_ring`, which is slow with many tablets.
const RING_TIMEOUT: Duration = Duration::from_secs(5 * 60);

/// Reads a node's address as Scylla writes it; IPv4 in IPv6 becomes plain IPv4.
pub fn host_address(text: &str) -> Option<IpAddr> {
    text.parse::<IpAddr>().ok().map(|ip| ip.to_canonical())
}

/// Which keyspaces to list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyspaceKind {
    /// All.
    All,
    /// Made by users.
    User,
    /// Replicated, those of the system included.
    NonLocal,
}

/// How a keyspace is replicated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replication {
    /// Either way.
    All,
    /// By vnodes.
    Vnodes,
    /// By tablets.
    Tablets,
}

/// One token range with its replicas, from `describe_ring`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct RingRange {
    /// Exclusive begin; one range may wrap around.
    pub start_token: String,
    /// Inclusive end.
    pub end_token: String,
    /// Addresses of the replicas.
    pub endpoints: Vec<String>,
    /// Where they are.
    pub endpoint_details: Vec<EndpointDetail>,
}

/// A replica in [`RingRange`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct EndpointDetail {
    /// Address.
    pub host: String,
    /// Datacenter.
    pub datacenter: String,
    /// Rack.
    pub rack: String,
}

/// A snapshot on a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct SnapshotEntry {
    /// Its tag.
    #[serde(rename = "key")]
    pub tag: String,
    /// Its tables.
    #[serde(rename = "value")]
    pub tables: Vec<SnapshotTable>,
}

/// A table in a snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct SnapshotTable {
    /// Keyspace.
    #[serde(rename = "ks")]
    pub keyspace: String,
    /// Table.
    #[serde(rename = "cf")]
    pub table: String,
    /// Bytes of its SSTables.
    pub total: u64,
    /// Bytes that only the snapshot holds.
    pub live: u64,
}

#[derive(Deserialize)]
struct KeyValue {
    key: String,
    value: String,
}

type Query<'a> = &'a [(&'a str, &'a str)];

fn with_query(base: &str, path: &str, query: Query<'_>) -> String {
    let pairs: Vec<String> = query.iter().map(|(k, v)| format!("{k}={}", encode_segment(v))).collect();
    if pairs.is_empty() { format!("{base}{path}") } else { format!("{base}{path}?{}", pairs.join("&")) }
}

impl Agent {
    /// Release of Scylla: the REST ping. Never repeated.
    ///
    /// # Errors
    /// No good answer within `timeout`.
    pub async fn scylla_version(&self, timeout: Duration) -> Result<String, HostError> {
        let options = CallOptions::new(timeout).retry(RetryOn::Nothing);
        self.get("/storage_service/scylla_release_version", &[], options).await
    }

    /// How long the REST ping took.
    ///
    /// # Errors
    /// No good answer within `timeout`.
    pub async fn scylla_ping(&self, timeout: Duration) -> Result<Duration, HostError> {
        let begin = Instant::now();
        self.scylla_version(timeout).await.map(|_| begin.elapsed())
    }

    /// Number of shards: series of a metric that each shard has.
    ///
    /// # Errors
    /// See [`HostError`].
    pub async fn shard_count(&self) -> Result<u64, HostError> {
        const METRIC: &str = "scylla_database_total_writes";
        let url = self.url("/metrics?name=database_total_writes");
        let text =
            self.send(self.options(), |timeout| Call::new(Method::GET, url.clone()).timeout(timeout)).await?;
        let text = String::from_utf8_lossy(&text);
        let series = text.lines().filter(|line| {
            line.strip_prefix(METRIC).is_some_and(|rest| rest.starts_with('{') || rest.starts_with(' '))
        });
        Ok(series.count() as u64)
    }

    /// Tokens of a node, sorted, as texts.
    ///
    /// # Errors
    /// See [`HostError`].
    pub async fn tokens(&self, node: IpAddr) -> Result<Vec<String>, HostError> {
        self.get(
            &format!("/storage_service/tokens/{}", encode_segment(&node.to_string())),
            &[],
            self.options(),
        )
        .await
    }

    /// Bytes of a table on this node.
    ///
    /// # Errors
    /// See [`HostError`].
    pub async fn table_disk_size(&self, keyspace: &str, table: &str) -> Result<u64, HostError> {
        let name = encode_segment(&format!("{keyspace}:{table}"));
        let path = format!("/column_family/metrics/total_disk_space_used/{name}");
        // Scylla answers a negative number for a table that is being dropped.
        let bytes: i64 = self.get(&path, &[], self.options()).await?;
        Ok(u64::try_from(bytes).unwrap_or(0))
    }

    /// All snapshots on the node.
    ///
    /// # Errors
    /// See [`HostError`].
    pub async fn snapshots(&self) -> Result<Vec<SnapshotEntry>, HostError> {
        let options = self.options().timeout(SNAPSHOT_TIMEOUT);
        self.get("/storage_service/snapshots", &[], options).await
    }

    /// Takes a snapshot of tables of one keyspace, of all its tables when `tables` is empty. One that exists
    /// already is a success: a lost reply looks like this.
    ///
    /// # Errors
    /// See [`HostError`].
    pub async fn take_snapshot(&self, tag: &str, keyspace: &str, tables: &[String]) -> Result<(), HostError> {
        let tables = tables.join(",");
        let mut query = vec![("tag", tag), ("kn", keyspace)];
        if !tables.is_empty() {
            query.push(("cf", tables.as_str()));
        }
        let options = self.options().timeout(SNAPSHOT_TIMEOUT);
        match self.void(Method::POST, "/storage_service/snapshots", &query, options).await {
            Err(error) if already_exists(error.answer(), tag) => Ok(()),
            outcome => outcome,
        }
    }

    /// Deletes a snapshot, of one keyspace or one table where given. A missing one is a success.
    ///
    /// # Errors
    /// See [`HostError`].
    pub async fn delete_snapshot(
        &self,
        tag: &str,
        keyspace: Option<&str>,
        table: Option<&str>,
    ) -> Result<(), HostError> {
        // Without a tag Scylla deletes all snapshots, also those that are not ours.
        if tag.is_empty() {
            let reason = "a snapshot to delete needs a tag".to_owned();
            let url = self.url("/storage_service/snapshots");
            let source = ClientError::Request { method: Method::DELETE, url, reason };
            return Err(HostError::new(&self.host, source));
        }
        let mut query = vec![("tag", tag)];
        query.extend(keyspace.map(|k| ("kn", k)));
        query.extend(table.map(|t| ("cf", t)));
        let options = self.options().timeout(SNAPSHOT_TIMEOUT);
        self.void(Method::DELETE, "/storage_service/snapshots", &query, options).await
    }

    /// Returns when the node has applied every schema change so far.
    ///
    /// # Errors
    /// See [`HostError`]; `None` when this Scylla has no such call.
    pub async fn read_barrier(&self) -> Result<Option<()>, HostError> {
        // Scylla's own limit is 60 s; ours must not strike first.
        let options = self.options().timeout(self.settings().timeout.max(Duration::from_secs(90)));
        match self.void(Method::POST, "/raft/read_barrier", &[], options).await {
            Ok(()) => Ok(Some(())),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn get<T: DeserializeOwned>(
        &self,
        path: &str,
        query: Query<'_>,
        options: CallOptions,
    ) -> Result<T, HostError> {
        let url = with_query(&self.base, path, query);
        self.policy()
            .run(&self.host, options, |timeout| {
                let call = Call::new(Method::GET, url.clone()).timeout(timeout);
                async move {
                    let (_, bytes) = self.shared.http.send(call).await?;
                    decode(&Method::GET, path, &bytes)
                }
            })
            .await
    }

    async fn void(
        &self,
        method: Method,
        path: &str,
        query: Query<'_>,
        options: CallOptions,
    ) -> Result<(), HostError> {
        let url = with_query(&self.base, path, query);
        self.send(options, |timeout| Call::new(method.clone(), url.clone()).timeout(timeout)).await.map(drop)
    }
}

/// `Keyspace <ks>: snapshot <tag> already exists.`
fn already_exists(message: &str, tag: &str) -> bool {
    message.contains(&format!("snapshot {tag} already exists"))
}

/// Calls that any node can answer.
impl AgentClient {
    /// Nodes that are up.
    ///
    /// # Errors
    /// No host answered, or an answer holds no address.
    pub async fn live_nodes(&self) -> Result<Vec<IpAddr>, HostError> {
        let nodes: Vec<String> = self.any_get("/gossiper/endpoint/live/", &[], None).await?;
        self.addresses("live node", nodes)
    }

    /// Nodes that are joining.
    ///
    /// # Errors
    /// As for [`AgentClient::live_nodes`].
    pub async fn joining_nodes(&self) -> Result<Vec<IpAddr>, HostError> {
        let nodes: Vec<String> = self.any_get("/storage_service/nodes/joining", &[], None).await?;
        self.addresses("joining node", nodes)
    }

    /// Nodes that are leaving.
    ///
    /// # Errors
    /// As for [`AgentClient::live_nodes`].
    pub async fn leaving_nodes(&self) -> Result<Vec<IpAddr>, HostError> {
        let nodes: Vec<String> = self.any_get("/storage_service/nodes/leaving", &[], None).await?;
        self.addresses("leaving node", nodes)
    }

    /// All nodes, up or down, with their host IDs.
    ///
    /// # Errors
    /// As for [`AgentClient::live_nodes`].
    pub async fn host_ids(&self) -> Result<BTreeMap<IpAddr, String>, HostError> {
        let pairs: Vec<KeyValue> = self.any_get("/storage_service/host_id", &[], None).await?;
        let (nodes, ids): (Vec<String>, Vec<String>) = pairs.into_iter().map(|p| (p.key, p.value)).unzip();
        Ok(self.addresses("node", nodes)?.into_iter().zip(ids).collect())
    }

    /// Datacenter of a node; remembered by this client.
    ///
    /// # Errors
    /// No host answered.
    pub async fn datacenter(&self, node: IpAddr) -> Result<String, HostError> {
        if let Some(dc) = self.cached_datacenter(node) {
            return Ok(dc);
        }
        let dc: String = self.any_get("/snitch/datacenter", &[("host", &node.to_string())], None).await?;
        self.cache_datacenter(node, &dc);
        Ok(dc)
    }

    /// Rack of a node.
    ///
    /// # Errors
    /// No host answered.
    pub async fn rack(&self, node: IpAddr) -> Result<String, HostError> {
        self.any_get("/snitch/rack", &[("host", &node.to_string())], None).await
    }

    /// Name of the cluster in Scylla's own configuration.
    ///
    /// # Errors
    /// No host answered.
    pub async fn cluster_name(&self) -> Result<String, HostError> {
        self.any_get("/storage_service/cluster_name", &[], None).await
    }

    /// Names of keyspaces.
    ///
    /// # Errors
    /// No host answered.
    pub async fn keyspaces(
        &self,
        kind: KeyspaceKind,
        replication: Replication,
    ) -> Result<Vec<String>, HostError> {
        let kind = match kind {
            KeyspaceKind::All => "all",
            KeyspaceKind::User => "user",
            KeyspaceKind::NonLocal => "non_local_strategy",
        };
        let replication = match replication {
            Replication::All => "all",
            Replication::Vnodes => "vnodes",
            Replication::Tablets => "tablets",
        };
        let query = [("type", kind), ("replication", replication)];
        self.any_get("/storage_service/keyspaces", &query, None).await
    }

    /// All tables as `(keyspace, table)`, views and index tables included.
    ///
    /// # Errors
    /// No host answered.
    pub async fn tables(&self) -> Result<Vec<(String, String)>, HostError> {
        let names: Vec<String> = self.any_get("/column_family/name", &[], None).await?;
        // Table names may hold colons, keyspaces not.
        Ok(names
            .iter()
            .filter_map(|n| n.split_once(':'))
            .map(|(k, t)| (k.to_owned(), t.to_owned()))
            .collect())
    }

    /// Token ranges with their replicas; `table` is needed for a keyspace with tablets.
    ///
    /// # Errors
    /// No host answered.
    pub async fn describe_ring(
        &self,
        keyspace: &str,
        table: Option<&str>,
    ) -> Result<Vec<RingRange>, HostError> {
        let path = format!("/storage_service/describe_ring/{}", encode_segment(keyspace));
        let query: Vec<(&str, &str)> = table.map(|t| ("table", t)).into_iter().collect();
        self.any_get(&path, &query, Some(RING_TIMEOUT)).await
    }

    /// Switches tablet balancing of the cluster. Switching off waits for running migrations.
    ///
    /// # Errors
    /// No host answered; not repeated after a time-out.
    pub async fn set_tablet_balancing(&self, enabled: bool) -> Result<(), HostError> {
        let enabled = enabled.to_string();
        let query = [("enabled", enabled.as_str())];
        self.any(&Method::POST, "/storage_service/tablets/balancing", &query, Some(SNAPSHOT_TIMEOUT))
            .await
            .map(drop)
    }

    fn addresses(&self, what: &'static str, nodes: Vec<String>) -> Result<Vec<IpAddr>, HostError> {
        let read = |text: String| {
            host_address(&text).ok_or_else(|| {
                let reason = format!("{what} {text:?} is not an IP address");
                let source = ClientError::Request { method: Method::GET, url: "scylla".into(), reason };
                HostError::new("cluster", source)
            })
        };
        nodes.into_iter().map(read).collect()
    }

    async fn any_get<T: DeserializeOwned>(
        &self,
        path: &str,
        query: Query<'_>,
        timeout: Option<Duration>,
    ) -> Result<T, HostError> {
        let (host, bytes) = self.any(&Method::GET, path, query, timeout).await?;
        decode(&Method::GET, path, &bytes).map_err(|e| HostError::new(&host.to_string(), e))
    }

    /// Asks one host after the other, at once, until one gives an answer that another would give, too.
    async fn any(
        &self,
        method: &Method,
        path: &str,
        query: Query<'_>,
        timeout: Option<Duration>,
    ) -> Result<(IpAddr, Bytes), HostError> {
        let order = self.shared.pool.order(&mut rand::rng());
        let timeout = timeout.unwrap_or(self.shared.settings.timeout);
        let mut asked_before = Vec::new();
        let mut failed: Option<HostError> = None;
        for (attempts, host) in (1..).zip(order) {
            let agent = self.on(host);
            let begin = Instant::now();
            let call = Call::new(method.clone(), with_query(&agent.base, path, query)).timeout(timeout);
            // On the heap: callers join many of these, and a request in flight is kilobytes.
            match Box::pin(self.shared.http.send(call)).await {
                Ok((_, bytes)) => {
                    self.shared.pool.answered(host, begin.elapsed());
                    return Ok((host, bytes));
                }
                Err(source) => {
                    let last = !may_ask_another(&source)
                        || (*method != Method::GET && matches!(source, ClientError::Timeout { .. }));
                    let error = HostError {
                        host: host.to_string().into(),
                        attempts,
                        asked_before: asked_before.as_slice().into(),
                        source,
                    };
                    if last {
                        return Err(error);
                    }
                    self.shared.pool.failed(host);
                    asked_before.push(host);
                    failed = Some(error);
                }
            }
        }
        Err(failed.unwrap_or_else(|| {
            let reason = "the cluster has no known host".to_owned();
            let source = ClientError::Request { method: method.clone(), url: path.to_owned(), reason };
            HostError::new("cluster", source)
        }))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use axum::Router;
    use axum::http::StatusCode;
    use axum::routing::{get, post};

    use super::super::tests::client_into;
    use super::*;

    #[tokio::test]
    async fn another_host_is_asked_when_one_does_not_answer() {
        let live = Router::new()
            .route("/gossiper/endpoint/live/", get(|| async { r#"["192.0.2.12","::ffff:192.0.2.13"]"# }));
        let client = client_into(&["192.0.2.11", "192.0.2.12"], move |host| {
            (host == "192.0.2.12").then(|| live.clone())
        });
        let nodes = client.live_nodes().await.unwrap();
        assert_eq!(nodes, ["192.0.2.12".parse::<IpAddr>().unwrap(), "192.0.2.13".parse().unwrap()]);
    }

    #[tokio::test]
    async fn an_answer_that_all_would_give_is_final() {
        let calls = Arc::new(AtomicU32::new(0));
        let count = calls.clone();
        let handler = move || {
            count.fetch_add(1, Ordering::Relaxed);
            async { (StatusCode::BAD_REQUEST, r#"{"message":"Can't find a keyspace x","code":400}"#) }
        };
        let router = Router::new().route("/storage_service/describe_ring/{ks}", get(handler));
        let client = client_into(&["192.0.2.11", "192.0.2.12"], move |_| Some(router.clone()));
        let error = client.describe_ring("x", None).await.unwrap_err();
        assert_eq!((error.answer(), calls.load(Ordering::Relaxed)), ("Can't find a keyspace x", 1));
    }

    #[tokio::test]
    async fn all_hosts_failing_are_named_with_the_tries() {
        let hosts = ["192.0.2.11", "192.0.2.12"];
        let client = client_into(&hosts, |_| None);
        let text = common::error::chain(&client.tables().await.unwrap_err());
        assert!(text.contains("giving up after 2 attempts, as on 192.0.2.1"), "{text}");
        assert!(hosts.iter().all(|host| text.contains(host)), "{text}");
    }

    #[tokio::test]
    async fn a_snapshot_that_exists_is_a_success() {
        let exists = || async {
            let body =
                r#"{"message":"Keyspace ks: snapshot sm_20260101000000UTC already exists.","code":500}"#;
            (StatusCode::INTERNAL_SERVER_ERROR, body)
        };
        let router = Router::new().route("/storage_service/snapshots", post(exists));
        let client = client_into(&["192.0.2.11"], move |_| Some(router.clone())).interactive();
        let agent = client.on("192.0.2.11".parse().unwrap());
        tokio::time::pause();
        agent.take_snapshot("sm_20260101000000UTC", "ks", &["t".into()]).await.unwrap();
        assert!(agent.take_snapshot("sm_20260101000001UTC", "ks", &[]).await.is_err());
        assert!(agent.delete_snapshot("", None, None).await.is_err(), "no tag would mean all snapshots");
    }

    #[tokio::test]
    async fn shards_are_counted_by_series_and_tables_split_at_the_first_colon() {
        let metrics = "# HELP scylla_database_total_writes x\n# TYPE scylla_database_total_writes counter\n\
                       scylla_database_total_writes{shard=\"0\"} 1\nscylla_database_total_writes{shard=\"1\"} 2\n\
                       scylla_database_total_writes_failed{shard=\"0\"} 0\n";
        let router = Router::new()
            .route("/metrics", get(move || async move { metrics }))
            .route("/column_family/name", get(|| async { r#"["ks:t","alternator_x:a:b"]"# }));
        let client = client_into(&["192.0.2.11"], move |_| Some(router.clone()));
        assert_eq!(client.on("192.0.2.11".parse().unwrap()).shard_count().await.unwrap(), 2);
        assert_eq!(client.tables().await.unwrap()[1], ("alternator_x".to_owned(), "a:b".to_owned()));
    }
}
