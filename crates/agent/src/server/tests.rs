//! The API as a manager sees it, next to a node that echoes what it gets.

use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use futures::stream;
use http::{Method, Request, header};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tokio::time::Instant;
use tower::ServiceExt as _;

use crate::node_info::CAPABILITIES;
use crate::testing::{Answer, Node, call, request, send};

#[tokio::test(start_paused = true)]
async fn only_ping_and_version_answer_without_a_token() {
    let node = Node::new();
    let agent = node.agent().await;
    for (path, status) in [
        ("/ping", 204),
        ("/version", 200),
        ("/agent/node_info", 401),
        ("/agent/rclone/core/bwlimit", 401),
        ("/agent/unknown", 401),
        ("/metrics", 401),
        ("/storage_service/keyspaces", 401),
        ("/ping/", 401),
        ("/", 401),
    ] {
        for token in [None, Some("Bearer wrong")] {
            let mut request = Request::get(path);
            if let Some(token) = token {
                request = request.header(header::AUTHORIZATION, token);
            }
            let start = Instant::now();
            let answer = send(&agent, request.body(Body::empty()).unwrap()).await;
            assert_eq!(answer.status, status, "{path}");
            let penalty = if status == 401 { Duration::from_secs(1) } else { Duration::ZERO };
            assert_eq!(start.elapsed(), penalty, "{path}");
            if status == 401 {
                assert_eq!(answer.text(), r#"{"message":"unauthorized","code":401}"#);
            }
        }
    }
    let version = call(&agent, Method::GET, "/version").await;
    assert_eq!(version.json(), json!({ "version": common::version::VERSION }));
    assert!(call(&agent, Method::GET, "/ping").await.body.is_empty());
}

#[tokio::test]
async fn known_paths_refuse_other_methods_and_unknown_ones_go_to_scylla() {
    let agent = Node::new().agent().await;
    for (method, path, allow) in [
        ("POST", "/ping", "GET"),
        ("HEAD", "/ping", "GET"),
        ("HEAD", "/version", "GET"),
        ("POST", "/agent/node_info", "GET"),
        ("HEAD", "/agent/node_info", "GET"),
        ("OPTIONS", "/agent/node_info", "GET"),
        ("PUT", "/agent/pin_cpu", "GET, POST, DELETE"),
        ("HEAD", "/agent/pin_cpu", "GET, POST, DELETE"),
        ("GET", "/agent/terminate", "POST"),
        ("DELETE", "/agent/free_os_memory", "POST"),
        ("POST", "/agent/cloud/metadata", "GET"),
        ("GET", "/agent/rclone/core/bwlimit", "POST"),
    ] {
        let answer = call(&agent, method.parse().unwrap(), path).await;
        assert_eq!((answer.status, answer.header(header::ALLOW)), (405, allow), "{method} {path}");
        assert_eq!(answer.body.is_empty(), !path.starts_with("/agent/rclone/"), "{method} {path}");
    }
    for path in [
        "/agent",
        "/agent/",
        "/agent/unknown",
        "/agent/node_info/",
        "/agent/cloud",
        "/agent/rclone",
        "/ping/",
        "/metric",
        "/",
    ] {
        let answer = call(&agent, Method::PUT, path).await;
        assert_eq!((answer.status, answer.header("x-scylla")), (418, "yes"), "{path}");
        assert_eq!(answer.json()["uri"], format!("http://0.0.0.0:10000{path}"), "{path}");
    }
}

#[tokio::test]
async fn requests_reach_scylla_as_they_are_but_without_the_token() {
    let agent = Node::new().agent().await;
    let mut request = request(Method::PATCH, "/a%2Fb/../c;d?x=1&x=%20&y");
    *request.body_mut() = Body::from("content");
    for (name, value) in [
        ("x-own", "kept"),
        ("connection", "x-hop"),
        ("x-hop", "gone"),
        ("te", "gone"),
        ("host", "agent:10001"),
    ] {
        request.headers_mut().insert(name, value.parse().unwrap());
    }
    let seen = send(&agent, request).await.json();
    let expected = json!({
        "method": "PATCH",
        "uri": "http://0.0.0.0:10000/a%2Fb/../c;d?x=1&x=%20&y",
        "headers": {"host": "0.0.0.0:10000", "x-own": "kept", "x-forwarded-for": "10.9.9.9"},
        "body": "content",
    });
    assert_eq!(seen, expected);
    for (path, uri) in [
        ("/metrics", "http://10.0.0.1:9180/metrics"),
        ("/metrics?name=reactor", "http://10.0.0.1:9180/metrics?name=reactor"),
        ("/metrics/below?a=b", "http://10.0.0.1:9180/metrics?a=b"),
    ] {
        assert_eq!(call(&agent, Method::GET, path).await.json()["uri"], uri, "{path}");
    }
}

#[tokio::test]
async fn a_node_that_is_down_is_a_bad_gateway() {
    let node = Node::new();
    node.set("prometheus_port", json!(1));
    let agent = node.agent().await;
    let answer = call(&agent, Method::GET, "/metrics").await;
    assert_eq!((answer.status, answer.body.len()), (502, 0));
}

#[tokio::test]
async fn an_answer_that_breaks_off_does_not_end_cleanly() {
    let mut node = Node::new();
    node.rest = Router::new().fallback(|| async {
        let pieces = [Ok(Bytes::from_static(b"[1,")), Err(std::io::Error::other("reset"))];
        Body::from_stream(stream::iter(pieces))
    });
    let agent = node.agent().await;
    let response = agent.router().oneshot(request(Method::GET, "/x")).await.unwrap();
    assert_eq!(response.status(), 200);
    assert!(response.into_body().collect().await.is_err());
}

/// Node info without what depends on this machine.
fn stable(answer: &Answer, node: &Node) -> Value {
    assert_eq!(answer.status, 200, "{}", answer.text());
    let mut info = answer.json();
    let fields = info.as_object_mut().unwrap();
    for name in ["memory_total", "cpu_count", "uptime", "storage_size"] {
        assert!(fields.remove(name).unwrap().as_u64().unwrap() > 0, "{name}");
    }
    assert_eq!(fields.remove("agent_version").unwrap(), common::version::VERSION);
    assert_eq!(fields.remove("data_directory").unwrap(), node.path("data").to_str().unwrap());
    info
}

#[tokio::test]
async fn node_info_has_the_wire_form_of_the_original() {
    let node = Node::new();
    let agent = node.agent().await;
    let mut info = stable(&call(&agent, Method::GET, "/agent/node_info").await, &node);
    let capabilities = info.as_object_mut().unwrap().remove("capabilities").unwrap();
    assert_eq!(capabilities, json!(CAPABILITIES));
    let old_release = json!({
        "api_address": "0.0.0.0",
        "api_port": "10000",
        "broadcast_address": "192.0.2.1",
        "broadcast_rpc_address": "192.0.2.2",
        "listen_address": "10.0.0.1",
        "rpc_address": "10.0.0.2",
        "prometheus_address": "",
        "prometheus_port": "9180",
        "native_transport_port": "9042",
        "native_transport_port_ssl": "9142",
        "rpc_port": "9160",
        "alternator_address": "",
        "alternator_port": "",
        "alternator_https_port": "",
        "alternator_enforce_authorization": false,
        "client_encryption_enabled": true,
        "client_encryption_require_auth": false,
        "cql_password_protected": true,
        "sstable_uuid_format": false,
        "consistent_cluster_management": false,
        "enable_tablets": false,
        "scylla_version": "2025.1.0-0.2025",
        "rclone_backend_config": {"s3": {"endpoint": "", "region": "eu-west-1"}, "gcs": {"endpoint": ""}},
    });
    assert_eq!(info, old_release);
    for (name, value) in [
        ("alternator_address", json!("10.0.0.3")),
        ("alternator_port", json!(8000)),
        ("alternator_https_port", json!(8043)),
        ("alternator_enforce_authorization", json!(true)),
        ("uuid_sstable_identifiers_enabled", json!(true)),
        ("consistent_cluster_management", json!(true)),
        ("enable_tablets", json!(true)),
        ("authenticator", json!("AllowAllAuthenticator")),
        ("client_encryption_options", json!({"enabled": false})),
        ("object_storage_endpoints", json!({"s3.eu": r#"{"port":443,"use_https":true,"type":"s3"}"#})),
    ] {
        node.set(name, value);
    }
    let info = stable(&call(&agent, Method::GET, "/agent/node_info").await, &node);
    for (name, value) in [
        ("alternator_address", json!("10.0.0.3")),
        ("alternator_port", json!("8000")),
        ("alternator_https_port", json!("8043")),
        ("alternator_enforce_authorization", json!(true)),
        ("sstable_uuid_format", json!(true)),
        ("consistent_cluster_management", json!(true)),
        ("enable_tablets", json!(true)),
        ("cql_password_protected", json!(false)),
        ("client_encryption_enabled", json!(false)),
    ] {
        assert_eq!(info[name], value, "{name}");
    }
    let endpoint = &info["object_storage_endpoints"]["s3.eu"];
    assert_eq!((&endpoint["name"], &endpoint["port"]), (&json!("s3.eu"), &json!(443)));
}

#[tokio::test]
async fn a_fact_that_cannot_be_read_fails_node_info() {
    let node = Node::new();
    let agent = node.agent().await;
    for (name, words) in
        [("rpc_port", "No such config entry: rpc_port"), ("data_file_directories", "data_file_directories")]
    {
        let node_info = || call(&agent, Method::GET, "/agent/node_info");
        let before = node.values.lock().unwrap()[name].clone();
        node.set(name, None);
        let answer = node_info().await;
        node.set(name, before);
        assert_eq!(answer.status, 500);
        let body = answer.json();
        let message = body["message"].as_str().unwrap();
        assert!(
            message.starts_with("unexpected error, consult logs: ") && message.contains(words),
            "{message}"
        );
        assert_eq!((&body["details"], &body["trace_id"]), (&json!(""), &json!("")));
        assert_eq!(node_info().await.status, 200);
    }
    std::fs::remove_dir(node.path("data")).unwrap();
    let message = call(&agent, Method::GET, "/agent/node_info").await.text().to_owned();
    assert!(message.contains("get size of the file system of"), "{message}");
}

#[tokio::test]
async fn what_is_announced_is_routed() {
    use common::api::agent::capability;
    for name in CAPABILITIES {
        let path = match name {
            capability::JOB_FILES => "job/files",
            capability::VERIFY => "operations/verify",
            // Parameter and behaviour of a call that the original has too.
            capability::OVERWRITE | capability::SUFFIX_SAFE => "sync/movedir",
            other => panic!("{other} has no call"),
        };
        assert!(crate::rclone::call_path(path).is_some(), "{name}");
    }
}

#[tokio::test]
async fn small_calls_of_the_agent() {
    let node = Node::new();
    let agent = node.agent().await;
    let cpus = call(&agent, Method::GET, "/agent/pin_cpu").await.json();
    assert!(!cpus["cpu"].as_array().unwrap().is_empty());
    for (method, path) in [
        (Method::POST, "/agent/free_os_memory"),
        // There is nothing that says which CPUs to use.
        (Method::POST, "/agent/pin_cpu"),
        (Method::DELETE, "/agent/pin_cpu"),
    ] {
        let answer = call(&agent, method, path).await;
        assert_eq!((answer.status, answer.body.len()), (200, 0), "{path}");
    }
    let metadata = call(&agent, Method::GET, "/agent/cloud/metadata").await.json();
    assert_eq!(metadata, json!({"cloud_provider": "", "instance_type": ""}));
    assert!(!agent.state().stop.is_cancelled());
    assert_eq!(call(&agent, Method::POST, "/agent/terminate").await.status, 200);
    assert!(agent.state().stop.is_cancelled());
}

#[tokio::test]
async fn requests_are_counted_under_few_names() {
    let agent = Node::new().agent().await;
    for (method, path) in [
        (Method::GET, "/ping"),
        (Method::GET, "/storage_service/a"),
        (Method::GET, "/storage_service/b"),
        (Method::POST, "/agent/rclone/core/transfers"),
        (Method::POST, "/agent/rclone/rc/noop"),
    ] {
        call(&agent, method, path).await;
    }
    let text = String::from_utf8(agent.state().metrics.render().unwrap()).unwrap();
    for line in [
        r#"http_status_code{code="204",method="GET",path="/ping"} 1"#,
        r#"http_status_code{code="418",method="GET",path="/*"} 2"#,
        r#"http_status_code{code="200",method="POST",path="/agent/rclone/core/transfers"} 1"#,
        r#"http_status_code{code="404",method="POST",path="/agent/rclone/*"} 1"#,
        r#"unexposed_access{addr="10.9.9.9",path="#,
    ] {
        assert!(text.contains(&format!("scylla_manager_agent_{line}")), "{line} is missing in {text}");
    }
}
