//! Suspend and resume.

use std::time::Duration;

use chrono::TimeDelta;
use common::task::{TaskStatus, TaskType};

use super::bed::{Bed, MONDAY, Step, minutes};
use crate::scheduler::*;

fn hourly() -> &'static str {
    r#"{"cron":"30 * * * *"}"#
}

#[tokio::test(start_paused = true)]
async fn a_suspended_cluster_runs_health_checks_only() {
    let bed = Bed::new(MONDAY, |_, _| Step::Work(minutes(20))).await;
    let backup = bed.backup(hourly()).await;
    let check = bed.create(TaskType::HealthCheck, hourly()).await;
    bed.sleep_until("2026-03-02T00:40:00Z").await;
    bed.scheduler.suspend(bed.cluster, SuspendOptions::default()).await.unwrap();
    // Answered when the runs have returned.
    assert_eq!(
        (bed.status(backup).await, bed.status(check).await),
        (TaskStatus::Stopped, TaskStatus::Stopped)
    );
    assert_eq!(bed.history(backup).await[0].cause, "scheduler and all tasks were stopped");
    assert!(bed.scheduler.planned(bed.cluster).await.unwrap()[&backup].suspended);
    assert_eq!(bed.next(check).await.as_deref(), Some("02 01:30:00"));
    bed.scheduler.suspend(bed.cluster, SuspendOptions::default()).await.unwrap();

    let refused = bed.scheduler.start(backup, true).await.unwrap_err();
    assert_eq!(refused.to_string(), "cluster is suspended");
    let refused = bed.scheduler.create(bed.cluster, TaskType::Backup, bed.spec("{}")).await.unwrap_err();
    assert_eq!(refused.to_string(), "cluster is suspended, scheduling tasks is not allowed");
    bed.scheduler.update(backup, bed.spec(r#"{"cron":"45 * * * *"}"#)).await.unwrap();
    assert_eq!(bed.next(backup).await, None);

    bed.sleep_until("2026-03-02T05:00:00Z").await;
    assert_eq!(bed.history(backup).await.len(), 1);
    assert_eq!(bed.next(check).await.as_deref(), Some("02 05:30:00"));
    bed.scheduler.resume(bed.cluster, ResumeOptions::default()).await.unwrap();
    assert_eq!(bed.next(backup).await.as_deref(), Some("02 05:45:00"));
    assert_eq!(bed.scheduler.suspension(bed.cluster).await.unwrap(), None);
    bed.scheduler.resume(bed.cluster, ResumeOptions::default()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_resume_starts_what_was_stopped_or_missed_and_a_crash_forgets_neither() {
    for (options, started) in [
        (ResumeOptions { start_tasks: true, ..Default::default() }, [true, false]),
        (ResumeOptions { start_missed: true, ..Default::default() }, [false, true]),
        (ResumeOptions { start_tasks: true, start_missed: true, no_continue: true }, [true, true]),
    ] {
        let bed = Bed::new(MONDAY, |_, _| Step::Work(minutes(20))).await;
        let stopped = bed.backup(hourly()).await;
        let missed = bed.create(TaskType::Restore, r#"{"start_date":"2026-03-02T02:00:00Z"}"#).await;
        bed.sleep_until("2026-03-02T00:40:00Z").await;
        bed.scheduler.suspend(bed.cluster, SuspendOptions::default()).await.unwrap();
        let bed = bed.crash(minutes(120), |_, _| Step::Work(minutes(1))).await;
        assert_eq!(bed.scheduler.suspension(bed.cluster).await.unwrap(), Some(Suspension { allow: None }));
        tokio::time::sleep(minutes(5)).await;
        assert!(bed.seen(stopped).is_empty() && bed.seen(missed).is_empty());

        bed.scheduler.resume(bed.cluster, options).await.unwrap();
        // The restore is refused beside the backup when both start.
        let attempts = [bed.history(stopped).await.len() == 2, bed.history(missed).await.len() == 1];
        assert_eq!(attempts, started, "{options:?}");
        if started[0] {
            assert_eq!(bed.seen(stopped)[0].context.continue_run, !options.no_continue);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_allowed_type_goes_on() {
    let bed = Bed::new(MONDAY, |_, _| Step::Work(minutes(20))).await;
    let backup = bed.backup(hourly()).await;
    bed.sleep_until("2026-03-02T00:40:00Z").await;
    let options = SuspendOptions { allow: Some(TaskType::Backup), ..Default::default() };
    bed.scheduler.suspend(bed.cluster, options).await.unwrap();
    bed.sleep_until("2026-03-02T01:20:00Z").await;
    assert_eq!(bed.runs(backup).await, ["STOPPED 02 00:30:00", "DONE 02 00:40:00"]);
    assert_eq!(bed.next(backup).await.as_deref(), Some("02 01:30:00"));
    assert!(bed.scheduler.create(bed.cluster, TaskType::Restore, bed.spec("{}")).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn the_policy_refuses_while_other_tasks_run() {
    let bed = Bed::new(MONDAY, |_, _| Step::Work(minutes(20))).await;
    let backup = bed.backup("{}").await;
    let options = || SuspendOptions { fail_if_running: true, ..Default::default() };
    let refused = bed.scheduler.suspend(bed.cluster, options()).await.unwrap_err();
    assert!(
        refused.to_string().ends_with(&format!("before suspending cluster: backup/{}", backup.id)),
        "{refused}"
    );
    assert_eq!(bed.status(backup).await, TaskStatus::Running);
    let allowed = SuspendOptions { allow: Some(TaskType::Backup), ..options() };
    bed.scheduler.suspend(bed.cluster, allowed).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_suspend_is_bounded_although_a_run_hangs() {
    let bed = Bed::new(MONDAY, |_, _| Step::Hang).await;
    bed.backup("{}").await;
    let asked = bed.clock.now();
    bed.scheduler.suspend(bed.cluster, SuspendOptions::default()).await.unwrap();
    assert!(bed.clock.now() - asked < TimeDelta::seconds(10));
}

#[tokio::test(start_paused = true)]
async fn a_suspend_task_resumes_by_itself_after_its_duration() {
    let bed = Bed::new(MONDAY, |_, _| Step::Work(minutes(20))).await;
    let backup = bed.backup(hourly()).await;
    let mut spec = bed.spec(r#"{"start_date":"2026-03-02T00:40:00Z"}"#);
    spec.properties = serde_json::from_str(r#"{"duration":"4h","start_tasks":true}"#).unwrap();
    let suspend = bed.scheduler.create(bed.cluster, TaskType::Suspend, spec.clone()).await.unwrap();
    bed.sleep_until("2026-03-02T01:00:00Z").await;
    assert_eq!(bed.status(TaskKey::of(&suspend)).await, TaskStatus::Done);
    assert_eq!(bed.status(backup).await, TaskStatus::Stopped);
    let resume = TaskKey { id: RESUME_TASK, ..TaskKey::of(&suspend) };
    assert_eq!(bed.next(resume).await.as_deref(), Some("02 04:40:00"));
    let refused = bed.scheduler.update(resume, spec).await.unwrap_err();
    assert_eq!(refused.to_string(), "resume task cannot be updated");

    bed.sleep_until("2026-03-02T05:10:00Z").await;
    assert_eq!(bed.runs(backup).await, ["STOPPED 02 00:30:00", "DONE 02 04:40:00"]);
    assert_eq!(bed.status(resume).await, TaskStatus::Done);
    let stored = bed.task(resume).await;
    assert_eq!(
        (stored.name.as_str(), stored.enabled, &stored.properties["resume"]),
        ("resume", false, &true.into())
    );
    assert_eq!(bed.next(resume).await, None);
    assert_eq!(bed.next(backup).await.as_deref(), Some("02 05:30:00"));
    tokio::time::sleep(Duration::from_secs(1)).await;
}
