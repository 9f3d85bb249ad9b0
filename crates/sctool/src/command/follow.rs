//! Follows a run to its end: `--wait`, and the loop under `progress --watch`.

use std::time::Duration;

use common::api::manager::{GetRunProgress, TaskRun};
use common::ids::RunId;
use common::task::TaskStatus;

use super::task_body;
use crate::cli::shared::OutputFormat;
use crate::context::{Ctx, to_value};
use crate::error::{CliError, split_hosts};
use crate::grammar::task_ref::FoundTask;
use crate::render::text;

/// Time between two looks at a run.
pub const POLL: Duration = Duration::from_secs(1);
/// Looks in a row that may find no manager, so that its restart does not end the waiting.
const PATIENCE: u32 = 30;

/// Whether a run of this status will not go on. WAITING goes on: for its window, or behind another backup.
pub fn is_over(status: TaskStatus) -> bool {
    match status {
        TaskStatus::Done | TaskStatus::Error | TaskStatus::Stopped | TaskStatus::Aborted => true,
        TaskStatus::New | TaskStatus::Running | TaskStatus::Stopping | TaskStatus::Waiting => false,
    }
}

/// Prints the reference of a new task and, if asked, waits for its run.
pub async fn show_and_wait(
    ctx: &mut Ctx<'_>,
    cluster: &str,
    task: &FoundTask,
    before: Option<RunId>,
    format: OutputFormat,
    wait_for_it: bool,
) -> Result<(), CliError> {
    if !wait_for_it {
        return task_body::show_reference(ctx, format, task);
    }
    if format == OutputFormat::Table {
        task_body::show_reference(ctx, format, task)?;
        ctx.flush()?;
    }
    let run = wait(ctx, cluster, task, before.unwrap_or(RunId::NIL)).await?;
    if format == OutputFormat::Json {
        let mut document = task_body::reference_json(task);
        document["run"] = to_value(&run)?;
        ctx.show(format, |_| String::new(), || document)?;
    }
    conclude(ctx, task, &run)
}

/// Waits until a run other than `before` is over.
pub async fn wait(
    ctx: &mut Ctx<'_>,
    cluster: &str,
    task: &FoundTask,
    before: RunId,
) -> Result<TaskRun, CliError> {
    let args = [cluster, task.task_type.as_str(), &task.id.to_string(), "latest"];
    let mut ticks = ticker();
    let mut failures = 0;
    loop {
        ticks.tick().await;
        match ctx.call::<GetRunProgress>(&args, &()).await {
            Ok(answer) if is_over(answer.run.status) && answer.run.id != before => return Ok(answer.run),
            Ok(_) => failures = 0,
            Err(error) => tolerate(&mut failures, error)?,
        }
    }
}

pub fn ticker() -> tokio::time::Interval {
    let mut ticks = tokio::time::interval(POLL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    ticks
}

/// Counts a failed look; an error of the server, or too many without an answer, ends the following.
pub fn tolerate(failures: &mut u32, error: CliError) -> Result<(), CliError> {
    *failures += 1;
    match error {
        CliError::Request(_) if *failures < PATIENCE => Ok(()),
        other => Err(other),
    }
}

/// Says on stderr how a followed run ended; an error unless it is DONE.
pub fn conclude(ctx: &mut Ctx<'_>, task: &FoundTask, run: &TaskRun) -> Result<(), CliError> {
    let took = text::elapsed(run.start_time, run.end_time, ctx.now());
    ctx.note(format_args!("{task}: run {} {} after {took}", run.id, run.status))?;
    if run.status == TaskStatus::Done {
        return Ok(());
    }
    if !run.cause.is_empty() {
        ctx.note(format_args!("Cause: {}", split_hosts(&run.cause)))?;
    }
    Err(CliError::RunNotDone)
}
