//! Backups that go well.

use testbed::cluster::{ClusterBuilder, KeyspaceSpec, TableSpec};
use testbed::harness::Bed;

use crate::support::{config, number, sent_sstable_files, small};

#[tokio::test]
async fn a_first_backup_saves_every_table_that_holds_data_of_users() -> anyhow::Result<()> {
    let shop = KeyspaceSpec::new("shop")
        .table(TableSpec::new("carts").sstables(2).view("carts_by_user"))
        .table(TableSpec::new("orders").sstables(2).cdc())
        .table(TableSpec::new("locks").paxos())
        .table(TableSpec::new("empty").sstables(0));
    let tablets = KeyspaceSpec::new("events").tablets(8).table(TableSpec::new("log").sstables(3));
    let cluster = ClusterBuilder::new().dc("dc1", 2).dc("dc2", 2).keyspace(shop).keyspace(tablets);
    let mut bed = Bed::start(config(cluster)).await?;

    let (task, tag) = bed.backup(&[]).await?;

    let progress = bed.api.progress(&bed.name, &task).await?;
    assert_eq!(number(&progress, "uploaded"), number(&progress, "size"));
    let contents = bed.s3.contents(&bed.bucket).await?;
    let manifests: Vec<_> = contents.keys_below("backup/meta/").filter(|key| key.contains(&tag)).collect();
    assert_eq!(manifests.len(), 4, "one manifest for each node: {manifests:?}");
    let tables = bed.sctool_ok(&["backup", "list", "-c", "test", "--show-tables"]).await?;
    for table in ["carts", "orders", "locks", "empty", "log", "system_schema"] {
        assert!(tables.contains(table), "{table} is not in\n{tables}");
    }
    for derived in ["carts_by_user", "cdc_log", "paxos"] {
        assert!(!tables.contains(derived), "{derived} is in\n{tables}");
    }
    assert_eq!(
        bed.log_problems(&[])?,
        Vec::<String>::new(),
        "nothing went wrong, so nothing is worth a warning"
    );
    bed.assert_invariants().await
}

#[tokio::test]
async fn a_second_backup_without_change_sends_no_sstable_file() -> anyhow::Result<()> {
    let mut bed = Bed::start(config(small(2))).await?;
    let (task, _) = bed.backup(&[]).await?;
    bed.counters().reset();

    bed.backup_again(&task, 2).await?;

    assert_eq!(sent_sstable_files(&bed), Vec::<String>::new());
    let progress = bed.api.progress(&bed.name, &task).await?;
    assert_eq!(number(&progress, "skipped"), number(&progress, "size"));
    assert_eq!(number(&progress, "uploaded"), 0);
    bed.assert_invariants().await
}

#[tokio::test]
async fn a_backup_after_flush_and_compaction_sends_the_new_sstables_only() -> anyhow::Result<()> {
    let mut bed = Bed::start(config(small(2))).await?;
    let (task, _) = bed.backup(&[]).await?;
    bed.cluster.write_rows("shop", "carts", 20)?;
    bed.cluster.flush("shop", "carts").await?;
    bed.cluster.compact("shop", "orders").await?;
    bed.counters().reset();

    bed.backup_again(&task, 2).await?;

    let sent = sent_sstable_files(&bed);
    assert!(
        sent.iter().all(|key| key.contains("/table/carts/") || key.contains("/table/orders/")),
        "{sent:?}"
    );
    let data =
        |table: &str| sent.iter().filter(|key| key.contains(table) && key.ends_with("-Data.db")).count();
    assert_eq!((data("/table/carts/"), data("/table/orders/")), (2, 2), "one new SSTable on each node");
    bed.assert_invariants().await
}
