//! `info`: a task and its last runs.

use common::api::manager::{GetHistory, HistoryQuery, ListTasks, TaskListItem, TaskListQuery, TaskRun};
use serde_json::json;

use super::resolve;
use crate::cli::tasks::Info;
use crate::context::{Ctx, to_value};
use crate::error::CliError;
use crate::grammar::task_ref::FoundTask;
use crate::render;
use crate::values::{Int, is_on};

const DEFAULT_LIMIT: Int = Int(10);

pub async fn info(ctx: &mut Ctx<'_>, flags: Info) -> Result<(), CliError> {
    let cluster = &flags.cluster.cluster;
    let found = resolve::task(ctx, cluster, &flags.task.task).await?;
    let item = only_task(ctx, cluster, &found).await?;
    let runs = history(ctx, cluster, &found, flags.limit).await?;
    let json = json!({ "task": to_value(&item)?, "runs": to_value(&runs)? });
    let (now, causes) = (ctx.now(), is_on(flags.cause));
    ctx.show(
        flags.output.format(),
        |view| render::info::task(&item, view) + &render::info::runs(&runs, causes, now, view),
        || json,
    )
}

async fn only_task(ctx: &mut Ctx<'_>, cluster: &str, task: &FoundTask) -> Result<TaskListItem, CliError> {
    let query = TaskListQuery {
        all: Some(true),
        task_type: Some(task.task_type.to_string()),
        task_id: Some(task.id.to_string()),
        ..TaskListQuery::default()
    };
    let items = ctx.call::<ListTasks>(&[cluster], &query).await?;
    let count = items.len();
    match <[TaskListItem; 1]>::try_from(items) {
        Ok([item]) => Ok(item),
        Err(_) => Err(CliError::text(format!("expected exactly 1 task, got {count}"))),
    }
}

pub async fn history(
    ctx: &mut Ctx<'_>,
    cluster: &str,
    task: &FoundTask,
    limit: Option<Int>,
) -> Result<Vec<TaskRun>, CliError> {
    let query = HistoryQuery { limit: Some(limit.unwrap_or(DEFAULT_LIMIT).0) };
    ctx.call::<GetHistory>(&[cluster, task.task_type.as_str(), &task.id.to_string()], &query).await
}
