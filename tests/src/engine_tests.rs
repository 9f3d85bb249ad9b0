//! The agent's transfer engine and S3 store against the strict server, with faults.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use common::api::agent::{FileOutcome, JobFile, JobProgress, JobStatus};
use futures::TryStreamExt as _;
use scylla_manager_agent::config::{Config, S3Provider, Secret, SignPayload};
use scylla_manager_agent::jobs::{Jobs, system_clock};
use scylla_manager_agent::storage::{Depth, Hashes, ObjectPath, Payload, Place, StorageError, Stores};
use scylla_manager_agent::transfer::rate_limit::RateLimits;
use scylla_manager_agent::transfer::{CopyPaths, DirTransfer, Engine};

use crate::s3::{Calls, Fault, Gate, Quirks, RequestKind, Rule, S3Config, S3Server};

const TAG: &str = ".sm_20260101000000UTC";
const DIR: &str = "backups/backup/sst/v";
const MIB: usize = 1 << 20;

struct World {
    server: S3Server,
    dir: tempfile::TempDir,
    engine: Arc<Engine>,
    stores: Stores,
    jobs: Jobs,
}

impl World {
    async fn new(provider: S3Provider) -> Self {
        Self::with(provider, S3Config::default()).await
    }

    async fn with(provider: S3Provider, server: S3Config) -> Self {
        let server = S3Server::start(server).await.unwrap();
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("data/snapshot")).unwrap();
        let mut config = Config::default();
        config.s3.provider = provider;
        config.s3.endpoint = Some(server.endpoint());
        config.s3.region = Some("us-east-1".into());
        config.s3.force_path_style = true;
        // Once is enough: the server's SHA-256 takes its time without optimisation.
        let signed = provider == S3Provider::Ceph;
        config.s3.sign_payload = if signed { SignPayload::Auto } else { SignPayload::Never };
        config.s3.access_key_id = Secret::new(server.credentials.access_key.clone());
        config.s3.secret_access_key = Secret::new(server.credentials.secret_key.clone());
        if let Some(certificate) = &server.certificate {
            let file = dir.path().join("ca.pem");
            std::fs::write(&file, certificate).unwrap();
            config.s3.ca_file = Some(file);
        }
        config.localstorage = Some(dir.path().join("local"));
        // The smallest budget: parts of 5 MiB.
        config.transfer_memory = 40 << 20;
        config.rclone.low_level_retries = 6;
        let limits = Arc::new(RateLimits::new(config.rclone.bandwidth));
        let stores = Stores::open(&config, &dir.path().join("data"), &limits, Arc::new(|_, _, _| {}));
        let engine = Engine::new(&config, limits);
        Self { server, dir, engine, stores, jobs: Jobs::new(system_clock()) }
    }

    fn file(&self, name: &str, content: impl AsRef<[u8]>) {
        std::fs::write(self.dir.path().join("data/snapshot").join(name), content).unwrap();
    }

    fn left(&self) -> Vec<String> {
        names(&self.dir.path().join("data/snapshot"))
    }

    fn place(&self, provider: &str, path: &str) -> Place {
        Place::new(self.stores.get(provider).unwrap().clone(), ObjectPath::parse(path).unwrap())
    }

    fn movedir(&self) -> DirTransfer {
        DirTransfer {
            from: self.place("data", "snapshot"),
            to: self.place("s3", DIR),
            suffix: Some(TAG.into()),
            overwrite: HashSet::new(),
            remove_source: true,
            transfers: None,
        }
    }

    fn start(&self, dir: DirTransfer) -> u64 {
        let engine = self.engine.clone();
        self.jobs.start(None, |context| async move {
            engine.transfer_dir(&context, dir).await?;
            Ok(serde_json::Value::Null)
        })
    }

    async fn end(&self, job: u64) -> JobProgress {
        let progress = self.jobs.progress(job, Duration::from_secs(60)).await.unwrap();
        assert_ne!(progress.status, JobStatus::Running, "the job did not end within a minute");
        progress
    }

    async fn run(&self, dir: DirTransfer) -> (JobProgress, BTreeMap<String, JobFile>) {
        let job = self.start(dir);
        let progress = self.end(job).await;
        let files = self.jobs.files(job, 0).unwrap().files;
        (progress, files.into_iter().map(|f| (f.name.clone(), f)).collect())
    }

    async fn upload(&self) -> BTreeMap<String, JobFile> {
        let (progress, files) = self.run(self.movedir()).await;
        assert_eq!((progress.status, progress.error.as_str()), (JobStatus::Success, ""));
        files
    }

    /// Content of an object in the job's directory.
    fn object(&self, name: &str) -> Option<Vec<u8>> {
        let key = format!("{}/{name}", DIR.split_once('/').unwrap().1);
        self.server.store.object("backups", &key).map(|o| o.blob.read().unwrap().to_vec())
    }

    fn requests(&self, kind: RequestKind) -> u64 {
        self.server.counters.of(kind).requests
    }
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Bytes that differ with the seed; the period is prime, so that no two parts are alike.
fn bytes(seed: u8, length: usize) -> Vec<u8> {
    let period: Vec<u8> =
        (0..65_521_u32).map(|i| i.wrapping_mul(2_654_435_761).to_be_bytes()[1] ^ seed).collect();
    let mut all = period.repeat(length / period.len() + 1);
    all.truncate(length);
    all
}

#[tokio::test]
async fn a_directory_is_moved_with_one_request_per_small_object() {
    for provider in [S3Provider::Aws, S3Provider::Ceph] {
        let ceph = provider == S3Provider::Ceph;
        let quirks = Quirks { empty_complete_etag: ceph, forgets_checksums: ceph, ..Quirks::default() };
        let world = World::with(provider, S3Config { quirks, ..S3Config::default() }).await;
        let (data, large) = (bytes(1, 12 * MIB + 5), bytes(2, 3 * MIB));
        world.file("me-1-big-Data.db", &data);
        world.file("me-1-big-Digest.crc32", crc32fast::hash(&data).to_string());
        world.file("me-2-big-Data.db", &large);
        for i in 0..40 {
            world.file(&format!("me-{i}-big-Filter.db"), bytes(i, 100 * usize::from(i)));
        }
        let files = world.upload().await;
        assert_eq!(world.left(), Vec::<String>::new());
        assert_eq!(files.len(), 43);
        for (name, file) in &files {
            let stored = world.object(name).unwrap();
            assert_eq!(file.crc32, Some(crc32fast::hash(&stored)), "{name}");
            assert_eq!((file.size, file.outcome), (stored.len() as u64, FileOutcome::Uploaded));
            assert!(!file.digest_mismatch);
        }
        assert_eq!(world.object("me-1-big-Data.db").unwrap(), data);
        assert_eq!(world.requests(RequestKind::PutObject), 42);
        assert_eq!(world.requests(RequestKind::UploadPart), 3);
        // Ceph does not say on completion what it has.
        assert_eq!(world.requests(RequestKind::HeadObject), u64::from(ceph));
        assert_eq!(world.requests(RequestKind::ListObjectsV2), 1);
        // The digest goes after its data.
        let written = world.server.counters.written_keys("backup/");
        let position = |name: &str| written.iter().position(|k| k.ends_with(name));
        if let (Some(data), Some(digest)) = (position("me-1-big-Data.db"), position("me-1-big-Digest.crc32"))
        {
            assert!(data < digest, "{written:?}");
        }
    }
}

#[tokio::test]
async fn progress_tells_uploaded_skipped_and_failed_bytes() {
    let world = World::new(S3Provider::Aws).await;
    for (name, size) in [("a", 10), ("b", 20), ("c", 40), ("d", 80), ("e", 160)] {
        world.file(name, bytes(1, size));
    }
    world.server.store.insert("backups", "backup/sst/v/b", bytes(1, 20)).unwrap();
    let refused = Fault::Status { status: 400, code: "InvalidArgument", retry_after: None };
    world.server.faults.add(Rule::new(refused).key("*/d").on(&[RequestKind::PutObject]));
    let (progress, files) = world.run(world.movedir()).await;
    assert_eq!((progress.uploaded, progress.skipped, progress.failed), (210, 20, 80));
    assert_eq!(progress.status, JobStatus::Error);
    assert!(progress.error.starts_with("1 of 5 files failed; first d: PutObject"), "{}", progress.error);
    assert!(progress.error.contains("(code:InvalidArgument)"), "{}", progress.error);
    assert_eq!(world.left(), ["d"]);
    let outcome = |name: &str| (files[name].outcome, files[name].crc32.is_some());
    assert_eq!(outcome("b"), (FileOutcome::Skipped, false));
    assert_eq!(outcome("d"), (FileOutcome::Failed, false));
    let totals = &world.jobs.totals().counters;
    assert_eq!(totals.uploaded.load(Ordering::Relaxed), 210);
    assert_eq!(totals.transferred_files.load(Ordering::Relaxed), 3);
    assert_eq!(totals.deleted_files.load(Ordering::Relaxed), 4);
}

#[tokio::test]
async fn an_object_with_other_content_is_kept_under_the_suffix() {
    for size in [100, 6 * MIB] {
        for provider in [S3Provider::Aws, S3Provider::Other] {
            let world = World::new(provider).await;
            let name = "me-7-big-Data.db";
            let (old, new) = (bytes(1, size), bytes(2, size));
            // In one job of few files, and in one of many.
            for extra in [0, 10] {
                world.server.store.insert("backups", &format!("backup/sst/v/{name}"), old.clone()).unwrap();
                world.server.store.remove("backups", &format!("backup/sst/v/{name}{TAG}"));
                world.file(name, &new);
                (0..extra).for_each(|i| world.file(&format!("x{i}"), [i]));
                world.upload().await;
                assert_eq!(world.object(name).unwrap(), new, "{size} {provider:?} {extra}");
                assert_eq!(world.object(&format!("{name}{TAG}")).unwrap(), old);
                // A repeat, as after a lost answer, must not put the new bytes over the saved old ones.
                let newer = bytes(3, size);
                world.file(name, &newer);
                (0..extra).for_each(|i| world.file(&format!("x{i}"), [i]));
                world.upload().await;
                assert_eq!(world.object(name).unwrap(), newer);
                assert_eq!(world.object(&format!("{name}{TAG}")).unwrap(), old);
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
        let world = World::new(provider).await;
        let name = "me-7-big-Index.db";
        world.file(name, bytes(1, size));
        world.upload().await;
        world.file(name, bytes(1, size));
        let files = world.upload().await;
        let expected = if proven { FileOutcome::Skipped } else { FileOutcome::Uploaded };
        assert_eq!(files[name].outcome, expected, "{provider:?} {size}");
        assert_eq!(world.object(&format!("{name}{TAG}")).is_some(), !proven);
        assert!(world.left().is_empty());
        // Without a suffix the name cannot stand for other content: equal sizes are enough.
        world.file(name, bytes(1, size));
        let (progress, _) = world.run(DirTransfer { suffix: None, ..world.movedir() }).await;
        assert_eq!(progress.skipped, size as u64);
        // Unless the caller knows that the object is damaged.
        world.file(name, bytes(1, size));
        let overwrite = HashSet::from([name.to_owned()]);
        let (progress, _) = world.run(DirTransfer { overwrite, ..world.movedir() }).await;
        assert_eq!((progress.uploaded, progress.skipped), (size as u64, 0));
    }
}

#[tokio::test]
async fn bit_rot_is_marked_and_uploaded_all_the_same() {
    let world = World::new(S3Provider::Aws).await;
    for (id, size) in [(1, 1000), (2, 6 * MIB), (3, 500)] {
        let data = bytes(id, size);
        world.file(&format!("me-{id}-big-Data.db"), &data);
        let digest = crc32fast::hash(&data).wrapping_add(u32::from(id != 3));
        world.file(&format!("me-{id}-big-Digest.crc32"), digest.to_string());
    }
    let files = world.upload().await;
    let marked: Vec<&str> = files.values().filter(|f| f.digest_mismatch).map(|f| f.name.as_str()).collect();
    assert_eq!(marked, ["me-1-big-Data.db", "me-2-big-Data.db"]);
    assert_eq!(world.server.store.objects("backups").len(), 6);
}

#[tokio::test]
async fn a_digest_stays_with_data_that_was_not_sent() {
    let world = World::new(S3Provider::Aws).await;
    world.file("me-1-big-Data.db", b"data");
    world.file("me-1-big-Digest.crc32", b"1");
    let refused = Fault::Status { status: 400, code: "InvalidArgument", retry_after: None };
    world.server.faults.add(Rule::new(refused).key("*Data.db").on(&[RequestKind::PutObject]));
    let (_, files) = world.run(world.movedir()).await;
    assert_eq!(world.left(), ["me-1-big-Data.db", "me-1-big-Digest.crc32"]);
    assert_eq!(files["me-1-big-Digest.crc32"].error, "not sent because me-1-big-Data.db was not");
}

#[tokio::test]
async fn faults_of_the_moment_are_survived() {
    for fault in [
        Fault::internal_error(),
        Fault::slow_down(),
        Fault::Reset,
        Fault::CutRequest(1000),
        Fault::LostReply,
        Fault::Status { status: 503, code: "SlowDown", retry_after: Some(1) },
    ] {
        let world = World::new(S3Provider::Aws).await;
        let data = bytes(9, 11 * MIB);
        world.file("me-1-big-Data.db", &data);
        (0..20).for_each(|i| world.file(&format!("me-{i}-big-TOC.txt"), bytes(i, 2000)));
        for kind in [
            RequestKind::PutObject,
            RequestKind::ListObjectsV2,
            RequestKind::ListMultipartUploads,
            RequestKind::CreateMultipartUpload,
            RequestKind::UploadPart,
            RequestKind::CompleteMultipartUpload,
        ] {
            world.server.faults.add(Rule::new(fault.clone()).on(&[kind]).calls(Calls::Nth(1)));
        }
        let (progress, files) = world.run(world.movedir()).await;
        assert_eq!((progress.status, progress.error.as_str()), (JobStatus::Success, ""), "{fault:?}");
        assert_eq!(progress.uploaded, 11 * MIB as u64 + 40_000);
        assert_eq!(world.object("me-1-big-Data.db").unwrap(), data);
        assert_eq!(files["me-1-big-Data.db"].crc32, Some(crc32fast::hash(&data)));
        assert!(world.left().is_empty());
    }
}

#[tokio::test]
async fn hopeless_errors_end_the_job_quickly_with_their_cause() {
    let world = World::new(S3Provider::Aws).await;
    (0..200).for_each(|i| world.file(&format!("f{i}"), bytes(1, 10)));
    world.server.faults.add(Rule::new(Fault::access_denied()).on(&[RequestKind::PutObject]));
    let start = Instant::now();
    let (progress, _) = world.run(world.movedir()).await;
    assert!(progress.error.contains("(code:AccessDenied)"), "{}", progress.error);
    assert!(start.elapsed() < Duration::from_secs(5));
    assert!(world.requests(RequestKind::PutObject) < 100);
    assert_eq!(world.left().len(), 200);
    world.server.faults.clear();

    let missing = DirTransfer { to: world.place("s3", "nowhere/v"), ..world.movedir() };
    let (progress, _) = world.run(missing).await;
    assert!(progress.error.contains("NoSuchBucket"), "{}", progress.error);

    let vanished = DirTransfer { from: world.place("data", "gone"), ..world.movedir() };
    let (progress, _) = world.run(vanished).await;
    assert_eq!(progress.error, "directory not found: gone");
}

#[tokio::test]
async fn a_stopped_upload_is_taken_up_where_it_was() {
    for provider in [S3Provider::Aws, S3Provider::Other] {
        let world = World::new(provider).await;
        let (data, gate) = (bytes(5, 20 * MIB), Gate::default());
        world.file("me-1-big-Data.db", &data);
        world.file("me-2-big-Data.db", bytes(6, 10));
        world
            .server
            .faults
            .add(Rule::new(Fault::Hold(gate.clone())).on(&[RequestKind::UploadPart]).calls(Calls::From(4)));
        let job = world.start(world.movedir());
        wait_until(|| {
            world.server.store.unfinished_uploads("backups") == 1 && part_bytes(&world) >= 15 * MIB as u64
        })
        .await;
        world.jobs.stop(job).unwrap();
        let progress = world.end(job).await;
        assert_eq!((progress.status, progress.error.as_str()), (JobStatus::Error, "context canceled"));
        assert_eq!(progress.failed, 20 * MIB as u64);
        assert_eq!(world.left(), ["me-1-big-Data.db"]);
        gate.open();
        world.server.faults.clear();
        let before = world.requests(RequestKind::UploadPart);
        let files = world.upload().await;
        let sent_again = world.requests(RequestKind::UploadPart) - before;
        assert!(sent_again <= 2, "{provider:?}: {sent_again} parts were sent again");
        assert_eq!(world.object("me-1-big-Data.db").unwrap(), data);
        assert_eq!(files["me-1-big-Data.db"].crc32, Some(crc32fast::hash(&data)));
        assert_eq!(world.server.store.unfinished_uploads("backups"), 0);
    }
}

fn part_bytes(world: &World) -> u64 {
    world.server.counters.of(RequestKind::UploadPart).bytes_in
}

async fn wait_until(condition: impl Fn() -> bool) {
    let wait = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), wait)
        .await
        .expect("the state is reached within half a minute");
}

#[tokio::test]
async fn parts_of_another_file_are_not_taken_up() {
    let world = World::new(S3Provider::Other).await;
    let gate = Gate::default();
    world.file("me-1-big-Data.db", bytes(5, 20 * MIB));
    world
        .server
        .faults
        .add(Rule::new(Fault::Hold(gate.clone())).on(&[RequestKind::UploadPart]).calls(Calls::From(3)));
    let job = world.start(world.movedir());
    wait_until(|| part_bytes(&world) >= 10 * MIB as u64).await;
    world.jobs.stop(job).unwrap();
    world.end(job).await;
    gate.open();
    world.server.faults.clear();
    for size in [20 * MIB, 18 * MIB] {
        let other = bytes(77, size);
        world.file("me-1-big-Data.db", &other);
        world.upload().await;
        assert_eq!(world.object("me-1-big-Data.db").unwrap(), other);
        assert_eq!(world.server.store.unfinished_uploads("backups"), 0);
    }
}

#[tokio::test]
async fn files_come_back_as_they_went() {
    let world = World::new(S3Provider::Aws).await;
    let (large, small) = (bytes(1, 17 * MIB + 3), bytes(2, 5000));
    world.server.store.insert("backups", "backup/sst/v/me-1-big-Data.db", large.clone()).unwrap();
    for i in 0..10 {
        world
            .server
            .store
            .insert("backups", &format!("backup/sst/v/d/me-{i}-big-TOC.txt"), small.clone())
            .unwrap();
    }
    world
        .server
        .faults
        .add(Rule::new(Fault::CutReply(1000)).on(&[RequestKind::GetObject]).calls(Calls::First(3)));
    let mut paths: Vec<String> = (0..10).map(|i| format!("d/me-{i}-big-TOC.txt")).collect();
    paths.extend(["me-1-big-Data.db".into(), "me-404-big-Data.db".into()]);
    let copy = CopyPaths {
        from: world.place("s3", DIR),
        to: world.place("data", "ks/t-1/upload"),
        paths,
        transfers: Some(1),
    };
    let context = world.jobs.call();
    let error = world.engine.copy_paths(&context, copy).await.unwrap_err().to_string();
    assert!(error.starts_with("1 of 12 files failed; first me-404-big-Data.db: object not found"), "{error}");
    let upload = world.dir.path().join("data/ks/t-1/upload");
    assert_eq!(std::fs::read(upload.join("me-1-big-Data.db")).unwrap(), large);
    assert_eq!(names(&upload.join("d")).len(), 10);
    assert_eq!(std::fs::read(upload.join("d/me-3-big-TOC.txt")).unwrap(), small);
    assert_eq!(context.counters().failed.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn the_rate_limit_holds_and_can_be_lifted() {
    let world = World::new(S3Provider::Aws).await;
    (0..8).for_each(|i| world.file(&format!("f{i}"), bytes(i, MIB)));
    world.engine.limits().set("4M".parse().unwrap());
    let start = Instant::now();
    world.upload().await;
    let took = start.elapsed().as_secs_f64();
    assert!((1.8..4.0).contains(&took), "8 MiB at 4 MiB/s took {took} s");

    (0..8).for_each(|i| world.file(&format!("g{i}"), bytes(i, MIB)));
    world.engine.limits().set("1k".parse().unwrap());
    let job = world.start(world.movedir());
    wait_until(|| world.requests(RequestKind::ListObjectsV2) == 2).await;
    world.engine.limits().set("off".parse().unwrap());
    let start = Instant::now();
    assert_eq!(world.end(job).await.status, JobStatus::Success);
    assert!(start.elapsed() < Duration::from_secs(10));
}

#[tokio::test]
async fn local_directories_take_backups_too() {
    let world = World::new(S3Provider::Aws).await;
    let data = bytes(1, 9 * MIB);
    world.file("me-1-big-Data.db", &data);
    world.file("me-1-big-TOC.txt", b"toc");
    let to = world.place("localstorage", DIR);
    let (progress, files) = world.run(DirTransfer { to: to.clone(), ..world.movedir() }).await;
    assert_eq!(progress.status, JobStatus::Success, "{}", progress.error);
    assert_eq!(files["me-1-big-Data.db"].crc32, Some(crc32fast::hash(&data)));
    let stored = world.dir.path().join("local").join(DIR);
    assert_eq!(std::fs::read(stored.join("me-1-big-Data.db")).unwrap(), data);
    world.file("me-1-big-TOC.txt", b"TOC");
    world.run(DirTransfer { to, ..world.movedir() }).await;
    assert_eq!(std::fs::read(stored.join("me-1-big-TOC.txt")).unwrap(), b"TOC");
    assert_eq!(std::fs::read(stored.join(format!("me-1-big-TOC.txt{TAG}"))).unwrap(), b"toc");
}

#[tokio::test]
async fn single_files_are_copied_moved_and_put() {
    let world = World::new(S3Provider::Aws).await;
    let context = world.jobs.call();
    let engine = &world.engine;
    world.file("manifest.json", b"{}");
    let (local, remote) =
        (world.place("data", "snapshot/manifest.json"), world.place("s3", &format!("{DIR}/m.json")));
    engine.move_file(&context, &local, &remote).await.unwrap();
    assert_eq!((world.left().len(), world.object("m.json").unwrap()), (0, b"{}".to_vec()));
    let other = world.place("s3", &format!("{DIR}/n 1+ü.json"));
    engine.copy_file(&context, &remote, &other).await.unwrap();
    engine.move_file(&context, &other, &world.place("s3", &format!("{DIR}/o.json"))).await.unwrap();
    assert_eq!((world.object("n 1+ü.json"), world.object("o.json")), (None, Some(b"{}".to_vec())));
    engine.copy_file(&context, &remote, &world.place("data", "back.json")).await.unwrap();
    assert_eq!(std::fs::read(world.dir.path().join("data/back.json")).unwrap(), b"{}");
    assert!(engine.copy_file(&context, &other, &other).await.is_ok());
    let error = engine.copy_file(&context, &other, &remote).await.unwrap_err();
    assert!(matches!(error, scylla_manager_agent::transfer::TransferError::Storage(e) if e.is_not_found()));

    let put = async |place: &Place, text: &'static str, length: Option<u64>| {
        let content = futures::stream::iter([Ok(bytes::Bytes::from_static(text.as_bytes()))]);
        engine.put(&context, place, length, content).await
    };
    for place in [remote.clone(), world.place("data", "put.json")] {
        put(&place, "aaaa", Some(4)).await.unwrap();
        // The same size does not mean the same content.
        put(&place, "bbbb", None).await.unwrap();
        assert!(put(&place, "ccc", Some(4)).await.is_err());
    }
    assert_eq!(world.object("m.json").unwrap(), b"bbbb");
    assert_eq!(std::fs::read(world.dir.path().join("data/put.json")).unwrap(), b"bbbb");
    let puts = world.requests(RequestKind::PutObject);
    put(&remote, "bbbb", Some(4)).await.unwrap();
    assert_eq!(world.requests(RequestKind::PutObject), puts);
    let large = bytes(4, 13 * MIB);
    let pieces: Vec<_> = large.chunks(700_001).map(|c| Ok(bytes::Bytes::copy_from_slice(c))).collect();
    engine.put(&context, &remote, None, futures::stream::iter(pieces)).await.unwrap();
    assert_eq!(world.object("m.json").unwrap(), large);
}

#[tokio::test]
async fn the_bucket_is_listed_and_cleaned() {
    let world = World::new(S3Provider::Aws).await;
    let s3 = world.stores.get("s3").unwrap().clone();
    let path = |text: &str| ObjectPath::parse(text).unwrap();
    for i in 0..2500 {
        world.server.store.insert("backups", &format!("a/b/{i:05}"), vec![0]).unwrap();
    }
    for key in ["a/c", "a/dir/", "a/b c/&é", "ab"] {
        world.server.store.insert("backups", key, vec![1, 2]).unwrap();
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
    assert_eq!(world.server.store.objects("backups").len(), 1);
}

#[tokio::test]
async fn a_private_authority_is_trusted_when_it_is_configured() {
    let world = World::with(S3Provider::Other, S3Config { tls: true, ..S3Config::default() }).await;
    let data = bytes(1, 6 * MIB);
    world.file("me-1-big-Data.db", &data);
    world.upload().await;
    assert_eq!(world.object("me-1-big-Data.db").unwrap(), data);

    let mut config = Config::default();
    config.s3.endpoint = Some(world.server.endpoint());
    config.s3.force_path_style = true;
    config.s3.access_key_id = Secret::new("x");
    config.s3.secret_access_key = Secret::new("x");
    config.rclone.low_level_retries = 1;
    let limits = Arc::new(RateLimits::new(config.rclone.bandwidth));
    let stores = Stores::open(&config, Path::new("/"), &limits, Arc::new(|_, _, _| {}));
    let stat = stores.get("s3").unwrap().clone();
    let error = stat.stat(&ObjectPath::parse("backups/x").unwrap()).await.unwrap_err();
    let text = common::error::chain(&error);
    assert!(text.contains("certificate"), "{text}");
}

#[tokio::test]
async fn wrong_keys_are_named() {
    let world = World::new(S3Provider::Aws).await;
    let mut config = Config::default();
    config.s3.endpoint = Some(world.server.endpoint());
    config.s3.force_path_style = true;
    config.s3.access_key_id = Secret::new("unknown");
    let limits = Arc::new(RateLimits::new(config.rclone.bandwidth));
    let put = async |config: &Config| {
        let stores = Stores::open(config, Path::new("/"), &limits, Arc::new(|_, _, _| {}));
        let payload = Payload::new("x".into(), Hashes::default());
        let path = ObjectPath::parse("backups/x").unwrap();
        stores.get("s3").unwrap().put(&path, &payload).await.unwrap_err().to_string()
    };
    config.s3.env_auth = false;
    let error = put(&config).await;
    assert!(
        error.contains("NoCredentialProviders") && error.contains("s3.secret_access_key is not set"),
        "{error}"
    );
    config.s3.secret_access_key = Secret::new("unknown");
    let error = put(&config).await;
    // AWS says InvalidAccessKeyId; the test server's protocol layer has its own word.
    assert!(error.contains("(code:InvalidAccessKeyId)") || error.contains("(code:NotSignedUp)"), "{error}");
}
