//! Single files: facts, content, copies, deletions (spec agent.md 2.6.7, 2.6.9, 2.6.11, 2.6.14, 2.6.15).

use axum::body::{Body, Bytes};
use http::{Method, Request, header};
use serde_json::json;

use super::bed::{Bed, Reply};

async fn put(bed: &Bed, remote: &str, content: Body, length: Option<usize>) -> Reply {
    let mut request = Request::builder()
        .method(Method::POST)
        .uri(format!("/agent/rclone/operations/put?fs=localstorage:b&remote={remote}"))
        .header(header::CONTENT_TYPE, "application/octet-stream");
    if let Some(length) = length {
        request = request.header(header::CONTENT_LENGTH, length);
    }
    bed.send(request.body(content).unwrap()).await
}

#[tokio::test]
async fn about_tells_the_space_of_local_providers() {
    let bed = Bed::new();
    let about = bed.call("operations/about", json!({"fs": "data:"})).await;
    let number = |key: &str| about[key].as_u64().unwrap();
    assert!(number("total") >= number("used") && number("free") > 0, "{about}");
    assert_eq!(bed.refused("operations/about", json!({"fs": "s3:b"})).await.0, 500);
}

#[tokio::test]
async fn facts_of_a_file() {
    let bed = Bed::new();
    bed.write("data/ks/a", "12345");
    let info = bed.call("operations/fileinfo", json!({"fs": "data:ks", "remote": "a"})).await;
    assert_eq!(info["size"], 5);
    assert!(chrono::DateTime::parse_from_rfc3339(info["modTime"].as_str().unwrap()).is_ok(), "{info}");
    assert_eq!(bed.refused("operations/fileinfo", json!({"fs": "data:ks", "remote": "b"})).await.0, 404);
    assert_eq!(bed.refused("operations/fileinfo", json!({"fs": "data:", "remote": "ks"})).await.0, 400);
}

#[tokio::test]
async fn cat_sends_raw_bytes() {
    let bed = Bed::new();
    bed.write("backups/b/backup/meta/x", b"\x00\xff raw");
    let meta = |name: &str| json!({"fs": "localstorage:b", "remote": format!("backup/meta/{name}")});
    let reply = bed.post("operations/cat", meta("x")).await;
    assert_eq!((reply.status.as_u16(), &reply.body[..]), (200, &b"\x00\xff raw"[..]));
    assert_eq!(reply.header(header::CONTENT_TYPE), Some("application/octet-stream"));
    assert_eq!(reply.header(header::CONTENT_LENGTH), Some("6"));
    assert_eq!(reply.header("x-rclone-jobid"), None);
    assert_eq!(bed.refused("operations/cat", meta("missing")).await.0, 404);
}

#[tokio::test]
async fn put_stores_the_body_and_replaces_other_content() {
    let bed = Bed::new();
    for content in ["", "first", "other", "other", "longer than before"] {
        let reply = put(&bed, "d/e/f", Body::from(content), Some(content.len())).await;
        assert_eq!((reply.status.as_u16(), &reply.body[..]), (200, &b"{}\n"[..]), "{content}");
        assert_eq!(bed.read("backups/b/d/e/f"), content);
    }
}

#[tokio::test]
async fn put_stores_the_body_whatever_it_is_called() {
    let bed = Bed::new();
    for kind in ["application/json", "application/x-www-form-urlencoded", "text/plain", ""] {
        let content = format!("{{\"fs\":\"data:\",\"of\":{kind:?}}}");
        let request = Request::builder()
            .method(Method::POST)
            .uri("/agent/rclone/operations/put?fs=localstorage:b&remote=f")
            .header(header::CONTENT_TYPE, kind)
            .body(Body::from(content.clone()));
        let reply = bed.send(request.unwrap()).await;
        assert_eq!((reply.status.as_u16(), bed.read("backups/b/f")), (200, content), "{kind}");
    }
}

#[tokio::test]
async fn put_leaves_equal_content_alone() {
    let bed = Bed::new();
    put(&bed, "f", Body::from("same"), Some(4)).await;
    let inode =
        |bed: &Bed| std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(bed.path("backups/b/f")).unwrap());
    let before = inode(&bed);
    put(&bed, "f", Body::from("same"), Some(4)).await;
    assert_eq!(inode(&bed), before);
    put(&bed, "f", Body::from("else"), Some(4)).await;
    assert_ne!(inode(&bed), before);
}

#[tokio::test]
async fn put_takes_bodies_of_unknown_length_and_more_than_a_part() {
    let bed = Bed::new();
    let block = Bytes::from(vec![7; 1 << 20]);
    let blocks = futures::stream::iter((0..20).map(move |_| Ok::<_, std::io::Error>(block.clone())));
    assert_eq!(put(&bed, "big", Body::from_stream(blocks), None).await.status, 200);
    assert_eq!(std::fs::metadata(bed.path("backups/b/big")).unwrap().len(), 20 << 20);
}

#[tokio::test]
async fn put_that_breaks_off_changes_nothing() {
    let bed = Bed::new();
    put(&bed, "f", Body::from("before"), Some(6)).await;
    let broken = || {
        let pieces = [Ok(Bytes::from_static(b"x")), Err(std::io::Error::other("gone"))];
        Body::from_stream(futures::stream::iter(pieces))
    };
    assert_eq!(put(&bed, "f", broken(), None).await.status, 500);
    assert_eq!(put(&bed, "f", Body::from("short"), Some(50)).await.status, 500);
    assert_eq!(bed.read("backups/b/f"), "before");
    assert_eq!(std::fs::read_dir(bed.path("backups/b")).unwrap().count(), 1);
}

#[tokio::test]
async fn copyfile_copies_under_another_name() {
    let bed = Bed::new();
    bed.write("data/ks/a", "content");
    let copy = |from: &str, fs: &str, to: &str| json!({"srcFs": "data:ks", "srcRemote": from, "dstFs": fs, "dstRemote": to});
    for (fs, to, path) in [
        ("localstorage:b", "x/y", "backups/b/x/y"),
        ("data:other", "z", "data/other/z"),
        ("data:ks", "a", "data/ks/a"),
    ] {
        assert_eq!(bed.call("operations/copyfile", copy("a", fs, to)).await, json!({}));
        assert_eq!((bed.read(path), bed.read("data/ks/a")), ("content".into(), "content".into()));
    }
    bed.write("data/ks/a", "changed");
    bed.call("operations/copyfile", copy("a", "localstorage:b", "x/y")).await;
    assert_eq!(bed.read("backups/b/x/y"), "changed");
    assert_eq!(bed.refused("operations/copyfile", copy("missing", "localstorage:b", "x")).await.0, 404);
    assert_eq!(bed.call("operations/copyfile", copy("missing", "data:ks", "missing")).await, json!({}));
}

#[tokio::test]
async fn movefile_takes_the_source_away() {
    let bed = Bed::new();
    let mv = |from: (&str, &str), to: (&str, &str)| json!({"srcFs": from.0, "srcRemote": from.1, "dstFs": to.0, "dstRemote": to.1});
    bed.write("data/ks/manifest.json", "m");
    bed.call("operations/movefile", mv(("data:ks", "manifest.json"), ("localstorage:b", "d/m.tmp"))).await;
    assert!(!bed.exists("data/ks/manifest.json"));
    bed.call("operations/movefile", mv(("localstorage:b", "d/m.tmp"), ("localstorage:b", "d/m"))).await;
    assert!(!bed.exists("backups/b/d/m.tmp"));
    assert_eq!(bed.read("backups/b/d/m"), "m");
    // An equal destination only costs the source.
    bed.write("data/ks/again", "m");
    bed.call("operations/movefile", mv(("data:ks", "again"), ("localstorage:b", "d/m"))).await;
    assert!(!bed.exists("data/ks/again"));
    let again = mv(("localstorage:b", "d/m.tmp"), ("localstorage:b", "d/m"));
    assert_eq!(bed.refused("operations/movefile", again).await.0, 404);
}

#[tokio::test]
async fn deletefile_wants_a_file() {
    let bed = Bed::new();
    bed.write("data/ks/a", "x");
    let a = json!({"fs": "data:ks", "remote": "a"});
    assert_eq!(bed.call("operations/deletefile", a.clone()).await, json!({}));
    assert_eq!(bed.refused("operations/deletefile", a).await.0, 404);
    assert_eq!(bed.refused("operations/deletefile", json!({"fs": "data:", "remote": "ks"})).await.0, 400);
}

#[tokio::test]
async fn deletepaths_counts_what_was_there() {
    let bed = Bed::new();
    for name in ["a", "b", "sub/c"] {
        bed.write(&format!("data/ks/t/{name}"), "x");
    }
    let paths = |paths: &[&str]| json!({"fs": "data:ks", "remote": "t", "paths": paths});
    let call = "operations/deletepaths";
    assert_eq!(bed.call(call, paths(&["a", "sub/c", "missing", "*"])).await, json!({"deletes": 2}));
    assert_eq!(bed.call(call, paths(&["a", "sub/c"])).await, json!({"deletes": 0}));
    assert!(bed.exists("data/ks/t/b"));
    assert_eq!(bed.refused(call, paths(&[])).await, (500, "empty paths".into()));
    for bad in [&["sub"][..], &[""], &["../t/b"]] {
        assert_eq!(bed.refused(call, paths(bad)).await.0, 400, "{bad:?}");
    }
    let elsewhere = json!({"fs": "data:nothing", "remote": "t", "paths": ["a"]});
    assert_eq!(bed.call(call, elsewhere).await, json!({"deletes": 0}));
}

#[tokio::test]
async fn purge_deletes_a_directory_but_no_keyspace() {
    let bed = Bed::new();
    for name in ["t/snapshots/s/a", "t/snapshots/s/b", "t/live"] {
        bed.write(&format!("data/ks/{name}"), "x");
    }
    let purge = |remote: &str| json!({"fs": "data:ks", "remote": remote});
    assert_eq!(bed.call("operations/purge", purge("t/snapshots/s")).await, json!({}));
    assert!(!bed.exists("data/ks/t/snapshots/s") && bed.exists("data/ks/t/live"));
    assert_eq!(bed.refused("operations/purge", purge("t/snapshots/s")).await.0, 404);
    assert_eq!(bed.refused("operations/purge", purge("t/live")).await.0, 500);
    assert_eq!(bed.refused("operations/purge", purge("")).await.0, 400);
    assert_eq!(bed.refused("operations/purge", json!({"fs": "data:"})).await.0, 400);
    assert!(bed.exists("data/ks/t/live"));
}

#[tokio::test]
async fn retention_and_holds_are_refused_in_the_known_words() {
    let bed = Bed::new();
    let params = json!({"fs": "s3:b", "remote": "d", "paths": ["x"]});
    for (call, what) in
        [("operations/retention-lock", "retention lock"), ("operations/event-based-hold", "event based hold")]
    {
        let expected = (500, format!("backend \"s3\" does not support {what}"));
        assert_eq!(bed.refused(call, params.clone()).await, expected);
    }
}
