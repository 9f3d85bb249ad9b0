//! Deduplication: no node sends an SSTable twice.

use std::collections::BTreeMap;

use serde_json::json;
use testbed::cluster::{ClusterBuilder, KeyspaceSpec, TableSpec};
use testbed::harness::Bed;

use crate::support::{config, number, sent_sstable_files};

#[tokio::test]
async fn over_many_backups_each_sstable_is_sent_once() -> anyhow::Result<()> {
    let small = TableSpec::new("carts").sstables(3);
    let large = TableSpec::new("photos").data_size(6 << 20);
    let shop = KeyspaceSpec::new("shop").table(small).table(large);
    let mut config = config(ClusterBuilder::new().dc("dc1", 2).keyspace(shop));
    // Photos go up in parts.
    config.agent = json!({"s3": {"upload_cutoff": "5M", "chunk_size": "5M"}});
    let mut bed = Bed::start(config).await?;

    let (daily, _) = bed.backup(&["--retention", "2"]).await?;
    for run in 2..=4 {
        bed.cluster.write_rows("shop", "carts", 10)?;
        bed.cluster.flush("shop", "carts").await?;
        bed.backup_again(&daily, run).await?;
    }
    bed.cluster.compact("shop", "carts").await?;
    bed.backup_again(&daily, 5).await?;
    // Another task knows what the first one sent.
    let (weekly, _) = bed.backup(&[]).await?;

    let mut times: BTreeMap<String, usize> = BTreeMap::new();
    for key in sent_sstable_files(&bed) {
        *times.entry(key).or_default() += 1;
    }
    let twice: Vec<_> = times.iter().filter(|(_, times)| **times > 1).collect();
    assert!(twice.is_empty(), "sent more than once: {twice:#?}");
    let data = |table: &str| times.keys().filter(|k| k.contains(table) && k.ends_with("-Data.db")).count();
    assert_eq!(data("/table/photos/"), 2, "one for each node");
    assert_eq!(data("/table/carts/"), 2 * (3 + 3 + 1), "first ones, new ones, and the compacted one");
    let progress = bed.api.progress(&bed.name, &weekly).await?;
    assert_eq!(number(&progress, "skipped"), number(&progress, "size"));
    bed.assert_invariants().await
}
