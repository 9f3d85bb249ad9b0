//! The list of tasks and single tasks.

use axum::Json;
use axum::extract::State;
use common::api::manager::{Schedule, Task, TaskListItem, TaskListQuery};
use common::ids::TaskId;
use common::task::{TaskStatus, TaskType};

use super::{TaskApi, TaskPath, no_such_task};
use crate::rest::{ApiError, ApiResult, PathParams, QueryParams, resolve};
use crate::scheduler::{Planned, TaskKey};

/// `GET /cluster/{c}/tasks`.
pub(super) async fn list(
    State(api): State<TaskApi>,
    PathParams(cluster): PathParams<String>,
    QueryParams(query): QueryParams<TaskListQuery>,
) -> ApiResult<Json<Vec<TaskListItem>>> {
    let task_type: Option<TaskType> = parse(query.task_type.as_deref())?;
    let status: Option<TaskStatus> = parse(query.status.as_deref())?;
    let id: Option<TaskId> = parse(query.task_id.as_deref())?;
    let (all, short) = (query.all.unwrap_or(false), query.short.unwrap_or(false));
    let cluster = resolve::cluster(&api.store, &cluster).await?.id;
    let wanted = |task: &Task| {
        (all || task.enabled)
            && task_type.is_none_or(|t| task.task_type == t)
            && status.is_none_or(|s| task.status == s)
            && id.is_none_or(|i| task.id == i)
    };
    let tasks = api.store.tasks(cluster).await?.into_iter().filter(wanted);
    if short {
        return Ok(Json(tasks.map(only_names).collect()));
    }
    let planned = api.scheduler.planned(cluster).await?;
    let with_plan = |task: Task| {
        let Planned { next_activation, retry, suspended } =
            planned.get(&TaskKey::of(&task)).copied().unwrap_or_default();
        TaskListItem { task, suspended, next_activation, retry }
    };
    Ok(Json(tasks.map(with_plan).collect()))
}

fn parse<T: std::str::FromStr>(text: Option<&str>) -> ApiResult<Option<T>>
where
    T::Err: std::fmt::Display,
{
    text.map(str::parse).transpose().map_err(ApiError::malformed)
}

/// Only cluster, type, ID and name; the rest holds zero values.
fn only_names(task: Task) -> TaskListItem {
    let task = Task {
        labels: Default::default(),
        enabled: false,
        schedule: Schedule::default(),
        properties: Default::default(),
        status: TaskStatus::New,
        success_count: 0,
        error_count: 0,
        last_success: None,
        last_error: None,
        ..task
    };
    TaskListItem { task, suspended: false, next_activation: None, retry: 0 }
}

/// `GET /cluster/{c}/task/{type}/{id}`.
pub(super) async fn get(
    State(api): State<TaskApi>,
    PathParams((cluster, task_type, task)): PathParams<TaskPath>,
) -> ApiResult<Json<Task>> {
    let key = resolve::task_key(&api.store, &cluster, &task_type, &task).await?;
    Ok(Json(existing(&api, key).await?))
}

/// A task that is not deleted.
pub(super) async fn existing(api: &TaskApi, key: TaskKey) -> ApiResult<Task> {
    let task = api.store.task(key.cluster, key.task_type, key.id).await?;
    task.filter(|t| !t.deleted).ok_or_else(|| no_such_task(key))
}
