//! Random lives of a scheduler: whatever users do and whenever it crashes, its books are in order.

use std::time::Duration;

use chrono::TimeDelta;
use common::api::manager::TaskRun;
use common::task::{TaskStatus, TaskType};
use proptest::prelude::*;

use super::bed::{Bed, MONDAY, Step, minutes};
use crate::scheduler::*;

#[derive(Clone, Debug)]
enum Deed {
    Create { backup: bool, schedule: usize },
    Start { task: usize, continue_run: bool },
    Stop { task: usize, disable: bool },
    Update { task: usize, schedule: usize, enabled: bool },
    Delete { task: usize },
    Sleep { minutes: u64 },
    Suspend { no_continue: bool },
    Resume { start: bool },
    Crash { minutes: u64 },
}

const SCHEDULES: [&str; 6] = [
    r#"{"num_retries":2}"#,
    r#"{"cron":"0 */3 * * *","num_retries":1,"retry_wait":"5m"}"#,
    r#"{"cron":"*/20 * * * *"}"#,
    r#"{"start_date":"2026-03-01T00:10:00Z","interval":"2h","num_retries":3}"#,
    r#"{"start_date":"2026-03-01T00:00:00Z","interval":"4h","window":["01:00","01:30","05:00","08:00"]}"#,
    r#"{"start_date":"2026-03-02T04:00:00Z","window":["22:00","06:00"],"num_retries":1}"#,
];

fn deed() -> impl Strategy<Value = Deed> {
    let (task, schedule) = (0_usize..8, 0..SCHEDULES.len());
    prop_oneof![
        3 => (any::<bool>(), schedule.clone()).prop_map(|(backup, schedule)| Deed::Create { backup, schedule }),
        3 => (task.clone(), any::<bool>()).prop_map(|(task, continue_run)| Deed::Start { task, continue_run }),
        3 => (task.clone(), any::<bool>()).prop_map(|(task, disable)| Deed::Stop { task, disable }),
        2 => (task.clone(), schedule, any::<bool>())
            .prop_map(|(task, schedule, enabled)| Deed::Update { task, schedule, enabled }),
        1 => task.prop_map(|task| Deed::Delete { task }),
        6 => (0_u64..300).prop_map(|minutes| Deed::Sleep { minutes }),
        1 => any::<bool>().prop_map(|no_continue| Deed::Suspend { no_continue }),
        2 => any::<bool>().prop_map(|start| Deed::Resume { start }),
        2 => (0_u64..120).prop_map(|minutes| Deed::Crash { minutes }),
    ]
}

/// Some runs work, some fail, some hang until they are stopped.
fn step(context: &RunContext, before: usize) -> Step {
    let dice = context.task.uuid().as_bytes()[0] as usize + 7 * before;
    match dice % 10 {
        0 => Step::Hang,
        1..=3 => Step::Fail(minutes(dice as u64 % 25)),
        4 => Step::Panic,
        _ => Step::Work(minutes(dice as u64 % 50)),
    }
}

async fn live(deeds: Vec<Deed>) {
    let mut bed = Bed::new(MONDAY, step).await;
    let mut tasks: Vec<TaskKey> = vec![];
    let pick = |tasks: &[TaskKey], n: usize| tasks.get(n % tasks.len().max(1)).copied();
    for deed in deeds {
        match deed {
            Deed::Create { backup, schedule } => {
                let task_type = if backup { TaskType::Backup } else { TaskType::Restore };
                let spec = bed.spec(SCHEDULES[schedule]);
                if let Ok(task) = bed.scheduler.create(bed.cluster, task_type, spec).await {
                    tasks.push(TaskKey::of(&task));
                }
            }
            Deed::Start { task, continue_run } => {
                if let Some(key) = pick(&tasks, task) {
                    let _ = bed.scheduler.start(key, continue_run).await;
                }
            }
            Deed::Stop { task, disable } => {
                if let Some(key) = pick(&tasks, task)
                    && bed.scheduler.stop(key, disable).await.is_ok()
                {
                    let runs = bed.history(key).await.len();
                    tokio::time::sleep(Duration::from_secs(10)).await;
                    let history = bed.history(key).await;
                    let stopped = history.get(runs.wrapping_sub(1));
                    assert!(stopped.is_none_or(|r| r.end_time.is_some()), "{stopped:?}");
                }
            }
            Deed::Update { task, schedule, enabled } => {
                if let Some(key) = pick(&tasks, task) {
                    let spec = TaskSpec { enabled, ..bed.spec(SCHEDULES[schedule]) };
                    let _ = bed.scheduler.update(key, spec).await;
                }
            }
            Deed::Delete { task } => {
                if let Some(key) = pick(&tasks, task) {
                    let _ = bed.scheduler.delete(key).await;
                }
            }
            Deed::Sleep { minutes: n } => tokio::time::sleep(minutes(n)).await,
            Deed::Suspend { no_continue } => {
                let options = SuspendOptions { no_continue, ..Default::default() };
                bed.scheduler.suspend(bed.cluster, options).await.unwrap();
                assert!(tasks_running(&bed, &tasks).await.is_empty());
            }
            Deed::Resume { start } => {
                let options = ResumeOptions { start_tasks: start, start_missed: start, no_continue: false };
                bed.scheduler.resume(bed.cluster, options).await.unwrap();
            }
            Deed::Crash { minutes: n } => bed = bed.crash(minutes(n), step).await,
        }
    }
    bed.shut_down().await;
    check_books(&bed, &tasks).await;
}

async fn tasks_running(bed: &Bed, tasks: &[TaskKey]) -> Vec<TaskKey> {
    let mut running = vec![];
    for key in tasks {
        if matches!(bed.status(*key).await, TaskStatus::Running | TaskStatus::Stopping) {
            running.push(*key);
        }
    }
    running
}

async fn check_books(bed: &Bed, tasks: &[TaskKey]) {
    let mut worked: Vec<TaskRun> = vec![];
    for key in tasks {
        let (task, history) = (bed.task(*key).await, bed.history(*key).await);
        let count = |status| history.iter().filter(|r| r.status == status).count() as u64;
        assert_eq!(task.success_count, count(TaskStatus::Done));
        assert_eq!(task.error_count, count(TaskStatus::Error));
        for run in &history {
            assert!(run.end_time.is_some_and(|end| Some(end) >= run.start_time), "{run:?}");
            assert!(!matches!(run.status, TaskStatus::Running | TaskStatus::Stopping | TaskStatus::New));
        }
        for pair in history.windows(2) {
            assert!(pair[0].start_time < pair[1].start_time && pair[0].end_time <= pair[1].end_time);
        }
        match (task.status, history.last()) {
            // Stopped in the queue, or queued at the end.
            (TaskStatus::Stopped | TaskStatus::Waiting, _) => {}
            (status, last) => assert_eq!(status, last.map_or(TaskStatus::New, |r| r.status)),
        }
        worked.extend(history.into_iter().filter(|r| !r.cause.contains("another task is running")));
    }
    worked.sort_by_key(|r| (r.start_time, r.end_time));
    for pair in worked.windows(2) {
        // The start may be moved by a millisecond to keep the order of a task's runs.
        let end = pair[0].end_time.unwrap() - TimeDelta::milliseconds(2);
        assert!(Some(end) <= pair[1].start_time, "backups and restores overlap: {pair:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, max_shrink_iters: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_books_are_in_order(deeds in proptest::collection::vec(deed(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
        runtime.unwrap().block_on(live(deeds));
    }
}
