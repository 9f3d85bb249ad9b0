//! Finds the task that a reference means (spec/sctool.md 3.9).

use common::api::manager::{ListTasks, TaskListItem, TaskListQuery};
use common::task::TaskType;

use crate::context::Ctx;
use crate::error::CliError;
use crate::grammar::task_ref::{FoundTask, TaskRef, Which, choose};

/// The task that `reference` names in `cluster`; one request, none if the ID is given.
pub async fn task(ctx: &mut Ctx<'_>, cluster: &str, reference: &str) -> Result<FoundTask, CliError> {
    find(ctx, cluster, &reference.parse()?).await
}

/// The task to update: of type `wanted`, the only one of it if none is named.
pub async fn task_to_update(
    ctx: &mut Ctx<'_>,
    cluster: &str,
    reference: Option<&str>,
    wanted: TaskType,
) -> Result<FoundTask, CliError> {
    let reference = match reference {
        Some(text) => text.parse()?,
        None => TaskRef { task_type: wanted, which: Which::Only },
    };
    of_type(&reference, wanted)?;
    find(ctx, cluster, &reference).await
}

/// Refuses a task of another type than the command handles.
pub fn of_type(reference: &TaskRef, wanted: TaskType) -> Result<(), CliError> {
    match reference.task_type == wanted {
        true => Ok(()),
        false => Err(CliError::text(format!("can't handle {} task", reference.task_type))),
    }
}

pub async fn find(ctx: &mut Ctx<'_>, cluster: &str, reference: &TaskRef) -> Result<FoundTask, CliError> {
    let tasks = match reference.which {
        Which::Id(_) => Vec::new(),
        Which::Only => list(ctx, cluster, reference.task_type, None).await?,
        Which::Name(_) => list(ctx, cluster, reference.task_type, Some(true)).await?,
    };
    Ok(choose(reference.task_type, &reference.which, &tasks)?)
}

async fn list(
    ctx: &mut Ctx<'_>,
    cluster: &str,
    task_type: TaskType,
    all: Option<bool>,
) -> Result<Vec<TaskListItem>, CliError> {
    let query = TaskListQuery {
        task_type: Some(task_type.to_string()),
        short: Some(true),
        all,
        ..Default::default()
    };
    ctx.call::<ListTasks>(&[cluster], &query).await
}
