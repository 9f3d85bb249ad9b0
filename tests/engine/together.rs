//! Small files are read, sent and deleted several at a time; each still stands for itself.

use std::time::Duration;

use common::api::agent::{FileOutcome, JobStatus};
use scylla_manager_agent::config::S3Provider;
use testbed::s3::{Fault, Gate, RequestKind, Rule};

use crate::support::{MIB, Rig, bytes, wait_until};

/// More than anything here takes.
const LONG: Duration = Duration::from_secs(30);
const FILES: usize = 40;

fn name(file: usize) -> String {
    format!("me-{file:02}-big-TOC.txt")
}

/// A snapshot of small files, all of another size.
async fn rig() -> Rig {
    let rig = Rig::new(S3Provider::Aws).await;
    for file in 0..FILES {
        rig.file(&name(file), bytes(1, 1000 + file));
    }
    rig
}

/// Holds requests of a kind for one file, or for the directory.
fn hold(rig: &Rig, kind: RequestKind, file: Option<usize>) -> Gate {
    let gate = Gate::default();
    let rule = Rule::new(Fault::Hold(gate.clone())).on(&[kind]);
    rig.server.faults.add(match file {
        Some(file) => rule.key(&format!("*/{}", name(file))),
        None => rule,
    });
    gate
}

#[tokio::test]
async fn a_file_that_cannot_be_read_fails_alone() {
    let rig = rig().await;
    let gate = hold(&rig, RequestKind::ListObjectsV2, None);
    let job = rig.start(rig.movedir());
    assert!(gate.reached(1, LONG).await);
    std::fs::remove_file(rig.dir.path().join("data/snapshot").join(name(3))).unwrap();
    rig.file(&name(17), bytes(1, 10));
    gate.open();

    let progress = rig.end(job).await;

    assert!(progress.error.starts_with("2 of 40 files failed"), "{}", progress.error);
    assert_eq!(progress.failed, 1003 + 1017);
    assert_eq!(rig.left(), [name(17)]);
    for file in rig.jobs.files(job, 0).unwrap().files {
        let error = match file.name {
            n if n == name(3) => "object not found",
            n if n == name(17) => "changed while it was read",
            n => {
                assert_eq!(rig.object(&n).unwrap().len() as u64, file.size, "{n}");
                ""
            }
        };
        assert!(file.error.contains(error) && file.error.is_empty() == error.is_empty(), "{}", file.error);
    }
}

#[tokio::test]
async fn a_file_that_cannot_be_deleted_fails_alone() {
    let rig = rig().await;
    let gate = hold(&rig, RequestKind::PutObject, Some(5));
    let job = rig.start(rig.movedir());
    assert!(gate.reached(1, LONG).await);
    // The others are sent and not kept waiting by it.
    wait_until(|| rig.answered(RequestKind::PutObject) == FILES - 1).await;
    let path = rig.dir.path().join("data/snapshot").join(name(5));
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    gate.open();

    let progress = rig.end(job).await;

    let expected = format!("1 of 40 files failed; first {}: not a file", name(5));
    assert!(progress.error.starts_with(&expected), "{}", progress.error);
    assert_eq!(rig.left(), [name(5)]);
    assert_eq!(rig.object(&name(5)).unwrap(), bytes(1, 1005));
    let files = rig.jobs.files(job, 0).unwrap().files;
    assert_eq!(files.iter().filter(|f| f.outcome == FileOutcome::Uploaded).count(), FILES - 1);
}

#[tokio::test]
async fn a_stop_among_them_loses_nothing() {
    let rig = rig().await;
    let gate = hold(&rig, RequestKind::PutObject, Some(0));
    let job = rig.start(rig.movedir());
    assert!(gate.reached(1, LONG).await);
    wait_until(|| rig.answered(RequestKind::PutObject) == FILES - 1).await;
    rig.jobs.stop(job).unwrap();

    let progress = rig.end(job).await;

    assert_eq!((progress.status, progress.error.as_str()), (JobStatus::Error, "context canceled"));
    let mut reported: Vec<_> = rig.jobs.files(job, 0).unwrap().files;
    reported.sort_by(|a, b| a.name.cmp(&b.name));
    assert_eq!(
        reported.iter().map(|f| f.name.clone()).collect::<Vec<_>>(),
        (0..FILES).map(name).collect::<Vec<_>>()
    );
    let sum = |outcome| reported.iter().filter(|f| f.outcome == outcome).map(|f| f.size).sum::<u64>();
    assert_eq!(progress.uploaded, sum(FileOutcome::Uploaded));
    assert_eq!(progress.failed, sum(FileOutcome::Failed));
    // What is reported as failed is still there, and the other way round.
    let failed = reported.iter().filter(|f| f.outcome == FileOutcome::Failed).map(|f| f.name.clone());
    assert_eq!(rig.left(), failed.collect::<Vec<_>>());

    gate.open();
    rig.server.faults.clear();
    rig.upload().await;
    assert_eq!(rig.left(), Vec::<String>::new());
    for file in 0..FILES {
        assert_eq!(rig.object(&name(file)).unwrap(), bytes(1, 1000 + file));
    }
}

#[tokio::test]
async fn small_and_large_files_share_the_memory() {
    let rig = Rig::new(S3Provider::Aws).await;
    (0..3).for_each(|i| rig.file(&format!("me-{i}-big-Data.db"), bytes(i, 20 * MIB)));
    (0..150).for_each(|i| rig.file(&format!("me-{i}-big-Index.db"), bytes(i, 100 << 10)));
    (0..12).for_each(|i| rig.file(&format!("me-{i}-big-Rows.db"), bytes(i, 4 * MIB)));
    rig.upload().await;
    assert_eq!(rig.server.store.objects("backups").len(), 165);
}
