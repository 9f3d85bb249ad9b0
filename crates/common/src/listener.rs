//! HTTP/1.1 servers, with or without TLS, that stop gracefully.
//!
//! A server owns its connections: on a stop it accepts no more, lets each finish its request, and closes what
//! is left when the budget is used up.

use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tower::Layer;
use tower::util::MapRequestLayer;
use tracing::{debug, warn};

/// Limit of a TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Limit for the head of a request; also how long an idle connection is kept.
const HEADER_TIMEOUT: Duration = Duration::from_secs(300);

/// Connections at once per server; more wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 1024;

/// Pause after a failed `accept`, which mostly means that file descriptors ran out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A listener cannot start.
#[derive(Debug, thiserror::Error)]
#[error("listen on {address}; the address is set by `{key}` in the configuration")]
pub struct ListenError {
    key: &'static str,
    address: String,
    #[source]
    source: std::io::Error,
}

/// A server cannot go on.
#[derive(Debug, thiserror::Error)]
#[error("no more connections can be accepted on the address set by `{key}`")]
pub struct ServeError {
    key: &'static str,
    source: std::io::Error,
}

/// A bound server that does not serve yet.
pub struct Server {
    listener: TcpListener,
    tls: Option<Arc<ServerConfig>>,
    router: Router,
    max_connections: usize,
    key: &'static str,
}

impl Server {
    /// Binds `host:port`; an empty host means all interfaces. `key` names the setting in an error.
    ///
    /// # Errors
    /// The address is taken, not of this machine, or no address.
    pub async fn bind(
        key: &'static str,
        address: &str,
        tls: Option<Arc<ServerConfig>>,
        router: Router,
    ) -> Result<Self, ListenError> {
        let listener =
            bind(address).await.map_err(|source| ListenError { key, address: address.to_owned(), source })?;
        Ok(Self { listener, tls, router, max_connections: MAX_CONNECTIONS, key })
    }

    /// The setting that named the address.
    pub fn key(&self) -> &'static str {
        self.key
    }

    /// The address, with the port that the system chose for port 0.
    ///
    /// # Errors
    /// The socket is broken.
    pub fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `stop`, then lets connections finish for at most `budget`.
    ///
    /// # Errors
    /// The socket is broken; connections are let finish all the same.
    pub async fn serve(self, stop: CancellationToken, budget: Duration) -> Result<(), ServeError> {
        let mut connections = JoinSet::new();
        let slots = Arc::new(Semaphore::new(self.max_connections));
        let tls = self.tls.map(TlsAcceptor::from);
        let outcome = loop {
            let (slot, tcp, peer) = match stop.run_until_cancelled(accept(&self.listener, &slots)).await {
                Some(Ok(connection)) => connection,
                Some(Err(source)) => break Err(ServeError { key: self.key, source }),
                None => break Ok(()),
            };
            while connections.try_join_next().is_some() {}
            let (router, tls, stop) = (self.router.clone(), tls.clone(), stop.clone());
            connections.spawn(async move {
                serve_connection(tcp, peer, tls, router, stop).await;
                drop(slot);
            });
        };
        drop(self.listener);
        let drained = async { while connections.join_next().await.is_some() {} };
        if tokio::time::timeout(budget, drained).await.is_err() {
            warn!(connections = connections.len(), "Connections did not end in time and are closed");
            connections.shutdown().await;
        }
        outcome
    }
}

impl AsFd for Server {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}

async fn bind(address: &str) -> std::io::Result<TcpListener> {
    match address.strip_prefix(':') {
        None => TcpListener::bind(address).await,
        Some(port) => match TcpListener::bind(format!("[::]:{port}")).await {
            // Machines without IPv6.
            Err(e) if e.kind() != std::io::ErrorKind::AddrInUse => {
                TcpListener::bind(format!("0.0.0.0:{port}")).await
            }
            other => other,
        },
    }
}

/// The next connection and its slot. The slot comes first, so that what is beyond the limit waits in the kernel.
async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
) -> std::io::Result<(OwnedSemaphorePermit, TcpStream, SocketAddr)> {
    let slot = slots.clone().acquire_owned().await.map_err(std::io::Error::other)?;
    loop {
        match listener.accept().await {
            Ok((tcp, peer)) => return Ok((slot, tcp, peer)),
            Err(error) if is_broken(&error) => return Err(error),
            Err(error) => {
                warn!(%error, "Connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// The socket listens no more. Everything else passes: a client that left, file descriptors or memory that ran out,
/// trouble of the network (accept(2)).
fn is_broken(error: &std::io::Error) -> bool {
    use rustix::io::Errno;
    matches!(Errno::from_io_error(error), Some(Errno::BADF | Errno::INVAL | Errno::NOTSOCK))
}

async fn serve_connection(
    tcp: TcpStream,
    peer: SocketAddr,
    tls: Option<TlsAcceptor>,
    router: Router,
    stop: CancellationToken,
) {
    // Answers are small; waiting to fill a packet only delays them.
    let _ = tcp.set_nodelay(true);
    let Some(tls) = tls else { return serve_http(tcp, peer, router, stop).await };
    match tokio::time::timeout(HANDSHAKE_TIMEOUT, tls.accept(tcp)).await {
        Ok(Ok(stream)) => serve_http(stream, peer, router, stop).await,
        Ok(Err(error)) => debug!(%peer, %error, "TLS handshake failed"),
        Err(_) => debug!(%peer, "TLS handshake took too long"),
    }
}

async fn serve_http(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: SocketAddr,
    router: Router,
    stop: CancellationToken,
) {
    // The access log names the client.
    let with_peer = move |mut request: http::Request<hyper::body::Incoming>| {
        request.extensions_mut().insert(ConnectInfo(peer));
        request
    };
    let service = MapRequestLayer::new(with_peer).layer(router);
    let mut server = hyper::server::conn::http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
    let connection = server.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
    tokio::pin!(connection);
    let outcome = tokio::select! {
        outcome = &mut connection => outcome,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = outcome {
        debug!(%peer, %error, "Connection ended early");
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::sync::Notify;

    use super::*;

    const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";

    async fn server(router: Router) -> (Server, SocketAddr) {
        let server = Server::bind("http", "127.0.0.1:0", None, router).await.unwrap();
        let address = server.local_addr().unwrap();
        (server, address)
    }

    async fn answer(mut client: TcpStream) -> String {
        let mut text = String::new();
        // A connection that is closed by force counts as an empty answer.
        let _ = client.read_to_string(&mut text).await;
        text
    }

    #[tokio::test]
    async fn a_taken_address_names_its_setting() {
        let (_server, address) = server(Router::new()).await;
        let error = Server::bind("http", &address.to_string(), None, Router::new()).await.err().unwrap();
        let text = crate::error::chain(&error);
        assert!(text.contains(&address.to_string()) && text.contains("`http`"), "{text}");
    }

    #[tokio::test]
    async fn a_stop_lets_a_request_end_and_closes_an_idle_connection() {
        let (begun, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let handler = {
            let (begun, go_on) = (begun.clone(), go_on.clone());
            move |ConnectInfo(peer): ConnectInfo<SocketAddr>| async move {
                begun.notify_one();
                go_on.notified().await;
                format!("good bye {}", peer.ip())
            }
        };
        let (server, address) = server(Router::new().route("/", get(handler))).await;
        let stop = CancellationToken::new();
        let client = async {
            let idle = TcpStream::connect(address).await.unwrap();
            let mut busy = TcpStream::connect(address).await.unwrap();
            busy.write_all(GET).await.unwrap();
            begun.notified().await;
            stop.cancel();
            assert_eq!(answer(idle).await, "");
            assert!(TcpStream::connect(address).await.is_err(), "nobody listens any more");
            go_on.notify_one();
            assert!(answer(busy).await.ends_with("good bye 127.0.0.1"));
        };
        tokio::join!(server.serve(stop.clone(), Duration::from_secs(60)), client).0.unwrap();
    }

    #[tokio::test]
    async fn a_stop_is_heard_while_all_slots_are_taken_and_ends_what_never_ends() {
        let begun = Arc::new(Notify::new());
        let handler = {
            let begun = begun.clone();
            move || async move {
                begun.notify_one();
                std::future::pending::<()>().await;
            }
        };
        let (server, address) = server(Router::new().route("/", get(handler))).await;
        let server = Server { max_connections: 1, ..server };
        let stop = CancellationToken::new();
        let client = async {
            let mut first = TcpStream::connect(address).await.unwrap();
            first.write_all(GET).await.unwrap();
            begun.notified().await;
            let mut waiting = TcpStream::connect(address).await.unwrap();
            waiting.write_all(GET).await.unwrap();
            stop.cancel();
            assert_eq!((answer(first).await, answer(waiting).await), (String::new(), String::new()));
        };
        tokio::join!(server.serve(stop.clone(), Duration::from_millis(50)), client).0.unwrap();
    }
}
