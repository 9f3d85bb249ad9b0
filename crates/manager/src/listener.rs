//! HTTP/1.1 servers, with or without TLS, that stop gracefully.
//!
//! A server owns its connections: on a stop it accepts no more, lets each finish its request, and closes what
//! is left when the budget is used up.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
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

/// A bound server that does not serve yet.
pub struct Server {
    listener: TcpListener,
    tls: Option<Arc<ServerConfig>>,
    router: Router,
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
        Ok(Self { listener, tls, router })
    }

    /// The address, with the port that the system chose for port 0.
    ///
    /// # Errors
    /// The socket is broken.
    pub fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `stop`, then lets connections finish for at most `budget`.
    pub async fn serve(self, stop: CancellationToken, budget: Duration) {
        let mut connections = JoinSet::new();
        let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let tls = self.tls.map(TlsAcceptor::from);
        while let Some((tcp, peer)) = accept(&self.listener, &stop).await {
            while connections.try_join_next().is_some() {}
            let Ok(slot) = slots.clone().acquire_owned().await else { break };
            let (router, tls, stop) = (self.router.clone(), tls.clone(), stop.clone());
            connections.spawn(async move {
                serve_connection(tcp, peer, tls, router, stop).await;
                drop(slot);
            });
        }
        drop(self.listener);
        let drained = async { while connections.join_next().await.is_some() {} };
        if tokio::time::timeout(budget, drained).await.is_err() {
            warn!(connections = connections.len(), "Connections did not end in time and are closed");
            connections.shutdown().await;
        }
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

async fn accept(listener: &TcpListener, stop: &CancellationToken) -> Option<(TcpStream, SocketAddr)> {
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return None,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok(connection) => return Some(connection),
            Err(error) => {
                warn!(%error, "Connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
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
    let mut server = hyper::server::conn::http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
    let connection = server.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
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
