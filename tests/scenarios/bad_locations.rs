//! Locations that cannot be used: the task is refused, and nothing is scheduled.

use serde_json::json;
use testbed::harness::{Bed, SctoolRun};

use crate::support::{config, small};

/// Checks the wording of the guide, one line for each host with the reason behind it.
fn assert_refused(run: &SctoolRun, bed: &Bed, reason: &str) {
    assert_eq!(run.code, 1, "{run:?}");
    assert_eq!(run.stdout, "");
    let words = "Error: failed to get backup target: location is not accessible\n ";
    assert!(run.stderr.contains(words), "{}", run.stderr);
    for node in bed.cluster.nodes() {
        let host = node.address().to_string();
        let line = run.stderr.lines().find(|line| line.trim_start().starts_with(&host));
        let line = line.unwrap_or_else(|| panic!("no line for {host} in\n{}", run.stderr));
        assert!(line.contains("make sure that the location is correct and credentials are set"), "{line}");
        assert!(line.contains(reason), "{reason:?} is not in {line}");
    }
}

#[tokio::test]
async fn a_missing_bucket_is_named_for_each_host() -> anyhow::Result<()> {
    let bed = Bed::start(config(small(2))).await?;
    for dry_run in [true, false] {
        let mut arguments = vec!["backup", "-c", "test", "-L", "s3:no-such-bucket"];
        arguments.extend(dry_run.then_some("--dry-run"));
        let refused = bed.sctool(&arguments).await?;
        assert_refused(&refused, &bed, "no-such-bucket");
        assert_eq!(refused.stderr.contains("NOTICE: dry run mode"), dry_run);
    }
    let tasks = bed.sctool_ok(&["tasks", "-c", "test", "-t", "backup"]).await?;
    assert!(!tasks.contains("backup/"), "nothing is scheduled: {tasks}");
    Ok(())
}

#[tokio::test]
async fn a_wrong_key_is_named_for_each_host() -> anyhow::Result<()> {
    let mut config = config(small(2));
    config.agent = json!({"s3": {"secret_access_key": "not the secret"}});
    let bed = Bed::start(config).await?;

    let refused = bed.sctool(&["backup", "-c", "test", "-L", &bed.location()]).await?;

    assert_refused(&refused, &bed, "SignatureDoesNotMatch");
    assert!(!refused.stderr.contains("not the secret"));
    assert_eq!(bed.keys().await?, Vec::<String>::new());
    Ok(())
}
