//! What all calls have in common: parameters, answers, refusals (spec agent.md 2.2, 2.4, 2.5).

use std::net::SocketAddr;

use axum::body::Body;
use axum::extract::ConnectInfo;
use http::{Method, Request, header};
use serde_json::{Value, json};

use super::bed::Bed;

fn request(method: Method, path_and_query: &str, media: &str, body: impl Into<Body>) -> Request<Body> {
    Request::builder()
        .method(method)
        .uri(format!("/agent/rclone/{path_and_query}"))
        .header(header::CONTENT_TYPE, media)
        .body(body.into())
        .unwrap()
}

#[tokio::test]
async fn form_query_and_json_are_merged() {
    let form = "application/x-www-form-urlencoded";
    let json = "application/json";
    for (query, media, body, set) in [
        ("", form, "rate=1M", "1M"),
        ("?rate=2M", form, "rate=1M", "2M"),
        ("?rate=2M&rate=3M", "text/plain", "rate=1M", "3M"),
        ("?rate=2M", json, r#"{"rate":"4M"}"#, "4M"),
        ("?rate=2M", json, "", "2M"),
        ("?rate=5M%3A6M", json, "{}", "5M:6M"),
    ] {
        let bed = Bed::new();
        let reply = bed.send(request(Method::POST, &format!("core/bwlimit{query}"), media, body)).await;
        assert_eq!(reply.json()["rate"], set, "{query} {media} {body}");
    }
}

#[tokio::test]
async fn answers_are_json_with_the_id_of_no_job() {
    let bed = Bed::new();
    let reply = bed.post("core/stats-delete", json!({})).await;
    assert_eq!((reply.status.as_u16(), &reply.body[..]), (200, &b"{}\n"[..]));
    assert_eq!(reply.header(header::CONTENT_TYPE), Some("application/json"));
    assert_eq!(reply.header("x-rclone-jobid"), Some("0"));
}

#[tokio::test]
async fn errors_echo_the_input() {
    let bed = Bed::new();
    let reply = bed.post("operations/fileinfo", json!({"fs": "data:ks", "remote": "x"})).await;
    assert_eq!(reply.header(header::CONTENT_TYPE), Some("application/json"));
    assert_eq!(reply.header("x-rclone-jobid"), None);
    let expected = json!({
        "status": 404, "message": "object not found: ks/x", "path": "operations/fileinfo",
        "input": {"fs": "data:ks", "remote": "x"},
    });
    assert_eq!(reply.json(), expected);
}

#[tokio::test]
async fn broken_requests_are_told_what_is_wrong() {
    let bed = Bed::new();
    let json = "application/json";
    let long = format!("{{\"fs\":\"data:\",\"x\":\"{}\"}}", "x".repeat(1 << 20));
    for (method, query, media, body, status, message, input) in [
        (Method::POST, "?a=1", json, "{", 400, "read input JSON: ", json!({"a": "1"})),
        (Method::POST, "", json, "[1]", 400, "read input JSON: ", json!({})),
        (Method::POST, "?a=1", json, &long, 400, "read input JSON: ", json!({"a": "1"})),
        (Method::POST, "?a=1", "a/b/c", "", 400, "failed to parse Content-Type", Value::Null),
        (Method::GET, "?fs=data:", json, "", 405, "method \"GET\" not allowed", Value::Null),
        (Method::PUT, "", json, "{}", 405, "method \"PUT\" not allowed", Value::Null),
        (
            Method::POST,
            "?_async=maybe",
            json,
            "{}",
            400,
            "invalid value of key \"_async\"",
            json!({"_async": "maybe"}),
        ),
        (Method::POST, "", json, "{}", 400, "Didn't find key \"fs\" in input", json!({})),
        (Method::POST, "", json, r#"{"fs":5}"#, 400, "invalid value of key \"fs\"", json!({"fs": 5})),
    ] {
        let sent = request(method, &format!("operations/about{query}"), media, body.to_owned());
        let reply = bed.send(sent).await;
        let (found, text) = reply.error();
        assert!(text.starts_with(message), "{message}: {text}");
        assert_eq!((found, &reply.json()["input"]), (status, &input), "{message}");
        let media = if input.is_null() { "text/plain; charset=utf-8" } else { json };
        assert_eq!(reply.header(header::CONTENT_TYPE), Some(media), "{message}");
        assert_eq!(reply.header(header::ALLOW), (status == 405).then_some("POST"), "{message}");
    }
}

#[tokio::test]
async fn calls_that_do_not_exist_are_counted() {
    let bed = Bed::new();
    let absent = ["job/status", "core/stats", "operations/mkdir", "sync/sync", "rc/noop", "config/dump"];
    for call in absent.into_iter().chain(["operations/list/", "operations", "", "../ping", "rc/anything"]) {
        let mut sent = request(Method::POST, call, "application/json", "{}");
        sent.extensions_mut().insert(ConnectInfo::<SocketAddr>("10.0.0.9:4711".parse().unwrap()));
        let reply = bed.send(sent).await;
        assert_eq!(reply.status, 404, "{call}");
        assert_eq!(reply.body, "{\"message\":\"Not found\",\"status\":404}\n", "{call}");
        assert_eq!(reply.header(header::CONTENT_TYPE), Some("text/plain; charset=utf-8"));
    }
    let text = String::from_utf8(bed.metrics.render().unwrap()).unwrap();
    for line in [
        r#"unexposed_access{addr="10.0.0.9",path="rc/noop"} 1"#,
        r#"unexposed_access{addr="10.0.0.9",path="other"} 5"#,
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
}

#[tokio::test]
async fn every_call_of_the_original_is_there() {
    let bed = Bed::new();
    let calls = "core/bwlimit core/stats-delete core/stats-reset core/transfers job/info job/progress job/stop \
                 operations/about operations/cat operations/check-permissions operations/copyfile \
                 operations/deletefile operations/deletepaths operations/event-based-hold operations/fileinfo \
                 operations/list operations/movefile operations/purge operations/put operations/retention-lock \
                 sync/copydir sync/copypaths sync/movedir job/files operations/verify";
    for call in calls.split_whitespace() {
        let reply = bed.post(call, json!({})).await;
        assert_ne!(&reply.body[..], b"{\"message\":\"Not found\",\"status\":404}\n", "{call}");
        let path = crate::rclone::call_path(call).unwrap();
        assert_eq!(path, format!("/agent/rclone/{call}"));
    }
    assert_eq!(crate::rclone::call_path("rc/noop"), None);
}

#[tokio::test]
async fn places_outside_of_the_providers_are_refused() {
    let bed = Bed::new();
    bed.write("secret", "x");
    for (fs, remote, status, message) in [
        ("/etc", "passwd", 400, "invalid provider /etc in fs param"),
        (":local:/etc", "passwd", 400, "invalid provider :local:/etc in fs param"),
        ("gcs:b", "x", 404, "not configured"),
        ("nowhere:b", "x", 404, "not configured"),
        ("data:x/../..", "secret", 404, "accessing path outside of root"),
        ("data:ks", "../../secret", 400, "not accepted"),
        ("data:ks", "a/./b", 400, "not accepted"),
        ("s3:b/../c", "x", 400, "not accepted"),
        ("data:../secret", "", 404, "object not found: secret"),
    ] {
        let params = json!({"fs": fs, "remote": remote});
        for call in ["operations/fileinfo", "operations/deletefile", "operations/list"] {
            let (found, text) = bed.refused(call, params.clone()).await;
            let found_nothing = call == "operations/list" && found == 404;
            assert!(text.contains(message) || found_nothing, "{call} {fs} {remote}: {text}");
            assert_eq!(found, status, "{call} {fs} {remote}: {text}");
        }
    }
    assert!(bed.exists("secret"));
}

#[tokio::test]
async fn links_lead_nowhere() {
    let bed = Bed::new();
    bed.write("secret/x.crc32", "x");
    bed.write("data/ks/a", "a");
    std::os::unix::fs::symlink(bed.path("secret"), bed.path("data/ks/link")).unwrap();
    let target = json!({"fs": "data:ks", "remote": "link/x.crc32"});
    for call in ["operations/cat", "operations/fileinfo", "operations/deletefile"] {
        let status = bed.refused(call, target.clone()).await.0;
        assert!(matches!(status, 400 | 404), "{call}: {status}");
    }
    assert_eq!(bed.refused("operations/purge", json!({"fs": "data:ks", "remote": "link"})).await.0, 404);
    let list = bed.call("operations/list", json!({"fs": "data:ks", "remote": ""})).await;
    assert_eq!(list["list"].as_array().unwrap().len(), 1);
    assert!(bed.exists("secret/x.crc32"));
}

#[tokio::test]
async fn calls_are_restricted_to_what_they_are_for() {
    let bed = Bed::new();
    for (call, params) in [
        ("operations/cat", json!({"fs": "s3:b", "remote": "backup/sst/me-1-big-Data.db"})),
        ("operations/cat", json!({"fs": "s3:b/backup/meta/x"})),
        ("operations/cat", json!({"fs": "data:ks", "remote": "t/manifest.json"})),
        (
            "operations/movefile",
            json!({"srcFs": "s3:b", "srcRemote": "d/x", "dstFs": "s3:b", "dstRemote": "e/x"}),
        ),
        (
            "operations/movefile",
            json!({"srcFs": "s3:b", "srcRemote": "d/x", "dstFs": "data:b", "dstRemote": "d/x"}),
        ),
        ("sync/movedir", json!({"srcFs": "s3:b", "srcRemote": "d", "dstFs": "data:b", "dstRemote": "d"})),
        ("sync/copydir", json!({"srcFs": "s3:b", "srcRemote": "d", "dstFs": "s3:c", "_async": true})),
        ("sync/copypaths", json!({"srcFs": "data:b", "srcRemote": "d", "dstFs": "s3:b", "paths": []})),
    ] {
        assert_eq!(
            bed.refused(call, params.clone()).await,
            (403, "permission denied".into()),
            "{call} {params}"
        );
    }
}

#[tokio::test]
async fn what_has_no_background_form_says_so() {
    let bed = Bed::new();
    for call in ["operations/list", "operations/cat", "operations/put"] {
        let reply = bed.send(request(Method::POST, &format!("{call}?_async=true&fs=data:"), "a/b", "")).await;
        assert_eq!(reply.error().0, 400, "{call}");
    }
}
