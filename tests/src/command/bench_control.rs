//! `testbed bench control`: how the manager answers for many tables, many nodes and many snapshots.
//!
//! Agents, manager and `sctool` are processes as in an installation, and every time is that of a whole `sctool` call.
//! The history is written straight into the bucket: what is measured is reading it.

mod history;

use std::time::Duration;

use anyhow::{Context, ensure};
use clap::Args;
use serde_json::Value;
use tokio::time::Instant;

use super::measure::{Figure, cpu_seconds, memory_peak, reset_memory_peak};
use crate::cluster::{ClusterBuilder, TableSpec};
use crate::harness::{Bed, BedConfig, Deadline};
use crate::s3::{Quirks, S3Config};
use history::History;

/// A backup of all tables may take this long.
const BACKUP: Deadline = Deadline { limit: Duration::from_secs(1800), every: Duration::from_millis(200) };
/// Calls of each kind; the slowest one counts.
const CALLS: usize = 5;

/// Options of `testbed bench control`.
#[derive(Args, Clone, Debug)]
pub struct ControlOptions {
    /// Nodes in each of the two datacenters
    #[arg(long, default_value_t = 3)]
    nodes: usize,
    /// Tables, all of them on every node
    #[arg(long, default_value_t = 500)]
    tables: usize,
    /// Keyspaces they are spread over; every second one uses tablets
    #[arg(long, default_value_t = 5)]
    keyspaces: usize,
    /// Snapshots in the bucket
    #[arg(long, default_value_t = 30)]
    snapshots: usize,
    /// SSTables of each table in each snapshot
    #[arg(long, default_value_t = 20)]
    sstables: usize,
}

impl ControlOptions {
    fn cluster(&self) -> ClusterBuilder {
        let table = TableSpec::new("t").rows_per_sstable(1);
        ClusterBuilder::new()
            .dc("dc1", self.nodes)
            .dc("dc2", self.nodes)
            .tokens_per_node(256)
            .generate(self.keyspaces, self.tables.div_ceil(self.keyspaces), &table)
            .empty_system_tables()
    }
}

/// Runs the benchmark and prints its figures.
///
/// # Errors
/// A command or a backup fails, or an answer is not complete.
pub async fn run(options: ControlOptions) -> anyhow::Result<()> {
    let testbed = std::env::current_exe().context("find this executable")?;
    println!("Starting 2 x {} nodes with {} tables ...", options.nodes, options.tables);
    let mut config = BedConfig::new(&testbed, options.cluster());
    config.s3 =
        S3Config { quirks: Quirks { opaque_etags: true, ..Quirks::default() }, ..S3Config::default() };
    let bed = Bed::start(config).await?;
    let manager = bed.pids().0.context("the manager is gone")?;

    println!("First backup ...");
    let keep = options.snapshots.to_string();
    let task = bed.create_backup(&["--retention", &keep]).await?;
    let first = ended(&bed, &task, 1).await?;
    println!("  {first:.1} s");

    println!("Writing {} earlier snapshots into the bucket ...", options.snapshots);
    let history = History {
        task: task.rsplit('/').next().context("the task has no ID")?.parse()?,
        cluster: cluster_id(&bed).await?,
        snapshots: options.snapshots,
        sstables: options.sstables,
    };
    let written = history.write(&bed)?;
    println!("  {written}");

    println!("Asking the manager ...");
    reset_memory_peak(manager)?;
    let location = bed.location();
    let name = bed.name.as_str();
    let dry_run = slowest(&bed, &["backup", "-c", name, "-L", &location, "--dry-run"]).await?;
    let list = slowest(&bed, &["backup", "list", "-c", name]).await?;
    let progress = slowest(&bed, &["progress", "-c", name, &task]).await?;
    let details = slowest(&bed, &["progress", "-c", name, &task, "--details"]).await?;
    let asked = memory_peak(manager)?;
    check_answers(&bed, &options, &task).await?;

    println!("Second backup, which reads all manifests to purge the oldest snapshots ...");
    bed.start_task(&task).await?;
    let second = ended(&bed, &task, 2).await?;
    println!("  {second:.1} s");
    let peak = memory_peak(manager)?;

    println!("\nSlowest of {CALLS} calls each:");
    let seconds = |what, measured, at_most| Figure { what, measured, at_most, unit: "s" };
    let millis =
        |what, measured: f64| Figure { what, measured: measured * 1000.0, at_most: 300.0, unit: "ms" };
    let mib = |what, measured| Figure { what, measured, at_most: 128.0, unit: "MiB" };
    for figure in [
        seconds("backup --dry-run", dry_run, 10.0),
        seconds("backup list", list, 2.0),
        millis("progress", progress),
        millis("progress --details", details),
        mib("manager, peak memory, these calls", asked),
        mib("manager, peak memory, with backup", peak),
    ] {
        println!("{}", figure.line());
    }
    bed.shutdown().await
}

/// Waits for the end of a run and demands that it went well; answers the seconds it took from here.
async fn ended(bed: &Bed, task: &str, run: usize) -> anyhow::Result<f64> {
    let started = Instant::now();
    let state = bed.api.wait_ended(&bed.name, task, run, BACKUP).await?;
    ensure!(state.status == "DONE", "backup {run} is {}: {}\n{}", state.status, state.cause, bed.log_tails());
    Ok(started.elapsed().as_secs_f64())
}

async fn cluster_id(bed: &Bed) -> anyhow::Result<common::ids::ClusterId> {
    let clusters = bed.api.get("/clusters").await?;
    let id = clusters[0]["id"].as_str().context("the manager knows no cluster")?;
    Ok(id.parse()?)
}

/// Seconds that the slowest of some equal calls of `sctool` takes.
async fn slowest(bed: &Bed, arguments: &[&str]) -> anyhow::Result<f64> {
    let manager = bed.pids().0.context("the manager is gone")?;
    let before = cpu_seconds(manager)?;
    let mut times = Vec::with_capacity(CALLS);
    for _ in 0..CALLS {
        let started = Instant::now();
        bed.sctool_ok(arguments).await?;
        times.push(started.elapsed().as_secs_f64());
    }
    let shown: Vec<String> = times.iter().map(|time| format!("{time:.3}")).collect();
    let each = (cpu_seconds(manager)? - before) / CALLS as f64;
    println!("  sctool {}: {} s; CPU of the manager {each:.3} s each", arguments.join(" "), shown.join(", "));
    Ok(times.into_iter().fold(0.0, f64::max))
}

/// Fast answers must be whole ones.
async fn check_answers(bed: &Bed, options: &ControlOptions, task: &str) -> anyhow::Result<()> {
    let list = bed.api.get(&format!("/cluster/{}/backups?locations={}", bed.name, bed.location())).await?;
    let snapshots = list[0]["snapshot_info"].as_array().map_or(0, Vec::len);
    ensure!(snapshots == options.snapshots + 1, "{snapshots} snapshots are listed");
    let tables = |keyspaces: &Value, name: &str| -> usize {
        let keyspaces = keyspaces.as_array().into_iter().flatten();
        keyspaces.filter_map(|keyspace| keyspace[name].as_array()).map(Vec::len).sum()
    };
    let listed = tables(&list[0]["units"], "tables");
    ensure!(listed >= options.tables, "{listed} tables are listed");
    let progress = bed.api.progress(&bed.name, task).await?;
    let hosts = progress["hosts"].as_array().context("no hosts in the progress")?;
    ensure!(hosts.len() == 2 * options.nodes, "{} hosts are in the progress", hosts.len());
    for host in hosts {
        let shown = tables(&host["keyspaces"], "tables");
        ensure!(shown >= options.tables, "{shown} tables of {} are in the progress", host["host"]);
    }
    Ok(())
}
