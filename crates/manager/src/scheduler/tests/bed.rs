//! A scheduler over a real store, whose runs do what the test says.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use common::api::manager::{Task, TaskRun};
use common::ids::ClusterId;
use common::task::{TaskStatus, TaskType};
use futures::future::BoxFuture;
use prometheus::Registry;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::scheduler::*;
use crate::store::Store;

/// What a run does.
#[derive(Clone)]
pub enum Step {
    /// Works that long, then succeeds; a stop ends it with an error.
    Work(Duration),
    /// Works that long, then fails.
    Fail(Duration),
    /// Never returns, whatever is asked.
    Hang,
    Panic,
}

pub fn minutes(n: u64) -> Duration {
    Duration::from_secs(60 * n)
}

/// A run as the runner saw it.
#[derive(Clone, Debug)]
pub struct Seen {
    pub context: RunContext,
    pub ended: Option<DateTime<Utc>>,
}

type Script = Box<dyn Fn(&RunContext, usize) -> Step + Send + Sync>;

/// Answers each run by a script that gets the number of earlier runs of the task.
pub struct Scripted {
    script: Script,
    seen: Mutex<Vec<Seen>>,
}

impl Runner for Scripted {
    fn run<'a>(&'a self, context: RunContext) -> BoxFuture<'a, Result<(), RunError>> {
        Box::pin(async move {
            let (step, index) = {
                let mut seen = self.seen.lock().unwrap();
                let before = seen.iter().filter(|s| s.context.task == context.task).count();
                let step = (self.script)(&context, before);
                seen.push(Seen { context: context.clone(), ended: None });
                (step, seen.len() - 1)
            };
            let work = |duration| async move {
                tokio::select! {
                    () = context.stop.stopped() => Err(RunError::failed("interrupted")),
                    () = tokio::time::sleep(duration) => Ok(()),
                }
            };
            let result = match step {
                Step::Work(duration) => work(duration).await,
                Step::Fail(duration) => work(duration).await.and(Err(RunError::failed("boom"))),
                Step::Hang => std::future::pending().await,
                Step::Panic => panic!("on purpose"),
            };
            self.seen.lock().unwrap()[index].ended = Some(context.clock.now());
            result
        })
    }
}

/// 2026-03-02 is a Monday.
pub const MONDAY: &str = "2026-03-02T00:00:00Z";

pub fn at(text: &str) -> DateTime<Utc> {
    DateTime::parse_from_rfc3339(text).unwrap().to_utc()
}

pub struct Bed {
    pub store: Store,
    pub clock: Clock,
    pub scheduler: Scheduler,
    pub runner: Arc<Scripted>,
    pub registry: Registry,
    pub cluster: ClusterId,
    shutdown: CancellationToken,
    driver: JoinSet<()>,
    _dir: Arc<tempfile::TempDir>,
}

impl Bed {
    pub async fn new(now: &str, script: impl Fn(&RunContext, usize) -> Step + Send + Sync + 'static) -> Self {
        let (dir, store) = crate::store::tests::scratch().await;
        let clock = Clock::starting_at(at(now));
        Self::over(Arc::new(dir), store, clock, ClusterId::random(), Box::new(script)).await
    }

    async fn over(
        dir: Arc<tempfile::TempDir>,
        store: Store,
        clock: Clock,
        cluster: ClusterId,
        script: Script,
    ) -> Self {
        let runner = Arc::new(Scripted { script, seen: Mutex::default() });
        let mut runners = Runners::new();
        for task_type in [TaskType::Backup, TaskType::HealthCheck, TaskType::Restore] {
            runners = runners.with(task_type, runner.clone());
        }
        let suspend = Arc::new(SuspendRunner::default());
        let runners = runners.with(TaskType::Suspend, suspend.clone());
        let registry = Registry::new();
        let metrics = SchedulerMetrics::new(&registry).unwrap();
        let (scheduler, driver) = load(store.clone(), clock, runners.clone(), metrics).await.unwrap();
        suspend.connect(scheduler.clone(), runners);
        let shutdown = CancellationToken::new();
        let mut running = JoinSet::new();
        running.spawn(driver.run(shutdown.clone()));
        Self { store, clock, scheduler, runner, registry, cluster, shutdown, driver: running, _dir: dir }
    }

    /// Kills the scheduler in mid-run, waits, and starts one over the same store.
    pub async fn crash(
        mut self,
        down: Duration,
        script: impl Fn(&RunContext, usize) -> Step + Send + Sync + 'static,
    ) -> Self {
        self.driver.shutdown().await;
        tokio::time::sleep(down).await;
        Self::over(self._dir, self.store, self.clock, self.cluster, Box::new(script)).await
    }

    /// Ends the scheduler in order.
    pub async fn shut_down(&mut self) {
        self.shutdown.cancel();
        self.driver.join_next().await.unwrap().unwrap();
    }

    pub async fn create(&self, task_type: TaskType, schedule: &str) -> TaskKey {
        let spec = self.spec(schedule);
        TaskKey::of(&self.scheduler.create(self.cluster, task_type, spec).await.unwrap())
    }

    pub async fn backup(&self, schedule: &str) -> TaskKey {
        self.create(TaskType::Backup, schedule).await
    }

    pub fn spec(&self, schedule: &str) -> TaskSpec {
        TaskSpec {
            enabled: true,
            schedule: serde_json::from_str(schedule).unwrap(),
            properties: serde_json::from_str(r#"{"location":["s3:b"]}"#).unwrap(),
            ..TaskSpec::default()
        }
    }

    pub async fn sleep_until(&self, time: &str) {
        self.clock.sleep_until(at(time)).await;
    }

    pub fn now(&self) -> String {
        self.clock.now().to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
    }

    pub async fn task(&self, key: TaskKey) -> Task {
        self.store.task(key.cluster, key.task_type, key.id).await.unwrap().unwrap()
    }

    pub async fn status(&self, key: TaskKey) -> TaskStatus {
        self.task(key).await.status
    }

    /// Waits for a status; fails after a day.
    pub async fn wait_for(&self, key: TaskKey, status: TaskStatus) {
        for _ in 0..24 * 3600 {
            if self.status(key).await == status {
                return;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        panic!("task is {} at {}, not {status}", self.status(key).await, self.now());
    }

    /// The runs of a task, oldest first.
    pub async fn history(&self, key: TaskKey) -> Vec<TaskRun> {
        let mut runs = self.store.history(key.cluster, key.task_type, key.id, None).await.unwrap();
        runs.reverse();
        runs
    }

    /// The runs of a task, oldest first, as `status day time`.
    pub async fn runs(&self, key: TaskKey) -> Vec<String> {
        let text =
            |run: &TaskRun| format!("{} {}", run.status, run.start_time.unwrap().format("%d %H:%M:%S"));
        self.history(key).await.iter().map(text).collect()
    }

    pub async fn next(&self, key: TaskKey) -> Option<String> {
        let planned = self.scheduler.planned(self.cluster).await.unwrap()[&key];
        planned.next_activation.map(|t| t.format("%d %H:%M:%S").to_string())
    }

    pub async fn retry(&self, key: TaskKey) -> u32 {
        self.scheduler.planned(self.cluster).await.unwrap()[&key].retry
    }

    /// What the runner saw of a task's runs.
    pub fn seen(&self, key: TaskKey) -> Vec<Seen> {
        let seen = self.runner.seen.lock().unwrap();
        seen.iter().filter(|s| s.context.task == key.id).cloned().collect()
    }

    /// Fails if two runs ever worked at the same time.
    pub fn assert_no_overlap(&self) {
        let seen = self.runner.seen.lock().unwrap();
        for pair in seen.windows(2) {
            let ended = pair[0].ended.unwrap_or(DateTime::<Utc>::MAX_UTC);
            // A run's start may be moved by a millisecond to keep the order.
            assert!(ended <= pair[1].context.started + TimeDelta::milliseconds(2), "{pair:?}");
        }
    }

    pub fn metric(&self, name: &str, key: TaskKey, status: Option<TaskStatus>) -> Option<f64> {
        let families = self.registry.gather();
        let family = families.iter().find(|f| f.name() == format!("scylla_manager_scheduler_{name}"))?;
        let has = |m: &prometheus::proto::Metric, label: &str, value: &str| {
            m.get_label().iter().any(|l| l.name() == label && l.value() == value)
        };
        let id = key.id.to_string();
        let mut series = family.get_metric().iter().filter(|m| has(m, "task", &id));
        let found = series.find(|m| status.is_none_or(|s| has(m, "status", s.as_str())))?;
        Some(found.get_gauge().get_value())
    }
}
