//! Managed clusters: how to reach their agents, what their nodes look like, how they feel.
//!
//! One [`Clusters`] serves the whole daemon. It finds the nodes of a cluster through any one that answers,
//! keeps a client per cluster for a while, and keeps the facts about nodes that health checks and backups need.

pub mod add;
pub mod cql;
mod discovery;
pub mod health;
mod node_cache;
pub mod topology;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use common::http_client::Transport;
use common::ids::ClusterId;
use tokio::time::Instant;

use crate::agent_client::{AgentClient, HostError, Settings};
use crate::store::{Cluster, Store, StoreError};

pub use node_cache::{NodeFacts, Nodes};

/// Why a cluster cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// No such cluster.
    #[error("load cluster \"{0}\": not found")]
    NotFound(ClusterId),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Neither the stored host nor any known one answers.
    #[error(
        "unable to connect to any of cluster's known hosts (check that scylla-manager-agent runs there, that port {port} \
         is open, and that the auth token is right): {reasons}"
    )]
    Unreachable {
        /// Agent port.
        port: u16,
        /// One reason per host.
        reasons: String,
    },
    /// The contact answered, but sees nobody.
    #[error("no single live host available")]
    NobodyLive,
    /// The token cannot be sent.
    #[error("auth token has characters that no HTTP header can carry")]
    Token,
    /// A call to one host failed.
    #[error(transparent)]
    Host(#[from] HostError),
}

/// All managed clusters. Cheap to clone.
#[derive(Clone)]
pub struct Clusters {
    shared: Arc<Shared>,
}

struct Shared {
    store: Store,
    transport: Transport,
    settings: Settings,
    client_lifetime: Duration,
    clients: Mutex<HashMap<ClusterId, CachedClient>>,
    nodes: Mutex<HashMap<ClusterId, Arc<Nodes>>>,
}

struct CachedClient {
    client: AgentClient,
    made: Instant,
}

impl Clusters {
    /// Clusters of the store, reached over `transport`. A client is kept for `client_lifetime`; zero makes a
    /// new one for each use.
    pub fn new(store: Store, transport: Transport, settings: Settings, client_lifetime: Duration) -> Self {
        let shared = Shared {
            store,
            transport,
            settings,
            client_lifetime,
            clients: Mutex::default(),
            nodes: Mutex::default(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// The store behind it.
    pub fn store(&self) -> &Store {
        &self.shared.store
    }

    /// The stored cluster.
    ///
    /// # Errors
    /// It does not exist, or the database failed.
    pub async fn cluster(&self, id: ClusterId) -> Result<Cluster, ClusterError> {
        self.shared.store.cluster(id).await?.ok_or(ClusterError::NotFound(id))
    }

    /// A client for the agents of a cluster, from the cache or after discovery.
    ///
    /// # Errors
    /// The cluster does not exist or none of its hosts answers.
    pub async fn client(&self, id: ClusterId) -> Result<AgentClient, ClusterError> {
        if let Some(client) = self.cached(id) {
            return Ok(client);
        }
        let cluster = self.cluster(id).await?;
        let hosts = self.discover(&cluster).await?;
        if hosts != cluster.known_hosts {
            self.shared.store.set_known_hosts(id, &hosts).await?;
        }
        let client = self.client_for(&cluster, hosts)?;
        let entry = CachedClient { client: client.clone(), made: Instant::now() };
        self.clients().insert(id, entry);
        Ok(client)
    }

    /// Forgets client and facts of a cluster, after it was changed or deleted.
    pub fn forget(&self, id: ClusterId) {
        self.clients().remove(&id);
        self.shared.nodes.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
    }

    fn cached(&self, id: ClusterId) -> Option<AgentClient> {
        let clients = self.clients();
        let entry = clients.get(&id)?;
        (entry.made.elapsed() < self.shared.client_lifetime).then(|| entry.client.clone())
    }

    fn clients(&self) -> std::sync::MutexGuard<'_, HashMap<ClusterId, CachedClient>> {
        self.shared.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn client_for(
        &self,
        cluster: &Cluster,
        hosts: Vec<std::net::IpAddr>,
    ) -> Result<AgentClient, ClusterError> {
        let (transport, settings) = (self.shared.transport.clone(), self.shared.settings);
        AgentClient::new(transport, settings, cluster.agent_port(), &cluster.auth_token, hosts)
            .map_err(|_| ClusterError::Token)
    }
}
