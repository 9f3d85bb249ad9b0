//! The command line of Scylla Manager.
//!
//! Every command is: parse flags, make a call (or the few that the manager's API needs), render the answer. No
//! decision about backups is taken here. The whole program is the function [`run`], which gets arguments,
//! surroundings and output streams, so that tests and the simulated cluster run it in process.

mod api_url;
mod args;
mod cli;
mod command;
mod connect;
mod context;
pub mod env;
mod error;
mod exit;
mod grammar;
mod render;
#[cfg(test)]
mod tests;
mod values;

use std::collections::BTreeMap;
use std::io::Write;

use clap::{ArgMatches, Command, FromArgMatches};

use crate::args::{ArgError, Located};
use crate::cli::GlobalFlags;
use crate::context::Ctx;
use crate::env::Env;
use crate::error::CliError;
pub use crate::exit::Exit;

/// What can be typed, for man pages and the command reference.
pub fn command_line() -> Command {
    cli::tree()
}

/// Runs one command line, `args` without the program name.
pub async fn run(
    args: &[String],
    env: &Env,
    out: &mut (dyn Write + Send),
    err: &mut (dyn Write + Send),
) -> Exit {
    let outcome = execute(args, env, out, err).await.and_then(|()| Ok(out.flush()?));
    let Err(error) = outcome else { return Exit::Success };
    // What was printed before the failure belongs before its message. Neither stream may be writable any more,
    // and then there is nobody left to tell.
    let _ = out.flush();
    if !error.is_broken_pipe() {
        let _ = error::print(&error, err);
    }
    Exit::Failure
}

async fn execute(
    args: &[String],
    env: &Env,
    out: &mut (dyn Write + Send),
    err: &mut (dyn Write + Send),
) -> Result<(), CliError> {
    let tree = cli::tree();
    let located = args::locate(&tree, args)?;
    if let Some(note) = cli::tasks::deprecation(&located.path) {
        err.write_all(note.as_bytes())?;
    }
    if located.path.first().is_some_and(|name| name == "repair") {
        return Err(CliError::text(command::REPAIR_IS_OUT_OF_SCOPE));
    }
    let resolved = args::resolve(&tree, &located, &defaults(env))?;
    if resolved.given.contains("interval") {
        writeln!(err, "Flag --interval has been deprecated, use cron instead")?;
    }
    let only_version = located.path.is_empty() && resolved.given.contains("version");
    if resolved.help || (located.command.is_subcommand_required_set() && !only_version) {
        out.write_all(cli::help::render(&tree, located.command, &located.path).as_bytes())?;
        return Ok(());
    }
    let matches = parse_values(&resolved.argv, &located)?;
    let flags = read::<GlobalFlags>(&matches)?;
    let cert = connect::client_cert(&flags, env)?;
    args::missing_flags(located.command, &resolved)?;
    if only_version {
        return Ok(out.write_all(render::version::client(common::version::VERSION).as_bytes())?);
    }
    let base =
        api_url::resolve(flags.api_url.as_deref(), env.var("SCYLLA_MANAGER_API_URL"), &env.manager_config);
    let http = connect::client(&base, cert, env)?;
    let mut ctx = Ctx::new(env, http, base, out, err);
    let invocation =
        command::Invocation { path: &located.path, matches: leaf(&matches), given: &resolved.given };
    Box::pin(command::dispatch(&mut ctx, &invocation)).await
}

/// Flag values from the environment.
fn defaults(env: &Env) -> BTreeMap<&'static str, String> {
    env.var("SCYLLA_MANAGER_CLUSTER").map(|cluster| ("cluster", cluster.to_owned())).into_iter().collect()
}

fn parse_values(argv: &[String], located: &Located<'_>) -> Result<ArgMatches, ArgError> {
    let parser: Command = cli::lenient(cli::tree());
    parser.try_get_matches_from(argv).map_err(|error| args::explain(&error, located.command))
}

/// The matches of the innermost command.
fn leaf(matches: &ArgMatches) -> &ArgMatches {
    match matches.subcommand() {
        Some((_, inner)) => leaf(inner),
        None => matches,
    }
}

fn read<T: FromArgMatches>(matches: &ArgMatches) -> Result<T, CliError> {
    T::from_arg_matches(matches).map_err(|error| CliError::text(error.render().to_string().trim().to_owned()))
}
