//! The calls of the manager's API; paths are below `/api/v1`.

use http::Method;
use serde::{Deserialize, Serialize};

use super::{
    BackupDeleteQuery, BackupFilesInfo, BackupListItem, BackupListQuery, BackupProgress, BackupSchema,
    BackupTarget, Cluster, DeleteClusterQuery, NodeStatus, RunProgress, SuspendDetails, Task, TaskListItem,
    TaskListQuery, TaskRun, TaskUpdate, Version,
};
use crate::api::Endpoint;

macro_rules! endpoint {
    ($(#[$meta:meta])* $name:ident, $method:ident, $path:literal, $query:ty, $body:ty, $reply:ty) => {
        $(#[$meta])*
        pub struct $name;

        impl Endpoint for $name {
            const METHOD: Method = Method::$method;
            const PATH: &'static str = $path;
            type Query = $query;
            type Body = $body;
            type Reply = $reply;
        }
    };
}

/// Query of `start`.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct StartQuery {
    /// `false` starts from scratch.
    #[serde(rename = "continue")]
    pub continue_run: Option<bool>,
}

/// Query of `stop`.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct StopQuery {
    /// Also disable the task.
    pub disable: Option<bool>,
}

/// Query of `history`.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct HistoryQuery {
    /// Number of runs; 10 when absent, no limit from 0 down.
    pub limit: Option<i64>,
}

/// Query of the live control of a backup (ours).
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ControlQuery {
    /// Comma-joined `[dc:]MiB/s`.
    pub rate_limit: Option<String>,
}

/// Query of `suspend` and `resume`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct SuspendQuery {
    /// Suspend: type that keeps running.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow_task_type: Option<String>,
    /// Suspend: `stop_running_tasks` or `fail_if_running_tasks`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suspend_policy: Option<String>,
    /// Start from scratch afterwards.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub no_continue: Option<bool>,
    /// Resume: restart what the suspend stopped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_tasks: Option<bool>,
    /// Resume: start what was due meanwhile.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_tasks_missed_activation: Option<bool>,
}

/// Query of `GET .../backups/schema`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct BackupSchemaQuery {
    /// Required.
    pub snapshot_tag: Option<String>,
    /// Required, exactly one.
    pub location: Option<String>,
    /// Narrows the search.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub query_cluster_id: Option<String>,
    /// Narrows the search.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub query_task_id: Option<String>,
}

endpoint!(/// Release of the server.
    GetVersion, GET, "/version", (), (), Version);
endpoint!(/// All clusters, sorted by ID.
    ListClusters, GET, "/clusters", (), (), Vec<Cluster>);
endpoint!(/// Adds a cluster; the ID is the end of the `Location` header.
    AddCluster, POST, "/clusters", (), Cluster, ());
endpoint!(/// One cluster.
    GetCluster, GET, "/cluster/{cluster_id}", (), (), Cluster);
endpoint!(/// Replaces a cluster.
    UpdateCluster, PUT, "/cluster/{cluster_id}", (), Cluster, Cluster);
endpoint!(/// Deletes a cluster, or only some of its secrets.
    DeleteCluster, DELETE, "/cluster/{cluster_id}", DeleteClusterQuery, (), ());
endpoint!(/// Live status of all nodes.
    GetStatus, GET, "/cluster/{cluster_id}/status", (), (), Vec<NodeStatus>);
endpoint!(/// Whether the cluster is suspended.
    GetSuspended, GET, "/cluster/{cluster_id}/suspended", (), (), bool);
endpoint!(/// Suspends (`true`) or resumes (`false`).
    PutSuspended, PUT, "/cluster/{cluster_id}/suspended", SuspendQuery, bool, ());
endpoint!(/// Whether and how the cluster is suspended.
    GetSuspendDetails, GET, "/cluster/{cluster_id}/suspended/details", (), (), SuspendDetails);
endpoint!(/// Tasks of a cluster.
    ListTasks, GET, "/cluster/{cluster_id}/tasks", TaskListQuery, (), Vec<TaskListItem>);
endpoint!(/// Creates a task; the ID is the end of the `Location` header.
    CreateTask, POST, "/cluster/{cluster_id}/tasks", (), TaskUpdate, ());
endpoint!(/// Dry run of a backup: `GET` with a body. `{task_type}` is `backup`.
    GetBackupTarget, GET, "/cluster/{cluster_id}/tasks/{task_type}/target", (), TaskUpdate, BackupTarget);
endpoint!(/// One task.
    GetTask, GET, "/cluster/{cluster_id}/task/{task_type}/{task_id}", (), (), Task);
endpoint!(/// Replaces a task.
    UpdateTask, PUT, "/cluster/{cluster_id}/task/{task_type}/{task_id}", (), TaskUpdate, Task);
endpoint!(/// Deletes a task.
    DeleteTask, DELETE, "/cluster/{cluster_id}/task/{task_type}/{task_id}", (), (), ());
endpoint!(/// Starts a task now.
    StartTask, PUT, "/cluster/{cluster_id}/task/{task_type}/{task_id}/start", StartQuery, (), ());
endpoint!(/// Stops the run of a task.
    StopTask, PUT, "/cluster/{cluster_id}/task/{task_type}/{task_id}/stop", StopQuery, (), ());
endpoint!(/// Changes limits of a running backup (ours).
    ControlBackup, PUT, "/cluster/{cluster_id}/task/backup/{task_id}/control", ControlQuery, (), ());
endpoint!(/// Runs, newest first.
    GetHistory, GET, "/cluster/{cluster_id}/task/{task_type}/{task_id}/history", HistoryQuery, (), Vec<TaskRun>);
endpoint!(/// One run of a backup: UUID, `latest` or `~N`.
    GetBackupProgress, GET, "/cluster/{cluster_id}/task/backup/{task_id}/{run_id}", (), (), RunProgress<BackupProgress>);
endpoint!(/// One run of any task, progress untyped.
    GetRunProgress, GET, "/cluster/{cluster_id}/task/{task_type}/{task_id}/{run_id}", (), (), RunProgress<serde_json::Value>);
endpoint!(/// Backups in the locations.
    ListBackups, GET, "/cluster/{cluster_id}/backups", BackupListQuery, (), Vec<BackupListItem>);
endpoint!(/// Deletes backups by tag.
    DeleteBackups, DELETE, "/cluster/{cluster_id}/backups", BackupDeleteQuery, (), ());
endpoint!(/// Files of a backup.
    ListBackupFiles, GET, "/cluster/{cluster_id}/backups/files", BackupListQuery, (), Vec<BackupFilesInfo>);
endpoint!(/// Deletes the manager's snapshots on the nodes.
    DeleteLocalSnapshots, DELETE, "/cluster/{cluster_id}/backups/local_snapshots", (), (), ());
endpoint!(/// Schema stored with a backup.
    GetBackupSchema, GET, "/cluster/{cluster_id}/backups/schema", BackupSchemaQuery, (), BackupSchema);
