//! Downloads, single files, and what else is done to a bucket.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::TryStreamExt as _;
use scylla_manager_agent::config::S3Provider;
use scylla_manager_agent::storage::{Depth, ObjectPath, Place, StorageError};
use scylla_manager_agent::transfer::CopyPaths;
use testbed::s3::{Calls, Fault, Gate, RequestKind, Rule};

use crate::support::{DIR, MIB, Rig, bytes, names};

#[tokio::test]
async fn files_come_back_as_they_went() {
    let rig = Rig::new(S3Provider::Aws).await;
    let (large, small) = (bytes(1, 17 * MIB + 3), bytes(2, 5000));
    rig.server.store.insert("backups", "backup/sst/v/me-1-big-Data.db", large.clone()).unwrap();
    for i in 0..10 {
        rig.server
            .store
            .insert("backups", &format!("backup/sst/v/d/me-{i}-big-TOC.txt"), small.clone())
            .unwrap();
    }
    rig.server
        .faults
        .add(Rule::new(Fault::CutReply(1000)).on(&[RequestKind::GetObject]).calls(Calls::First(3)));
    let mut paths: Vec<String> = (0..10).map(|i| format!("d/me-{i}-big-TOC.txt")).collect();
    paths.extend(["me-1-big-Data.db".into(), "me-404-big-Data.db".into()]);
    let copy = CopyPaths {
        from: rig.place("s3", DIR),
        to: rig.place("data", "ks/t-1/upload"),
        paths,
        transfers: Some(1),
    };
    let context = rig.jobs.call();
    let error = rig.engine.copy_paths(&context, copy).await.unwrap_err().to_string();
    assert!(error.starts_with("1 of 12 files failed; first me-404-big-Data.db: object not found"), "{error}");
    let upload = rig.dir.path().join("data/ks/t-1/upload");
    assert_eq!(std::fs::read(upload.join("me-1-big-Data.db")).unwrap(), large);
    assert_eq!(names(&upload.join("d")).len(), 10);
    assert_eq!(std::fs::read(upload.join("d/me-3-big-TOC.txt")).unwrap(), small);
    assert_eq!(context.counters().failed.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn single_files_are_copied_moved_and_put() {
    let rig = Rig::new(S3Provider::Aws).await;
    let context = rig.jobs.call();
    let engine = &rig.engine;
    rig.file("manifest.json", b"{}");
    let (local, remote) =
        (rig.place("data", "snapshot/manifest.json"), rig.place("s3", &format!("{DIR}/m.json")));
    engine.move_file(&context, &local, &remote).await.unwrap();
    assert_eq!((rig.left().len(), rig.object("m.json").unwrap()), (0, b"{}".to_vec()));
    let other = rig.place("s3", &format!("{DIR}/n 1+ü.json"));
    engine.copy_file(&context, &remote, &other).await.unwrap();
    engine.move_file(&context, &other, &rig.place("s3", &format!("{DIR}/o.json"))).await.unwrap();
    assert_eq!((rig.object("n 1+ü.json"), rig.object("o.json")), (None, Some(b"{}".to_vec())));
    engine.copy_file(&context, &remote, &rig.place("data", "back.json")).await.unwrap();
    assert_eq!(std::fs::read(rig.dir.path().join("data/back.json")).unwrap(), b"{}");
    assert!(engine.copy_file(&context, &other, &other).await.is_ok());
    let error = engine.copy_file(&context, &other, &remote).await.unwrap_err();
    assert!(matches!(error, scylla_manager_agent::transfer::TransferError::Storage(e) if e.is_not_found()));

    let put = async |place: &Place, text: &'static str, length: Option<u64>| {
        let content = futures::stream::iter([Ok(bytes::Bytes::from_static(text.as_bytes()))]);
        engine.put(&context, place, length, content).await
    };
    for place in [remote.clone(), rig.place("data", "put.json")] {
        put(&place, "aaaa", Some(4)).await.unwrap();
        // The same size does not mean the same content.
        put(&place, "bbbb", None).await.unwrap();
        assert!(put(&place, "ccc", Some(4)).await.is_err());
    }
    assert_eq!(rig.object("m.json").unwrap(), b"bbbb");
    assert_eq!(std::fs::read(rig.dir.path().join("data/put.json")).unwrap(), b"bbbb");
    let puts = rig.requests(RequestKind::PutObject);
    put(&remote, "bbbb", Some(4)).await.unwrap();
    assert_eq!(rig.requests(RequestKind::PutObject), puts);
    let large = bytes(4, 13 * MIB);
    let pieces: Vec<_> = large.chunks(700_001).map(|c| Ok(bytes::Bytes::copy_from_slice(c))).collect();
    engine.put(&context, &remote, None, futures::stream::iter(pieces)).await.unwrap();
    assert_eq!(rig.object("m.json").unwrap(), large);
}

/// Contents are received only as far as there is room for them, and nobody who waits for room holds some.
#[tokio::test]
async fn contents_of_unknown_length_wait_for_the_budget() {
    // Parts of the smallest size fill the smallest budget.
    const PARTS: usize = 8;
    let rig = Rig::new(S3Provider::Aws).await;
    let gate = Gate::default();
    rig.server.faults.add(Rule::new(Fault::Hold(gate.clone())).on(&[RequestKind::UploadPart]));
    let content = bytes::Bytes::from(bytes(7, 11 * MIB));
    let received = AtomicUsize::new(0);
    let context = rig.jobs.call();
    let puts = (0..2 * PARTS + 4).map(|n| {
        let pieces = (0..11).map(|at| {
            received.fetch_add(MIB, Ordering::Relaxed);
            Ok(content.slice(at * MIB..(at + 1) * MIB))
        });
        let (to, engine, context) = (rig.place("s3", &format!("{DIR}/put-{n}")), &rig.engine, &context);
        async move { engine.put(context, &to, None, futures::stream::iter(pieces)).await }
    });
    let look = async {
        assert!(gate.reached(PARTS, Duration::from_secs(30)).await, "the whole budget is sent at once");
        let received = received.load(Ordering::Relaxed);
        gate.open();
        assert!(received <= 40 * MIB, "{received} bytes were received for a budget of 40 MiB");
    };
    let (outcomes, ()) = futures::future::join(futures::future::join_all(puts), look).await;
    for (n, outcome) in outcomes.into_iter().enumerate() {
        outcome.unwrap();
        assert!(rig.object(&format!("put-{n}")).unwrap() == content, "put {n}");
    }
}

#[tokio::test]
async fn the_bucket_is_listed_and_cleaned() {
    let rig = Rig::new(S3Provider::Aws).await;
    let s3 = rig.stores.get("s3").unwrap().clone();
    let path = |text: &str| ObjectPath::parse(text).unwrap();
    for i in 0..2500 {
        rig.server.store.insert("backups", &format!("a/b/{i:05}"), vec![0]).unwrap();
    }
    for key in ["a/c", "a/dir/", "a/b c/&é", "ab"] {
        rig.server.store.insert("backups", key, vec![1, 2]).unwrap();
    }
    let list = async |dir: &str, depth| {
        let dir = path(dir);
        let entries: Vec<_> = s3.list(&dir, depth).try_collect().await.unwrap();
        entries.into_iter().map(|e| e.path).collect::<Vec<_>>()
    };
    assert_eq!(list("backups/a", Depth::One).await, ["b", "b c", "c", "dir"]);
    assert_eq!(list("backups/a", Depth::All).await.len(), 2500 + 4);
    assert_eq!(list("backups/nothing", Depth::All).await, Vec::<String>::new());
    let nowhere = path("nowhere/a");
    let error = s3.list(&nowhere, Depth::One).try_collect::<Vec<_>>().await.unwrap_err();
    assert!(matches!(error, StorageError::BucketNotFound { .. }), "{error}");

    let names: Vec<ObjectPath> = (2400..2600).map(|i| path(&format!("backups/a/b/{i:05}"))).collect();
    assert_eq!(s3.delete_many(&names).await.unwrap().deleted, 100);
    assert_eq!(s3.delete_many(&names).await.unwrap().deleted, 0);
    assert_eq!(s3.delete_many(&[path("backups/a/c"), path("backups/zzz")]).await.unwrap().deleted, 1);
    assert_eq!(s3.delete_many(&[path("nowhere/x")]).await.unwrap().deleted, 0);
    assert!(s3.delete(&path("backups/zzz")).await.unwrap_err().is_not_found());
    let info = s3.stat(&path("backups/ab")).await.unwrap();
    assert_eq!((info.size, info.md5.is_some()), (2, true));
    assert_eq!(s3.purge(&path("backups/a")).await.unwrap(), 2402);
    assert_eq!(s3.purge(&path("backups/a")).await.unwrap(), 0);
    assert_eq!(rig.server.store.objects("backups").len(), 1);
}
