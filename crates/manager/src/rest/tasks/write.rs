//! Creation, change and deletion of tasks, and the dry run.

use axum::Json;
use axum::extract::State;
use axum::response::{AppendHeaders, IntoResponse};
use common::api::manager::{Task, TaskUpdate};
use common::ids::ClusterId;
use common::task::TaskType;
use http::{StatusCode, header};
use serde_json::Value;

use super::read::existing;
use super::{TaskApi, TaskPath};
use crate::rest::{ApiError, ApiResult, Context, JsonBody, PathParams, resolve};
use crate::scheduler::runner::Runner;
use crate::scheduler::schedule::normalize;
use crate::scheduler::{Properties, SchedulerError, TaskSpec};

/// `POST /cluster/{c}/tasks`.
pub(super) async fn create(
    State(api): State<TaskApi>,
    PathParams(cluster): PathParams<String>,
    JsonBody(update): JsonBody<TaskUpdate>,
) -> ApiResult<impl IntoResponse> {
    if update.id.is_some_and(|id| !id.is_nil()) {
        return Err(ApiError::malformed("the ID of a new task is chosen by the server, leave it out"));
    }
    let task_type = requested_type(&update)?;
    let cluster = resolve::cluster(&api.store, &cluster).await?.id;
    let what = "create task";
    // Cheap mistakes first: the check asks all nodes.
    normalize(&update.schedule, api.clock.now()).map_err(SchedulerError::from).context(what)?;
    check(&api, cluster, task_type, &update.properties).await?;
    let task = api.scheduler.create(cluster, task_type, spec(update)).await.context(what)?;
    let location = format!("/api/v1/cluster/{cluster}/task/{task_type}/{}", task.id);
    Ok((StatusCode::CREATED, AppendHeaders([(header::LOCATION, location)])))
}

/// `PUT /cluster/{c}/task/{type}/{id}`.
pub(super) async fn update(
    State(api): State<TaskApi>,
    PathParams((cluster, task_type, task)): PathParams<TaskPath>,
    JsonBody(update): JsonBody<TaskUpdate>,
) -> ApiResult<Json<Task>> {
    let key = resolve::task_key(&api.store, &cluster, &task_type, &task).await?;
    let what = format!("update task \"{}\"", key.id);
    let stored = existing(&api, key).await?;
    normalize(&update.schedule, api.clock.now()).map_err(SchedulerError::from).context(&what)?;
    // Ours: a change of name or schedule does not need the cluster to be reachable.
    if update.properties != stored.properties {
        check(&api, key.cluster, key.task_type, &update.properties).await?;
    }
    Ok(Json(api.scheduler.update(key, spec(update)).await.context(&what)?))
}

/// `DELETE /cluster/{c}/task/{type}/{id}`.
pub(super) async fn delete(
    State(api): State<TaskApi>,
    PathParams((cluster, task_type, task)): PathParams<TaskPath>,
) -> ApiResult<()> {
    let key = resolve::task_key(&api.store, &cluster, &task_type, &task).await?;
    api.scheduler.delete(key).await.context(format_args!("delete task \"{}\"", key.id))
}

/// `GET /cluster/{c}/tasks/{type}/target`, with a body. The type in the body counts.
pub(super) async fn dry_run(
    State(api): State<TaskApi>,
    PathParams((cluster, _)): PathParams<(String, String)>,
    JsonBody(update): JsonBody<TaskUpdate>,
) -> ApiResult<Json<Value>> {
    let task_type = requested_type(&update)?;
    let cluster = resolve::cluster(&api.store, &cluster).await?.id;
    let wrong_type = || ApiError::malformed(format_args!("invalid task type \"{task_type}\""));
    let runner = api.runners.get(task_type).ok_or_else(wrong_type)?;
    let decorated = decorate(&**runner, cluster, update.properties).await?;
    let target = runner.dry_run(cluster, &decorated).await?;
    target.map(Json).ok_or_else(wrong_type)
}

fn requested_type(update: &TaskUpdate) -> ApiResult<TaskType> {
    match update.task_type.as_str() {
        "" | "unknown" => Err(ApiError::invalid("invalid task: no TaskType specified")),
        text => text.parse().map_err(ApiError::malformed),
    }
}

fn spec(update: TaskUpdate) -> TaskSpec {
    let TaskUpdate { name, labels, enabled, schedule, properties, .. } = update;
    TaskSpec { name, labels, enabled, schedule, properties }
}

/// Checks the properties of a task that is about to be stored against the live cluster. What is stored are
/// the properties as they came, not the decorated ones.
async fn check(
    api: &TaskApi,
    cluster: ClusterId,
    task_type: TaskType,
    properties: &Properties,
) -> ApiResult<()> {
    let unsupported = || ApiError::from(SchedulerError::Unsupported(task_type)).context("create task");
    let runner = api.runners.get(task_type).ok_or_else(unsupported)?;
    let decorated = decorate(&**runner, cluster, properties.clone()).await?;
    Ok(runner.check(cluster, &decorated).await?)
}

async fn decorate(runner: &dyn Runner, cluster: ClusterId, properties: Properties) -> ApiResult<Properties> {
    let decorated = runner.decorate(cluster, properties).await;
    decorated.map_err(|e| ApiError::malformed(e.cause()).context("evaluate properties"))
}
