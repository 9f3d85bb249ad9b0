//! AWS as one node sees it: a metadata service of version 2, a container's endpoint, and a proxy behind which STS and S3
//! answer to their real names. Whoever does not go by the rules of these services gets nothing.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, put};
use axum::{Router, middleware};
use http::{HeaderMap, Method, StatusCode};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use testbed::s3::{Credentials, S3Config, S3Server};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tower::ServiceExt as _;

/// Name of a bucket with a dot: AWS addresses it by path over https, as our server does.
pub const BUCKET: &str = "my.backups";
/// The region of the machine.
pub const REGION: &str = "eu-west-3";
/// Secret of every key pair here; it must never be printed.
pub const SECRET: &str = "0123456789abcdefghijABCDEFGHIJ0123456789";
/// Session token of every temporary key pair here; nor this.
pub const SESSION: &str = "c2Vzc2lvbi10b2tlbg";
/// What a container shows its endpoint.
pub const CONTAINER_TOKEN: &str = "container-token";
/// What a pod shows STS.
pub const WEB_TOKEN: &str = "web.identity.token";
/// The role that it wants.
pub const WEB_ROLE: &str = "arn:aws:iam::123456789012:role/pod-role";
/// Who STS says we are.
pub const CALLER: &str = "arn:aws:sts::123456789012:assumed-role/backup-role/i-0123456789";

const METADATA_TOKEN: &str = "metadata-token";

/// What arrived, as far as a test asks for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Hosts that the proxy was asked for.
    pub tunnels: Vec<String>,
    /// Paths at metadata service and container endpoint.
    pub metadata: Vec<String>,
    /// Scope of the signature of each request to S3: `<key ID>/<date>/<region>/s3/aws4_request`.
    pub scopes: Vec<String>,
    /// Their session tokens.
    pub sessions: Vec<String>,
}

type Record = Arc<Mutex<Seen>>;

/// The fake; dropping it closes everything.
pub struct Aws {
    pub s3: S3Server,
    pub metadata: SocketAddr,
    pub proxy: SocketAddr,
    seen: Record,
    _tasks: JoinSet<()>,
}

impl Aws {
    /// Starts everything for one key ID, the only one that S3 accepts.
    pub async fn start(key_id: &str) -> Self {
        let credentials = Credentials { access_key: key_id.to_owned(), secret_key: SECRET.to_owned() };
        let config = S3Config { credentials, buckets: vec![BUCKET.to_owned()], ..S3Config::default() };
        let s3 = S3Server::start(config).await.unwrap();
        let seen = Record::default();
        let (metadata, proxy) = (listen().await, listen().await);
        let addresses = (metadata.local_addr().unwrap(), proxy.local_addr().unwrap());
        let mut tasks = JoinSet::new();
        let router = metadata_router(key_id, seen.clone());
        tasks.spawn(async move { axum_serve(metadata, router).await });
        let behind = Behind { key_id: key_id.to_owned(), s3: s3.address, seen: seen.clone() };
        tasks.spawn(serve_proxy(proxy, behind));
        Self { s3, metadata: addresses.0, proxy: addresses.1, seen, _tasks: tasks }
    }

    pub fn seen(&self) -> Seen {
        self.seen.lock().unwrap().clone()
    }
}

async fn listen() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.unwrap()
}

fn note(seen: &Record, what: impl FnOnce(&mut Seen)) {
    what(&mut seen.lock().unwrap_or_else(PoisonError::into_inner));
}

async fn axum_serve(listener: TcpListener, router: Router) {
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let service = TowerToHyperService::new(
            router.clone().map_request(|r: http::Request<Incoming>| r.map(Body::new)),
        );
        connections.spawn(async move {
            // A client that leaves is no failure of the server.
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

fn temporary(key_id: &str) -> String {
    let until = (chrono::Utc::now() + chrono::TimeDelta::hours(6)).format("%Y-%m-%dT%H:%M:%SZ");
    serde_json::json!({
        "Code": "Success", "Type": "AWS-HMAC", "LastUpdated": "2026-01-01T00:00:00Z", "AccessKeyId": key_id,
        "SecretAccessKey": SECRET, "Token": SESSION, "Expiration": until.to_string(),
    })
    .to_string()
}

/// Version 2 of the metadata service, which gives nothing without a token, and a container's endpoint.
fn metadata_router(key_id: &str, seen: Record) -> Router {
    let (machine, container) = (temporary(key_id), temporary(key_id));
    let with_token = |headers: &HeaderMap, name: &str, token: &str, text: String| {
        let shown = headers.get(name).is_some_and(|value| value == token);
        if shown { text.into_response() } else { StatusCode::UNAUTHORIZED.into_response() }
    };
    let token = move |headers: HeaderMap| async move {
        let ttl = headers.contains_key("x-aws-ec2-metadata-token-ttl-seconds");
        let answer = [("x-aws-ec2-metadata-token-ttl-seconds", "21600")];
        if ttl { (answer, METADATA_TOKEN).into_response() } else { StatusCode::BAD_REQUEST.into_response() }
    };
    let imds = move |text: String| {
        get(move |headers: HeaderMap| async move {
            with_token(&headers, "x-aws-ec2-metadata-token", METADATA_TOKEN, text)
        })
    };
    let identity = format!(r#"{{"region":"{REGION}","instanceType":"i4i.large"}}"#);
    let record = middleware::from_fn(move |request: Request, next: middleware::Next| {
        note(&seen, |seen| seen.metadata.push(format!("{} {}", request.method(), request.uri().path())));
        next.run(request)
    });
    Router::new()
        .route("/latest/api/token", put(token))
        .route("/latest/dynamic/instance-identity/document", imds(identity))
        .route("/latest/meta-data/iam/security-credentials/", imds("backup-role".to_owned()))
        .route("/latest/meta-data/iam/security-credentials/backup-role", imds(machine))
        .route(
            "/container",
            get(move |headers: HeaderMap| async move {
                with_token(&headers, "authorization", CONTAINER_TOKEN, container)
            }),
        )
        .layer(record)
}

/// What is reached through the proxy.
#[derive(Clone)]
struct Behind {
    key_id: String,
    s3: SocketAddr,
    seen: Record,
}

/// Takes CONNECT and speaks TLS as whoever was asked for.
async fn serve_proxy(listener: TcpListener, behind: Behind) {
    common::tls::install_provider();
    let made = rcgen::generate_simple_self_signed(["aws.example".to_owned()]).unwrap();
    let key = made.signing_key.serialize_der().try_into().unwrap();
    let config = ServerConfig::builder().with_no_client_auth();
    let config = config.with_single_cert(vec![made.cert.der().clone()], key).unwrap();
    let tls = TlsAcceptor::from(Arc::new(config));
    let mut tunnels = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let (tls, behind) = (tls.clone(), behind.clone());
        tunnels.spawn(async move {
            // Whoever leaves early has no answer to miss.
            let _ = tunnel(stream, tls, behind).await;
        });
    }
}

async fn tunnel(mut stream: TcpStream, tls: TlsAcceptor, behind: Behind) -> anyhow::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    let head = String::from_utf8(head)?;
    let mut words = head.split(' ');
    let host = match (words.next(), words.next()) {
        (Some("CONNECT"), Some(authority)) => authority.to_owned(),
        // A plain request to the proxy: nothing here is meant to make one.
        (method, target) => format!("{method:?} {target:?}"),
    };
    note(&behind.seen, |seen| seen.tunnels.push(host.clone()));
    stream.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await?;
    let stream = tls.accept(stream).await?;
    let service = service_fn(move |request| {
        let (behind, host) = (behind.clone(), host.clone());
        async move { Ok::<_, Infallible>(behind.answer(&host, request).await) }
    });
    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await?;
    Ok(())
}

impl Behind {
    async fn answer(&self, host: &str, request: http::Request<Incoming>) -> Response {
        let sts = format!("sts.{REGION}.amazonaws.com:443");
        let s3 = format!("s3.{REGION}.amazonaws.com:443");
        if host == sts {
            self.sts(request).await
        } else if host == s3 {
            self.s3(request).await
        } else {
            (StatusCode::BAD_GATEWAY, format!("no host {host} here")).into_response()
        }
    }

    async fn s3(&self, request: http::Request<Incoming>) -> Response {
        let text = |name: &str| request.headers().get(name).and_then(|v| v.to_str().ok()).unwrap_or_default();
        let scope = text("authorization").split("Credential=").nth(1).unwrap_or_default();
        let scope = scope.split(',').next().unwrap_or_default().to_owned();
        let session = text("x-amz-security-token").to_owned();
        note(&self.seen, |seen| {
            seen.scopes.push(scope);
            seen.sessions.push(session);
        });
        let passed = async {
            let stream = TokioIo::new(TcpStream::connect(self.s3).await?);
            let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await?;
            let exchange = async {
                let answer = sender.send_request(request).await?;
                let (head, body) = answer.into_parts();
                let body = axum::body::to_bytes(Body::new(body), 1 << 20).await?;
                anyhow::Ok(http::Response::from_parts(head, Body::from(body)))
            };
            tokio::select! {
                answer = exchange => answer,
                ended = connection => Err(ended.err().map_or(anyhow::anyhow!("closed"), Into::into)),
            }
        };
        passed.await.unwrap_or_else(|error| (StatusCode::BAD_GATEWAY, error.to_string()).into_response())
    }

    async fn sts(&self, request: http::Request<Incoming>) -> Response {
        let key_id = format!("Credential={}/", self.key_id);
        let signed =
            request.headers().get("authorization").is_some_and(|v| v.to_str().unwrap().contains(&key_id));
        let post = request.method() == Method::POST;
        let body = axum::body::to_bytes(Body::new(request.into_body()), 1 << 20).await.unwrap();
        let body = String::from_utf8_lossy(&body).into_owned();
        let has = |pair: &str| body.split('&').any(|p| p == pair);
        let role = format!("RoleArn={}", WEB_ROLE.replace(':', "%3A").replace('/', "%2F"));
        if post && has("Action=GetCallerIdentity") && signed {
            return xml("GetCallerIdentity", &format!("<Arn>{CALLER}</Arn><Account>123456789012</Account>"));
        }
        if post
            && has("Action=AssumeRoleWithWebIdentity")
            && has(&role)
            && has(&format!("WebIdentityToken={WEB_TOKEN}"))
        {
            let until = (chrono::Utc::now() + chrono::TimeDelta::hours(1)).format("%Y-%m-%dT%H:%M:%SZ");
            let credentials = format!(
                "<Credentials><AccessKeyId>{}</AccessKeyId><SecretAccessKey>{SECRET}</SecretAccessKey>\
                 <SessionToken>{SESSION}</SessionToken><Expiration>{until}</Expiration></Credentials>",
                self.key_id
            );
            return xml("AssumeRoleWithWebIdentity", &credentials);
        }
        let refusal = "<ErrorResponse><Error><Type>Sender</Type><Code>AccessDenied</Code>\
                       <Message>Not authorized to perform sts:AssumeRoleWithWebIdentity</Message></Error></ErrorResponse>";
        (StatusCode::FORBIDDEN, [("content-type", "text/xml")], refusal).into_response()
    }
}

fn xml(action: &str, result: &str) -> Response {
    let text = format!("<{action}Response><{action}Result>{result}</{action}Result></{action}Response>");
    ([("content-type", "text/xml")], text).into_response()
}
