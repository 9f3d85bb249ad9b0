//! What users do to tasks: start, stop, change, delete.

use std::time::Duration;

use chrono::TimeDelta;
use common::task::{TaskStatus, TaskType};

use super::bed::{Bed, MONDAY, Step, minutes};
use crate::scheduler::*;

#[tokio::test(start_paused = true)]
async fn a_stop_is_over_within_ten_seconds_even_if_the_run_ignores_it() {
    let bed = Bed::new(MONDAY, |_, _| Step::Hang).await;
    let task = bed.backup(r#"{"cron":"0 2 * * *","num_retries":3}"#).await;
    bed.sleep_until("2026-03-02T02:30:00Z").await;
    let asked = bed.clock.now();
    bed.scheduler.stop(task, false).await.unwrap();
    assert_eq!(bed.status(task).await, TaskStatus::Stopping);
    assert_eq!(bed.history(task).await[0].status, TaskStatus::Stopping);
    // A second stop changes nothing.
    bed.scheduler.stop(task, false).await.unwrap();
    bed.wait_for(task, TaskStatus::Stopped).await;
    assert!(bed.clock.now() - asked < TimeDelta::seconds(10));
    let run = bed.history(task).await.remove(0);
    assert_eq!((run.status, run.cause.as_str()), (TaskStatus::Stopped, "task was stopped"));
    // Not retried; planned by its trigger.
    assert_eq!((bed.next(task).await.as_deref(), bed.retry(task).await), (Some("03 02:00:00"), 0));
}

#[tokio::test(start_paused = true)]
async fn a_stopped_run_that_returns_ends_at_once_and_the_next_one_continues() {
    let bed = Bed::new(MONDAY, |_, _| Step::Work(minutes(10))).await;
    let task = bed.backup("{}").await;
    bed.sleep_until("2026-03-02T00:05:00Z").await;
    bed.scheduler.stop(task, false).await.unwrap();
    bed.wait_for(task, TaskStatus::Stopped).await;
    bed.scheduler.start(task, true).await.unwrap();
    assert_eq!(bed.status(task).await, TaskStatus::Running);
    bed.scheduler.start(task, false).await.unwrap();
    bed.wait_for(task, TaskStatus::Done).await;
    assert_eq!(bed.history(task).await.len(), 2);
    assert!(bed.seen(task)[1].context.continue_run);
    assert_eq!(bed.next(task).await, None);
    // Stopping what does not run is no error.
    bed.scheduler.stop(task, false).await.unwrap();
    assert_eq!(bed.status(task).await, TaskStatus::Done);
}

#[tokio::test(start_paused = true)]
async fn a_start_from_scratch_counts_for_its_run_only() {
    let bed =
        Bed::new(MONDAY, |_, n| if n == 0 { Step::Fail(minutes(1)) } else { Step::Work(minutes(1)) }).await;
    let task = bed.backup(r#"{"cron":"0 2 * * *","num_retries":3}"#).await;
    bed.scheduler.start(task, false).await.unwrap();
    bed.wait_for(task, TaskStatus::Done).await;
    let seen = bed.seen(task);
    assert_eq!(seen[0].context.properties["continue"], false);
    assert!(!seen[0].context.continue_run);
    assert!(seen[1].context.continue_run && !seen[1].context.properties.contains_key("continue"));
    assert_eq!(bed.next(task).await.as_deref(), Some("02 02:00:00"));
}

#[tokio::test(start_paused = true)]
async fn a_start_ignores_the_window_only_for_tasks_in_the_schedule() {
    let bed = Bed::new("2026-03-02T12:00:00Z", |_, _| Step::Work(minutes(1))).await;
    let planned = bed.backup(r#"{"cron":"0 2 * * *","window":["23:00","06:00"]}"#).await;
    bed.scheduler.start(planned, true).await.unwrap();
    assert_eq!(bed.status(planned).await, TaskStatus::Running);
    bed.wait_for(planned, TaskStatus::Done).await;
    assert_eq!(bed.next(planned).await.as_deref(), Some("03 02:00:00"));

    bed.scheduler.stop(planned, true).await.unwrap();
    assert_eq!(bed.next(planned).await, None);
    bed.scheduler.start(planned, true).await.unwrap();
    assert_eq!(bed.next(planned).await.as_deref(), Some("02 23:00:00"));
    bed.sleep_until("2026-03-03T12:00:00Z").await;
    assert_eq!(bed.runs(planned).await, ["DONE 02 12:00:00", "DONE 02 23:00:00"]);
    assert_eq!(bed.next(planned).await, None);
}

#[tokio::test(start_paused = true)]
async fn a_waiting_task_can_be_stopped_and_started() {
    let bed = Bed::new(MONDAY, |_, _| Step::Work(minutes(60))).await;
    let first = bed.backup("{}").await;
    let second = bed.backup(r#"{"cron":"10 0 * * *"}"#).await;
    bed.sleep_until("2026-03-02T00:20:00Z").await;
    assert_eq!(bed.status(second).await, TaskStatus::Waiting);
    assert_eq!(bed.next(second).await.as_deref(), Some("02 00:10:00"));
    bed.scheduler.stop(second, false).await.unwrap();
    assert_eq!(bed.status(second).await, TaskStatus::Stopped);
    assert_eq!(bed.next(second).await.as_deref(), Some("03 00:10:00"));
    bed.scheduler.start(second, true).await.unwrap();
    assert_eq!(bed.status(second).await, TaskStatus::Waiting);
    bed.sleep_until("2026-03-02T03:00:00Z").await;
    assert_eq!(bed.runs(first).await, ["DONE 02 00:00:00"]);
    assert_eq!(bed.runs(second).await, ["DONE 02 01:00:00"]);
}

#[tokio::test(start_paused = true)]
async fn disabling_and_deleting_let_a_run_go_on() {
    for delete in [false, true] {
        let bed = Bed::new(MONDAY, |_, _| Step::Fail(minutes(60))).await;
        let mut spec = bed.spec(r#"{"cron":"0 2 * * *","num_retries":3}"#);
        spec.name = "nightly".into();
        let task = bed.scheduler.create(bed.cluster, TaskType::Backup, spec.clone()).await.unwrap();
        let key = TaskKey::of(&task);
        bed.sleep_until("2026-03-02T02:30:00Z").await;
        if delete {
            bed.scheduler.delete(key).await.unwrap();
            let again = bed.scheduler.delete(key).await.unwrap_err();
            assert_eq!(again.to_string(), format!("load task \"{}\": not found", key.id));
            bed.scheduler.create(bed.cluster, TaskType::Backup, spec).await.unwrap();
        } else {
            spec.enabled = false;
            bed.scheduler.update(key, spec).await.unwrap();
        }
        assert_eq!(bed.status(key).await, TaskStatus::Running);
        bed.sleep_until("2026-03-02T12:00:00Z").await;
        assert_eq!(bed.runs(key).await, ["ERROR 02 02:00:00"]);
        assert_eq!(bed.next(key).await, None);
        let stored = bed.task(key).await;
        assert_eq!((stored.enabled, stored.deleted, stored.error_count), (false, delete, 1));
    }
}

#[tokio::test(start_paused = true)]
async fn an_update_plans_anew_and_drops_a_pending_retry() {
    let bed = Bed::new(MONDAY, |_, _| Step::Fail(minutes(1))).await;
    let task = bed.backup(r#"{"cron":"0 2 * * *","num_retries":3}"#).await;
    bed.sleep_until("2026-03-02T02:05:00Z").await;
    assert_eq!(bed.retry(task).await, 1);
    let updated =
        bed.scheduler.update(task, bed.spec(r#"{"start_date":"2026-03-02T05:05:00Z"}"#)).await.unwrap();
    assert_eq!((updated.status, updated.error_count), (TaskStatus::Error, 1));
    assert_eq!((bed.next(task).await.as_deref(), bed.retry(task).await), (Some("02 05:05:00"), 0));
    // A date in the past does not run it again.
    bed.scheduler.update(task, bed.spec(r#"{"start_date":"2026-03-01T05:05:00Z"}"#)).await.unwrap();
    assert_eq!(bed.next(task).await, None);
}

#[tokio::test(start_paused = true)]
async fn an_update_during_a_run_counts_from_its_end() {
    let bed =
        Bed::new(MONDAY, |_, n| if n == 0 { Step::Fail(minutes(90)) } else { Step::Work(minutes(1)) }).await;
    let task = bed.backup(r#"{"cron":"0 2 * * *","num_retries":1}"#).await;
    bed.sleep_until("2026-03-02T02:30:00Z").await;
    let mut spec = bed.spec(r#"{"cron":"0 * * * *","num_retries":1,"retry_wait":"1m"}"#);
    spec.properties.insert("retention".into(), 5.into());
    bed.scheduler.update(task, spec).await.unwrap();
    assert_eq!((bed.status(task).await, bed.next(task).await), (TaskStatus::Running, None));
    bed.sleep_until("2026-03-02T03:59:00Z").await;
    assert_eq!(
        bed.runs(task).await,
        ["ERROR 02 02:00:00", "DONE 02 03:31:00", "DONE 02 03:32:00"],
        "the retry, and the new schedule's activation of 03:00"
    );
    assert_eq!(bed.seen(task)[1].context.properties["retention"], 5);
}

#[tokio::test(start_paused = true)]
async fn a_property_changes_without_touching_plan_or_run() {
    let bed =
        Bed::new(MONDAY, |_, n| if n == 0 { Step::Fail(minutes(30)) } else { Step::Work(minutes(1)) }).await;
    let task = bed.backup(r#"{"cron":"0 2 * * *","num_retries":1,"retry_wait":"1m"}"#).await;
    bed.sleep_until("2026-03-02T02:10:00Z").await;
    bed.scheduler.set_property(task, "rate_limit", serde_json::json!(["50"])).await.unwrap();
    assert_eq!(bed.status(task).await, TaskStatus::Running);
    bed.sleep_until("2026-03-02T02:40:00Z").await;
    assert_eq!(bed.task(task).await.properties["rate_limit"], serde_json::json!(["50"]));
    assert_eq!(bed.seen(task)[1].context.properties["rate_limit"], serde_json::json!(["50"]));
    assert_eq!(bed.runs(task).await, ["ERROR 02 02:00:00", "DONE 02 02:31:00"]);
}

#[tokio::test(start_paused = true)]
async fn names_are_unique_per_cluster_and_type() {
    let bed = Bed::new(MONDAY, |_, _| Step::Work(Duration::ZERO)).await;
    let mut spec = bed.spec(r#"{"cron":"0 2 * * *"}"#);
    spec.name = "nightly".into();
    let create = |task_type, spec| bed.scheduler.create(bed.cluster, task_type, spec);
    create(TaskType::Backup, spec.clone()).await.unwrap();
    let taken = create(TaskType::Backup, spec.clone()).await.unwrap_err();
    assert_eq!(taken.to_string(), "task name nightly is already used");
    assert!(taken.is_invalid());
    create(TaskType::HealthCheck, spec.clone()).await.unwrap();
    spec.name =
        TaskKey { cluster: bed.cluster, task_type: TaskType::Backup, id: common::ids::TaskId::random() }
            .id
            .to_string();
    let id = create(TaskType::Backup, spec.clone()).await.unwrap_err();
    assert_eq!(id.to_string(), "invalid task: name cannot be an UUID");
    spec.name.clear();
    let unknown = create(TaskType::Repair, spec.clone()).await.unwrap_err();
    assert_eq!(unknown.to_string(), "tasks of type repair are not supported by this manager");
    spec.schedule.timezone = "Mars/Base".into();
    let zone = create(TaskType::Backup, spec).await.unwrap_err();
    assert_eq!(zone.to_string(), "timezone: unknown time zone Mars/Base");
    assert_eq!(bed.store.tasks(bed.cluster).await.unwrap().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_refused_run_is_an_error_and_takes_part_in_retries() {
    let bed = Bed::new(MONDAY, |_, _| Step::Work(minutes(25))).await;
    let backup = bed.backup("{}").await;
    let schedule = r#"{"start_date":"2026-04-01T00:00:00Z","num_retries":2,"retry_wait":"10m"}"#;
    let restore = bed.create(TaskType::Restore, schedule).await;
    bed.scheduler.start(restore, false).await.unwrap();
    assert_eq!(bed.status(restore).await, TaskStatus::Error);
    assert_eq!(bed.history(restore).await[0].cause, "run exclusive task restore: another task is running");
    bed.sleep_until("2026-03-02T01:00:00Z").await;
    assert_eq!(bed.runs(backup).await, ["DONE 02 00:00:00"]);
    assert_eq!(bed.runs(restore).await, ["ERROR 02 00:00:00", "ERROR 02 00:10:00", "DONE 02 00:30:00"]);
    // Refused runs have not started from scratch: the one that works does.
    let seen = bed.seen(restore);
    assert_eq!((seen.len(), seen[0].context.continue_run), (1, false));
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_an_error_of_its_run_only() {
    let bed = Bed::new(MONDAY, |_, n| if n == 0 { Step::Panic } else { Step::Work(minutes(1)) }).await;
    let task = bed.backup(r#"{"num_retries":1,"retry_wait":"1m"}"#).await;
    bed.wait_for(task, TaskStatus::Done).await;
    let cause = &bed.history(task).await[0].cause;
    assert_eq!(cause, "internal error, please report it: the run panicked: on purpose");
}

#[tokio::test(start_paused = true)]
async fn a_removed_cluster_stops_its_runs_first() {
    let bed = Bed::new(MONDAY, |_, _| Step::Hang).await;
    let running = bed.backup("{}").await;
    let planned = bed.backup(r#"{"cron":"0 2 * * *"}"#).await;
    let asked = bed.clock.now();
    bed.scheduler.remove_cluster(bed.cluster).await.unwrap();
    assert!(bed.clock.now() - asked < TimeDelta::seconds(10));
    assert_eq!(bed.history(running).await[0].status, TaskStatus::Stopped);
    assert!(bed.task(running).await.deleted && bed.task(planned).await.deleted);
    assert_eq!(bed.metric("run_indicator", running, None), None);
    assert!(bed.scheduler.planned(bed.cluster).await.unwrap().is_empty());
}
