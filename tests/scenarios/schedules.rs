//! When backups run: every spelling of a schedule, deferred tasks, schedules that meet.

use chrono::{DateTime, Datelike, FixedOffset, SecondsFormat, TimeDelta, Timelike, Utc, Weekday};
use testbed::harness::{Bed, Deadline, wait_for};

use crate::support::{HELD, config, hold_uploads, listed, next, small};

/// The start date of the guide.
const BEGIN: &str = "2019-12-09T15:16:05Z";

fn begin() -> DateTime<Utc> {
    DateTime::parse_from_rfc3339(BEGIN).expect("a constant").to_utc()
}

/// A clock that is never changed, so that its offset is known.
const KOLKATA: &str = "Asia/Kolkata";

fn in_kolkata(time: DateTime<Utc>) -> DateTime<FixedOffset> {
    time.with_timezone(&FixedOffset::east_opt(5 * 3600 + 1800).expect("less than a day"))
}

#[tokio::test]
async fn every_spelling_of_a_schedule_is_understood() -> anyhow::Result<()> {
    let mut bed = Bed::start(config(small(1))).await?;
    for (interval, stored, days) in [("24h", "1d", 1), ("7d", "7d", 7), ("30d", "30d", 30), ("2d", "2d", 2)] {
        let task = listed(&bed, &bed.create_backup(&["-s", BEGIN, "-i", interval]).await?).await?;
        let (next, period) = (next(&task)?, TimeDelta::days(days));
        assert_eq!(task["schedule"]["interval"], stored);
        assert_eq!(
            (next - begin()).num_seconds() % period.num_seconds(),
            0,
            "{next} is start + n × {interval}"
        );
        assert!(next > Utc::now() && next <= Utc::now() + period, "{next} is the first one from now on");
    }

    let later = listed(&bed, &bed.create_backup(&["-s", "now+3h"]).await?).await?;
    let wait = next(&later)? - Utc::now();
    assert!(wait <= TimeDelta::hours(3) && wait > TimeDelta::minutes(178), "{wait}");

    let cron = ["--cron", "30 2 * * *", "--timezone", KOLKATA];
    let nightly = listed(&bed, &bed.create_backup(&cron).await?).await?;
    let local = in_kolkata(next(&nightly)?);
    assert_eq!((local.hour(), local.minute()), (2, 30));

    let window = ["--cron", "10 * * * *", "--window", "SAT,SUN-00:00-06:00", "--timezone", KOLKATA];
    let weekend = listed(&bed, &bed.create_backup(&window).await?).await?;
    assert_eq!(
        weekend["schedule"]["window"],
        serde_json::json!(["Sat-0:00", "Sat-6:00", "Sun-0:00", "Sun-6:00"])
    );
    let local = in_kolkata(next(&weekend)?);
    assert!(matches!(local.weekday(), Weekday::Sat | Weekday::Sun) && local.hour() < 6, "{local}");

    // Without a date the first run is now, and the next one an interval later.
    let (now, _) = bed.backup(&["-i", "2d", "-K", "shop"]).await?;
    let wait = next(&listed(&bed, &now).await?)? - Utc::now();
    assert!(wait <= TimeDelta::days(2) && wait > TimeDelta::hours(47), "{wait}");
    bed.assert_invariants().await
}

#[tokio::test]
async fn a_task_is_deferred() -> anyhow::Result<()> {
    let bed = Bed::start(config(small(1))).await?;
    let task = bed.create_backup(&["--name", "nightly", "-s", "now+1h", "-i", "24h"]).await?;
    assert_eq!(task, "backup/nightly");
    let id =
        bed.api.get("/cluster/test/tasks?type=backup").await?[0]["id"].as_str().unwrap_or("none").to_owned();
    for command in [&["backup", "update"][..], &["task", "update"]] {
        let now = Utc::now();
        let hours = if command[0] == "task" { 5 } else { 3 };
        let date = format!("now+{hours}h");
        bed.sctool_ok(&[command, &["-c", "test", "backup/nightly", "-s", &date]].concat()).await?;
        let task = listed(&bed, &id).await?;
        let deferred = next(&task)? - now;
        assert!((deferred - TimeDelta::hours(hours)).num_seconds().abs() < 60, "{deferred}");
        assert_eq!(task["schedule"]["interval"], "1d", "the rest of the schedule stays");
    }
    assert!(bed.api.history("test", &format!("backup/{id}")).await?.is_empty(), "it did not run");
    let stored = bed.sctool_ok(&["info", "-c", "test", "backup/nightly"]).await?;
    assert!(stored.contains("Cron:   1d (next activation date: "), "{stored}");
    Ok(())
}

#[tokio::test]
async fn daily_weekly_and_monthly_backups_that_meet_queue_and_none_fails() -> anyhow::Result<()> {
    let mut bed = Bed::start(config(small(2))).await?;
    let gate = hold_uploads(&bed);
    let mut tasks = Vec::new();
    for (interval, retention) in [("24h", "7"), ("7d", "2"), ("30d", "1")] {
        let flags = ["-K", "shop", "-s", "now+1d", "-i", interval, "--retention", retention];
        tasks.push(bed.create_backup(&flags).await?);
    }
    // All are due in the same second; on a slow machine they must be told so again.
    for lead in [4, 15, 60] {
        let due = (Utc::now() + TimeDelta::seconds(lead)).to_rfc3339_opts(SecondsFormat::Secs, true);
        for task in &tasks {
            bed.sctool_ok(&["backup", "update", "-c", "test", task, "-s", &due]).await?;
        }
        if Utc::now() < DateTime::parse_from_rfc3339(&due)? {
            break;
        }
    }
    assert!(gate.reached(1, HELD).await, "no upload began\n{}", bed.log_tails());
    wait_for("one run and two that wait", Deadline::seconds(30), async || {
        let mut statuses = Vec::new();
        for task in &tasks {
            statuses.push(listed(&bed, task).await?["status"].as_str().unwrap_or_default().to_owned());
        }
        statuses.sort();
        Ok((statuses == ["RUNNING", "WAITING", "WAITING"]).then_some(()))
    })
    .await?;
    gate.open();

    let mut tags = Vec::new();
    for task in &tasks {
        tags.push(bed.run_done(task, 1).await?);
    }
    for (task, days) in tasks.iter().zip([1, 7, 30]) {
        let task = listed(&bed, task).await?;
        assert_eq!((&task["success_count"], &task["error_count"]), (&1.into(), &0.into()));
        let wait = next(&task)? - Utc::now();
        assert!(
            wait <= TimeDelta::days(days) && wait > TimeDelta::days(days) - TimeDelta::minutes(10),
            "{wait}"
        );
    }
    tags.sort();
    tags.dedup();
    assert_eq!(tags.len(), 3, "each has a tag of its own: {tags:?}");
    bed.assert_invariants().await
}
