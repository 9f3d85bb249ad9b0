//! The ID that ties an answer to the log lines of its request, and the access log.

use axum::extract::{ConnectInfo, Request};
use axum::middleware::Next;
use axum::response::Response;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use std::net::SocketAddr;
use tokio::time::Instant;
use tracing::Instrument;
use uuid::Uuid;

tokio::task_local! {
    static TRACE_ID: String;
}

/// An error in the extensions of its answer, for the access log: handlers do not log their errors themselves.
#[derive(Clone)]
pub(super) struct LoggedError(pub String);

/// The trace ID of the request that is being answered; a fresh one outside of any.
pub fn current() -> String {
    TRACE_ID.try_with(Clone::clone).unwrap_or_else(|_| fresh())
}

/// 16 random bytes with the layout of a UUID v4, URL-safe base64 without padding: 22 characters.
fn fresh() -> String {
    URL_SAFE_NO_PAD.encode(Uuid::new_v4().as_bytes())
}

/// Gives each request its trace ID and a span, and writes one line when it is answered.
pub(super) async fn layer(request: Request, next: Next) -> Response {
    let id = fresh();
    let span = tracing::info_span!("request", _trace_id = %id);
    TRACE_ID.scope(id, answer(request, next).instrument(span)).await
}

async fn answer(request: Request, next: Next) -> Response {
    let (method, uri) = (request.method().clone(), request.uri().clone());
    let remote = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|c| c.0.to_string());
    let remote = remote.unwrap_or_default();
    let begin = Instant::now();
    let response = next.run(request).await;
    let status = response.status().as_u16();
    let bytes = http_body::Body::size_hint(response.body()).exact().unwrap_or(0);
    let duration_ms = u64::try_from(begin.elapsed().as_millis()).unwrap_or(u64::MAX);
    match response.extensions().get::<LoggedError>() {
        Some(LoggedError(error)) if status >= 500 => {
            tracing::error!(%method, %uri, remote, status, bytes, duration_ms, error, "Request failed");
        }
        Some(LoggedError(error)) => {
            tracing::info!(%method, %uri, remote, status, bytes, duration_ms, error, "Request refused");
        }
        None => tracing::info!(%method, %uri, remote, status, bytes, duration_ms, "Request answered"),
    }
    response
}
