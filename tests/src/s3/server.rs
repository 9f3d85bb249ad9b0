//! The server on its socket: accepts, counts, applies faults, and hands the rest to the protocol.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::rt::{Read, Write};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s::{Body, HttpError};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;

use super::backend::Backend;
use super::blob::Storage;
use super::counters::Counters;
use super::faults::{Fault, Faults};
use super::metered::Metered;
use super::relay::Upstream;
use super::request::{Target, target};
use super::store::{Quirks, Store};

/// Bodies up to this many bytes are read before an error is answered, so that the client sees the answer and not a reset.
const DRAIN: usize = 16 * 1024 * 1024;

/// The key pair that requests must be signed with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// Access key ID.
    pub access_key: String,
    /// Secret access key.
    pub secret_key: String,
}

impl Default for Credentials {
    fn default() -> Self {
        Self { access_key: "testbed-access-key".into(), secret_key: "testbed-secret-key".into() }
    }
}

/// How a server is started.
#[derive(Clone, Debug)]
pub struct S3Config {
    /// Address to listen on; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The only key pair accepted.
    pub credentials: Credentials,
    /// Buckets that exist from the start.
    pub buckets: Vec<String>,
    /// Where bodies go.
    pub storage: Storage,
    /// Differences from AWS.
    pub quirks: Quirks,
    /// Speak HTTPS with a certificate made for this server; see [`S3Server::certificate`].
    pub tls: bool,
}

impl Default for S3Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            credentials: Credentials::default(),
            buckets: vec!["backups".into()],
            storage: Storage::Memory,
            quirks: Quirks::default(),
            tls: false,
        }
    }
}

/// A running server; dropping it closes the socket and every connection.
pub struct S3Server {
    /// Address it listens on.
    pub address: SocketAddr,
    /// Key pair it accepts.
    pub credentials: Credentials,
    /// Its buckets.
    pub store: Arc<Store>,
    /// Its fault rules.
    pub faults: Faults,
    /// Its counters.
    pub counters: Counters,
    /// The certificate that clients must trust, in PEM; absent without TLS.
    pub certificate: Option<String>,
    tasks: JoinSet<()>,
}

impl S3Server {
    /// Starts a server.
    ///
    /// # Errors
    /// The address cannot be bound.
    pub async fn start(config: S3Config) -> io::Result<Self> {
        let listener = TcpListener::bind(config.listen).await?;
        let address = listener.local_addr()?;
        let store = Arc::new(Store::new(config.storage, config.quirks, config.buckets));
        let mut builder = S3ServiceBuilder::new(Backend { store: store.clone() });
        builder.set_auth(SimpleAuth::from_single(
            config.credentials.access_key.clone(),
            config.credentials.secret_key.clone(),
        ));
        let front = Front::new(Protocol::Own(builder.build()));
        let (faults, counters) = (front.faults.clone(), front.counters.clone());
        let tls = if config.tls { Some(Tls::for_address(address)?) } else { None };
        let (acceptor, certificate) = tls.map(|tls| (tls.acceptor, tls.certificate)).unzip();
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, acceptor, front));
        Ok(Self { address, credentials: config.credentials, store, faults, counters, certificate, tasks })
    }

    /// Base URL for clients.
    #[must_use]
    pub fn endpoint(&self) -> String {
        let scheme = if self.certificate.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    /// Closes the socket and every connection.
    pub async fn stop(mut self) {
        self.tasks.shutdown().await;
    }
}

/// A certificate for one address, and what serves it.
struct Tls {
    acceptor: TlsAcceptor,
    certificate: String,
}

impl Tls {
    fn for_address(address: SocketAddr) -> io::Result<Self> {
        common::tls::install_provider();
        let made =
            rcgen::generate_simple_self_signed([address.ip().to_string()]).map_err(io::Error::other)?;
        let key = made.signing_key.serialize_der().try_into().map_err(io::Error::other)?;
        let config = ServerConfig::builder().with_no_client_auth();
        let config = config.with_single_cert(vec![made.cert.der().clone()], key).map_err(io::Error::other)?;
        Ok(Self { acceptor: TlsAcceptor::from(Arc::new(config)), certificate: made.cert.pem() })
    }
}

/// Serves connections until the task is dropped, and they with it.
pub(super) async fn accept(listener: TcpListener, tls: Option<TlsAcceptor>, front: Front) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(open(stream, tls.clone(), front.clone()));
                }
                // Out of file descriptors and the like: the next accept will tell.
                Err(error) => {
                    tracing::warn!(%error, "S3 server cannot accept a connection");
                    tokio::task::yield_now().await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn open(stream: TcpStream, tls: Option<TlsAcceptor>, front: Front) {
    // Without it small answers wait for an acknowledgement; a socket that refuses is served all the same.
    let _ = stream.set_nodelay(true);
    match tls {
        None => serve(TokioIo::new(stream), front).await,
        // A client that does not trust the certificate ends the handshake: that is its answer.
        Some(tls) => match tls.accept(stream).await {
            Ok(stream) => serve(TokioIo::new(stream), front).await,
            Err(error) => tracing::debug!(%error, "TLS handshake with the S3 server failed"),
        },
    }
}

async fn serve(io: impl Read + Write + Unpin + Send + 'static, front: Front) {
    let service = service_fn(move |request| front.clone().answer(request));
    let connection = hyper::server::conn::http1::Builder::new().serve_connection(io, service);
    // An error here is a client that left or a fault rule that cut the line; both are expected.
    let _ = connection.await;
}

/// What answers the requests that no fault rule has answered.
#[derive(Clone)]
pub(super) enum Protocol {
    /// Our own backend.
    Own(S3Service),
    /// Somebody else's server.
    Upstream(Arc<Upstream>),
}

impl Protocol {
    async fn call(&self, request: Request<Body>) -> Result<Response<Body>, HttpError> {
        match self {
            Self::Own(service) => service.call(request).await,
            Self::Upstream(upstream) => upstream.call(request).await,
        }
    }
}

#[derive(Clone)]
pub(super) struct Front {
    protocol: Protocol,
    pub(super) faults: Faults,
    pub(super) counters: Counters,
}

/// Faults of one request, sorted by the place where they act.
#[derive(Default)]
struct Plan {
    status: Option<(u16, &'static str, Option<u32>)>,
    reset: bool,
    cut_request: Option<u64>,
    cut_reply: Option<u64>,
    lost_reply: bool,
    forget: bool,
    throttle: Option<u64>,
    delay_reply: Vec<std::time::Duration>,
}

impl Plan {
    /// Waits out what comes before the request is served and notes the rest.
    async fn prepare(faults: Vec<Fault>) -> Self {
        let mut plan = Self::default();
        for fault in faults {
            match fault {
                Fault::Status { status, code, retry_after } => {
                    plan.status = Some((status, code, retry_after))
                }
                Fault::Delay(time) => tokio::time::sleep(time).await,
                Fault::DelayReply(time) => plan.delay_reply.push(time),
                Fault::Reset => plan.reset = true,
                Fault::CutRequest(bytes) => plan.cut_request = Some(bytes),
                Fault::CutReply(bytes) => plan.cut_reply = Some(bytes),
                Fault::LostReply => plan.lost_reply = true,
                Fault::Forget => plan.forget = true,
                Fault::Throttle(rate) => plan.throttle = Some(rate),
                Fault::Hold(gate) => gate.pass().await,
            }
        }
        plan
    }
}

impl Front {
    pub(super) fn new(protocol: Protocol) -> Self {
        Self { protocol, faults: Faults::default(), counters: Counters::new() }
    }

    async fn answer(self, request: Request<Incoming>) -> Result<Response<Body>, HttpError> {
        let target = target(request.method(), request.uri(), request.headers());
        let began = self.counters.arrived(target.kind);
        let result = self.serve(request, &target).await;
        let status = result.as_ref().map_or(0, |response| response.status().as_u16());
        self.counters.answered(target, began, status);
        result
    }

    async fn serve(&self, request: Request<Incoming>, target: &Target) -> Result<Response<Body>, HttpError> {
        let plan = Plan::prepare(self.faults.for_request(target)).await;
        if plan.reset {
            return Err(cut());
        }
        if plan.status.is_some() || plan.forget {
            // Best effort: a body that is too large or broken ends the connection instead.
            let (counters, target) = (self.counters.clone(), target.clone());
            let body = Metered::new(request.into_body(), move |bytes| counters.received(&target, bytes));
            let _ = Limited::new(body, DRAIN).collect().await;
            return Ok(plan.status.map_or_else(stored_reply, error_reply));
        }
        let (request, broken) = self.meter(request, target, &plan);
        let response = self.protocol.call(request).await?;
        for time in &plan.delay_reply {
            tokio::time::sleep(*time).await;
        }
        if plan.lost_reply || broken.load(Ordering::Relaxed) {
            return Err(cut());
        }
        Ok(match plan.cut_reply {
            Some(bytes) => {
                response.map(|body| Body::http_body_unsync(Metered::new(body, |_| {}).cut_after(Some(bytes))))
            }
            None => response,
        })
    }

    /// Wraps the body; the flag tells whether it was cut on the way.
    fn meter(
        &self,
        request: Request<Incoming>,
        target: &Target,
        plan: &Plan,
    ) -> (Request<Body>, Arc<AtomicBool>) {
        let broken = Arc::new(AtomicBool::new(false));
        let (counters, target) = (self.counters.clone(), target.clone());
        let (flag, mut left) = (broken.clone(), plan.cut_request);
        let observe = move |bytes| {
            counters.received(&target, bytes);
            if let Some(left) = &mut left {
                *left = left.saturating_sub(bytes);
                flag.store(*left == 0, Ordering::Relaxed);
            }
        };
        let (cut_after, rate) = (plan.cut_request, plan.throttle);
        (
            request.map(|body| {
                Body::http_body_unsync(Metered::new(body, observe).cut_after(cut_after).throttled(rate))
            }),
            broken,
        )
    }
}

/// hyper ends the connection when the service fails.
fn cut() -> HttpError {
    HttpError::new(Box::new(io::Error::new(io::ErrorKind::ConnectionReset, "cut by a fault rule")))
}

/// As for any object that was stored.
fn stored_reply() -> Response<Body> {
    let mut response = Response::new(Body::empty());
    let etag = HeaderValue::from_static("\"d41d8cd98f00b204e9800998ecf8427e\"");
    response.headers_mut().insert(header::ETAG, etag);
    response
}

fn error_reply((status, code, retry_after): (u16, &'static str, Option<u32>)) -> Response<Body> {
    let xml = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>{code} by a fault rule</Message>\
         <RequestId>testbed</RequestId></Error>"
    );
    let body = Full::new(Bytes::from(xml)).map_err(|never: Infallible| match never {});
    let mut response = Response::new(
        Body::http_body::<http_body_util::combinators::BoxBody<Bytes, io::Error>>(body.boxed()),
    );
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/xml"));
    if let Some(seconds) = retry_after {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}
