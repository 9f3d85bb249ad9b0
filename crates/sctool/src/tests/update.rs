//! Updates of tasks: what is read, what is written back.

use serde_json::json;

use super::fake::{Fake, refused};
use super::{TASK, task};

fn stored(name: &str) -> Fake {
    let path = format!("/cluster/prod/task/backup/{TASK}");
    Fake::new()
        .on("GET /cluster/prod/tasks", json!([task(name)]))
        .on(&format!("GET {path}"), task(name))
        .on(&format!("PUT {path}"), task(name))
}

#[tokio::test]
async fn only_the_given_flags_change_the_task() {
    let line = "backup update -c prod backup/nightly --retention 14 --label env=prod,team-";
    insta::assert_snapshot!(stored("nightly").transcript(line).await, @r#"
    GET /cluster/prod/tasks?all=true&short=true&type=backup
    GET /cluster/prod/task/backup/a41c7d90-3b52-4e8f-8c60-1d2e3f405162
    PUT /cluster/prod/task/backup/a41c7d90-3b52-4e8f-8c60-1d2e3f405162
    {
      "enabled": true,
      "labels": {
        "env": "prod"
      },
      "name": "nightly",
      "properties": {
        "location": [
          "s3:my-backups"
        ],
        "retention": 14
      },
      "schedule": {
        "cron": "{\"spec\":\"30 2 * * *\",\"start_date\":\"0001-01-01T00:00:00Z\"}",
        "num_retries": 3,
        "retry_wait": "10m",
        "timezone": "Europe/Oslo",
        "window": []
      },
      "tags": null
    }
    --- stdout
    backup/nightly
    --- exit 0
    "#);
}

#[tokio::test]
async fn the_only_task_of_the_type_needs_no_reference() {
    let transcript = stored("").run("backup update -c prod -L s3:other").await;
    assert!(
        transcript.requests.starts_with("GET /cluster/prod/tasks?short=true&type=backup\n"),
        "{}",
        transcript.requests
    );
    assert_eq!(transcript.out, format!("backup/{TASK}\n"));
}

#[tokio::test]
async fn enabled_takes_its_value_in_every_form_of_2x_and_3x() {
    let reference = format!("backup/{TASK}");
    for (flag, expected) in [
        ("-e false", None),
        ("--enabled false", None),
        ("--enabled=false", None),
        ("-e=0", None),
        ("-e", Some(true)),
        ("--enabled true", Some(true)),
        ("--enabled", Some(true)),
    ] {
        for line in [
            format!("backup update -c prod {reference} {flag}"),
            format!("backup update {flag} {reference} -c prod"),
            format!("task update -c prod {reference} {flag}"),
        ] {
            let transcript = stored("nightly").run(&line).await;
            let (_, body) = transcript.requests.split_once("\nPUT ").expect("an update");
            let body: serde_json::Value =
                serde_json::from_str(body.split_once('\n').expect("a body").1).expect("JSON");
            assert_eq!(body.get("enabled").and_then(serde_json::Value::as_bool), expected, "{line}");
        }
    }
}

#[tokio::test]
async fn a_new_schedule_replaces_the_stored_one() {
    let line =
        format!("backup update -c prod backup/{TASK} --cron '@weekly' --window '' --name weekly -i 7d");
    insta::assert_snapshot!(stored("nightly").transcript(&line).await, @r#"
    GET /cluster/prod/task/backup/a41c7d90-3b52-4e8f-8c60-1d2e3f405162
    PUT /cluster/prod/task/backup/a41c7d90-3b52-4e8f-8c60-1d2e3f405162
    {
      "enabled": true,
      "labels": {
        "team": "dba"
      },
      "name": "weekly",
      "properties": {
        "location": [
          "s3:my-backups"
        ],
        "retention": 7
      },
      "schedule": {
        "cron": "@weekly",
        "interval": "7d",
        "num_retries": 3,
        "retry_wait": "10m",
        "timezone": "Europe/Oslo",
        "window": []
      },
      "tags": null
    }
    --- stdout
    backup/weekly
    --- stderr
    Flag --interval has been deprecated, use cron instead
    --- exit 0
    "#);
}

#[tokio::test]
async fn dry_run_sends_the_merged_task_with_its_type() {
    let fake = stored("nightly").on("GET /cluster/prod/tasks/backup/target", json!({ "transfers": -1 }));
    let line = "backup update -c prod backup/nightly --dry-run --retention 2";
    insta::assert_snapshot!(fake.transcript(line).await, @r#"
    GET /cluster/prod/tasks?all=true&short=true&type=backup
    GET /cluster/prod/task/backup/a41c7d90-3b52-4e8f-8c60-1d2e3f405162
    GET /cluster/prod/tasks/backup/target
    {
      "enabled": true,
      "labels": {
        "team": "dba"
      },
      "name": "nightly",
      "properties": {
        "location": [
          "s3:my-backups"
        ],
        "retention": 2
      },
      "schedule": {
        "cron": "{\"spec\":\"30 2 * * *\",\"start_date\":\"0001-01-01T00:00:00Z\"}",
        "num_retries": 3,
        "retry_wait": "10m",
        "timezone": "Europe/Oslo",
        "window": []
      },
      "tags": null,
      "type": "backup"
    }
    --- stdout
    Cron:	30 2 * * * (At 02:30 AM)
    Tz:	Europe/Oslo

    Data Centers:

    Keyspaces:

    Disk size: ~0B

    Locations:


    Backup Method: 

    Bandwidth Limits:
      - Unlimited

    Snapshot Parallel Limits:
      - All hosts in parallel

    Upload Parallel Limits:
      - All hosts in parallel

    Transfers: defined in scylla-manager-agent.yaml config

    Retention Policy:
      - ScyllaDB Manager will not purge any backups created by this task
      - Retention lock is not applied to snapshot files

    --- stderr
    NOTICE: dry run mode, backup is not scheduled

    --- exit 0
    "#);
}

#[tokio::test]
async fn updates_that_cannot_be() {
    for (line, message) in [
        ("backup update -c prod", "nothing to do"),
        ("backup update -c prod backup/nightly -o json", "nothing to do"),
        ("backup update -c prod repair/x --retention 1", "can't handle repair task"),
        ("backup update -c prod bakcup --retention 1", "unknown task type bakcup"),
        ("backup update -c prod a b --retention 1", "accepts at most 1 arg(s), received 2"),
        ("backup validate update -c prod", "nothing to do"),
        ("suspend update -c prod", "nothing to do"),
        ("backup control -c prod backup", "required flag(s) \"rate-limit\" not set"),
        ("backup control -c prod validate_backup --rate-limit 5", "can't handle validate_backup task"),
    ] {
        assert_eq!(refused(line).await, message, "{line}");
    }
}

#[tokio::test]
async fn names_that_are_not_there_bring_the_nearest() {
    let transcript = stored("nightly").run("backup update -c prod backup/nigthly --retention 1").await;
    assert_eq!(transcript.requests, "GET /cluster/prod/tasks?all=true&short=true&type=backup\n");
    assert_eq!(transcript.err, "Error: not found, did you mean backup/nightly\n\n");
}

#[tokio::test]
async fn control_changes_the_limit_of_a_task_and_its_run() {
    let fake = stored("nightly")
        .on(&format!("PUT /cluster/prod/task/backup/{TASK}/control"), super::fake::Reply::empty());
    insta::assert_snapshot!(fake.transcript("backup control -c prod backup/nightly --rate-limit dc1:5,20").await, @"
    GET /cluster/prod/tasks?all=true&short=true&type=backup
    PUT /cluster/prod/task/backup/a41c7d90-3b52-4e8f-8c60-1d2e3f405162/control?rate_limit=dc1:5,20
    --- exit 0
    ");
}
