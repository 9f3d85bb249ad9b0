//! Gauges of the scheduler, names and labels of the original (spec manager.md 7).
//!
//! All are gauges, also the counting ones. The dashboards need every status at 0 before the first run.

use chrono::{DateTime, Utc};
use common::api::manager::{Task, TaskRun};
use common::ids::ClusterId;
use common::task::TaskStatus;
use prometheus::{IntGaugeVec, Opts, Registry};

/// The scheduler's series.
#[derive(Clone)]
pub struct SchedulerMetrics {
    run_indicator: IntGaugeVec,
    run_total: IntGaugeVec,
    last_success: IntGaugeVec,
    suspended: IntGaugeVec,
}

impl SchedulerMetrics {
    /// Registers the series.
    ///
    /// # Errors
    /// They are registered already.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let gauge = |name: &str, help: &str, labels: &[&str]| {
            let gauge =
                IntGaugeVec::new(Opts::new(format!("scylla_manager_scheduler_{name}"), help), labels)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok::<_, prometheus::Error>(gauge)
        };
        let task = ["cluster", "type", "task"];
        Ok(Self {
            run_indicator: gauge("run_indicator", "1 while the task runs, else 0.", &task)?,
            run_total: gauge(
                "run_total",
                "Runs that ended with the status since the start of the daemon.",
                &["cluster", "type", "task", "status"],
            )?,
            last_success: gauge("last_success", "Start of the last DONE run in Unix seconds.", &task)?,
            suspended: gauge(
                "suspended",
                "1 while the cluster is suspended, 0 after a resume.",
                &["cluster"],
            )?,
        })
    }

    /// Makes the series of a task, all of them 0.
    pub(super) fn add_task(&self, task: &Task) {
        let [cluster, kind, id] = labels(task);
        self.run_indicator.with_label_values(&[&cluster, &kind, &id]).set(0);
        for status in TaskStatus::ALL {
            self.run_total.with_label_values(&[cluster.as_str(), &kind, &id, status.as_str()]).set(0);
        }
    }

    pub(super) fn run_began(&self, task: &Task) {
        self.run_indicator.with_label_values(&labels(task)).set(1);
    }

    pub(super) fn run_ended(&self, task: &Task, run: &TaskRun) {
        let [cluster, kind, id] = labels(task);
        self.run_indicator.with_label_values(&[&cluster, &kind, &id]).set(0);
        self.run_total.with_label_values(&[cluster.as_str(), &kind, &id, run.status.as_str()]).inc();
        if run.status == TaskStatus::Done {
            let started = run.start_time.map_or(0, |t: DateTime<Utc>| t.timestamp());
            self.last_success.with_label_values(&[&cluster, &kind, &id]).set(started);
        }
    }

    pub(super) fn set_suspended(&self, cluster: ClusterId, suspended: bool) {
        self.suspended.with_label_values(&[cluster.to_string()]).set(suspended.into());
    }

    /// Drops the series of a task of a deleted cluster.
    pub(super) fn remove_task(&self, task: &Task) {
        let [cluster, kind, id] = labels(task);
        // A series that never was needs no removal.
        let _ = self.run_indicator.remove_label_values(&[&cluster, &kind, &id]);
        let _ = self.last_success.remove_label_values(&[&cluster, &kind, &id]);
        let _ = self.suspended.remove_label_values(&[&cluster]);
        for status in TaskStatus::ALL {
            let _ = self.run_total.remove_label_values(&[cluster.as_str(), &kind, &id, status.as_str()]);
        }
    }
}

fn labels(task: &Task) -> [String; 3] {
    [task.cluster_id.to_string(), task.task_type.to_string(), task.id.to_string()]
}
