//! Tasks and their runs (spec manager.md 2.4).
//!
//! Reads come from the store, with the plan laid over them; writes go through the scheduler.

mod read;
mod run;
mod write;

#[cfg(test)]
mod tests;

use axum::Router;
use axum::extract::FromRef;
use common::api::manager::{
    ControlBackup, CreateTask, DeleteTask, GetBackupTarget, GetHistory, GetRunProgress, GetTask, ListTasks,
    StartTask, StopTask, UpdateTask,
};

use super::{ApiError, AppState, route};
use crate::scheduler::{Clock, Runners, Scheduler, SchedulerError, TaskKey};
use crate::store::Store;

/// What the handlers of this module need.
#[derive(Clone)]
pub struct TaskApi {
    /// Tasks and runs.
    pub store: Store,
    /// Writes, and what is planned.
    pub scheduler: Scheduler,
    /// Checks, dry runs and progress of each type.
    pub runners: Runners,
    /// Time of day.
    pub clock: Clock,
}

impl FromRef<AppState> for TaskApi {
    fn from_ref(state: &AppState) -> Self {
        Self {
            store: state.store.clone(),
            scheduler: state.scheduler.clone(),
            runners: state.runners.clone(),
            clock: state.clock,
        }
    }
}

pub(super) fn routes<S>() -> Router<S>
where
    S: Clone + Send + Sync + 'static,
    TaskApi: FromRef<S>,
{
    let router = route(Router::new(), ListTasks, read::list);
    let router = route(router, GetTask, read::get);
    let router = route(router, CreateTask, write::create);
    let router = route(router, UpdateTask, write::update);
    let router = route(router, DeleteTask, write::delete);
    let router = route(router, GetBackupTarget, write::dry_run);
    let router = route(router, StartTask, run::start);
    let router = route(router, StopTask, run::stop);
    let router = route(router, ControlBackup, run::control);
    let router = route(router, GetHistory, run::history);
    route(router, GetRunProgress, run::progress)
}

/// Path parameters of one task.
type TaskPath = (String, String, String);

/// The answer for a task that is not there, or is deleted.
fn no_such_task(key: TaskKey) -> ApiError {
    ApiError::not_found(format_args!("load task \"{}\"", key.id))
}

impl From<SchedulerError> for ApiError {
    fn from(error: SchedulerError) -> Self {
        match error {
            SchedulerError::NotFound(id) => Self::not_found(format_args!("load task \"{id}\"")),
            other @ SchedulerError::TasksRunning(_) => Self::conflict(other),
            other if other.is_invalid() => Self::invalid(common::error::chain(&other)),
            other => Self::internal(&other),
        }
    }
}
