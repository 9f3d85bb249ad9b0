//! Listeners of one node. All tasks belong to [`Servers`]: closing or dropping it ends every connection.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use axum::body::Body;
use http::{Request, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use std::net::TcpStream as StdTcpStream;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::NodeCore;
use super::cql;
use super::http::{Outcome, Port, serve};
use crate::cluster::{Ports, SimError};

/// Open listeners and connections of a node.
pub(super) struct Servers {
    tasks: JoinSet<()>,
}

impl Servers {
    /// Opens all ports of the node; 0 takes a free one. Returns the ports it got.
    pub async fn open(core: &Arc<NodeCore>, wanted: Ports) -> Result<(Self, Ports), SimError> {
        let address = core.address();
        let mut tasks = JoinSet::new();
        let mut ports = wanted;
        let (rest, metrics);
        (rest, ports.rest) = bind("the REST port", address, wanted.rest).await?;
        (metrics, ports.metrics) = bind("the metrics port", address, wanted.metrics).await?;
        tasks.spawn(accept_http(rest, Arc::clone(core), Port::Rest));
        tasks.spawn(accept_http(metrics, Arc::clone(core), Port::Metrics));
        let plain;
        (plain, ports.cql) = bind("the CQL port", address, wanted.cql).await?;
        tasks.spawn(cql::accept(plain, Arc::clone(core), None));
        if let Some(acceptor) = cql::acceptor(core.shared.options.cql_tls)? {
            let listener;
            (listener, ports.cql_tls) = bind("the CQL port with TLS", address, wanted.cql_tls).await?;
            tasks.spawn(cql::accept(listener, Arc::clone(core), Some(acceptor)));
        }
        Ok((Self { tasks }, ports))
    }

    /// Ends all tasks and waits until they are gone.
    pub async fn close(mut self) {
        self.tasks.shutdown().await;
    }
}

async fn bind(what: &'static str, address: IpAddr, port: u16) -> Result<(TcpListener, u16), SimError> {
    let failed = |source| SimError::Bind { what, address, source };
    let listener = TcpListener::bind((address, port)).await.map_err(failed)?;
    let port = listener.local_addr().map_err(failed)?.port();
    Ok((listener, port))
}

async fn accept_http(listener: TcpListener, core: Arc<NodeCore>, port: Port) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                if let Ok((stream, _)) = accepted {
                    connections.spawn(http_connection(stream, Arc::clone(&core), port));
                }
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn http_connection(stream: TcpStream, core: Arc<NodeCore>, port: Port) {
    let Ok((stream, control)) = with_control(stream) else { return };
    let control = Arc::new(control);
    let service = service_fn(move |request: Request<Incoming>| {
        let (core, control) = (Arc::clone(&core), Arc::clone(&control));
        async move { answer(&core, port, request, &control).await }
    });
    // An error here is a client that went away, or a fault rule at work.
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

async fn answer(
    core: &Arc<NodeCore>,
    port: Port,
    request: Request<Incoming>,
    control: &StdTcpStream,
) -> io::Result<Response<Body>> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
    match serve(core, port, Request::from_parts(parts, body)).await {
        Outcome::Answer(response) => Ok(response),
        Outcome::Reset => {
            reset_on_close(control);
            Err(io::Error::from(io::ErrorKind::ConnectionReset))
        }
    }
}

/// Splits off a second handle of the socket, to set options on it later.
pub(super) fn with_control(stream: TcpStream) -> io::Result<(TcpStream, StdTcpStream)> {
    stream.set_nodelay(true)?;
    let stream = stream.into_std()?;
    let control = stream.try_clone()?;
    Ok((TcpStream::from_std(stream)?, control))
}

/// Makes the peer see a reset instead of an orderly end.
pub(super) fn reset_on_close(control: &StdTcpStream) {
    // Without the option the peer sees an early end, which is a broken answer just as well.
    let _ = rustix::net::sockopt::set_socket_linger(control, Some(std::time::Duration::ZERO));
}
