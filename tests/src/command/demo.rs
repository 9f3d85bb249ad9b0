//! `testbed demo`: a backup from beginning to end, in words for someone who sees it for the first time.

use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr};

use anyhow::{Context, ensure};
use clap::Args;

use super::up::{CQL_PASSWORD, CQL_USERNAME, ClusterOptions, Ids};
use crate::harness::{Bed, BedConfig, Deadline, SctoolRun, wait_for};
use crate::s3::S3Config;

/// Name of the cluster and of the bucket in the demo.
const CLUSTER: &str = "demo";
const BUCKET: &str = "demo-backups";
/// One backup of the demo ends within this many seconds.
const BACKUP: Deadline =
    Deadline { limit: std::time::Duration::from_secs(80), every: std::time::Duration::from_millis(200) };
/// Lines of a long output that are shown.
const SHOWN_LINES: usize = 8;

/// Options of `testbed demo`.
#[derive(Args, Clone, Debug)]
pub struct DemoOptions {
    /// Nodes in each of the two datacenters
    #[arg(long, default_value_t = 2)]
    nodes: usize,
    /// Size of each Data.db, in KiB
    #[arg(long, default_value_t = 512, value_name = "KIB")]
    data_size: u64,
}

/// Runs the demo; everything it started is gone when it returns.
///
/// # Errors
/// A step does not do what it should.
pub async fn run(options: DemoOptions) -> anyhow::Result<()> {
    say(
        "This shows a backup of a Scylla cluster from beginning to end. Nothing is installed, nothing stays.",
    );
    heading("1. A cluster to back up");
    let bed = start(&options).await?;
    let result = Box::pin(show(&bed)).await;
    if result.is_err() {
        eprintln!("{}", bed.log_tails());
    }
    let stopped = bed.shutdown().await;
    result.and(stopped)?;
    what_next();
    Ok(())
}

async fn start(options: &DemoOptions) -> anyhow::Result<Bed> {
    let testbed = std::env::current_exe().context("find this executable")?;
    let cluster = ClusterOptions {
        dcs: 2,
        nodes: options.nodes,
        keyspaces: 2,
        tables: 2,
        sstables: 3,
        data_size: options.data_size,
        seed: 1,
        ids: Ids::Uuid,
    };
    let mut config = BedConfig::new(&testbed, cluster.builder(CLUSTER));
    config.s3 = S3Config { buckets: vec![BUCKET.to_owned()], ..S3Config::default() };
    config.cql = Some((CQL_USERNAME.to_owned(), CQL_PASSWORD.to_owned()));
    config.register = false;
    config.name = CLUSTER.to_owned();
    config.manager_http = Some((IpAddr::V4(Ipv4Addr::LOCALHOST), 5080).into());
    config.agent_port = Some(10_001);
    let bed = Bed::start(config).await?;
    let nodes = bed.cluster.nodes();
    say(&format!(
        "{} simulated Scylla nodes in 2 datacenters, with real files on disk. Beside each runs an agent \
         (scylla-manager-agent), which reads the node's files. One manager (scylla-manager) tells the agents what to do. \
         Backups go to an S3 server on this machine, into the bucket `{BUCKET}`.",
        nodes.len()
    ));
    for node in nodes {
        say(&format!("  node {}  {}  {}", node.address(), node.dc(), node.rack()));
    }
    Ok(bed)
}

async fn show(bed: &Bed) -> anyhow::Result<()> {
    heading("2. Tell the manager about the cluster");
    say(
        "One node is enough: the manager finds the others through it. CQL user and password let it save the schema.",
    );
    let arguments = bed.add_cluster_arguments();
    sctool(bed, &arguments.iter().map(String::as_str).collect::<Vec<_>>(), None).await?;
    sctool(bed, &["status", "-c", CLUSTER], None).await?;

    heading("3. The first backup copies everything");
    let location = format!("s3:{BUCKET}");
    let task = sctool(bed, &["backup", "-c", CLUSTER, "-L", &location, "--retention", "7"], None).await?;
    let task = task.trim().to_owned();
    say(
        "The answer is the name of the task. It runs in the background; without a schedule it runs once, now.",
    );
    follow(bed, &task, 1).await?;
    sctool(bed, &["progress", "-c", CLUSTER, &task], None).await?;
    let first = uploaded_sstable_files(bed);
    say(&format!("{first} SSTable files went to the bucket. `Success` is what is safe there."));

    heading("4. The second backup copies only what is new");
    say("Some new rows are written to one table and flushed to disk, then the task is started again.");
    bed.cluster.write_rows("ks1", "t1", 50)?;
    bed.cluster.flush("ks1", "t1").await?;
    bed.own_s3().counters.reset();
    sctool(bed, &["start", "-c", CLUSTER, &task], None).await?;
    follow(bed, &task, 2).await?;
    sctool(bed, &["progress", "-c", CLUSTER, &task], None).await?;
    let second = uploaded_sstable_files(bed);
    say(&format!(
        "Only {second} SSTable files were sent this time. `Deduplicated` is what the bucket had already."
    ));
    ensure!(second < first, "the second backup sent {second} files, the first one {first}");

    heading("5. What is in the bucket");
    sctool(bed, &["backup", "list", "-c", CLUSTER], None).await?;
    say("Both snapshots are complete: each can be restored, and deleted, without the other.");
    let tag = newest_tag(bed, &task).await?;
    sctool(bed, &["backup", "files", "-c", CLUSTER, "--snapshot-tag", &tag], Some(SHOWN_LINES)).await?;
    sctool(bed, &["tasks", "-c", CLUSTER], None).await?;

    heading("6. Is it really safe?");
    let contents = bed.s3.contents(BUCKET).await?;
    let expected =
        crate::invariants::Expected { local_snapshots: bed.local_snapshots().await?, ..Default::default() };
    crate::invariants::assert_holds(&contents, &expected);
    let bytes: u64 = contents.objects.values().map(|object| object.size).sum();
    say(&format!(
        "Checked apart from the programs: every file of both snapshots is in the bucket with the size and checksum of its \
         manifest, nothing else is there ({} objects, {:.1} MiB), and no snapshot is left on the nodes.",
        contents.objects.len(),
        bytes as f64 / 1_048_576.0
    ));
    Ok(())
}

fn uploaded_sstable_files(bed: &Bed) -> usize {
    let written = bed.own_s3().counters.written_keys("backup/sst/");
    written.iter().filter(|key| !key.ends_with("manifest.json")).count()
}

async fn newest_tag(bed: &Bed, task: &str) -> anyhow::Result<String> {
    let progress = bed.api.progress(CLUSTER, task).await?;
    Ok(progress["snapshot_tag"].as_str().context("the run has no snapshot tag")?.to_owned())
}

/// Shows the stages of a run until it ends, and demands DONE.
async fn follow(bed: &Bed, task: &str, run: usize) -> anyhow::Result<()> {
    let mut shown = String::new();
    let what = format!("end of backup {run}");
    let ended = wait_for(&what, BACKUP, async || {
        let history = bed.api.history(CLUSTER, task).await?;
        let progress = bed.api.progress(CLUSTER, task).await.unwrap_or_default();
        let stage = progress["stage"].as_str().unwrap_or_default().to_lowercase().replace('_', " ");
        let runs = history.len();
        if runs >= run && !stage.is_empty() && stage != shown {
            say(&format!("    … {stage}"));
            shown = stage;
        }
        Ok(history.into_iter().next().filter(|state| runs >= run && state.has_ended()))
    });
    let ended = ended.await?;
    ensure!(ended.status == "DONE", "the backup is {}: {}", ended.status, ended.cause);
    Ok(())
}

/// Shows a command and what it prints, at most `limit` lines of it.
async fn sctool(bed: &Bed, arguments: &[&str], limit: Option<usize>) -> anyhow::Result<String> {
    say(&format!("\n$ sctool {}", shown_command(arguments)));
    let SctoolRun { code, stdout, stderr } = bed.sctool(arguments).await?;
    let lines: Vec<&str> = stdout.lines().collect();
    let shown = limit.unwrap_or(lines.len());
    for line in lines.iter().take(shown) {
        say(line);
    }
    if lines.len() > shown {
        say(&format!("… and {} more lines", lines.len() - shown));
    }
    // The clipper and hints are part of what a user sees.
    for line in stderr.lines() {
        say(line);
    }
    ensure!(code == 0, "sctool {} ended with exit code {code}", arguments.join(" "));
    Ok(stdout)
}

fn shown_command(arguments: &[&str]) -> String {
    let quote = |argument: &&str| {
        if argument.contains([' ', '*', '!']) { format!("'{argument}'") } else { (*argument).to_owned() }
    };
    arguments.iter().map(quote).collect::<Vec<_>>().join(" ")
}

fn what_next() {
    heading("What to type next");
    say("Keep such a cluster running and play with it:\n");
    say("  cargo run -p testbed -- up --add-cluster demo");
    say("\nIt prints how to point sctool at it. Then, for example:\n");
    say("  sctool backup -c demo -L s3:backups --cron '0 2 * * *' --retention 7     every night at two");
    say("  sctool backup -c demo -L s3:backups -K 'ks1,!ks1.t2' --dry-run           what would be saved");
    say("  cargo run -p testbed -- write --rows 1000 --flush                        add data");
    say("  sctool backup list -c demo");
}

fn heading(text: &str) {
    say(&format!("\n=== {text}"));
}

/// Prints a line; a reader who went away is no error.
fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}
