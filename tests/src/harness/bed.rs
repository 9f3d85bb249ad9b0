//! Starts everything, registers the cluster, and offers the steps that scenarios are made of.

mod operator;
mod verdict;

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, ensure};
use serde_json::Value;
use tempfile::TempDir;

pub use self::operator::{RunningSctool, SctoolRun};
use super::agent_api::AgentApi;
use super::config::{AgentOptions, S3Access, agent_yaml, manager_yaml};
use super::manager_api::ManagerApi;
use super::process::{Child, Programs, free_port};
use super::target::{BucketClaim, ExternalS3, S3Target};
use super::wait::Deadline;
use crate::cluster::{ClusterBuilder, SimCluster};
use crate::invariants::Ledger;
use crate::s3::{Counters, Faults, S3Config, S3Relay, S3Server};

/// Daemons must listen within this many seconds; a debug build on a busy machine is slow.
const START: Deadline = Deadline::seconds(60);
/// A daemon that was asked to stop has this many seconds.
const STOP: Deadline = Deadline::seconds(40);

/// What a bed is made of.
#[derive(Clone, Debug)]
pub struct BedConfig {
    /// The programs.
    pub programs: Programs,
    /// The simulated cluster.
    pub cluster: ClusterBuilder,
    /// Our S3 server, unless the environment names another. That one gets the buckets too, if they are not those of the
    /// default.
    pub s3: S3Config,
    /// Keys over the agents' usual configuration.
    pub agent: Value,
    /// Keys over the manager's usual configuration.
    pub manager: Value,
    /// CQL user name and password to register the cluster with.
    pub cql: Option<(String, String)>,
    /// Use the server of the environment when there is one.
    pub allow_external: bool,
    /// Use this server instead of our own.
    pub external: Option<ExternalS3>,
    /// Register the cluster with the manager at the start.
    pub register: bool,
    /// Name of the cluster in the manager.
    pub name: String,
    /// Where configurations, logs and the manager's database go; a temporary directory when absent.
    pub dir: Option<PathBuf>,
    /// Where the manager should listen; the next free port when that one is taken.
    pub manager_http: Option<SocketAddr>,
    /// Port of all agents, if it is free on all nodes.
    pub agent_port: Option<u16>,
}

impl BedConfig {
    /// A cluster with our programs out of the `testbed` executable.
    #[must_use]
    pub fn new(testbed: &Path, cluster: ClusterBuilder) -> Self {
        Self {
            programs: Programs::own(testbed),
            cluster,
            s3: S3Config::default(),
            agent: Value::Null,
            manager: Value::Null,
            cql: None,
            allow_external: false,
            external: None,
            register: true,
            name: "test".to_owned(),
            dir: None,
            manager_http: None,
            agent_port: None,
        }
    }
}

/// A running installation; dropping it ends all of it.
pub struct Bed {
    // Order matters: processes end before what they talk to.
    manager: Option<Child>,
    agents: Vec<Option<Child>>,
    /// The nodes.
    pub cluster: Arc<SimCluster>,
    /// The object store.
    pub s3: S3Target,
    /// Bucket of the backups.
    pub bucket: String,
    /// The manager's API.
    pub api: ManagerApi,
    /// Contents of the nodes at each snapshot.
    pub ledger: Ledger,
    /// Name of the cluster in the manager.
    pub name: String,
    programs: Programs,
    manager_http: SocketAddr,
    agent_port: u16,
    cql: Option<(String, String)>,
    dir: PathBuf,
    _temporary: Option<TempDir>,
    _claims: Vec<BucketClaim>,
}

impl Bed {
    /// Starts cluster, object store, agents and manager, and adds the cluster to the manager.
    ///
    /// # Errors
    /// Something does not start; the message holds the end of its log.
    pub async fn start(config: BedConfig) -> anyhow::Result<Self> {
        let (dir, temporary) = match &config.dir {
            Some(dir) => {
                std::fs::create_dir_all(dir).with_context(|| format!("create {}", dir.display()))?;
                (dir.clone(), None)
            }
            None => {
                let temporary = tempfile::Builder::new().prefix("testbed-").tempdir()?;
                (temporary.path().to_owned(), Some(temporary))
            }
        };
        let from_environment = if config.allow_external { ExternalS3::from_environment() } else { None };
        let mut claims = Vec::new();
        let (s3, bucket) = match (config.external, from_environment) {
            (Some(external), _) => (S3Target::External(external.clone()), external.bucket),
            (None, Some(external)) => {
                let bucket = if config.s3.buckets == S3Config::default().buckets {
                    external.own_bucket().await?
                } else {
                    // In order, so that two scenarios never wait for each other.
                    for bucket in config.s3.buckets.iter().collect::<BTreeSet<_>>() {
                        claims.push(external.claim_bucket(bucket).await?);
                    }
                    config.s3.buckets.first().cloned().unwrap_or_default()
                };
                let relay = S3Relay::start(&external.endpoint).await?;
                (S3Target::Relayed(external, relay), bucket)
            }
            (None, None) => {
                let bucket = config.s3.buckets.first().cloned().unwrap_or_default();
                (S3Target::Own(S3Server::start(config.s3).await?), bucket)
            }
        };
        let cluster = Arc::new(config.cluster.start().await?);
        let addresses: Vec<IpAddr> = cluster.nodes().iter().map(crate::node::SimNode::address).collect();
        let agent_port = free_port(&addresses, config.agent_port)?;
        let first = *addresses.first().context("the cluster has no node")?;
        let (manager_ip, wanted) = config.manager_http.map_or((first, None), |at| (at.ip(), Some(at.port())));
        let manager_http = SocketAddr::new(manager_ip, free_port(&[manager_ip], wanted)?);
        let access = S3Access::from(&s3);
        for node in cluster.nodes() {
            let options = AgentOptions {
                https: SocketAddr::new(node.address(), agent_port),
                scylla_api: node.rest_addr(),
                prometheus: String::new(),
                s3: &access,
                extra: &config.agent,
            };
            std::fs::write(dir.join(format!("agent-{}.yaml", node.address())), agent_yaml(&options)?)?;
        }
        let manager_config = manager_yaml(manager_http, &dir.join("manager.db"), &config.manager)?;
        std::fs::write(dir.join("manager.yaml"), manager_config)?;
        let mut bed = Self {
            manager: None,
            agents: cluster.nodes().iter().map(|_| None).collect(),
            s3,
            bucket,
            api: ManagerApi::new(&format!("http://{manager_http}/api/v1"))?,
            ledger: Ledger::default(),
            name: config.name,
            programs: config.programs,
            manager_http,
            agent_port,
            cluster,
            cql: config.cql,
            dir,
            _temporary: temporary,
            _claims: claims,
        };
        for at in 0..bed.agents.len() {
            bed.launch_agent(at)?;
        }
        bed.launch_manager()?;
        for at in 0..bed.agents.len() {
            bed.agent_is_up(at).await?;
        }
        bed.manager_is_up().await?;
        if config.register {
            bed.add_cluster().await?;
        }
        Ok(bed)
    }

    /// Directory with configurations, logs and the manager's database.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Port of all agents.
    #[must_use]
    pub fn agent_port(&self) -> u16 {
        self.agent_port
    }

    /// A client of the agent of a node.
    ///
    /// # Errors
    /// It cannot be built.
    pub fn agent_api(&self, at: usize) -> anyhow::Result<AgentApi> {
        AgentApi::new(SocketAddr::new(self.cluster.nodes()[at].address(), self.agent_port))
    }

    /// Our own S3 server.
    ///
    /// # Panics
    /// The installation uses an external server.
    #[must_use]
    pub fn own_s3(&self) -> &S3Server {
        match &self.s3 {
            S3Target::Own(server) => server,
            S3Target::External(external) | S3Target::Relayed(external, _) => {
                panic!("this scenario needs our own S3 server, not {}", external.endpoint)
            }
        }
    }

    /// Rules that make requests to the object store fail, see [`S3Target::faults`].
    #[must_use]
    pub fn faults(&self) -> &Faults {
        self.s3.faults()
    }

    /// What the object store was asked for, see [`S3Target::counters`].
    #[must_use]
    pub fn counters(&self) -> &Counters {
        self.s3.counters()
    }

    /// Keys of everything in the bucket of the backups.
    ///
    /// # Errors
    /// The external server does not answer.
    pub async fn keys(&self) -> anyhow::Result<Vec<String>> {
        Ok(self.s3.contents(&self.bucket).await?.objects.into_keys().collect())
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    fn agent_name(&self, at: usize) -> String {
        format!("agent-{}", self.cluster.nodes()[at].address())
    }

    fn launch_agent(&mut self, at: usize) -> anyhow::Result<()> {
        let name = self.agent_name(at);
        let config = self.file(&format!("{name}.yaml"));
        let log = self.file(&format!("{name}.log"));
        let arguments = ["-c", &config.to_string_lossy()];
        self.agents[at] = Some(Child::start(&name, &self.programs.agent, &arguments, &log)?);
        Ok(())
    }

    async fn agent_is_up(&mut self, at: usize) -> anyhow::Result<()> {
        let address = SocketAddr::new(self.cluster.nodes()[at].address(), self.agent_port);
        self.agents[at].as_mut().context("the agent was not started")?.wait_listening(address, START).await
    }

    fn launch_manager(&mut self) -> anyhow::Result<()> {
        let (config, log) = (self.file("manager.yaml"), self.file("manager.log"));
        let arguments = ["-c", &config.to_string_lossy()];
        self.manager = Some(Child::start("manager", &self.programs.manager, &arguments, &log)?);
        Ok(())
    }

    async fn manager_is_up(&mut self) -> anyhow::Result<()> {
        let address = self.manager_http;
        self.manager.as_mut().context("the manager was not started")?.wait_listening(address, START).await
    }

    /// Ends an agent at once (`kill -9`).
    ///
    /// # Errors
    /// The system does not let us.
    pub fn kill_agent(&mut self, at: usize) -> anyhow::Result<()> {
        if let Some(mut agent) = self.agents[at].take() {
            agent.kill()?;
        }
        Ok(())
    }

    /// Starts an agent that was killed.
    ///
    /// # Errors
    /// It does not listen in time.
    pub async fn start_agent(&mut self, at: usize) -> anyhow::Result<()> {
        self.launch_agent(at)?;
        self.agent_is_up(at).await
    }

    /// Ends the manager at once (`kill -9`).
    ///
    /// # Errors
    /// The system does not let us.
    pub fn kill_manager(&mut self) -> anyhow::Result<()> {
        if let Some(mut manager) = self.manager.take() {
            manager.kill()?;
        }
        Ok(())
    }

    /// Stops the manager with SIGTERM and demands exit status 0.
    ///
    /// # Errors
    /// It does not end in time, or not well.
    pub async fn stop_manager(&mut self) -> anyhow::Result<()> {
        if let Some(mut manager) = self.manager.take() {
            let status = manager.stop(STOP).await?;
            ensure!(status.success(), "the manager ended with {status}\n{}", manager.log_tail());
        }
        Ok(())
    }

    /// Starts the manager again over its database.
    ///
    /// # Errors
    /// It does not listen in time.
    pub async fn start_manager(&mut self) -> anyhow::Result<()> {
        self.launch_manager()?;
        self.manager_is_up().await
    }

    /// Stops manager and agents as an operator does, then everything else.
    ///
    /// # Errors
    /// A daemon does not end in time, or not well.
    pub async fn shutdown(mut self) -> anyhow::Result<()> {
        let manager = self.stop_manager().await;
        for agent in self.agents.iter_mut().filter_map(Option::take) {
            let mut agent = agent;
            agent.stop(STOP).await?;
        }
        self.cluster.shutdown().await;
        manager
    }

    /// Process IDs of the manager and of the agents, by node.
    #[must_use]
    pub fn pids(&self) -> (Option<u32>, Vec<Option<u32>>) {
        let agents = self.agents.iter().map(|agent| agent.as_ref().map(Child::pid)).collect();
        (self.manager.as_ref().map(Child::pid), agents)
    }
}
