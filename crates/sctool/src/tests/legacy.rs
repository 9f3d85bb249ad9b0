//! The 2.x group `task`: a note on stderr, then the command of 3.x.

use serde_json::json;

use super::fake::{Fake, Reply};
use super::{RUN, TASK, run, task};

fn path(rest: &str) -> String {
    format!("/cluster/prod/task/backup/{TASK}{rest}")
}

fn manager() -> Fake {
    Fake::new()
        .on("GET /cluster/prod/tasks", json!([task("nightly")]))
        .on(&format!("GET {}", path("")), task("nightly"))
        .on(&format!("PUT {}", path("")), task("nightly"))
        .on(&format!("DELETE {}", path("")), Reply::empty())
        .on(&format!("PUT {}", path("/start")), Reply::empty())
        .on(&format!("PUT {}", path("/stop")), Reply::empty())
        .on(&format!("GET {}", path("/history")), json!([run(RUN, "DONE")]))
        .on(&format!("GET {}", path("/latest")), json!({ "run": run(RUN, "DONE"), "progress": null }))
        .on("GET /cluster/prod/suspended/details", json!({}))
        .on("GET /cluster/prod/status", json!([]))
}

#[tokio::test]
async fn each_command_names_its_successor_and_works() {
    for (words, note, last_request) in [
        (
            "list",
            "list\" is deprecated, use `sctool tasks` instead.",
            "GET /cluster/prod/tasks?all=false".to_owned(),
        ),
        (
            "list --sort end-time",
            "list\" is deprecated, use `sctool tasks` instead.",
            "GET /cluster/prod/tasks?all=false".to_owned(),
        ),
        (
            "start REF",
            "start\" is deprecated, use sctool start instead.",
            format!("PUT {}", path("/start?continue=true")),
        ),
        (
            "stop REF --disable",
            "stop\" is deprecated, use sctool stop instead.",
            format!("PUT {}", path("/stop?disable=true")),
        ),
        (
            "progress REF",
            "progress\" is deprecated, use sctool progress instead.",
            format!("GET {}", path("/latest")),
        ),
        (
            "history REF",
            "history\" is deprecated, use sctool info instead.",
            format!("GET {}", path("/history?limit=10")),
        ),
        (
            "delete REF",
            "delete\" is deprecated, use sctool stop --delete instead",
            format!("DELETE {}", path("")),
        ),
    ] {
        let line = format!("task {} -c prod", words.replace("REF", &format!("backup/{TASK}")));
        let transcript = manager().run(&line).await;
        assert_eq!(transcript.err, format!("Command \"{note}\n\n"), "{line}");
        assert_eq!(transcript.requests.lines().last(), Some(last_request.as_str()), "{line}");
        assert_eq!(transcript.code, 0, "{line}");
    }
}

#[tokio::test(start_paused = true)]
async fn update_changes_the_schedule_silently() {
    insta::assert_snapshot!(manager().transcript("task update -c prod backup/nightly -e false -i 2d -r 5 -s now+1h").await, @r#"
    GET /cluster/prod/tasks?all=true&short=true&type=backup
    GET /cluster/prod/task/backup/a41c7d90-3b52-4e8f-8c60-1d2e3f405162
    PUT /cluster/prod/task/backup/a41c7d90-3b52-4e8f-8c60-1d2e3f405162
    {
      "labels": {
        "team": "dba"
      },
      "name": "nightly",
      "properties": {
        "location": [
          "s3:my-backups"
        ],
        "retention": 7
      },
      "schedule": {
        "cron": "{\"spec\":\"30 2 * * *\",\"start_date\":\"0001-01-01T00:00:00Z\"}",
        "interval": "2d",
        "num_retries": 5,
        "retry_wait": "10m",
        "start_date": "2026-03-02T13:00:00.000Z",
        "timezone": "Europe/Oslo",
        "window": []
      },
      "tags": null
    }
    --- stderr
    Command "update" is deprecated, use sctool <type> update instead.

    Flag --interval has been deprecated, use cron instead
    --- exit 0
    "#);
    let transcript = manager().run("task update -c prod backup/nightly").await;
    assert!(transcript.err.ends_with("Error: nothing to change\n\n"), "{}", transcript.err);
}

#[tokio::test]
async fn progress_of_a_health_check_is_the_status() {
    let transcript = manager().run("task progress -c prod healthcheck/cql").await;
    assert_eq!((transcript.out.as_str(), transcript.code), ("Use: sctool status -c prod\n", 0));
}

#[tokio::test]
async fn the_note_also_comes_before_help_and_errors() {
    let note = "Command \"delete\" is deprecated, use sctool stop --delete instead\n\n";
    let help = manager().run("task delete --help").await;
    assert_eq!((help.err.as_str(), help.code), (note, 0));
    assert!(help.out.contains("Usage:\n  sctool task delete "), "{}", help.out);
    let error = manager().run("task delete -c prod").await;
    assert_eq!(error.err, format!("{note}Error: accepts 1 arg(s), received 0\n\n"));
    let group = manager().run("task").await;
    assert_eq!(
        (group.err.as_str(), group.code),
        ("Command \"task\" is deprecated, see subcommands for details.\n\n", 0)
    );
}
