//! `testbed`: a simulated Scylla cluster with backups, for the demo, for playing, and for benchmarks.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, Subcommand};
use testbed::command::admin::{self, DEFAULT_ADMIN};
use testbed::command::exec::{self, ProgramName};
use testbed::command::{bench_control, bench_scale, bench_throttling, demo, manual, up};

/// Runs backups of a simulated Scylla cluster on this machine
#[derive(Parser)]
#[command(name = "testbed", version = common::version::VERSION)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Show a backup from beginning to end, then stop everything (takes about a minute)
    Demo(demo::DemoOptions),
    /// Keep a cluster with agents, manager and S3 server running until Ctrl-C
    Up(Box<up::UpOptions>),
    /// Add data to a cluster that `testbed up` keeps running
    Write(WriteOptions),
    /// Measure
    #[command(subcommand)]
    Bench(Bench),
    /// Write man pages, completion scripts and the command reference
    Manual(manual::ManualOptions),
    /// Be one of the programs: agent, manager or sctool
    #[command(disable_help_flag = true)]
    Exec {
        /// Which one
        #[arg(value_enum)]
        program: ProgramName,
        /// Its arguments
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
}

#[derive(clap::Args)]
struct WriteOptions {
    /// Keyspace; all user keyspaces when left out
    #[arg(long)]
    keyspace: Option<String>,
    /// Table; all tables of the keyspaces when left out
    #[arg(long)]
    table: Option<String>,
    /// New rows for each table
    #[arg(long, default_value_t = 100)]
    rows: usize,
    /// Write them to disk as a new SSTable at once
    #[arg(long)]
    flush: bool,
    /// Then merge all SSTables of each table into one
    #[arg(long)]
    compact: bool,
    /// Address that `testbed up` listens on
    #[arg(long, default_value = DEFAULT_ADMIN)]
    admin: SocketAddr,
}

#[derive(Subcommand)]
enum Bench {
    /// Upload 1.6 GiB shaped like SSTables beside a plain loop of PUTs: rate, CPU, memory, requests
    Upload(Box<testbed::bench_upload::Args>),
    /// One backup without changes of 100,000 SSTable files on one node: seconds, requests, peak memory
    Scale(bench_scale::ScaleOptions),
    /// What the manager needs for 500 tables on 6 nodes and 30 snapshots: dry run, lists, progress, peak memory
    Control(bench_control::ControlOptions),
    /// What arrives at the server under --rate-limit, with retries, after a change and while stopping
    Throttling(bench_throttling::ThrottlingOptions),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.command {
        Command::Exec { program, arguments } => exec::run(program, arguments),
        command => run_here(command).map(|()| ExitCode::SUCCESS),
    };
    result.unwrap_or_else(|error| {
        eprintln!("Error: {error:#}");
        ExitCode::FAILURE
    })
}

fn run_here(command: Command) -> anyhow::Result<()> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().context("start the runtime")?;
    runtime.block_on(Box::pin(run(command)))
}

async fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Demo(options) => demo::run(options).await,
        Command::Up(options) => up::run(*options).await,
        Command::Write(options) => write(options).await,
        Command::Bench(Bench::Upload(args)) => testbed::bench_upload::run(*args).await,
        Command::Bench(Bench::Scale(options)) => bench_scale::run(options).await,
        Command::Bench(Bench::Throttling(options)) => bench_throttling::run(options).await,
        Command::Manual(options) => manual::run(options).await,
        Command::Bench(Bench::Control(options)) => bench_control::run(options).await,
        Command::Exec { .. } => unreachable!("main runs this one without a runtime"),
    }
}

async fn write(options: WriteOptions) -> anyhow::Result<()> {
    let WriteOptions { keyspace, table, rows, flush, compact, admin } = options;
    let tables = admin::send(admin, &admin::Write { keyspace, table, rows, flush, compact }).await?;
    println!("{rows} new rows in each of: {}", tables.join(", "));
    Ok(())
}
