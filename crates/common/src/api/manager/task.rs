//! Tasks, schedules and runs.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::api::{null_as_default, optional_time, zero_time};
use crate::ids::{ClusterId, RunId, TaskId};
use crate::task::{TaskStatus, TaskType};
use crate::units::TaskDuration;

/// When a task runs (spec manager.md 3.2). The same shape in requests and replies.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Schedule {
    /// Cron expression; from the server a JSON object inside the string, see [`CronText`].
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "null_as_default")]
    pub cron: String,
    /// Points `[DAY-]H:MM` in pairs begin, end; `null` when there is none.
    pub window: Option<Vec<String>>,
    /// IANA name; empty means UTC.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "null_as_default")]
    pub timezone: String,
    /// First activation; absent means now.
    #[serde(with = "optional_time", skip_serializing_if = "Option::is_none")]
    pub start_date: Option<DateTime<Utc>>,
    /// Period without cron; zero means none.
    #[serde(skip_serializing_if = "TaskDuration::is_unset", deserialize_with = "null_as_default")]
    pub interval: TaskDuration,
    /// Reruns after a failed run.
    #[serde(skip_serializing_if = "is_zero")]
    pub num_retries: u32,
    /// First wait before a rerun; zero means 10 minutes.
    #[serde(skip_serializing_if = "TaskDuration::is_unset", deserialize_with = "null_as_default")]
    pub retry_wait: TaskDuration,
}

fn is_zero(n: &u32) -> bool {
    *n == 0
}

/// The object that the server puts into `schedule.cron` as text.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CronText {
    /// Cron expression; empty when there is none.
    pub spec: String,
    /// First activation not before this time.
    #[serde(with = "zero_time")]
    pub start_date: Option<DateTime<Utc>>,
}

impl CronText {
    /// Reads either form of `schedule.cron`: a plain expression or the object as text.
    pub fn parse(text: &str) -> Self {
        if text.trim_start().starts_with('{')
            && let Ok(object) = serde_json::from_str(text)
        {
            return object;
        }
        Self { spec: text.to_owned(), start_date: None }
    }

    /// The object as text: the form that the server sends.
    pub fn to_wire(&self) -> String {
        // Two strings: nothing that could fail to serialise.
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// Body of task creation and update, and of the dry run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TaskUpdate {
    /// Refused on create unless nil; ignored on update.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<TaskId>,
    /// Task type as text: an unknown one is an error of the request, not of the decoder.
    #[serde(rename = "type", skip_serializing_if = "String::is_empty", deserialize_with = "null_as_default")]
    pub task_type: String,
    /// Unique per cluster and type; may be empty.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "null_as_default")]
    pub name: String,
    /// Free key-value pairs.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "null_as_default")]
    pub labels: BTreeMap<String, String>,
    /// Obsolete; `null`.
    pub tags: Option<Vec<String>>,
    /// Absent means disabled.
    #[serde(skip_serializing_if = "std::ops::Not::not", deserialize_with = "null_as_default")]
    pub enabled: bool,
    /// When it runs.
    #[serde(deserialize_with = "null_as_default")]
    pub schedule: Schedule,
    /// Properties of the type.
    #[serde(deserialize_with = "null_as_default")]
    pub properties: Map<String, Value>,
}

/// A stored task (spec manager.md 3.2).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Task {
    /// Its cluster.
    pub cluster_id: ClusterId,
    /// Its kind.
    #[serde(rename = "type")]
    pub task_type: TaskType,
    /// Its ID.
    pub id: TaskId,
    /// May be empty.
    #[serde(default, deserialize_with = "null_as_default")]
    pub name: String,
    /// Free key-value pairs.
    #[serde(default, deserialize_with = "null_as_default")]
    pub labels: BTreeMap<String, String>,
    /// Left out when false.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub enabled: bool,
    /// Never true through the API.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub deleted: bool,
    /// When it runs; always an object.
    #[serde(default, deserialize_with = "null_as_default")]
    pub schedule: Schedule,
    /// Always an object.
    #[serde(default, deserialize_with = "null_as_default")]
    pub properties: Map<String, Value>,
    /// Obsolete; `null`.
    #[serde(default)]
    pub tags: Option<Vec<String>>,
    /// Status of the last run.
    pub status: TaskStatus,
    /// Runs that ended well.
    #[serde(default)]
    pub success_count: u64,
    /// Runs that failed.
    #[serde(default)]
    pub error_count: u64,
    /// End of the last good run.
    #[serde(default, with = "optional_time")]
    pub last_success: Option<DateTime<Utc>>,
    /// End of the last failed run.
    #[serde(default, with = "optional_time")]
    pub last_error: Option<DateTime<Utc>>,
}

/// A task in `sctool tasks`: what is stored plus what is planned.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskListItem {
    /// What is stored.
    #[serde(flatten)]
    pub task: Task,
    /// The cluster is suspended and this task has no planned activation.
    #[serde(default)]
    pub suspended: bool,
    /// `null` while running, disabled or not planned.
    #[serde(default, with = "optional_time")]
    pub next_activation: Option<DateTime<Utc>>,
    /// Number of the retry that is planned next; 0 if the next activation is not a retry.
    #[serde(default)]
    pub retry: u32,
}

/// One execution of a task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskRun {
    /// Its cluster.
    pub cluster_id: ClusterId,
    /// Kind of its task.
    #[serde(rename = "type")]
    pub task_type: TaskType,
    /// Its task.
    pub task_id: TaskId,
    /// Its ID; nil when the task never ran.
    pub id: RunId,
    /// Where it stands.
    pub status: TaskStatus,
    /// Why it failed or stopped.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub cause: String,
    /// Obsolete; empty.
    #[serde(default)]
    pub owner: String,
    /// When it began.
    #[serde(default, with = "zero_time")]
    pub start_time: Option<DateTime<Utc>>,
    /// When it ended; absent while it runs.
    #[serde(default, with = "optional_time", skip_serializing_if = "Option::is_none")]
    pub end_time: Option<DateTime<Utc>>,
}

/// Answer of `GET .../task/{type}/{id}/{run}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunProgress<P> {
    /// The run.
    pub run: TaskRun,
    /// Progress of its type; `null` while there is none.
    pub progress: Option<P>,
}

/// Filters of the task list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TaskListQuery {
    /// Include disabled tasks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub all: Option<bool>,
    /// Only this type.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub task_type: Option<String>,
    /// Only this status.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// Only IDs and names are wanted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub short: Option<bool>,
    /// Only this task.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task_id: Option<String>,
}

impl TaskDuration {
    /// For `skip_serializing_if`.
    fn is_unset(&self) -> bool {
        self.is_zero()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cron_text_reads_both_forms() {
        assert_eq!(CronText::parse("30 2 * * *").spec, "30 2 * * *");
        let object = r#"{"spec":"0 2 * * *","start_date":"2026-03-01T00:00:00Z"}"#;
        let parsed = CronText::parse(object);
        assert_eq!(parsed.to_wire(), object);
        assert_eq!(CronText::default().to_wire(), r#"{"spec":"","start_date":"0001-01-01T00:00:00Z"}"#);
        assert_eq!(CronText::parse(&CronText::default().to_wire()), CronText::default());
    }

    #[test]
    fn absent_fields_of_a_request_are_zero_values() {
        let task: TaskUpdate =
            serde_json::from_str(r#"{"type":"backup","schedule":{"window":null},"tags":null}"#).unwrap();
        assert!(!task.enabled && task.schedule.num_retries == 0 && task.schedule.interval.is_zero());
        let text =
            serde_json::to_string(&TaskUpdate { task_type: "backup".into(), ..Default::default() }).unwrap();
        assert_eq!(text, r#"{"type":"backup","tags":null,"schedule":{"window":null},"properties":{}}"#);
    }
}
