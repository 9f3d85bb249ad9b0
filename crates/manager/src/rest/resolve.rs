//! From the texts in a path to what they name (spec manager.md 2.2).

use common::ids::{ClusterId, TaskId};
use common::task::TaskType;

use super::{ApiError, ApiResult, Context};
use crate::scheduler::TaskKey;
use crate::store::{Cluster, Store};

/// The cluster of a path: by ID if the text is one, else by its exact name.
pub async fn cluster(store: &Store, text: &str) -> ApiResult<Cluster> {
    let what = format!("load cluster \"{text}\"");
    let found = match text.parse::<ClusterId>() {
        Ok(id) => store.cluster(id).await,
        Err(_) => store.cluster_by_name(text).await,
    };
    found.context(&what)?.ok_or_else(|| ApiError::not_found(what))
}

/// The task of a path; whether it exists is another question.
pub async fn task_key(store: &Store, cluster_text: &str, task_type: &str, task: &str) -> ApiResult<TaskKey> {
    let task_type: TaskType = task_type.parse().map_err(ApiError::malformed)?;
    let id: TaskId = task.parse().map_err(ApiError::malformed)?;
    let cluster = cluster(store, cluster_text).await?.id;
    Ok(TaskKey { cluster, task_type, id })
}
