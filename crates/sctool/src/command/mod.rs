//! What the commands do: one module per group, each command parse → call → render.

mod backup;
mod backup_files;
mod cluster;
mod control;
mod follow;
mod info;
mod legacy;
mod progress;
mod resolve;
mod restore;
mod status;
mod suspend;
mod task_body;
mod tasks;
mod validate;
mod version;
mod watch;

use std::collections::BTreeSet;

use clap::{ArgMatches, FromArgMatches};

use crate::context::Ctx;
use crate::error::CliError;

/// What `repair` in any form is answered with.
pub const REPAIR_IS_OUT_OF_SCOPE: &str = "repair is not part of this program: it backs clusters up and restores them. \
                                          Repair with `nodetool repair`, or with the original Scylla Manager";

/// A command line after parsing.
pub struct Invocation<'a> {
    /// Names below the root.
    pub path: &'a [String],
    /// Values of the innermost command.
    pub matches: &'a ArgMatches,
    /// Flags given on the command line, by long name.
    pub given: &'a BTreeSet<String>,
}

impl Invocation<'_> {
    fn flags<T: FromArgMatches>(&self) -> Result<T, CliError> {
        crate::read(self.matches)
    }
}

/// Runs the command at the end of the path.
pub async fn dispatch(ctx: &mut Ctx<'_>, line: &Invocation<'_>) -> Result<(), CliError> {
    let path: Vec<&str> = line.path.iter().map(String::as_str).collect();
    match path.as_slice() {
        ["backup"] => backup::create(ctx, line.flags()?).await,
        ["backup", "update"] => backup::update(ctx, line.flags()?, line.given).await,
        ["backup", "list"] => backup_files::list(ctx, line.flags()?).await,
        ["backup", "files"] => backup_files::files(ctx, line.flags()?).await,
        ["backup", "delete"] => backup_files::delete(ctx, line.flags()?).await,
        ["backup", "delete", "local-snapshot"] => backup_files::delete_local(ctx, line.flags()?).await,
        ["backup", "control"] => control::limit(ctx, line.flags()?).await,
        ["backup", "validate"] => validate::create(ctx, line.flags()?).await,
        ["backup", "validate", "update"] => validate::update(ctx, line.flags()?, line.given).await,
        ["restore"] => restore::create(ctx, line.flags()?).await,
        ["restore", "update"] => restore::update(ctx, line.flags()?, line.given).await,
        ["restore", "1-1-restore"] => restore::create_mirror(ctx, line.flags()?).await,
        ["restore", "1-1-restore", "update"] => restore::update_mirror(ctx, line.flags()?, line.given).await,
        ["cluster", "add"] => cluster::add(ctx, line.flags()?).await,
        ["cluster", "update"] => cluster::update(ctx, line.flags()?, line.given).await,
        ["cluster", "delete"] => cluster::delete(ctx, line.flags()?).await,
        ["cluster", "list"] => cluster::list(ctx, line.flags()?).await,
        ["status"] => status::status(ctx, line.flags()?).await,
        ["tasks"] => tasks::tasks(ctx, line.flags()?).await,
        ["info"] => info::info(ctx, line.flags()?).await,
        ["progress"] => progress::progress(ctx, line.flags()?).await,
        ["start"] | ["task", "start"] => control::start(ctx, line.flags()?).await,
        ["stop"] => control::stop(ctx, line.flags()?).await,
        ["suspend"] => suspend::suspend(ctx, line.flags()?, line.given).await,
        ["suspend", "update"] => suspend::update(ctx, line.flags()?, line.given).await,
        ["resume"] => suspend::resume(ctx, line.flags()?).await,
        ["version"] => version::version(ctx, line.flags()?).await,
        ["completion", shell] => version::completion(ctx, shell),
        ["task", "list"] => legacy::list(ctx, line.flags()?).await,
        ["task", "stop"] => legacy::stop(ctx, line.flags()?).await,
        ["task", "progress"] => legacy::progress(ctx, line.flags()?).await,
        ["task", "history"] => legacy::history(ctx, line.flags()?).await,
        ["task", "update"] => legacy::update(ctx, line.flags()?, line.given).await,
        ["task", "delete"] => legacy::delete(ctx, line.flags()?).await,
        _ => Err(CliError::text(format!("no such command: {}", path.join(" ")))),
    }
}
