//! `testbed up`: a cluster, an S3 server, agents and a manager that stay until SIGTERM.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use clap::{Args, ValueEnum};
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

use super::admin::{self, Admin, DEFAULT_ADMIN};
use crate::cluster::{ClusterBuilder, GenerationIds, TableSpec};
use crate::harness::{AUTH_TOKEN, Bed, BedConfig, DEFAULT_PROVIDER, ExternalS3, Program, S3Target};
use crate::s3::{S3Config, Storage};

/// Login that CQL demands.
pub const CQL_USERNAME: &str = "scylla_admin";
/// Its password.
pub const CQL_PASSWORD: &str = "scylla_password";

/// The cluster to simulate.
#[derive(Args, Clone, Debug)]
pub struct ClusterOptions {
    /// Number of datacenters
    #[arg(long, default_value_t = 2)]
    pub dcs: usize,
    /// Nodes in each datacenter
    #[arg(long, default_value_t = 2)]
    pub nodes: usize,
    /// User keyspaces; every second one uses tablets
    #[arg(long, default_value_t = 2)]
    pub keyspaces: usize,
    /// Tables in each keyspace
    #[arg(long, default_value_t = 2)]
    pub tables: usize,
    /// SSTables of each table on each of its nodes at the start
    #[arg(long, default_value_t = 3)]
    pub sstables: usize,
    /// Size of each Data.db, in KiB
    #[arg(long, default_value_t = 256, value_name = "KIB")]
    pub data_size: u64,
    /// Decides all names, IDs and contents
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// IDs that new SSTables get
    #[arg(long, value_enum, default_value_t = Ids::Uuid)]
    pub ids: Ids,
}

/// IDs of SSTables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Ids {
    /// Unique for ever
    Uuid,
    /// Numbers that come back after data loss
    Integer,
    /// Both, as after an upgrade
    Mixed,
}

impl ClusterOptions {
    /// The builder for this cluster on the addresses from 127.0.0.11 on.
    #[must_use]
    pub fn builder(&self, name: &str) -> ClusterBuilder {
        let table = TableSpec::new("t").sstables(self.sstables).data_size(self.data_size * 1024);
        let ids = match self.ids {
            Ids::Uuid => GenerationIds::Uuid,
            Ids::Integer => GenerationIds::Integer,
            Ids::Mixed => GenerationIds::Mixed,
        };
        let mut builder = ClusterBuilder::new()
            .name(name)
            .seed(self.seed)
            .generation_ids(ids)
            .auth(CQL_USERNAME, CQL_PASSWORD);
        for dc in 1..=self.dcs {
            builder = builder.dc(format!("dc{dc}"), self.nodes);
        }
        builder.generate(self.keyspaces, self.tables, &table).first_address(Ipv4Addr::new(127, 0, 0, 11))
    }
}

/// Options of `testbed up`.
#[derive(Args, Clone, Debug)]
pub struct UpOptions {
    #[command(flatten)]
    cluster: ClusterOptions,
    /// When everything is ready, print one line of JSON instead of text
    #[arg(long)]
    json: bool,
    /// Keep data, configurations, logs and the manager's database here instead of a temporary directory
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Buckets of the S3 server
    #[arg(long, value_delimiter = ',', default_value = "backups")]
    buckets: Vec<String>,
    /// Use this program as the agent; its configuration holds only the original's keys
    #[arg(long, value_name = "BIN")]
    agent: Option<PathBuf>,
    /// Use this program as the manager
    #[arg(long, value_name = "BIN")]
    manager: Option<PathBuf>,
    /// Use this S3 server, whose buckets exist, instead of our own
    #[arg(long, value_name = "URL")]
    s3_endpoint: Option<String>,
    /// Access key of that server
    #[arg(long, env = "TEST_S3_ACCESS_KEY", default_value = "", requires = "s3_endpoint")]
    s3_access_key: String,
    /// Secret key of that server
    #[arg(
        long,
        env = "TEST_S3_SECRET_KEY",
        default_value = "",
        hide_env_values = true,
        requires = "s3_endpoint"
    )]
    s3_secret_key: String,
    /// What that server is, in the words of the agent's configuration
    #[arg(long, env = "TEST_S3_PROVIDER", default_value = DEFAULT_PROVIDER)]
    s3_provider: String,
    /// Address for `testbed write`
    #[arg(long, default_value = DEFAULT_ADMIN)]
    admin: SocketAddr,
    /// Register the cluster with the manager under this name
    #[arg(long, value_name = "NAME")]
    add_cluster: Option<String>,
}

/// Starts everything, says so, and stays until SIGTERM or SIGINT.
///
/// # Errors
/// Something does not start or does not stop.
pub async fn run(options: UpOptions) -> anyhow::Result<()> {
    // Before anything starts, so that no signal is lost in between.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let temporary = if options.dir.is_none() {
        Some(tempfile::Builder::new().prefix("testbed-").tempdir()?)
    } else {
        None
    };
    let dir = options
        .dir
        .clone()
        .or(temporary.as_ref().map(|dir| dir.path().to_owned()))
        .context("no directory")?;
    let start = Bed::start(bed_config(&options, &dir)?);
    let bed = tokio::select! {
        bed = start => bed?,
        _ = terminate.recv() => return Ok(()),
        _ = interrupt.recv() => return Ok(()),
    };
    let listener = tokio::net::TcpListener::bind(options.admin).await;
    let listener = listener
        .with_context(|| format!("bind the admin port {}; choose another with --admin", options.admin))?;
    let counters = match &bed.s3 {
        S3Target::Own(server) => Some(server.counters.clone()),
        S3Target::Relayed(_, relay) => Some(relay.counters.clone()),
        S3Target::External(_) => None,
    };
    let admin = Arc::new(Admin { cluster: bed.cluster.clone(), s3: counters });
    announce(&options, &bed, &dir)?;
    tokio::select! {
        served = admin::serve(listener, admin) => served?,
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    bed.shutdown().await
}

fn bed_config(options: &UpOptions, dir: &std::path::Path) -> anyhow::Result<BedConfig> {
    let testbed = std::env::current_exe().context("find this executable")?;
    let bodies = dir.join("s3");
    std::fs::create_dir_all(&bodies).with_context(|| format!("create {}", bodies.display()))?;
    let mut config =
        BedConfig::new(&testbed, options.cluster.builder("testbed").data_root(dir.join("nodes")));
    if let Some(agent) = &options.agent {
        config.programs.agent = Program::foreign(agent);
    }
    if let Some(manager) = &options.manager {
        config.programs.manager = Program::foreign(manager);
    }
    config.s3 =
        S3Config { buckets: options.buckets.clone(), storage: Storage::Disk(bodies), ..S3Config::default() };
    config.external = options.s3_endpoint.as_ref().map(|endpoint| ExternalS3 {
        endpoint: endpoint.clone(),
        access_key: options.s3_access_key.clone(),
        secret_key: options.s3_secret_key.clone(),
        bucket: options.buckets.first().cloned().unwrap_or_default(),
        provider: options.s3_provider.clone(),
    });
    config.cql = Some((CQL_USERNAME.to_owned(), CQL_PASSWORD.to_owned()));
    config.register = options.add_cluster.is_some();
    config.name = options.add_cluster.clone().unwrap_or_else(|| "testbed".to_owned());
    config.dir = Some(dir.to_owned());
    config.manager_http = Some(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 5080));
    config.agent_port = Some(10_001);
    Ok(config)
}

fn announce(options: &UpOptions, bed: &Bed, dir: &std::path::Path) -> anyhow::Result<()> {
    let nodes = bed.cluster.nodes();
    let hosts: Vec<String> = nodes.iter().map(|node| node.address().to_string()).collect();
    let (access_key, secret_key) = bed.s3.keys();
    if options.json {
        let ready = json!({
            "api_url": bed.api.base(),
            "auth_token": AUTH_TOKEN,
            "agent_port": bed.agent_port(),
            "admin": options.admin.to_string(),
            "hosts": hosts,
            "data_dirs": nodes.iter().map(|node| node.data_dir()).collect::<Vec<_>>(),
            "s3_endpoint": bed.s3.endpoint(),
            "s3_access_key": access_key,
            "s3_secret_key": secret_key,
            "buckets": options.buckets,
            "cql_username": CQL_USERNAME,
            "cql_password": CQL_PASSWORD,
            "dir": dir,
        });
        println!("{}", serde_json::to_string(&ready)?);
        return Ok(());
    }
    println!("A simulated cluster is up: {} nodes at {}.", nodes.len(), hosts.join(", "));
    println!("S3 server: {} with the buckets {}.", bed.s3.endpoint(), options.buckets.join(", "));
    println!("Logs and data: {}", dir.display());
    println!("\nIn another terminal, tell sctool where the manager is:\n");
    println!("  export SCYLLA_MANAGER_API_URL={}", bed.api.base());
    println!("  alias sctool='{} exec sctool'", std::env::current_exe()?.display());
    println!("\nThen try:\n");
    if options.add_cluster.is_none() {
        println!("  sctool {}", bed.add_cluster_arguments().join(" "));
    }
    let name = &bed.name;
    println!("  sctool status -c {name}");
    println!("  sctool backup -c {name} -L s3:{}", bed.bucket);
    println!("  sctool progress -c {name} backup");
    println!("  sctool backup list -c {name}");
    println!("\nAdd data with `testbed write --rows 1000 --flush`. Stop everything with Ctrl-C.");
    Ok(())
}
