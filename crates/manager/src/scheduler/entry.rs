//! What the driver knows of one task.

use chrono::{DateTime, TimeDelta, Utc};
use common::api::manager::{Task, TaskRun};
use common::task::TaskStatus;

use super::handle::{Planned, TaskKey};
use super::plan::Activation;
use super::schedule::{InvalidSchedule, TaskSchedule};
use super::stop::{StopReason, StopSignal};

/// A run that works.
#[derive(Debug)]
pub(super) struct Running {
    /// As it is stored.
    pub run: TaskRun,
    /// What it was started by, with the properties it began with.
    pub activation: Activation,
    /// Its stop.
    pub stop: StopSignal,
    /// Why it is asked to stop. A user's stop overrides the end of a window: the task must not go on by itself.
    pub reason: Option<StopReason>,
}

/// One task. Its stored form is kept in step with the database.
#[derive(Debug)]
pub(super) struct Entry {
    /// As it is stored.
    pub task: Task,
    /// Its schedule; an unreadable one keeps the task out of the schedule.
    pub schedule: Result<TaskSchedule, InvalidSchedule>,
    /// What is planned. Always `None` while the task runs.
    pub plan: Option<Activation>,
    /// The run that works.
    pub running: Option<Running>,
    /// The planned activation is due and waits for another run to end; holds the status before that.
    pub waiting: Option<TaskStatus>,
    /// The next run starts from scratch, whatever starts it.
    pub fresh_next: bool,
    /// Start of the latest run.
    pub last_start: Option<DateTime<Utc>>,
}

impl Entry {
    pub fn new(task: Task) -> Self {
        let schedule = TaskSchedule::parse(&task.schedule);
        Self { task, schedule, plan: None, running: None, waiting: None, fresh_next: false, last_start: None }
    }

    pub fn key(&self) -> TaskKey {
        TaskKey::of(&self.task)
    }

    /// Takes over a changed schedule of the task.
    pub fn reparse(&mut self) {
        self.schedule = TaskSchedule::parse(&self.task.schedule);
    }

    /// Whether the task has activations of its own.
    pub fn is_scheduled(&self) -> bool {
        self.task.enabled && !self.task.deleted
    }

    /// Whether it is a single run in a window that has not come to an end yet.
    pub fn is_unfinished_windowed_one_shot(&self) -> bool {
        let never_ended = self.task.success_count == 0 && self.task.error_count == 0;
        never_ended && self.schedule.as_ref().is_ok_and(TaskSchedule::is_windowed_one_shot)
    }

    /// When the driver must look at this task again; an activation that waits is looked at after each run.
    pub fn wake_at(&self) -> Option<DateTime<Utc>> {
        match (&self.running, &self.plan) {
            (Some(running), _) if running.reason.is_none() => running.activation.window_end,
            (Some(_), _) => None,
            (None, Some(plan)) if self.waiting.is_some() => plan.window_end,
            (None, plan) => plan.as_ref().map(|p| p.at),
        }
    }

    /// The start time of a run that begins now: later than that of the run before, which orders them.
    pub fn next_start(&self, now: DateTime<Utc>) -> DateTime<Utc> {
        self.last_start.map_or(now, |last| now.max(last + TimeDelta::milliseconds(1)))
    }

    pub fn planned(&self, suspended: bool) -> Planned {
        match &self.plan {
            Some(plan) => Planned { next_activation: Some(plan.at), retry: plan.retry, suspended: false },
            None => Planned { suspended: suspended && self.running.is_none(), ..Planned::default() },
        }
    }
}
