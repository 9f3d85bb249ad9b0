//! `backup`, `backup validate`, `restore`: tasks that are created, and dry runs.

use serde_json::json;

use super::fake::{Fake, Reply, refused};
use super::{RUN, TASK, run};

fn created(task_type: &str) -> Fake {
    let location = format!("/api/v1/cluster/prod/task/{task_type}/{TASK}");
    Fake::new().on("POST /cluster/prod/tasks", Reply::created(&location))
}

/// The body of spec/sctool.md section 6, and the first command of the guide.
#[tokio::test]
async fn create_sends_defaults_and_what_was_given() {
    let line = "backup -c prod -L 's3:my-backups' -s '2019-12-09T15:16:05Z' -i 24h";
    insta::assert_snapshot!(created("backup").transcript(line).await, @r#"
    POST /cluster/prod/tasks
    {
      "enabled": true,
      "properties": {
        "location": [
          "s3:my-backups"
        ]
      },
      "schedule": {
        "interval": "1d",
        "num_retries": 3,
        "retry_wait": "10m",
        "start_date": "2019-12-09T15:16:05.000Z",
        "timezone": "UTC",
        "window": null
      },
      "tags": null,
      "type": "backup"
    }
    --- stdout
    backup/a41c7d90-3b52-4e8f-8c60-1d2e3f405162
    --- stderr
    Flag --interval has been deprecated, use cron instead
    --- exit 0
    "#);
}

/// The other commands of the guide (spec/sctool.md 9): properties and interval.
#[tokio::test]
async fn the_guides_commands() {
    for (flags, properties, interval) in [
        (
            "-L 's3:my-backups' --retention 7 -i 24h",
            json!({ "location": ["s3:my-backups"], "retention": 7 }),
            "1d",
        ),
        (
            "-L 's3:my-backups' --retention 2 -i 7d",
            json!({ "location": ["s3:my-backups"], "retention": 2 }),
            "7d",
        ),
        (
            "-L 's3:my-backups' --retention 1 -i 30d",
            json!({ "location": ["s3:my-backups"], "retention": 1 }),
            "30d",
        ),
        (
            "--dc 'dc1' -L 's3:dc1-backups' -i 2d",
            json!({ "location": ["s3:dc1-backups"], "dc": ["dc1"] }),
            "2d",
        ),
        (
            "-i 30d --dc '*,!dc2' -L 's3:my-backups'",
            json!({ "location": ["s3:my-backups"], "dc": ["*", "!dc2"] }),
            "30d",
        ),
        (
            "-i 30d --dc 'eu-dc,us-dc' -L 's3:eu-dc:eu-backups,s3:us-dc:us-backups'",
            json!({ "location": ["eu-dc:s3:eu-backups", "us-dc:s3:us-backups"], "dc": ["eu-dc", "us-dc"] }),
            "30d",
        ),
        (
            "-i 30d -K 'auth_service.*,!auth_service.lru_cache' --dc 'dc1' -L 's3:dc1-backups'",
            json!({
                "location": ["s3:dc1-backups"],
                "keyspace": ["auth_service.*", "!auth_service.lru_cache"],
                "dc": ["dc1"],
            }),
            "30d",
        ),
        ("-L 's3:my-backups'", json!({ "location": ["s3:my-backups"] }), ""),
    ] {
        let transcript = created("backup").run(&format!("backup -c prod {flags}")).await;
        assert_eq!(transcript.out, format!("backup/{TASK}\n"), "{flags}");
        let (_, body) = transcript.requests.split_once('\n').expect("a body");
        let body: serde_json::Value = serde_json::from_str(body).expect("JSON");
        assert_eq!(body["properties"], properties, "{flags}");
        assert_eq!(body["schedule"]["interval"].as_str().unwrap_or_default(), interval, "{flags}");
        assert!(body["schedule"]["start_date"].is_null(), "{flags}");
    }
}

#[tokio::test(start_paused = true)]
async fn create_with_every_flag() {
    let line = "backup -c prod -L s3:a -L dc1:gcs:b --dc dc1 -K 'shop,\\!shop.carts' --retention 0 --retention-days 30 \
                --rate-limit dc1:10,50 --transfers 4 --snapshot-parallel 2 --upload-parallel dc1:1,3 --purge-only \
                --skip-schema --method auto --retention-lock-mode unlocked --override-retention-lock=true \
                --name nightly --enabled=false --label team=dba,gone- --cron '30 2 * * *' \
                --window Mon-00:00,FRI-15:00 --timezone Europe/Oslo --start-date now+3h --num-retries 0 --retry-wait 90m";
    insta::assert_snapshot!(created("backup").transcript(line).await, @r#"
    POST /cluster/prod/tasks
    {
      "labels": {
        "team": "dba"
      },
      "name": "nightly",
      "properties": {
        "dc": [
          "dc1"
        ],
        "keyspace": [
          "shop",
          "!shop.carts"
        ],
        "location": [
          "s3:a",
          "dc1:gcs:b"
        ],
        "method": "auto",
        "override_retention_lock": true,
        "purge_only": true,
        "rate_limit": [
          "dc1:10",
          "50"
        ],
        "retention": 0,
        "retention_days": 30,
        "retention_lock_mode": "unlocked",
        "skip_schema": true,
        "snapshot_parallel": [
          "2"
        ],
        "transfers": 4,
        "upload_parallel": [
          "dc1:1",
          "3"
        ]
      },
      "schedule": {
        "cron": "30 2 * * *",
        "retry_wait": "1h30m",
        "start_date": "2026-03-02T15:00:00.000Z",
        "timezone": "Europe/Oslo",
        "window": [
          "Mon-00:00",
          "FRI-15:00"
        ]
      },
      "tags": null,
      "type": "backup"
    }
    --- stdout
    backup/nightly
    --- exit 0
    "#);
}

#[tokio::test]
async fn references_are_printed_as_json_on_request() {
    insta::assert_snapshot!(created("backup").run("backup -c prod -L s3:a --name nightly -o json").await.out, @r#"
    {
      "id": "a41c7d90-3b52-4e8f-8c60-1d2e3f405162",
      "name": "nightly",
      "schema": 1,
      "task": "backup/nightly",
      "type": "backup"
    }
    "#);
}

#[tokio::test]
async fn a_refusal_of_the_server_is_shown_with_its_trace() {
    let message = "create backup target: missing location";
    let fake = Fake::new().on("POST /cluster/prod/tasks", Reply::error(400, message));
    insta::assert_snapshot!(fake.transcript("backup -c prod -L s3:a").await, @r#"
    POST /cluster/prod/tasks
    {
      "enabled": true,
      "properties": {
        "location": [
          "s3:a"
        ]
      },
      "schedule": {
        "num_retries": 3,
        "retry_wait": "10m",
        "timezone": "UTC",
        "window": null
      },
      "tags": null,
      "type": "backup"
    }
    --- stderr
    Error: create backup target: missing location
    Trace ID: Xk3Yt0aQS2ybTz8m4mW1eA (grep in scylla-manager logs)

    --- exit 1
    "#);
}

#[tokio::test]
async fn dry_run_prints_the_target() {
    let target = json!({
        "units": [{ "keyspace": "auth_service", "tables": ["roles"], "all_tables": true }], "dc": ["dc1"],
        "location": ["s3:backups"], "retention": 3, "retention_days": 0, "transfers": -1, "method": "rclone",
        "retention_lock_mode": "disabled", "size": 11_166_914_970_u64,
        "warnings": ["schema is not part of this backup: set CQL credentials"],
    });
    let fake = Fake::new().on("GET /cluster/prod/tasks/backup/target", target);
    insta::assert_snapshot!(fake.transcript("backup -c prod -L 's3:backups' --dry-run --show-tables").await, @r#"
    GET /cluster/prod/tasks/backup/target
    {
      "enabled": true,
      "properties": {
        "location": [
          "s3:backups"
        ]
      },
      "schedule": {
        "num_retries": 3,
        "retry_wait": "10m",
        "timezone": "UTC",
        "window": null
      },
      "tags": null,
      "type": "backup"
    }
    --- stdout
    Data Centers:
      - dc1

    Keyspaces:
      - auth_service all (roles)

    Disk size: ~10.400GiB

    Locations:
      - s3:backups


    Backup Method: rclone

    Bandwidth Limits:
      - Unlimited

    Snapshot Parallel Limits:
      - All hosts in parallel

    Upload Parallel Limits:
      - All hosts in parallel

    Transfers: defined in scylla-manager-agent.yaml config

    Retention: Last 3 backups

    Retention Policy:
      - Retain last 3 backups
      - Retention lock is not applied to snapshot files

    --- stderr
    NOTICE: dry run mode, backup is not scheduled

    WARNING! schema is not part of this backup: set CQL credentials
    --- exit 0
    "#);
}

/// What the manager answers when nodes cannot use their location (spec/sctool.md D4).
const UNREACHABLE: &str = "failed to get backup target: location is not accessible: 10.20.0.11: failed to access \
    s3:test-bucket make sure that the location is correct and credentials are set: specified bucket does not exist, to \
    debug SSH to 10.20.0.11 and run \"scylla-manager-agent check-location -L s3:test-bucket --debug\"; 10.20.0.12: \
    failed to access s3:test-bucket make sure that the location is correct and credentials are set: operation put: \
    Access Denied (code:AccessDenied), to debug SSH to 10.20.0.12 and run \"scylla-manager-agent check-location -L \
    s3:test-bucket --debug\"";

/// A task that is refused says the same as its dry run, without the notice.
#[tokio::test]
async fn a_task_with_an_unreachable_location_is_refused() {
    let fake = Fake::new().on("POST /cluster/prod/tasks", Reply::error(400, UNREACHABLE));
    let transcript = fake.run("backup -c prod -L 's3:test-bucket'").await;
    assert_eq!((transcript.out.as_str(), transcript.code), ("", 1));
    insta::assert_snapshot!(transcript.err, @r#"
    Error: failed to get backup target: location is not accessible
     10.20.0.11: failed to access s3:test-bucket make sure that the location is correct and credentials are set: specified bucket does not exist, to debug SSH to 10.20.0.11 and run "scylla-manager-agent check-location -L s3:test-bucket --debug"
     10.20.0.12: failed to access s3:test-bucket make sure that the location is correct and credentials are set: operation put: Access Denied (code:AccessDenied), to debug SSH to 10.20.0.12 and run "scylla-manager-agent check-location -L s3:test-bucket --debug"
    Trace ID: Xk3Yt0aQS2ybTz8m4mW1eA (grep in scylla-manager logs)
    "#);
}

/// The failed dry run of the guide: the notice comes first.
#[tokio::test]
async fn dry_run_with_an_unreachable_location() {
    let fake = Fake::new().on("GET /cluster/prod/tasks/backup/target", Reply::error(400, UNREACHABLE));
    let transcript = fake.run("backup -c prod -L 's3:test-bucket' --dry-run").await;
    assert_eq!((transcript.out.as_str(), transcript.code), ("", 1));
    insta::assert_snapshot!(transcript.err, @r#"
    NOTICE: dry run mode, backup is not scheduled

    Error: failed to get backup target: location is not accessible
     10.20.0.11: failed to access s3:test-bucket make sure that the location is correct and credentials are set: specified bucket does not exist, to debug SSH to 10.20.0.11 and run "scylla-manager-agent check-location -L s3:test-bucket --debug"
     10.20.0.12: failed to access s3:test-bucket make sure that the location is correct and credentials are set: operation put: Access Denied (code:AccessDenied), to debug SSH to 10.20.0.12 and run "scylla-manager-agent check-location -L s3:test-bucket --debug"
    Trace ID: Xk3Yt0aQS2ybTz8m4mW1eA (grep in scylla-manager logs)
    "#);
}

#[tokio::test(start_paused = true)]
async fn a_slow_dry_run_says_why() {
    let slow = Reply::from(json!({ "transfers": -1 })).after(std::time::Duration::from_secs(6));
    let fake = Fake::new().on("GET /cluster/prod/tasks/backup/target", slow);
    insta::assert_snapshot!(fake.run("backup -c prod -L s3:a --dry-run").await.err, @"
    NOTICE: dry run mode, backup is not scheduled

    NOTICE: this may take a while, we are performing disk size calculations on the nodes
    ");
}

#[tokio::test]
async fn what_the_client_checks_itself() {
    for (line, message) in [
        ("backup -c prod", "required flag(s) \"location\" not set"),
        ("backup", "required flag(s) \"cluster\", \"location\" not set"),
        ("backup -c prod -L s3:a --retention=-1", "negative retention"),
        ("backup -c prod -L s3:a --retention-days=-1", "negative retention"),
        (
            "backup -c prod -L s3:a --transfers 0",
            "transfers param has to be equal to -1 (set transfers to the value from scylla-manager-agent.yaml config) or \
             greater than zero",
        ),
        (
            "backup -c prod -L s3:a --method smoke-signals",
            "invalid argument \"smoke-signals\" for \"--method\" flag: unknown Method: smoke-signals",
        ),
        (
            "backup -c prod -L my-bucket",
            "invalid argument \"my-bucket\" for \"-L, --location\" flag: invalid location \"my-bucket\", the format is \
             [dc:]<provider>:<path> ex. s3:my-bucket, the path must be DNS compliant",
        ),
        (
            "backup -c prod -L s3:a --rate-limit fast",
            "invalid argument \"fast\" for \"--rate-limit\" flag: invalid limit \"fast\", the format is [dc:]<number>",
        ),
        (
            "backup -c prod -L s3:a --cron bad",
            "invalid argument \"bad\" for \"--cron\" flag: expected 5 to 6 fields, found 1: [bad]",
        ),
        (
            "backup -c prod -L s3:a -i 5x",
            "invalid argument \"5x\" for \"-i, --interval\" flag: time: unknown unit x in duration 5x",
        ),
    ] {
        // The note on a deprecated flag comes before the error.
        let message_of =
            |text: String| text.rsplit_once("Error: ").map_or(text.clone(), |(_, last)| last.to_owned());
        assert_eq!(message_of(refused(line).await), message, "{line}");
    }
}

#[tokio::test]
async fn validate_creates_a_task_of_its_own_type() {
    let line = "backup validate -c prod -L s3:my-backups --delete-orphaned-files --parallel 2";
    insta::assert_snapshot!(created("validate_backup").transcript(line).await, @r#"
    POST /cluster/prod/tasks
    {
      "enabled": true,
      "properties": {
        "delete_orphaned_files": true,
        "location": [
          "s3:my-backups"
        ],
        "parallel": 2
      },
      "schedule": {
        "num_retries": 3,
        "retry_wait": "10m",
        "timezone": "UTC",
        "window": null
      },
      "tags": null,
      "type": "validate_backup"
    }
    --- stdout
    validate_backup/a41c7d90-3b52-4e8f-8c60-1d2e3f405162
    --- exit 0
    "#);
}

#[tokio::test]
async fn restore_sends_what_was_given() {
    let line = "restore -c prod -L s3:my-backups -T sm_20260302023012UTC --restore-tables --dc-mapping a=b,c=d \
                --batch-size 0 --transfers=-1 --allow-compaction -K shop";
    insta::assert_snapshot!(created("restore").transcript(line).await, @r#"
    POST /cluster/prod/tasks
    {
      "enabled": true,
      "properties": {
        "allow_compaction": true,
        "batch_size": 0,
        "dc_mapping": {
          "a": "b",
          "c": "d"
        },
        "keyspace": [
          "shop"
        ],
        "location": [
          "s3:my-backups"
        ],
        "restore_tables": true,
        "snapshot_tag": "sm_20260302023012UTC",
        "transfers": -1
      },
      "schedule": {
        "num_retries": 3,
        "retry_wait": "10m",
        "timezone": "UTC",
        "window": null
      },
      "tags": null,
      "type": "restore"
    }
    --- stdout
    restore/a41c7d90-3b52-4e8f-8c60-1d2e3f405162
    --- exit 0
    "#);
}

#[tokio::test]
async fn mirror_restores_name_what_is_missing() {
    assert_eq!(
        refused("1-1-restore -c prod -T sm_20260302023012UTC").await,
        "required flag(s) location, source-cluster-id, nodes-mapping not set"
    );
    assert_eq!(
        refused("restore update -c prod -L s3:a").await,
        "updating restore task's '--location' flag is forbidden. For this purpose, please create a new task with given \
         properties"
    );
}

fn progress_path() -> String {
    format!("GET /cluster/prod/task/backup/{TASK}/latest")
}

#[tokio::test(start_paused = true)]
async fn wait_follows_the_run_to_its_end() {
    let never = json!({ "run": run("00000000-0000-0000-0000-000000000000", "NEW"), "progress": null });
    let fake = created("backup")
        .on(&progress_path(), never)
        .on(&progress_path(), json!({ "run": run(RUN, "RUNNING"), "progress": null }))
        .on(&progress_path(), json!({ "run": run(RUN, "DONE"), "progress": null }));
    let transcript = fake.run("backup -c prod -L s3:a --name nightly --wait").await;
    assert_eq!((transcript.out.as_str(), transcript.code), ("backup/nightly\n", 0));
    insta::assert_snapshot!(transcript.err, @"backup/nightly: run 0f6b8c1a-5d20-11f1-9a3e-02420a000105 DONE after 9m30s");
}

#[tokio::test(start_paused = true)]
async fn wait_fails_with_the_run() {
    let mut failed = run(RUN, "ERROR");
    failed["cause"] = json!("upload data: 10.20.0.11: disk on fire");
    let fake = created("backup").on(&progress_path(), json!({ "run": failed, "progress": null }));
    let transcript = fake.run("backup -c prod -L s3:a --wait -o json").await;
    assert_eq!(transcript.code, 1);
    insta::assert_snapshot!(transcript.out, @r#"
    {
      "id": "a41c7d90-3b52-4e8f-8c60-1d2e3f405162",
      "name": "",
      "run": {
        "cause": "upload data: 10.20.0.11: disk on fire",
        "cluster_id": "5e2d9f04-8a37-4b6c-9d11-c0ffee5a7e01",
        "end_time": "2026-03-02T11:59:30Z",
        "id": "0f6b8c1a-5d20-11f1-9a3e-02420a000105",
        "owner": "",
        "start_time": "2026-03-02T11:50:00Z",
        "status": "ERROR",
        "task_id": "a41c7d90-3b52-4e8f-8c60-1d2e3f405162",
        "type": "backup"
      },
      "schema": 1,
      "task": "backup/a41c7d90-3b52-4e8f-8c60-1d2e3f405162",
      "type": "backup"
    }
    "#);
    insta::assert_snapshot!(transcript.err, @"
    backup/a41c7d90-3b52-4e8f-8c60-1d2e3f405162: run 0f6b8c1a-5d20-11f1-9a3e-02420a000105 ERROR after 9m30s
    Cause: upload data
     10.20.0.11: disk on fire
    ");
}
