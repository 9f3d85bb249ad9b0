//! Service discovery for Prometheus in the shape of Consul's catalogue, read-only (spec manager.md 2.10).
//!
//! Served from the cache of node facts: a scrape never asks the nodes.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};
use tracing::error;

use crate::agent_client::host_address;
use crate::cluster::{Clusters, NodeFacts};
use crate::store::StoreError;

/// Port of Scylla's metrics where the node names none.
const DEFAULT_PROMETHEUS_PORT: u16 = 9180;

/// Grows with each request for a list of nodes: Prometheus waits for a change of it.
const INDEX_HEADER: &str = "x-consul-index";

#[derive(Clone)]
struct Discovery {
    clusters: Clusters,
    index: Arc<AtomicU64>,
}

/// The routes, to be merged into the metrics listener.
pub fn routes(clusters: Clusters) -> Router {
    let state = Discovery { clusters, index: Arc::new(AtomicU64::new(0)) };
    Router::new()
        .route("/v1/agent/self", get(own_datacenter))
        .route("/v1/catalog/services", get(services))
        .route("/v1/catalog/service/scylla", get(catalog))
        .route("/v1/health/service/scylla", get(health))
        .with_state(state)
}

async fn own_datacenter() -> Json<Value> {
    Json(json!({ "Config": { "Datacenter": "scylla-manager" } }))
}

async fn services(State(state): State<Discovery>) -> Response {
    let clusters = match state.clusters.store().clusters().await {
        Ok(clusters) => clusters,
        Err(error) => return failed(&error),
    };
    let names: Vec<String> = clusters.iter().map(|c| c.display_name()).collect();
    Json(json!({ "scylla": names })).into_response()
}

async fn catalog(State(state): State<Discovery>) -> Response {
    state.nodes(catalog_entry).await
}

async fn health(State(state): State<Discovery>) -> Response {
    state.nodes(health_entry).await
}

impl Discovery {
    async fn nodes(&self, entry: impl Fn(&str, &NodeFacts) -> Value) -> Response {
        let clusters = match self.clusters.store().clusters().await {
            Ok(clusters) => clusters,
            Err(error) => return failed(&error),
        };
        let mut entries = Vec::new();
        for cluster in clusters {
            let nodes = self.clusters.cached_nodes(cluster.id).unwrap_or_default();
            entries.extend(nodes.values().map(|facts| entry(&cluster.display_name(), facts)));
        }
        let index = self.index.fetch_add(1, Ordering::Relaxed) + 1;
        ([(INDEX_HEADER, index.to_string())], Json(entries)).into_response()
    }
}

fn failed(error: &StoreError) -> Response {
    let error = common::error::chain(error);
    error!(error, "Service discovery cannot read the clusters");
    (StatusCode::INTERNAL_SERVER_ERROR, Json(json!({ "message": error }))).into_response()
}

/// Where Prometheus scrapes Scylla on a node.
fn scrape_target(facts: &NodeFacts) -> (IpAddr, u16) {
    let own = host_address(&facts.info.prometheus_address).filter(|ip| !ip.is_unspecified());
    let port = facts.info.prometheus_port.parse().ok().filter(|p| *p != 0);
    (own.unwrap_or(facts.member.host.address), port.unwrap_or(DEFAULT_PROMETHEUS_PORT))
}

fn catalog_entry(cluster: &str, facts: &NodeFacts) -> Value {
    let (host, (address, port)) = (&facts.member.host, scrape_target(facts));
    json!({
        "ID": "",
        "Node": host.address,
        "Address": address,
        "Datacenter": host.dc,
        "TaggedAddresses": null,
        "NodeMeta": null,
        "ServiceID": "scylla",
        "ServiceName": "scylla",
        "ServiceAddress": host.address,
        "ServiceTaggedAddresses": null,
        "ServiceTags": [cluster],
        "ServiceMeta": { "shard_num": facts.shards.to_string(), "dc": host.dc, "cluster_name": cluster },
        "ServicePort": port,
        "ServiceWeights": { "Passing": 0, "Warning": 0 },
        "ServiceEnableTagOverride": false,
        "ServiceProxy": null,
        "CreateIndex": 0,
        "ModifyIndex": 0,
        "Checks": null,
    })
}

fn health_entry(cluster: &str, facts: &NodeFacts) -> Value {
    let (host, (address, port)) = (&facts.member.host, scrape_target(facts));
    json!({
        "Node": {
            "Node": host.address,
            "Address": host.address,
            "Datacenter": host.dc,
            "Meta": { "shard_num": facts.shards.to_string(), "dc": host.dc, "cluster_name": cluster },
        },
        "Service": {
            "ID": "scylla",
            "Service": "scylla",
            "Address": address,
            "Port": port,
            "Tags": [cluster],
            "Meta": { "dc": host.dc, "cluster_name": cluster },
        },
        "Checks": null,
    })
}

#[cfg(test)]
mod tests {
    use tower::ServiceExt;

    use super::*;
    use crate::cluster::testing::{FakeCluster, clusters_into};

    #[tokio::test]
    async fn nodes_are_listed_with_where_to_scrape_them() {
        let fake = FakeCluster::two_datacenters();
        fake.node("192.0.2.12").change(|n| n.info.prometheus_address = "198.51.100.7".into());
        let (_dir, clusters) = clusters_into(&fake).await;
        let id = crate::cluster::testing::add(&clusters, "prod").await;
        clusters.refresh_nodes(id).await.unwrap();
        let router = routes(clusters);
        let ask = async |path: &str| {
            let request = axum::http::Request::get(path).body(axum::body::Body::empty()).unwrap();
            let answer = router.clone().oneshot(request).await.unwrap();
            let index = answer.headers().get(INDEX_HEADER).map(|v| v.to_str().unwrap().to_owned());
            let bytes = axum::body::to_bytes(answer.into_body(), 1 << 20).await.unwrap();
            (index, serde_json::from_slice::<Value>(&bytes).unwrap())
        };
        let (_, services) = ask("/v1/catalog/services").await;
        assert_eq!(services, json!({ "scylla": ["prod"] }));
        let (index, nodes) = ask("/v1/catalog/service/scylla").await;
        assert_eq!((index.as_deref(), nodes.as_array().unwrap().len()), (Some("1"), 3));
        assert_eq!(nodes[0]["ServiceMeta"], json!({ "shard_num": "2", "dc": "dc1", "cluster_name": "prod" }));
        assert_eq!((&nodes[1]["Node"], &nodes[1]["Address"]), (&json!("192.0.2.12"), &json!("198.51.100.7")));
        let (index, nodes) = ask("/v1/health/service/scylla").await;
        assert_eq!(index.as_deref(), Some("2"));
        assert_eq!(nodes[0]["Service"]["Port"], json!(9180));
    }
}
