//! Sends requests to Scylla as they are: URI untouched, bodies streamed both ways, no time limit of its own.
//!
//! A general HTTP client would normalise paths and add headers; the reverse proxy must not.

use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use common::http_client::RouterLookup;
use futures::future::BoxFuture;
use http::{Request, Response, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::TlsConnector;
use tower::{Service, ServiceExt};

/// Limit for a TCP connection to the node itself; after that Scylla counts as down.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Idle connections close after this time, before Scylla's own limit.
const POOL_IDLE: Duration = Duration::from_secs(15);

/// A request that brought no answer.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    /// Refused, reset, or broken before the head of the answer.
    #[error("no answer from Scylla at {authority}")]
    Unreachable {
        /// Address and port of the API.
        authority: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The authority's certificate cannot be used.
    #[error("scylla.ca_file {path}: {reason}")]
    Authority {
        /// The PEM file.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// How requests travel to the node.
#[derive(Clone)]
pub enum Upstream {
    /// Over TCP, with TLS for https URIs.
    Network(Box<Client<Connector, Body>>),
    /// Into a router of this process; no router means "connection refused".
    InProcess(RouterLookup),
}

impl Upstream {
    /// Over the network. `ca_file` names the authority when the API is behind TLS.
    ///
    /// # Errors
    /// The authority cannot be read.
    pub fn network(ca_file: Option<&Path>) -> Result<Self, UpstreamError> {
        let mut http = HttpConnector::new();
        http.enforce_http(false);
        http.set_nodelay(true);
        http.set_connect_timeout(Some(CONNECT_TIMEOUT));
        let tls = ca_file.map(tls_connector).transpose()?;
        let client = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(POOL_IDLE)
            .pool_timer(hyper_util::rt::TokioTimer::new())
            .build(Connector { http, tls });
        Ok(Self::Network(Box::new(client)))
    }

    /// Sends one request. Dropping the returned future, or the body of the answer, cancels it.
    ///
    /// # Errors
    /// No answer.
    pub async fn send(&self, request: Request<Body>) -> Result<Response<Body>, UpstreamError> {
        let authority = request.uri().authority().map_or(String::new(), ToString::to_string);
        match self {
            Self::Network(client) => {
                let answer = client.request(request).await;
                answer
                    .map(|response| response.map(Body::new))
                    .map_err(|e| UpstreamError::Unreachable { authority, source: Box::new(e) })
            }
            Self::InProcess(lookup) => {
                let Some(router) = lookup(request.uri()) else {
                    let source = Box::new(io::Error::from(io::ErrorKind::ConnectionRefused));
                    return Err(UpstreamError::Unreachable { authority, source });
                };
                // A router answers every request; its error type has no values.
                let Ok(response) = router.oneshot(request).await;
                Ok(response)
            }
        }
    }
}

fn tls_connector(path: &Path) -> Result<TlsConnector, UpstreamError> {
    let failed = |reason: String| UpstreamError::Authority { path: path.display().to_string(), reason };
    common::tls::install_provider();
    let mut roots = rustls::RootCertStore::empty();
    for cert in CertificateDer::pem_file_iter(path).map_err(|e| failed(e.to_string()))? {
        let cert = cert.map_err(|e| failed(e.to_string()))?;
        roots.add(cert).map_err(|e| failed(e.to_string()))?;
    }
    let config = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

/// Opens connections, plain or TLS by the scheme of the URI.
#[derive(Clone)]
pub struct Connector {
    http: HttpConnector,
    tls: Option<TlsConnector>,
}

impl Service<Uri> for Connector {
    type Response = TokioIo<Stream>;
    type Error = Box<dyn std::error::Error + Send + Sync>;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.http.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let tls = self.tls.clone().filter(|_| uri.scheme_str() == Some("https"));
        let connecting = self.http.call(uri);
        Box::pin(async move {
            let tcp = connecting.await?.into_inner();
            let Some(tls) = tls else { return Ok(TokioIo::new(Stream(Box::new(tcp)))) };
            let name = ServerName::try_from(host)?;
            let secured = tokio::time::timeout(CONNECT_TIMEOUT, tls.connect(name, tcp)).await??;
            Ok(TokioIo::new(Stream(Box::new(secured))))
        })
    }
}

trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// A connection, plain or TLS.
pub struct Stream(Box<dyn Duplex>);

impl Connection for Stream {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
