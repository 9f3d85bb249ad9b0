//! Moving a snapshot into the bucket when all goes well, and what becomes of objects that are there already.

use std::collections::HashSet;
use std::sync::atomic::Ordering;

use common::api::agent::{FileOutcome, JobStatus};
use scylla_manager_agent::config::S3Provider;
use scylla_manager_agent::transfer::DirTransfer;
use testbed::s3::{Fault, Quirks, RequestKind, Rule, S3Config};

use crate::support::{DIR, MIB, Rig, TAG, bytes};

#[tokio::test]
async fn a_directory_is_moved_with_one_request_per_small_object() {
    for provider in [S3Provider::Aws, S3Provider::Ceph] {
        let ceph = provider == S3Provider::Ceph;
        let quirks = Quirks { empty_complete_etag: ceph, forgets_checksums: ceph, ..Quirks::default() };
        let rig = Rig::with(provider, S3Config { quirks, ..S3Config::default() }).await;
        let (data, large) = (bytes(1, 12 * MIB + 5), bytes(2, 3 * MIB));
        rig.file("me-1-big-Data.db", &data);
        rig.file("me-1-big-Digest.crc32", crc32fast::hash(&data).to_string());
        rig.file("me-2-big-Data.db", &large);
        for i in 0..40 {
            rig.file(&format!("me-{i}-big-Filter.db"), bytes(i, 100 * usize::from(i)));
        }
        let files = rig.upload().await;
        assert_eq!(rig.left(), Vec::<String>::new());
        assert_eq!(files.len(), 43);
        for (name, file) in &files {
            let stored = rig.object(name).unwrap();
            assert_eq!(file.crc32, Some(crc32fast::hash(&stored)), "{name}");
            assert_eq!((file.size, file.outcome), (stored.len() as u64, FileOutcome::Uploaded));
            assert!(!file.digest_mismatch);
        }
        assert_eq!(rig.object("me-1-big-Data.db").unwrap(), data);
        assert_eq!(rig.requests(RequestKind::PutObject), 42);
        assert_eq!(rig.requests(RequestKind::UploadPart), 3);
        // Ceph does not say on completion what it has.
        assert_eq!(rig.requests(RequestKind::HeadObject), u64::from(ceph));
        assert_eq!(rig.requests(RequestKind::ListObjectsV2), 1);
        // The digest goes after its data.
        let written = rig.server.counters.written_keys("backup/");
        let position = |name: &str| written.iter().position(|k| k.ends_with(name));
        if let (Some(data), Some(digest)) = (position("me-1-big-Data.db"), position("me-1-big-Digest.crc32"))
        {
            assert!(data < digest, "{written:?}");
        }
    }
}

#[tokio::test]
async fn progress_tells_uploaded_skipped_and_failed_bytes() {
    let rig = Rig::new(S3Provider::Aws).await;
    for (name, size) in [("a", 10), ("b", 20), ("c", 40), ("d", 80), ("e", 160)] {
        rig.file(name, bytes(1, size));
    }
    rig.server.store.insert("backups", "backup/sst/v/b", bytes(1, 20)).unwrap();
    let refused = Fault::Status { status: 400, code: "InvalidArgument", retry_after: None };
    rig.server.faults.add(Rule::new(refused).key("*/d").on(&[RequestKind::PutObject]));
    let (progress, files) = rig.run(rig.movedir()).await;
    assert_eq!((progress.uploaded, progress.skipped, progress.failed), (210, 20, 80));
    assert_eq!(progress.status, JobStatus::Error);
    assert!(progress.error.starts_with("1 of 5 files failed; first d: PutObject"), "{}", progress.error);
    assert!(progress.error.contains("(code:InvalidArgument)"), "{}", progress.error);
    assert_eq!(rig.left(), ["d"]);
    let outcome = |name: &str| (files[name].outcome, files[name].crc32.is_some());
    assert_eq!(outcome("b"), (FileOutcome::Skipped, false));
    assert_eq!(outcome("d"), (FileOutcome::Failed, false));
    let totals = &rig.jobs.totals().counters;
    assert_eq!(totals.uploaded.load(Ordering::Relaxed), 210);
    assert_eq!(totals.transferred_files.load(Ordering::Relaxed), 3);
    assert_eq!(totals.deleted_files.load(Ordering::Relaxed), 4);
}

#[tokio::test]
async fn an_object_with_other_content_is_kept_under_the_suffix() {
    for size in [100, 6 * MIB] {
        for provider in [S3Provider::Aws, S3Provider::Other] {
            let rig = Rig::new(provider).await;
            let name = "me-7-big-Data.db";
            let (old, new) = (bytes(1, size), bytes(2, size));
            // In one job of few files, and in one of many.
            for extra in [0, 10] {
                rig.server.store.insert("backups", &format!("backup/sst/v/{name}"), old.clone()).unwrap();
                rig.server.store.remove("backups", &format!("backup/sst/v/{name}{TAG}"));
                rig.file(name, &new);
                (0..extra).for_each(|i| rig.file(&format!("x{i}"), [i]));
                rig.upload().await;
                assert_eq!(rig.object(name).unwrap(), new, "{size} {provider:?} {extra}");
                assert_eq!(rig.object(&format!("{name}{TAG}")).unwrap(), old);
                // A repeat, as after a lost answer, must not put the new bytes over the saved old ones.
                let newer = bytes(3, size);
                rig.file(name, &newer);
                (0..extra).for_each(|i| rig.file(&format!("x{i}"), [i]));
                rig.upload().await;
                assert_eq!(rig.object(name).unwrap(), newer);
                assert_eq!(rig.object(&format!("{name}{TAG}")).unwrap(), old);
            }
        }
    }
}

#[tokio::test]
async fn what_is_there_already_is_not_sent_again() {
    // A part-wise object proves its content only where the service keeps a checksum.
    for (provider, size, proven) in [
        (S3Provider::Aws, 1000, true),
        (S3Provider::Other, 1000, true),
        (S3Provider::Aws, 6 * MIB, true),
        (S3Provider::Other, 6 * MIB, false),
    ] {
        let rig = Rig::new(provider).await;
        let name = "me-7-big-Index.db";
        rig.file(name, bytes(1, size));
        rig.upload().await;
        rig.file(name, bytes(1, size));
        let files = rig.upload().await;
        let expected = if proven { FileOutcome::Skipped } else { FileOutcome::Uploaded };
        assert_eq!(files[name].outcome, expected, "{provider:?} {size}");
        assert_eq!(rig.object(&format!("{name}{TAG}")).is_some(), !proven);
        assert!(rig.left().is_empty());
        // Without a suffix the name cannot stand for other content: equal sizes are enough.
        rig.file(name, bytes(1, size));
        let (progress, _) = rig.run(DirTransfer { suffix: None, ..rig.movedir() }).await;
        assert_eq!(progress.skipped, size as u64);
        // Unless the caller knows that the object is damaged.
        rig.file(name, bytes(1, size));
        let overwrite = HashSet::from([name.to_owned()]);
        let (progress, _) = rig.run(DirTransfer { overwrite, ..rig.movedir() }).await;
        assert_eq!((progress.uploaded, progress.skipped), (size as u64, 0));
    }
}

#[tokio::test]
async fn bit_rot_is_marked_and_uploaded_all_the_same() {
    let rig = Rig::new(S3Provider::Aws).await;
    for (id, size) in [(1, 1000), (2, 6 * MIB), (3, 500)] {
        let data = bytes(id, size);
        rig.file(&format!("me-{id}-big-Data.db"), &data);
        let digest = crc32fast::hash(&data).wrapping_add(u32::from(id != 3));
        rig.file(&format!("me-{id}-big-Digest.crc32"), digest.to_string());
    }
    let files = rig.upload().await;
    let marked: Vec<&str> = files.values().filter(|f| f.digest_mismatch).map(|f| f.name.as_str()).collect();
    assert_eq!(marked, ["me-1-big-Data.db", "me-2-big-Data.db"]);
    assert_eq!(rig.server.store.objects("backups").len(), 6);
}

#[tokio::test]
async fn a_digest_stays_with_data_that_was_not_sent() {
    let rig = Rig::new(S3Provider::Aws).await;
    rig.file("me-1-big-Data.db", b"data");
    rig.file("me-1-big-Digest.crc32", b"1");
    let refused = Fault::Status { status: 400, code: "InvalidArgument", retry_after: None };
    rig.server.faults.add(Rule::new(refused).key("*Data.db").on(&[RequestKind::PutObject]));
    let (_, files) = rig.run(rig.movedir()).await;
    assert_eq!(rig.left(), ["me-1-big-Data.db", "me-1-big-Digest.crc32"]);
    assert_eq!(files["me-1-big-Digest.crc32"].error, "not sent because me-1-big-Data.db was not");
}

#[tokio::test]
async fn local_directories_take_backups_too() {
    let rig = Rig::new(S3Provider::Aws).await;
    let data = bytes(1, 9 * MIB);
    rig.file("me-1-big-Data.db", &data);
    rig.file("me-1-big-TOC.txt", b"toc");
    let to = rig.place("localstorage", DIR);
    let (progress, files) = rig.run(DirTransfer { to: to.clone(), ..rig.movedir() }).await;
    assert_eq!(progress.status, JobStatus::Success, "{}", progress.error);
    assert_eq!(files["me-1-big-Data.db"].crc32, Some(crc32fast::hash(&data)));
    let stored = rig.dir.path().join("local").join(DIR);
    assert_eq!(std::fs::read(stored.join("me-1-big-Data.db")).unwrap(), data);
    rig.file("me-1-big-TOC.txt", b"TOC");
    rig.run(DirTransfer { to, ..rig.movedir() }).await;
    assert_eq!(std::fs::read(stored.join("me-1-big-TOC.txt")).unwrap(), b"TOC");
    assert_eq!(std::fs::read(stored.join(format!("me-1-big-TOC.txt{TAG}"))).unwrap(), b"toc");
}
