//! Retention: old backups go when all went right, and only then.

use std::collections::BTreeSet;

use testbed::harness::Bed;
use testbed::s3::{Fault, RequestKind, Rule};

use crate::support::{config, json, small};

const WRITE: &[RequestKind] = &[RequestKind::PutObject, RequestKind::CopyObject];

/// What is refused, so that a run fails in an early, in a middle and in the last stage before the purge.
const REFUSED: &[&str] = &["backup/schema/*", "*/keyspace/shop/*-Data.db", "*_manifest.json.gz"];

async fn tags(bed: &Bed) -> anyhow::Result<BTreeSet<String>> {
    let document = json(bed, &["backup", "list", "-c", "test"]).await?;
    let items = document["backups"].as_array().cloned().unwrap_or_default();
    let snapshots = items.iter().flat_map(|item| item["snapshot_info"].as_array().into_iter().flatten());
    Ok(snapshots.filter_map(|s| s["snapshot_tag"].as_str().map(str::to_owned)).collect())
}

async fn keys(bed: &Bed) -> anyhow::Result<BTreeSet<String>> {
    Ok(bed.s3.contents(&bed.bucket).await?.keys_below("backup/").map(str::to_owned).collect())
}

#[tokio::test]
async fn a_run_that_fails_purges_nothing_and_the_next_good_one_does() -> anyhow::Result<()> {
    let mut bed = Bed::start(config(small(2))).await?;
    let (task, first) = bed.backup(&["--retention", "2"]).await?;
    bed.cluster.compact("shop", "orders").await?;
    let second = bed.backup_again(&task, 2).await?;
    // Nothing that is on the nodes from now on is in these backups.
    bed.cluster.write_rows("shop", "carts", 3)?;
    bed.cluster.flush("shop", "carts").await?;
    bed.cluster.compact("shop", "carts").await?;
    let before = keys(&bed).await?;

    for (at, key) in REFUSED.iter().enumerate() {
        bed.faults().add(Rule::new(Fault::access_denied()).on(WRITE).key(key));
        bed.start_task(&task).await?;
        let ended = bed.run_ended(&task, 3 + at).await?;
        assert_eq!(ended.status, "ERROR", "{key}: {}", ended.cause);
        assert!(ended.cause.contains("AccessDenied"), "{key}: {}", ended.cause);
        bed.faults().clear();
        let lost: Vec<String> = before.difference(&keys(&bed).await?).cloned().collect();
        assert!(lost.is_empty(), "refused {key}, lost {lost:#?}");
        assert_eq!(tags(&bed).await?, [first.clone(), second.clone()].into(), "refused {key}");
        bed.assert_invariants_amid_run().await?;
    }

    let third = bed.backup_again(&task, 3 + REFUSED.len()).await?;
    assert_eq!(tags(&bed).await?, [second, third].into(), "the newest two stay");
    let after = keys(&bed).await?;
    assert!(before.iter().any(|key| !after.contains(key)), "what only the first one needed is gone");
    bed.assert_invariants().await
}
