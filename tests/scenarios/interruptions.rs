//! Runs that are cut short in mid-upload and go on.

use std::time::{Duration, Instant};

use testbed::harness::{Bed, Deadline};

use crate::support::{HELD, config, hold_uploads, number, small};

/// A cluster registered, a backup running and standing at the gate in mid-upload.
async fn bed_in_mid_upload() -> anyhow::Result<(Bed, String, testbed::s3::Gate)> {
    let bed = Bed::start(config(small(2))).await?;
    let gate = hold_uploads(&bed);
    let task = bed.create_backup(&[]).await?;
    assert!(gate.reached(2, HELD).await, "no upload began\n{}", bed.log_tails());
    Ok((bed, task, gate))
}

#[tokio::test]
async fn a_stopped_backup_goes_on_where_it_was() -> anyhow::Result<()> {
    let (mut bed, task, gate) = bed_in_mid_upload().await?;
    let tag = bed.api.progress(&bed.name, &task).await?["snapshot_tag"].clone();

    let asked = Instant::now();
    bed.sctool_ok(&["stop", "-c", "test", &task]).await?;
    bed.api.wait_status(&bed.name, &task, "STOPPED", Deadline::seconds(20)).await?;
    // What is on its way has two seconds to arrive, and here it cannot.
    assert!(asked.elapsed() > Duration::from_millis(1500), "STOPPED while jobs still send");
    bed.assert_invariants_amid_run().await?;
    gate.open();

    let resumed = bed.backup_again(&task, 2).await?;
    assert_eq!(tag, resumed, "the snapshot is the same");
    let progress = bed.api.progress(&bed.name, &task).await?;
    assert_eq!(number(&progress, "uploaded") + number(&progress, "skipped"), number(&progress, "size"));
    bed.assert_invariants().await
}

#[tokio::test]
async fn a_killed_agent_loses_its_jobs_and_the_run_goes_on() -> anyhow::Result<()> {
    let (mut bed, task, gate) = bed_in_mid_upload().await?;

    bed.kill_agent(0)?;
    gate.open();
    bed.start_agent(0).await?;

    bed.run_done(&task, 1).await?;
    bed.assert_invariants().await
}

#[tokio::test]
async fn a_killed_manager_continues_the_run_when_it_is_back() -> anyhow::Result<()> {
    let (mut bed, task, gate) = bed_in_mid_upload().await?;
    let tag = bed.api.progress(&bed.name, &task).await?["snapshot_tag"].clone();

    bed.kill_manager()?;
    gate.open();
    bed.start_manager().await?;

    let continued = bed.run_done(&task, 2).await?;
    assert_eq!(tag, continued, "the snapshot is the same");
    let history = bed.api.history(&bed.name, &task).await?;
    assert_eq!(history[1].status, "ABORTED");
    bed.assert_invariants().await
}

#[tokio::test]
async fn manager_and_agents_killed_together_continue_as_well() -> anyhow::Result<()> {
    let (mut bed, task, gate) = bed_in_mid_upload().await?;

    bed.kill_manager()?;
    for agent in 0..2 {
        bed.kill_agent(agent)?;
    }
    gate.open();
    for agent in 0..2 {
        bed.start_agent(agent).await?;
    }
    bed.start_manager().await?;

    bed.run_done(&task, 2).await?;
    bed.assert_invariants().await
}
