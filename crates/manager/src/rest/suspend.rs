//! Suspend and resume of a cluster (spec manager.md 2.5).

use axum::extract::State;
use axum::{Json, Router, extract::FromRef};
use common::api::manager::{GetSuspendDetails, GetSuspended, PutSuspended, SuspendDetails, SuspendQuery};

use super::tasks::TaskApi;
use super::{ApiError, ApiResult, Context, JsonBody, PathParams, QueryParams, resolve, route};
use crate::scheduler::suspend_task::{
    FAIL_IF_RUNNING, STOP_RUNNING, SuspendError, parse_allowed_type, suspend,
};
use crate::scheduler::{ResumeOptions, SuspendOptions, Suspension};

pub(super) fn routes<S>() -> Router<S>
where
    S: Clone + Send + Sync + 'static,
    TaskApi: FromRef<S>,
{
    let router = route(Router::new(), GetSuspended, is_suspended);
    let router = route(router, GetSuspendDetails, details);
    route(router, PutSuspended, put)
}

async fn suspension(api: &TaskApi, cluster: &str) -> ApiResult<Option<Suspension>> {
    let cluster = resolve::cluster(&api.store, cluster).await?.id;
    Ok(api.scheduler.suspension(cluster).await?)
}

async fn is_suspended(
    State(api): State<TaskApi>,
    PathParams(cluster): PathParams<String>,
) -> ApiResult<Json<bool>> {
    Ok(Json(suspension(&api, &cluster).await?.is_some()))
}

async fn details(
    State(api): State<TaskApi>,
    PathParams(cluster): PathParams<String>,
) -> ApiResult<Json<SuspendDetails>> {
    let found = suspension(&api, &cluster).await?;
    let allow = found.and_then(|s| s.allow).map(|t| t.to_string());
    Ok(Json(SuspendDetails { suspended: found.is_some(), allow_task_type: allow.unwrap_or_default() }))
}

async fn put(
    State(api): State<TaskApi>,
    PathParams(cluster): PathParams<String>,
    QueryParams(query): QueryParams<SuspendQuery>,
    JsonBody(wanted): JsonBody<bool>,
) -> ApiResult<()> {
    let cluster = resolve::cluster(&api.store, &cluster).await?.id;
    let no_continue = query.no_continue.unwrap_or(false);
    if !wanted {
        let options = ResumeOptions {
            start_tasks: query.start_tasks.unwrap_or(false),
            start_missed: query.start_tasks_missed_activation.unwrap_or(false),
            no_continue,
        };
        return api.scheduler.resume(cluster, options).await.context("resume");
    }
    let allow = parse_allowed_type(query.allow_task_type.as_deref().unwrap_or_default());
    let options = SuspendOptions {
        allow: allow.map_err(ApiError::malformed)?,
        fail_if_running: fails_if_running(query.suspend_policy.as_deref())?,
        no_continue,
        ..SuspendOptions::default()
    };
    suspend(&api.scheduler, &api.runners, cluster, options).await.context("suspend")
}

impl From<SuspendError> for ApiError {
    fn from(error: SuspendError) -> Self {
        match error {
            SuspendError::Refused(error) => error.into(),
            SuspendError::CleanUp(error) => error.into(),
        }
    }
}

fn fails_if_running(policy: Option<&str>) -> ApiResult<bool> {
    match policy {
        None | Some(STOP_RUNNING) => Ok(false),
        Some(FAIL_IF_RUNNING) => Ok(true),
        Some(other) => Err(ApiError::malformed(format_args!(
            "unknown suspend_policy {other:?}, expected {STOP_RUNNING} or {FAIL_IF_RUNNING}"
        ))),
    }
}
