//! An agent in this process, next to a Scylla node that is a router with a map of configuration values.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::ConnectInfo;
use axum::extract::Path as UrlPath;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use common::http_client::Transport;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use crate::agent::{Agent, Environment, StartupError};
use crate::cloud::MetadataEndpoints;
use crate::config::{Config, Secret};
use crate::upstream::Upstream;

/// Token of the agents.
pub(crate) const TOKEN: &str = "s3cret";

/// Values of the node; the names that are not there are answered with 400, as older releases do.
pub(crate) type Values = Arc<Mutex<BTreeMap<String, Value>>>;

/// A node, and the directory that everything of a test is in.
pub(crate) struct Node {
    dir: tempfile::TempDir,
    /// What `/v2/config/<name>` answers.
    pub values: Values,
    /// Answers everything that is not configuration.
    pub rest: Router,
    /// Answers on the metrics port.
    pub metrics: Router,
}

impl Node {
    /// A node with the configuration that start-up and node info need; it echoes requests.
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("data")).unwrap();
        let values = json!({
            "listen_address": "10.0.0.1",
            "prometheus_address": "",
            "prometheus_port": 9180,
            "data_file_directories": [dir.path().join("data"), "/second"],
            "broadcast_address": "192.0.2.1",
            "broadcast_rpc_address": "192.0.2.2",
            "rpc_address": "10.0.0.2",
            "native_transport_port": 9042,
            "native_transport_port_ssl": 9142,
            "rpc_port": 9160,
            "client_encryption_options": {"enabled": "True", "require_client_auth": "false", "other": "x"},
            "authenticator": "org.apache.cassandra.auth.PasswordAuthenticator",
        });
        let values = serde_json::from_value(values).unwrap();
        let rest = Router::new().fallback(echo);
        Self { dir, values: Arc::new(Mutex::new(values)), metrics: rest.clone(), rest }
    }

    /// A path in the test's directory.
    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    /// Changes a configuration value; `None` makes it unknown.
    pub(crate) fn set(&self, name: &str, value: impl Into<Option<Value>>) {
        let mut values = self.values.lock().unwrap_or_else(PoisonError::into_inner);
        match value.into() {
            Some(value) => values.insert(name.to_owned(), value),
            None => values.remove(name),
        };
    }

    fn router(&self) -> Router {
        Router::new()
            .route("/v2/config/{name}", get(value))
            .route("/storage_service/scylla_release_version", get(|| async { "\"2025.1.0-0.2025\"" }))
            .with_state(self.values.clone())
            .fallback_service(self.rest.clone())
    }

    /// Settings of an agent of this node.
    pub(crate) fn config(&self) -> Config {
        let mut config = Config { auth_token: Secret::new(TOKEN), ..Config::default() };
        // Otherwise the metadata service is asked for it.
        config.s3.region = Some("eu-west-1".into());
        config
    }

    fn environment(&self) -> Environment {
        let (api, metrics) = (self.router(), self.metrics.clone());
        let lookup = move |uri: &http::Uri| match uri.authority().map(http::uri::Authority::as_str) {
            Some("0.0.0.0:10000") => Some(api.clone()),
            Some("10.0.0.1:9180") => Some(metrics.clone()),
            _ => None,
        };
        Environment {
            upstream: Some(Upstream::InProcess(Arc::new(lookup))),
            metadata: MetadataEndpoints::default(),
            metadata_transport: Some(Transport::InProcess(Arc::new(|_| None))),
            cpuset_file: self.path("no-cpuset.conf"),
            env: Arc::new(|_| None),
            ..Environment::default()
        }
    }

    /// Starts an agent with these settings.
    pub(crate) async fn start(&self, config: Config) -> Result<Agent, StartupError> {
        Box::pin(Agent::start(config, self.environment(), CancellationToken::new())).await
    }

    /// Starts an agent of which nothing is special.
    pub(crate) async fn agent(&self) -> Agent {
        self.start(self.config()).await.unwrap()
    }
}

async fn value(State(values): State<Values>, UrlPath(name): UrlPath<String>) -> Response {
    let values = values.lock().unwrap_or_else(PoisonError::into_inner);
    match values.get(&name) {
        Some(value) => value.to_string().into_response(),
        None => {
            let body = json!({"message": format!("No such config entry: {name}"), "code": 400});
            (StatusCode::BAD_REQUEST, body.to_string()).into_response()
        }
    }
}

/// Tells what arrived, with a status that no other part of the agent gives.
async fn echo(request: Request<Body>) -> Response {
    let (head, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
    let headers: BTreeMap<&str, &str> =
        head.headers.iter().map(|(k, v)| (k.as_str(), v.to_str().unwrap())).collect();
    let seen = json!({
        "method": head.method.as_str(),
        "uri": head.uri.to_string(),
        "headers": headers,
        "body": String::from_utf8_lossy(&body),
    });
    (StatusCode::IM_A_TEAPOT, [("x-scylla", "yes")], seen.to_string()).into_response()
}

/// An answer, read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {:?}", self.body))
    }

    pub(crate) fn header(&self, name: impl header::AsHeaderName) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

/// A request with the token.
pub(crate) fn request(method: Method, uri: &str) -> Request<Body> {
    let mut request = Request::builder().method(method).uri(uri).body(Body::empty()).unwrap();
    let token = HeaderValue::from_str(&format!("Bearer {TOKEN}")).unwrap();
    request.headers_mut().insert(header::AUTHORIZATION, token);
    request.extensions_mut().insert(ConnectInfo::<SocketAddr>("10.9.9.9:4711".parse().unwrap()));
    request
}

/// Sends a request to an agent.
pub(crate) async fn send(agent: &Agent, request: Request<Body>) -> Answer {
    let (head, body) = agent.router().oneshot(request).await.unwrap().into_parts();
    let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
    Answer { status: head.status.as_u16(), headers: head.headers, body }
}

/// Sends a request without a body.
pub(crate) async fn call(agent: &Agent, method: Method, uri: &str) -> Answer {
    send(agent, request(method, uri)).await
}

/// Whether a directory holds nothing, or was never made.
pub(crate) fn is_empty(dir: &Path) -> bool {
    match std::fs::read_dir(dir) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => true,
        Err(error) => panic!("{}: {error}", dir.display()),
    }
}
