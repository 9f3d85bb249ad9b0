//! The backups API over a whole manager whose agents and bucket live in memory.

use common::api::manager::{SchemaRow, Task};
use common::format::paths::{ManifestPath, NodePath};
use common::format::schema;
use common::ids::{HostId, TaskId};
use http::Method;
use serde_json::{Value, json};

use crate::backup::testing::TABLE;
use crate::rest::testing::{Bed, cluster};

const TASK: &str = "0b1c9a52-6a43-4d6b-8c6e-51b8f5a5a0de";
const OLD: &str = "sm_20260101020000UTC";
const NEW: &str = "sm_20260201020000UTC";

/// A cluster with two backups of one node, and a task that made them.
async fn backed_up() -> (Bed, String) {
    let bed = Bed::new().await;
    let id = bed.add(cluster("prod")).await;
    for (tag, files) in [(OLD, &["1", "2"][..]), (NEW, &["2", "3"])] {
        bed.fake.bucket.back_up(&manifest(&id, tag), files);
    }
    (bed, id)
}

fn manifest(cluster: &str, tag: &str) -> ManifestPath {
    let node =
        NodePath { cluster: cluster.parse().unwrap(), dc: "dc1".into(), node: HostId::new("id-192.0.2.11") };
    ManifestPath { node, task: TASK.parse().unwrap(), tag: tag.parse().unwrap(), temporary: false }
}

async fn store_task(bed: &Bed, id: &str, location: &str, enabled: bool) {
    let task = json!({
        "cluster_id": id, "type": "backup", "id": TaskId::random(), "enabled": enabled, "status": "NEW",
        "properties": { "location": [location] },
    });
    let task: Task = serde_json::from_value(task).unwrap();
    bed.manager.store.put_task(&task).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn backups_are_listed_with_every_filter() {
    let (bed, id) = backed_up().await;
    let all = json!([{
        "cluster_id": id, "task_id": TASK,
        "units": [{ "keyspace": TABLE.0, "tables": [TABLE.1], "all_tables": false }],
        "snapshot_info": [
            { "snapshot_tag": NEW, "nodes": 1, "size": 2 },
            { "snapshot_tag": OLD, "nodes": 1, "size": 2 },
        ],
    }]);
    let path = |query: &str| format!("/cluster/prod/backups?locations=s3:b{query}");
    assert_eq!(bed.get(&path("")).await, all);
    assert_eq!(bed.get(&path(&format!("&query_cluster_id={id}&keyspace=k*,!x"))).await, all);
    assert_eq!(bed.get(&path("&query_cluster_id=prod&min_date=2026-01-01T02:00:00Z")).await, all);
    for query in [
        "&keyspace=other",
        "&query_cluster_id=805e43b0-2c0a-481e-bab8-9c2418940d67",
        "&max_date=2025-12-31T00:00:00Z",
    ] {
        assert_eq!(bed.get(&path(query)).await, json!([]), "{query}");
    }
    let tags = |list: &Value| -> Vec<String> {
        let infos = list[0]["snapshot_info"].as_array().unwrap();
        infos.iter().map(|i| i["snapshot_tag"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(tags(&bed.get(&path("&max_date=2026-01-01T02:00:00Z")).await), [OLD]);
    let by_tag = format!("&snapshot_tag={NEW}&max_date=2026-01-01T02:00:00Z");
    assert_eq!(tags(&bed.get(&path(&by_tag)).await), [NEW]);

    let files = bed.get(&format!("/cluster/prod/backups/files?locations=dc1:s3:b&snapshot_tag={OLD}")).await;
    assert_eq!(files[0]["location"], json!("s3:b"));
    assert_eq!(files[0]["files"][0]["files"], json!(["1", "2"]));
    assert!(
        files[0]["schema"].as_str().unwrap().ends_with(&format!("_tag_{OLD}_schema_with_internals.json.gz"))
    );
}

#[tokio::test(start_paused = true)]
async fn locations_come_from_enabled_tasks_when_none_are_given() {
    let (bed, id) = backed_up().await;
    store_task(&bed, &id, "s3:unused", false).await;
    let (status, text, _) = bed.refused(Method::GET, "/cluster/prod/backups", Value::Null).await;
    assert_eq!((status, text.as_str()), (400, "malformed request: missing locations"));
    store_task(&bed, &id, "dc1:s3:b", true).await;
    store_task(&bed, &id, "s3:b", true).await;
    let list = bed.get("/cluster/prod/backups").await;
    assert_eq!(list[0]["snapshot_info"][0]["nodes"], json!(1), "one bucket is read once: {list}");
}

#[tokio::test(start_paused = true)]
async fn mistakes_are_refused_with_their_reason() {
    let (bed, _) = backed_up().await;
    for (method, query, text) in [
        (Method::GET, "?locations=nowhere", "malformed request: invalid location"),
        (
            Method::GET,
            "?locations=s3:b&snapshot_tag=yesterday",
            "malformed request: not a Scylla Manager snapshot tag, expected format is sm_20060102150405UTC: \"yesterday\"",
        ),
        (Method::GET, "?locations=s3:b&min_date=yesterday", "malformed request: date \"yesterday\""),
        (Method::GET, "?locations=s3:b&query_cluster_id=prud", "malformed request: "),
        (Method::GET, "?locations=s3:b&keyspace=.t", "malformed request: "),
        (Method::DELETE, "?locations=s3:b", "malformed request: missing snapshot tags"),
        (Method::DELETE, "?locations=s3:b&snapshot_tags=x", "malformed request: "),
    ] {
        let (status, message, _) =
            bed.refused(method, &format!("/cluster/prod/backups{query}"), Value::Null).await;
        assert!(status == 400 && message.starts_with(text), "{query}: {status} {message}");
    }
    let (status, text, _) =
        bed.refused(Method::GET, "/cluster/prod/backups?locations=s3:none", Value::Null).await;
    assert_eq!(status, 500);
    assert!(text.starts_with("no matching hosts found for location s3:none: 192.0.2."), "{text}");
    bed.fake.bucket.cut_listings(Some("backup/meta"));
    let (status, text, _) =
        bed.refused(Method::GET, "/cluster/prod/backups?locations=s3:b", Value::Null).await;
    assert!(status == 500 && text.contains("location s3:b") && text.contains("closing brackets"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn a_backup_is_deleted_once_and_not_beside_an_upload() {
    let (bed, id) = backed_up().await;
    let path = format!("/cluster/prod/backups?locations=s3:b&snapshot_tags={OLD}");
    let upload = bed.manager.backup_locks.upload(id.parse().unwrap()).await;
    let (status, text, _) = bed.refused(Method::DELETE, &path, Value::Null).await;
    assert!(status == 409 && text.starts_with("delete snapshots: a backup of this cluster"), "{text}");
    drop(upload);

    let (status, _, body) = bed.call(Method::DELETE, &path, Value::Null).await;
    assert_eq!((status, body), (200, Value::Null));
    let keys = bed.fake.bucket.keys();
    assert!(
        keys.contains(&manifest(&id, NEW).to_string()) && !keys.contains(&manifest(&id, OLD).to_string())
    );
    let left: Vec<&str> = keys
        .iter()
        .filter_map(|k| k.rsplit_once('/'))
        .map(|(_, name)| name)
        .filter(|n| n.len() == 1)
        .collect();
    assert_eq!(left, ["2", "3"]);
    let (status, text, _) = bed.refused(Method::DELETE, &path, Value::Null).await;
    assert_eq!((status, text.as_str()), (404, "get resource: delete snapshots: not found"));
}

#[tokio::test(start_paused = true)]
async fn the_schema_of_a_backup_is_shown_when_it_is_the_only_one() {
    let (bed, id) = backed_up().await;
    let path = format!("/cluster/prod/backups/schema?location=s3:b&snapshot_tag={OLD}");
    let key = |task: &str| {
        format!("backup/schema/cluster/{id}/task_{task}_tag_{OLD}_schema_with_internals.json.gz")
    };
    let (status, text, _) = bed.refused(Method::GET, &path, Value::Null).await;
    assert!(status == 500 && text.starts_with(&format!("schema file {} is damaged", key(TASK))), "{text}");

    let row =
        SchemaRow { keyspace: "k".into(), cql_stmt: "CREATE KEYSPACE k".into(), ..SchemaRow::default() };
    bed.fake.bucket.put(key(TASK), schema::encode(&[row]).unwrap());
    let rows =
        json!({ "schema": [{ "keyspace": "k", "type": "", "name": "", "cql_stmt": "CREATE KEYSPACE k" }] });
    assert_eq!(bed.get(&path).await, rows);

    bed.fake.bucket.put(key(&TaskId::NIL.to_string()), "of another task");
    let (status, text, _) = bed.refused(Method::GET, &path, Value::Null).await;
    assert!(status == 400 && text.starts_with("multiple cql schema files found"), "{text}");
    assert_eq!(bed.get(&format!("{path}&query_cluster_id={id}&query_task_id={TASK}")).await, rows);
    let (_, text, _) =
        bed.refused(Method::GET, &format!("{path}&query_cluster_id={TASK}"), Value::Null).await;
    assert!(text.starts_with("no cql schema file found in backup location"), "{text}");
    for (query, text) in [
        ("?location=s3:b", "missing snapshot tag"),
        ("?snapshot_tag=sm_20260101020000UTC&location=s3:a,s3:b", "exactly one location"),
        ("?snapshot_tag=x&location=s3:b", "not a Scylla Manager snapshot tag"),
    ] {
        let path = format!("/cluster/prod/backups/schema{query}");
        let (status, message, _) = bed.refused(Method::GET, &path, Value::Null).await;
        assert!(status == 400 && message.contains(text), "{message}");
    }
}

/// D2.
#[tokio::test(start_paused = true)]
async fn only_snapshots_of_ours_are_deleted_from_nodes_that_are_up() {
    let bed = Bed::new().await;
    bed.add(cluster("prod")).await;
    let tags = [OLD, "mine", "sm_2026UTC", NEW];
    for node in ["192.0.2.11", "192.0.2.12", "192.0.2.21"] {
        bed.fake.node(node).change(|n| n.snapshots = tags.iter().map(ToString::to_string).collect());
    }
    bed.fake.node("192.0.2.12").change(|n| n.live = false);
    let path = "/cluster/prod/backups/local_snapshots";
    assert_eq!(bed.call(Method::DELETE, path, Value::Null).await.0, 200);
    let left = |node: &str| bed.fake.node(node).get().snapshots.into_iter().collect::<Vec<_>>();
    assert_eq!(left("192.0.2.11"), ["mine", "sm_2026UTC"]);
    assert_eq!(left("192.0.2.21"), ["mine", "sm_2026UTC"]);
    assert_eq!(left("192.0.2.12").len(), 4);

    bed.fake.node("192.0.2.21").change(|n| n.agent = false);
    let (status, text, _) = bed.refused(Method::DELETE, path, Value::Null).await;
    assert!(status == 500 && text.starts_with("delete local snapshots: 192.0.2.21: "), "{text}");
}
