//! The CQL schema of a backup: stored with it, replayable in order, and its absence told.

use std::io::Read;
use std::sync::Arc;

use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use scylla::policies::host_filter::AllowListHostFilter;
use serde_json::Value;
use testbed::cluster::{ClusterBuilder, CqlTls, KeyspaceSpec, SimCluster, TableSpec};
use testbed::harness::{Bed, BedConfig};
use testbed::node::SimNode;

use crate::support::config;

const USER: &str = "scylla_admin";
const PASSWORD: &str = "correct horse";

/// Tables with everything that hangs on them, in a cluster that demands a password.
fn cluster() -> ClusterBuilder {
    let shop = KeyspaceSpec::new("shop")
        .table(TableSpec::new("carts").view("carts_by_user").index("carts_by_state"))
        .table(TableSpec::new("orders").cdc());
    let events = KeyspaceSpec::new("events").tablets(4).table("log");
    ClusterBuilder::new().dc("dc1", 1).keyspace(shop).keyspace(events).auth(USER, PASSWORD)
}

/// The cluster demands a client certificate too, and the manager knows the login.
fn with_credentials() -> BedConfig {
    let cluster = cluster().cql_tls(CqlTls::ClientCertificate);
    BedConfig { cql: Some((USER.to_owned(), PASSWORD.to_owned())), ..config(cluster) }
}

/// Tells the manager a client certificate. Before, a dry run says which one is missing.
async fn give_certificate(bed: &Bed) -> anyhow::Result<()> {
    let dry_run = bed.sctool(&["backup", "-c", "test", "-L", &bed.location(), "--dry-run"]).await?;
    assert!(
        dry_run.stderr.contains(WARNING) && dry_run.stderr.contains("--ssl-user-cert-file"),
        "{dry_run:?}"
    );
    let made = rcgen::generate_simple_self_signed(vec!["manager".to_owned()])?;
    let (certificate, key) = (bed.dir().join("manager.crt"), bed.dir().join("manager.key"));
    std::fs::write(&certificate, made.cert.pem())?;
    std::fs::write(&key, made.signing_key.serialize_pem())?;
    let (certificate, key) = (certificate.display().to_string(), key.display().to_string());
    let flags = ["--ssl-user-cert-file", &certificate, "--ssl-user-key-file", &key];
    bed.sctool_ok(&[&["cluster", "update", "-c", "test"], &flags[..]].concat()).await?;
    Ok(())
}

/// The schema file of a backup, unpacked.
async fn schema_file(bed: &Bed, tag: &str) -> anyhow::Result<Vec<Value>> {
    let contents = bed.s3.contents(&bed.bucket).await?;
    let key = contents.keys_below("backup/schema/").find(|key| key.contains(tag));
    let key = key.unwrap_or_else(|| panic!("no schema of {tag}")).to_owned();
    let listed = bed.sctool_ok(&["backup", "files", "-c", "test", "--snapshot-tag", tag]).await?;
    assert_eq!(listed.lines().next(), Some(format!("s3://{}/{key} \t ./", bed.bucket).as_str()));
    let mut text = String::new();
    let packed = bed.s3.object(&bed.bucket, &key).await?.unwrap_or_else(|| panic!("no object {key}"));
    flate2::read::GzDecoder::new(packed.as_ref()).read_to_string(&mut text)?;
    Ok(serde_json::from_str(&text)?)
}

async fn session(node: &SimNode) -> anyhow::Result<Session> {
    let only = AllowListHostFilter::new([node.cql_addr()])?;
    let builder = SessionBuilder::new().known_node_addr(node.cql_addr()).user(USER, PASSWORD);
    Ok(builder.host_filter(Arc::new(only)).fetch_schema_metadata(false).build().await?)
}

/// What the node says about its own schema.
async fn described(session: &Session) -> anyhow::Result<Vec<[Option<String>; 4]>> {
    let rows = session.query_unpaged("DESCRIBE SCHEMA WITH INTERNALS", &[]).await?.into_rows_result()?;
    type Row = (Option<String>, Option<String>, Option<String>, Option<String>);
    let rows: Result<Vec<Row>, _> = rows.rows::<Row>()?.collect();
    Ok(rows?.into_iter().map(|(keyspace, kind, name, statement)| [keyspace, kind, name, statement]).collect())
}

#[tokio::test]
async fn the_schema_of_every_backup_replays_in_order_on_a_new_cluster() -> anyhow::Result<()> {
    let mut bed = Bed::start(with_credentials()).await?;
    give_certificate(&bed).await?;
    let (task, first) = bed.backup(&["-K", "shop,events"]).await?;
    bed.cluster.drop_table("events", "log")?;
    let second = bed.backup_again(&task, 2).await?;
    assert_eq!(bed.log_problems(&["CQL connection cannot be made"])?, Vec::<String>::new());

    for (tag, has_log) in [(first, true), (second, false)] {
        let rows = schema_file(&bed, &tag).await?;
        let fresh =
            SimCluster::builder().dc("dc1", 1).auth(USER, PASSWORD).empty_system_tables().start().await?;
        let session = session(&fresh.nodes()[0]).await?;
        for row in &rows {
            let statement = row["cql_stmt"].as_str().unwrap_or_default();
            session.query_unpaged(statement, &[]).await?;
        }
        let replayed = described(&session).await?;
        let text = |row: &Value, name: &str| row[name].as_str().filter(|t| !t.is_empty()).map(str::to_owned);
        let stored: Vec<_> = rows
            .iter()
            .map(|row| ["keyspace", "type", "name", "cql_stmt"].map(|name| text(row, name)))
            .collect();
        assert_eq!(replayed, stored, "IDs, options and order included");
        let names: Vec<&str> = rows.iter().filter_map(|row| row["name"].as_str()).collect();
        assert_eq!(names.contains(&"log"), has_log, "{names:?}");
        for name in ["shop", "carts", "carts_by_user", "carts_by_state", "orders", "events"] {
            assert!(names.contains(&name), "{name} is not in {names:?}");
        }
    }
    bed.assert_invariants().await
}

const WARNING: &str = "WARNING! schema is not part of ";
const REMEDY: &str = "sctool cluster update --username --password";

#[tokio::test]
async fn without_a_password_the_backup_goes_on_and_says_what_it_lacks() -> anyhow::Result<()> {
    let mut bed = Bed::start(config(cluster())).await?;
    let location = bed.location();
    let dry_run = ["backup", "-c", "test", "-L", &location, "-K", "shop", "--dry-run"];
    let (task, tag) = bed.backup(&["-K", "shop"]).await?;

    let (progress, list) = (["progress", "-c", "test", &task], ["backup", "list", "-c", "test"]);
    for command in [&dry_run[..], &progress, &list] {
        let run = bed.sctool(command).await?;
        assert_eq!(run.code, 0, "{run:?}");
        assert!(run.stderr.contains(WARNING) && run.stderr.contains(REMEDY), "{command:?}: {run:?}");
        assert!(!run.stdout.contains("WARNING"), "{run:?}");
    }
    let contents = bed.s3.contents(&bed.bucket).await?;
    assert_eq!(contents.keys_below("backup/schema/").next(), None);
    let problems =
        bed.log_problems(&["schema is not part of this backup", "CQL connection cannot be made"])?;
    assert_eq!(problems, Vec::<String>::new());

    // Whoever does not want the schema is not told that it is missing.
    let silent = bed.sctool(&[&dry_run[..], &["--skip-schema"]].concat()).await?;
    assert!(!silent.stderr.contains("WARNING"), "{silent:?}");
    bed.sctool_ok(&["backup", "delete", "-c", "test", "-L", &location, "--snapshot-tag", &tag]).await?;
    let (skipping, skipped) = bed.backup(&["-K", "shop", "--skip-schema"]).await?;
    for command in [&["progress", "-c", "test", &skipping][..], &list] {
        let run = bed.sctool(command).await?;
        assert!(run.code == 0 && run.stderr.is_empty(), "{run:?}");
    }

    // The remedy works.
    bed.sctool_ok(&["cluster", "update", "-c", "test", "--username", USER, "--password", PASSWORD]).await?;
    let healed = bed.backup_again(&task, 2).await?;
    assert!(!schema_file(&bed, &healed).await?.is_empty());
    let run = bed.sctool(&list).await?;
    assert!(run.stderr.is_empty() && run.stdout.contains(&skipped), "{run:?}");
    bed.sctool_ok(&["backup", "delete", "-c", "test", "-L", &location, "--snapshot-tag", &skipped]).await?;
    bed.assert_invariants().await
}
