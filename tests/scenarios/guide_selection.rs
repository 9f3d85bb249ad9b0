//! Data selection: what `-K` and `--dc` name is in the manifests and in the bucket, and no other table of users.

use std::collections::BTreeSet;

use testbed::cluster::{ClusterBuilder, KeyspaceSpec};
use testbed::harness::Bed;
use testbed::invariants::StoredTable;
use testbed::s3::S3Config;

use crate::support::config;

const ALL: &[&str] =
    &["auth_service.lru_cache", "auth_service.roles", "auth_service.users", "billing.invoices"];

async fn bed(buckets: &[&str]) -> anyhow::Result<Bed> {
    let auth = KeyspaceSpec::new("auth_service").table("users").table("roles").table("lru_cache");
    let billing = KeyspaceSpec::new("billing").table("invoices");
    let cluster = ClusterBuilder::new().dc("dc1", 1).dc("dc2", 1).dc("dc3", 1);
    let mut config = config(cluster.keyspace(auth).keyspace(billing));
    config.s3 = S3Config { buckets: buckets.iter().map(|&b| b.to_owned()).collect(), ..config.s3 };
    Bed::start(config).await
}

/// Datacenter and name of each table of users.
fn of_users(tables: &BTreeSet<StoredTable>) -> BTreeSet<(String, String)> {
    let of_users = tables.iter().filter(|t| !t.table.starts_with("system_"));
    of_users.map(|t| (t.dc.clone(), t.table.clone())).collect()
}

/// Types `sctool backup -c test -L s3:<bucket>` with more flags, and looks for these tables of these datacenters.
async fn backs_up(
    bed: &mut Bed,
    bucket: &str,
    flags: &[&str],
    dcs: &[&str],
    tables: &[&str],
) -> anyhow::Result<()> {
    let location = format!("s3:{bucket}");
    let task = bed.sctool_ok(&[&["backup", "-c", "test", "-L", &location], flags].concat()).await?;
    let tag = bed.run_done(task.trim(), 1).await?;

    let wanted =
        |dc: &&str| tables.iter().map(move |t| ((*dc).to_owned(), (*t).to_owned())).collect::<Vec<_>>();
    let wanted: BTreeSet<(String, String)> = dcs.iter().flat_map(wanted).collect();
    let contents = bed.s3.contents(bucket).await?;
    let listed = contents.listed_tables(&tag)?;
    assert_eq!(of_users(&listed), wanted, "{flags:?}: what the manifests list");
    assert_eq!(contents.stored_tables(), listed, "{flags:?}: what the bucket holds");
    let with_schema: BTreeSet<&str> =
        listed.iter().filter(|t| t.table == "system_schema.tables").map(|t| t.dc.as_str()).collect();
    assert_eq!(with_schema, dcs.iter().copied().collect(), "every backup brings the tables of its schema");
    bed.assert_invariants_of(bucket).await
}

#[tokio::test]
async fn one_table_up_to_the_whole_cluster() -> anyhow::Result<()> {
    let mut bed = bed(&["table", "pattern", "cluster"]).await?;
    let dcs = ["dc1", "dc2", "dc3"];
    backs_up(&mut bed, "table", &["-K", "billing.invoices"], &dcs, &["billing.invoices"]).await?;
    let pattern = ["-K", "auth_service.*,!auth_service.lru_cache"];
    backs_up(&mut bed, "pattern", &pattern, &dcs, &["auth_service.roles", "auth_service.users"]).await?;
    backs_up(&mut bed, "cluster", &[], &dcs, ALL).await
}

#[tokio::test]
async fn some_datacenters() -> anyhow::Result<()> {
    let mut bed = bed(&["one", "others"]).await?;
    backs_up(&mut bed, "one", &["--dc", "dc1"], &["dc1"], ALL).await?;
    backs_up(&mut bed, "others", &["--dc", "*,!dc2"], &["dc1", "dc3"], ALL).await?;

    // Scylla keeps two copies of traces wherever it likes, so some are in no selected datacenter.
    let planned = bed.sctool(&["backup", "-c", "test", "-L", "s3:one", "--dc", "dc1", "--dry-run"]).await?;
    let warning = "system_traces is left out: some of its data is in none of the datacenters dc1;";
    assert!(planned.code == 0 && planned.stderr.contains(warning), "{planned:?}");
    let traces = ["backup", "-c", "test", "-L", "s3:one", "--dc", "dc1", "-K", "system_traces"];
    let refused = bed.sctool(&traces).await?;
    assert!(
        refused.code == 1 && refused.stderr.contains("system_traces.events: the whole replica set"),
        "{refused:?}"
    );
    Ok(())
}
