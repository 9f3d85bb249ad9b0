//! `progress`: once, or live with `--watch`.

use common::api::manager::{BackupProgress, GetRunProgress, GetTask, RunProgress, ValidateHostProgress};
use common::filter::{GlobFilter, InvalidFilter, KeyspaceFilter};
use common::task::TaskType;
use serde_json::Value;

use super::{resolve, watch};
use crate::cli::shared::OutputFormat;
use crate::cli::tasks::Progress;
use crate::context::{Ctx, to_value};
use crate::error::CliError;
use crate::grammar::task_ref::{FoundTask, TaskRef};
use crate::render;
use crate::render::backup_progress::Filter;
use crate::values::{is_on, joined_text};

pub async fn progress(ctx: &mut Ctx<'_>, flags: Progress) -> Result<(), CliError> {
    let cluster = &flags.cluster.cluster;
    let reference: TaskRef = flags.task.task.parse()?;
    supported(reference.task_type)?;
    let shown = Shown { filter: filter(&flags)?, details: is_on(flags.details) };
    let format = flags.output.format();
    let live = is_on(flags.watch);
    if live {
        check_watch(ctx, format)?;
    }
    let task = resolve::find(ctx, cluster, &reference).await?;
    let id = task.id.to_string();
    let stored = ctx.call::<GetTask>(&[cluster, task.task_type.as_str(), &id], &()).await?;
    let run = flags.run.unwrap_or_default();
    if live {
        let task = FoundTask { name: stored.name, ..task };
        return watch::watch(ctx, cluster, &task, run, &shown).await;
    }
    let args = [cluster, task.task_type.as_str(), &id, &run.to_string()];
    let answer = ctx.call::<GetRunProgress>(&args, &()).await?;
    match format {
        OutputFormat::Table => shown.print(ctx, task.task_type, answer),
        OutputFormat::Json => {
            let json = to_value(&answer)?;
            ctx.show(format, |_| String::new(), || json)
        }
    }
}

fn check_watch(ctx: &Ctx<'_>, format: OutputFormat) -> Result<(), CliError> {
    match format {
        OutputFormat::Table => watch::require_terminal(ctx),
        OutputFormat::Json => Err(CliError::text("can't use --watch with --output json")),
    }
}

fn supported(task_type: TaskType) -> Result<(), CliError> {
    match task_type {
        TaskType::Backup | TaskType::ValidateBackup => Ok(()),
        TaskType::Restore | TaskType::OneToOneRestore => Err(CliError::text(
            "progress of restore tasks is not available in this release; sctool info shows their runs",
        )),
        TaskType::HealthCheck | TaskType::Suspend | TaskType::Repair | TaskType::TabletRepair => {
            Err(CliError::text(format!("unsupported task type {task_type}")))
        }
    }
}

fn filter(flags: &Progress) -> Result<Filter, CliError> {
    let invalid = |error: InvalidFilter| CliError::text(error.to_string());
    let hosts = joined_text(&flags.host).unwrap_or_default();
    let keyspaces = flags.keyspace.texts().unwrap_or_default();
    Ok(Filter {
        hosts: GlobFilter::new(&hosts).map_err(invalid)?,
        keyspaces: KeyspaceFilter::new(&keyspaces).map_err(invalid)?,
    })
}

/// Warnings about a backup go to stderr.
fn warn(ctx: &mut Ctx<'_>, answer: &RunProgress<Value>) -> Result<(), CliError> {
    let warnings =
        answer.progress.as_ref().and_then(|progress| progress.get("warnings")).and_then(Value::as_array);
    for warning in warnings.into_iter().flatten().filter_map(Value::as_str) {
        ctx.note(format_args!("WARNING! {warning}"))?;
    }
    Ok(())
}

/// How a run is shown.
pub struct Shown {
    pub filter: Filter,
    pub details: bool,
}

impl Shown {
    /// Prints header and tables of a run, its warnings before them on stderr.
    pub fn print(
        &self,
        ctx: &mut Ctx<'_>,
        task_type: TaskType,
        answer: RunProgress<Value>,
    ) -> Result<(), CliError> {
        warn(ctx, &answer)?;
        let (now, view) = (ctx.now(), ctx.view);
        let text = match task_type {
            TaskType::ValidateBackup => {
                let answer: RunProgress<Vec<ValidateHostProgress>> = typed(answer)?;
                render::validate_progress::render(&answer, &self.filter.hosts, self.details, now, &view)
            }
            _ => {
                let answer: RunProgress<BackupProgress> = typed(answer)?;
                render::backup_progress::render(&answer, &self.filter, self.details, now, &view)
            }
        };
        ctx.print(&text)
    }
}

/// Reads the progress of a known type.
pub fn typed<P: serde::de::DeserializeOwned>(answer: RunProgress<Value>) -> Result<RunProgress<P>, CliError> {
    let unreadable = |error| CliError::text(format!("progress of the run not understood: {error}"));
    let progress = answer.progress.map(serde_json::from_value).transpose().map_err(unreadable)?;
    Ok(RunProgress { run: answer.run, progress })
}
