//! A backup that runs once, now: the printed ID goes with every command, also in the words of 2.x.

use regex::Regex;
use testbed::harness::{Bed, Deadline};

use crate::support::{HELD, config, hold_uploads, listed, small};

const ENDED: Deadline = Deadline::seconds(20);

/// What `sctool backup -c test -L <bucket>` prints, without the end of its line.
async fn printed_id(bed: &Bed) -> anyhow::Result<String> {
    let printed = bed.sctool_ok(&["backup", "-c", "test", "-L", &bed.location(), "-K", "shop"]).await?;
    let reference = Regex::new(r"^backup/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\n$")?;
    assert!(reference.is_match(&printed), "{printed:?}");
    Ok(printed.trim().to_owned())
}

#[tokio::test]
async fn the_printed_id_goes_with_every_command() -> anyhow::Result<()> {
    let mut bed = Bed::start(config(small(2))).await?;
    let gate = hold_uploads(&bed);
    let task = printed_id(&bed).await?;
    assert!(gate.reached(2, HELD).await, "no upload began\n{}", bed.log_tails());

    let progress = bed.sctool_ok(&["progress", "-c", "test", &task]).await?;
    assert!(progress.contains("Status:\t\tRUNNING (uploading data)\n"), "{progress}");
    let info = bed.sctool_ok(&["info", "-c", "test", &task]).await?;
    assert!(info.starts_with(&format!("Name:\t{task}\nCron:   no activations scheduled\n")), "{info}");

    bed.sctool_ok(&["stop", "-c", "test", &task]).await?;
    bed.api.wait_status("test", &task, "STOPPED", ENDED).await?;
    let progress = bed.sctool_ok(&["progress", "-c", "test", &task]).await?;
    assert!(progress.contains("Status:\t\tSTOPPED (uploading data)\n"), "{progress}");
    gate.open();
    bed.sctool_ok(&["start", "-c", "test", &task]).await?;
    let tag = bed.run_done(&task, 2).await?;

    let updated = bed.sctool_ok(&["backup", "update", "-c", "test", &task, "--retention", "5"]).await?;
    assert_eq!(updated, format!("{task}\n"));
    let info = bed.sctool_ok(&["info", "-c", "test", &task]).await?;
    assert!(info.contains("- retention: 5\n") && info.contains("DONE"), "{info}");
    let progress = bed.sctool_ok(&["progress", "-c", "test", &task, "--details"]).await?;
    assert!(
        progress.contains(&format!("Snapshot Tag:\t{tag}\n")) && progress.contains("orders"),
        "{progress}"
    );
    assert!(listed(&bed, &task).await?["next_activation"].is_null(), "it does not repeat");
    bed.assert_invariants().await
}

/// Runs `sctool task <words>`, checks the note on stderr, answers stdout.
async fn legacy(bed: &Bed, words: &[&str]) -> anyhow::Result<String> {
    let run = bed.sctool(&[&["task", words[0], "-c", "test"], &words[1..]].concat()).await?;
    assert_eq!(run.code, 0, "{run:?}");
    assert!(run.stderr.starts_with(&format!("Command \"{}\" is deprecated, use ", words[0])), "{run:?}");
    Ok(run.stdout)
}

#[tokio::test]
async fn the_printed_id_goes_with_the_commands_of_2_x() -> anyhow::Result<()> {
    let mut bed = Bed::start(config(small(1))).await?;
    let gate = hold_uploads(&bed);
    let task = printed_id(&bed).await?;
    assert!(gate.reached(1, HELD).await, "no upload began\n{}", bed.log_tails());

    assert!(legacy(&bed, &["list"]).await?.contains(&task));
    assert!(legacy(&bed, &["progress", &task]).await?.contains("RUNNING (uploading data)"));
    assert_eq!(legacy(&bed, &["stop", &task]).await?, "");
    bed.api.wait_status("test", &task, "STOPPED", ENDED).await?;
    gate.open();
    assert_eq!(legacy(&bed, &["start", &task]).await?, "");
    bed.run_done(&task, 2).await?;
    let history = legacy(&bed, &["history", &task]).await?;
    assert!(history.contains("DONE") && history.contains("STOPPED"), "{history}");

    assert_eq!(legacy(&bed, &["update", &task, "-s", "now+3h", "-e", "false"]).await?, "");
    assert!(!legacy(&bed, &["list"]).await?.contains(&task), "disabled tasks are hidden");
    assert!(legacy(&bed, &["list", "--all"]).await?.contains(&format!("*{task}")));
    assert_eq!(legacy(&bed, &["delete", &task]).await?, "");
    assert!(!legacy(&bed, &["list", "--all"]).await?.contains(&task));
    bed.assert_invariants().await
}
