//! The admin port of `testbed up`: adds data to the running cluster, stops and starts nodes, makes them fail, and shows
//! what they and the S3 server were asked for. Any program can drive it, e.g. the tests of another manager.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;

use crate::cluster::{KeyspaceClass, SimCluster};
use crate::node::Call;
use crate::node::faults::{Rule, RuleId};
use crate::s3::Counters;

/// Where `testbed up` listens for commands, unless told otherwise.
pub const DEFAULT_ADMIN: &str = "127.0.0.1:5190";

/// What the admin port works on.
pub struct Admin {
    /// The cluster.
    pub cluster: Arc<SimCluster>,
    /// Counters of our own S3 server.
    pub s3: Option<Counters>,
}

/// `POST /write`, `/flush`, `/compact`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Write {
    /// Keyspace; all user keyspaces when absent.
    pub keyspace: Option<String>,
    /// Table; all tables of the keyspaces when absent.
    pub table: Option<String>,
    /// New rows for each table.
    #[serde(default)]
    pub rows: usize,
    /// Write them to disk as a new SSTable at once.
    #[serde(default)]
    pub flush: bool,
    /// Then merge all SSTables of each table into one.
    #[serde(default)]
    pub compact: bool,
}

/// `POST /node/stop`, `/node/start`.
#[derive(Debug, Deserialize)]
struct NodeName {
    node: String,
}

type Answer<T> = Result<Json<T>, (StatusCode, String)>;

/// Serves the admin port until the future is dropped.
///
/// # Errors
/// The socket fails.
pub async fn serve(listener: TcpListener, admin: Arc<Admin>) -> anyhow::Result<()> {
    let routes = Router::new()
        .route("/write", post(write))
        .route("/node/stop", post(stop_node))
        .route("/node/start", post(start_node))
        .route("/sim/rules", get(list_rules).post(add_rule).delete(clear_rules))
        .route("/sim/log", get(calls))
        .route("/s3/counters", get(counters))
        .with_state(admin);
    axum::serve(listener, routes).await.context("serve the admin port")
}

fn refuse(error: impl std::fmt::Display) -> (StatusCode, String) {
    (StatusCode::BAD_REQUEST, error.to_string())
}

/// The user tables that a request means.
fn chosen(cluster: &SimCluster, request: &Write) -> Vec<(String, String)> {
    let model = cluster.model();
    let fits = |wanted: &Option<String>, name: &str| wanted.as_ref().is_none_or(|wanted| wanted == name);
    model
        .tables()
        .filter(|(keyspace, table)| keyspace.class == KeyspaceClass::User && table.kind.base().is_none())
        .filter(|(keyspace, table)| {
            fits(&request.keyspace, &keyspace.name) && fits(&request.table, &table.name)
        })
        .map(|(keyspace, table)| (keyspace.name.clone(), table.name.clone()))
        .collect()
}

async fn write(State(admin): State<Arc<Admin>>, Json(request): Json<Write>) -> Answer<Vec<String>> {
    let tables = chosen(&admin.cluster, &request);
    if tables.is_empty() {
        return Err(refuse("no user table has that name"));
    }
    for (keyspace, table) in &tables {
        if request.rows > 0 {
            admin.cluster.write_rows(keyspace, table, request.rows).map_err(refuse)?;
        }
        if request.flush {
            admin.cluster.flush(keyspace, table).await.map_err(refuse)?;
        }
        if request.compact {
            admin.cluster.compact(keyspace, table).await.map_err(refuse)?;
        }
    }
    Ok(Json(tables.into_iter().map(|(keyspace, table)| format!("{keyspace}.{table}")).collect()))
}

async fn stop_node(State(admin): State<Arc<Admin>>, Query(name): Query<NodeName>) -> Answer<()> {
    admin.cluster.node(&name.node).map_err(refuse)?.stop().await;
    Ok(Json(()))
}

async fn start_node(State(admin): State<Arc<Admin>>, Query(name): Query<NodeName>) -> Answer<()> {
    admin.cluster.node(&name.node).map_err(refuse)?.start().await.map_err(refuse)?;
    Ok(Json(()))
}

async fn list_rules(State(admin): State<Arc<Admin>>) -> Json<Vec<(RuleId, Rule, u64)>> {
    Json(admin.cluster.rules().list())
}

async fn add_rule(State(admin): State<Arc<Admin>>, Json(rule): Json<Rule>) -> Json<RuleId> {
    Json(admin.cluster.rules().add(rule))
}

async fn clear_rules(State(admin): State<Arc<Admin>>) -> Json<()> {
    admin.cluster.rules().clear();
    Json(())
}

async fn calls(State(admin): State<Arc<Admin>>) -> Json<Vec<Call>> {
    Json(admin.cluster.observed().calls())
}

async fn counters(State(admin): State<Arc<Admin>>) -> Answer<BTreeMap<String, u64>> {
    let counters = admin.s3.as_ref().ok_or_else(|| refuse("the S3 server is not ours"))?;
    Ok(Json(counters.by_kind().into_iter().map(|(kind, count)| (kind.to_string(), count.requests)).collect()))
}

/// Sends a request to the admin port of a running `testbed up`; answers the tables it touched.
///
/// # Errors
/// Nothing listens there, or it refuses.
pub async fn send(address: SocketAddr, request: &Write) -> anyhow::Result<Vec<String>> {
    common::tls::install_provider();
    let http = reqwest::Client::builder().timeout(std::time::Duration::from_secs(300)).no_proxy().build()?;
    let url = format!("http://{address}/write");
    let reply = http
        .post(&url)
        .json(request)
        .send()
        .await
        .with_context(|| format!("reach {url}; is `testbed up` running?"))?;
    let status = reply.status();
    let text = reply.text().await?;
    anyhow::ensure!(status.is_success(), "{url}: {text}");
    Ok(serde_json::from_str(&text)?)
}
