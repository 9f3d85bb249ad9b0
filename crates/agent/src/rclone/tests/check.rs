//! `operations/check-permissions` (spec agent.md 2.6.10) and the subcommand's way in.

use std::sync::Arc;

use serde_json::json;

use super::bed::Bed;
use super::object_store::FakeStore;
use crate::config::Config;

const CALL: &str = "operations/check-permissions";

#[tokio::test]
async fn nothing_is_left_behind() {
    let bed = Bed::new();
    let params = json!({"fs": "localstorage:b", "remote": ".permission-check/cluster/x/y"});
    assert_eq!(bed.call(CALL, params).await, json!({}));
    assert_eq!(std::fs::read_dir(bed.path("backups/b/.permission-check/cluster/x/y")).unwrap().count(), 0);
}

#[tokio::test]
async fn each_step_is_named_when_it_fails() {
    for (broken, status, message) in [
        ("put", 400, "operation put: the specified bucket \"b\" does not exist (code:NoSuchBucket)"),
        ("list", 500, "operation list: "),
        ("open", 500, "operation open: "),
        ("remove", 500, "operation remove: "),
    ] {
        let bed = Bed::with_store(Arc::new(FakeStore { broken: Some(broken), ..FakeStore::default() }));
        let (found, text) = bed.refused(CALL, json!({"fs": "fake:b", "remote": "d"})).await;
        // Providers other than s3 answer 400 whatever the step.
        let status = if status == 500 { 400 } else { status };
        assert_eq!(found, status, "{broken}: {text}");
        assert!(text.starts_with(message), "{broken}: {text}");
    }
}

#[tokio::test]
async fn retention_is_refused_under_the_name_of_its_step() {
    let bed = Bed::new();
    for (key, value, message) in [
        (
            "retentionMode",
            json!("unlocked"),
            "operation set-retention-lock: backend \"localstorage\" does not support retention lock",
        ),
        (
            "eventBasedHold",
            json!(true),
            "operation event-based-hold: backend \"localstorage\" does not support event based hold",
        ),
    ] {
        let mut params = json!({"fs": "localstorage:b"});
        params[key] = value;
        assert_eq!(bed.refused(CALL, params).await, (400, message.to_owned()));
        assert!(!bed.exists("backups/b"), "{key}");
    }
}

#[tokio::test]
async fn a_dead_endpoint_is_reported_at_once() {
    let mut config = Config::default();
    config.s3.endpoint = Some("http://127.0.0.1:1".into());
    config.s3.access_key_id = crate::config::Secret::new("id");
    config.s3.secret_access_key = crate::config::Secret::new("secret");
    let bed = Bed::with_config(config);
    let start = std::time::SystemTime::now();
    let (status, message) = bed.refused(CALL, json!({"fs": "s3:bucket", "remote": "d"})).await;
    assert!(start.elapsed().unwrap().as_secs() < 5);
    assert!(status == 503 && message.starts_with("operation put: "), "{message}");
}
