//! Arguments, signals and exit codes of the daemon (spec manager.md 1.1).

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::config::{Config, DEFAULT_CONFIG_FILE};

/// Central daemon of Scylla Manager: keeps clusters and tasks, runs the schedule, drives the agents.
#[derive(Debug, Parser)]
#[command(
    name = "scylla-manager",
    version = common::version::VERSION,
    disable_version_flag = true,
    after_help = "Without a subcommand the daemon starts and runs until SIGINT or SIGTERM.\n\
                  Talk to it with sctool; see sctool --help."
)]
struct Arguments {
    /// Configuration file; repeat it or separate several by commas, later files win key by key.
    ///
    /// A file that does not exist is skipped.
    #[arg(short = 'c', long = "config-file", value_delimiter = ',', default_value = DEFAULT_CONFIG_FILE)]
    config_file: Vec<PathBuf>,
    /// Print the version and exit.
    #[arg(long)]
    version: bool,
    #[command(subcommand)]
    command: Option<Subcommand>,
}

#[derive(Debug, clap::Subcommand)]
enum Subcommand {
    /// Accepted for compatibility; this program never contacts a vendor.
    CheckForUpdates,
}

/// Runs the program with its arguments, the program name left out, to its end.
pub fn main_with(arguments: Vec<OsString>) -> ExitCode {
    let name = std::iter::once(OsString::from("scylla-manager"));
    let arguments = match Arguments::try_parse_from(name.chain(arguments)) {
        Ok(arguments) => arguments,
        Err(error) => {
            // Nobody is left to tell when the terminal is gone.
            let _ = error.print();
            return if error.use_stderr() { ExitCode::FAILURE } else { ExitCode::SUCCESS };
        }
    };
    if arguments.version {
        println!("{}", common::version::VERSION);
        return ExitCode::SUCCESS;
    }
    if let Some(Subcommand::CheckForUpdates) = arguments.command {
        println!("check for updates is not available: this program contacts no vendor");
        return ExitCode::SUCCESS;
    }
    match start(&arguments.config_file) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nSTARTUP ERROR: {error:#}\n");
            ExitCode::FAILURE
        }
    }
}

fn start(files: &[PathBuf]) -> anyhow::Result<()> {
    let config = Config::load(files)?;
    common::logging::init(config.log_settings());
    common::tls::install_provider();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let shutdown = CancellationToken::new();
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let asked = async {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            shutdown.cancel();
            std::future::pending::<()>().await
        };
        tokio::select! {
            outcome = crate::run(config, shutdown.clone()) => Ok(outcome?),
            () = asked => Ok(()),
        }
    })
}
