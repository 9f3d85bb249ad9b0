//! `testbed bench scale`: one backup without changes of many SSTable files on one node.

use std::time::Duration;

use anyhow::{Context, ensure};
use clap::Args;
use tokio::time::Instant;

use super::measure::{Figure, memory_peak, reset_memory_peak};
use crate::cluster::{ClusterBuilder, KeyspaceSpec, TableSpec};
use crate::harness::{Bed, BedConfig, Deadline};
use crate::s3::{Quirks, S3Config};

/// Components of one SSTable in format `me`.
const COMPONENTS: usize = 9;
/// The first backup sends every file; it may take this long.
const FIRST: Deadline = Deadline { limit: Duration::from_secs(1800), every: Duration::from_millis(500) };
/// The measured backup may take this long.
const SECOND: Deadline = Deadline { limit: Duration::from_secs(600), every: Duration::from_millis(50) };

/// Options of `testbed bench scale`.
#[derive(Args, Clone, Debug)]
pub struct ScaleOptions {
    /// SSTable component files on the node
    #[arg(long, default_value_t = 100_000)]
    files: usize,
    /// Tables they are spread over
    #[arg(long, default_value_t = 4)]
    tables: usize,
}

/// Runs the benchmark and prints its figures.
///
/// # Errors
/// A backup fails, or the second one sends an SSTable file.
pub async fn run(options: ScaleOptions) -> anyhow::Result<()> {
    let testbed = std::env::current_exe().context("find this executable")?;
    let per_table = options.files.div_ceil(COMPONENTS * options.tables);
    let mut keyspace = KeyspaceSpec::new("scale").replicas("dc1", 1);
    for table in 1..=options.tables {
        keyspace =
            keyspace.table(TableSpec::new(format!("t{table}")).sstables(per_table).rows_per_sstable(1));
    }
    let cluster = ClusterBuilder::new().dc("dc1", 1).keyspace(keyspace).empty_system_tables();
    println!(
        "Making {} files ({per_table} SSTables in each of {} tables) ...",
        per_table * options.tables * COMPONENTS,
        options.tables
    );
    let mut config = BedConfig::new(&testbed, cluster);
    config.s3 =
        S3Config { quirks: Quirks { opaque_etags: true, ..Quirks::default() }, ..S3Config::default() };
    let bed = Bed::start(config).await?;
    let task = bed.create_backup(&[]).await?;
    println!("First backup ...");
    let started = Instant::now();
    let first = bed.api.wait_ended(&bed.name, &task, 1, FIRST).await?;
    ensure!(first.status == "DONE", "the first backup is {}: {}", first.status, first.cause);
    println!("  {:.1} s", started.elapsed().as_secs_f64());

    let (manager, agents) = bed.pids();
    let agent = agents.first().copied().flatten();
    for pid in [manager, agent].into_iter().flatten() {
        reset_memory_peak(pid)?;
    }
    bed.own_s3().counters.reset();
    println!("Second backup, nothing changed ...");
    let started = Instant::now();
    bed.start_task(&task).await?;
    let second = bed.api.wait_ended(&bed.name, &task, 2, SECOND).await?;
    let seconds = started.elapsed().as_secs_f64();
    ensure!(second.status == "DONE", "the second backup is {}: {}", second.status, second.cause);
    let counters = &bed.own_s3().counters;
    let sent = counters
        .written_keys("backup/sst/")
        .into_iter()
        .filter(|key| !key.ends_with("manifest.json"))
        .count();
    ensure!(sent == 0, "{sent} SSTable files were sent although nothing had changed");
    println!("  requests to S3: {}", counters.total().requests);
    for (kind, count) in counters.by_kind() {
        println!("    {:<22}{}", kind.to_string(), count.requests);
    }
    let peak = |pid: Option<u32>| memory_peak(pid.context("the process is gone")?);
    for figure in [
        Figure { what: "time", measured: seconds, at_most: 30.0, unit: "s" },
        Figure { what: "agent, peak memory", measured: peak(agent)?, at_most: 96.0, unit: "MiB" },
        Figure { what: "manager, peak memory", measured: peak(manager)?, at_most: 128.0, unit: "MiB" },
    ] {
        println!("{}", figure.line());
    }
    bed.shutdown().await
}
