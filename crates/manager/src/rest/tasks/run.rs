//! Start and stop of tasks, their runs and the progress of these.

use axum::Json;
use axum::extract::State;
use common::api::manager::{ControlQuery, HistoryQuery, RunProgress, StartQuery, StopQuery, Task, TaskRun};
use common::ids::RunId;
use common::task::{TaskStatus, TaskType};
use common::units::DcLimit;
use serde_json::Value;

use super::read::existing;
use super::{TaskApi, TaskPath};
use crate::rest::{ApiError, ApiResult, Context, PathParams, QueryParams, resolve};
use crate::scheduler::TaskKey;

/// Runs in a history when the request names no limit.
const DEFAULT_HISTORY: i64 = 10;

/// `PUT .../start?continue=`.
pub(super) async fn start(
    State(api): State<TaskApi>,
    PathParams((cluster, task_type, task)): PathParams<TaskPath>,
    QueryParams(query): QueryParams<StartQuery>,
) -> ApiResult<()> {
    let key = resolve::task_key(&api.store, &cluster, &task_type, &task).await?;
    // The client always says; a bare call is kind to what an earlier run left.
    let continue_run = query.continue_run.unwrap_or(true);
    api.scheduler.start(key, continue_run).await.context(format_args!("start task \"{}\"", key.id))
}

/// `PUT .../stop?disable=`.
pub(super) async fn stop(
    State(api): State<TaskApi>,
    PathParams((cluster, task_type, task)): PathParams<TaskPath>,
    QueryParams(query): QueryParams<StopQuery>,
) -> ApiResult<()> {
    let key = resolve::task_key(&api.store, &cluster, &task_type, &task).await?;
    let disable = query.disable.unwrap_or(false);
    api.scheduler.stop(key, disable).await.context(format_args!("stop task \"{}\"", key.id))
}

/// `PUT /cluster/{c}/task/backup/{id}/control?rate_limit=` (ours): changes the limit of the task, and of its
/// run if one works.
pub(super) async fn control(
    State(api): State<TaskApi>,
    PathParams((cluster, task)): PathParams<(String, String)>,
    QueryParams(query): QueryParams<ControlQuery>,
) -> ApiResult<()> {
    let key = resolve::task_key(&api.store, &cluster, TaskType::Backup.as_str(), &task).await?;
    let Some(text) = query.rate_limit else {
        return Err(ApiError::malformed("missing rate_limit, e.g. rate_limit=dc1:50,100"));
    };
    let limits: Vec<DcLimit> =
        text.split(',').map(|l| l.trim().parse()).collect::<Result<_, _>>().map_err(ApiError::malformed)?;
    let what = format!("control task \"{}\"", key.id);
    has_rate_limit(&api, key).await.context(&what)?;
    let runner = api.runners.get(key.task_type);
    let runner = runner.ok_or_else(|| ApiError::unsupported("this manager runs no backups"))?;
    runner.check_rate_limit(key.cluster, &limits).await.context(&what)?;
    let value: Value = limits.iter().map(DcLimit::to_string).collect();
    api.scheduler.set_property(key, "rate_limit", value).await.context(&what)?;
    runner.change_rate_limit(key.cluster, key.id, &limits).await.context(&what)
}

/// Demands that the task exists and is a backup.
async fn has_rate_limit(api: &TaskApi, key: TaskKey) -> ApiResult<()> {
    let missing = match existing(api, key).await {
        Ok(_) => return Ok(()),
        Err(error) => error,
    };
    let other = api.store.tasks(key.cluster).await?.into_iter().find(|task| task.id == key.id);
    Err(other.map_or(missing, |task| {
        let reference = format!("{}/{}", task.task_type, task.id);
        ApiError::invalid(format!("{reference} is no backup, only backups have a rate limit"))
    }))
}

/// `GET .../history?limit=`.
pub(super) async fn history(
    State(api): State<TaskApi>,
    PathParams((cluster, task_type, task)): PathParams<TaskPath>,
    QueryParams(query): QueryParams<HistoryQuery>,
) -> ApiResult<Json<Vec<TaskRun>>> {
    let key = resolve::task_key(&api.store, &cluster, &task_type, &task).await?;
    existing(&api, key).await?;
    let limit = query.limit.unwrap_or(DEFAULT_HISTORY);
    let limit = (limit > 0).then(|| u32::try_from(limit).unwrap_or(u32::MAX));
    Ok(Json(api.store.history(key.cluster, key.task_type, key.id, limit).await?))
}

/// Which run of a task is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RunSelector {
    Id(RunId),
    /// That many runs before the latest.
    Back(u32),
}

impl RunSelector {
    fn parse(text: &str) -> ApiResult<Self> {
        if text == "latest" {
            return Ok(Self::Back(0));
        }
        let wrong = || {
            ApiError::malformed(format_args!(
                "{text:?} names no run; expected a run ID, latest, or ~N for N runs before the latest"
            ))
        };
        match text.strip_prefix('~') {
            Some(number) => number.parse().map(Self::Back).map_err(|_| wrong()),
            None => text.parse().map(Self::Id).map_err(|_| wrong()),
        }
    }
}

/// `GET .../task/{type}/{id}/{run}`. Works while the cluster is unreachable.
pub(super) async fn progress(
    State(api): State<TaskApi>,
    PathParams((cluster, task_type, task, run)): PathParams<(String, String, String, String)>,
) -> ApiResult<Json<RunProgress<Value>>> {
    let key = resolve::task_key(&api.store, &cluster, &task_type, &task).await?;
    let selector = RunSelector::parse(&run)?;
    let task = existing(&api, key).await?;
    let found = match selector {
        RunSelector::Id(id) => api.store.run(key.cluster, key.task_type, key.id, id).await?,
        RunSelector::Back(n) => api.store.nth_latest_run(key.cluster, key.task_type, key.id, n).await?,
    };
    let runner = api.runners.get(key.task_type);
    let Some(found) = found else {
        if selector != RunSelector::Back(0) {
            return Err(ApiError::not_found(format_args!("load run \"{run}\" of task \"{}\"", key.id)));
        }
        let empty = runner.map(|r| r.empty_progress()).filter(|p| !p.is_null());
        return Ok(Json(RunProgress { run: never_ran(&task), progress: empty }));
    };
    if matches!(key.task_type, TaskType::HealthCheck | TaskType::Suspend) {
        return Err(ApiError::malformed("unsupported task type"));
    }
    let progress = match runner {
        Some(runner) => runner.progress(key.cluster, key.id, found.id).await?,
        None => None,
    };
    Ok(Json(RunProgress { run: found, progress }))
}

/// Stands for the run of a task that never ran. One that waits in the queue shows it.
fn never_ran(task: &Task) -> TaskRun {
    let waiting = task.status == TaskStatus::Waiting;
    TaskRun {
        cluster_id: task.cluster_id,
        task_type: task.task_type,
        task_id: task.id,
        id: RunId::NIL,
        status: if waiting { TaskStatus::Waiting } else { TaskStatus::New },
        cause: String::new(),
        owner: String::new(),
        start_time: None,
        end_time: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn run_selectors() {
        let id = "5d0b7c1e-1510-11f1-9a6e-0242ac120002";
        for (text, expected) in [
            ("latest", Some(RunSelector::Back(0))),
            ("~0", Some(RunSelector::Back(0))),
            ("~12", Some(RunSelector::Back(12))),
            (id, Some(RunSelector::Id(id.parse().unwrap()))),
            ("~", None),
            ("~-1", None),
            ("newest", None),
            ("", None),
        ] {
            assert_eq!(RunSelector::parse(text).ok(), expected, "{text}");
        }
    }
}
