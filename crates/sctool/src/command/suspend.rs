//! `suspend`, `suspend update` and `resume`.

use std::collections::BTreeSet;

use common::api::manager::{PutSuspended, SuspendQuery};
use common::task::TaskType;
use serde_json::Value;

use super::resolve;
use super::task_body::{self, Properties, changed_task, new_task};
use crate::cli::tasks::{Resume, Suspend, SuspendOptions, SuspendUpdate};
use crate::context::Ctx;
use crate::error::CliError;
use crate::values::is_on;

const STOP_RUNNING: &str = "stop_running_tasks";

pub async fn suspend(ctx: &mut Ctx<'_>, flags: Suspend, given: &BTreeSet<String>) -> Result<(), CliError> {
    let schedule = &flags.schedule;
    let start = schedule.start_date.and_then(|date| date.start_date(ctx.now()));
    let cron = schedule.cron.as_ref().is_some_and(|cron| !cron.as_str().is_empty());
    check_resume(&flags.options)?;
    if duration(&flags.options).is_none() && !cron && start.is_none() {
        return suspend_now(ctx, &flags).await;
    }
    check_task(given)?;
    let properties = properties(&flags.options);
    let task = new_task(ctx, TaskType::Suspend, schedule, flags.enabled.enabled, properties)?;
    let created = task_body::create(ctx, &flags.cluster.cluster, &task).await?;
    task_body::show_reference(ctx, flags.output.format(), &created)
}

async fn suspend_now(ctx: &mut Ctx<'_>, flags: &Suspend) -> Result<(), CliError> {
    let options = &flags.options;
    let query = SuspendQuery {
        allow_task_type: options.allow_task_type.clone().filter(|text| !text.is_empty()),
        suspend_policy: Some(options.suspend_policy.clone().unwrap_or_else(|| STOP_RUNNING.to_owned())),
        no_continue: Some(is_on(options.no_continue)),
        start_tasks: Some(false),
        start_tasks_missed_activation: None,
    };
    let suspended =
        ctx.call_with::<PutSuspended>(&[&flags.cluster.cluster], &query, &Value::from(true)).await;
    suspended.map_err(explain_conflict)
}

/// The policy's refusal, in the words of the original.
fn explain_conflict(error: CliError) -> CliError {
    match error {
        CliError::Server { prefix, mut error } if error.status.as_u16() == 409 => {
            error.message.push_str(": can't complete operation because tasks are running");
            CliError::Server { prefix, error }
        }
        other => other,
    }
}

pub async fn update(
    ctx: &mut Ctx<'_>,
    flags: SuspendUpdate,
    given: &BTreeSet<String>,
) -> Result<(), CliError> {
    task_body::require_change(given, "nothing to do")?;
    check_task(given)?;
    let cluster = &flags.cluster.cluster;
    let found = resolve::task_to_update(ctx, cluster, flags.task.task.as_deref(), TaskType::Suspend).await?;
    let stored = task_body::stored(ctx, cluster, &found).await?;
    let properties = properties(&flags.options);
    let task = changed_task(ctx, stored, &flags.schedule, flags.enabled.enabled, properties)?;
    let saved = task_body::save(ctx, cluster, &found, &task).await?;
    task_body::show_reference(ctx, flags.output.format(), &saved)
}

pub async fn resume(ctx: &mut Ctx<'_>, flags: Resume) -> Result<(), CliError> {
    let query = SuspendQuery {
        no_continue: Some(is_on(flags.no_continue)),
        start_tasks: Some(is_on(flags.start_tasks)),
        start_tasks_missed_activation: Some(is_on(flags.start_tasks_missed_activation)),
        ..SuspendQuery::default()
    };
    ctx.call_with::<PutSuspended>(&[&flags.cluster.cluster], &query, &Value::from(false)).await
}

/// The duration as text; zero counts as none.
fn duration(options: &SuspendOptions) -> Option<String> {
    options.duration.filter(|duration| !duration.is_zero()).map(|duration| duration.to_string())
}

fn properties(options: &SuspendOptions) -> Properties {
    let mut all = Properties::default();
    all.set("duration", duration(options)).set_switch("start_tasks", options.on_resume_start_tasks);
    all
}

fn check_resume(options: &SuspendOptions) -> Result<(), CliError> {
    if is_on(options.on_resume_start_tasks) && duration(options).is_none() {
        return Err(CliError::text("can't use --on-resume-start-tasks without --duration"));
    }
    Ok(())
}

/// A planned suspend knows neither of the two flags.
fn check_task(given: &BTreeSet<String>) -> Result<(), CliError> {
    if given.contains("no-continue") || given.contains("suspend-policy") {
        return Err(CliError::text("can't use --no-continue or --suspend-policy with --duration"));
    }
    Ok(())
}
