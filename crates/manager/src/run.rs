//! The daemon from start to stop (spec manager.md 1.2, 1.3).

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use common::task::TaskType;
use prometheus::{Registry, TextEncoder};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use crate::agent_client::{self, Settings, TransportError};
use crate::cluster::Clusters;
use crate::config::Config;
use crate::health_runner::{self, HealthRunner};
use crate::listener::{ListenError, Server};
use crate::metrics::{HealthMetrics, ServerMetrics};
use crate::scheduler::{Clock, Runners, SchedulerMetrics, SuspendRunner};
use crate::store::{Store, StoreError};
use crate::{Manager, rest, tls};

/// How long requests may take to end after a stop was asked for.
const DRAIN_BUDGET: Duration = Duration::from_secs(30);

/// How often rows of old runs are deleted.
const EXPIRY_PERIOD: Duration = Duration::from_secs(24 * 3600);

/// Why the daemon did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
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
}

/// Runs the daemon until `shutdown`.
///
/// Runs that are cut short are recorded as aborted and go on at the next start.
///
/// # Errors
/// It could not start.
pub async fn run(config: Config, shutdown: CancellationToken) -> Result<(), StartError> {
    info!(version = common::version::VERSION, pid = std::process::id(), "Scylla Manager starts");
    info!(config = config.masked_json(), "Effective configuration");
    let ignored = config.ignored_sections();
    if !ignored.is_empty() {
        info!(?ignored, "Sections of the configuration have no effect here");
    }
    let store = Store::open(&config.database.path).await?;
    let registry = Registry::new();
    let transport = agent_client::network(None)?;
    let settings = Settings::from(&config.agent_client);
    let clusters = Clusters::new(store.clone(), transport, settings, config.client_cache_timeout);
    let server_metrics = ServerMetrics::new(&registry)?;
    for cluster in store.clusters().await? {
        server_metrics.set_name(cluster.id, &cluster.display_name());
    }
    let health_metrics = HealthMetrics::new(&registry)?;
    let suspend = Arc::new(SuspendRunner::default());
    let health = HealthRunner::new(clusters.clone(), health_metrics, config.healthcheck.max_timeout);
    let runners =
        Runners::new().with(TaskType::HealthCheck, Arc::new(health)).with(TaskType::Suspend, suspend.clone());
    let clock = Clock::system();
    let scheduler_metrics = SchedulerMetrics::new(&registry)?;
    let (scheduler, driver) =
        crate::scheduler::load(store.clone(), clock, runners.clone(), scheduler_metrics).await?;
    suspend.connect(scheduler.clone(), runners.clone());

    let manager = Arc::new(Manager {
        config: config.clone(),
        store: store.clone(),
        clusters: clusters.clone(),
        server_metrics,
        scheduler: scheduler.clone(),
        runners,
        clock,
    });
    let servers = listen(&config, &manager, registry).await?;

    // Servers stop first, then the scheduler, which has to record how runs ended.
    let scheduler_stop = CancellationToken::new();
    let mut background = JoinSet::new();
    background.spawn(driver.run(scheduler_stop.clone()));
    background.spawn(keep_nodes_fresh(clusters, config.config_cache.update_frequency, shutdown.clone()));
    background.spawn(expire_runs(store.clone(), clock, shutdown.clone()));
    if let Err(error) = health_runner::align_tasks(&store, &scheduler, &config.healthcheck).await {
        error!(
            error = common::error::chain(&error),
            "Health checks cannot be aligned with the configuration"
        );
    }
    let mut serving = JoinSet::new();
    for server in servers {
        serving.spawn(server.serve(shutdown.clone(), DRAIN_BUDGET));
    }
    while serving.join_next().await.is_some() {}
    info!("Scylla Manager stops");
    scheduler_stop.cancel();
    while background.join_next().await.is_some() {}
    if let Err(error) = store.checkpoint().await {
        error!(error = common::error::chain(&error), "The database's log cannot be moved into its file");
    }
    Ok(())
}

async fn listen(
    config: &Config,
    manager: &Arc<Manager>,
    registry: Registry,
) -> Result<Vec<Server>, StartError> {
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
        let metrics = Router::new().route("/metrics", get(move || async move { metrics_text(&registry) }));
        servers.push(Server::bind("prometheus", &config.prometheus, None, metrics).await?);
    }
    if !config.debug.is_empty() {
        let health = Router::new().route("/", get(|| async { "scylla-manager is running\n" }));
        servers.push(Server::bind("debug", &config.debug, None, health).await?);
    }
    for server in &servers {
        if let Ok(address) = server.local_addr() {
            info!(%address, "Listening");
        }
    }
    Ok(servers)
}

fn metrics_text(registry: &Registry) -> Result<String, (http::StatusCode, String)> {
    TextEncoder::new()
        .encode_to_string(&registry.gather())
        .map_err(|e| (http::StatusCode::INTERNAL_SERVER_ERROR, e.to_string()))
}

/// Refreshes the facts about all nodes now and then.
async fn keep_nodes_fresh(clusters: Clusters, period: Duration, shutdown: CancellationToken) {
    loop {
        clusters.refresh_all().await;
        if shutdown.run_until_cancelled(tokio::time::sleep(period)).await.is_none() {
            return;
        }
    }
}

/// Deletes rows of runs that are too old, once a day.
async fn expire_runs(store: Store, clock: Clock, shutdown: CancellationToken) {
    loop {
        match store.delete_expired_runs(clock.now()).await {
            Ok(0) => {}
            Ok(rows) => info!(rows, "Old runs are deleted"),
            Err(error) => error!(error = common::error::chain(&error), "Old runs cannot be deleted"),
        }
        if shutdown.run_until_cancelled(tokio::time::sleep(EXPIRY_PERIOD)).await.is_none() {
            return;
        }
    }
}
