//! HTTP/1.1 servers, with or without TLS, that stop gracefully.
//!
//! Each server owns its connections in a `JoinSet`. On shutdown it stops accepting, lets every connection
//! finish its request, and drops what is left when the budget is used up.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use http::Request;
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::config::ListenAddress;
use crate::scylla_proxy::Peer;

/// Limit for a TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Limit for the head of a request; also how long an idle connection is kept.
const HEADER_TIMEOUT: Duration = Duration::from_secs(300);
/// Connections at once per server; more wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 1024;
/// Pause after a failed `accept`, which mostly means that file descriptors ran out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A server cannot start.
#[derive(Debug, thiserror::Error)]
#[error("listen on {address} for {what}: {reason}; the address is set by `{key}` in the configuration")]
pub struct ListenError {
    what: &'static str,
    key: &'static str,
    address: String,
    reason: String,
}

/// A server cannot go on.
#[derive(Debug, thiserror::Error)]
#[error("no more connections can be accepted for {what}")]
pub struct ServeError {
    what: &'static str,
    source: io::Error,
}

/// A bound server that does not serve yet.
pub struct Server {
    what: &'static str,
    listener: TcpListener,
    tls: Option<Arc<ServerConfig>>,
    router: Router,
}

impl Server {
    /// Binds `address`. `what` and `key` name the server and its configuration key in an error.
    ///
    /// # Errors
    /// The address is taken or not of this machine.
    pub async fn bind(
        what: &'static str,
        key: &'static str,
        address: &ListenAddress,
        tls: Option<Arc<ServerConfig>>,
        router: Router,
    ) -> Result<Self, ListenError> {
        let listener = bind(address).await.map_err(|e| ListenError {
            what,
            key,
            address: address.to_string(),
            reason: e.to_string(),
        })?;
        Ok(Self { what, listener, tls, router })
    }

    /// The address, with the port that the system chose for port 0.
    ///
    /// # Errors
    /// The socket is broken.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Breaks the socket, so that it accepts nothing more.
    #[cfg(test)]
    pub(crate) fn break_off(&self) {
        rustix::net::shutdown(&self.listener, rustix::net::Shutdown::Both).expect("a socket that listens");
    }

    /// Serves until `stop`, then lets connections finish for at most `budget`.
    ///
    /// # Errors
    /// The socket is broken; connections are let finish all the same.
    pub async fn serve(self, stop: CancellationToken, budget: Duration) -> Result<(), ServeError> {
        let mut connections = JoinSet::new();
        let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let tls = self.tls.map(TlsAcceptor::from);
        let outcome = loop {
            let (tcp, peer) = match accept(&self.listener, &stop).await {
                Ok(Some(connection)) => connection,
                Ok(None) => break Ok(()),
                Err(source) => break Err(ServeError { what: self.what, source }),
            };
            while connections.try_join_next().is_some() {}
            let slot = tokio::select! {
                () = stop.cancelled() => break Ok(()),
                slot = slots.clone().acquire_owned() => slot.expect("the semaphore is never closed"),
            };
            let (router, tls, stop) = (self.router.clone(), tls.clone(), stop.clone());
            connections.spawn(async move {
                serve_connection(tcp, peer, tls, router, stop).await;
                drop(slot);
            });
        };
        drop(self.listener);
        let drained = async { while connections.join_next().await.is_some() {} };
        if tokio::time::timeout(budget, drained).await.is_err() {
            tracing::warn!(connections = connections.len(), "Connections did not end in time and are closed");
            connections.shutdown().await;
        }
        outcome
    }
}

/// Binds all interfaces of both families for an empty host.
async fn bind(address: &ListenAddress) -> io::Result<TcpListener> {
    if !address.host.is_empty() {
        return TcpListener::bind((address.host.as_str(), address.port)).await;
    }
    match TcpListener::bind(("::", address.port)).await {
        // Machines without IPv6.
        Err(e) if e.kind() != io::ErrorKind::AddrInUse => TcpListener::bind(("0.0.0.0", address.port)).await,
        other => other,
    }
}

/// The next connection; `None` at the stop.
async fn accept(
    listener: &TcpListener,
    stop: &CancellationToken,
) -> io::Result<Option<(TcpStream, SocketAddr)>> {
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return Ok(None),
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok(connection) => return Ok(Some(connection)),
            Err(error) if is_broken(&error) => return Err(error),
            Err(error) => {
                tracing::warn!(%error, "Connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// The socket listens no more. Everything else passes: a client that left, file descriptors or memory that ran out,
/// trouble of the network (accept(2)).
fn is_broken(error: &io::Error) -> bool {
    let errno = rustix::io::Errno::from_io_error(error);
    errno.is_some_and(|e| {
        matches!(e, rustix::io::Errno::BADF | rustix::io::Errno::INVAL | rustix::io::Errno::NOTSOCK)
    })
}

async fn serve_connection(
    tcp: TcpStream,
    peer: SocketAddr,
    tls: Option<TlsAcceptor>,
    router: Router,
    stop: CancellationToken,
) {
    // Progress answers are small; waiting to fill a packet only delays them.
    let _ = tcp.set_nodelay(true);
    let Some(tls) = tls else { return serve_http(tcp, peer, router, stop).await };
    match tokio::time::timeout(HANDSHAKE_TIMEOUT, tls.accept(tcp)).await {
        Ok(Ok(stream)) => serve_http(stream, peer, router, stop).await,
        Ok(Err(error)) => tracing::debug!(%peer, %error, "TLS handshake failed"),
        Err(_) => tracing::debug!(%peer, "TLS handshake took too long"),
    }
}

async fn serve_http<S>(stream: S, peer: SocketAddr, router: Router, stop: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let service = router.map_request(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(Peer(peer));
        request.map(Body::new)
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
    tokio::pin!(connection);
    let outcome = tokio::select! {
        outcome = connection.as_mut() => outcome,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = outcome {
        tracing::debug!(%peer, error = common::error::chain(&error), "Connection ended early");
    }
}
