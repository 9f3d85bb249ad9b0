//! `tasks`, `info`, `progress`, `start`, `stop`, `suspend`, `resume`.

use serde_json::{Value, json};

use super::fake::{Fake, Reply, refused};
use super::{CLUSTER, RUN, TASK, run, task};

const OTHER: &str = "b52d8ea1-4c63-4f90-9d71-2e3f40516273";

fn path(rest: &str) -> String {
    format!("/cluster/prod/task/backup/{TASK}{rest}")
}

fn two_tasks() -> Value {
    let mut nightly = task("nightly");
    nightly["next_activation"] = json!("2026-03-03T01:30:00Z");
    let mut failed = task("");
    failed["id"] = json!(OTHER);
    failed["status"] = json!("ERROR");
    failed["retry"] = json!(2);
    json!([nightly, failed])
}

#[tokio::test]
async fn tasks_of_all_clusters_go_on_after_a_failure() {
    let fake = Fake::new()
        .on(
            "GET /clusters",
            json!([{ "id": OTHER, "name": "down" }, { "id": CLUSTER, "name": "orders-prod" }]),
        )
        .on(&format!("GET /cluster/{OTHER}/tasks"), Reply::error(500, "load cluster: store is closed"))
        .on(&format!("GET /cluster/{CLUSTER}/tasks"), json!([]));
    insta::assert_snapshot!(fake.transcript("tasks --all --status DONE -t backup").await, @"
    GET /clusters
    GET /cluster/b52d8ea1-4c63-4f90-9d71-2e3f40516273/tasks?all=true&status=DONE&type=backup
    GET /cluster/5e2d9f04-8a37-4b6c-9d11-c0ffee5a7e01/tasks?all=true&status=DONE&type=backup
    --- stdout
    Cluster: down (b52d8ea1-4c63-4f90-9d71-2e3f40516273)
    Error: load cluster: store is closed
    Trace ID: Xk3Yt0aQS2ybTz8m4mW1eA (grep in scylla-manager logs)

    Cluster: orders-prod (5e2d9f04-8a37-4b6c-9d11-c0ffee5a7e01)
    --- exit 0
    ");
}

#[tokio::test]
async fn tasks_are_sorted_on_request() {
    let fake = Fake::new().on("GET /cluster/prod/tasks", two_tasks());
    for (flags, first) in [
        ("", "backup/nightly"),
        ("--sort status", "backup/nightly"),
        ("--sort next-activation", "backup/b52d8ea1"),
    ] {
        let out = fake.run(&format!("tasks -c prod {flags}")).await.out;
        assert!(out.lines().nth(3).expect("a row").contains(first), "{flags}: {out}");
    }
    assert_eq!(refused("tasks -c prod --sort name").await, "name sort key not supported");
}

#[tokio::test]
async fn tasks_as_json() {
    let fake = Fake::new().on("GET /cluster/prod/tasks", json!([task("nightly")]));
    insta::assert_snapshot!(fake.run("tasks -c prod -o json").await.out, @r#"
    {
      "clusters": [
        {
          "cluster": "prod",
          "tasks": [
            {
              "cluster_id": "5e2d9f04-8a37-4b6c-9d11-c0ffee5a7e01",
              "enabled": true,
              "error_count": 0,
              "id": "a41c7d90-3b52-4e8f-8c60-1d2e3f405162",
              "labels": {
                "team": "dba"
              },
              "last_error": null,
              "last_success": null,
              "name": "nightly",
              "next_activation": null,
              "properties": {
                "location": [
                  "s3:my-backups"
                ],
                "retention": 7
              },
              "retry": 0,
              "schedule": {
                "cron": "{\"spec\":\"30 2 * * *\",\"start_date\":\"0001-01-01T00:00:00Z\"}",
                "num_retries": 3,
                "retry_wait": "10m",
                "timezone": "Europe/Oslo",
                "window": null
              },
              "status": "DONE",
              "success_count": 12,
              "suspended": false,
              "tags": null,
              "type": "backup"
            }
          ]
        }
      ],
      "schema": 1
    }
    "#);
}

#[tokio::test]
async fn info_shows_a_task_and_its_runs() {
    let mut failed = run(RUN, "ERROR");
    failed["cause"] = json!("upload data: agent not reachable");
    let fake = Fake::new()
        .on("GET /cluster/prod/tasks", json!([task("nightly")]))
        .on(&format!("GET {}", path("/history")), json!([failed]));
    insta::assert_snapshot!(fake.transcript("info -c prod backup/nightly --limit 5 --cause").await, @"
    GET /cluster/prod/tasks?all=true&short=true&type=backup
    GET /cluster/prod/tasks?all=true&task_id=a41c7d90-3b52-4e8f-8c60-1d2e3f405162&type=backup
    GET /cluster/prod/task/backup/a41c7d90-3b52-4e8f-8c60-1d2e3f405162/history?limit=5
    --- stdout
    Name:	backup/nightly
    Cron:   30 2 * * * (At 02:30 AM)
    Tz:	Europe/Oslo
    Retry:	3 (initial backoff 10m)
    Labels:
    - team: dba

    Properties:
    - location: 's3:my-backups'
    - retention: 7

    ╭──────────────────────────────────────┬────────────────────────┬──────────┬────────────────────────────────────────╮
    │ ID                                   │ Start time             │ Duration │ Status                                 │
    ├──────────────────────────────────────┼────────────────────────┼──────────┼────────────────────────────────────────┤
    │ 0f6b8c1a-5d20-11f1-9a3e-02420a000105 │ 02 Mar 26 11:50:00 UTC │ 9m30s    │ ERROR upload data: agent not reachable │
    ╰──────────────────────────────────────┴────────────────────────┴──────────┴────────────────────────────────────────╯
    --- exit 0
    ");
}

#[tokio::test]
async fn info_of_an_id_that_is_not_there() {
    let fake = Fake::new().on("GET /cluster/prod/tasks", json!([]));
    insta::assert_snapshot!(fake.transcript(&format!("info -c prod backup/{TASK}")).await, @"
    GET /cluster/prod/tasks?all=true&task_id=a41c7d90-3b52-4e8f-8c60-1d2e3f405162&type=backup
    --- stderr
    Error: expected exactly 1 task, got 0

    --- exit 1
    ");
}

fn in_progress() -> Fake {
    let numbers = json!({ "size": 4096, "uploaded": 1024, "skipped": 1024, "failed": 0 });
    let with = |more: Value| {
        let mut all = numbers.clone();
        all.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        all
    };
    let tables = json!([with(json!({ "table": "roles" })), with(json!({ "table": "users" }))]);
    let keyspaces = json!([with(json!({ "keyspace": "auth", "tables": tables }))]);
    let hosts = json!([
        with(json!({ "host": "10.20.0.11", "keyspaces": keyspaces })),
        with(json!({ "host": "10.20.0.12", "keyspaces": [] })),
    ]);
    let progress = with(json!({
        "snapshot_tag": "sm_20260302115000UTC", "dcs": ["dc1"], "stage": "UPLOAD", "hosts": hosts,
        "warnings": ["schema is not part of this backup: no CQL credentials"],
    }));
    let mut run = run(RUN, "RUNNING");
    run.as_object_mut().expect("an object").remove("end_time");
    let answer = json!({ "run": run, "progress": progress });
    Fake::new()
        .on("GET /cluster/prod/tasks", json!([task("nightly")]))
        .on(&format!("GET {}", path("")), task("nightly"))
        .on(&format!("GET {}", path("/latest")), answer.clone())
        .on(&format!("GET {}", path("/~1")), answer)
}

#[tokio::test(start_paused = true)]
async fn progress_with_details_and_filters() {
    let line = "progress -c prod backup --details --host 10.20.0.11 -K 'auth,!auth.users' --run ~1";
    insta::assert_snapshot!(in_progress().transcript(line).await, @"
    GET /cluster/prod/tasks?short=true&type=backup
    GET /cluster/prod/task/backup/a41c7d90-3b52-4e8f-8c60-1d2e3f405162
    GET /cluster/prod/task/backup/a41c7d90-3b52-4e8f-8c60-1d2e3f405162/~1
    --- stdout
    Run:		0f6b8c1a-5d20-11f1-9a3e-02420a000105
    Status:		RUNNING (uploading data)
    Start time:	02 Mar 26 11:50:00 UTC
    Duration:	10m0s
    Progress:	50%
    Snapshot Tag:	sm_20260302115000UTC
    Datacenters:	
      - dc1
    Retention Lock:
      - Retention lock is not applied to snapshot files

    ╭────────────┬──────────┬──────┬─────────┬──────────────┬────────╮
    │ Host       │ Progress │ Size │ Success │ Deduplicated │ Failed │
    ├────────────┼──────────┼──────┼─────────┼──────────────┼────────┤
    │ 10.20.0.11 │      50% │ 4KiB │    2KiB │         1KiB │     0B │
    ╰────────────┴──────────┴──────┴─────────┴──────────────┴────────╯

    Host: 10.20.0.11
    ╭──────────┬───────┬──────────┬──────┬─────────┬──────────────┬────────┬────────────┬──────────────╮
    │ Keyspace │ Table │ Progress │ Size │ Success │ Deduplicated │ Failed │ Started at │ Completed at │
    ├──────────┼───────┼──────────┼──────┼─────────┼──────────────┼────────┼────────────┼──────────────┤
    │ auth     │ roles │      50% │ 4KiB │    2KiB │         1KiB │     0B │            │              │
    ╰──────────┴───────┴──────────┴──────┴─────────┴──────────────┴────────┴────────────┴──────────────╯
    --- stderr
    WARNING! schema is not part of this backup: no CQL credentials
    --- exit 0
    ");
}

#[tokio::test]
async fn progress_as_json_is_the_answer_of_the_server() {
    let out = in_progress().run("progress -c prod backup -o json").await.out;
    let document: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!((&document["schema"], &document["progress"]["stage"]), (&json!(1), &json!("UPLOAD")));
    assert_eq!(document["run"]["id"], json!(RUN));
}

#[tokio::test]
async fn progress_of_what_has_none() {
    for (line, message) in [
        ("progress -c prod healthcheck", "unsupported task type healthcheck"),
        (
            "progress -c prod restore",
            "progress of restore tasks is not available in this release; sctool info shows their runs",
        ),
        ("progress -c prod suspend/x", "unsupported task type suspend"),
        ("progress -c prod", "accepts 1 arg(s), received 0"),
        (
            "progress -c prod backup --run foo",
            "invalid argument \"foo\" for \"--run\" flag: invalid UUID \"foo\"",
        ),
        ("progress -c prod backup -K .x", "invalid filters: \".x\" on position 0: missing keyspace"),
        ("progress -c prod backup --watch -o json", "can't use --watch with --output json"),
        (
            "progress -c prod backup --watch",
            "--watch needs a terminal. In scripts use --wait with start or backup, or progress without --watch",
        ),
    ] {
        assert_eq!(refused(line).await, message, "{line}");
    }
}

#[tokio::test]
async fn start_and_stop_are_silent() {
    let fake = Fake::new()
        .on("GET /cluster/prod/tasks", json!([task("nightly")]))
        .on(&format!("PUT {}", path("/start")), Reply::empty())
        .on(&format!("PUT {}", path("/stop")), Reply::empty())
        .on(&format!("DELETE {}", path("")), Reply::empty());
    let by_id = format!("backup/{TASK}");
    for (line, requests) in [
        (
            "start -c prod backup".to_owned(),
            vec!["GET /cluster/prod/tasks?short=true&type=backup", "start?continue=true"],
        ),
        (format!("start -c prod --no-continue {by_id}"), vec!["start?continue=false"]),
        (
            "stop -c prod backup/nightly".to_owned(),
            vec!["GET /cluster/prod/tasks?all=true&short=true&type=backup", "stop?disable=false"],
        ),
        (format!("stop -c prod --disable *{by_id}"), vec!["stop?disable=true"]),
        (format!("stop {by_id} -c prod --delete"), vec!["stop?disable=false", "DELETE"]),
    ] {
        let full = |request: &str| match request {
            "DELETE" => format!("DELETE {}\n", path("")),
            _ if request.starts_with("GET") => format!("{request}\n"),
            _ => format!("PUT {}\n", path(&format!("/{request}"))),
        };
        let expected: String = requests.iter().map(|request| full(request)).collect();
        assert_eq!(fake.transcript(&line).await, format!("{expected}--- exit 0"), "{line}");
    }
}

#[tokio::test]
async fn failures_of_stop_say_which_half_failed() {
    let id = format!("stop -c prod backup/{TASK} --delete");
    let gone = Reply::error(404, "stop task \"x\": not found");
    let fake = Fake::new().on(&format!("PUT {}", path("/stop")), gone);
    insta::assert_snapshot!(fake.run(&id).await.err, @r#"
    Error: stop: stop task "x": not found
    Trace ID: Xk3Yt0aQS2ybTz8m4mW1eA (grep in scylla-manager logs)
    "#);
    let fake = Fake::new()
        .on(&format!("PUT {}", path("/stop")), Reply::empty())
        .on(&format!("DELETE {}", path("")), Reply::error(500, "delete task \"x\": store is closed"));
    insta::assert_snapshot!(fake.run(&id).await.err, @r#"
    Error: delete: delete task "x": store is closed
    Trace ID: Xk3Yt0aQS2ybTz8m4mW1eA (grep in scylla-manager logs)
    "#);
}

#[tokio::test]
async fn suspend_now_and_resume() {
    let fake = Fake::new().on("PUT /cluster/prod/suspended", Reply::empty());
    insta::assert_snapshot!(fake.transcript("suspend -c prod --allow-task-type backup --duration 0").await, @"
    PUT /cluster/prod/suspended?allow_task_type=backup&no_continue=false&start_tasks=false&suspend_policy=stop_running_tasks
    true
    --- exit 0
    ");
    insta::assert_snapshot!(fake.transcript("resume -c prod --start-tasks").await, @"
    PUT /cluster/prod/suspended?no_continue=false&start_tasks=true&start_tasks_missed_activation=false
    false
    --- exit 0
    ");
    let busy = Reply::error(409, "not allowed tasks are running");
    let fake = Fake::new().on("PUT /cluster/prod/suspended", busy);
    insta::assert_snapshot!(fake.run("suspend -c prod --suspend-policy fail_if_running_tasks").await.err, @"
    Error: not allowed tasks are running: can't complete operation because tasks are running
    Trace ID: Xk3Yt0aQS2ybTz8m4mW1eA (grep in scylla-manager logs)
    ");
}

#[tokio::test]
async fn suspend_later_is_a_task() {
    let location = format!("/api/v1/cluster/prod/task/suspend/{TASK}");
    let fake = Fake::new().on("POST /cluster/prod/tasks", Reply::created(&location));
    let line = "suspend -c prod --cron '0 22 * * SAT' --duration 6h --on-resume-start-tasks";
    insta::assert_snapshot!(fake.transcript(line).await, @r#"
    POST /cluster/prod/tasks
    {
      "enabled": true,
      "properties": {
        "duration": "6h",
        "start_tasks": true
      },
      "schedule": {
        "cron": "0 22 * * SAT",
        "num_retries": 3,
        "retry_wait": "10m",
        "timezone": "UTC",
        "window": null
      },
      "tags": null,
      "type": "suspend"
    }
    --- stdout
    suspend/a41c7d90-3b52-4e8f-8c60-1d2e3f405162
    --- exit 0
    "#);
    for (line, message) in [
        ("suspend -c prod --on-resume-start-tasks", "can't use --on-resume-start-tasks without --duration"),
        (
            "suspend -c prod --duration 1h --no-continue",
            "can't use --no-continue or --suspend-policy with --duration",
        ),
    ] {
        assert_eq!(refused(line).await, message, "{line}");
    }
}
