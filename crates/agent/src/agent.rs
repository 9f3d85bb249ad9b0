//! The agent as a whole: start-up order, servers, graceful stop (spec agent.md 1.5).
//!
//! [`run`] is the daemon. Tests and the simulated cluster call [`Agent::start`] and use [`Agent::router`] in
//! process; nothing here is global except CPU affinity, so many agents fit into one process.

use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::Router;
use common::http_client::Transport;
use common::listener::{ListenError, ServeError, Server};
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::auth::Auth;
use crate::cloud::{Cloud, MetadataEndpoints};
use crate::config::Config;
use crate::cpu::{CPUSET_FILE, CpuPinning};
use crate::jobs::{Clock, Jobs, system_clock};
use crate::metrics::{EngineTotals, Metrics, TotalsSource};
use crate::rclone::{Rclone, Remotes, impatient};
use crate::scylla_api::{ScyllaApi, ScyllaError};
use crate::scylla_proxy::Proxy;
use crate::startup::{NodeFacts, ScyllaDown, wait_for_api};
use crate::storage::Stores;
use crate::tls::{Identity, TlsError};
use crate::transfer::Engine;
use crate::transfer::rate_limit::RateLimits;
use crate::upstream::{Upstream, UpstreamError};
use crate::{metrics, region, server};

#[cfg(test)]
mod tests;

/// Time for requests and jobs to end after the signal (spec agent.md 1.1).
const STOP_BUDGET: Duration = Duration::from_secs(30);
/// Part of it that jobs get to clean up; the rest is for the answers that wait for them.
const JOB_BUDGET: Duration = Duration::from_secs(25);
/// Limit of memory that the operator gave to the agent's slice, in both versions of control groups.
const MEMORY_LIMIT_FILES: [&str; 2] = [
    "/sys/fs/cgroup/memory/scylla.slice/scylla-helper.slice/memory.limit_in_bytes",
    "/sys/fs/cgroup/scylla.slice/scylla-helper.slice/memory.max",
];

/// Why the agent does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartupError {
    /// Without a token everybody would get in.
    #[error(
        "configuration file must specify auth-token; set `auth_token`, scyllamgr_auth_token_gen makes one"
    )]
    NoToken,
    /// Scylla did not come up.
    #[error(transparent)]
    ScyllaDown(#[from] ScyllaDown),
    /// Scylla did not tell what the agent must know.
    #[error("read the node's configuration")]
    Scylla(#[from] ScyllaError),
    /// Scylla's API cannot be reached by TLS.
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
    /// A root directory is missing.
    #[error("{what} {}", path.display())]
    Directory {
        /// Which.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// Why it cannot be used.
        #[source]
        source: io::Error,
    },
    /// No TLS.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// An address is taken.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// A server ended although nobody asked for it.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// Metrics could not be set up.
    #[error("register metrics")]
    Metrics(#[from] prometheus::Error),
    /// No HTTP client for metadata services.
    #[error("set up the HTTP client for cloud metadata")]
    Client(#[source] reqwest::Error),
}

/// What the agent takes from its surroundings; the default is the real world.
pub struct Environment {
    /// How requests travel to Scylla; `None`: over the network.
    pub upstream: Option<Upstream>,
    /// Where cloud metadata services are.
    pub metadata: MetadataEndpoints,
    /// How requests travel to them; `None`: over the network, without a proxy.
    pub metadata_transport: Option<Transport>,
    /// Scylla's CPU settings.
    pub cpuset_file: PathBuf,
    /// Variables.
    pub env: Arc<region::Env>,
    /// Time of jobs.
    pub clock: Clock,
}

impl Default for Environment {
    fn default() -> Self {
        Self {
            upstream: None,
            metadata: MetadataEndpoints::from_env(region::process_env),
            metadata_transport: None,
            cpuset_file: CPUSET_FILE.into(),
            env: Arc::new(region::process_env),
            clock: system_clock(),
        }
    }
}

/// What handlers share.
pub struct AgentState {
    /// Configuration, region filled in.
    pub config: Config,
    /// What Scylla told at start.
    pub facts: NodeFacts,
    /// The node's REST API.
    pub api: ScyllaApi,
    /// The way for everybody else.
    pub proxy: Proxy,
    /// Token check.
    pub auth: Auth,
    /// Metrics.
    pub metrics: Arc<Metrics>,
    /// CPU pinning.
    pub cpu: CpuPinning,
    /// Cloud metadata.
    pub cloud: Cloud,
    /// Engine calls.
    pub rclone: Arc<Rclone>,
    /// Cancelled when the agent is to end.
    pub stop: CancellationToken,
}

/// A started agent that serves nothing yet. Cheap to clone.
#[derive(Clone)]
pub struct Agent(Arc<AgentState>);

impl Agent {
    /// Starts in the order of the original: wait for Scylla, read its configuration, open the providers.
    /// `stop` ends the agent, and is cancelled when a request asks for that.
    ///
    /// # Errors
    /// See [`StartupError`].
    pub async fn start(
        mut config: Config,
        environment: Environment,
        stop: CancellationToken,
    ) -> Result<Self, StartupError> {
        if config.auth_token.is_empty() {
            return Err(StartupError::NoToken);
        }
        let cloud = cloud(&environment)?;
        region::fill(&mut config.s3, &cloud, &*environment.env).await;
        let upstream = match environment.upstream {
            Some(upstream) => upstream,
            None => Upstream::network(config.scylla.ca_file.as_deref())?,
        };
        wait_for_api(&upstream, &config.scylla).await?;
        let api = ScyllaApi::new(upstream.clone(), config.scylla.base_url());
        let facts = NodeFacts::read(&api).await?;
        config.https = Some(facts.https_address(&config));
        tracing::info!(config = config.masked(), "Using configuration");
        if !config.without_effect.is_empty() {
            tracing::info!(keys = ?config.without_effect, "Settings have no effect here");
        }
        let cpu = CpuPinning::new(config.cpu.clone(), environment.cpuset_file);
        pin(&cpu);
        log_memory_limit();
        check_directories(&config, &facts)?;
        let jobs = Arc::new(Jobs::new(environment.clock));
        let metrics = Arc::new(Metrics::new(totals(&jobs))?);
        let state = AgentState {
            proxy: Proxy::new(upstream, config.scylla.base_url(), facts.metrics_url()),
            auth: Auth::new(config.auth_token.clone()),
            rclone: Arc::new(rclone(&config, &facts, jobs, &metrics)),
            api,
            facts,
            metrics,
            cpu,
            cloud,
            stop,
            config,
        };
        Ok(Self(Arc::new(state)))
    }

    /// The API, without TLS.
    pub fn router(&self) -> Router {
        server::router(self.0.clone())
    }

    /// What handlers share.
    pub fn state(&self) -> &AgentState {
        &self.0
    }

    /// Stops all jobs and waits until they have cleaned up, at most `deadline`.
    pub async fn stop_jobs(&self, deadline: Duration) {
        let left = self.0.rclone.jobs.shutdown(deadline).await;
        if left > 0 {
            tracing::warn!(jobs = left, "Jobs did not end in time");
        }
    }

    /// Serves on the configured addresses until the stop token is cancelled, then ends gracefully within 30 s.
    ///
    /// # Errors
    /// An address cannot be bound, there is no TLS, or a server failed later on; then all others end as well.
    pub async fn serve(&self) -> Result<(), StartupError> {
        let servers = self.bind().await?;
        self.serve_on(servers).await
    }

    async fn serve_on(&self, bound: Vec<Server>) -> Result<(), StartupError> {
        let state = &self.0;
        let mut servers = JoinSet::new();
        for server in bound {
            servers.spawn(server.serve(state.stop.clone(), STOP_BUDGET));
        }
        tracing::info!(version = common::version::VERSION, "Agent is ready");
        let mut outcome = tokio::select! {
            () = state.stop.cancelled() => Ok(()),
            Some(ended) = servers.join_next() => end_of_server(ended),
        };
        state.stop.cancel();
        tracing::info!("Agent is stopping");
        self.stop_jobs(JOB_BUDGET).await;
        while let Some(ended) = servers.join_next().await {
            outcome = outcome.and(end_of_server(ended));
        }
        Ok(outcome?)
    }

    async fn bind(&self) -> Result<Vec<Server>, StartupError> {
        let AgentState { config, facts, metrics, .. } = self.state();
        let identity = match &config.tls_files {
            Some(files) => Identity::from_files(files)?,
            None => {
                let names = [&facts.broadcast_rpc_address, &facts.rpc_address, &facts.listen_address];
                Identity::generate(&names.map(String::as_str), chrono::Utc::now().date_naive())?
            }
        };
        let tls = identity.server_config(config.tls_version)?;
        let address = facts.https_address(config);
        let mut servers = vec![Server::bind("https", &address.to_string(), Some(tls), self.router()).await?];
        tracing::info!(%address, "Serving the API");
        if let Some(address) = &config.prometheus {
            let router = metrics::router(metrics.clone());
            servers.push(Server::bind("prometheus", &address.to_string(), None, router).await?);
        }
        if let Some(address) = &config.debug {
            servers.push(Server::bind("debug", &address.to_string(), None, server::debug_router()).await?);
        }
        Ok(servers)
    }
}

fn end_of_server(ended: Result<Result<(), ServeError>, JoinError>) -> Result<(), ServeError> {
    match ended.map_err(JoinError::try_into_panic) {
        Ok(outcome) => outcome,
        Err(Ok(panic)) => std::panic::resume_unwind(panic),
        // Tasks are not cancelled while the agent is there to wait for them.
        Err(Err(_)) => Ok(()),
    }
}

/// Runs the daemon until `stop` is cancelled.
///
/// # Errors
/// See [`StartupError`]. A stop while the agent still waits for Scylla is no error.
pub async fn run(config: Config, stop: CancellationToken) -> Result<(), StartupError> {
    let starting = Box::pin(Agent::start(config, Environment::default(), stop.clone()));
    let Some(agent) = until(&stop, starting).await else { return Ok(()) };
    agent?.serve().await
}

/// Runs `work` unless `stop` comes first.
async fn until<T>(stop: &CancellationToken, work: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        biased;
        () = stop.cancelled() => None,
        outcome = work => Some(outcome),
    }
}

fn cloud(environment: &Environment) -> Result<Cloud, StartupError> {
    let transport = match &environment.metadata_transport {
        Some(transport) => transport.clone(),
        None => {
            common::tls::install_provider();
            let client = reqwest::Client::builder().no_proxy().build().map_err(StartupError::Client)?;
            Transport::Network(client)
        }
    };
    Ok(Cloud::new(environment.metadata.clone(), transport))
}

/// An agent that cannot be pinned works all the same.
fn pin(cpu: &CpuPinning) {
    let Err(error) = cpu.pin() else { return };
    let reason = common::error::chain(&error);
    if error.is_unconfigured() {
        tracing::info!(reason, "Not pinned to CPUs");
    } else {
        tracing::warn!(reason, "Not pinned to CPUs");
    }
}

fn log_memory_limit() {
    let limit = MEMORY_LIMIT_FILES.into_iter().find_map(|file| std::fs::read_to_string(file).ok());
    match limit {
        Some(limit) => tracing::info!(bytes = limit.trim(), "Memory limit of the agent"),
        None => tracing::debug!(files = ?MEMORY_LIMIT_FILES, "No memory limit is set"),
    }
}

fn check_directories(config: &Config, facts: &NodeFacts) -> Result<(), StartupError> {
    check_directory("Scylla's data directory", &facts.data_directory)?;
    config.localstorage.as_deref().map_or(Ok(()), |path| check_directory("localstorage.path", path))
}

fn check_directory(what: &'static str, path: &Path) -> Result<(), StartupError> {
    match std::fs::metadata(path) {
        Ok(meta) if meta.is_dir() => Ok(()),
        Ok(_) => Err(StartupError::Directory {
            what,
            path: path.to_owned(),
            source: io::ErrorKind::NotADirectory.into(),
        }),
        Err(source) => Err(StartupError::Directory { what, path: path.to_owned(), source }),
    }
}

fn rclone(config: &Config, facts: &NodeFacts, jobs: Arc<Jobs>, metrics: &Arc<Metrics>) -> Rclone {
    let limits = Arc::new(RateLimits::new(config.rclone.bandwidth));
    let answers = metrics.storage_requests().clone();
    let observer = Arc::new(move |host: &str, method: &str, status: u16| {
        answers.with_label_values(&[host, method, &status.to_string()]).inc();
    });
    let stores = Stores::open(config, &facts.data_directory, &limits, observer.clone());
    let checks = Stores::open(&impatient(config), &facts.data_directory, &limits, observer);
    let remotes =
        Remotes { stores, data: facts.data_directory.clone(), localstorage: config.localstorage.clone() };
    Rclone::new(Engine::new(config, limits), jobs, remotes, checks, metrics.clone())
}

/// Sums over all jobs, for metrics.
fn totals(jobs: &Arc<Jobs>) -> TotalsSource {
    let jobs = jobs.clone();
    Arc::new(move || {
        let counters = &jobs.totals().counters;
        let load = |n: &std::sync::atomic::AtomicU64| n.load(Ordering::Relaxed);
        let (now, running) = ((jobs.clock())(), jobs.running());
        let flying: Vec<_> = running.iter().flat_map(|job| job.in_flight()).collect();
        let speed = |f: &crate::jobs::InFlight| {
            let seconds = (now - f.started).to_std().unwrap_or_default().as_secs_f64();
            if seconds > 0.0 { f.meter.get() as f64 / seconds } else { 0.0 }
        };
        EngineTotals {
            bytes: load(&counters.uploaded),
            speed: flying.iter().map(speed).sum::<f64>() as u64,
            errors: load(&counters.errors),
            checks: load(&counters.checked_files),
            transfers: load(&counters.transferred_files),
            deletes: load(&counters.deleted_files),
            deleted_dirs: load(&counters.deleted_dirs),
            renames: load(&counters.renamed_files),
            fatal_error: false,
            retry_error: running.iter().any(|job| !job.last_error().is_empty()),
        }
    })
}
