//! The task API over a real store and scheduler, with a runner that knows only the wire.

use std::sync::Arc;

use axum::body::Body;
use axum::http::{Method, Request, StatusCode, header};
use common::ids::{ClusterId, RunId, TaskId};
use common::units::DcLimit;
use futures::future::BoxFuture;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::*;
use crate::scheduler::{Properties, RunContext, RunError, Runner, SchedulerMetrics, load};
use crate::store::{Cluster, Secrets};
use common::secret::Secret;

struct Fake;

impl Runner for Fake {
    fn decorate<'a>(
        &'a self,
        _: ClusterId,
        mut properties: Properties,
    ) -> BoxFuture<'a, Result<Properties, RunError>> {
        Box::pin(async move {
            if properties.contains_key("undecorated") {
                return Err(RunError::failed("no map"));
            }
            properties.insert("retention_map".into(), json!({}));
            Ok(properties)
        })
    }

    fn check<'a>(&'a self, _: ClusterId, p: &'a Properties) -> BoxFuture<'a, Result<(), RunError>> {
        Box::pin(async move {
            assert!(p.contains_key("retention_map"));
            match p.get("location").or_else(|| p.get("mode")) {
                Some(_) => Ok(()),
                None => Err(RunError::invalid("missing location").context("create backup target")),
            }
        })
    }

    fn dry_run<'a>(
        &'a self,
        _: ClusterId,
        p: &'a Properties,
    ) -> BoxFuture<'a, Result<Option<Value>, RunError>> {
        Box::pin(async move {
            match p.get("location") {
                Some(location) => Ok(Some(json!({ "location": location }))),
                None => Err(RunError::failed("no live nodes").context("get backup target")),
            }
        })
    }

    fn progress<'a>(
        &'a self,
        _: ClusterId,
        _: TaskId,
        _: RunId,
    ) -> BoxFuture<'a, Result<Option<Value>, RunError>> {
        Box::pin(async { Ok(Some(json!({ "stage": "UPLOAD" }))) })
    }

    fn empty_progress(&self) -> Value {
        json!({ "stage": "" })
    }

    fn change_rate_limit<'a>(
        &'a self,
        _: ClusterId,
        _: TaskId,
        limits: &'a [DcLimit],
    ) -> BoxFuture<'a, Result<(), RunError>> {
        Box::pin(async move {
            match limits {
                [DcLimit { limit: 13, .. }] => Err(RunError::failed("stored: 192.0.2.11: no answer")),
                _ => Ok(()),
            }
        })
    }

    fn check_rate_limit<'a>(
        &'a self,
        _: ClusterId,
        limits: &'a [DcLimit],
    ) -> BoxFuture<'a, Result<(), RunError>> {
        Box::pin(async move {
            match limits.iter().find_map(|l| l.dc.as_deref()).filter(|dc| *dc != "dc1") {
                Some(dc) => Err(RunError::invalid(format!("invalid rate-limit: no such datacenter {dc}"))),
                None => Ok(()),
            }
        })
    }

    fn run<'a>(&'a self, context: RunContext) -> BoxFuture<'a, Result<(), RunError>> {
        Box::pin(async move {
            context.stop.stopped().await;
            Err(RunError::failed("interrupted"))
        })
    }
}

struct Bed {
    router: Router,
    store: Store,
    cluster: ClusterId,
    _driver: JoinSet<()>,
    _dir: tempfile::TempDir,
}

impl Bed {
    async fn new() -> Self {
        let (dir, store) = crate::store::tests::scratch().await;
        let cluster = Cluster {
            id: ClusterId::random(),
            name: "prod".into(),
            labels: Default::default(),
            host: "192.0.2.11".into(),
            known_hosts: vec![],
            port: 0,
            auth_token: Secret::new(String::new()),
            force_tls_disabled: false,
            force_non_ssl_session_port: false,
        };
        store.put_cluster(&cluster, Secrets::default()).await.unwrap();
        let now = chrono::DateTime::parse_from_rfc3339("2026-03-02T10:00:00Z").unwrap().to_utc();
        let clock = Clock::starting_at(now);
        let runners = Runners::new()
            .with(common::task::TaskType::Backup, Arc::new(Fake))
            .with(common::task::TaskType::HealthCheck, Arc::new(Fake));
        let metrics = SchedulerMetrics::new(&prometheus::Registry::new()).unwrap();
        let (scheduler, driver) = load(store.clone(), clock, runners.clone(), metrics).await.unwrap();
        let mut running = JoinSet::new();
        running.spawn(driver.run(CancellationToken::new()));
        let api = TaskApi { store: store.clone(), scheduler, runners, clock };
        let router = routes().merge(crate::rest::suspend::routes()).with_state(api);
        Self { router, store, cluster: cluster.id, _driver: running, _dir: dir }
    }

    /// Status, `Location` or nothing, and the body of an answer. `{c}` in the path is the cluster.
    async fn call(&self, method: Method, path: &str, body: Value) -> (StatusCode, String, Value) {
        let path = path.replace("{c}", &self.cluster.to_string());
        let body = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
        let request = Request::builder().method(method).uri(path).body(body).unwrap();
        let response = self.router.clone().oneshot(request).await.unwrap();
        let status = response.status();
        let location = response.headers().get(header::LOCATION).map(|l| l.to_str().unwrap().to_owned());
        let bytes = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
        let body = if bytes.is_empty() { Value::Null } else { serde_json::from_slice(&bytes).unwrap() };
        (status, location.unwrap_or_default(), body)
    }

    async fn get(&self, path: &str) -> Value {
        let (status, _, body) = self.call(Method::GET, path, Value::Null).await;
        assert_eq!(status, StatusCode::OK, "{path}: {body}");
        body
    }

    async fn put(&self, path: &str) {
        let (status, _, body) = self.call(Method::PUT, path, Value::Null).await;
        assert_eq!((status, &body), (StatusCode::OK, &Value::Null), "{path}");
    }

    /// Status and message of an error.
    async fn refused(&self, method: Method, path: &str, body: Value) -> (u16, String) {
        let (status, _, body) = self.call(method, path, body).await;
        for field in ["message", "details", "trace_id"] {
            assert!(body[field].is_string(), "{body}");
        }
        (status.as_u16(), body["message"].as_str().unwrap().to_owned())
    }

    /// Creates a task; its path below the cluster.
    async fn create(&self, body: Value) -> String {
        let (status, location, body) = self.call(Method::POST, "/cluster/prod/tasks", body).await;
        assert_eq!((status, body), (StatusCode::CREATED, Value::Null));
        let prefix = format!("/api/v1/cluster/{}", self.cluster);
        location.strip_prefix(&prefix).unwrap().to_owned()
    }
}

fn nightly() -> Value {
    json!({
        "type": "backup", "enabled": true, "name": "nightly", "labels": {"team": "db"}, "tags": null,
        "schedule": {"cron": "0 2 * * *", "window": ["23:00", "6:00"], "timezone": "Europe/Warsaw",
                     "num_retries": 3, "retry_wait": "10m"},
        "properties": {"location": ["s3:backup-bucket"], "retention": 7}
    })
}

#[tokio::test(start_paused = true)]
async fn a_task_is_created_listed_changed_and_deleted() {
    let bed = Bed::new().await;
    let path = bed.create(nightly()).await;
    let id = path.rsplit('/').next().unwrap().to_owned();
    assert_eq!(path, format!("/task/backup/{id}"));

    let mut listed = bed.get("/cluster/{c}/tasks").await;
    listed[0]["cluster_id"] = json!("[cluster]");
    listed[0]["id"] = json!("[task]");
    insta::assert_json_snapshot!(listed, @r#"
    [
      {
        "cluster_id": "[cluster]",
        "enabled": true,
        "error_count": 0,
        "id": "[task]",
        "labels": {
          "team": "db"
        },
        "last_error": null,
        "last_success": null,
        "name": "nightly",
        "next_activation": "2026-03-03T01:00:00Z",
        "properties": {
          "location": [
            "s3:backup-bucket"
          ],
          "retention": 7
        },
        "retry": 0,
        "schedule": {
          "cron": "{\"spec\":\"0 2 * * *\",\"start_date\":\"0001-01-01T00:00:00Z\"}",
          "num_retries": 3,
          "retry_wait": "10m",
          "start_date": "2026-03-02T10:00:00Z",
          "timezone": "Europe/Warsaw",
          "window": [
            "23:00",
            "6:00"
          ]
        },
        "status": "NEW",
        "success_count": 0,
        "suspended": false,
        "tags": null,
        "type": "backup"
      }
    ]
    "#);

    // A round trip as `sctool backup update` makes it: what was read, with a change.
    let mut task = bed.get(&format!("/cluster/prod{path}")).await;
    task["properties"]["retention"] = json!(3);
    task["enabled"] = json!(false);
    let (status, _, updated) = bed.call(Method::PUT, &format!("/cluster/prod{path}"), task.clone()).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(updated["properties"], json!({"location": ["s3:backup-bucket"], "retention": 3}));
    assert_eq!(updated["schedule"], task["schedule"]);
    assert_eq!(updated.get("enabled"), None);
    assert_eq!(bed.get("/cluster/{c}/tasks").await, json!([]));
    assert_eq!(bed.get("/cluster/{c}/tasks?all=true&type=backup").await[0]["id"], json!(id));

    let (status, _, body) = bed.call(Method::DELETE, &format!("/cluster/prod{path}"), Value::Null).await;
    assert_eq!((status, body), (StatusCode::OK, Value::Null));
    assert_eq!(bed.get("/cluster/{c}/tasks?all=true").await, json!([]));
    for (method, tail) in
        [(Method::GET, ""), (Method::GET, "/history"), (Method::PUT, "/start"), (Method::DELETE, "")]
    {
        let (status, message) = bed.refused(method, &format!("/cluster/prod{path}{tail}"), Value::Null).await;
        assert_eq!(status, 404, "{message}");
        assert!(
            message.starts_with("get resource: ")
                && message.ends_with(&format!("load task \"{id}\": not found"))
        );
    }
}

#[tokio::test(start_paused = true)]
async fn lists_are_filtered() {
    let bed = Bed::new().await;
    bed.create(nightly()).await;
    let idle = json!({"type": "backup", "name": "idle", "properties": {"location": []}});
    let idle = bed.create(idle).await;
    bed.create(json!({"type": "healthcheck", "name": "cql", "enabled": true,
                      "schedule": {"cron": "* * * * *"}, "properties": {"mode": "cql"}}))
        .await;
    let id = idle.rsplit('/').next().unwrap();
    for (query, names) in [
        ("", vec!["nightly", "cql"]),
        ("?all=false&type=healthcheck", vec!["cql"]),
        ("?status=NEW", vec!["nightly", "cql"]),
        ("?status=DONE", vec![]),
        (&format!("?all=true&type=backup&task_id={id}"), vec!["idle"]),
    ] {
        let listed = bed.get(&format!("/cluster/prod/tasks{query}")).await;
        let mut actual: Vec<&str> =
            listed.as_array().unwrap().iter().map(|t| t["name"].as_str().unwrap()).collect();
        actual.sort_by_key(|name| *name != "nightly");
        assert_eq!(actual, names, "{query}");
    }
    let short = bed.get(&format!("/cluster/prod/tasks?short=true&all=1&task_id={id}")).await;
    let item = &short[0];
    assert_eq!(
        (&item["name"], &item["properties"], &item["next_activation"]),
        (&json!("idle"), &json!({}), &Value::Null)
    );
    assert!(item["schedule"].is_object());
    for query in ["?type=x", "?status=x", "?task_id=x", "?all=x"] {
        let (status, message) =
            bed.refused(Method::GET, &format!("/cluster/prod/tasks{query}"), Value::Null).await;
        assert!(status == 400 && message.starts_with("malformed request: "), "{query}: {message}");
    }
}

#[tokio::test(start_paused = true)]
async fn mistakes_in_new_tasks_are_named() {
    let bed = Bed::new().await;
    bed.create(nightly()).await;
    let with = |change: fn(&mut Value)| {
        let mut body = nightly();
        body["name"] = json!("other");
        change(&mut body);
        body
    };
    for (body, message) in [
        (
            with(|b| b["id"] = json!("5d0b7c1e-1510-11f1-9a6e-0242ac120002")),
            "malformed request: the ID of a new task is chosen by the server, leave it out",
        ),
        (with(|b| b["type"] = json!("x")), "malformed request: unrecognized TaskType \"x\""),
        (with(|b| b["type"] = json!("")), "invalid task: no TaskType specified"),
        (with(|b| b["type"] = json!("unknown")), "invalid task: no TaskType specified"),
        (
            with(|b| b["type"] = json!("repair")),
            "create task: tasks of type repair are not supported by this manager",
        ),
        (with(|b| b["name"] = json!("nightly")), "create task: task name nightly is already used"),
        (
            with(|b| b["name"] = json!("5d0b7c1e-1510-11f1-9a6e-0242ac120002")),
            "create task: invalid task: name cannot be an UUID",
        ),
        (with(|b| b["properties"] = json!({})), "create backup target: missing location"),
        (
            with(|b| b["properties"] = json!({"undecorated": 1})),
            "malformed request: evaluate properties: no map",
        ),
        (
            with(|b| b["schedule"]["cron"] = json!("* * * * 7")),
            "create task: cron: end of range (7) above maximum (6): 7",
        ),
        (
            with(|b| b["schedule"]["window"] = json!(["24:00", "1:00"])),
            "create task: window: invalid hour 24",
        ),
        (
            with(|b| b["schedule"]["timezone"] = json!("Mars")),
            "create task: timezone: unknown time zone Mars",
        ),
    ] {
        assert_eq!(bed.refused(Method::POST, "/cluster/prod/tasks", body).await, (400, message.to_owned()));
    }
    let (status, message) = bed.refused(Method::POST, "/cluster/other/tasks", nightly()).await;
    assert_eq!((status, message.as_str()), (404, "get resource: load cluster \"other\": not found"));
    let (status, message) = bed.refused(Method::GET, "/cluster/prod/task/backup/x", Value::Null).await;
    assert_eq!((status, message.as_str()), (400, "malformed request: invalid UUID \"x\""));
    assert_eq!(bed.store.tasks(bed.cluster).await.unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_dry_run_takes_its_type_from_the_body_and_stores_nothing() {
    let bed = Bed::new().await;
    let path = "/cluster/prod/tasks/backup/target";
    let (status, _, target) = bed.call(Method::GET, path, nightly()).await;
    assert_eq!((status, target), (StatusCode::OK, json!({"location": ["s3:backup-bucket"]})));
    let without = json!({"type": "backup", "properties": {}});
    assert_eq!(
        bed.refused(Method::GET, path, without).await,
        (500, "get backup target: no live nodes".into())
    );
    let repair = json!({"type": "repair"});
    assert_eq!(
        bed.refused(Method::GET, path, repair).await,
        (400, "malformed request: invalid task type \"repair\"".into())
    );
    assert_eq!(bed.store.tasks(bed.cluster).await.unwrap(), []);
}

#[tokio::test(start_paused = true)]
async fn runs_are_started_stopped_and_shown() {
    let bed = Bed::new().await;
    let task = format!("/cluster/prod{}", bed.create(nightly()).await);
    let fresh = bed.get(&format!("{task}/latest")).await;
    assert_eq!(fresh["run"]["status"], "NEW");
    assert_eq!(fresh["run"]["id"], "00000000-0000-0000-0000-000000000000");
    assert_eq!(fresh["run"]["start_time"], "0001-01-01T00:00:00Z");
    assert_eq!(fresh["progress"], json!({"stage": ""}));
    assert_eq!(bed.get(&format!("{task}/history")).await, json!([]));
    assert_eq!(bed.refused(Method::GET, &format!("{task}/~1"), Value::Null).await.0, 404);

    bed.put(&format!("{task}/start?continue=true")).await;
    let running = bed.get(&format!("{task}/~0")).await;
    assert_eq!(
        (&running["run"]["status"], &running["progress"]["stage"]),
        (&json!("RUNNING"), &json!("UPLOAD"))
    );
    assert_eq!(running["run"].get("end_time"), None);
    assert_eq!(bed.get("/cluster/prod/tasks").await[0]["next_activation"], Value::Null);
    let id = running["run"]["id"].as_str().unwrap();
    assert_eq!(bed.get(&format!("{task}/{id}")).await["run"]["id"], json!(id));

    bed.put(&format!("{task}/stop?disable=false")).await;
    let mut last = json!(null);
    for _ in 0..10 {
        last = bed.get(&format!("{task}/latest")).await;
        if last["run"]["status"] == "STOPPED" {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    }
    assert_eq!(
        (&last["run"]["status"], &last["run"]["cause"]),
        (&json!("STOPPED"), &json!("task was stopped"))
    );
    assert_eq!(bed.get(&format!("{task}/history?limit=1")).await[0]["status"], "STOPPED");
    let (status, message) = bed.refused(Method::GET, &format!("{task}/newest"), Value::Null).await;
    assert!(status == 400 && message.starts_with("malformed request: \"newest\" names no run"), "{message}");
}

#[tokio::test(start_paused = true)]
async fn a_queued_backup_is_shown_as_waiting() {
    let bed = Bed::new().await;
    let now = || json!({"type": "backup", "enabled": true, "properties": {"location": []}});
    bed.create(now()).await;
    let second = bed.create(now()).await;
    let waiting = bed.get("/cluster/prod/tasks?status=WAITING").await;
    assert_eq!(waiting.as_array().unwrap().len(), 1);
    assert_eq!(waiting[0]["id"].as_str(), second.rsplit('/').next());
    assert_eq!(bed.get(&format!("/cluster/prod{second}/latest")).await["run"]["status"], "WAITING");
}

#[tokio::test(start_paused = true)]
async fn the_rate_limit_of_a_task_can_be_changed_live() {
    let bed = Bed::new().await;
    let path = bed.create(nightly()).await;
    bed.put(&format!("/cluster/prod{path}/control?rate_limit=dc1:50,100")).await;
    let task = bed.get(&format!("/cluster/prod{path}")).await;
    assert_eq!(task["properties"]["rate_limit"], json!(["dc1:50", "100"]));
    for (query, message) in [
        ("?rate_limit=fast", "malformed request: invalid limit \"fast\", the format is [dc:]<number>"),
        ("?rate_limit=dc2:50", "invalid rate-limit: no such datacenter dc2"),
        ("", "malformed request: missing rate_limit, e.g. rate_limit=dc1:50,100"),
    ] {
        let (status, actual) =
            bed.refused(Method::PUT, &format!("/cluster/prod{path}/control{query}"), Value::Null).await;
        assert!(status == 400 && actual.ends_with(message), "{actual}");
    }
    let task = bed.get(&format!("/cluster/prod{path}")).await;
    assert_eq!(task["properties"]["rate_limit"], json!(["dc1:50", "100"]));

    let control = format!("/cluster/prod{path}/control?rate_limit=13");
    let (status, message) = bed.refused(Method::PUT, &control, Value::Null).await;
    let id = path.rsplit('/').next().unwrap();
    assert_eq!(
        (status, message),
        (500, format!("control task \"{id}\": stored: 192.0.2.11: no answer")),
        "a host that does not answer is an error"
    );
    let task = bed.get(&format!("/cluster/prod{path}")).await;
    assert_eq!(task["properties"]["rate_limit"], json!(["13"]), "and the limit is stored all the same");
}

#[tokio::test(start_paused = true)]
async fn only_backups_have_a_rate_limit() {
    let bed = Bed::new().await;
    let health =
        bed.create(json!({"type": "healthcheck", "enabled": true, "properties": {"mode": "cql"}})).await;
    let id = health.rsplit('/').next().unwrap();
    let control = |id: &str| format!("/cluster/prod/task/backup/{id}/control?rate_limit=5");
    let refused = bed.refused(Method::PUT, &control(id), Value::Null).await;
    let message =
        format!("control task \"{id}\": healthcheck/{id} is no backup, only backups have a rate limit");
    assert_eq!(refused, (400, message));
    let missing = TaskId::random();
    let refused = bed.refused(Method::PUT, &control(&missing.to_string()), Value::Null).await;
    let message = format!("get resource: control task \"{missing}\": load task \"{missing}\": not found");
    assert_eq!(refused, (404, message));
}

#[tokio::test(start_paused = true)]
async fn health_checks_have_no_progress() {
    let bed = Bed::new().await;
    let path =
        bed.create(json!({"type": "healthcheck", "enabled": true, "properties": {"mode": "cql"}})).await;
    assert_eq!(
        bed.refused(Method::GET, &format!("/cluster/prod{path}/latest"), Value::Null).await,
        (400, "malformed request: unsupported task type".to_owned())
    );
}

#[tokio::test(start_paused = true)]
async fn a_cluster_is_suspended_and_resumed() {
    let bed = Bed::new().await;
    let suspended = "/cluster/prod/suspended";
    let details = "/cluster/prod/suspended/details";
    assert_eq!(bed.get(suspended).await, json!(false));
    assert_eq!(bed.get(details).await, json!({"suspended": false, "allow_task_type": ""}));
    let running = json!({"type": "healthcheck", "enabled": true, "properties": {"mode": "cql"}});
    bed.create(running).await;
    bed.create(json!({"type": "backup", "enabled": true, "properties": {"location": []}})).await;

    let fail = format!("{suspended}?suspend_policy=fail_if_running_tasks");
    let (status, message) = bed.refused(Method::PUT, &fail, json!(true)).await;
    assert_eq!(status, 409);
    assert!(message.starts_with("suspend: not allowed tasks are running. Use suspend_policy="), "{message}");
    for query in ["allow_task_type=suspend", "allow_task_type=x", "suspend_policy=x", "no_continue=x"] {
        let (status, message) = bed.refused(Method::PUT, &format!("{suspended}?{query}"), json!(true)).await;
        assert!(status == 400 && message.starts_with("malformed request: "), "{message}");
    }
    let path = format!("{suspended}?allow_task_type=backup&no_continue=true");
    let (status, _, body) = bed.call(Method::PUT, &path, json!(true)).await;
    assert_eq!((status, body), (StatusCode::OK, Value::Null));
    assert_eq!(bed.get(suspended).await, json!(true));
    assert_eq!(bed.get(details).await, json!({"suspended": true, "allow_task_type": "backup"}));
    let (status, _, _) = bed.call(Method::PUT, suspended, json!(false)).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(bed.get(suspended).await, json!(false));
}
