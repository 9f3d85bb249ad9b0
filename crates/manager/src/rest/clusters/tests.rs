//! The cluster API over a whole manager whose agents live in memory.

use common::task::TaskType;
use http::Method;
use serde_json::{Value, json};

use crate::cluster::testing::TOKEN;
use crate::rest::testing::{Bed, cluster, with};

#[tokio::test(start_paused = true)]
async fn a_cluster_is_added_listed_changed_and_never_shows_a_secret() {
    let bed = Bed::new().await;
    assert_eq!(bed.get("/clusters/").await, json!([]));
    let secrets = json!({
        "username": "sm", "password": "secret-1",
        "alternator_access_key_id": "key", "alternator_secret_access_key": "secret-2",
    });
    let id = bed.add(with(cluster("prod"), secrets)).await;
    let stored = with(
        cluster("prod"),
        json!({ "id": id, "labels": {}, "force_tls_disabled": false, "force_non_ssl_session_port": false }),
    );
    let set = json!({
        "username": "set", "password": "set",
        "alternator_access_key_id": "set", "alternator_secret_access_key": "set",
    });
    assert_eq!(bed.get("/clusters").await, json!([with(stored.clone(), set.clone())]));
    assert_eq!(bed.get("/cluster/prod").await, stored);
    assert_eq!(bed.get(&format!("/cluster/{id}/")).await, stored);
    assert!(
        bed.metrics().contains(&format!(r#"scylla_manager_cluster_name{{cluster="{id}",name="prod"}} 0"#))
    );

    let tasks = bed.get("/cluster/prod/tasks?type=healthcheck").await;
    let mut checks: Vec<_> = tasks.as_array().unwrap().iter().map(|t| t["name"].as_str().unwrap()).collect();
    checks.sort_unstable();
    assert_eq!(checks, ["alternator", "cql", "rest"]);

    // Renamed, with a new password only for CQL; nothing needs a connectivity check.
    bed.fake.take_calls();
    let change = with(stored.clone(), json!({ "name": "live", "username": "sm", "password": "secret-3" }));
    let (status, _, echo) = bed.call(Method::PUT, "/cluster/prod", change).await;
    assert_eq!((status, &echo), (200, &with(stored.clone(), json!({ "name": "live" }))));
    assert_eq!(bed.fake.take_calls(), [] as [&str; 0]);
    let kept = bed.manager.store.secrets(id.parse().unwrap()).await.unwrap();
    assert_eq!(kept.cql.unwrap().password.expose(), "secret-3");
    assert_eq!(kept.alternator.unwrap().secret_access_key.expose(), "secret-2");
    assert!(bed.metrics().contains(r#"name="live""#) && !bed.metrics().contains(r#"name="prod""#));

    // Adding it again under its ID is an update.
    let again = with(cluster("third"), json!({ "id": id }));
    assert_eq!(bed.add(again).await, id);
    assert_eq!(bed.get("/clusters").await.as_array().unwrap().len(), 1);
    assert_eq!(bed.get(&format!("/cluster/{id}/tasks?type=healthcheck")).await.as_array().unwrap().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn refusals_say_what_and_where() {
    let bed = Bed::new().await;
    let id = bed.add(cluster("prod")).await;
    let nil = "00000000-0000-0000-0000-000000000001";
    for (method, path, body, status, message) in [
        (
            Method::POST,
            "/clusters",
            cluster("prod"),
            400,
            r#"create cluster: name "prod" is already taken, choose another one with --name"#.to_owned(),
        ),
        (
            Method::POST,
            "/clusters",
            cluster(nil),
            400,
            "create cluster: invalid cluster: name cannot be an UUID".to_owned(),
        ),
        (
            Method::PUT,
            "/cluster/prod",
            with(cluster("prod"), json!({ "password": "p" })),
            400,
            format!(r#"update cluster "{id}": invalid cluster: missing username"#),
        ),
        (
            Method::PUT,
            "/cluster/none",
            cluster("x"),
            404,
            r#"get resource: load cluster "none": not found"#.to_owned(),
        ),
        (
            Method::GET,
            "/cluster/no%20ne",
            Value::Null,
            404,
            r#"get resource: load cluster "no ne": not found"#.to_owned(),
        ),
        (
            Method::DELETE,
            "/cluster/prod?cql_creds=maybe",
            Value::Null,
            400,
            r#"malformed request: cql_creds is not a valid boolean: "maybe""#.to_owned(),
        ),
        (
            Method::PATCH,
            "/clusters",
            Value::Null,
            405,
            "method PATCH is not allowed for path /api/v1/clusters".to_owned(),
        ),
        (
            Method::GET,
            "/x",
            Value::Null,
            404,
            "find endpoint for path /api/v1/x - make sure api-url is correct".to_owned(),
        ),
    ] {
        let (got, text, details) = bed.refused(method, path, body).await;
        assert_eq!((got, text.as_str(), details.as_str()), (status, message.as_str(), ""), "{path}");
    }
    let (status, text, _) = bed.refused(Method::POST, "/clusters", json!("text")).await;
    assert!(status == 400 && text.starts_with("malformed request: "), "{text}");
}

#[tokio::test(start_paused = true)]
async fn every_live_node_must_answer_before_a_cluster_is_stored() {
    let bed = Bed::new().await;
    bed.fake.node("192.0.2.12").change(|n| n.token = "other".into());
    let (status, text, details) = bed.refused(Method::POST, "/clusters", cluster("prod")).await;
    assert_eq!(
        (status, text.as_str()),
        (
            500,
            "create cluster: connectivity check: 192.0.2.12: the agent refuses the auth token of this cluster, compare it with the agent's configuration: unauthorized"
        )
    );
    assert!(details.contains("--auth-token") && !details.contains("port"), "{details}");

    bed.fake.node("192.0.2.12").change(|n| n.agent = false);
    bed.fake.node("192.0.2.21").change(|n| n.agent = false);
    let (_, text, details) = bed.refused(Method::POST, "/clusters", cluster("prod")).await;
    assert!(text.contains("192.0.2.12: ") && text.contains("; 192.0.2.21: "), "{text}");
    assert!(details.contains("port 10001") && !details.contains("--auth-token"), "{details}");
    assert_eq!(bed.get("/clusters").await, json!([]));
    assert!(!bed.metrics().contains("cluster_name{"));

    // Nodes that the cluster itself believes to be down need not answer.
    for node in ["192.0.2.12", "192.0.2.21"] {
        bed.fake.node(node).change(|n| n.live = false);
    }
    let id = bed.add(cluster("prod")).await;

    // An update that changes the token is checked like a new cluster.
    let (status, text, _) =
        bed.refused(Method::PUT, "/cluster/prod", with(cluster("prod"), json!({ "auth_token": "x" }))).await;
    assert_eq!(status, 500);
    assert!(text.starts_with(&format!(r#"update cluster "{id}": connectivity check: "#)), "{text}");
    assert_eq!(bed.get("/cluster/prod").await["auth_token"], json!(TOKEN));
}

#[tokio::test(start_paused = true)]
async fn a_deleted_cluster_leaves_nothing_behind() {
    let bed = Bed::new().await;
    let credentials = json!({ "username": "u", "password": "p" });
    let id = bed.add(with(cluster("prod"), credentials)).await;
    let other = bed.add(cluster("other")).await;
    // Let the health checks run, so that their series exist.
    tokio::time::sleep(std::time::Duration::from_secs(125)).await;
    assert!(
        bed.metrics().contains(&format!(r#"healthcheck_rest_status{{cluster="{id}""#)),
        "{}",
        bed.metrics()
    );

    let (status, ..) = bed.call(Method::DELETE, "/cluster/prod?cql_creds=true", Value::Null).await;
    assert_eq!(status, 200);
    assert_eq!(bed.get("/clusters").await.as_array().unwrap().len(), 2);
    assert!(bed.manager.store.secrets(id.parse().unwrap()).await.unwrap().cql.is_none());

    let (status, _, body) = bed.call(Method::DELETE, &format!("/cluster/{id}"), Value::Null).await;
    assert_eq!((status, body), (200, Value::Null));
    assert_eq!(bed.refused(Method::GET, "/cluster/prod", Value::Null).await.0, 404);
    assert_eq!(bed.refused(Method::GET, &format!("/cluster/{id}/status"), Value::Null).await.0, 404);
    let tasks = bed.manager.store.all_tasks().await.unwrap();
    let of = |text: &str, deleted| {
        let tasks = tasks.iter().filter(|t| t.cluster_id.to_string() == text && t.deleted == deleted);
        tasks.filter(|t| t.task_type == TaskType::HealthCheck).count()
    };
    assert_eq!((of(&id, true), of(&id, false), of(&other, false)), (3, 0, 3));
    tokio::time::sleep(std::time::Duration::from_secs(125)).await;
    let metrics = bed.metrics();
    assert!(!metrics.contains(&id) && metrics.contains(&other));
    assert!(bed.manager.clusters.cached_nodes(id.parse().unwrap()).is_none());
    bed.add(cluster("prod")).await;
}

#[tokio::test(start_paused = true)]
async fn status_is_live_and_fails_as_a_whole_only_without_a_way_in() {
    let bed = Bed::new().await;
    let id = bed.add(cluster("prod")).await;
    let nodes = bed.get("/cluster/prod/status").await;
    assert_eq!(nodes.as_array().unwrap().len(), 3);
    assert_eq!((&nodes[0]["rest_status"], &nodes[0]["scylla_version"]), (&json!("UP"), &json!("2025.4.1")));
    for node in ["192.0.2.11", "192.0.2.12", "192.0.2.21"] {
        bed.fake.node(node).change(|n| n.agent = false);
    }
    bed.manager.clusters.forget(id.parse().unwrap());
    let (status, text, _) = bed.refused(Method::GET, "/cluster/prod/status", Value::Null).await;
    assert_eq!(status, 500);
    assert!(text.starts_with(&format!(r#"get cluster "{id}" status: unable to connect"#)), "{text}");
}
