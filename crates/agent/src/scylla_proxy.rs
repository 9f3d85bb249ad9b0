//! Reverse proxy to Scylla (spec agent.md 3): everything that is not the agent's own goes to the node.
//!
//! There is no filter on paths or methods, and no time limit: load-and-stream may take hours. The caller's
//! token is dropped on the way. A client that leaves cancels its request, because the future is dropped.

use std::net::SocketAddr;

use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::response::{IntoResponse, Response};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Request, StatusCode, Uri};

use crate::upstream::Upstream;

/// Headers that belong to one connection (RFC 9110, 7.6.1) and the older names seen in the wild.
const HOP_BY_HOP: [&str; 9] = [
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Where requests go.
pub struct Proxy {
    upstream: Upstream,
    /// Base URL of the REST API.
    api: String,
    /// Base URL of Scylla's metrics.
    metrics: String,
}

impl Proxy {
    /// A proxy to the REST API at `api` and the metrics at `metrics`, both without a trailing slash.
    pub fn new(upstream: Upstream, api: String, metrics: String) -> Self {
        Self { upstream, api, metrics }
    }

    /// Passes a request to the REST API.
    pub async fn to_api(&self, request: Request<Body>) -> Response {
        let path = request.uri().path_and_query().map_or("/", |p| p.as_str());
        let target = format!("{}{path}", self.api);
        self.forward(request, &target).await
    }

    /// Passes a request to `/metrics` of Scylla, with its query.
    pub async fn to_metrics(&self, request: Request<Body>) -> Response {
        let query = request.uri().query().map_or(String::new(), |q| format!("?{q}"));
        let target = format!("{}/metrics{query}", self.metrics);
        self.forward(request, &target).await
    }

    async fn forward(&self, mut request: Request<Body>, target: &str) -> Response {
        let uri = match target.parse::<Uri>() {
            Ok(uri) => uri,
            Err(error) => {
                tracing::error!(target, %error, "Request cannot be passed to Scylla");
                return StatusCode::BAD_GATEWAY.into_response();
            }
        };
        prepare(&mut request, uri);
        match self.upstream.send(request).await {
            Ok(mut response) => {
                drop_hop_by_hop(response.headers_mut());
                response
            }
            Err(error) => {
                let error = common::error::chain(&error);
                tracing::warn!(target, error, "Scylla does not answer");
                StatusCode::BAD_GATEWAY.into_response()
            }
        }
    }
}

fn prepare(request: &mut Request<Body>, target: Uri) {
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|p| p.0.ip().to_string());
    let headers = request.headers_mut();
    drop_hop_by_hop(headers);
    headers.remove(header::AUTHORIZATION);
    if let Some(host) = target.authority().and_then(|a| HeaderValue::from_str(a.as_str()).ok()) {
        headers.insert(header::HOST, host);
    }
    if let Some(value) = peer.and_then(|peer| forwarded_for(headers, &peer)) {
        headers.insert("x-forwarded-for", value);
    }
    *request.uri_mut() = target;
    *request.version_mut() = http::Version::HTTP_11;
}

/// The chain of clients with ours at its end.
fn forwarded_for(headers: &HeaderMap, peer: &str) -> Option<HeaderValue> {
    let earlier = headers.get_all("x-forwarded-for").iter().filter_map(|v| v.to_str().ok());
    let chain: Vec<&str> = earlier.chain([peer]).collect();
    HeaderValue::from_str(&chain.join(", ")).ok()
}

fn drop_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|v| v.to_str().ok())
        .flat_map(|v| v.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named {
        headers.remove(name);
    }
    for name in HOP_BY_HOP {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let parse = |(n, v): &(&str, &str)| (n.parse::<HeaderName>().unwrap(), v.parse().unwrap());
        pairs.iter().map(parse).collect()
    }

    #[test]
    fn headers_of_the_connection_and_the_token_stay_here() {
        let mut request = Request::post("/x").body(Body::empty()).unwrap();
        *request.headers_mut() = headers(&[
            ("connection", "close, X-Secret"),
            ("x-secret", "1"),
            ("te", "trailers"),
            ("transfer-encoding", "chunked"),
            ("authorization", "Bearer t"),
            ("host", "agent:10001"),
            ("accept", "*/*"),
            ("x-forwarded-for", "1.1.1.1"),
        ]);
        request.extensions_mut().insert(ConnectInfo::<SocketAddr>("10.0.0.9:1234".parse().unwrap()));
        prepare(&mut request, "http://127.0.0.1:10000/x".parse().unwrap());
        let expected = headers(&[
            ("host", "127.0.0.1:10000"),
            ("accept", "*/*"),
            ("x-forwarded-for", "1.1.1.1, 10.0.0.9"),
        ]);
        assert_eq!(*request.headers(), expected);
    }
}
