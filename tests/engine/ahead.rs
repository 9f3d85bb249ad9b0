//! Uploads that are begun while the bucket is being listed.

use std::time::Duration;

use common::api::agent::{FileOutcome, JobStatus};
use scylla_manager_agent::config::S3Provider;
use testbed::s3::{Fault, Gate, RequestKind, Rule};

use crate::support::{MIB, Rig, bytes, wait_until};

const BIG: &str = "me-1-big-Data.db";
/// More than anything here takes.
const LONG: Duration = Duration::from_secs(30);

/// One large file and so many small ones that the bucket is listed.
async fn rig() -> Rig {
    let rig = Rig::new(S3Provider::Aws).await;
    rig.file(BIG, bytes(1, 12 * MIB));
    (2..6).for_each(|i| rig.file(&format!("me-{i}-big-TOC.txt"), bytes(i, 100)));
    rig
}

/// Keeps the listing of the bucket waiting.
fn hold_the_listing(rig: &Rig) -> Gate {
    let gate = Gate::default();
    rig.server.faults.add(Rule::new(Fault::Hold(gate.clone())).on(&[RequestKind::ListObjectsV2]));
    gate
}

#[tokio::test]
async fn the_listing_does_not_keep_large_files_waiting() {
    let rig = rig().await;
    let gate = hold_the_listing(&rig);
    let job = rig.start(rig.movedir());
    assert!(gate.reached(1, LONG).await);
    wait_until(|| rig.answered(RequestKind::CreateMultipartUpload) == 1).await;
    assert_eq!(rig.requests(RequestKind::UploadPart), 0, "nothing is sent before it is known what is there");
    gate.open();
    assert_eq!(rig.end(job).await.status, JobStatus::Success);
    assert_eq!(rig.object(BIG).unwrap(), bytes(1, 12 * MIB));
    assert_eq!(rig.requests(RequestKind::CreateMultipartUpload), 1);
    assert_eq!(rig.requests(RequestKind::AbortMultipartUpload), 0);
    assert_eq!(rig.server.store.unfinished_uploads("backups"), 0);
}

#[tokio::test]
async fn an_upload_of_what_is_there_is_aborted() {
    let rig = rig().await;
    rig.upload().await;
    rig.file(BIG, bytes(1, 12 * MIB));
    let files = rig.upload().await;
    assert_eq!(files[BIG].outcome, FileOutcome::Skipped);
    assert_eq!(rig.requests(RequestKind::AbortMultipartUpload), 1);
    assert_eq!(rig.server.store.unfinished_uploads("backups"), 0);
}

#[tokio::test]
async fn a_job_that_ends_before_its_first_file_leaves_no_upload() {
    let denied = rig().await;
    denied.server.faults.add(Rule::new(Fault::access_denied()).on(&[RequestKind::ListObjectsV2]));
    let (progress, _) = denied.run(denied.movedir()).await;
    assert!(progress.error.contains("AccessDenied"), "{}", progress.error);

    let stopped = rig().await;
    let gate = hold_the_listing(&stopped);
    let job = stopped.start(stopped.movedir());
    wait_until(|| stopped.answered(RequestKind::CreateMultipartUpload) == 1).await;
    stopped.jobs.stop(job).unwrap();
    assert_eq!(stopped.end(job).await.error, "context canceled");
    gate.open();

    for rig in [denied, stopped] {
        assert_eq!(rig.requests(RequestKind::CreateMultipartUpload), 1);
        assert_eq!(rig.server.store.unfinished_uploads("backups"), 0);
        assert_eq!(rig.left().len(), 5);
    }
}
