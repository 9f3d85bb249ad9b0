//! Requests that are refused, cut, or answered into the void; servers that differ from AWS; wrong settings.

use std::path::Path;
use std::sync::Arc;

use common::api::agent::JobStatus;
use scylla_manager_agent::config::{Config, S3Provider, Secret};
use scylla_manager_agent::storage::{Hashes, ObjectPath, Payload, Stores};
use scylla_manager_agent::transfer::DirTransfer;
use scylla_manager_agent::transfer::rate_limit::RateLimits;
use testbed::s3::{Calls, Fault, Quirks, RequestKind, Rule, S3Config};

use crate::support::{MIB, Rig, bytes};

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
        let rig = Rig::new(S3Provider::Aws).await;
        let data = bytes(9, 11 * MIB);
        rig.file("me-1-big-Data.db", &data);
        (0..20).for_each(|i| rig.file(&format!("me-{i}-big-TOC.txt"), bytes(i, 2000)));
        for kind in [
            RequestKind::PutObject,
            RequestKind::ListObjectsV2,
            RequestKind::ListMultipartUploads,
            RequestKind::CreateMultipartUpload,
            RequestKind::UploadPart,
            RequestKind::CompleteMultipartUpload,
        ] {
            rig.server.faults.add(Rule::new(fault.clone()).on(&[kind]).calls(Calls::Nth(1)));
        }
        let (progress, files) = rig.run(rig.movedir()).await;
        assert_eq!((progress.status, progress.error.as_str()), (JobStatus::Success, ""), "{fault:?}");
        assert_eq!(progress.uploaded, 11 * MIB as u64 + 40_000);
        assert_eq!(rig.object("me-1-big-Data.db").unwrap(), data);
        assert_eq!(files["me-1-big-Data.db"].crc32, Some(crc32fast::hash(&data)));
        assert!(rig.left().is_empty());
    }
}

#[tokio::test]
async fn hopeless_errors_end_the_job_quickly_with_their_cause() {
    let rig = Rig::new(S3Provider::Aws).await;
    (0..200).for_each(|i| rig.file(&format!("f{i}"), bytes(1, 10)));
    rig.server.faults.add(Rule::new(Fault::access_denied()).on(&[RequestKind::PutObject]));
    let (progress, _) = rig.run(rig.movedir()).await;
    assert!(progress.error.contains("(code:AccessDenied)"), "{}", progress.error);
    assert!(rig.requests(RequestKind::PutObject) < 100);
    assert_eq!(rig.left().len(), 200);
    rig.server.faults.clear();

    let missing = DirTransfer { to: rig.place("s3", "nowhere/v"), ..rig.movedir() };
    let before = rig.server.counters.total().requests;
    let (progress, _) = rig.run(missing).await;
    assert!(progress.error.contains("NoSuchBucket"), "{}", progress.error);
    assert!(progress.error.contains("nowhere"), "the bucket is named: {}", progress.error);
    assert!(rig.server.counters.total().requests - before < 40);
    assert_eq!(rig.left().len(), 200);

    let vanished = DirTransfer { from: rig.place("data", "gone"), ..rig.movedir() };
    let (progress, _) = rig.run(vanished).await;
    assert_eq!(progress.error, "directory not found: gone");
}

#[tokio::test]
async fn a_private_authority_is_trusted_when_it_is_configured() {
    let rig = Rig::with(S3Provider::Other, S3Config { tls: true, ..S3Config::default() }).await;
    let data = bytes(1, 6 * MIB);
    rig.file("me-1-big-Data.db", &data);
    rig.upload().await;
    assert_eq!(rig.object("me-1-big-Data.db").unwrap(), data);

    let mut config = Config::default();
    config.s3.endpoint = Some(rig.server.endpoint());
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
    let rig = Rig::new(S3Provider::Aws).await;
    let mut config = Config::default();
    config.s3.endpoint = Some(rig.server.endpoint());
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

#[tokio::test]
async fn a_wrong_secret_ends_the_job_at_once_and_is_not_shown() {
    let mut rig = Rig::new(S3Provider::Other).await;
    rig.server.credentials.secret_key = "another-secret".into();
    rig.restart(S3Provider::Other);
    // Enough files for a listing: the answer to a HEAD has no body and so no reason.
    (0..100).for_each(|i| rig.file(&format!("f{i}"), b"x"));
    let (progress, _) = rig.run(rig.movedir()).await;
    assert_eq!(progress.status, JobStatus::Error);
    assert!(progress.error.contains("SignatureDoesNotMatch"), "{}", progress.error);
    assert!(!progress.error.contains("another-secret"));
    assert_eq!(rig.left().len(), 100);
}

#[tokio::test]
async fn encrypted_buckets_have_etags_that_are_no_md5() {
    let quirks = Quirks { opaque_etags: true, ..Quirks::default() };
    let rig = Rig::with(S3Provider::Aws, S3Config { quirks, ..S3Config::default() }).await;
    for (name, size) in [("me-1-big-Data.db", 12 * MIB), ("me-1-big-TOC.txt", 5000)] {
        rig.file(name, bytes(1, size));
        rig.upload().await;
        assert_eq!(rig.object(name).unwrap(), bytes(1, size));
    }
}
