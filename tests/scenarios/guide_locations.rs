//! Locations: one bucket for all, or one for each datacenter, where no byte of another one goes.

use std::collections::BTreeSet;

use testbed::cluster::{ClusterBuilder, KeyspaceSpec};
use testbed::harness::Bed;
use testbed::s3::S3Config;

use crate::support::config;

async fn bed(dcs: [&str; 2], buckets: &[&str]) -> anyhow::Result<Bed> {
    let shop = KeyspaceSpec::new("shop").table("carts").table("orders");
    let cluster = ClusterBuilder::new().dc(dcs[0], 1).dc(dcs[1], 1).keyspace(shop);
    let mut config = config(cluster);
    config.s3 = S3Config { buckets: buckets.iter().map(|&b| b.to_owned()).collect(), ..config.s3 };
    Bed::start(config).await
}

/// Types `sctool backup -c test -L <locations>` and waits; each bucket must hold these datacenters whole and nothing
/// else.
async fn backs_up(bed: &mut Bed, locations: &str, expected: &[(&str, &[&str])]) -> anyhow::Result<()> {
    bed.counters().reset();
    let task = bed.sctool_ok(&["backup", "-c", "test", "-L", locations]).await?;
    let tag = bed.run_done(task.trim(), 1).await?;
    for (bucket, dcs) in expected {
        let contents = bed.s3.contents(bucket).await?;
        let listed = contents.listed_tables(&tag)?;
        let stored = contents.stored_tables();
        let found: BTreeSet<&str> = stored.iter().map(|table| table.dc.as_str()).collect();
        assert_eq!(found, dcs.iter().copied().collect(), "{locations}: {bucket}");
        assert_eq!(stored, listed, "{locations}: {bucket}");
        for dc in *dcs {
            assert!(listed.iter().any(|t| t.dc == *dc && t.table == "shop.orders"), "{locations}: {bucket}");
        }
        bed.assert_invariants_of(bucket).await?;
    }
    // Nor was anything only tried, or deleted again.
    for request in bed.counters().log() {
        let allowed = expected.iter().find(|(bucket, _)| *bucket == request.bucket);
        let (_, dcs) = allowed.unwrap_or_else(|| panic!("{locations}: a request for {}", request.bucket));
        if let Some((_, rest)) = request.key.split_once("/dc/") {
            let dc = rest.split('/').next().unwrap_or_default();
            assert!(dc.is_empty() || dcs.contains(&dc), "{locations}: {request:?}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn one_bucket_for_all_and_one_for_each_datacenter() -> anyhow::Result<()> {
    let mut bed = bed(["dc1", "dc2"], &["all", "a-bucket", "b-bucket"]).await?;
    backs_up(&mut bed, "s3:all", &[("all", &["dc1", "dc2"])]).await?;
    let locations = "dc1:s3:a-bucket,dc2:s3:b-bucket";
    backs_up(&mut bed, locations, &[("a-bucket", &["dc1"]), ("b-bucket", &["dc2"])]).await
}

#[tokio::test]
async fn the_guides_own_spelling() -> anyhow::Result<()> {
    let mut bed = bed(["eu-dc", "us-dc"], &["eu-backups", "us-backups"]).await?;
    let locations = "s3:eu-dc:eu-backups,s3:us-dc:us-backups";
    backs_up(&mut bed, locations, &[("eu-backups", &["eu-dc"]), ("us-backups", &["us-dc"])]).await?;
    let list = bed.sctool_ok(&["tasks", "-c", "test", "-t", "backup", "--all"]).await?;
    let task = list.split_whitespace().find(|word| word.contains("backup/")).unwrap_or_default();
    let info = bed.sctool_ok(&["info", "-c", "test", task.trim_start_matches('*')]).await?;
    assert!(info.contains("- location: 'eu-dc:s3:eu-backups,us-dc:s3:us-backups'\n"), "{info}");
    Ok(())
}
