//! Starts everything, registers the cluster, and offers the steps that scenarios are made of.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;

use anyhow::{Context, bail, ensure};
use serde_json::Value;
use tempfile::TempDir;

use super::agent_api::AgentApi;
use super::config::{AUTH_TOKEN, AgentOptions, S3Access, agent_yaml, manager_yaml};
use super::manager_api::{ManagerApi, RunState};
use super::process::{Child, Programs, free_port};
use super::target::{ExternalS3, S3Target};
use super::wait::Deadline;
use crate::cluster::{ClusterBuilder, SimCluster};
use crate::invariants::{self, Expected, Ledger};
use crate::s3::{Counters, Faults, S3Config, S3Relay, S3Server};

/// Daemons must listen within this many seconds; a debug build on a busy machine is slow.
const START: Deadline = Deadline::seconds(60);
/// A daemon that was asked to stop has this many seconds.
const STOP: Deadline = Deadline::seconds(40);
/// A small backup ends within this many seconds.
const RUN: Deadline = Deadline::seconds(120);

/// What a bed is made of.
#[derive(Clone, Debug)]
pub struct BedConfig {
    /// The programs.
    pub programs: Programs,
    /// The simulated cluster.
    pub cluster: ClusterBuilder,
    /// Our S3 server, unless the environment names another.
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
}

/// What a call of `sctool` printed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SctoolRun {
    /// Exit code.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

/// A call of `sctool` that may still run; dropping it ends it.
#[derive(Debug)]
pub struct RunningSctool(tokio::process::Child);

impl RunningSctool {
    /// Waits for its end.
    ///
    /// # Errors
    /// It does not end in time.
    pub async fn ended(self) -> anyhow::Result<SctoolRun> {
        let output = tokio::time::timeout(RUN.limit, self.0.wait_with_output());
        let output = output.await.context("sctool did not end in time")??;
        Ok(SctoolRun {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }
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
        let (s3, bucket) = match (config.external, from_environment) {
            (Some(external), _) => (S3Target::External(external.clone()), external.bucket),
            (None, Some(external)) => {
                let bucket = external.own_bucket().await?;
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

    /// Starts `sctool` with these arguments against the manager, so that the test can do something else meanwhile.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start_sctool(&self, arguments: &[&str]) -> anyhow::Result<RunningSctool> {
        let mut command = self.programs.sctool.command();
        command
            .env("SCYLLA_MANAGER_API_URL", self.api.base())
            .env_remove("SCYLLA_MANAGER_CLUSTER")
            .env("TZ", "UTC");
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = tokio::process::Command::from(command).kill_on_drop(true).spawn();
        Ok(RunningSctool(child.context("start sctool")?))
    }

    /// Runs `sctool` with these arguments against the manager and waits for its end.
    ///
    /// # Errors
    /// It cannot be started, or does not end in time.
    pub async fn sctool(&self, arguments: &[&str]) -> anyhow::Result<SctoolRun> {
        self.start_sctool(arguments)?.ended().await
    }

    /// Runs `sctool` and demands success; answers its standard output.
    ///
    /// # Errors
    /// It fails; the message holds what it printed and the end of the manager's log.
    pub async fn sctool_ok(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let run = self.sctool(arguments).await?;
        if run.code != 0 {
            let log = self.manager.as_ref().map(Child::log_tail).unwrap_or_default();
            bail!(
                "sctool {} ended with {}:\n{}{}\n{log}",
                arguments.join(" "),
                run.code,
                run.stdout,
                run.stderr
            );
        }
        Ok(run.stdout)
    }

    /// The `sctool cluster add` that makes the cluster known.
    #[must_use]
    pub fn add_cluster_arguments(&self) -> Vec<String> {
        let host = self.cluster.nodes()[0].address().to_string();
        let port = self.agent_port.to_string();
        let mut arguments: Vec<String> =
            ["cluster", "add", "--host", &host, "--port", &port].map(str::to_owned).into();
        arguments.extend(["--name", &self.name, "--auth-token", AUTH_TOKEN].map(str::to_owned));
        if let Some((username, password)) = &self.cql {
            arguments.extend(["--username", username, "--password", password].map(str::to_owned));
        }
        arguments
    }

    async fn add_cluster(&self) -> anyhow::Result<()> {
        let arguments = self.add_cluster_arguments();
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        self.sctool_ok(&arguments).await.map(drop)
    }

    /// The location of the bucket, e.g. `s3:backups`.
    #[must_use]
    pub fn location(&self) -> String {
        format!("s3:{}", self.bucket)
    }

    /// Creates a backup task that starts at once; answers `backup/<id>`. Failed runs are not retried.
    ///
    /// # Errors
    /// The task is refused.
    pub async fn create_backup(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let location = self.location();
        let mut all = vec!["backup", "-c", &self.name, "-L", &location, "--num-retries", "0"];
        all.extend(arguments);
        Ok(self.sctool_ok(&all).await?.trim().to_owned())
    }

    /// Starts a task again.
    ///
    /// # Errors
    /// The manager refuses.
    pub async fn start_task(&self, task: &str) -> anyhow::Result<()> {
        self.sctool_ok(&["start", "-c", &self.name, task]).await.map(drop)
    }

    /// Waits for the end of the task's n-th run and demands DONE; records what the nodes hold under its tag.
    ///
    /// # Errors
    /// The run ends otherwise, or not in time.
    pub async fn run_done(&mut self, task: &str, run: usize) -> anyhow::Result<String> {
        let ended = self.run_ended(task, run).await?;
        let progress = self.api.progress(&self.name, task).await?;
        let log = self.manager.as_ref().map(Child::log_tail).unwrap_or_default();
        ensure!(ended.status == "DONE", "run {run} of {task} is {}: {}\n{log}", ended.status, ended.cause);
        let tag = progress["snapshot_tag"].as_str().context("the progress has no snapshot tag")?.to_owned();
        self.ledger.record(&tag, &self.cluster)?;
        Ok(tag)
    }

    /// Records what the nodes hold as the content of the task's newest snapshot; nothing may have been written since.
    ///
    /// # Errors
    /// The newest run has no snapshot.
    pub async fn record_latest(&mut self, task: &str) -> anyhow::Result<()> {
        let progress = self.api.progress(&self.name, task).await?;
        let tag = progress["snapshot_tag"].as_str().context("the progress has no snapshot tag")?;
        self.ledger.record(tag, &self.cluster)?;
        Ok(())
    }

    /// Waits for the end of the task's n-th run, however it ends.
    ///
    /// # Errors
    /// It does not end in time.
    pub async fn run_ended(&self, task: &str, run: usize) -> anyhow::Result<RunState> {
        let ended = self.api.wait_ended(&self.name, task, run, RUN).await;
        ended.with_context(|| self.manager.as_ref().map(Child::log_tail).unwrap_or_default())
    }

    /// Creates a backup task, waits for DONE, answers task and tag.
    ///
    /// # Errors
    /// The task is refused or the run fails.
    pub async fn backup(&mut self, arguments: &[&str]) -> anyhow::Result<(String, String)> {
        let task = self.create_backup(arguments).await?;
        let tag = self.run_done(&task, 1).await?;
        Ok((task, tag))
    }

    /// Starts a task again, waits for DONE of its n-th run, answers the tag.
    ///
    /// # Errors
    /// The run fails.
    pub async fn backup_again(&mut self, task: &str, run: usize) -> anyhow::Result<String> {
        self.start_task(task).await?;
        self.run_done(task, run).await
    }

    /// Snapshots on the nodes that run: node address and snapshot name.
    ///
    /// # Errors
    /// A data directory cannot be read.
    pub async fn local_snapshots(&self) -> anyhow::Result<Vec<(String, String)>> {
        let mut found = Vec::new();
        for node in self.cluster.nodes() {
            for name in node.snapshots().await?.into_keys() {
                found.push((node.address().to_string(), name));
            }
        }
        Ok(found)
    }

    /// Demands every invariant of the bucket and the nodes; the end of each scenario.
    ///
    /// # Errors
    /// The bucket cannot be read.
    ///
    /// # Panics
    /// An invariant is broken.
    pub async fn assert_invariants(&self) -> anyhow::Result<()> {
        self.assert_invariants_of(&self.bucket).await
    }

    /// As [`assert_invariants`](Self::assert_invariants) for another bucket of the same server.
    ///
    /// # Errors
    /// The bucket cannot be read.
    ///
    /// # Panics
    /// An invariant is broken.
    pub async fn assert_invariants_of(&self, bucket: &str) -> anyhow::Result<()> {
        let contents = self.s3.contents(bucket).await?;
        let local_snapshots = self.local_snapshots().await?;
        invariants::assert_holds(
            &contents,
            &Expected { ledger: Some(&self.ledger), local_snapshots, ..Expected::default() },
        );
        Ok(())
    }

    /// As [`assert_invariants`](Self::assert_invariants) while a run waits to be continued: what it left is no fault.
    ///
    /// # Errors
    /// The bucket cannot be read.
    ///
    /// # Panics
    /// An invariant is broken.
    pub async fn assert_invariants_amid_run(&self) -> anyhow::Result<()> {
        let contents = self.s3.contents(&self.bucket).await?;
        invariants::assert_holds(
            &contents,
            &Expected { ledger: Some(&self.ledger), unfinished_run: true, ..Expected::default() },
        );
        Ok(())
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

    /// The last lines of every daemon's log, for messages.
    #[must_use]
    pub fn log_tails(&self) -> String {
        let daemons = self.manager.iter().chain(self.agents.iter().flatten());
        daemons.map(Child::log_tail).collect::<Vec<_>>().join("\n")
    }

    /// Lines of the daemons' logs at WARN and ERROR, without those that contain one of `expected`.
    ///
    /// # Errors
    /// A log cannot be read.
    pub fn log_problems(&self, expected: &[&str]) -> anyhow::Result<Vec<String>> {
        let mut problems = Vec::new();
        for entry in std::fs::read_dir(&self.dir)? {
            let path = entry?.path();
            if path.extension().is_none_or(|extension| extension != "log") {
                continue;
            }
            let text = std::fs::read(&path)?;
            for line in String::from_utf8_lossy(&text).lines() {
                let is_problem = match serde_json::from_str::<Value>(line) {
                    Ok(fields) => matches!(fields["level"].as_str(), Some("WARN" | "ERROR")),
                    // What is no log line was not meant to be printed: a panic, for one.
                    Err(_) => !line.trim().is_empty(),
                };
                if is_problem && !expected.iter().any(|expected| line.contains(expected)) {
                    let daemon = path.file_stem().unwrap_or_default().to_string_lossy();
                    problems.push(format!("{daemon}: {line}"));
                }
            }
        }
        Ok(problems)
    }

    /// Process IDs of the manager and of the agents, by node.
    #[must_use]
    pub fn pids(&self) -> (Option<u32>, Vec<Option<u32>>) {
        let agents = self.agents.iter().map(|agent| agent.as_ref().map(Child::pid)).collect();
        (self.manager.as_ref().map(Child::pid), agents)
    }
}
