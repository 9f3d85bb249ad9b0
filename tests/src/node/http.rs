//! Between the wire and the handlers: fault rules, logging, the shape of answers.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use bytes::Bytes;
use chrono::Utc;
use futures::{StreamExt, stream};
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::BodyExt;
use percent_encoding::percent_decode_str;
use serde_json::Value;
use tokio::time::Instant;

use super::faults::{CallFacts, Decision, Substitute};
use super::observed::Call;
use super::{NodeCore, metrics, rest};
use crate::cluster::SimError;

/// Which of the node's two HTTP ports a request came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Port {
    Rest,
    Metrics,
}

/// What a client gets.
pub(crate) enum Outcome {
    Answer(Response<Body>),
    /// The connection breaks without an answer.
    Reset,
}

/// A request, taken apart.
pub(crate) struct Ask {
    pub method: String,
    /// Path as sent, without trailing slashes: Scylla ignores them.
    pub path: String,
    /// Decoded parts of the path.
    pub segments: Vec<String>,
    pub query: Query,
}

/// Decoded query parameters in the order they came.
#[derive(Default)]
pub(crate) struct Query(pub Vec<(String, String)>);

impl Query {
    fn parse(text: &str) -> Self {
        let decode = |text: &str| {
            let spaced = text.replace('+', " ");
            percent_decode_str(&spaced).decode_utf8_lossy().into_owned()
        };
        let pairs = text.split('&').filter(|pair| !pair.is_empty());
        Self(
            pairs
                .map(|pair| {
                    let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
                    (decode(name), decode(value))
                })
                .collect(),
        )
    }

    /// The first value of a parameter; an empty one counts as absent.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str()).filter(|v| !v.is_empty())
    }

    /// A value that must be there.
    pub fn required(&self, name: &str) -> Result<&str, RestError> {
        self.get(name).ok_or_else(|| RestError::bad_request(format!("Missing mandatory parameter '{name}'")))
    }

    /// The items of a comma-separated value; empty when absent.
    pub fn list(&self, name: &str) -> Vec<String> {
        let items = self.get(name).unwrap_or_default().split(',');
        items.map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect()
    }

    /// A boolean, `false` when absent.
    pub fn flag(&self, name: &str) -> Result<bool, RestError> {
        self.get(name).map_or(Ok(false), |value| parse_flag(name, value))
    }

    /// A boolean that must be there.
    pub fn required_flag(&self, name: &str) -> Result<bool, RestError> {
        parse_flag(name, self.required(name)?)
    }
}

fn parse_flag(name: &str, value: &str) -> Result<bool, RestError> {
    match value.to_ascii_lowercase().as_str() {
        "true" | "yes" | "1" => Ok(true),
        "false" | "no" | "0" => Ok(false),
        _ => Err(RestError::bad_request(format!("Invalid value for parameter '{name}': {value}"))),
    }
}

/// A successful answer.
#[derive(Debug)]
pub(crate) enum Reply {
    Json(Value),
    /// 200 with an empty body.
    Void,
    Text(String),
}

/// An answer in Scylla's error shape.
#[derive(Debug)]
pub(crate) struct RestError {
    pub status: StatusCode,
    pub message: String,
    /// No handler for this path: counted, so that a test can tell.
    pub unknown_route: bool,
}

impl RestError {
    pub fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), unknown_route: false }
    }

    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, message)
    }

    pub fn unknown_route() -> Self {
        Self { unknown_route: true, ..Self::new(StatusCode::NOT_FOUND, "Not found") }
    }
}

impl From<SimError> for RestError {
    fn from(error: SimError) -> Self {
        match &error {
            SimError::Disk { source, .. } => Self::internal(format!("{error}: {source}")),
            _ => Self::internal(error.to_string()),
        }
    }
}

/// The node's port as a router, for callers in this process.
pub(crate) fn router(core: Arc<NodeCore>, port: Port) -> Router {
    async fn answer(
        State((core, port)): State<(Arc<NodeCore>, Port)>,
        request: Request<Body>,
    ) -> Response<Body> {
        let (parts, body) = request.into_parts();
        let Ok(body) = body.collect().await else { return broken_body() };
        match serve(&core, port, Request::from_parts(parts, body.to_bytes())).await {
            Outcome::Answer(response) => response,
            Outcome::Reset => broken_body(),
        }
    }
    Router::new().fallback(answer).with_state((core, port))
}

/// Nearest thing to a broken connection without a connection: a body that fails.
fn broken_body() -> Response<Body> {
    Response::new(cut_body(Bytes::new()))
}

fn cut_body(bytes: Bytes) -> Body {
    let end = async {
        // Lets the connection send what came before.
        tokio::task::yield_now().await;
        Err(std::io::Error::from(std::io::ErrorKind::ConnectionReset))
    };
    Body::from_stream(stream::once(async { Ok(bytes) }).chain(stream::once(end)))
}

/// Answers one request, with all that the fault rules add.
pub(crate) async fn serve(core: &Arc<NodeCore>, port: Port, request: Request<Bytes>) -> Outcome {
    let ask = take_apart(request);
    let started = (Utc::now(), Instant::now());
    let (node, dc) = {
        let model = core.shared.model();
        let member = model.member(core.id);
        (member.address.to_string(), member.dc.clone())
    };
    let _running = core.shared.observed.enter(core.id, &dc, format!("{} {}", ask.method, ask.path));
    let facts = CallFacts { node: &node, method: &ask.method, path: &ask.path, query: &ask.query.0 };
    let decision = core.shared.rules.decide(&facts);
    let (outcome, known) = perform(core, port, &ask, decision).await;
    let call = Call {
        number: 0,
        node,
        method: ask.method,
        path: ask.path,
        query: ask.query.0.into_iter().collect(),
        status: match &outcome {
            Outcome::Answer(response) => Some(response.status().as_u16()),
            Outcome::Reset => None,
        },
        started: started.0,
        millis: u64::try_from(started.1.elapsed().as_millis()).unwrap_or(u64::MAX),
    };
    core.shared.observed.record(call, known);
    outcome
}

async fn perform(core: &Arc<NodeCore>, port: Port, ask: &Ask, decision: Decision) -> (Outcome, bool) {
    let rules = &core.shared.rules;
    pause(decision.delay).await;
    if let Some(rule) = decision.hang {
        rules.released(rule).await;
    }
    if decision.reset {
        return (Outcome::Reset, true);
    }
    if let Some(substitute) = decision.instead {
        return (Outcome::Answer(substitute_response(substitute)), true);
    }
    core.state().snapshot_faults.extend(decision.snapshot_faults);
    let result = match port {
        Port::Rest => rest::dispatch(core, ask).await,
        Port::Metrics => metrics::dispatch(core, ask),
    };
    let known = !matches!(&result, Err(error) if error.unknown_route);
    pause(decision.delay_after).await;
    if let Some(rule) = decision.hang_after {
        rules.released(rule).await;
    }
    if decision.reset_after {
        return (Outcome::Reset, known);
    }
    if let Some(status) = decision.answer_after {
        let substitute = Substitute { status, body: None, content_type: None };
        return (Outcome::Answer(substitute_response(substitute)), known);
    }
    let (status, content_type, body) = render(result);
    let content_type = decision.content_type.unwrap_or_else(|| content_type.to_owned());
    let body = match decision.truncate {
        Some(bytes) => cut_body(body.slice(..bytes.min(body.len()))),
        None => Body::from(body),
    };
    (Outcome::Answer(response(status, &content_type, body)), known)
}

async fn pause(delay: Duration) {
    if !delay.is_zero() {
        tokio::time::sleep(delay).await;
    }
}

fn take_apart(request: Request<Bytes>) -> Ask {
    let uri = request.uri();
    let path = match uri.path().trim_end_matches('/') {
        "" => "/",
        path => path,
    }
    .to_owned();
    let segments = path
        .split('/')
        .skip(1)
        .map(|segment| percent_decode_str(segment).decode_utf8_lossy().into_owned())
        .collect();
    let query = Query::parse(uri.query().unwrap_or_default());
    Ask { method: request.method().to_string(), path, segments, query }
}

fn render(result: Result<Reply, RestError>) -> (StatusCode, &'static str, Bytes) {
    match result {
        Ok(Reply::Json(value)) => (StatusCode::OK, "application/json", value.to_string().into()),
        Ok(Reply::Void) => (StatusCode::OK, "application/json", Bytes::new()),
        Ok(Reply::Text(text)) => (StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", text.into()),
        Err(error) => (error.status, "application/json", error_body(error.status, &error.message)),
    }
}

fn error_body(status: StatusCode, message: &str) -> Bytes {
    // Written by hand to keep the order of the keys.
    format!("{{\"message\":{},\"code\":{}}}", Value::from(message), status.as_u16()).into()
}

fn substitute_response(substitute: Substitute) -> Response<Body> {
    let status = StatusCode::from_u16(substitute.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let message = format!("injected fault: {}", status.canonical_reason().unwrap_or("error"));
    let body = substitute.body.map_or_else(|| error_body(status, &message), Bytes::from);
    response(status, substitute.content_type.as_deref().unwrap_or("application/json"), Body::from(body))
}

fn response(status: StatusCode, content_type: &str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let value = HeaderValue::from_str(content_type).unwrap_or(HeaderValue::from_static("text/plain"));
    response.headers_mut().insert(header::CONTENT_TYPE, value);
    response.headers_mut().insert(header::SERVER, HeaderValue::from_static("Seastar httpd"));
    response
}
