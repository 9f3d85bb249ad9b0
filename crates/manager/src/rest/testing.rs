//! A whole manager behind its API whose agents and bucket live in memory.

use axum::Router;
use axum::body::Body;
use http::{Method, Request, header};
use prometheus::{Registry, TextEncoder};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::AppState;
use crate::cluster::testing::{FakeCluster, TOKEN};
use crate::config::{Config, Database};
use crate::run::{Assembled, assemble};
use crate::scheduler::Clock;

/// A manager, and the cluster that it can add.
pub(crate) struct Bed {
    pub fake: FakeCluster,
    router: Router,
    pub manager: AppState,
    registry: Registry,
    _driver: JoinSet<()>,
    dir: tempfile::TempDir,
}

impl Bed {
    pub async fn new() -> Self {
        let fake = FakeCluster::two_datacenters();
        let dir = tempfile::tempdir().unwrap();
        let database = Database { path: dir.path().join("m.db"), ..Database::default() };
        let config = Config { database, ..Config::default() };
        let now = chrono::DateTime::from_timestamp(1_700_000_000, 0).unwrap();
        let Assembled { manager, driver, registry } =
            assemble(config, fake.transport(), Clock::starting_at(now)).await.unwrap();
        let mut running = JoinSet::new();
        running.spawn(driver.run(CancellationToken::new()));
        let router = crate::rest::router(manager.clone());
        Self { fake, router, manager, registry, _driver: running, dir }
    }

    /// Status, `Location` or nothing, and the body of an answer.
    pub async fn call(&self, method: Method, path: &str, body: Value) -> (u16, String, Value) {
        let body = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
        let request = Request::builder().method(method).uri(format!("/api/v1{path}")).body(body).unwrap();
        let response = self.router.clone().oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        let location = response.headers().get(header::LOCATION).map(|l| l.to_str().unwrap().to_owned());
        let bytes = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
        let body = if bytes.is_empty() { Value::Null } else { serde_json::from_slice(&bytes).unwrap() };
        (status, location.unwrap_or_default(), body)
    }

    pub async fn get(&self, path: &str) -> Value {
        let (status, _, body) = self.call(Method::GET, path, Value::Null).await;
        assert_eq!(status, 200, "{path}: {body}");
        body
    }

    /// Status, message and details of a refused request.
    pub async fn refused(&self, method: Method, path: &str, body: Value) -> (u16, String, String) {
        let (status, _, body) = self.call(method, path, body).await;
        assert!(status >= 400, "{path}: {body}");
        assert_eq!(body["trace_id"].as_str().unwrap().len(), 22);
        let text = |key: &str| body[key].as_str().unwrap().to_owned();
        (status, text("message"), text("details"))
    }

    pub async fn add(&self, body: Value) -> String {
        let (status, location, body) = self.call(Method::POST, "/clusters", body).await;
        assert_eq!((status, &body), (201, &Value::Null));
        location.strip_prefix("/api/v1/cluster/").unwrap().to_owned()
    }

    /// Takes a table of the database away if it is still there, so that everything that needs it fails.
    pub fn lose_table(&self, name: &str) {
        let database = rusqlite::Connection::open(self.dir.path().join("m.db")).unwrap();
        let there = "SELECT count(*) FROM sqlite_master WHERE name = ?1";
        if database.query_row(there, [name], |row| row.get::<_, i64>(0)).unwrap() == 1 {
            database.execute_batch(&format!("ALTER TABLE {name} RENAME TO lost_{name}")).unwrap();
        }
    }

    pub fn metrics(&self) -> String {
        TextEncoder::new().encode_to_string(&self.registry.gather()).unwrap()
    }
}

/// A request that adds the cluster.
pub(crate) fn cluster(name: &str) -> Value {
    json!({ "name": name, "host": "192.0.2.11", "auth_token": TOKEN })
}

/// An object with more keys.
pub(crate) fn with(mut base: Value, more: Value) -> Value {
    base.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    base
}
