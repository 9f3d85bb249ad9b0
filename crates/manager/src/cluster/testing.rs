//! A cluster of agents that exists only in memory: enough of their API for discovery, status and cluster calls.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use common::api::agent::NodeInfo;
use common::http_client::{RouterLookup, Transport};
use common::ids::ClusterId;
use http::StatusCode;
use http::request::Parts;
use serde_json::{Value, json};

use super::Clusters;
use super::add::validate;
use crate::agent_client::Settings;
use crate::backup::testing::FakeBucket;
use crate::config;
use crate::store::Store;

pub(crate) const TOKEN: &str = "token";

#[derive(Clone)]
pub(crate) struct FakeNode {
    pub dc: String,
    /// In the live list of the others.
    pub live: bool,
    /// Its agent answers.
    pub agent: bool,
    pub token: String,
    pub info: NodeInfo,
    /// `N`, `J` or `L`, as all of them see it.
    pub state: char,
    /// Tags on its disk.
    pub snapshots: BTreeSet<String>,
    /// Before each answer.
    pub delay: Duration,
    /// Of the answer to the REST ping.
    pub ping_status: StatusCode,
}

#[derive(Default)]
struct State {
    nodes: BTreeMap<IpAddr, FakeNode>,
    calls: Vec<String>,
    balancing: bool,
}

/// Shared by the test and the transport.
#[derive(Clone, Default)]
pub(crate) struct FakeCluster {
    state: Arc<Mutex<State>>,
    /// What all agents see.
    pub bucket: FakeBucket,
}

pub(crate) struct NodeHandle {
    cluster: FakeCluster,
    address: IpAddr,
}

impl NodeHandle {
    pub(crate) fn get(&self) -> FakeNode {
        self.cluster.state.lock().unwrap().nodes[&self.address].clone()
    }

    pub(crate) fn change(&self, change: impl FnOnce(&mut FakeNode)) {
        change(self.cluster.state.lock().unwrap().nodes.get_mut(&self.address).unwrap());
    }
}

impl FakeCluster {
    /// `dc1` with 192.0.2.11 and .12, `dc2` with 192.0.2.21; all fine.
    pub(crate) fn two_datacenters() -> Self {
        let cluster = Self::default();
        cluster.state.lock().unwrap().balancing = true;
        for (address, dc) in [("192.0.2.11", "dc1"), ("192.0.2.12", "dc1"), ("192.0.2.21", "dc2")] {
            cluster.join(address, dc);
        }
        cluster
    }

    pub(crate) fn join(&self, address: &str, dc: &str) {
        let info = NodeInfo {
            listen_address: address.into(),
            scylla_version: "2025.4.1".into(),
            agent_version: "0.1.0".into(),
            cpu_count: 4,
            ..NodeInfo::default()
        };
        let node = FakeNode {
            dc: dc.into(),
            live: true,
            agent: true,
            token: TOKEN.into(),
            info,
            state: 'N',
            snapshots: BTreeSet::new(),
            delay: Duration::ZERO,
            ping_status: StatusCode::OK,
        };
        self.state.lock().unwrap().nodes.insert(address.parse().unwrap(), node);
    }

    pub(crate) fn leave(&self, address: &str) {
        self.state.lock().unwrap().nodes.remove(&address.parse().unwrap());
    }

    pub(crate) fn node(&self, address: &str) -> NodeHandle {
        NodeHandle { cluster: self.clone(), address: address.parse().unwrap() }
    }

    pub(crate) fn balancing(&self) -> bool {
        self.state.lock().unwrap().balancing
    }

    /// Paths that were asked for since the last call, as `<host> <path>`.
    pub(crate) fn take_calls(&self) -> Vec<String> {
        std::mem::take(&mut self.state.lock().unwrap().calls)
    }

    pub(crate) fn transport(&self) -> Transport {
        let cluster = self.clone();
        let lookup: RouterLookup = Arc::new(move |uri| {
            let address: IpAddr = uri.host()?.parse().ok()?;
            let delay = cluster.state.lock().unwrap().nodes.get(&address).filter(|n| n.agent)?.delay;
            let cluster = cluster.clone();
            Some(Router::new().fallback(move |request: Request| async move {
                tokio::time::sleep(delay).await;
                let (head, body) = request.into_parts();
                let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
                cluster.answer(address, &head, &body)
            }))
        });
        Transport::InProcess(lookup)
    }

    fn answer(&self, address: IpAddr, request: &Parts, body: &[u8]) -> Response {
        let mut state = self.state.lock().unwrap();
        let path = request.uri.path().to_owned();
        state.calls.push(format!("{address} {path}"));
        let Some(node) = state.nodes.get(&address).cloned() else {
            return StatusCode::BAD_GATEWAY.into_response();
        };
        if path == "/ping" {
            return StatusCode::NO_CONTENT.into_response();
        }
        let bearer = request.headers.get("authorization").and_then(|v| v.to_str().ok());
        if bearer != Some(&format!("Bearer {}", node.token)) {
            let body = json!({ "message": "unauthorized", "code": 401 });
            return (StatusCode::UNAUTHORIZED, body.to_string()).into_response();
        }
        if path == "/storage_service/scylla_release_version" && node.ping_status != StatusCode::OK {
            return (node.ping_status, r#"{"message":"no","code":0}"#).into_response();
        }
        if path.starts_with("/agent/rclone/") {
            return self.bucket.answer(&path, body);
        }
        if request.method == "DELETE" && path == "/storage_service/snapshots" {
            let tag = request.uri.query().and_then(|q| q.strip_prefix("tag=")).unwrap_or_default();
            state.nodes.get_mut(&address).unwrap().snapshots.remove(tag);
            return Body::empty().into_response();
        }
        if path == "/storage_service/tablets/balancing" {
            state.balancing = request.uri.query() == Some("enabled=true");
            return Body::empty().into_response();
        }
        let query = request.uri.query().and_then(|q| q.strip_prefix("host=")).and_then(|h| h.parse().ok());
        match reply(&state, &node, &path, query) {
            Some(value) => value.to_string().into_response(),
            None if path == "/metrics" => {
                "scylla_database_total_writes{shard=\"0\"} 1\nscylla_database_total_writes{shard=\"1\"} 1\n"
                    .into_response()
            }
            None => (StatusCode::NOT_FOUND, r#"{"message":"Not found","code":404}"#).into_response(),
        }
    }
}

fn reply(state: &State, node: &FakeNode, path: &str, host: Option<IpAddr>) -> Option<Value> {
    let nodes = &state.nodes;
    let in_state = |state| nodes.iter().filter(|(_, n)| n.state == state).map(|(a, _)| a).collect::<Vec<_>>();
    Some(match path {
        "/gossiper/endpoint/live/" => {
            json!(nodes.iter().filter(|(_, n)| n.live).map(|(a, _)| a).collect::<Vec<_>>())
        }
        "/storage_service/host_id" => {
            json!(nodes.keys().map(|a| json!({ "key": a, "value": format!("id-{a}") })).collect::<Vec<_>>())
        }
        "/storage_service/nodes/joining" => json!(in_state('J')),
        "/storage_service/nodes/leaving" => json!(in_state('L')),
        "/snitch/datacenter" => json!(nodes.get(&host?)?.dc),
        "/storage_service/snapshots" => {
            json!(node.snapshots.iter().map(|tag| json!({ "key": tag, "value": [] })).collect::<Vec<_>>())
        }
        "/snitch/rack" => json!("r1"),
        "/storage_service/scylla_release_version" => json!(node.info.scylla_version),
        "/agent/node_info" => serde_json::to_value(&node.info).unwrap(),
        _ => return None,
    })
}

/// Clusters over a fresh store whose agents are those of `fake`.
pub(crate) async fn clusters_into(fake: &FakeCluster) -> (tempfile::TempDir, Clusters) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("m.db")).await.unwrap();
    let settings = Settings::from(&config::AgentClient::default());
    (dir, Clusters::new(store, fake.transport(), settings, Duration::from_secs(900)))
}

/// Adds a cluster by its node 192.0.2.11.
pub(crate) async fn add(clusters: &Clusters, name: &str) -> ClusterId {
    let id = ClusterId::random();
    let request = common::api::manager::Cluster {
        name: name.into(),
        host: "192.0.2.11".into(),
        auth_token: TOKEN.into(),
        ..Default::default()
    };
    clusters.put(validate(id, &request).unwrap()).await.unwrap();
    id
}
