//! Builds the task bodies of create and update requests (spec/sctool.md 2.1, 6).

use std::collections::{BTreeMap, BTreeSet};

use common::api::manager::{CreateTask, GetTask, Schedule, Task, TaskUpdate, UpdateTask};
use common::task::TaskType;
use common::units::TaskDuration;
use serde_json::{Map, Value, json};

use crate::cli::shared::{OutputFormat, ScheduleFlags, window_points};
use crate::context::{Ctx, to_value};
use crate::error::CliError;
use crate::grammar::date::wire_time;
use crate::grammar::label::{InvalidLabel, LabelChange};
use crate::grammar::task_ref::{FoundTask, display};
use crate::values::{Int, Switch};

/// Flags that change nothing in a task.
const NEUTRAL: [&str; 9] = [
    "cluster",
    "output",
    "dry-run",
    "show-tables",
    "wait",
    "api-url",
    "api-cert-file",
    "api-key-file",
    "version",
];

const DEFAULT_RETRIES: u32 = 3;
const DEFAULT_RETRY_WAIT: TaskDuration = TaskDuration::from_secs(600);

/// Properties as they are collected from flags: only what was given is set.
#[derive(Debug, Default)]
pub struct Properties(Map<String, Value>);

impl Properties {
    /// Sets a property if its flag was given.
    pub fn set<T: Into<Value>>(&mut self, name: &str, value: Option<T>) -> &mut Self {
        if let Some(value) = value {
            self.0.insert(name.to_owned(), value.into());
        }
        self
    }

    pub fn set_int(&mut self, name: &str, value: Option<Int>) -> &mut Self {
        self.set(name, value.map(|int| int.0))
    }

    pub fn set_switch(&mut self, name: &str, value: Option<Switch>) -> &mut Self {
        self.set(name, value.map(|switch| switch.0))
    }

    pub fn set_text(&mut self, name: &str, value: Option<impl ToString>) -> &mut Self {
        self.set(name, value.map(|text| text.to_string()))
    }
}

/// A new task: defaults, then the flags.
pub fn new_task(
    ctx: &Ctx<'_>,
    task_type: TaskType,
    flags: &ScheduleFlags,
    enabled: Option<Switch>,
    properties: Properties,
) -> Result<TaskUpdate, CliError> {
    let mut task = TaskUpdate {
        task_type: task_type.to_string(),
        enabled: true,
        schedule: Schedule {
            timezone: ctx.env.zone.name.clone(),
            num_retries: DEFAULT_RETRIES,
            retry_wait: DEFAULT_RETRY_WAIT,
            ..Schedule::default()
        },
        properties: properties.0,
        ..TaskUpdate::default()
    };
    apply(ctx, &mut task, flags, enabled)?;
    Ok(task)
}

/// A stored task with the given flags put in.
pub fn changed_task(
    ctx: &Ctx<'_>,
    stored: Task,
    flags: &ScheduleFlags,
    enabled: Option<Switch>,
    properties: Properties,
) -> Result<TaskUpdate, CliError> {
    let mut task = TaskUpdate {
        name: stored.name,
        labels: stored.labels,
        tags: stored.tags,
        enabled: stored.enabled,
        schedule: stored.schedule,
        properties: stored.properties,
        ..TaskUpdate::default()
    };
    task.schedule.window.get_or_insert_default();
    task.properties.extend(properties.0);
    apply(ctx, &mut task, flags, enabled)?;
    Ok(task)
}

fn apply(
    ctx: &Ctx<'_>,
    task: &mut TaskUpdate,
    flags: &ScheduleFlags,
    enabled: Option<Switch>,
) -> Result<(), CliError> {
    fn replace<T>(field: &mut T, value: Option<T>) {
        if let Some(value) = value {
            *field = value;
        }
    }
    replace(&mut task.name, flags.name.clone());
    replace(&mut task.enabled, enabled.map(|switch| switch.0));
    change_labels(&mut task.labels, &flags.label)?;
    let schedule = &mut task.schedule;
    replace(&mut schedule.cron, flags.cron.as_ref().map(ToString::to_string));
    replace(&mut schedule.window, window_points(&flags.window).map(Some));
    replace(&mut schedule.timezone, flags.timezone.clone());
    replace(&mut schedule.start_date, flags.start_date.map(|date| date.start_date(ctx.now())));
    replace(&mut schedule.interval, flags.interval);
    replace(&mut schedule.retry_wait, flags.retry_wait);
    if let Some(retries) = flags.num_retries {
        schedule.num_retries = u32::try_from(retries.0).map_err(|_| {
            CliError::text(format!("number of retries {} is out of range, use 0 or more", retries.0))
        })?;
    }
    Ok(())
}

/// Applies all `--label` flags.
pub fn change_labels(
    labels: &mut BTreeMap<String, String>,
    flags: &Option<Vec<LabelChange>>,
) -> Result<(), CliError> {
    if let Some(changes) = flags {
        let change =
            LabelChange::merged(changes).map_err(|error: InvalidLabel| CliError::text(error.to_string()))?;
        change.apply(labels);
    }
    Ok(())
}

/// True if any given flag changes the task.
pub fn changes_something(given: &BTreeSet<String>) -> bool {
    given.iter().any(|flag| !NEUTRAL.contains(&flag.as_str()))
}

/// Refuses an update that changes nothing.
pub fn require_change(given: &BTreeSet<String>, message: &str) -> Result<(), CliError> {
    if changes_something(given) { Ok(()) } else { Err(CliError::text(message)) }
}

/// The body on the wire; times have milliseconds there.
pub fn body(task: &TaskUpdate) -> Result<Value, CliError> {
    let mut body = to_value(task)?;
    if let (Some(start), Some(field)) = (task.schedule.start_date, body.pointer_mut("/schedule/start_date")) {
        *field = Value::from(wire_time(start));
    }
    Ok(body)
}

/// Creates the task.
pub async fn create(ctx: &mut Ctx<'_>, cluster: &str, task: &TaskUpdate) -> Result<FoundTask, CliError> {
    let id = ctx.create::<CreateTask>(&[cluster], &body(task)?).await?;
    let parsed = |_| CliError::text(format!("the server's answer names no usable task ID: {id}"));
    let task_type = task.task_type.parse().map_err(|_| CliError::text("unknown task type"))?;
    Ok(FoundTask { task_type, id: id.parse().map_err(parsed)?, name: task.name.clone() })
}

/// Reads a task that is to be changed.
pub async fn stored(ctx: &mut Ctx<'_>, cluster: &str, task: &FoundTask) -> Result<Task, CliError> {
    ctx.call::<GetTask>(&[cluster, task.task_type.as_str(), &task.id.to_string()], &()).await
}

/// Writes a changed task back.
pub async fn save(
    ctx: &mut Ctx<'_>,
    cluster: &str,
    task: &FoundTask,
    update: &TaskUpdate,
) -> Result<FoundTask, CliError> {
    let args = [cluster, task.task_type.as_str(), &task.id.to_string()];
    ctx.call_with::<UpdateTask>(&args, &(), &body(update)?).await?;
    Ok(FoundTask { name: update.name.clone(), ..task.clone() })
}

/// Prints the reference, the only output of create and update.
pub fn show_reference(ctx: &mut Ctx<'_>, format: OutputFormat, task: &FoundTask) -> Result<(), CliError> {
    ctx.show(format, |_| format!("{task}\n"), || reference_json(task))
}

/// A task in JSON output.
pub fn reference_json(task: &FoundTask) -> Value {
    json!({
        "task": display(task.task_type, task.id, &task.name),
        "type": task.task_type.as_str(),
        "id": task.id.to_string(),
        "name": task.name,
    })
}
