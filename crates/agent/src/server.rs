//! Routes of the agent's API (spec agent.md 2): its own calls, the engine's, and everything else to Scylla.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, MethodRouter, any, on};
use common::api::agent::PinnedCpus;
use http::{HeaderValue, Method, Request, StatusCode, header};
use serde::Serialize;
use serde_json::json;

use crate::agent::AgentState;
use crate::{debug, rclone, request_log};

#[cfg(test)]
mod tests;

type Shared = Arc<AgentState>;

/// The complete API.
pub fn router(state: Shared) -> Router {
    let engine = any(rclone::handle).with_state(state.rclone.clone());
    let guarded = Router::new()
        .route("/agent/node_info", only(&[Method::GET], node_info))
        .route("/agent/pin_cpu", only(&[Method::GET, Method::POST, Method::DELETE], pin_cpu))
        .route("/agent/terminate", only(&[Method::POST], terminate))
        .route("/agent/free_os_memory", only(&[Method::POST], free_os_memory))
        .route("/agent/cloud/metadata", only(&[Method::GET], cloud_metadata))
        .route("/agent/rclone/", engine.clone())
        .route("/agent/rclone/{*call}", engine)
        .route("/metrics", any(scylla_metrics))
        .route("/metrics/{*rest}", any(scylla_metrics))
        .fallback(scylla_api)
        .layer(middleware::from_fn_with_state(state.clone(), authenticate));
    guarded
        .route("/ping", only(&[Method::GET], ping))
        .route("/version", only(&[Method::GET], version))
        .with_state(state.clone())
        .layer(middleware::from_fn_with_state(state.metrics.clone(), request_log::record))
}

/// Router of the diagnosis port.
pub fn debug_router() -> Router {
    debug::router()
}

/// Routes `methods` to `handler` and answers 405 with an empty body and `Allow` to all others. A GET route does
/// not answer HEAD.
fn only<H, T>(methods: &[Method], handler: H) -> MethodRouter<Shared>
where
    H: axum::handler::Handler<T, Shared> + Clone,
    T: 'static,
{
    let names: Vec<&str> = methods.iter().map(Method::as_str).collect();
    let allow = HeaderValue::from_str(&names.join(", ")).unwrap_or(HeaderValue::from_static(""));
    let refuse = move || {
        let allow = allow.clone();
        async move { (StatusCode::METHOD_NOT_ALLOWED, [(header::ALLOW, allow)]) }
    };
    let mut route = MethodRouter::new().fallback(refuse.clone());
    for method in methods {
        let filter = match *method {
            Method::GET => MethodFilter::GET,
            Method::POST => MethodFilter::POST,
            _ => MethodFilter::DELETE,
        };
        route = route.merge(on(filter, handler.clone()));
    }
    // Otherwise the framework answers HEAD by way of GET.
    route.on(MethodFilter::HEAD, refuse)
}

async fn authenticate(State(state): State<Shared>, request: Request<Body>, next: Next) -> Response {
    match state.auth.check(request.headers()).await {
        Ok(()) => next.run(request).await,
        Err(refusal) => refusal,
    }
}

async fn ping() -> StatusCode {
    StatusCode::NO_CONTENT
}

async fn version() -> Response {
    json_reply(&json!({ "version": common::version::VERSION }))
}

async fn node_info(State(state): State<Shared>) -> Response {
    match crate::node_info::collect(&state.config, &state.api).await {
        Ok(info) => json_reply(&info),
        Err(error) => failure("Node info cannot be collected", &error),
    }
}

async fn pin_cpu(State(state): State<Shared>, method: Method) -> Response {
    let outcome = match method {
        Method::POST => match state.cpu.pin() {
            Err(error) if error.is_unconfigured() => {
                tracing::info!(reason = common::error::chain(&error), "Not pinned to CPUs");
                Ok(StatusCode::OK.into_response())
            }
            outcome => outcome.map(|()| StatusCode::OK.into_response()),
        },
        Method::DELETE => state.cpu.unpin().map(|()| StatusCode::OK.into_response()),
        _ => {
            let cpus = state.cpu.pinned();
            cpus.map(|cpus| json_reply(&PinnedCpus { cpu: cpus.into_iter().collect() }))
        }
    };
    outcome.unwrap_or_else(|error| failure("CPU pinning failed", &error))
}

/// Ends the agent as a signal would; the service manager starts it again only after a failure.
async fn terminate(State(state): State<Shared>) -> StatusCode {
    tracing::info!("Terminated by request");
    state.stop.cancel();
    StatusCode::OK
}

async fn free_os_memory(State(state): State<Shared>) -> StatusCode {
    state.rclone.engine.free_memory();
    StatusCode::OK
}

async fn cloud_metadata(State(state): State<Shared>) -> Response {
    json_reply(&state.cloud.metadata().await)
}

async fn scylla_api(State(state): State<Shared>, request: Request<Body>) -> Response {
    state.proxy.to_api(request).await
}

async fn scylla_metrics(State(state): State<Shared>, request: Request<Body>) -> Response {
    state.proxy.to_metrics(request).await
}

fn json_reply(value: &impl Serialize) -> Response {
    match serde_json::to_vec(value) {
        Ok(mut body) => {
            body.push(b'\n');
            ([(header::CONTENT_TYPE, "application/json")], body).into_response()
        }
        Err(error) => failure("Answer cannot be encoded", &error),
    }
}

/// A failure of a call of the agent itself (spec agent.md 2.2).
fn failure(what: &'static str, error: &(dyn std::error::Error + 'static)) -> Response {
    let error = common::error::chain(error);
    tracing::error!(error, "{what}");
    let message = format!("unexpected error, consult logs: {error}");
    let body = json!({"message": message, "details": "", "trace_id": ""});
    let kind = [(header::CONTENT_TYPE, "application/json")];
    (StatusCode::INTERNAL_SERVER_ERROR, kind, format!("{body}\n")).into_response()
}
