//! A job that is cut in mid-upload, and the next one that goes on from there.

use std::time::Duration;

use common::api::agent::JobStatus;
use scylla_manager_agent::config::S3Provider;
use testbed::s3::{Calls, Fault, Gate, RequestKind, Rule};

use crate::support::{MIB, Rig, bytes, wait_until};

/// More than anything here takes.
const LONG: Duration = Duration::from_secs(30);

#[tokio::test]
async fn a_stopped_upload_is_taken_up_where_it_was() {
    for provider in [S3Provider::Aws, S3Provider::Other] {
        let rig = Rig::new(provider).await;
        let (data, gate) = (bytes(5, 20 * MIB), Gate::default());
        rig.file("me-1-big-Data.db", &data);
        rig.file("me-2-big-Data.db", bytes(6, 10));
        rig.server
            .faults
            .add(Rule::new(Fault::Hold(gate.clone())).on(&[RequestKind::UploadPart]).calls(Calls::From(4)));
        let job = rig.start(rig.movedir());
        wait_until(|| rig.answered(RequestKind::UploadPart) == 3).await;
        assert!(gate.reached(1, LONG).await);
        rig.jobs.stop(job).unwrap();
        let progress = rig.end(job).await;
        assert_eq!((progress.status, progress.error.as_str()), (JobStatus::Error, "context canceled"));
        assert_eq!(progress.failed, 20 * MIB as u64);
        assert_eq!(rig.left(), ["me-1-big-Data.db"]);
        gate.open();
        rig.server.faults.clear();
        let before = rig.requests(RequestKind::UploadPart);
        let files = rig.upload().await;
        assert_eq!(rig.requests(RequestKind::UploadPart) - before, 1, "{provider:?}");
        assert_eq!(rig.object("me-1-big-Data.db").unwrap(), data);
        assert_eq!(files["me-1-big-Data.db"].crc32, Some(crc32fast::hash(&data)));
        assert_eq!(rig.server.store.unfinished_uploads("backups"), 0);
    }
}

#[tokio::test]
async fn parts_of_another_file_are_not_taken_up() {
    let rig = Rig::new(S3Provider::Other).await;
    let gate = Gate::default();
    rig.file("me-1-big-Data.db", bytes(5, 20 * MIB));
    rig.server
        .faults
        .add(Rule::new(Fault::Hold(gate.clone())).on(&[RequestKind::UploadPart]).calls(Calls::From(3)));
    let job = rig.start(rig.movedir());
    wait_until(|| rig.answered(RequestKind::UploadPart) == 2).await;
    rig.jobs.stop(job).unwrap();
    rig.end(job).await;
    gate.open();
    rig.server.faults.clear();
    for size in [20 * MIB, 18 * MIB] {
        let other = bytes(77, size);
        rig.file("me-1-big-Data.db", &other);
        rig.upload().await;
        assert_eq!(rig.object("me-1-big-Data.db").unwrap(), other);
        assert_eq!(rig.server.store.unfinished_uploads("backups"), 0);
    }
}

#[tokio::test]
async fn after_a_crash_only_what_is_missing_is_sent() {
    let mut rig = Rig::new(S3Provider::Aws).await;
    let (data, gate) = (bytes(1, 31 * MIB), Gate::default());
    rig.file("me-1-big-Data.db", &data);
    rig.server
        .faults
        .add(Rule::new(Fault::Hold(gate.clone())).on(&[RequestKind::UploadPart]).calls(Calls::From(4)));
    rig.start(rig.movedir());
    wait_until(|| rig.answered(RequestKind::UploadPart) == 3).await;
    assert!(gate.reached(1, LONG).await);

    rig.restart(S3Provider::Aws);
    rig.server.faults.clear();
    rig.upload().await;

    assert_eq!(rig.object("me-1-big-Data.db").unwrap(), data);
    assert_eq!(rig.answered(RequestKind::UploadPart), 7, "each part once");
    assert_eq!(rig.server.store.unfinished_uploads("backups"), 0);
}

#[tokio::test]
async fn a_stopped_job_leaves_the_files_that_were_not_sent() {
    let rig = Rig::new(S3Provider::Other).await;
    (0..5).for_each(|i| rig.file(&format!("me-{i}-big-TOC.txt"), bytes(i, 500)));
    let gate = Gate::default();
    rig.server.faults.add(Rule::new(Fault::Hold(gate.clone())).on(&[RequestKind::PutObject]));
    let job = rig.start(rig.movedir());
    assert!(gate.reached(5, LONG).await);

    rig.jobs.stop(job).unwrap();
    let progress = rig.end(job).await;

    assert_eq!((progress.status, progress.failed), (JobStatus::Error, 2500));
    assert_eq!(rig.left().len(), 5);
}
