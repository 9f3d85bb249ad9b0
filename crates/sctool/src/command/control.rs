//! `start`, `stop` and `backup control`.

use common::api::manager::{
    ControlBackup, ControlQuery, DeleteTask, GetRunProgress, StartQuery, StartTask, StopQuery, StopTask,
};
use common::ids::RunId;
use common::task::TaskType;

use super::{follow, resolve};
use crate::cli::backup::BackupControl;
use crate::cli::tasks::{Start, Stop};
use crate::context::Ctx;
use crate::error::CliError;
use crate::grammar::task_ref::{FoundTask, TaskRef};
use crate::values::{is_on, joined_text};

pub async fn start(ctx: &mut Ctx<'_>, flags: Start) -> Result<(), CliError> {
    let cluster = &flags.cluster.cluster;
    let task = resolve::task(ctx, cluster, &flags.task.task).await?;
    let wait = is_on(flags.wait);
    let before = if wait { Some(latest_run(ctx, cluster, &task).await?) } else { None };
    let query = StartQuery { continue_run: Some(!is_on(flags.no_continue)) };
    ctx.call::<StartTask>(&[cluster, task.task_type.as_str(), &task.id.to_string()], &query).await?;
    match before {
        None => Ok(()),
        Some(before) => {
            follow::wait(ctx, cluster, &task, before).await.and_then(|run| follow::conclude(ctx, &task, &run))
        }
    }
}

/// The run that a start supersedes; nil if there is none, or if it still runs (then a start joins it).
async fn latest_run(ctx: &mut Ctx<'_>, cluster: &str, task: &FoundTask) -> Result<RunId, CliError> {
    let args = [cluster, task.task_type.as_str(), &task.id.to_string(), "latest"];
    let run = ctx.call::<GetRunProgress>(&args, &()).await?.run;
    Ok(if follow::is_over(run.status) { run.id } else { RunId::NIL })
}

pub async fn stop(ctx: &mut Ctx<'_>, flags: Stop) -> Result<(), CliError> {
    let cluster = &flags.cluster.cluster;
    let task = resolve::task(ctx, cluster, &flags.task.task).await?;
    stop_task(ctx, cluster, &task, is_on(flags.disable)).await?;
    if is_on(flags.delete) {
        delete_task(ctx, cluster, &task).await.map_err(|error| error.prefixed("delete"))?;
    }
    Ok(())
}

pub async fn stop_task(
    ctx: &mut Ctx<'_>,
    cluster: &str,
    task: &FoundTask,
    disable: bool,
) -> Result<(), CliError> {
    let args = [cluster, task.task_type.as_str(), &task.id.to_string()];
    let query = StopQuery { disable: Some(disable) };
    ctx.call::<StopTask>(&args, &query).await.map_err(|error| error.prefixed("stop"))
}

pub async fn delete_task(ctx: &mut Ctx<'_>, cluster: &str, task: &FoundTask) -> Result<(), CliError> {
    ctx.call::<DeleteTask>(&[cluster, task.task_type.as_str(), &task.id.to_string()], &()).await
}

/// `backup control`: changes the limit of a task and of its running run.
pub async fn limit(ctx: &mut Ctx<'_>, flags: BackupControl) -> Result<(), CliError> {
    let cluster = &flags.cluster.cluster;
    let reference: TaskRef = flags.task.task.parse()?;
    resolve::of_type(&reference, TaskType::Backup)?;
    let limits = joined_text(&Some(flags.rate_limit)).unwrap_or_default();
    if limits.is_empty() {
        return Err(CliError::text("empty rate limit, use 0 for no limit"));
    }
    let task = resolve::find(ctx, cluster, &reference).await?;
    let query = ControlQuery { rate_limit: Some(limits.join(",")) };
    ctx.call::<ControlBackup>(&[cluster, &task.id.to_string()], &query).await
}
