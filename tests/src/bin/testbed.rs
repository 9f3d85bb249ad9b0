//! `testbed`: the simulated cluster and its benchmarks as programs.

use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use testbed::bench_upload;

/// Runs backups of a simulated Scylla cluster on this machine
#[derive(Parser)]
#[command(name = "testbed", version = common::version::VERSION)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Measure
    #[command(subcommand)]
    Bench(Bench),
}

#[derive(Subcommand)]
enum Bench {
    /// Upload 1.6 GiB shaped like SSTables to a server that discards it: rate, CPU time, memory, requests
    Upload(bench_upload::Args),
}

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("Error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> anyhow::Result<()> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().context("start the runtime")?;
    match command {
        Command::Bench(Bench::Upload(args)) => runtime.block_on(bench_upload::run(args)),
    }
}
