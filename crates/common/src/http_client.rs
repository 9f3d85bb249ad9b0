//! HTTP client of `sctool` and of the manager: typed calls, raw calls, streams.
//!
//! It never retries; the caller owns the policy. Over [`Transport::InProcess`] a request goes straight into a
//! router, so that tests may run the whole system in one process with paused clocks.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use tower::ServiceExt;

use crate::api::{ApiError, Endpoint};
use crate::retry::Transient;

/// Everything but unreserved characters, so that any text is one path segment.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Bytes of an error body that are read at most.
const ERROR_BODY_LIMIT: usize = 64 * 1024;

/// A body that arrives piece by piece.
pub type ByteStream = BoxStream<'static, Result<Bytes, ClientError>>;

/// Finds the router that answers for an authority such as `127.0.0.11:10001`.
pub type RouterLookup = Arc<dyn Fn(&Uri) -> Option<Router> + Send + Sync>;

/// How requests travel.
#[derive(Clone)]
pub enum Transport {
    /// Over the network.
    Network(reqwest::Client),
    /// Into a router of this process; no router means "connection refused".
    InProcess(RouterLookup),
}

/// A call that brought no good answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No answer: refused, reset, unresolved.
    #[error("{method} {url}")]
    Connect {
        /// Method of the request.
        method: Method,
        /// URL without its query.
        url: String,
        /// Why not.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// No answer in time.
    #[error("{method} {url}: timeout after {timeout:?}")]
    Timeout {
        /// Method of the request.
        method: Method,
        /// URL without its query.
        url: String,
        /// The limit.
        timeout: Duration,
    },
    /// The body ended early or broke off.
    #[error("{method} {url}: answer broken off")]
    Body {
        /// Method of the request.
        method: Method,
        /// URL without its query.
        url: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The body is not what was agreed on.
    #[error("{method} {url}: answer not understood")]
    Decode {
        /// Method of the request.
        method: Method,
        /// URL without its query.
        url: String,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// The request could not be built: a URL or header that is not valid.
    #[error("{method} {url}: invalid request: {reason}")]
    Request {
        /// Method of the request.
        method: Method,
        /// URL without its query.
        url: String,
        /// Why.
        reason: String,
    },
    /// The other side answered with an error.
    #[error(transparent)]
    Api(#[from] ApiError),
}

impl ClientError {
    /// Status of an error answer; `None` when there was no answer.
    pub fn status(&self) -> Option<StatusCode> {
        match self {
            Self::Api(error) => Some(error.status),
            Self::Connect { .. }
            | Self::Timeout { .. }
            | Self::Body { .. }
            | Self::Decode { .. }
            | Self::Request { .. } => None,
        }
    }

    /// Whether the other side says that the thing does not exist.
    pub fn is_not_found(&self) -> bool {
        self.status() == Some(StatusCode::NOT_FOUND)
    }
}

impl Transient for ClientError {
    /// No answer, or a 5xx other than 501 (spec manager.md 5.1).
    fn is_transient(&self) -> bool {
        match self {
            Self::Connect { .. } | Self::Timeout { .. } | Self::Body { .. } => true,
            Self::Decode { .. } | Self::Request { .. } => false,
            Self::Api(e) => {
                (e.status.is_server_error() && e.status != StatusCode::NOT_IMPLEMENTED)
                    || e.status == StatusCode::TOO_MANY_REQUESTS
            }
        }
    }
}

/// A request before it is sent.
#[derive(Debug)]
pub struct Call {
    /// Method.
    pub method: Method,
    /// Complete URL with its query.
    pub url: String,
    /// Extra headers.
    pub headers: HeaderMap,
    /// Body.
    pub body: Bytes,
    /// Limit until the head of the answer is there; also for each piece of a body.
    pub timeout: Option<Duration>,
}

impl Call {
    /// A call without body and time limit.
    pub fn new(method: Method, url: impl Into<String>) -> Self {
        Self { method, url: url.into(), headers: HeaderMap::new(), body: Bytes::new(), timeout: None }
    }

    /// Adds a JSON body.
    pub fn json(mut self, body: Vec<u8>) -> Self {
        self.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        self.body = body.into();
        self
    }

    /// Sets the time limit.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    fn plain_url(&self) -> String {
        self.url.split('?').next().unwrap_or_default().to_owned()
    }
}

/// Sends requests; cheap to clone.
#[derive(Clone)]
pub struct HttpClient {
    transport: Transport,
    bearer: Option<HeaderValue>,
}

impl HttpClient {
    /// A client over a transport.
    pub fn new(transport: Transport) -> Self {
        Self { transport, bearer: None }
    }

    /// Adds `Authorization: Bearer <token>` to each request; an empty token adds nothing.
    ///
    /// # Errors
    /// The token has characters that no header can carry.
    pub fn with_bearer(mut self, token: &str) -> Result<Self, http::header::InvalidHeaderValue> {
        if !token.is_empty() {
            let mut value = HeaderValue::from_str(&format!("Bearer {token}"))?;
            value.set_sensitive(true);
            self.bearer = Some(value);
        }
        Ok(self)
    }

    /// Makes one typed call. `args` fill the braces of the path in order.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn call<E: Endpoint>(
        &self,
        base: &str,
        args: &[&str],
        query: &E::Query,
        body: Option<&E::Body>,
        timeout: Option<Duration>,
    ) -> Result<E::Reply, ClientError> {
        let mut call = endpoint_call::<E>(base, args, query, body)?;
        call.timeout = timeout;
        let (method, url) = (call.method.clone(), call.plain_url());
        let (_, bytes) = self.send(call).await?;
        decode(&method, &url, &bytes)
    }

    /// Makes a call and reads the whole answer. Error statuses become [`ClientError::Api`].
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn send(&self, call: Call) -> Result<(HeaderMap, Bytes), ClientError> {
        let (head, stream) = self.open(call).await?;
        let chunks: Vec<Bytes> = stream.try_collect().await?;
        let bytes = match <[Bytes; 1]>::try_from(chunks) {
            Ok([only]) => only,
            Err(chunks) => chunks.concat().into(),
        };
        Ok((head, bytes))
    }

    /// Makes a call and hands out the body as it arrives.
    ///
    /// # Errors
    /// No answer, or an error status; later ones come out of the stream.
    pub async fn open(&self, call: Call) -> Result<(HeaderMap, ByteStream), ClientError> {
        let (method, url, timeout) = (call.method.clone(), call.plain_url(), call.timeout);
        let response = within(timeout, &method, &url, self.dispatch(call)).await?;
        let (head, body) = response.into_parts();
        if head.status.is_success() {
            return Ok((head.headers, limited(body, timeout, method, url)));
        }
        let bytes = first_bytes(limited(body, timeout, method, url)).await;
        Err(ApiError::from_body(head.status, &bytes).into())
    }

    async fn dispatch(&self, mut call: Call) -> Result<Response<ByteStream>, ClientError> {
        if let Some(bearer) = &self.bearer {
            call.headers.insert(header::AUTHORIZATION, bearer.clone());
        }
        match &self.transport {
            Transport::Network(client) => over_network(client, call).await,
            Transport::InProcess(lookup) => in_process(lookup, call).await,
        }
    }
}

/// Builds the request of an endpoint.
///
/// # Errors
/// The query or the body cannot be serialised.
pub fn endpoint_call<E: Endpoint>(
    base: &str,
    args: &[&str],
    query: &E::Query,
    body: Option<&E::Body>,
) -> Result<Call, ClientError> {
    let mut url = format!("{}{}", base.trim_end_matches('/'), fill_path(E::PATH, args));
    let invalid =
        |url: &str, reason: String| ClientError::Request { method: E::METHOD, url: url.to_owned(), reason };
    let query = query_string(query).map_err(|e| invalid(&url, e.to_string()))?;
    let body = body.map(serde_json::to_vec).transpose().map_err(|e| invalid(&url, e.to_string()))?;
    if !query.is_empty() {
        url = format!("{url}?{query}");
    }
    let call = Call::new(E::METHOD, url);
    Ok(match body {
        Some(body) => call.json(body),
        None => call,
    })
}

/// Decodes an answer; an empty one counts as `null`.
///
/// # Errors
/// Not the JSON that was agreed on.
pub fn decode<T: serde::de::DeserializeOwned>(
    method: &Method,
    url: &str,
    bytes: &[u8],
) -> Result<T, ClientError> {
    let text = if bytes.is_empty() { b"null" } else { bytes };
    serde_json::from_slice(text).map_err(|source| ClientError::Decode {
        method: method.clone(),
        url: url.to_owned(),
        source,
    })
}

/// Percent-encodes a text as one path segment.
pub fn encode_segment(text: &str) -> String {
    utf8_percent_encode(text, SEGMENT).to_string()
}

fn fill_path(template: &str, args: &[&str]) -> String {
    let mut args = args.iter();
    let filled: Vec<String> = template
        .split('/')
        .map(|part| {
            if part.starts_with('{') {
                args.next().map_or(String::new(), |a| encode_segment(a))
            } else {
                part.to_owned()
            }
        })
        .collect();
    filled.join("/")
}

/// Turns a flat struct into a query string, leaving out `null`s.
fn query_string<Q: serde::Serialize>(query: &Q) -> Result<String, serde_json::Error> {
    let serde_json::Value::Object(map) = serde_json::to_value(query)? else { return Ok(String::new()) };
    let pairs = map.into_iter().filter_map(|(key, value)| {
        let text = match value {
            serde_json::Value::Null => return None,
            serde_json::Value::String(text) => text,
            other => other.to_string(),
        };
        Some(format!("{key}={}", encode_segment(&text)))
    });
    Ok(pairs.collect::<Vec<_>>().join("&"))
}

async fn within<T>(
    timeout: Option<Duration>,
    method: &Method,
    url: &str,
    work: impl Future<Output = Result<T, ClientError>>,
) -> Result<T, ClientError> {
    match timeout {
        None => work.await,
        Some(limit) => tokio::time::timeout(limit, work).await.unwrap_or_else(|_| {
            Err(ClientError::Timeout { method: method.clone(), url: url.to_owned(), timeout: limit })
        }),
    }
}

/// Puts the time limit on each piece of a body.
fn limited(body: ByteStream, timeout: Option<Duration>, method: Method, url: String) -> ByteStream {
    let Some(limit) = timeout else { return body };
    futures::stream::unfold(Some(body), move |state| {
        let (method, url) = (method.clone(), url.clone());
        async move {
            let mut body = state?;
            match tokio::time::timeout(limit, body.next()).await {
                Ok(None) => None,
                Ok(Some(Ok(bytes))) => Some((Ok(bytes), Some(body))),
                Ok(Some(Err(e))) => Some((Err(e), None)),
                Err(_) => Some((Err(ClientError::Timeout { method, url, timeout: limit }), None)),
            }
        }
    })
    .boxed()
}

async fn first_bytes(mut body: ByteStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    while let Some(Ok(chunk)) = body.next().await {
        let room = ERROR_BODY_LIMIT - bytes.len();
        bytes.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if bytes.len() == ERROR_BODY_LIMIT {
            break;
        }
    }
    bytes
}

async fn over_network(client: &reqwest::Client, call: Call) -> Result<Response<ByteStream>, ClientError> {
    let (method, url) = (call.method.clone(), call.plain_url());
    let answer = client
        .request(call.method, &call.url)
        .headers(call.headers)
        .body(call.body)
        .send()
        .await
        .map_err(|e| connect_error(method.clone(), url.clone(), e.without_url()))?;
    let mut response = Response::builder().status(answer.status());
    if let Some(headers) = response.headers_mut() {
        headers.clone_from(answer.headers());
    }
    let failed = {
        let (method, url) = (method.clone(), url.clone());
        move |e: reqwest::Error| ClientError::Body {
            method: method.clone(),
            url: url.clone(),
            source: Box::new(e.without_url()),
        }
    };
    let body = answer.bytes_stream().map_err(failed).boxed();
    response.body(body).map_err(|e| ClientError::Request { method, url, reason: e.to_string() })
}

fn connect_error(method: Method, url: String, error: reqwest::Error) -> ClientError {
    if error.is_builder() {
        return ClientError::Request { method, url, reason: crate::error::chain(&error) };
    }
    ClientError::Connect { method, url, source: Box::new(error) }
}

async fn in_process(lookup: &RouterLookup, call: Call) -> Result<Response<ByteStream>, ClientError> {
    let (method, url) = (call.method.clone(), call.plain_url());
    let mut request = Request::builder().method(call.method).uri(&call.url);
    if let Some(headers) = request.headers_mut() {
        *headers = call.headers;
    }
    let request = request.body(Body::from(call.body)).map_err(|e| ClientError::Request {
        method: method.clone(),
        url: url.clone(),
        reason: e.to_string(),
    })?;
    let Some(router) = lookup(request.uri()) else {
        let source = Box::new(std::io::Error::from(std::io::ErrorKind::ConnectionRefused));
        return Err(ClientError::Connect { method, url, source });
    };
    // A router answers every request; its error type has no values.
    let Ok(response) = router.oneshot(request).await;
    let failed = move |e: axum::Error| ClientError::Body {
        method: method.clone(),
        url: url.clone(),
        source: Box::new(e),
    };
    Ok(response.map(|body| body.into_data_stream().map_err(failed).boxed()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::manager::{GetTask, ListTasks, TaskListQuery};

    #[test]
    fn urls_are_built_from_template_arguments_and_query() {
        let query =
            TaskListQuery { task_type: Some("backup".into()), short: Some(true), ..Default::default() };
        let call = endpoint_call::<ListTasks>("http://x/api/v1/", &["a b/c"], &query, None).unwrap();
        assert_eq!(call.url, "http://x/api/v1/cluster/a%20b%2Fc/tasks?short=true&type=backup");
        let call = endpoint_call::<GetTask>("http://x", &["c", "backup", "id"], &(), None).unwrap();
        assert_eq!(call.url, "http://x/cluster/c/task/backup/id");
    }

    #[tokio::test]
    async fn in_process_calls_reach_the_router_and_errors_are_decoded() {
        let router =
            Router::new().route("/version", axum::routing::get(|| async { r#"{"version":"1"}"# })).fallback(
                || async { (StatusCode::NOT_FOUND, r#"{"message":"nope","details":"","trace_id":"t"}"#) },
            );
        let lookup: RouterLookup = Arc::new(move |uri| (uri.host() == Some("m")).then(|| router.clone()));
        let client = HttpClient::new(Transport::InProcess(lookup));
        let version =
            client.call::<crate::api::manager::GetVersion>("http://m", &[], &(), None, None).await.unwrap();
        assert_eq!(version.version, "1");
        let error = client.call::<GetTask>("http://m", &["a", "b", "c"], &(), None, None).await.unwrap_err();
        assert!(error.is_not_found() && !error.is_transient());
        let error =
            client.call::<GetTask>("http://other", &["a", "b", "c"], &(), None, None).await.unwrap_err();
        assert!(error.is_transient());
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_server_is_a_timeout() {
        let router = Router::new().fallback(|| async { std::future::pending::<()>().await });
        let client = HttpClient::new(Transport::InProcess(Arc::new(move |_| Some(router.clone()))));
        let call = Call::new(Method::GET, "http://m/x").timeout(Duration::from_secs(3));
        assert!(matches!(client.send(call).await, Err(ClientError::Timeout { .. })));
    }
}
