//! Managed clusters: how to reach their agents, what their nodes look like, how they feel.
//!
//! One [`Clusters`] serves the whole daemon. It finds the nodes of a cluster through any one that answers,
//! keeps a client per cluster for a while, and keeps the facts about nodes that health checks and backups need.

pub mod add;
mod alternator;
pub mod cql;
mod discovery;
pub mod health;
mod node_cache;
mod refresh;
pub mod switches;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
pub mod topology;

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use common::http_client::Transport;
use common::ids::ClusterId;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::agent_client::{AgentClient, HostError, Settings};
use crate::store::{Cluster, Store, StoreError};

pub use node_cache::{NodeFacts, Nodes};

/// How often the nodes behind a cached client are compared with those of the cluster (spec manager.md 5.2).
const COMPARE_PERIOD: Duration = Duration::from_secs(15);

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
    #[error("unable to connect to any of cluster's known hosts ({remedy}): {reasons}")]
    Unreachable {
        /// What to look at.
        remedy: String,
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
    /// The stored name of the first contact has no address.
    #[error("{host}: the name cannot be resolved")]
    Unresolved {
        /// The name.
        host: String,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
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
    /// Counts changes of clusters, so that what was on its way then is not cached.
    forgotten: AtomicU64,
    nodes: Mutex<HashMap<ClusterId, Arc<Nodes>>>,
    alternator: alternator::Pinger,
    fresh: refresh::Wanted,
    /// Clusters whose tablet balancing a run wants off.
    holds: Mutex<Vec<ClusterId>>,
    hold_dropped: Notify,
}

struct CachedClient {
    client: AgentClient,
    made: Instant,
    compared: Instant,
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
            forgotten: AtomicU64::new(0),
            nodes: Mutex::default(),
            alternator: alternator::Pinger::default(),
            fresh: refresh::Wanted::default(),
            holds: Mutex::default(),
            hold_dropped: Notify::new(),
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
    /// A cached one whose nodes are no longer those of the cluster is replaced.
    ///
    /// # Errors
    /// The cluster does not exist or none of its hosts answers.
    pub async fn client(&self, id: ClusterId) -> Result<AgentClient, ClusterError> {
        match self.cached(id) {
            Some((client, true)) if !same_nodes(&client).await => {}
            Some((client, _)) => return Ok(client),
            None => {}
        }
        let forgotten = self.shared.forgotten.load(Ordering::Acquire);
        let cluster = self.cluster(id).await?;
        let hosts = self.discover(&cluster).await?;
        if hosts != cluster.known_hosts {
            self.shared.store.set_known_hosts(id, &hosts).await?;
        }
        let client = self.client_for(&cluster, hosts)?;
        let now = Instant::now();
        let mut clients = self.clients();
        if self.shared.forgotten.load(Ordering::Acquire) == forgotten {
            clients.insert(id, CachedClient { client: client.clone(), made: now, compared: now });
        }
        Ok(client)
    }

    /// Forgets the client of a cluster that was changed. Facts about its nodes stay until they are refreshed, so
    /// that a node that is down meanwhile is still checked.
    fn forget_client(&self, id: ClusterId) {
        let mut clients = self.clients();
        self.shared.forgotten.fetch_add(1, Ordering::Release);
        clients.remove(&id);
    }

    /// Forgets all about a cluster that was deleted.
    pub fn forget(&self, id: ClusterId) {
        self.forget_client(id);
        self.shared.nodes.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
    }

    /// The cached client, and whether it is time to compare its nodes; only one caller is told so.
    fn cached(&self, id: ClusterId) -> Option<(AgentClient, bool)> {
        let mut clients = self.clients();
        let entry = clients.get_mut(&id)?;
        if entry.made.elapsed() >= self.shared.client_lifetime {
            return None;
        }
        let compare = entry.compared.elapsed() >= COMPARE_PERIOD;
        if compare {
            entry.compared = Instant::now();
        }
        Some((entry.client.clone(), compare))
    }

    fn clients(&self) -> std::sync::MutexGuard<'_, HashMap<ClusterId, CachedClient>> {
        self.shared.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn client_for(&self, cluster: &Cluster, hosts: Vec<IpAddr>) -> Result<AgentClient, ClusterError> {
        self.client_with(cluster, hosts, self.shared.settings)
    }

    fn client_with(
        &self,
        cluster: &Cluster,
        hosts: Vec<IpAddr>,
        settings: Settings,
    ) -> Result<AgentClient, ClusterError> {
        let transport = self.shared.transport.clone();
        AgentClient::new(transport, settings, cluster.agent_port(), &cluster.auth_token, hosts)
            .map_err(|_| ClusterError::Token)
    }
}

/// Whether every host of the client is still a member, and every live member is one of its hosts. No answer
/// counts as a difference: discovery knows more ways in.
async fn same_nodes(client: &AgentClient) -> bool {
    let client = client.interactive();
    let (Ok(live), Ok(all)) = tokio::join!(client.live_nodes(), client.host_ids()) else { return false };
    let hosts: BTreeSet<IpAddr> = client.hosts().iter().copied().collect();
    hosts.iter().all(|host| all.contains_key(host)) && live.iter().all(|node| hosts.contains(node))
}
