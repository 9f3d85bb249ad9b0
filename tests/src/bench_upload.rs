//! `testbed bench upload`: what the agent's engine makes of a fast network, in figures.
//!
//! Three processes on loopback: a server that reads requests and throws bodies away, a plain loop of PUTs of the same
//! files as the limit of the machine, and the agent's engine through its job registry. Each reports on itself, so the
//! CPU time and memory printed are the agent's alone.

mod files;
mod plain;
mod sender;
mod server;

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use files::Shape;

/// Added to each reply in the second half.
const DELAY_MS: u64 = 20;
/// Connections tried for the plain loop.
const CONNECTIONS: [usize; 5] = [1, 2, 4, 8, 16];
/// Name, delay of replies in milliseconds, and whether payloads are signed.
type Agent = (&'static str, u64, bool);
/// The agent's rows.
const AGENTS: [Agent; 4] = [
    ("CRC-32 header, unsigned payload", 0, false),
    ("signed SHA-256", 0, true),
    ("CRC-32 header, unsigned payload", DELAY_MS, false),
    ("signed SHA-256", DELAY_MS, true),
];
const MIB: f64 = (1 << 20) as f64;

/// Options of `testbed bench upload`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Directory for the files; they are removed afterwards.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// `transfers` of the jobs.
    #[arg(long, default_value_t = 2)]
    transfers: u32,
    /// Each measurement is the median of so many.
    #[arg(long, default_value = "5")]
    rounds: NonZeroUsize,
    /// Size of the large files, MiB.
    #[arg(long, default_value_t = 100)]
    data_mib: u64,
    /// Print one JSON object instead of the table.
    #[arg(long)]
    json: bool,
    /// Part that this process plays; set by the benchmark itself.
    #[arg(long, hide = true, value_enum)]
    role: Option<Role>,
    /// Address of the server, for the other roles.
    #[arg(long, hide = true)]
    server: Option<String>,
    /// Delay of each reply, for the server.
    #[arg(long, hide = true, default_value_t = 0)]
    delay_ms: u64,
    /// Connections of the plain loop.
    #[arg(long, hide = true, default_value_t = 1)]
    connections: usize,
    /// Sign the payload's SHA-256 rather than send a CRC-32.
    #[arg(long, hide = true)]
    signed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Role {
    /// Throws bodies away.
    Server,
    /// Sends files in a plain loop.
    Plain,
    /// Sends files through the engine.
    Agent,
}

/// One measurement, or several together.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Figures {
    /// Wall time, seconds.
    pub seconds: f64,
    /// User and system time of the sending process, seconds.
    pub cpu_seconds: f64,
    /// Peak resident memory of the sending process, bytes.
    pub peak_rss: u64,
    /// Bytes of all files.
    pub bytes: u64,
    /// Requests that were not for parts of large files.
    #[serde(default)]
    pub small_requests: u64,
}

impl Figures {
    /// Medians of time and CPU time; of memory and requests the most.
    fn median(rounds: &[Self]) -> Self {
        let middle = |value: fn(&Self) -> f64| {
            let mut sorted: Vec<f64> = rounds.iter().map(value).collect();
            sorted.sort_by(f64::total_cmp);
            sorted.get(sorted.len() / 2).copied().unwrap_or_default()
        };
        let most = |value: fn(&Self) -> u64| rounds.iter().map(value).max().unwrap_or_default();
        Self {
            seconds: middle(|f| f.seconds),
            cpu_seconds: middle(|f| f.cpu_seconds),
            peak_rss: most(|f| f.peak_rss),
            bytes: most(|f| f.bytes),
            small_requests: most(|f| f.small_requests),
        }
    }

    fn rate(&self) -> f64 {
        self.bytes as f64 / MIB / self.seconds
    }

    fn cpu_per_gib(&self) -> f64 {
        self.cpu_seconds / (self.bytes as f64 / MIB / 1024.0)
    }
}

/// Runs the benchmark, or the part of it that `args` names.
///
/// # Errors
/// A process could not be started or failed.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let server = || args.server.clone().context("--server is missing");
    let dir = || args.dir.clone().context("--dir is missing");
    match args.role {
        None => benchmark(&args).await,
        Some(Role::Server) => server::run(args.delay_ms).await,
        Some(Role::Plain) => {
            let (address, dir) = (server()?, dir()?);
            report(&tokio::task::spawn_blocking(move || plain::run(&address, &dir, args.connections)).await??)
        }
        Some(Role::Agent) => report(&sender::run(&server()?, &dir()?, args.signed, args.transfers).await?),
    }
}

fn report(figures: &Figures) -> anyhow::Result<()> {
    println!("{}", serde_json::to_string(figures)?);
    Ok(())
}

#[derive(Debug, Serialize)]
struct Row {
    name: &'static str,
    delay_ms: u64,
    mib_per_second: f64,
    share_of_limit: f64,
    cpu_seconds_per_gib: f64,
    peak_rss_mib: f64,
    requests_per_small_object: f64,
}

async fn benchmark(args: &Args) -> anyhow::Result<()> {
    common::tls::install_provider();
    let parent = args.dir.clone().unwrap_or_else(std::env::temp_dir);
    std::fs::create_dir_all(&parent)?;
    let scratch = tempfile::Builder::new().prefix("bench-upload").tempdir_in(&parent)?;
    let shape = Shape { data_bytes: args.data_mib << 20, ..Shape::default() };
    let base = scratch.path().to_owned();
    let made = tokio::task::spawn_blocking(move || files::make(&base, &shape).map(|()| shape)).await??;
    let bench = Bench { args, dir: scratch.path(), shape: made };
    let mut plain = CONNECTIONS.map(|connections| (connections, Vec::new()));
    let mut agents = AGENTS.map(|agent| (agent, Vec::new()));
    // Everything in turn, round by round: a machine that gets faster or slower meanwhile does so for all.
    for _ in 0..args.rounds.get() {
        for (connections, rounds) in &mut plain {
            rounds.push(bench.plain(*connections).await?);
        }
        for ((_, delay_ms, signed), rounds) in &mut agents {
            rounds.push(bench.agent(*delay_ms, *signed).await?);
        }
    }
    let limit = plain
        .map(|(connections, rounds)| (connections, Figures::median(&rounds)))
        .into_iter()
        .max_by(|(_, a), (_, b)| a.rate().total_cmp(&b.rate()))
        .context("the plain loop was not measured")?;
    let row = |((name, delay_ms, _), rounds): (Agent, Vec<Figures>)| {
        bench.row(name, delay_ms, &Figures::median(&rounds), limit.1.rate())
    };
    print(args, &limit, &agents.map(row))
}

fn print(args: &Args, limit: &(usize, Figures), rows: &[Row]) -> anyhow::Result<()> {
    if args.json {
        let (connections, limit) = limit;
        let all = serde_json::json!({
            "limit_mib_per_second": limit.rate(),
            "limit_connections": connections,
            "limit_cpu_seconds_per_gib": limit.cpu_per_gib(),
            "rows": rows,
        });
        println!("{all}");
        return Ok(());
    }
    println!(
        "limit: plain loop of PUTs on {} connections, {:.0} MiB/s, {:.2} CPU-s/GiB without any checksum",
        limit.0,
        limit.1.rate(),
        limit.1.cpu_per_gib()
    );
    println!(
        "{:<33} {:>6} {:>8} {:>9} {:>10} {:>9} {:>10}",
        "agent", "delay", "MiB/s", "of limit", "CPU-s/GiB", "peak RSS", "req/small"
    );
    for row in rows {
        println!(
            "{:<33} {:>4}ms {:>8.0} {:>9.2} {:>10.2} {:>6.0}MiB {:>10.2}",
            row.name,
            row.delay_ms,
            row.mib_per_second,
            row.share_of_limit,
            row.cpu_seconds_per_gib,
            row.peak_rss_mib,
            row.requests_per_small_object
        );
    }
    for pair in rows.iter().filter(|r| r.delay_ms == 0) {
        let slow = rows.iter().find(|r| r.delay_ms > 0 && r.name == pair.name);
        if let Some(slow) = slow {
            println!(
                "{}: with the delay {:.2} of the rate without (wanted: at least 0.6)",
                pair.name,
                slow.mib_per_second / pair.mib_per_second
            );
        }
    }
    println!(
        "wanted: 0.4 of the limit, at most 1.0 CPU-s/GiB unsigned and 1.5 signed, 80 MiB, 1.1 requests per small object"
    );
    Ok(())
}

struct Bench<'a> {
    args: &'a Args,
    dir: &'a Path,
    shape: Shape,
}

impl Bench<'_> {
    async fn plain(&self, connections: usize) -> anyhow::Result<Figures> {
        let server = ServerProcess::start(0).await?;
        self.warm().await?;
        let args = ["--role", "plain", "--connections", &connections.to_string()].map(str::to_owned);
        self.sender(&server.address, &args).await
    }

    async fn agent(&self, delay_ms: u64, signed: bool) -> anyhow::Result<Figures> {
        let server = ServerProcess::start(delay_ms).await?;
        self.warm().await?;
        let transfers = self.args.transfers.to_string();
        let mut args = ["--role", "agent", "--transfers", &transfers].map(str::to_owned).to_vec();
        args.extend(signed.then(|| "--signed".to_owned()));
        let mut figures = self.sender(&server.address, &args).await?;
        figures.small_requests = server.small_requests().await?;
        Ok(figures)
    }

    fn row(&self, name: &'static str, delay_ms: u64, figures: &Figures, limit: f64) -> Row {
        Row {
            name,
            delay_ms,
            mib_per_second: figures.rate(),
            share_of_limit: figures.rate() / limit,
            cpu_seconds_per_gib: figures.cpu_per_gib(),
            peak_rss_mib: figures.peak_rss as f64 / MIB,
            requests_per_small_object: figures.small_requests as f64 / self.shape.small_files as f64,
        }
    }

    async fn sender(&self, server: &str, args: &[String]) -> anyhow::Result<Figures> {
        let dir = self.dir.to_str().context("the directory's name is not UTF-8")?;
        let output = command()?
            .args(args)
            .args(["--server", server, "--dir", dir])
            .stdout(Stdio::piped())
            .output()
            .await
            .context("start the sending process")?;
        anyhow::ensure!(output.status.success(), "the sending process failed: {}", output.status);
        let text = String::from_utf8(output.stdout)?;
        serde_json::from_str(text.trim()).with_context(|| format!("figures of the sending process: {text:?}"))
    }

    /// Brings the files into the page cache: the engine hands its pages back after sending, and the disk of the
    /// machine is not what is measured. New hard links stand for a new snapshot.
    async fn warm(&self) -> anyhow::Result<()> {
        let dir = self.dir.to_owned();
        tokio::task::spawn_blocking(move || files::snapshot(&dir)).await?
    }
}

fn command() -> anyhow::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["bench", "upload"]).kill_on_drop(true);
    // Loopback must not go through a proxy.
    for name in ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"] {
        command.env_remove(name);
    }
    Ok(command)
}

struct ServerProcess {
    address: String,
    _child: Child,
}

impl ServerProcess {
    async fn start(delay_ms: u64) -> anyhow::Result<Self> {
        let mut child = command()?
            .args(["--role", "server", "--delay-ms", &delay_ms.to_string()])
            .stdout(Stdio::piped())
            .spawn()
            .context("start the server process")?;
        let output = child.stdout.take().context("the server process has no output")?;
        let mut lines = BufReader::new(output).lines();
        let address = lines.next_line().await?.context("the server process ended early")?;
        Ok(Self { address, _child: child })
    }

    async fn small_requests(&self) -> anyhow::Result<u64> {
        let text = reqwest::Client::builder()
            .no_proxy()
            .build()?
            .get(format!("http://{}{}", self.address, server::COUNT_PATH))
            .send()
            .await?
            .text()
            .await?;
        Ok(text.trim().parse()?)
    }
}
