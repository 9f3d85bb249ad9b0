//! `operations/list` (spec agent.md 2.6.8).

use std::sync::Arc;

use axum::body::{Body, Bytes};
use futures::StreamExt as _;
use http::header;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::bed::{Bed, json_request};
use super::object_store::{FakeStore, file};

const CALL: &str = "operations/list";

async fn names(bed: &Bed, params: Value) -> Vec<String> {
    let reply = bed.call(CALL, params).await;
    reply["list"].as_array().unwrap().iter().map(|item| item["Path"].as_str().unwrap().to_owned()).collect()
}

/// The pieces of a body; the last may be an error.
async fn pieces(bed: &Bed, params: Value) -> (http::HeaderMap, Vec<Result<Bytes, axum::Error>>) {
    let reply = bed.router.clone().oneshot(json_request(CALL, &params)).await.unwrap();
    let (head, body) = reply.into_parts();
    assert_eq!(head.status, 200);
    (head.headers, Body::into_data_stream(body).collect().await)
}

#[tokio::test]
async fn items_have_the_known_keys() {
    let bed = Bed::new();
    bed.write("data/ks/t/m.json.gz", "123");
    let params = |opt: Value| json!({"fs": "data:ks", "remote": "", "opt": opt});
    let reply = bed.call(CALL, params(json!({"recurse": true, "noModTime": true}))).await;
    let expected = json!({"list": [
        {"Path": "t", "Name": "t", "Size": -1, "ModTime": "", "IsDir": true, "MimeType": "inode/directory"},
        {"Path": "t/m.json.gz", "Name": "m.json.gz", "Size": 3, "ModTime": "", "IsDir": false, "MimeType": "application/gzip"},
    ]});
    assert_eq!(reply, expected);
    let reply = bed.call(CALL, params(json!(r#"{"noMimeType":true}"#))).await;
    assert_eq!(reply["list"][0].get("MimeType"), None);
    let time = reply["list"][0]["ModTime"].as_str().unwrap();
    assert!(chrono::DateTime::parse_from_rfc3339(time).is_ok(), "{time}");
}

#[tokio::test]
async fn hashes_come_when_asked_for() {
    let bed = Bed::with_store(FakeStore::listing(1, false));
    let params = |show: bool| json!({"fs": "fake:b", "remote": "", "opt": {"showHash": show}});
    let reply = bed.call(CALL, params(true)).await;
    assert_eq!(reply["list"][0]["Hashes"], json!({"MD5": "ab".repeat(16)}));
    assert_eq!(bed.call(CALL, params(false)).await["list"][0].get("Hashes"), None);
}

#[tokio::test]
async fn options_select_files() {
    let bed = Bed::new();
    let old = "b.sm_20230114183231UTC";
    for name in ["a", old, "d/c"] {
        bed.write(&format!("data/ks/{name}"), "x");
    }
    let list = |opt: Value, more: Value| {
        let mut params = json!({"fs": "data:ks", "remote": "", "opt": opt});
        params.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        params
    };
    for (opt, more, expected) in [
        (json!({}), json!({}), vec!["a", old, "d"]),
        (json!({"filesOnly": true}), json!({}), vec!["a", old]),
        (json!({"dirsOnly": true}), json!({}), vec!["d"]),
        (json!({"recurse": true, "filesOnly": true}), json!({}), vec!["a", old, "d/c"]),
        (json!({"recurse": true}), json!({"newestOnly": true}), vec!["a", "d", "d/c"]),
        (json!({"recurse": true}), json!({"versionedOnly": true}), vec![old]),
        (json!({}), json!({"remote": "d"}), vec!["d/c"]),
        (json!({}), json!({"remote": "/d/"}), vec!["d/c"]),
    ] {
        assert_eq!(names(&bed, list(opt.clone(), more.clone())).await, expected, "{opt} {more}");
    }
    for (opt, more) in [
        (json!({}), json!({"newestOnly": true, "versionedOnly": true})),
        (json!({"dirsOnly": true}), json!({"newestOnly": true})),
        (json!({"dirsOnly": true}), json!({"versionedOnly": true})),
        (json!({"showRetentionInfo": true}), json!({})),
        (json!({"showEventBasedHold": true}), json!({})),
    ] {
        assert_eq!(bed.refused(CALL, list(opt.clone(), more.clone())).await.0, 500, "{opt} {more}");
    }
    assert_eq!(bed.refused(CALL, list(json!({"recurse": "x"}), json!({}))).await.0, 400);
    assert_eq!(bed.refused(CALL, json!({"fs": "data:ks"})).await.0, 400);
}

#[tokio::test]
async fn what_is_no_local_directory() {
    let bed = Bed::new();
    bed.write("data/ks/file", "x");
    for (fs, remote, status) in [
        ("data:missing", "", 404),
        ("data:ks", "missing", 404),
        ("localstorage:missing", "", 404),
        ("data:ks/file", "", 400),
        ("data:ks", "file", 500),
    ] {
        assert_eq!(bed.refused(CALL, json!({"fs": fs, "remote": remote})).await.0, status, "{fs} {remote}");
    }
}

#[tokio::test]
async fn what_is_no_directory_of_an_object_store() {
    let store = FakeStore { objects: vec!["b/object"], ..FakeStore::default() };
    let bed = Bed::with_store(Arc::new(store));
    let list = |fs: &str, remote: &str| json!({"fs": fs, "remote": remote});
    assert_eq!(names(&bed, list("fake:b/prefix", "")).await, Vec::<String>::new());
    assert_eq!(bed.refused(CALL, list("fake:b/object", "")).await.0, 400);
    assert_eq!(names(&bed, list("fake:b", "object")).await, Vec::<String>::new());
    let filtered = FakeStore { objects: vec!["b/object"], entries: vec![file("x")], broken: None };
    let bed = Bed::with_store(Arc::new(filtered));
    let params = json!({"fs": "fake:b/object", "remote": "", "versionedOnly": true});
    assert_eq!(names(&bed, params).await, Vec::<String>::new());
    let bed = Bed::with_store(FakeStore::listing(0, true));
    let (status, message) = bed.refused("operations/list", list("fake:b", "")).await;
    assert!(status == 404 && message.contains("NoSuchBucket"), "{message}");
}

#[tokio::test]
async fn two_hundred_items_are_the_limit_of_one_piece() {
    for files in [0, 199, 200, 399, 400, 1000] {
        let bed = Bed::with_store(FakeStore::listing(files, false));
        let (headers, pieces) = pieces(&bed, json!({"fs": "fake:b", "remote": ""})).await;
        let text: Vec<u8> = pieces
            .into_iter()
            .map(Result::unwrap)
            .inspect(|piece| assert!(!piece.is_empty()))
            .fold(Vec::new(), |mut all, piece| {
                all.extend_from_slice(&piece);
                all
            });
        let whole = files < 200;
        assert_eq!(headers.contains_key(header::CONTENT_LENGTH), whole, "{files}");
        assert_eq!(headers.contains_key("x-rclone-jobid"), whole, "{files}");
        assert!(text.ends_with(b"]}\n"), "{files}");
        let list: Value = serde_json::from_slice(&text).unwrap();
        let names: Vec<_> =
            list["list"].as_array().unwrap().iter().map(|i| i["Name"].as_str().unwrap()).collect();
        assert_eq!(names, (0..files).map(|i| format!("f{i:05}")).collect::<Vec<_>>(), "{files}");
    }
}

#[tokio::test]
async fn a_real_directory_is_streamed_completely() {
    let bed = Bed::new();
    for i in 0..1000 {
        bed.write(&format!("data/ks/t/f{i:04}"), "");
    }
    let listed = names(&bed, json!({"fs": "data:ks/t", "remote": "", "opt": {"filesOnly": true}})).await;
    assert_eq!(listed, (0..1000).map(|i| format!("f{i:04}")).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_listing_that_fails_early_is_an_error() {
    for files in [0, 1, 199] {
        let bed = Bed::with_store(FakeStore::listing(files, true));
        assert_eq!(bed.refused(CALL, json!({"fs": "fake:b", "remote": ""})).await.0, 404, "{files}");
    }
}

#[tokio::test]
async fn a_listing_that_fails_late_breaks_off() {
    for files in [200, 399, 400, 1000] {
        let bed = Bed::with_store(FakeStore::listing(files, true));
        let (_, pieces) = pieces(&bed, json!({"fs": "fake:b", "remote": ""})).await;
        let (last, before) = pieces.split_last().unwrap();
        assert!(last.is_err(), "{files}: {last:?}");
        let text: Vec<u8> = before.iter().flat_map(|piece| piece.as_ref().unwrap().to_vec()).collect();
        assert!(serde_json::from_slice::<Value>(&text).is_err(), "{files}");
    }
}
