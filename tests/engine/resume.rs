//! A job that is cut in mid-upload, and the next one that goes on from there.

use std::time::Duration;

use common::api::agent::JobStatus;
use scylla_manager_agent::config::S3Provider;
use testbed::s3::{Calls, Fault, Gate, RequestKind, Rule, S3Config};

use crate::support::{MIB, Rig, body, facts};

#[tokio::test]
async fn parts_that_arrived_are_not_sent_twice() -> anyhow::Result<()> {
    let mut rig = Rig::start(S3Provider::Aws, S3Config::default()).await?;
    let large = body(31 * MIB, 1);
    rig.write("mc-1-big-Data.db", &large)?;
    let gate = Gate::default();
    let held = Rule::new(Fault::Hold(gate.clone())).on(&[RequestKind::UploadPart]).calls(Calls::From(4));
    rig.server.faults.add(held);
    let _job = rig.start_move(".sm_20260101000000UTC")?;
    assert!(gate.reached(1, Duration::from_secs(30)).await);

    // As after kill -9: whoever held the job is gone.
    rig.restart_engine(S3Provider::Aws)?;
    rig.server.faults.clear();
    let progress = rig.move_snapshot(".sm_20260101000000UTC").await?;

    assert_eq!(progress.status, JobStatus::Success, "{}", progress.error);
    assert_eq!(rig.object("mc-1-big-Data.db"), facts(&large));
    let answered = rig.server.counters.log();
    let sent = answered.iter().filter(|r| r.kind == RequestKind::UploadPart && r.status == 200).count();
    // Two parts are in flight at a time. Those of the engine that is gone may still arrive, also after the
    // new one has asked what is there; all others must not be sent twice.
    assert!(sent <= 7 + 2, "7 parts took {sent} requests");
    assert_eq!(rig.server.store.unfinished_uploads("backups"), 0);
    Ok(())
}

#[tokio::test]
async fn leftovers_of_another_file_of_that_name_are_aborted() -> anyhow::Result<()> {
    let mut rig = Rig::start(S3Provider::Aws, S3Config::default()).await?;
    rig.write("mc-1-big-Data.db", &body(16 * MIB, 1))?;
    let gate = Gate::default();
    rig.server
        .faults
        .add(Rule::new(Fault::Hold(gate.clone())).on(&[RequestKind::UploadPart]).calls(Calls::From(2)));
    let _job = rig.start_move(".sm_20260101000000UTC")?;
    assert!(gate.reached(1, Duration::from_secs(30)).await);
    rig.restart_engine(S3Provider::Aws)?;
    rig.server.faults.clear();

    let other = body(16 * MIB, 2);
    rig.write("mc-1-big-Data.db", &other)?;
    let progress = rig.move_snapshot(".sm_20260102000000UTC").await?;

    assert_eq!(progress.status, JobStatus::Success, "{}", progress.error);
    assert_eq!(rig.object("mc-1-big-Data.db"), facts(&other));
    assert_eq!(rig.server.store.unfinished_uploads("backups"), 0);
    Ok(())
}

#[tokio::test]
async fn a_stopped_job_leaves_the_files_that_were_not_sent() -> anyhow::Result<()> {
    let rig = Rig::start(S3Provider::Minio, S3Config::default()).await?;
    for number in 0..5 {
        rig.write(&format!("mc-{number}-big-TOC.txt"), &body(500, 1))?;
    }
    let gate = Gate::default();
    rig.server.faults.add(Rule::new(Fault::Hold(gate.clone())).on(&[RequestKind::PutObject]));
    let job = rig.start_move(".sm_20260101000000UTC")?;
    assert!(gate.reached(1, Duration::from_secs(30)).await);

    rig.jobs.stop(job)?;
    let progress = rig.jobs.progress(job, Duration::from_secs(30)).await?;

    assert_eq!(progress.status, JobStatus::Error);
    assert_eq!(rig.left()?.len(), 5);
    Ok(())
}
