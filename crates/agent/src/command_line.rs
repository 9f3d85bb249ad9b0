//! Arguments, signals and exit codes of the agent (spec agent.md 1.1).

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, CommandFactory, Parser, Subcommand};
use common::location::Location;
use common::logging::{LogLevel, LogMode, LogSettings};
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::agent::{self, StartupError};
use crate::check_location::{self, CheckError};
use crate::config::{self, Config, ConfigError};
use crate::cpu::{CPUSET_FILE, CpuPinning, PinPlan};
use crate::io_priority;

/// Wait before a failed start ends, so that the journal keeps its last lines.
const LAST_LINES: Duration = Duration::from_millis(1100);
/// Wait for blocking threads at the end: a read from a dead disk must not keep the process.
const THREADS_BUDGET: Duration = Duration::from_secs(1);
/// Threads that help: reading and hashing happen elsewhere, these wait for sockets.
const USEFUL_WORKERS: usize = 4;

const EXAMPLES: &str = "\
Examples:
  As systemd starts it:
    scylla-manager-agent
  With settings of its own over those of all nodes:
    scylla-manager-agent -c all-nodes.yaml -c this-node.yaml";

const CHECK_EXAMPLES: &str = "\
Examples:
  Can this node use the bucket?
    scylla-manager-agent check-location -L s3:my-backups
  As whom, with credentials from where, and what is refused?
    scylla-manager-agent check-location --debug -L s3:my-backups";

/// Runs beside each Scylla node: passes the manager's calls on to it and moves its backup files.
#[derive(Debug, Parser)]
#[command(
    name = "scylla-manager-agent",
    disable_version_flag = true,
    long_about = "Runs beside each Scylla node: passes the manager's calls on to it and moves its backup files.\n\n\
                  Without a subcommand the daemon starts and runs until SIGINT or SIGTERM.",
    after_help = EXAMPLES
)]
struct Arguments {
    #[command(flatten)]
    config: ConfigFiles,
    /// Print the version and exit.
    #[arg(long)]
    version: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Args)]
struct ConfigFiles {
    /// Configuration file; repeat it or separate several by commas, later files win key by key.
    ///
    /// A file that does not exist is skipped.
    #[arg(short = 'c', long = "config-file", value_delimiter = ',', default_value = config::DEFAULT_FILE)]
    config_file: Vec<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Check whether this node can back up to a location; silent when it can.
    ///
    /// Tries each operation that a backup needs on objects of its own, and removes them. Ends with status 1 if one is
    /// refused.
    #[command(after_help = CHECK_EXAMPLES)]
    CheckLocation {
        #[command(flatten)]
        config: ConfigFiles,
        /// Location, e.g. s3:my-bucket.
        #[arg(short = 'L', long)]
        location: Location,
        /// Print each operation and where credentials come from.
        #[arg(long)]
        debug: bool,
    },
}

/// Why the program ends with an error.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("start the runtime")]
    Runtime(#[source] io::Error),
    #[error("receive signals")]
    Signals(#[source] io::Error),
    #[error(transparent)]
    Startup(#[from] StartupError),
    #[error(transparent)]
    Check(#[from] CheckError),
}

/// What can be typed, for man pages and the command reference.
pub fn command_line() -> clap::Command {
    Arguments::command()
}

/// Runs the program with its arguments, the program name left out, to its end.
pub fn main_with(arguments: Vec<OsString>) -> ExitCode {
    let name = std::iter::once(OsString::from("scylla-manager-agent"));
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
    match arguments.command {
        None => daemon(&arguments.config.config_file),
        Some(Command::CheckLocation { config, location, debug }) => {
            match check(&config.config_file, &location, debug) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => {
                    eprintln!("FAILED: {}", common::error::chain(&error));
                    ExitCode::FAILURE
                }
            }
        }
    }
}

fn daemon(files: &[PathBuf]) -> ExitCode {
    let Err(error) = run(files) else { return ExitCode::SUCCESS };
    eprintln!("\nSTARTUP ERROR: {}\n", common::error::chain(&error));
    // No runtime is left whose thread this could block.
    #[allow(clippy::disallowed_methods, reason = "the process does nothing else any more")]
    std::thread::sleep(LAST_LINES);
    ExitCode::FAILURE
}

fn run(files: &[PathBuf]) -> Result<(), Failure> {
    let config = config::load(files)?;
    common::logging::init(config.logger);
    match io_priority::be_idle() {
        Ok(()) => tracing::info!("Disk I/O is in the idle class"),
        Err(error) => tracing::warn!(%error, "Disk I/O cannot be put into the idle class"),
    }
    let runtime = runtime(worker_threads(&config))?;
    let outcome = runtime.block_on(async {
        let stop = CancellationToken::new();
        let mut interrupt = signal(SignalKind::interrupt()).map_err(Failure::Signals)?;
        let mut terminate = signal(SignalKind::terminate()).map_err(Failure::Signals)?;
        let asked = async {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            stop.cancel();
            std::future::pending::<()>().await
        };
        tokio::select! {
            outcome = agent::run(config, stop.clone()) => Ok(outcome?),
            () = asked => Ok(()),
        }
    });
    runtime.shutdown_timeout(THREADS_BUDGET);
    outcome
}

fn check(files: &[PathBuf], location: &Location, debug: bool) -> Result<(), Failure> {
    let config = config::load(files)?;
    let level = if debug { LogLevel::Debug } else { LogLevel::Error };
    common::logging::init(LogSettings { level, mode: LogMode::Stderr, development: true, ..config.logger });
    let say = |line: &str| eprintln!("{line}");
    let say: Option<&dyn Fn(&str)> = if debug { Some(&say) } else { None };
    runtime(1)?.block_on(check_location::check_location(config, location, say))?;
    Ok(())
}

/// One thread where Scylla leaves no CPU, else one for each CPU, but no more than help. Where the agent is pinned its
/// CPUs are the bound; the threads are there for the time when a restore lets it run everywhere.
fn worker_threads(config: &Config) -> usize {
    let available = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    match CpuPinning::new(config.cpu.clone(), CPUSET_FILE).plan() {
        Ok(PinPlan::NoneFree) => 1,
        Ok(PinPlan::Pin(_)) | Err(_) => available.clamp(1, USEFUL_WORKERS),
    }
}

fn runtime(workers: usize) -> Result<Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(workers)
        .thread_name("agent")
        .enable_all()
        .build()
        .map_err(Failure::Runtime)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Result<Arguments, clap::Error> {
        Arguments::try_parse_from([&["scylla-manager-agent"], arguments].concat())
    }

    #[test]
    fn arguments_are_those_of_the_original() {
        let files = |a: &Arguments| {
            a.config.config_file.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(" ")
        };
        for (arguments, expected) in [
            (&[][..], config::DEFAULT_FILE),
            (&["-c", "a"], "a"),
            (&["-c", "a,b", "--config-file", "c"], "a b c"),
        ] {
            let parsed = parse(arguments).unwrap();
            assert_eq!(files(&parsed), expected);
            assert!(parsed.command.is_none() && !parsed.version);
        }
        let parsed = parse(&["check-location", "-c", "a", "-L", "dc1:s3:bucket", "--debug"]).unwrap();
        let Some(Command::CheckLocation { config, location, debug }) = parsed.command else { panic!() };
        assert_eq!((config.config_file, debug), (vec![PathBuf::from("a")], true));
        assert_eq!(location.to_string(), "dc1:s3:bucket");
        for wrong in [&["check-location"][..], &["extra"], &["check-location", "-L", "bucket"], &["version"]]
        {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
