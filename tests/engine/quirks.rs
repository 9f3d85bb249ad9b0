//! Servers that differ from AWS.

use common::api::agent::JobStatus;
use scylla_manager_agent::config::S3Provider;
use testbed::s3::{Credentials, Quirks, S3Config};

use crate::support::{MIB, Rig, body, facts};

async fn uploads_to(quirks: Quirks, provider: S3Provider) -> anyhow::Result<()> {
    let rig = Rig::start(provider, S3Config { quirks, ..S3Config::default() }).await?;
    let (small, large) = (body(5000, 1), body(12 * MIB, 2));
    rig.write("mc-1-big-Data.db", &large)?;
    rig.write("mc-1-big-TOC.txt", &small)?;
    let progress = rig.move_snapshot(".sm_20260101000000UTC").await?;
    assert_eq!(progress.status, JobStatus::Success, "{quirks:?}: {}", progress.error);
    assert_eq!(rig.object("mc-1-big-Data.db"), facts(&large));
    assert_eq!(rig.object("mc-1-big-TOC.txt"), facts(&small));
    Ok(())
}

#[tokio::test]
async fn ceph_forgets_checksums_and_answers_no_etag() -> anyhow::Result<()> {
    let quirks = Quirks { empty_complete_etag: true, forgets_checksums: true, ..Quirks::default() };
    uploads_to(quirks, S3Provider::Ceph).await
}

#[tokio::test]
async fn encrypted_buckets_have_etags_that_are_no_md5() -> anyhow::Result<()> {
    uploads_to(Quirks { opaque_etags: true, ..Quirks::default() }, S3Provider::Aws).await
}

#[tokio::test]
async fn over_tls_with_a_certificate_authority_of_ones_own() -> anyhow::Result<()> {
    let rig = Rig::start(S3Provider::Minio, S3Config { tls: true, ..S3Config::default() }).await?;
    let large = body(12 * MIB, 2);
    rig.write("mc-1-big-Data.db", &large)?;
    let progress = rig.move_snapshot(".sm_20260101000000UTC").await?;
    assert_eq!(progress.status, JobStatus::Success, "{}", progress.error);
    assert_eq!(rig.object("mc-1-big-Data.db"), facts(&large));
    Ok(())
}

#[tokio::test]
async fn a_missing_bucket_ends_the_job_at_once_and_keeps_the_files() -> anyhow::Result<()> {
    let rig =
        Rig::start(S3Provider::Minio, S3Config { buckets: vec!["other".into()], ..S3Config::default() })
            .await?;
    for number in 0..100 {
        rig.write(&format!("mc-{number}-big-TOC.txt"), &body(100, 1))?;
    }
    let progress = rig.move_snapshot(".sm_20260101000000UTC").await?;
    assert_eq!(progress.status, JobStatus::Error);
    assert!(progress.error.contains("NoSuchBucket"), "{}", progress.error);
    assert!(progress.error.contains("backups"), "the bucket is named: {}", progress.error);
    assert_eq!(rig.left()?.len(), 100);
    let requests = rig.server.counters.total().requests;
    assert!(requests < 40, "{requests} requests for a bucket that is not there");
    Ok(())
}

#[tokio::test]
async fn a_wrong_secret_ends_the_job_at_once_and_is_not_shown() -> anyhow::Result<()> {
    let mut rig = Rig::start(S3Provider::Minio, S3Config::default()).await?;
    rig.server.credentials =
        Credentials { secret_key: "another-secret".into(), ..rig.server.credentials.clone() };
    rig.restart_engine(S3Provider::Minio)?;
    // Enough files for a listing: the answer to a HEAD has no body and so no reason.
    for number in 0..100 {
        rig.write(&format!("mc-{number}-big-TOC.txt"), b"x")?;
    }
    let progress = rig.move_snapshot(".sm_20260101000000UTC").await?;
    assert_eq!(progress.status, JobStatus::Error);
    assert!(progress.error.contains("SignatureDoesNotMatch"), "{}", progress.error);
    assert!(!progress.error.contains("another-secret"));
    assert_eq!(rig.left()?.len(), 100);
    Ok(())
}
