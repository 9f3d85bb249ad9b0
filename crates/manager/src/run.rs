//! The daemon from start to stop (spec manager.md 1.2, 1.3).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use common::http_client::Transport;
use common::task::TaskType;
use prometheus::{Registry, TextEncoder};
use tokio::task::{Id, JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::agent_client::{self, Settings, TransportError};
use crate::backup::locks::ClusterLocks;
use crate::backup::{BackupRunner, Backups};
use crate::cluster::Clusters;
use crate::config::{Config, optional_path};
use crate::health_runner::{self, HealthRunner};
use crate::metrics::Metrics;
use crate::scheduler::{Clock, Driver, Runners, SchedulerMetrics, SuspendRunner};
use crate::store::{Store, StoreError};
use crate::{Manager, rest, service_discovery, tls};
use common::listener::{ListenError, Server};

/// How long requests may take to end after a stop was asked for.
const DRAIN_BUDGET: Duration = Duration::from_secs(30);

/// How long the start waits for facts about nodes. Ports are bound already; requests wait in the kernel.
const FIRST_LOOK: Duration = Duration::from_secs(10);

/// How often rows of old runs are deleted.
const EXPIRY_PERIOD: Duration = Duration::from_secs(24 * 3600);

/// Why the daemon did not start, or did not go on.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// The database.
    #[error("open the database")]
    Store(#[from] StoreError),
    /// A listener.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// TLS of the API.
    #[error(transparent)]
    Tls(#[from] tls::TlsError),
    /// The client for agents.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// Two metrics of one name: a mistake of the program.
    #[error("register metrics")]
    Metrics(#[from] prometheus::Error),
    /// Something that runs until the stop ended before it: a mistake of the program.
    #[error("{part} ended unexpectedly; see the log, and start the daemon again")]
    Ended {
        /// What ended.
        part: &'static str,
    },
}

/// Everything built, nothing started.
pub struct Assembled {
    /// What handlers and tasks share; `rest::router(manager)` is the whole API.
    pub manager: Arc<Manager>,
    /// Runs tasks once somebody drives it.
    pub driver: Driver,
    /// All metrics.
    pub registry: Registry,
}

/// Builds the parts of the daemon. Agents are reached over `transport`, and `clock` tells the time, so that tests
/// can run a manager within their process.
///
/// # Errors
/// The database cannot be used.
pub async fn assemble(config: Config, transport: Transport, clock: Clock) -> Result<Assembled, DaemonError> {
    let store = Store::open(&config.database.path).await?;
    let registry = Registry::new();
    let metrics = Metrics::new(&registry)?;
    for cluster in store.clusters().await? {
        metrics.server.set_name(cluster.id, &cluster.display_name());
    }
    let settings = Settings::from(&config.agent_client);
    let clusters = Clusters::new(store.clone(), transport, settings, config.client_cache_timeout);
    let suspend = Arc::new(SuspendRunner::default());
    let health = HealthRunner::new(clusters.clone(), metrics.health.clone(), config.healthcheck.max_timeout);
    let backup_locks = ClusterLocks::default();
    let backups =
        Backups::new(clusters.clone(), config.backup.clone(), backup_locks.clone(), metrics.backup.clone());
    let runners = Runners::new()
        .with(TaskType::HealthCheck, Arc::new(health))
        .with(TaskType::Suspend, suspend.clone())
        .with(TaskType::Backup, Arc::new(BackupRunner::new(backups, clock)));
    let scheduler_metrics = SchedulerMetrics::new(&registry)?;
    let (scheduler, driver) =
        crate::scheduler::load(store.clone(), clock, runners.clone(), scheduler_metrics).await?;
    suspend.connect(scheduler.clone(), runners.clone());
    let manager =
        Arc::new(Manager { config, store, clusters, backup_locks, metrics, scheduler, runners, clock });
    Ok(Assembled { manager, driver, registry })
}

/// Runs the daemon until `shutdown`.
///
/// Runs that are cut short are recorded as aborted and go on at the next start.
///
/// # Errors
/// It could not start.
pub async fn run(config: Config, shutdown: CancellationToken) -> Result<(), DaemonError> {
    info!(version = common::version::VERSION, pid = std::process::id(), "Scylla Manager starts");
    info!(config = config.masked_json(), "Effective configuration");
    let ignored = config.ignored_sections();
    if !ignored.is_empty() {
        info!(?ignored, "Sections of the configuration have no effect here");
    }
    let transport = agent_client::network(optional_path(&config.agent_client.tls_ca_file))?;
    let Assembled { manager, driver, registry } = assemble(config, transport, Clock::system()).await?;
    let servers = listen(&manager, registry).await?;

    if !first_look(&manager, &shutdown).await {
        return Ok(());
    }

    // Servers stop first, then the scheduler, which has to record how runs ended.
    let scheduler_stop = CancellationToken::new();
    let mut background = Parts::default();
    background.spawn("scheduler", driver.run(scheduler_stop.clone()));
    let (clusters, stop) = (manager.clusters.clone(), shutdown.clone());
    let period = manager.config.config_cache.update_frequency;
    background.spawn("refresh of node facts", async move { clusters.keep_fresh(period, stop).await });
    background.spawn("expiry of runs", expire_runs(manager.clone(), shutdown.clone()));
    let (clusters, stop) = (manager.clusters.clone(), shutdown.clone());
    background.spawn("care for switches", async move { clusters.release_forgotten(stop).await });
    align_health_checks(&manager).await;
    let mut serving = Parts::default();
    for server in servers {
        let stop = shutdown.clone();
        serving.spawn("listener", async move {
            if let Err(error) = server.serve(stop, DRAIN_BUDGET).await {
                error!(error = common::error::chain(&error), "A listener failed");
            }
        });
    }
    let outcome = tokio::select! {
        biased;
        () = shutdown.cancelled() => Ok(()),
        part = background.next_end() => Err(DaemonError::Ended { part }),
        part = serving.next_end() => Err(DaemonError::Ended { part }),
    };
    info!("Scylla Manager stops");
    shutdown.cancel();
    serving.all_ended().await;
    scheduler_stop.cancel();
    background.all_ended().await;
    if let Err(error) = manager.store.checkpoint().await {
        error!(error = common::error::chain(&error), "The database's log cannot be moved into its file");
    }
    outcome
}

/// What runs until the stop, with a name for each; a panic of one is noticed and not survived.
#[derive(Default)]
struct Parts {
    set: JoinSet<()>,
    names: HashMap<Id, &'static str>,
}

impl Parts {
    fn spawn(&mut self, name: &'static str, work: impl Future<Output = ()> + Send + 'static) {
        let id = self.set.spawn(work).id();
        self.names.insert(id, name);
    }

    /// Waits for one to end, forever if there is none. Cancel-safe.
    async fn next_end(&mut self) -> &'static str {
        let id = match self.set.join_next_with_id().await {
            None => std::future::pending().await,
            Some(Ok((id, ()))) => id,
            Some(Err(failed)) => failed.id(),
        };
        self.names.get(&id).copied().unwrap_or("a part of the daemon")
    }

    async fn all_ended(&mut self) {
        while let Some(ended) = self.set.join_next().await {
            if let Err(error) = ended {
                error!(%error, "A part of the daemon failed");
            }
        }
    }
}

/// Fills the cache of node facts before anybody asks; what hangs is left to later refreshes. Says whether the
/// daemon is still wanted.
async fn first_look(manager: &Manager, shutdown: &CancellationToken) -> bool {
    let look = tokio::time::timeout(FIRST_LOOK, manager.clusters.refresh_all());
    match shutdown.run_until_cancelled(look).await {
        None => false,
        Some(Ok(())) => true,
        Some(Err(_)) => {
            warn!(limit = ?FIRST_LOOK, "Some clusters do not answer in time");
            true
        }
    }
}

async fn align_health_checks(manager: &Manager) {
    let (store, config) = (&manager.store, &manager.config.healthcheck);
    if let Err(error) = health_runner::align_tasks(store, &manager.scheduler, config).await {
        let error = common::error::chain(&error);
        error!(error, "Health checks cannot be aligned with the configuration");
    }
}

async fn listen(manager: &Arc<Manager>, registry: Registry) -> Result<Vec<Server>, DaemonError> {
    let config = &manager.config;
    let mut servers = Vec::new();
    let api = rest::router(manager.clone());
    if !config.http.is_empty() {
        servers.push(Server::bind("http", &config.http, None, api.clone()).await?);
    }
    if !config.https.is_empty() {
        let tls = tls::server_config(config)?;
        servers.push(Server::bind("https", &config.https, Some(tls), api).await?);
    }
    if !config.prometheus.is_empty() {
        let metrics = Router::new()
            .route("/metrics", get(move || async move { metrics_text(&registry) }))
            .merge(service_discovery::routes(manager.clusters.clone()));
        servers.push(Server::bind("prometheus", &config.prometheus, None, metrics).await?);
    }
    if !config.debug.is_empty() {
        let health = Router::new().route("/", get(|| async { "scylla-manager is running\n" }));
        servers.push(Server::bind("debug", &config.debug, None, health).await?);
    }
    for server in &servers {
        if let Ok(address) = server.local_addr() {
            info!(listener = server.key(), %address, "Listening");
        }
    }
    Ok(servers)
}

fn metrics_text(registry: &Registry) -> Result<String, (http::StatusCode, String)> {
    TextEncoder::new()
        .encode_to_string(&registry.gather())
        .map_err(|e| (http::StatusCode::INTERNAL_SERVER_ERROR, e.to_string()))
}

/// Deletes rows of runs that are too old, once a day.
async fn expire_runs(manager: Arc<Manager>, shutdown: CancellationToken) {
    let forever = async {
        loop {
            match manager.store.delete_expired_runs(manager.clock.now()).await {
                Ok(0) => {}
                Ok(rows) => info!(rows, "Old runs are deleted"),
                Err(error) => error!(error = common::error::chain(&error), "Old runs cannot be deleted"),
            }
            tokio::time::sleep(EXPIRY_PERIOD).await;
        }
    };
    shutdown.run_until_cancelled(forever).await;
}
