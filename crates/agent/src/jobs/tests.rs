//! Life of jobs under a clock of the test's own.

use super::*;
use serde_json::{Value, json};

fn clock_at(start: &str) -> (Clock, Arc<Mutex<DateTime<Utc>>>) {
    let now: Arc<Mutex<DateTime<Utc>>> = Arc::new(Mutex::new(start.parse().unwrap()));
    let shared = now.clone();
    (Arc::new(move || *shared.lock().unwrap()), now)
}

#[tokio::test(start_paused = true)]
async fn progress_waits_for_the_end_but_not_longer() {
    let (clock, _) = clock_at("2026-01-01T00:00:00Z");
    let jobs = Jobs::new(clock);
    let id = jobs.start(None, |_| async {
        tokio::time::sleep(Duration::from_secs(15)).await;
        Ok(json!({"a": 1}))
    });
    let start = tokio::time::Instant::now();
    let progress = jobs.progress(id, Duration::from_secs(10)).await.unwrap();
    assert_eq!((progress.status, progress.completed_at), (JobStatus::Running, None));
    assert_eq!(start.elapsed(), Duration::from_secs(10));
    let progress = jobs.progress(id, Duration::from_secs(10)).await.unwrap();
    assert_eq!(progress.status, JobStatus::Success);
    assert!(start.elapsed() < Duration::from_secs(16), "{:?}", start.elapsed());
    let info = jobs.info(id, Duration::ZERO).await.unwrap();
    assert_eq!((info.group, info.output), (format!("job/{id}"), json!({"a": 1})));
}

#[tokio::test(start_paused = true)]
async fn a_stopped_job_ends_with_the_text_managers_know() {
    let jobs = Jobs::new(system_clock());
    let id = jobs.start(None, |context| async move {
        context.cancel().cancelled().await;
        Err(JobError::Stopped)
    });
    jobs.stop(id).unwrap();
    let progress = jobs.progress(id, Duration::from_secs(5)).await.unwrap();
    assert_eq!((progress.status, progress.error.as_str()), (JobStatus::Error, "context canceled"));
    assert_eq!(jobs.stop(id), Ok(()));
    assert_eq!(jobs.stop(1), Err(JobNotFound));
    assert_eq!(jobs.progress(1, Duration::from_secs(9)).await, Err(JobNotFound));
}

#[tokio::test]
async fn ids_lie_above_those_of_an_earlier_process() {
    let (clock, now) = clock_at("2026-01-01T00:00:00Z");
    let first = Jobs::new(clock.clone());
    let mut last = 0;
    for _ in 0..500 {
        last = first.start(None, |_| async { Ok(Value::Null) });
    }
    assert!(last > u64::try_from(now.lock().unwrap().timestamp()).unwrap());
    *now.lock().unwrap() += TimeDelta::seconds(1);
    assert!(Jobs::new(clock).start(None, |_| async { Ok(Value::Null) }) > last);
}

#[tokio::test(start_paused = true)]
async fn ended_jobs_are_kept_for_twelve_hours() {
    let (clock, now) = clock_at("2026-01-01T00:00:00Z");
    let jobs = Jobs::new(clock);
    let ended = jobs.start(None, |_| async { Err(JobError::Failed("broken".into())) });
    let running = jobs.start(None, |context| async move {
        context.cancel().cancelled().await;
        Err(JobError::Stopped)
    });
    assert_eq!(jobs.progress(ended, Duration::from_secs(1)).await.unwrap().error, "broken");
    *now.lock().unwrap() += TimeDelta::hours(11);
    assert!(jobs.progress(ended, Duration::ZERO).await.is_ok());
    *now.lock().unwrap() += TimeDelta::hours(2);
    assert_eq!(jobs.progress(ended, Duration::ZERO).await, Err(JobNotFound));
    assert!(jobs.progress(running, Duration::ZERO).await.is_ok());
    assert_eq!(jobs.shutdown(Duration::from_secs(1)).await, 0);
}

#[tokio::test]
async fn a_panic_ends_the_job_as_an_error() {
    let jobs = Jobs::new(system_clock());
    let id = jobs.start(None, |_| async { panic!("on purpose") });
    let progress = jobs.progress(id, Duration::from_secs(5)).await.unwrap();
    assert_eq!(progress.status, JobStatus::Error);
}

#[tokio::test]
async fn bytes_in_flight_count_and_failed_ones_move() {
    let jobs = Jobs::new(system_clock());
    let context = jobs.call();
    let (good, bad, dropped) =
        (context.transferring("a", 10), context.transferring("b", 20), context.transferring("c", 40));
    for (transfer, bytes) in [(&good, 10), (&bad, 15), (&dropped, 30)] {
        transfer.meter().add(bytes);
    }
    assert_eq!(context.uploaded(), 55);
    good.done();
    bad.failed("no");
    drop(dropped);
    assert_eq!(context.uploaded(), 10);
    assert_eq!(context.counters().failed.load(Ordering::Relaxed), 20);
    assert_eq!(context.last_error(), "no");
    assert_eq!(context.recent().len(), 2);
    assert_eq!(jobs.totals().counters.uploaded.load(Ordering::Relaxed), 10);
}

#[tokio::test]
async fn file_lists_go_with_the_statistics() {
    let jobs = Jobs::new(system_clock());
    let id = jobs.start(None, |context| async move {
        context.log_file(&common::api::agent::JobFile { name: "x".into(), ..Default::default() });
        Ok(Value::Null)
    });
    jobs.progress(id, Duration::from_secs(5)).await.unwrap();
    assert_eq!(jobs.files(id, 0).unwrap().files.len(), 1);
    jobs.delete_stats("job/1");
    assert!(jobs.files(id, 0).is_ok());
    jobs.delete_stats(&format!("job/{id}"));
    assert_eq!(jobs.files(id, 0), Err(JobNotFound));
    assert!(jobs.progress(id, Duration::ZERO).await.is_ok());
}
