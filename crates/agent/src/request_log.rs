//! One log line and one count per request of the API, written when the answer has been sent or given up.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::extract::State;
use axum::middleware::Next;
use axum::response::Response;
use bytes::Bytes;
use http::{Request, StatusCode};
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::time::Instant;

use crate::metrics::Metrics;

/// Paths that are counted under their own name; all others go to Scylla and are counted together.
const TEMPLATES: [&str; 8] = [
    "/ping",
    "/version",
    "/metrics",
    "/agent/node_info",
    "/agent/pin_cpu",
    "/agent/terminate",
    "/agent/free_os_memory",
    "/agent/cloud/metadata",
];

/// Middleware: counts the request and logs it when its answer ends.
pub async fn record(State(metrics): State<Arc<Metrics>>, request: Request<Body>, next: Next) -> Response {
    let started = Instant::now();
    let peer =
        request.extensions().get::<ConnectInfo<SocketAddr>>().map_or(String::new(), |p| p.0.to_string());
    let request_line = format!("{} {}", request.method(), request.uri());
    let (method, path) = (request.method().clone(), template(request.uri().path()));
    let response = next.run(request).await;
    let status = response.status();
    metrics.count_request(method.as_str(), path, status);
    let line = Line { request_line, peer, status, bytes: 0, started };
    response.map(|body| Body::new(Recorded { body, line }))
}

/// A name for the path that takes few values, so that metrics stay bounded.
fn template(path: &str) -> &'static str {
    if let Some(call) = path.strip_prefix("/agent/rclone/") {
        return crate::rclone::call_path(call).unwrap_or("/agent/rclone/*");
    }
    TEMPLATES.into_iter().find(|t| *t == path).unwrap_or("/*")
}

/// Logged when it is dropped.
struct Line {
    request_line: String,
    peer: String,
    status: StatusCode,
    bytes: u64,
    started: Instant,
}

impl Drop for Line {
    fn drop(&mut self) {
        let (status, duration) = (self.status.as_u16(), self.started.elapsed());
        let duration = duration.min(Duration::from_secs(86_400 * 365)).as_secs_f64();
        let Self { request_line, peer, bytes, .. } = self;
        // "Not found" is an everyday answer here: managers ask for what may be gone.
        if status >= 400 && status != 404 {
            tracing::error!(request = request_line, peer, status, bytes, duration, "Request failed");
        } else {
            tracing::debug!(request = request_line, peer, status, bytes, duration, "Request served");
        }
    }
}

struct Recorded {
    body: Body,
    line: Line,
}

impl HttpBody for Recorded {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if let Some(Ok(data)) = frame.as_ref().map(|f| f.as_ref().map(Frame::data_ref)) {
            self.line.bytes += data.map_or(0, |d| d.len() as u64);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_counted_under_few_names() {
        for (path, name) in [
            ("/ping", "/ping"),
            ("/agent/node_info", "/agent/node_info"),
            ("/agent/rclone/operations/list", "/agent/rclone/operations/list"),
            ("/agent/rclone/rc/noop", "/agent/rclone/*"),
            ("/storage_service/keyspaces", "/*"),
            ("/agent/node_info/", "/*"),
        ] {
            assert_eq!(template(path), name);
        }
    }
}
