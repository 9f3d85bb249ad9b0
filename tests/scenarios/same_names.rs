//! Different SSTables under one name: integer generations come back after data loss.

use serde_json::json;
use testbed::cluster::{ClusterBuilder, GenerationIds, KeyspaceSpec, TableSpec};
use testbed::harness::Bed;
use testbed::node::SameName;

use crate::support::config;

/// Backs up, rewrites every SSTable of `shop.carts` under its old name, backs up again, and checks that both snapshots
/// find their own bytes (the ledger of the bed does).
async fn both_contents_stay(data_size: u64, how: SameName) -> anyhow::Result<()> {
    let keyspace = KeyspaceSpec::new("shop").table(TableSpec::new("carts").data_size(data_size));
    let cluster =
        ClusterBuilder::new().dc("dc1", 2).keyspace(keyspace).generation_ids(GenerationIds::Integer);
    let mut config = config(cluster);
    // Files from 5 MiB on go up in parts.
    config.agent = json!({"s3": {"upload_cutoff": "5M", "chunk_size": "5M"}});
    let mut bed = Bed::start(config).await?;
    let (task, _) = bed.backup(&[]).await?;
    for node in bed.cluster.nodes() {
        let rewritten = node.rewrite_same_names("shop", "carts", how).await?;
        assert!(!rewritten.is_empty());
    }

    let second = bed.backup_again(&task, 2).await?;

    let contents = bed.s3.contents(&bed.bucket).await?;
    let set_aside = contents.keys_below("backup/sst/").filter(|key| key.ends_with(&second)).count();
    match how {
        SameName::SameBytes => assert_eq!(set_aside, 0, "equal files are not sent again"),
        SameName::DifferentSize | SameName::DifferentBytes => {
            assert!(set_aside > 0, "the older copies are kept")
        }
    }
    bed.assert_invariants().await
}

#[tokio::test]
async fn small_files_of_another_size() -> anyhow::Result<()> {
    both_contents_stay(16 * 1024, SameName::DifferentSize).await
}

#[tokio::test]
async fn small_files_of_the_same_size() -> anyhow::Result<()> {
    both_contents_stay(16 * 1024, SameName::DifferentBytes).await
}

#[tokio::test]
async fn small_files_that_are_equal() -> anyhow::Result<()> {
    both_contents_stay(16 * 1024, SameName::SameBytes).await
}

#[tokio::test]
async fn large_files_of_another_size() -> anyhow::Result<()> {
    both_contents_stay(11 * 1024 * 1024, SameName::DifferentSize).await
}

#[tokio::test]
async fn large_files_of_the_same_size() -> anyhow::Result<()> {
    both_contents_stay(11 * 1024 * 1024, SameName::DifferentBytes).await
}
