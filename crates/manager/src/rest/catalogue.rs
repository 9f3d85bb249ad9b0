//! The error catalogue (spec sctool.md 5), row by row over a whole manager whose agents and bucket live in memory.
//!
//! Texts that the client makes itself are in the tests of `sctool`.

use common::api::manager::Schedule;
use common::task::TaskType;
use http::Method;
use http::StatusCode;
use serde_json::{Value, json};

use super::testing::{Bed, cluster, with};
use crate::scheduler::TaskSpec;

const NO_TASK: &str = "0b1c9a52-6a43-4d6b-8c6e-51b8f5a5a0de";
const DRY_RUN: &str = "/cluster/prod/tasks/backup/target";

fn task(properties: Value) -> Value {
    json!({ "type": "backup", "enabled": true, "schedule": {}, "properties": properties })
}

/// Asserts status and message of refused requests; the details must be empty.
async fn assert_refusals(bed: &Bed, rows: Vec<(Method, String, Value, u16, String)>) {
    for (method, path, body, status, message) in rows {
        let refused = bed.refused(method.clone(), &path, body.clone()).await;
        assert_eq!(refused, (status, message, String::new()), "{method} {path} {body}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_does_not_exist_is_named() {
    let bed = Bed::new().await;
    bed.add(cluster("prod")).await;
    let health = bed.get("/cluster/prod/tasks?type=healthcheck").await[0]["id"].as_str().unwrap().to_owned();
    let gone = |what: String| format!("get resource: {what}: not found");
    let no_task = || gone(format!("load task \"{NO_TASK}\""));
    let doing = |what: &str| gone(format!("{what} task \"{NO_TASK}\": load task \"{NO_TASK}\""));
    let path = |rest: &str| format!("/cluster/prod/task/backup/{NO_TASK}{rest}");
    let (get, put, delete) = (Method::GET, Method::PUT, Method::DELETE);
    assert_refusals(
        &bed,
        vec![
            (
                get.clone(),
                "/clutsers".into(),
                Value::Null,
                404,
                "find endpoint for path /api/v1/clutsers - make sure api-url is correct".into(),
            ),
            (get.clone(), "/cluster/x/tasks".into(), Value::Null, 404, gone("load cluster \"x\"".into())),
            (get.clone(), path(""), Value::Null, 404, no_task()),
            (get.clone(), path("/latest"), Value::Null, 404, no_task()),
            (get.clone(), path("/history"), Value::Null, 404, no_task()),
            (
                get,
                format!("/cluster/prod/task/healthcheck/{health}/~9"),
                Value::Null,
                404,
                gone(format!("load run \"~9\" of task \"{health}\"")),
            ),
            (put.clone(), path(""), task(json!({ "location": ["s3:b"] })), 404, no_task()),
            (put.clone(), path("/start"), Value::Null, 404, doing("start")),
            (put.clone(), path("/stop"), Value::Null, 404, doing("stop")),
            (put, path("/control?rate_limit=5"), Value::Null, 404, doing("control")),
            (delete, path(""), Value::Null, 404, doing("delete")),
        ],
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn unusable_backups_are_refused_before_and_at_their_creation() {
    let bed = Bed::new().await;
    bed.add(cluster("prod")).await;
    for (properties, message) in [
        (json!({}), "missing location"),
        (json!({ "location": ["s3:b"], "retention": -1 }), "negative retention: -1"),
        (
            json!({ "location": ["s3:b"], "transfers": 0 }),
            "transfers param has to be equal to -1 (set transfers to the value from scylla-manager-agent.yaml config) \
             or greater than zero",
        ),
        (
            json!({ "location": ["s3:b"], "dc": ["dc9"] }),
            "no matching DCs found for filters [\"dc9\"], the cluster has dc1, dc2",
        ),
        (
            json!({ "location": ["dc9:s3:b"] }),
            "invalid location: no such datacenter dc9, sctool status shows those of the cluster",
        ),
        (
            json!({ "location": ["dc1:s3:b"] }),
            "invalid location: missing object for datacenter dc2, give it one with --location dc2:<provider>:<bucket>, or leave it out with --dc",
        ),
        (
            json!({ "location": ["s3:b"], "rate_limit": ["dc9:1"] }),
            "invalid rate-limit: no such datacenter dc9, sctool status shows those of the cluster",
        ),
        (json!({ "location": ["gcs:b"], "retention_lock_mode": "x" }), "unknown retention lock mode: x"),
        (
            json!({ "location": ["gcs:b"], "retention_lock_mode": "locked" }),
            "retention days must be set when retention lock mode \"locked\" is used",
        ),
        (
            json!({ "location": ["gcs:b"], "retention_lock_mode": "locked", "retention_days": 1, "retention": 1 }),
            "count-based retention mustn't be set when retention lock mode \"locked\" is used",
        ),
        (
            json!({ "location": ["gcs:b"], "retention_lock_mode": "event-based-hold", "override_retention_lock": true }),
            "retention lock cannot be overridden when retention lock mode \"event-based-hold\" is used",
        ),
        (
            json!({ "location": ["s3:b"], "retention_lock_mode": "unlocked" }),
            "retention lock is not supported for s3 provider, it's supported only for gcs",
        ),
    ] {
        let rows = vec![
            (
                Method::GET,
                DRY_RUN.to_owned(),
                task(properties.clone()),
                400,
                format!("get backup target: {message}"),
            ),
            (
                Method::POST,
                "/cluster/prod/tasks".to_owned(),
                task(properties),
                400,
                format!("create backup target: {message}"),
            ),
        ];
        assert_refusals(&bed, rows).await;
    }
    assert_eq!(bed.get("/cluster/prod/tasks?all=true&type=backup").await, json!([]), "nothing is scheduled");
}

/// D4: the guide's words in dry run and creation, one host after the other, the cause behind them.
#[tokio::test(start_paused = true)]
async fn a_location_that_nodes_cannot_use() {
    let bed = Bed::new().await;
    bed.add(cluster("prod")).await;
    let line = |host: &str, location: &str, cause: &str| {
        format!(
            "{host}: failed to access {location} make sure that the location is correct and credentials are set: \
             {cause}, to debug SSH to {host} and run \"scylla-manager-agent check-location -L {location} --debug\""
        )
    };
    let words = "failed to get backup target: location is not accessible";
    let missing = "specified bucket does not exist";
    for (method, path) in [(Method::GET, DRY_RUN), (Method::POST, "/cluster/prod/tasks")] {
        let hosts = ["192.0.2.11", "192.0.2.12", "192.0.2.21"].map(|host| line(host, "s3:none", missing));
        let message = format!("{words}: {}", hosts.join("; "));
        let body = task(json!({ "location": ["s3:none"] }));
        assert_refusals(&bed, vec![(method.clone(), path.to_owned(), body, 400, message)]).await;

        let denied = "operation list: Access Denied (code:AccessDenied)";
        bed.fake.bucket.refuse_check(StatusCode::INTERNAL_SERVER_ERROR, denied);
        let message = format!("{words}: {}", line("192.0.2.21", "s3:b", denied));
        let body = task(json!({ "location": ["s3:b"], "dc": ["dc2"] }));
        assert_refusals(&bed, vec![(method, path.to_owned(), body, 400, message)]).await;
    }
    assert_eq!(bed.get("/cluster/prod/tasks?all=true&type=backup").await, json!([]), "nothing is scheduled");
}

#[tokio::test(start_paused = true)]
async fn a_backup_without_nodes() {
    let bed = Bed::new().await;
    bed.add(cluster("prod")).await;
    for node in ["192.0.2.11", "192.0.2.12", "192.0.2.21"] {
        bed.fake.node(node).change(|n| n.ping_status = StatusCode::INTERNAL_SERVER_ERROR);
    }
    let body = task(json!({ "location": ["s3:b"] }));
    let message =
        "get backup target: no live nodes: 192.0.2.11: no; 192.0.2.12: no; 192.0.2.21: no".to_owned();
    assert_refusals(&bed, vec![(Method::GET, DRY_RUN.into(), body, 500, message)]).await;
}

#[tokio::test(start_paused = true)]
async fn a_changed_task_is_checked_like_a_new_one() {
    let bed = Bed::new().await;
    bed.add(cluster("prod")).await;
    let mut checks = bed.get("/cluster/prod/tasks?type=healthcheck").await;
    let (first, second) = (checks[0].take(), checks[1].take());
    let id = first["id"].as_str().unwrap();
    let path = format!("/cluster/prod/task/healthcheck/{id}");
    let renamed = |name: &str| with(first.clone(), json!({ "name": name }));
    let taken = second["name"].as_str().unwrap();
    let rows = [
        (renamed(taken), format!("task name {taken} is already used")),
        (renamed(NO_TASK), "invalid task: name cannot be an UUID".to_owned()),
        (
            with(first.clone(), json!({ "schedule": { "timezone": "Mars" } })),
            "timezone: unknown time zone Mars".to_owned(),
        ),
    ];
    let expect = |message: String| format!("update task \"{id}\": {message}");
    let rows = rows.map(|(body, message)| (Method::PUT, path.clone(), body, 400, expect(message)));
    assert_refusals(&bed, rows.into()).await;
}

#[tokio::test(start_paused = true)]
async fn a_rate_limit_is_checked_like_that_of_a_new_backup() {
    let bed = Bed::new().await;
    let cluster = bed.add(cluster("prod")).await.parse().unwrap();
    let spec = TaskSpec {
        name: "nightly".into(),
        labels: Default::default(),
        enabled: false,
        schedule: Schedule::default(),
        properties: json!({ "location": ["s3:b"] }).as_object().unwrap().clone(),
    };
    let id = bed.manager.scheduler.create(cluster, TaskType::Backup, spec).await.unwrap().id;
    let health = bed.get("/cluster/prod/tasks?type=healthcheck").await[0]["id"].as_str().unwrap().to_owned();
    let control =
        |id: &str, limit: &str| format!("/cluster/prod/task/backup/{id}/control?rate_limit={limit}");
    let (put, id) = (Method::PUT, id.to_string());
    assert_refusals(
        &bed,
        vec![
            (
                put.clone(),
                control(&id, "dc1:50,dc9:1"),
                Value::Null,
                400,
                format!(
                    "control task \"{id}\": invalid rate-limit: no such datacenter dc9, sctool status shows those of \
                     the cluster"
                ),
            ),
            (
                put.clone(),
                control(&id, "dc1:"),
                Value::Null,
                400,
                "malformed request: invalid limit \"dc1:\", the format is [dc:]<number>".into(),
            ),
            (
                put.clone(),
                control(&health, "5"),
                Value::Null,
                400,
                format!("control task \"{health}\": healthcheck/{health} is no backup, only backups have a rate limit"),
            ),
        ],
    )
    .await;
    let task = format!("/cluster/prod/task/backup/{id}");
    assert_eq!(bed.get(&task).await["properties"]["rate_limit"], Value::Null, "nothing is stored");

    let (status, _, body) = bed.call(put, &control(&id, "dc1:50,100"), Value::Null).await;
    assert_eq!((status, body), (200, Value::Null), "no run is needed");
    assert_eq!(bed.get(&task).await["properties"]["rate_limit"], json!(["dc1:50", "100"]));
}

/// What the manager cannot do for want of its database says what it was about.
#[tokio::test(start_paused = true)]
async fn requests_for_clusters_say_what_failed() {
    let bed = Bed::new().await;
    let id = bed.add(cluster("prod")).await;
    for (lost, method, path, body, what) in [
        (
            "secrets",
            Method::DELETE,
            format!("/cluster/{id}?cql_creds=true"),
            Value::Null,
            format!("delete cluster \"{id}\""),
        ),
        ("cluster", Method::GET, "/clusters".to_owned(), Value::Null, "list clusters".to_owned()),
        ("cluster", Method::POST, "/clusters".to_owned(), cluster("other"), "create cluster".to_owned()),
        ("cluster", Method::GET, "/cluster/prod".to_owned(), Value::Null, "load cluster \"prod\"".to_owned()),
        (
            "cluster",
            Method::GET,
            format!("/cluster/{id}/status"),
            Value::Null,
            format!("load cluster \"{id}\""),
        ),
        (
            "cluster",
            Method::PUT,
            "/cluster/prod".to_owned(),
            with(cluster("prod"), json!({ "port": 1 })),
            "load cluster \"prod\"".to_owned(),
        ),
    ] {
        bed.lose_table(lost);
        let (status, message, _) = bed.refused(method, &path, body).await;
        let expected = format!("{what}: database: no such table: ");
        assert!(status == 500 && message.starts_with(&expected), "{path}: {message}");
    }
}
