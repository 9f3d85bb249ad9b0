//! The fault layer in front of somebody else's S3 server: counts requests and makes them fail, and passes all others on
//! as they come. The server must know its clients' `Host` header, which is part of every signature, only from them.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use http::uri::{Authority, Scheme};
use http::{Request, Response, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use s3s::{Body, HttpError};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::counters::Counters;
use super::faults::Faults;
use super::server::{Front, Protocol, accept};

/// A running relay; dropping it closes the socket and every connection.
pub struct S3Relay {
    /// Address it listens on.
    pub address: SocketAddr,
    /// Its fault rules.
    pub faults: Faults,
    /// Its counters.
    pub counters: Counters,
    _tasks: JoinSet<()>,
}

impl S3Relay {
    /// Starts a relay on loopback to the server at `endpoint`, e.g. `http://127.0.0.1:7480`.
    ///
    /// # Errors
    /// The endpoint is not an address of plain HTTP, or no port is free.
    pub async fn start(endpoint: &str) -> io::Result<Self> {
        let upstream = Upstream::new(endpoint)?;
        let listener = TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let front = Front::new(Protocol::Upstream(Arc::new(upstream)));
        let (faults, counters) = (front.faults.clone(), front.counters.clone());
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, None, front));
        Ok(Self { address, faults, counters, _tasks: tasks })
    }

    /// Base URL for clients.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }
}

/// The server behind a relay.
pub(super) struct Upstream {
    authority: Authority,
    client: Client<HttpConnector, Body>,
}

impl Upstream {
    fn new(endpoint: &str) -> io::Result<Self> {
        let uri: Uri = endpoint.parse().map_err(io::Error::other)?;
        let authority = uri.authority().filter(|_| uri.scheme() == Some(&Scheme::HTTP)).cloned();
        let wrong = || io::Error::other(format!("{endpoint} is not an endpoint like http://127.0.0.1:7480"));
        // A connection for each request: one that the server closes meanwhile would look like a fault of it.
        let client = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build_http();
        Ok(Self { authority: authority.ok_or_else(wrong)?, client })
    }

    pub(super) async fn call(&self, mut request: Request<Body>) -> Result<Response<Body>, HttpError> {
        let path = request.uri().path_and_query().cloned();
        let uri = Uri::builder().scheme(Scheme::HTTP).authority(self.authority.clone());
        let failed =
            |error: &dyn std::fmt::Display| HttpError::new(Box::new(io::Error::other(error.to_string())));
        *request.uri_mut() = uri
            .path_and_query(path.map_or("/".to_owned(), |path| path.to_string()))
            .build()
            .map_err(|e| failed(&e))?;
        let response = self.client.request(request).await.map_err(|e| failed(&e))?;
        Ok(response.map(Body::http_body_unsync))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::harness::ExternalS3;
    use crate::s3::{Fault, RequestKind, Rule, S3Config, S3Server};

    #[tokio::test]
    async fn requests_pass_are_counted_and_fail_on_demand() {
        let server = S3Server::start(S3Config::default()).await.unwrap();
        let relay = S3Relay::start(&server.endpoint()).await.unwrap();
        let external = ExternalS3 {
            endpoint: relay.endpoint(),
            access_key: server.credentials.access_key.clone(),
            secret_key: server.credentials.secret_key.clone(),
            bucket: "backups".into(),
            provider: "Minio".into(),
        };
        let client = external.client();
        let put = async |key: &str, body: &'static [u8]| {
            client.put_object().bucket("backups").key(key).body(body.to_vec().into()).send().await
        };
        put("a b/\u{e9}?", b"content").await.unwrap();
        assert_eq!(server.store.objects("backups")[0].0, "a b/\u{e9}?");
        let read = client.get_object().bucket("backups").key("a b/\u{e9}?").send().await.unwrap();
        assert_eq!(read.body.collect().await.unwrap().to_vec(), b"content");
        assert_eq!(relay.counters.of(RequestKind::PutObject).bytes_in, 7);

        relay.faults.add(Rule::new(Fault::access_denied()).on(&[RequestKind::PutObject]));
        let refused = put("c", b"").await.unwrap_err();
        assert_eq!(refused.into_service_error().meta().code(), Some("AccessDenied"));
        assert_eq!(server.store.objects("backups").len(), 1);
        external.empty("backups").await.unwrap();
        assert_eq!(server.store.objects("backups"), []);
    }

    #[tokio::test]
    async fn only_plain_http_is_relayed() {
        for endpoint in ["https://127.0.0.1:1", "127.0.0.1:1", ""] {
            assert!(S3Relay::start(endpoint).await.is_err(), "{endpoint}");
        }
    }
}
