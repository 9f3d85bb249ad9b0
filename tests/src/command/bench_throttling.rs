//! `testbed bench throttling`: what arrives at the server under `--rate-limit`, in real time.
//!
//! Two datacenters of one node, a bucket for each, so that the server can tell their bytes apart. Some parts are
//! refused with 503 after their bytes arrived: what counts is what goes over the network, retries included.

mod rates;

use std::time::Duration;

use anyhow::{Context, ensure};
use clap::Args;

use self::rates::{Spread, settled_after, spread};
use crate::cluster::{ClusterBuilder, KeyspaceSpec, TableSpec};
use crate::harness::{Bed, BedConfig, Deadline, wait_for};
use crate::s3::{Calls, Fault, Quirks, RequestKind, Rule, S3Config, Storage, WINDOW};

const MIB: u64 = 1 << 20;
/// Buckets, called as the datacenters that use them.
const DCS: [&str; 2] = ["dc1", "dc2"];
/// MiB/s of the nodes of each datacenter, before and after `backup control`.
const BEFORE: [u64; 2] = [50, 100];
const AFTER: [u64; 2] = [25, 60];
/// Every so many parts one is refused.
const REFUSED: u64 = 15;
/// Size of each `Data.db`.
const DATA: u64 = 256 * MIB;
/// Windows over which a limit must hold, and by how much at most it may be missed.
const LONG: Duration = Duration::from_secs(10);
/// Windows in which a new rate is looked for.
const SHORT: Duration = Duration::from_secs(1);
const STARTED: Deadline = Deadline::seconds(120);
const STOPPED: Deadline = Deadline::seconds(20);

/// Options of `testbed bench throttling`.
#[derive(Args, Clone, Debug)]
pub struct ThrottlingOptions {
    /// Seconds to measure before the limit is changed, and again after that
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(12..=300))]
    seconds: u64,
}

/// Runs the benchmark and prints its figures.
///
/// # Errors
/// Something does not start, or the backup ends before it is stopped.
pub async fn run(options: ThrottlingOptions) -> anyhow::Result<()> {
    let bed = start(options.seconds).await?;
    let task = start_backup(&bed).await?;
    let counters = &bed.own_s3().counters;
    wait_for("an upload from each datacenter", STARTED, async || {
        let begun = |dc: &&str| counters.received_per_window_into(dc).iter().sum::<u64>() > MIB;
        Ok(DCS.iter().all(begun).then_some(()))
    })
    .await?;
    // The measurement takes its time: nothing is waited for here.
    let pause = Duration::from_secs(options.seconds);
    let first = windows(counters.elapsed()) + 1;
    tokio::time::sleep(pause).await;

    let changed = windows(counters.elapsed());
    let limits = joined(AFTER);
    bed.sctool_ok(&["backup", "control", "-c", &bed.name, &task, "--rate-limit", &limits]).await?;
    let answered = counters.elapsed();
    tokio::time::sleep(pause).await;

    let stop = windows(counters.elapsed());
    bed.sctool_ok(&["stop", "-c", &bed.name, &task]).await?;
    let ended = bed.api.wait_status(&bed.name, &task, "STOPPED", STOPPED).await;
    ended.context("the backup did not stop; did it end before?")?;
    let stopped = counters.elapsed();
    tokio::time::sleep(SHORT).await;

    let parts = counters.of(RequestKind::UploadPart);
    println!("{} of {} parts were refused with 503 and sent again.", parts.failed, parts.requests);
    println!("MiB/s at the server over every 10 s (wanted: within 5 %):");
    for (at, dc) in DCS.iter().enumerate() {
        let received = counters.received_per_window_into(dc);
        let steady = spread(part(&received, first, changed), windows(LONG));
        print_spread(dc, BEFORE[at], steady);
        print_change(dc, AFTER[at], part(&received, changed, stop));
        let to = windows(stopped) + 1;
        let ending = spread(part(&received, stop.saturating_sub(windows(LONG)), to), windows(LONG));
        let most = ending.map_or(0.0, |spread| spread.most);
        let late: u64 = part(&received, to, usize::MAX).iter().sum();
        println!("       while stopping: at most {:.2}; {late} bytes after STOPPED", mib(most));
    }
    let took = answered.saturating_sub(WINDOW * u32::try_from(changed).unwrap_or(u32::MAX));
    println!("`sctool backup control` returned after {} ms.", took.as_millis());
    println!(
        "STOPPED {} ms after `sctool stop` was typed.",
        stopped.as_millis() - stop as u128 * WINDOW.as_millis()
    );
    bed.shutdown().await
}

async fn start(seconds: u64) -> anyhow::Result<Bed> {
    let testbed = std::env::current_exe().context("find this executable")?;
    // Enough for the faster node, and some more.
    let needed = (BEFORE[1] + AFTER[1]) * (seconds + 5) * MIB * 5 / 4;
    let sstables = usize::try_from(needed.div_ceil(DATA)).unwrap_or(usize::MAX);
    let table = TableSpec::new("data").sstables(sstables).rows_per_sstable(1).data_size(DATA).sparse();
    let keyspace = KeyspaceSpec::new("bench").table(table);
    let cluster = ClusterBuilder::new().dc(DCS[0], 1).dc(DCS[1], 1).keyspace(keyspace).empty_system_tables();
    println!("Making {sstables} sparse SSTables of {} MiB on two nodes ...", DATA / MIB);
    let mut config = BedConfig::new(&testbed, cluster);
    config.s3 = S3Config {
        buckets: DCS.map(str::to_owned).into(),
        storage: Storage::Discard { keep_up_to: MIB },
        quirks: Quirks { opaque_etags: true, ..Quirks::default() },
        ..S3Config::default()
    };
    Bed::start(config).await
}

async fn start_backup(bed: &Bed) -> anyhow::Result<String> {
    let refused = Rule::new(Fault::slow_down()).on(&[RequestKind::UploadPart]).calls(Calls::Every(REFUSED));
    bed.own_s3().faults.add(refused);
    let (locations, limits) = (DCS.map(|dc| format!("{dc}:s3:{dc}")).join(","), joined(BEFORE));
    println!("sctool backup -c {} -L {locations} --rate-limit {limits}", bed.name);
    let flags = ["-L", &locations, "--rate-limit", &limits, "--num-retries", "0"];
    let printed = bed.sctool_ok(&[&["backup", "-c", &bed.name], &flags[..]].concat()).await?;
    let task = printed.trim().to_owned();
    ensure!(task.starts_with("backup/"), "{task:?} is no task");
    Ok(task)
}

/// Limits as `--rate-limit` takes them.
fn joined(limits: [u64; 2]) -> String {
    format!("{}:{},{}", DCS[0], limits[0], limits[1])
}

/// How many of the server's windows some time has; at that time, the number of the window.
fn windows(time: Duration) -> usize {
    usize::try_from(time.as_millis() / WINDOW.as_millis()).unwrap_or(usize::MAX)
}

fn part(received: &[u64], from: usize, to: usize) -> &[u64] {
    let to = to.min(received.len());
    received.get(from.min(to)..to).unwrap_or_default()
}

/// Bytes per window at that many MiB/s.
fn rate(mib_per_second: u64) -> f64 {
    (mib_per_second * MIB) as f64 * WINDOW.as_secs_f64()
}

/// MiB/s at that many bytes per window.
fn mib(bytes_per_window: f64) -> f64 {
    bytes_per_window / WINDOW.as_secs_f64() / MIB as f64
}

/// `received` begins with the change.
fn print_change(dc: &str, limit: u64, received: &[u64]) {
    let Some(settled) = settled_after(received, windows(SHORT), rate(limit)) else {
        println!("  {dc}  limit {limit:>3}: never seen");
        return;
    };
    print_spread(dc, limit, spread(&received[settled..], windows(LONG)));
    // The change came somewhere in the first window.
    let ms = (settled as u128 + 1) * WINDOW.as_millis();
    println!("       in force within {ms} ms of typing `sctool backup control` (wanted: 2000)");
}

fn print_spread(dc: &str, limit: u64, spread: Option<Spread>) {
    let Some(Spread { least, most, mean }) = spread else {
        println!("  {dc}  limit {limit:>3}: too short to tell");
        return;
    };
    let off = |bytes: f64| (mib(bytes) / limit as f64 - 1.0) * 100.0;
    let (low, high) = (off(least), off(most));
    let (least, most, mean) = (mib(least), mib(most), mib(mean));
    println!(
        "  {dc}  limit {limit:>3}: {least:.2} to {most:.2}, mean {mean:.2} ({low:+.1} % to {high:+.1} %)"
    );
}
