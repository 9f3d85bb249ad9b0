//! Runs by the schedule: retries, windows, catch-up, the queue, restarts.

use std::time::Duration;

use common::task::{TaskStatus, TaskType};

use super::bed::{Bed, MONDAY, Step, at, minutes};
use crate::scheduler::*;

#[tokio::test(start_paused = true)]
async fn daily_weekly_and_monthly_backups_of_a_year_queue_and_never_fail() {
    let bed = Bed::new("2026-01-01T00:00:00Z", |_, _| Step::Work(minutes(20))).await;
    let daily = bed.backup(r#"{"cron":"0 2 * * *","timezone":"Europe/Warsaw"}"#).await;
    let weekly = bed.backup(r#"{"cron":"0 2 * * SUN","timezone":"Europe/Warsaw"}"#).await;
    let monthly = bed.backup(r#"{"cron":"0 2 1 * *","timezone":"Europe/Warsaw"}"#).await;
    bed.sleep_until("2027-01-01T00:00:00Z").await;
    for (task, runs) in [(daily, 365), (weekly, 52), (monthly, 12)] {
        let stored = bed.task(task).await;
        assert_eq!((stored.success_count, stored.error_count), (runs, 0));
        assert_eq!(stored.status, TaskStatus::Done);
    }
    bed.assert_no_overlap();
    // One run per day, also on the days of the clock changes.
    let mut last = None;
    for run in bed.history(daily).await {
        let local = run.start_time.unwrap().with_timezone(&chrono_tz::Europe::Warsaw).date_naive();
        assert!(last.is_none_or(|l: chrono::NaiveDate| l.succ_opt() == Some(local)), "{local}");
        last = Some(local);
    }
}

#[tokio::test(start_paused = true)]
async fn three_backups_due_in_one_second_run_one_after_another() {
    let bed = Bed::new(MONDAY, |_, _| Step::Work(minutes(30))).await;
    let schedule = r#"{"start_date":"2026-03-02T02:00:00Z","interval":"7d","num_retries":3}"#;
    let tasks = [bed.backup(schedule).await, bed.backup(schedule).await, bed.backup(schedule).await];
    let other = bed.create(TaskType::HealthCheck, r#"{"start_date":"2026-03-02T02:00:00Z"}"#).await;
    bed.sleep_until("2026-03-02T02:01:00Z").await;
    let statuses = [bed.status(tasks[0]).await, bed.status(tasks[1]).await, bed.status(tasks[2]).await];
    let count = |status| statuses.iter().filter(|s| **s == status).count();
    assert_eq!((count(TaskStatus::Running), count(TaskStatus::Waiting)), (1, 2), "{statuses:?}");
    assert_eq!(bed.status(other).await, TaskStatus::Running);

    bed.sleep_until("2026-03-02T03:35:00Z").await;
    for task in tasks {
        let history = bed.history(task).await;
        assert_eq!((history.len(), history[0].status), (1, TaskStatus::Done));
        assert_eq!(bed.next(task).await.as_deref(), Some("09 02:00:00"));
        assert_eq!(bed.task(task).await.error_count, 0);
    }
    let starts: Vec<_> = tasks.map(|t| bed.seen(t)[0].context.started.format("%H:%M").to_string()).into();
    assert_eq!(starts.iter().collect::<std::collections::BTreeSet<_>>().len(), 3, "{starts:?}");
}

#[tokio::test(start_paused = true)]
async fn backups_of_different_clusters_do_not_wait() {
    let bed = Bed::new(MONDAY, |_, _| Step::Work(minutes(30))).await;
    let here = bed.backup("{}").await;
    let spec = bed.spec("{}");
    let elsewhere =
        bed.scheduler.create(common::ids::ClusterId::random(), TaskType::Backup, spec).await.unwrap();
    assert_eq!(bed.status(here).await, TaskStatus::Running);
    assert_eq!(bed.status(TaskKey::of(&elsewhere)).await, TaskStatus::Running);
}

#[tokio::test(start_paused = true)]
async fn a_failed_run_is_retried_with_growing_waits_and_its_own_properties() {
    let bed =
        Bed::new(MONDAY, |_, n| if n < 3 { Step::Fail(minutes(1)) } else { Step::Work(minutes(1)) }).await;
    let task = bed.backup(r#"{"cron":"0 2 * * *","num_retries":3,"retry_wait":"10m"}"#).await;
    bed.sleep_until("2026-03-02T02:05:00Z").await;
    assert_eq!((bed.status(task).await, bed.retry(task).await), (TaskStatus::Error, 1));
    assert_eq!(bed.next(task).await.as_deref(), Some("02 02:11:00"));
    bed.sleep_until("2026-03-02T12:00:00Z").await;
    assert_eq!(
        bed.runs(task).await,
        ["ERROR 02 02:00:00", "ERROR 02 02:11:00", "ERROR 02 02:32:00", "DONE 02 03:13:00"]
    );
    assert_eq!(bed.next(task).await.as_deref(), Some("03 02:00:00"));
    let stored = bed.task(task).await;
    assert_eq!((stored.success_count, stored.error_count), (1, 3));
    assert_eq!(bed.history(task).await[0].cause, "boom");
}

#[tokio::test(start_paused = true)]
async fn a_used_up_retry_budget_is_new_at_the_next_activation() {
    let bed = Bed::new(MONDAY, |_, _| Step::Fail(Duration::ZERO)).await;
    let task = bed.backup(r#"{"cron":"0 2 * * *","num_retries":1,"retry_wait":"10m"}"#).await;
    bed.sleep_until("2026-03-04T00:00:00Z").await;
    assert_eq!(
        bed.runs(task).await,
        ["ERROR 02 02:00:00", "ERROR 02 02:10:00", "ERROR 03 02:00:00", "ERROR 03 02:10:00"]
    );
}

#[tokio::test(start_paused = true)]
async fn a_run_that_fails_at_once_on_its_grid_does_not_spin() {
    let bed = Bed::new(MONDAY, |_, _| Step::Fail(Duration::ZERO)).await;
    let task = bed.backup(r#"{"start_date":"2026-03-02T02:00:00Z","interval":"1d"}"#).await;
    bed.sleep_until("2026-03-04T12:00:00Z").await;
    assert_eq!(bed.runs(task).await, ["ERROR 02 02:00:00", "ERROR 03 02:00:00", "ERROR 04 02:00:00"]);
}

#[tokio::test(start_paused = true)]
async fn a_run_pauses_at_the_end_of_its_window_and_goes_on_at_the_next() {
    let bed =
        Bed::new(MONDAY, |_, n| if n < 2 { Step::Work(minutes(600)) } else { Step::Work(minutes(10)) }).await;
    let task = bed
        .backup(r#"{"start_date":"2026-03-02T20:00:00Z","window":["23:00","06:00"],"num_retries":3}"#)
        .await;
    assert_eq!(bed.next(task).await.as_deref(), Some("02 23:00:00"));
    bed.sleep_until("2026-03-03T07:00:00Z").await;
    assert_eq!(bed.status(task).await, TaskStatus::Waiting);
    assert_eq!((bed.next(task).await.as_deref(), bed.retry(task).await), (Some("03 23:00:00"), 0));
    assert_eq!(bed.history(task).await[0].cause, "task got out of --window");
    bed.sleep_until("2026-03-05T12:00:00Z").await;
    assert_eq!(bed.runs(task).await, ["WAITING 02 23:00:00", "WAITING 03 23:00:00", "DONE 04 23:00:00"]);
    assert!(bed.seen(task).iter().all(|s| s.context.continue_run));
    assert_eq!(bed.next(task).await, None);
}

#[tokio::test(start_paused = true)]
async fn an_activation_that_waits_in_the_queue_respects_its_window() {
    let bed =
        Bed::new("2026-03-02T22:00:00Z", |_, n| Step::Work(minutes(if n == 0 { 600 } else { 10 }))).await;
    let long = bed.backup("{}").await;
    let nightly = bed.backup(r#"{"start_date":"2026-03-02T23:30:00Z","window":["23:00","06:00"]}"#).await;
    bed.sleep_until("2026-03-03T01:00:00Z").await;
    assert_eq!(bed.status(nightly).await, TaskStatus::Waiting);
    bed.sleep_until("2026-03-03T09:00:00Z").await;
    assert_eq!(bed.runs(long).await, ["DONE 02 22:00:00"]);
    assert_eq!(bed.runs(nightly).await, [""; 0]);
    assert_eq!(bed.next(nightly).await.as_deref(), Some("03 23:00:00"));
    bed.sleep_until("2026-03-04T00:00:00Z").await;
    assert_eq!(bed.runs(nightly).await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn activations_missed_during_a_long_run_are_made_up_for() {
    let bed = Bed::new(MONDAY, |_, n| Step::Work(minutes(if n == 0 { 150 } else { 5 }))).await;
    let task = bed.backup(r#"{"cron":"0 * * * *"}"#).await;
    bed.sleep_until("2026-03-02T05:30:00Z").await;
    assert_eq!(
        bed.runs(task).await,
        ["DONE 02 01:00:00", "DONE 02 03:30:00", "DONE 02 03:35:00", "DONE 02 04:00:00", "DONE 02 05:00:00"]
    );
}

#[tokio::test(start_paused = true)]
async fn new_tasks_start_as_their_schedule_says() {
    let bed = Bed::new("2026-03-02T10:00:00Z", |_, _| Step::Work(Duration::from_secs(1))).await;
    for (schedule, first, next) in [
        ("{}", Some("02 10:00:00"), None),
        (r#"{"start_date":"2019-12-09T15:16:05Z"}"#, Some("02 10:00:00"), None),
        (r#"{"start_date":"2019-12-09T15:16:05Z","interval":"1d"}"#, None, Some("02 15:16:05")),
        (r#"{"interval":"7d"}"#, Some("02 10:00:00"), Some("09 10:00:00")),
        (r#"{"cron":"@every 15s"}"#, None, Some("02 10:00:15")),
        (r#"{"start_date":"2026-03-02T13:00:00Z"}"#, None, Some("02 13:00:00")),
        (r#"{"window":["23:00","06:00"]}"#, None, Some("02 23:00:00")),
    ] {
        let bed = Bed::new("2026-03-02T10:00:00Z", |_, _| Step::Work(Duration::from_secs(1))).await;
        let task = bed.backup(schedule).await;
        tokio::time::sleep(Duration::from_secs(5)).await;
        let runs = bed.runs(task).await;
        assert_eq!(
            runs.first().map(String::as_str),
            first.map(|t| format!("DONE {t}")).as_deref(),
            "{schedule}"
        );
        assert_eq!(bed.next(task).await.as_deref(), next, "{schedule}");
    }
    drop(bed);
}

#[tokio::test(start_paused = true)]
async fn a_restart_ends_open_runs_and_goes_on_with_them() {
    let bed = Bed::new(MONDAY, |_, _| Step::Work(minutes(60))).await;
    let running = bed.backup(r#"{"cron":"0 2 * * *"}"#).await;
    let queued = bed.backup(r#"{"start_date":"2026-03-02T02:10:00Z"}"#).await;
    let disabled = bed.create(TaskType::HealthCheck, r#"{"cron":"0 2 * * *"}"#).await;
    let stopping = bed.create(TaskType::Restore, r#"{"start_date":"2026-04-02T02:10:00Z"}"#).await;
    bed.sleep_until("2026-03-02T02:20:00Z").await;
    bed.scheduler.stop(disabled, true).await.unwrap();
    bed.wait_for(disabled, TaskStatus::Stopped).await;
    assert_eq!(bed.status(queued).await, TaskStatus::Waiting);

    let bed = bed.crash(minutes(5), |_, _| Step::Work(minutes(60))).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let history = bed.history(running).await;
    assert_eq!((history[0].status, history[1].status), (TaskStatus::Aborted, TaskStatus::Running));
    assert_eq!(history[0].cause, "scheduler and all tasks were stopped");
    assert!(history[0].end_time.is_some());
    assert!(bed.seen(running)[0].context.continue_run);
    assert_eq!(bed.status(queued).await, TaskStatus::Waiting);
    assert_eq!(bed.history(disabled).await.len(), 1);

    bed.sleep_until("2026-03-02T05:00:00Z").await;
    assert_eq!(bed.status(running).await, TaskStatus::Done);
    assert_eq!(bed.status(queued).await, TaskStatus::Done);
    assert_eq!(bed.next(running).await.as_deref(), Some("03 02:00:00"));
    assert_eq!(bed.history(stopping).await.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_run_that_was_being_stopped_at_a_crash_is_not_run_again() {
    let bed = Bed::new(MONDAY, |_, _| Step::Hang).await;
    let task = bed.backup("{}").await;
    bed.scheduler.stop(task, false).await.unwrap();
    assert_eq!(bed.status(task).await, TaskStatus::Stopping);
    for _ in 0..2 {
        let bed = Bed::new(MONDAY, |_, _| Step::Hang).await;
        drop(bed);
    }
    let bed = bed.crash(minutes(1), |_, _| Step::Hang).await;
    tokio::time::sleep(minutes(1)).await;
    assert_eq!(bed.runs(task).await, ["ABORTED 02 00:00:00"]);
    // Nor at the start after that.
    let bed = bed.crash(minutes(1), |_, _| Step::Hang).await;
    tokio::time::sleep(minutes(1)).await;
    assert_eq!(bed.runs(task).await, ["ABORTED 02 00:00:00"]);
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_aborts_all_runs_and_the_next_start_goes_on() {
    let mut bed = Bed::new(MONDAY, |context, _| match context.task_type {
        TaskType::Backup => Step::Hang,
        _ => Step::Work(minutes(60)),
    })
    .await;
    let hanging = bed.backup("{}").await;
    let health = bed.create(TaskType::HealthCheck, "{}").await;
    let began = bed.clock.now();
    bed.shut_down().await;
    assert!(bed.clock.now() - began < chrono::TimeDelta::seconds(10));
    assert_eq!(bed.status(hanging).await, TaskStatus::Aborted);
    assert_eq!(bed.status(health).await, TaskStatus::Aborted);
    assert!(matches!(bed.scheduler.planned(bed.cluster).await, Err(SchedulerError::Closed)));

    let bed = bed.crash(minutes(5), |_, _| Step::Work(minutes(1))).await;
    bed.wait_for(hanging, TaskStatus::Done).await;
    assert_eq!(bed.history(hanging).await.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_single_run_whose_date_passed_while_the_manager_was_down_runs_at_its_start() {
    let bed = Bed::new(MONDAY, |_, _| Step::Work(minutes(1))).await;
    let task = bed.backup(r#"{"start_date":"2026-03-02T03:00:00Z"}"#).await;
    let cron = bed.backup(r#"{"cron":"0 3 * * *"}"#).await;
    let bed = bed.crash(minutes(600), |_, _| Step::Work(minutes(1))).await;
    tokio::time::sleep(minutes(5)).await;
    assert_eq!(bed.runs(task).await, ["DONE 02 10:00:00"]);
    assert_eq!(bed.next(cron).await.as_deref(), Some("03 03:00:00"));
}

#[tokio::test(start_paused = true)]
async fn an_end_that_the_database_refuses_is_written_later() {
    let bed = Bed::new(MONDAY, |_, _| Step::Work(minutes(5))).await;
    let task = bed.backup(r#"{"cron":"0 * * * *"}"#).await;
    let sql = |text: &'static str| bed.store.write(move |tx| Ok(tx.execute_batch(text)?));
    sql("CREATE TRIGGER full BEFORE INSERT ON scheduler_task_run WHEN NEW.status = 'DONE' \
         BEGIN SELECT RAISE(ABORT, 'disk full'); END")
    .await
    .unwrap();
    bed.sleep_until("2026-03-02T02:02:00Z").await;
    assert_eq!(bed.runs(task).await, ["RUNNING 02 01:00:00", "RUNNING 02 02:00:00"]);
    sql("DROP TRIGGER full").await.unwrap();
    bed.sleep_until("2026-03-02T02:03:00Z").await;
    assert_eq!(bed.runs(task).await, ["DONE 02 01:00:00", "RUNNING 02 02:00:00"]);
    assert_eq!((bed.status(task).await, bed.task(task).await.success_count), (TaskStatus::Running, 1));
}

#[tokio::test(start_paused = true)]
async fn health_checks_overwrite_one_row_and_keep_failures() {
    let bed =
        Bed::new(MONDAY, |_, n| if n == 2 { Step::Fail(Duration::ZERO) } else { Step::Work(Duration::ZERO) })
            .await;
    let task = bed.create(TaskType::HealthCheck, r#"{"cron":"* * * * *"}"#).await;
    bed.sleep_until("2026-03-02T00:05:30Z").await;
    assert_eq!(bed.runs(task).await, ["ERROR 02 00:03:00", "DONE 02 00:05:00"]);
    let history = bed.history(task).await;
    assert_eq!(history[1].id, HEALTH_CHECK_RUN);
    assert_ne!(history[0].id, HEALTH_CHECK_RUN);
    let stored = bed.task(task).await;
    assert_eq!((stored.success_count, stored.error_count), (4, 1));
}

#[tokio::test(start_paused = true)]
async fn series_exist_from_creation_and_count_outcomes() {
    let bed =
        Bed::new(MONDAY, |_, n| if n == 0 { Step::Fail(minutes(1)) } else { Step::Work(minutes(1)) }).await;
    let task = bed.backup(r#"{"cron":"0 2 * * *","num_retries":1}"#).await;
    for status in TaskStatus::ALL {
        assert_eq!(bed.metric("run_total", task, Some(*status)), Some(0.0), "{status}");
    }
    assert_eq!(bed.metric("run_indicator", task, None), Some(0.0));
    assert_eq!(bed.metric("last_success", task, None), None);
    bed.sleep_until("2026-03-02T02:00:30Z").await;
    assert_eq!(bed.metric("run_indicator", task, None), Some(1.0));
    bed.sleep_until("2026-03-02T03:00:00Z").await;
    assert_eq!(bed.metric("run_indicator", task, None), Some(0.0));
    assert_eq!(bed.metric("run_total", task, Some(TaskStatus::Done)), Some(1.0));
    assert_eq!(bed.metric("run_total", task, Some(TaskStatus::Error)), Some(1.0));
    let started = at("2026-03-02T02:11:00Z").timestamp() as f64;
    assert_eq!(bed.metric("last_success", task, None), Some(started));
}
