//! The HTTP client below the SDK: connection pool, request rate, user agent, and a count of every answer.
//!
//! The SDK's own client works as well, but hides the socket, and so costs a copy of every byte.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use common::tls::AcceptAnyCertificate;
use http::header::USER_AGENT;
use http::{HeaderValue, Request, Response};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::proxy::matcher::Matcher;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use super::connect::{Connector, Settings};
use crate::config::EngineConfig;
use crate::storage::StorageError;
use crate::transfer::rate_limit::RateLimiter;

/// Told host, method and status of every answer of a storage service; status 0 when none came.
pub type RequestObserver = Arc<dyn Fn(&str, &str, u16) + Send + Sync>;

/// Idle connections kept per host: those of a busy job, not those of a listing storm.
const MAX_IDLE: usize = 64;
/// How long an idle connection is kept. S3 closes its side after about the same time.
const IDLE: Duration = Duration::from_secs(20);

/// Client for the SDK.
#[derive(Clone)]
pub(super) struct StorageHttp(Arc<Inner>);

struct Inner {
    client: Client<Connector, SdkBody>,
    observer: RequestObserver,
    rate: RateLimiter,
    user_agent: HeaderValue,
}

impl fmt::Debug for StorageHttp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StorageHttp")
    }
}

impl StorageHttp {
    /// A client with the engine's time limits.
    pub(super) fn new(
        engine: &EngineConfig,
        tls: Arc<rustls::ClientConfig>,
        observer: RequestObserver,
        proxies: Matcher,
    ) -> Self {
        let connector = Connector::new(Settings {
            tls,
            connect_timeout: engine.connect_timeout,
            idle_timeout: engine.timeout,
            bind_addr: engine.bind_addr,
            proxies,
        });
        let client = Client::builder(TokioExecutor::new())
            .pool_max_idle_per_host(MAX_IDLE)
            .pool_idle_timeout(IDLE)
            .pool_timer(TokioTimer::new())
            .build(connector);
        let rate = (engine.tps_limit > 0.0).then(|| (engine.tps_limit as u64).max(1));
        let user_agent = HeaderValue::from_str(&engine.user_agent)
            .unwrap_or_else(|_| HeaderValue::from_static("Scylla Manager Agent"));
        Self(Arc::new(Inner { client, observer, rate: RateLimiter::filled(rate), user_agent }))
    }
}

/// Whom to trust: `ca_files` beside the system's authorities, or anybody.
///
/// # Errors
/// A CA file cannot be read.
pub(super) fn tls_config(
    accept_any: bool,
    ca_files: &[&std::path::Path],
) -> Result<rustls::ClientConfig, StorageError> {
    common::tls::install_provider();
    let builder = rustls::ClientConfig::builder();
    if accept_any {
        let verifier = AcceptAnyCertificate::new();
        return Ok(builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth());
    }
    let mut roots = RootCertStore::empty();
    let native = rustls_native_certs::load_native_certs();
    let (_, unreadable) = roots.add_parsable_certificates(native.certs);
    if unreadable > 0 || !native.errors.is_empty() {
        tracing::debug!(
            unreadable,
            errors = native.errors.len(),
            "some of the system's CA certificates were skipped"
        );
    }
    for file in ca_files {
        let bad = |reason: String| StorageError::Config {
            provider: "s3",
            reason: format!("CA file {}: {reason}", file.display()),
        };
        for certificate in CertificateDer::pem_file_iter(file).map_err(|e| bad(e.to_string()))? {
            roots.add(certificate.map_err(|e| bad(e.to_string()))?).map_err(|e| bad(e.to_string()))?;
        }
    }
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

impl HttpClient for StorageHttp {
    fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}

impl StorageHttp {
    /// Sends a request and waits for the head of the answer.
    pub(super) async fn request(
        &self,
        mut request: Request<SdkBody>,
    ) -> Result<Response<Incoming>, hyper_util::client::legacy::Error> {
        self.0.rate.acquire(1).await;
        request.headers_mut().insert(USER_AGENT, self.0.user_agent.clone());
        let method = request.method().clone();
        let host = request.uri().authority().cloned();
        let host = host.as_ref().map_or("", |a| a.as_str());
        let answer = self.0.client.request(request).await;
        let status = answer.as_ref().map_or(0, |answer| answer.status().as_u16());
        (self.0.observer)(host, method.as_str(), status);
        answer
    }
}

impl HttpConnector for StorageHttp {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let this = self.clone();
        HttpConnectorFuture::new(async move {
            let request = request.try_into_http1x().map_err(|e| ConnectorError::other(e.into(), None))?;
            let response = this.request(request).await.map_err(|e| ConnectorError::io(e.into()))?;
            HttpResponse::try_from(response.map(SdkBody::from_body_1_x))
                .map_err(|e| ConnectorError::other(e.into(), None))
        })
    }
}
