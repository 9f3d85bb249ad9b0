//! What the scenarios share.

use std::path::Path;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::Value;
use testbed::cluster::{ClusterBuilder, KeyspaceSpec, TableSpec};
use testbed::harness::{Bed, BedConfig};
use testbed::s3::{Fault, Gate, RequestKind, Rule};

/// A held request shows within this time.
pub const HELD: Duration = Duration::from_secs(60);

/// The executable that re-executes itself as the programs.
pub fn testbed() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_testbed"))
}

/// One datacenter with that many nodes and one keyspace `shop` with the tables `carts` and `orders`.
pub fn small(nodes: usize) -> ClusterBuilder {
    let table = |name: &str| TableSpec::new(name).sstables(2).data_size(64 * 1024);
    let keyspace = KeyspaceSpec::new("shop").table(table("carts")).table(table("orders"));
    ClusterBuilder::new().dc("dc1", nodes).keyspace(keyspace)
}

/// Our programs on a cluster, with the S3 server of the environment if it names one. Faults and counters stand before
/// any server; the bucket has another name then, see [`Bed::location`].
pub fn config(cluster: ClusterBuilder) -> BedConfig {
    BedConfig { allow_external: true, ..BedConfig::new(testbed(), cluster) }
}

/// As [`config`] with our own S3 server, for scenarios to which an object store does not matter.
pub fn config_with_own_s3(cluster: ClusterBuilder) -> BedConfig {
    BedConfig::new(testbed(), cluster)
}

/// Holds every `Data.db` of user tables on its way into the bucket.
pub fn hold_uploads(bed: &Bed) -> Gate {
    let gate = Gate::default();
    let kinds = [RequestKind::PutObject, RequestKind::UploadPart];
    bed.faults().add(Rule::new(Fault::Hold(gate.clone())).on(&kinds).key("*/keyspace/shop/*-Data.db"));
    gate
}

/// Names of the SSTable files that were sent since the counters were reset.
pub fn sent_sstable_files(bed: &Bed) -> Vec<String> {
    let mut sent = bed.counters().written_keys("backup/sst/");
    sent.retain(|key| !key.ends_with("manifest.json"));
    sent
}

/// A number of the progress document.
pub fn number(progress: &Value, name: &str) -> u64 {
    progress[name].as_u64().unwrap_or_else(|| panic!("no number {name} in {progress}"))
}

/// What `sctool ... -o json` prints.
pub async fn json(bed: &Bed, arguments: &[&str]) -> anyhow::Result<Value> {
    let mut all = arguments.to_vec();
    all.extend(["-o", "json"]);
    let document: Value = serde_json::from_str(&bed.sctool_ok(&all).await?)?;
    assert_eq!(document["schema"], 1, "{document}");
    Ok(document)
}

/// A backup task as `sctool tasks` lists it; `task` is its reference by ID.
pub async fn listed(bed: &Bed, task: &str) -> anyhow::Result<Value> {
    let document = json(bed, &["tasks", "-c", &bed.name, "-t", "backup", "--all"]).await?;
    let tasks = document["clusters"][0]["tasks"].as_array().cloned().unwrap_or_default();
    let found = tasks.into_iter().find(|t| t["id"].as_str().is_some_and(|id| task.ends_with(id)));
    found.ok_or_else(|| anyhow::anyhow!("{task} is not listed"))
}

/// The next activation of a listed task.
pub fn next(listed: &Value) -> anyhow::Result<DateTime<Utc>> {
    let text = listed["next_activation"].as_str();
    let text = text.ok_or_else(|| anyhow::anyhow!("no activation is planned: {listed}"))?;
    Ok(DateTime::parse_from_rfc3339(text)?.to_utc())
}
