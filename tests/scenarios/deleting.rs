//! Retention and deletion by tag.

use testbed::harness::Bed;

use crate::support::{config, small};

/// Replaces the content of one table, so that every backup has files of its own.
async fn change(bed: &Bed) -> anyhow::Result<()> {
    bed.cluster.write_rows("shop", "carts", 5)?;
    bed.cluster.flush("shop", "carts").await?;
    bed.cluster.compact("shop", "carts").await?;
    Ok(())
}

/// Tags in the bucket, oldest first.
async fn tags(bed: &Bed) -> anyhow::Result<Vec<String>> {
    let contents = bed.s3.contents(&bed.bucket).await?;
    let mut tags: Vec<String> = contents
        .keys_below("backup/meta/")
        .filter_map(|key| key.split("_tag_").nth(1)?.get(..20).map(str::to_owned))
        .collect();
    tags.sort();
    tags.dedup();
    Ok(tags)
}

#[tokio::test]
async fn retention_2_over_5_backups_keeps_the_newest_two() -> anyhow::Result<()> {
    let mut bed = Bed::start(config(small(2))).await?;
    let (task, first) = bed.backup(&["--retention", "2"]).await?;
    let mut made = vec![first];
    for run in 2..=5 {
        change(&bed).await?;
        made.push(bed.backup_again(&task, run).await?);
        bed.assert_invariants().await?;
    }

    assert_eq!(tags(&bed).await?, made[3..]);
    bed.assert_invariants().await
}

#[tokio::test]
async fn deleting_a_tag_keeps_what_others_share_with_it() -> anyhow::Result<()> {
    let mut bed = Bed::start(config(small(2))).await?;
    let (task, first) = bed.backup(&[]).await?;
    change(&bed).await?;
    let second = bed.backup_again(&task, 2).await?;
    let location = bed.location();

    bed.sctool_ok(&["backup", "delete", "-c", "test", "-L", &location, "--snapshot-tag", &first]).await?;
    assert_eq!(tags(&bed).await?, [second.as_str()]);
    bed.assert_invariants().await?;

    let again =
        bed.sctool(&["backup", "delete", "-c", "test", "-L", &location, "--snapshot-tag", &first]).await?;
    assert_eq!(again.code, 1, "a tag can be deleted once: {again:?}");

    bed.sctool_ok(&["backup", "delete", "-c", "test", "-L", &location, "--snapshot-tag", &second]).await?;
    let contents = bed.s3.contents(&bed.bucket).await?;
    assert_eq!(contents.keys_below("backup/sst/").collect::<Vec<_>>(), Vec::<&str>::new());
    assert_eq!(tags(&bed).await?, Vec::<String>::new());
    bed.assert_invariants().await
}
