//! Requests that are refused, cut, or answered into the void.

use common::api::agent::JobStatus;
use scylla_manager_agent::config::S3Provider;
use testbed::s3::{Calls, Fault, RequestKind, Rule, S3Config};

use crate::support::{MIB, Rig, body, facts};

const WRITES: &[RequestKind] = &[
    RequestKind::PutObject,
    RequestKind::CreateMultipartUpload,
    RequestKind::UploadPart,
    RequestKind::CompleteMultipartUpload,
];

/// Moves three files while `rule` is in force and checks that they arrive as they are.
async fn survives(rule: Rule) -> anyhow::Result<()> {
    let name = format!("{rule:?}");
    let rig = Rig::start(S3Provider::Aws, S3Config::default()).await?;
    let large = body(12 * MIB, 1);
    rig.write("mc-1-big-Index.db", &large)?;
    for number in 0..20 {
        rig.write(&format!("mc-{number}-big-TOC.txt"), &body(3000, 2))?;
    }
    let id = rig.server.faults.add(rule);
    let progress = rig.move_snapshot(".sm_20260101000000UTC").await?;
    assert!(rig.server.faults.remove(id) > 0, "{name} hit nothing");
    assert_eq!(progress.status, JobStatus::Success, "{name}: {}", progress.error);
    assert_eq!(rig.object("mc-1-big-Index.db"), facts(&large), "{name}");
    for number in 0..20 {
        assert_eq!(rig.object(&format!("mc-{number}-big-TOC.txt")), facts(&body(3000, 2)), "{name}");
    }
    assert_eq!(rig.left()?, Vec::<String>::new(), "{name}");
    assert_eq!(rig.server.store.unfinished_uploads("backups"), 0, "{name}");
    Ok(())
}

#[tokio::test]
async fn throttling_is_waited_out() -> anyhow::Result<()> {
    survives(Rule::new(Fault::slow_down()).on(WRITES).calls(Calls::Every(3))).await
}

#[tokio::test]
async fn errors_of_the_server_are_tried_again() -> anyhow::Result<()> {
    survives(Rule::new(Fault::internal_error()).on(WRITES).calls(Calls::Every(4))).await
}

#[tokio::test]
async fn cut_bodies_are_sent_again() -> anyhow::Result<()> {
    survives(
        Rule::new(Fault::CutRequest(1000))
            .on(&[RequestKind::PutObject, RequestKind::UploadPart])
            .calls(Calls::Every(3)),
    )
    .await
}

#[tokio::test]
async fn lost_replies_to_whole_files_change_nothing() -> anyhow::Result<()> {
    survives(Rule::new(Fault::LostReply).on(&[RequestKind::PutObject]).calls(Calls::Every(3))).await
}

#[tokio::test]
async fn lost_replies_to_parts_change_nothing() -> anyhow::Result<()> {
    survives(Rule::new(Fault::LostReply).on(&[RequestKind::UploadPart]).calls(Calls::First(1))).await
}

#[tokio::test]
async fn a_lost_reply_to_the_completion_is_no_failure() -> anyhow::Result<()> {
    survives(Rule::new(Fault::LostReply).on(&[RequestKind::CompleteMultipartUpload]).calls(Calls::First(1)))
        .await
}

#[tokio::test]
async fn broken_listings_are_asked_for_again() -> anyhow::Result<()> {
    survives(
        Rule::new(Fault::CutReply(10))
            .on(&[RequestKind::ListObjectsV2, RequestKind::HeadObject])
            .calls(Calls::First(1)),
    )
    .await
}
