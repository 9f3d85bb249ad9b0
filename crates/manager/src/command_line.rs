//! Arguments, signals and exit codes of the daemon (spec manager.md 1.1).

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{CommandFactory, Parser};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::config::{Config, ConfigError, DEFAULT_CONFIG_FILE};
use crate::run::DaemonError;

/// Signals this close together count as one.
const ONE_WISH: Duration = Duration::from_secs(1);

/// Limit for work on threads that cannot be cancelled, at the very end.
const LAST_WORK: Duration = Duration::from_secs(5);

const EXAMPLES: &str = "\
Examples:
  As systemd starts it:
    scylla-manager
  With another configuration, for a try:
    scylla-manager -c ./scylla-manager.yaml";

const UPDATES_EXAMPLES: &str = "\
Examples:
  scylla-manager check-for-updates";

/// Central daemon of Scylla Manager: keeps clusters and tasks, runs the schedule, drives the agents.
#[derive(Debug, Parser)]
#[command(
    name = "scylla-manager",
    version = common::version::VERSION,
    disable_version_flag = true,
    long_about = "Central daemon of Scylla Manager: keeps clusters and tasks, runs the schedule, drives the agents.\n\n\
                  Without a subcommand the daemon starts and runs until SIGINT or SIGTERM. Talk to it with sctool; see \
                  sctool --help.",
    after_help = EXAMPLES
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
    #[command(after_help = UPDATES_EXAMPLES)]
    CheckForUpdates,
}

/// What can be typed, for man pages and the command reference.
pub fn command_line() -> clap::Command {
    Arguments::command()
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
            eprintln!("\n{}: {}\n", error.headline(), common::error::chain(&error));
            ExitCode::FAILURE
        }
    }
}

/// Why the process ends with a failure.
#[derive(Debug, thiserror::Error)]
enum FatalError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("start the threads of the runtime")]
    Runtime(#[source] std::io::Error),
    #[error("install the handlers of SIGINT and SIGTERM")]
    Signals(#[source] std::io::Error),
    #[error(transparent)]
    Daemon(#[from] DaemonError),
    #[error("a second signal came before everything had stopped; the next start resumes interrupted runs")]
    Impatience,
}

impl FatalError {
    fn headline(&self) -> &'static str {
        match self {
            Self::Impatience | Self::Daemon(DaemonError::Ended { .. }) => "ERROR",
            Self::Config(_) | Self::Runtime(_) | Self::Signals(_) | Self::Daemon(_) => "STARTUP ERROR",
        }
    }
}

fn start(files: &[PathBuf]) -> Result<(), FatalError> {
    let config = Config::load(files)?;
    common::logging::init(config.log_settings());
    common::tls::install_provider();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(FatalError::Runtime)?;
    let outcome = runtime.block_on(run_until_signal(config));
    // A transaction that has begun is finished; nothing else may hold the process back.
    runtime.shutdown_timeout(LAST_WORK);
    outcome
}

/// Runs the daemon; the first signal stops it, a second one does not wait.
async fn run_until_signal(config: Config) -> Result<(), FatalError> {
    let shutdown = CancellationToken::new();
    let mut interrupt = signal(SignalKind::interrupt()).map_err(FatalError::Signals)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(FatalError::Signals)?;
    let twice = async {
        let mut either = async || {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        };
        either().await;
        shutdown.cancel();
        // A terminal and a wrapper may both pass on what was one wish.
        let echoes = async {
            loop {
                either().await;
            }
        };
        let _: Result<(), _> = tokio::time::timeout(ONE_WISH, echoes).await;
        either().await;
    };
    tokio::select! {
        outcome = crate::run(config, shutdown.clone()) => Ok(outcome?),
        () = twice => Err(FatalError::Impatience),
    }
}
