//! Nodes that are down or full.

use serde_json::json;
use testbed::cluster::{ClusterBuilder, KeyspaceSpec, TableSpec};
use testbed::harness::Bed;

use crate::support::{config, small};

#[tokio::test]
async fn a_node_that_is_down_is_left_out_when_others_hold_its_data() -> anyhow::Result<()> {
    let mut bed = Bed::start(config(small(3))).await?;
    bed.cluster.nodes()[2].stop().await;

    let (task, tag) = bed.backup(&[]).await?;

    let contents = bed.s3.contents(&bed.bucket).await?;
    let manifests: Vec<&str> = contents.keys_below("backup/meta/").filter(|key| key.contains(&tag)).collect();
    assert_eq!(manifests.len(), 2, "{manifests:?}");
    let down = bed.cluster.nodes()[2].host_id().to_string();
    assert!(manifests.iter().all(|key| !key.contains(&down)));
    let told = format!("WARNING! node {} does not answer and is left out", bed.cluster.nodes()[2].address());
    let location = bed.location();
    for command in
        [&["progress", "-c", "test", &task][..], &["backup", "-c", "test", "-L", &location, "--dry-run"]]
    {
        let run = bed.sctool(command).await?;
        assert!(run.code == 0 && run.stderr.contains(&told), "{run:?}");
    }
    bed.assert_invariants().await
}

#[tokio::test]
async fn a_node_that_alone_holds_data_must_be_up() -> anyhow::Result<()> {
    let keyspace = KeyspaceSpec::new("shop").replicas("dc1", 1).table(TableSpec::new("carts"));
    let bed = Bed::start(config(ClusterBuilder::new().dc("dc1", 3).keyspace(keyspace))).await?;
    bed.cluster.nodes()[2].stop().await;

    let location = bed.location();
    let refused = bed.sctool(&["backup", "-c", "test", "-L", &location]).await?;

    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.stderr.contains("replica set"), "{}", refused.stderr);
    bed.assert_invariants().await
}

#[tokio::test]
async fn no_snapshot_is_taken_on_a_disk_that_is_too_full() -> anyhow::Result<()> {
    let mut config = config(small(1));
    // No disk is that empty.
    config.manager = json!({"backup": {"disk_space_free_min_percent": 99}});
    let bed = Bed::start(config).await?;

    let task = bed.create_backup(&[]).await?;
    let ended = bed.run_ended(&task, 1).await?;

    assert_eq!(ended.status, "ERROR");
    let host = bed.cluster.nodes()[0].address().to_string();
    assert!(ended.cause.contains(&host) && ended.cause.contains("not enough disk space"), "{}", ended.cause);
    assert_eq!(bed.local_snapshots().await?, []);
    bed.assert_invariants().await
}
