//! Dry runs: the summary and the failure of the guide; nothing is scheduled, nothing is left behind.

use regex::Regex;
use serde_json::json;
use testbed::cluster::{ClusterBuilder, KeyspaceSpec};
use testbed::harness::Bed;

use crate::support::config;

const NOTICE: &str = "NOTICE: dry run mode, backup is not scheduled\n\n";

/// Two datacenters, as in the guide.
fn prod_cluster() -> ClusterBuilder {
    let auth = KeyspaceSpec::new("auth_service").table("roles").table("users").table("lru_cache");
    ClusterBuilder::new().dc("dc1", 2).dc("dc2", 1).keyspace(auth)
}

/// Neither a task nor an object, a part of an object or a local snapshot.
async fn assert_nothing_happened(bed: &Bed) -> anyhow::Result<()> {
    assert_eq!(bed.sctool_ok(&["tasks", "-c", "test", "-t", "backup", "--all"]).await?, "");
    let contents = bed.s3.contents(&bed.bucket).await?;
    assert!(contents.objects.is_empty(), "{:?}", contents.objects);
    assert_eq!(contents.unfinished_uploads, 0);
    assert_eq!(bed.local_snapshots().await?, []);
    Ok(())
}

#[tokio::test]
async fn a_dry_run_prints_the_summary_of_the_guide() -> anyhow::Result<()> {
    let bed = Bed::start(config(prod_cluster())).await?;
    let location = bed.location();
    let command = ["backup", "-c", "test", "-L", &location, "--dry-run"];

    let run = bed.sctool(&command).await?;

    assert_eq!((run.code, run.stderr.as_str()), (0, NOTICE));
    let size = Regex::new(r"Disk size: ~\d+\.\d{3}KiB\n")?;
    let printed = |text: &str| size.replace(text, "Disk size: ~[size]\n").replace(&location, "s3:backups");
    insta::assert_snapshot!(printed(&run.stdout), @"
    Data Centers:
      - dc1
      - dc2

    Keyspaces:
      - system_auth all (4 tables)
      - system_distributed (2 tables)
      - system_replicated_keys all (1 table)
      - system_traces all (5 tables)
      - auth_service all (3 tables)
      - system_schema all (15 tables)

    Disk size: ~[size]

    Locations:
      - s3:backups


    Backup Method: rclone

    Bandwidth Limits:
      - Unlimited

    Snapshot Parallel Limits:
      - All hosts in parallel

    Upload Parallel Limits:
      - All hosts in parallel

    Transfers: defined in scylla-manager-agent.yaml config

    Retention: Last 3 backups

    Retention Policy:
      - Retain last 3 backups
      - Retention lock is not applied to snapshot files
    ");
    assert_nothing_happened(&bed).await?;

    let flags = [
        "--dc",
        "dc1",
        "-K",
        "auth_service.*,!auth_service.lru_cache",
        "--show-tables",
        "--retention",
        "7",
        "--rate-limit",
        "dc1:50,100",
        "--snapshot-parallel",
        "1",
        "--upload-parallel",
        "dc1:2,1",
        "--skip-schema",
        "--transfers",
        "4",
        "--cron",
        "30 2 * * *",
        "--timezone",
        "Europe/Oslo",
    ];
    let all = bed.sctool_ok(&[&command[..], &flags].concat()).await?;
    insta::assert_snapshot!(printed(&all), @"
    Cron:	30 2 * * * (At 02:30 AM)
    Tz:	Europe/Oslo

    Data Centers:
      - dc1

    Keyspaces:
      - auth_service (roles, users)

    Disk size: ~[size]

    Locations:
      - s3:backups

    Skip Schema: snapshot won't contain schema that can be restored

    Backup Method: rclone

    Bandwidth Limits:
      - dc1:50 MiB/s
      - 100 MiB/s

    Snapshot Parallel Limits:
      - 1

    Upload Parallel Limits:
      - dc1:2
      - 1

    Transfers:	4

    Retention: Last 7 backups

    Retention Policy:
      - Retain last 7 backups
      - Retention lock is not applied to snapshot files
    ");
    assert_nothing_happened(&bed).await
}

#[tokio::test]
async fn a_dry_run_that_cannot_reach_the_location_fails_as_in_the_guide() -> anyhow::Result<()> {
    let mut config = config(prod_cluster());
    config.agent = json!({"s3": {"secret_access_key": "rotated last night"}});
    let bed = Bed::start(config).await?;
    for bucket in ["test-bucket", &bed.bucket] {
        let location = format!("s3:{bucket}");
        let run = bed.sctool(&["backup", "-c", "test", "-L", &location, "--dry-run"]).await?;

        assert_eq!((run.code, run.stdout.as_str()), (1, ""));
        let error =
            run.stderr.strip_prefix(NOTICE).unwrap_or_else(|| panic!("the notice comes first: {run:?}"));
        let error = error.split_once("Error: ").map_or("", |(_, error)| error);
        let (head, rest) = error.split_once('\n').unwrap_or_default();
        assert!(head.ends_with("get backup target: location is not accessible"), "{head}");
        let hosts: Vec<&str> = rest.lines().take_while(|line| line.starts_with(' ')).collect();
        assert_eq!(hosts.len(), bed.cluster.nodes().len(), "one line for each node: {error}");
        for (line, node) in hosts.iter().zip(bed.cluster.nodes()) {
            let words = format!(
                " {}: failed to access {location} make sure that the location is correct and credentials are set",
                node.address()
            );
            assert!(line.starts_with(&words), "{line}");
        }
        assert_nothing_happened(&bed).await?;
    }
    Ok(())
}
