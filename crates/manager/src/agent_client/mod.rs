//! Typed calls to the agents of one cluster, and through their proxy to Scylla's REST API.
//!
//! A call goes either to one host ([`AgentClient::on`]) or to any host of the cluster ([`AgentClient::any`]).
//! Every error carries its host. The surprise: an answer of Scylla is read as JSON whatever its content type
//! says, and a listing that ends without its closing brackets is an error, because an original agent ends a
//! listing that failed halfway like a complete one.

mod agent;
mod error;
mod files;
mod jobs;
mod listing;
mod policy;
mod pool;
mod scylla;
mod transport;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use common::http_client::{HttpClient, Transport};
use common::retry::Backoff;

use crate::Secret;
use crate::config;
pub use policy::is_refused_by_store;
use policy::{CallOptions, Policy};
use pool::HostPool;

pub use error::{HostError, join_hosts};
pub use files::{Listed, Moved, split_remote_path};
pub use scylla::{
    EndpointDetail, KeyspaceKind, Replication, RingRange, SnapshotEntry, SnapshotTable, host_address,
};
pub use transport::{TransportError, network};

/// How patient calls are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// Work in the background: many retries, growing time limits.
    Background,
    /// Somebody waits for the answer, or a ping: one retry.
    Interactive,
}

/// Limits and retries of calls (spec manager.md 1.4, `agent_client`).
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Limit of one request.
    pub timeout: Duration,
    /// Most that a limit grows to.
    pub max_timeout: Duration,
    /// Limit until the next piece of a listing arrives.
    pub list_timeout: Duration,
    /// Retries in the background.
    pub backoff: Backoff,
    /// Retries when interactive.
    pub interactive_backoff: Backoff,
    /// How long a measured response time counts.
    pub pool_decay: Duration,
}

impl From<&config::AgentClient> for Settings {
    fn from(config: &config::AgentClient) -> Self {
        Self {
            timeout: config.timeout,
            max_timeout: config.max_timeout,
            list_timeout: config.list_timeout,
            backoff: config.backoff.policy(),
            interactive_backoff: config.interactive_backoff.policy(),
            pool_decay: config.pool_decay_duration,
        }
    }
}

/// The agents of one cluster. Cheap to clone; clones share connections, response times and the datacenter cache.
#[derive(Clone)]
pub struct AgentClient {
    shared: Arc<Shared>,
    patience: Patience,
}

struct Shared {
    http: HttpClient,
    port: u16,
    settings: Settings,
    pool: HostPool,
    /// Datacenters never change while a node keeps its address.
    datacenters: Mutex<HashMap<IpAddr, String>>,
}

impl AgentClient {
    /// A client for the agents at `hosts`, nearest first, in background mode.
    ///
    /// # Errors
    /// The token has characters that no header can carry.
    pub fn new(
        transport: Transport,
        settings: Settings,
        port: u16,
        token: &Secret,
        hosts: Vec<IpAddr>,
    ) -> Result<Self, http::header::InvalidHeaderValue> {
        let http = HttpClient::new(transport).with_bearer(token.expose())?;
        let pool = HostPool::new(hosts, settings.pool_decay);
        let shared = Shared { http, port, settings, pool, datacenters: Mutex::default() };
        Ok(Self { shared: Arc::new(shared), patience: Patience::Background })
    }

    /// The same client with other patience.
    #[must_use]
    pub fn with_patience(&self, patience: Patience) -> Self {
        Self { shared: self.shared.clone(), patience }
    }

    /// The same client for work that somebody waits for.
    #[must_use]
    pub fn interactive(&self) -> Self {
        self.with_patience(Patience::Interactive)
    }

    /// The hosts that [`AgentClient::any`] chooses from.
    pub fn hosts(&self) -> &[IpAddr] {
        self.shared.pool.hosts()
    }

    /// The agent of one node.
    pub fn on(&self, host: IpAddr) -> Agent {
        self.at(&host.to_string())
    }

    /// The agent at an address that may also be a DNS name: the first contact with a cluster.
    pub fn at(&self, host: &str) -> Agent {
        Agent {
            base: base_url(host, self.shared.port),
            host: host.to_owned(),
            shared: self.shared.clone(),
            patience: self.patience,
        }
    }

    fn cached_datacenter(&self, host: IpAddr) -> Option<String> {
        self.shared.datacenters.lock().unwrap_or_else(PoisonError::into_inner).get(&host).cloned()
    }

    fn cache_datacenter(&self, host: IpAddr, dc: &str) {
        let mut cache = self.shared.datacenters.lock().unwrap_or_else(PoisonError::into_inner);
        cache.insert(host, dc.to_owned());
    }
}

/// The agent of one node. Cheap to clone.
#[derive(Clone)]
pub struct Agent {
    host: String,
    base: String,
    shared: Arc<Shared>,
    patience: Patience,
}

impl Agent {
    /// Its address as it appears in errors.
    pub fn host(&self) -> &str {
        &self.host
    }

    fn policy(&self) -> Policy {
        Policy::new(&self.shared.settings, self.patience)
    }

    fn settings(&self) -> &Settings {
        &self.shared.settings
    }

    fn options(&self) -> CallOptions {
        CallOptions::new(self.shared.settings.timeout)
    }
}

fn base_url(host: &str, port: u16) -> String {
    match host.parse::<IpAddr>() {
        Ok(IpAddr::V6(v6)) => format!("https://[{v6}]:{port}"),
        Ok(IpAddr::V4(_)) | Err(_) => format!("https://{host}:{port}"),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use axum::Router;

    use super::*;

    pub(crate) fn settings() -> Settings {
        Settings::from(&config::AgentClient::default())
    }

    /// A client whose requests go into the routers of `lookup`, by host.
    pub(crate) fn client_into(
        hosts: &[&str],
        lookup: impl Fn(&str) -> Option<Router> + Send + Sync + 'static,
    ) -> AgentClient {
        let transport = Transport::InProcess(Arc::new(move |uri| lookup(uri.host()?)));
        let hosts = hosts.iter().map(|h| h.parse().unwrap()).collect();
        AgentClient::new(transport, settings(), 10001, &Secret::new("token"), hosts).unwrap()
    }

    #[test]
    fn base_urls() {
        assert_eq!(base_url("192.0.2.1", 10001), "https://192.0.2.1:10001");
        assert_eq!(base_url("2001:db8::1", 1), "https://[2001:db8::1]:1");
        assert_eq!(base_url("node.example", 1), "https://node.example:1");
    }
}
