//! Suspend and resume of a whole cluster.

use testbed::harness::{Bed, Deadline, wait_for};

use crate::support::{HELD, config, hold_uploads, json, listed, small};

const ENDED: Deadline = Deadline::seconds(30);

async fn refused(bed: &Bed, arguments: &[&str], words: &str) -> anyhow::Result<()> {
    let run = bed.sctool(arguments).await?;
    assert_eq!(run.code, 1, "{run:?}");
    assert!(run.stderr.contains(words), "{words:?} is not in {run:?}");
    Ok(())
}

#[tokio::test]
async fn a_suspended_cluster_stops_its_backup_and_starts_none() -> anyhow::Result<()> {
    let mut bed = Bed::start(config(small(2))).await?;
    let gate = hold_uploads(&bed);
    let task = bed.create_backup(&["-K", "shop"]).await?;
    assert!(gate.reached(2, HELD).await, "no upload began\n{}", bed.log_tails());
    let policy = ["suspend", "-c", "test", "--suspend-policy", "fail_if_running_tasks"];
    refused(&bed, &policy, "can't complete operation because tasks are running").await?;

    assert_eq!(bed.sctool_ok(&["suspend", "-c", "test"]).await?, "");

    let stopped = listed(&bed, &task).await?;
    assert_eq!((&stopped["status"], &stopped["suspended"]), (&"STOPPED".into(), &true.into()));
    assert!(bed.sctool_ok(&["tasks", "-c", "test"]).await?.contains("[SUSPENDED]"));
    let status = json(&bed, &["status", "-c", "test"]).await?;
    assert_eq!(status["clusters"][0]["suspended"]["suspended"], true);
    gate.open();
    let location = bed.location();
    refused(&bed, &["start", "-c", "test", &task], "cluster is suspended").await?;
    let backup = ["backup", "-c", "test", "-L", &location];
    refused(&bed, &backup, "create task: cluster is suspended, scheduling tasks is not allowed").await?;
    bed.kill_manager()?;
    bed.start_manager().await?;
    refused(&bed, &["start", "-c", "test", &task], "cluster is suspended").await?;

    assert_eq!(bed.sctool_ok(&["resume", "-c", "test", "--start-tasks"]).await?, "");

    bed.run_done(&task, 2).await?;
    assert!(!bed.sctool_ok(&["status", "-c", "test"]).await?.contains("Suspended"));
    bed.assert_invariants().await
}

#[tokio::test]
async fn a_suspend_with_a_duration_resumes_by_itself_and_starts_what_it_stopped() -> anyhow::Result<()> {
    let mut bed = Bed::start(config(small(1))).await?;
    refused(
        &bed,
        &["suspend", "-c", "test", "--on-resume-start-tasks"],
        "can't use --on-resume-start-tasks without --duration",
    )
    .await?;
    let gate = hold_uploads(&bed);
    let task = bed.create_backup(&["-K", "shop"]).await?;
    assert!(gate.reached(1, HELD).await, "no upload began\n{}", bed.log_tails());

    let flags = ["--duration", "4s", "--on-resume-start-tasks"];
    let suspend = bed.sctool_ok(&[&["suspend", "-c", "test"], &flags[..]].concat()).await?;
    assert!(suspend.starts_with("suspend/"), "{suspend}");
    bed.api.wait_status("test", &task, "STOPPED", ENDED).await?;
    gate.open();
    let status = bed.sctool_ok(&["status", "-c", "test"]).await?;
    assert!(status.contains("Suspended"), "{status}");

    bed.run_done(&task, 2).await?;
    wait_for("the end of the suspend", ENDED, async || {
        let status = bed.sctool_ok(&["status", "-c", "test"]).await?;
        Ok((!status.contains("Suspended")).then_some(()))
    })
    .await?;
    bed.assert_invariants().await
}
