//! The CQL server of a node: enough of protocol versions 3 and 4 for the real driver and for raw pings.
//!
//! It answers the statements that the manager uses and what the driver reads about the cluster. Anything
//! else is a syntax error, and remembered for assertions.

mod connection;
mod ddl;
mod frame;
mod parse;
mod response;
mod select;
mod system_tables;
#[cfg(test)]
mod tests;
mod tls;
mod values;
mod write;

use std::sync::Arc;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

pub(crate) use response::SchemaChange;
pub(super) use tls::acceptor;

use super::NodeCore;
use super::servers::with_control;

/// Accepts connections until dropped, with TLS if there is an acceptor.
pub(super) async fn accept(
    listener: TcpListener,
    core: Arc<NodeCore>,
    tls: Option<tokio_rustls::TlsAcceptor>,
) {
    let mut connections = JoinSet::new();
    let mut accepted: u32 = 0;
    loop {
        tokio::select! {
            stream = listener.accept() => {
                if let Ok((stream, _)) = stream {
                    // Real nodes deal connections to their shards; the driver wants one to each.
                    let shard = accepted;
                    accepted = accepted.wrapping_add(1);
                    connections.spawn(serve(stream, Arc::clone(&core), tls.clone(), shard));
                }
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn serve(stream: TcpStream, core: Arc<NodeCore>, tls: Option<tokio_rustls::TlsAcceptor>, shard: u32) {
    let Ok((stream, control)) = with_control(stream) else { return };
    match tls {
        None => connection::run(stream, core, shard, &control).await,
        Some(acceptor) => {
            // A client that fails the handshake has been told by the TLS alert.
            let Ok(stream) = acceptor.accept(stream).await else { return };
            connection::run(stream, core, shard, &control).await;
        }
    }
}
