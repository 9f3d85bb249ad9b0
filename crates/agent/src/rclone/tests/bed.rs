//! An agent's calls over a temporary directory: `data` is the node, `localstorage` the place of backups.

use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::routing::any;
use http::{HeaderMap, Method, Request, StatusCode, header};
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::config::Config;
use crate::jobs::{Jobs, system_clock};
use crate::metrics::Metrics;
use crate::rclone::{Rclone, Remotes, handle, impatient};
use crate::storage::{ObjectStore, Stores};
use crate::transfer::Engine;
use crate::transfer::rate_limit::RateLimits;

pub(super) struct Bed {
    dir: tempfile::TempDir,
    pub router: Router,
    pub metrics: Arc<Metrics>,
}

/// An answer, read to its end.
#[derive(Debug)]
pub(super) struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Reply {
    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {:?}", self.body))
    }

    pub(super) fn header(&self, name: impl header::AsHeaderName) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// Status and message of an error.
    pub(super) fn error(&self) -> (u16, String) {
        let body = self.json();
        assert_eq!(body["status"], self.status.as_u16(), "{body}");
        (self.status.as_u16(), body["message"].as_str().unwrap().to_owned())
    }
}

impl Bed {
    pub(super) fn new() -> Self {
        Self::with(Config::default(), |_| {})
    }

    pub(super) fn with_config(config: Config) -> Self {
        Self::with(config, |_| {})
    }

    /// With other stores than those of the configuration.
    pub(super) fn with_store(store: Arc<dyn ObjectStore>) -> Self {
        Self::with(Config::default(), |stores| stores.add(store.clone()))
    }

    fn with(config: Config, change: impl Fn(&mut Stores)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = Config { localstorage: Some(dir.path().join("backups")), ..config };
        let data = dir.path().join("data");
        for directory in [&data, config.localstorage.as_ref().unwrap()] {
            std::fs::create_dir(directory).unwrap();
        }
        let limits = Arc::new(RateLimits::new(config.rclone.bandwidth));
        let mut stores = Stores::open(&config, &data, &limits, Arc::new(|_, _, _| {}));
        let mut checks = Stores::open(&impatient(&config), &data, &limits, Arc::new(|_, _, _| {}));
        change(&mut stores);
        change(&mut checks);
        let jobs = Arc::new(Jobs::new(system_clock()));
        let metrics = Arc::new(Metrics::new(Arc::new(Default::default)).unwrap());
        let engine = Engine::new(&config, limits);
        let remotes = Remotes { stores, data, localstorage: config.localstorage.clone() };
        let rclone = Arc::new(Rclone::new(engine, jobs, remotes, checks, metrics.clone()));
        let router = Router::new()
            .route("/agent/rclone/", any(handle))
            .route("/agent/rclone/{*call}", any(handle))
            .with_state(rclone);
        Self { dir, router, metrics }
    }

    /// A path on disk: `data/...` or `backups/...`.
    pub(super) fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    pub(super) fn write(&self, path: &str, content: impl AsRef<[u8]>) {
        let path = self.path(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    pub(super) fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.path(path)).unwrap()
    }

    pub(super) fn exists(&self, path: &str) -> bool {
        self.path(path).exists()
    }

    pub(super) async fn send(&self, request: Request<Body>) -> Reply {
        let (head, body) = self.router.clone().oneshot(request).await.unwrap().into_parts();
        let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        Reply { status: head.status, headers: head.headers, body }
    }

    /// Sends parameters as JSON.
    pub(super) async fn post(&self, call: &str, params: Value) -> Reply {
        self.send(json_request(call, &params)).await
    }

    /// The result of a call that succeeds.
    pub(super) async fn call(&self, call: &str, params: Value) -> Value {
        let reply = self.post(call, params).await;
        assert_eq!(reply.status, 200, "{call}: {:?}", reply.body);
        assert!(reply.body.ends_with(b"\n"), "{call}");
        reply.json()
    }

    /// Status and message of a call that fails.
    pub(super) async fn refused(&self, call: &str, params: Value) -> (u16, String) {
        self.post(call, params).await.error()
    }

    /// Runs a job to its end and returns its progress.
    pub(super) async fn job(&self, call: &str, mut params: Value) -> Value {
        params["_async"] = json!(true);
        let id = self.call(call, params).await["jobid"].clone();
        self.call("job/progress", json!({"jobid": id, "wait": 30})).await
    }
}

pub(super) fn json_request(call: &str, params: &Value) -> Request<Body> {
    Request::builder()
        .method(Method::POST)
        .uri(format!("/agent/rclone/{call}"))
        .header(header::CONTENT_TYPE, "application/json")
        .body(Body::from(params.to_string()))
        .unwrap()
}
