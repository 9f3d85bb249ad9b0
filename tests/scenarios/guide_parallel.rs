//! Limits on how many nodes of a datacenter work at once: they are reached and never exceeded.

use std::collections::BTreeMap;
use std::time::Duration;

use testbed::cluster::{ClusterBuilder, KeyspaceSpec};
use testbed::harness::{Bed, Deadline, wait_for};
use testbed::node::faults::{Action, Rule};
use testbed::s3::{RequestKind, RequestRecord};

use crate::support::{HELD, config, hold_uploads};

const SNAPSHOT: &str = "POST /storage_service/snapshots";

async fn bed() -> anyhow::Result<Bed> {
    let shop = KeyspaceSpec::new("shop").table("carts").table("orders");
    Bed::start(config(ClusterBuilder::new().dc("dc1", 3).dc("dc2", 2).keyspace(shop))).await
}

/// Times at which each node was at work, from its first request to its last.
type AtWork = BTreeMap<String, (Duration, Duration)>;

fn note(at_work: &mut AtWork, node: &str, began: Duration, ended: Duration) {
    let times = at_work.entry(node.to_owned()).or_insert((began, ended));
    *times = (times.0.min(began), times.1.max(ended));
}

/// Most nodes that were at work at one moment.
fn most_at_once(at_work: &AtWork) -> usize {
    let begins = at_work.values().map(|(began, _)| began);
    let at = |moment: &Duration| at_work.values().filter(|(b, e)| b <= moment && moment < e).count();
    begins.map(at).max().unwrap_or_default()
}

#[tokio::test]
async fn snapshots() -> anyhow::Result<()> {
    let mut bed = bed().await?;
    let held = bed.cluster.rules().add(Rule::new("POST", "/storage_service/snapshots", Action::Hang));
    let task = bed.create_backup(&["--snapshot-parallel", "dc1:2,1"]).await?;
    let now = |bed: &Bed| ["dc1", "dc2"].map(|dc| bed.cluster.observed().max_in_flight_in(dc, SNAPSHOT));
    wait_for("as many snapshots as allowed", Deadline::seconds(60), async || {
        Ok((now(&bed) == [2, 1]).then_some(()))
    })
    .await?;
    bed.cluster.rules().remove(held);
    bed.run_done(&task, 1).await?;
    assert_eq!(now(&bed), [2, 1]);

    let calls = bed.cluster.observed().calls();
    let first = calls.iter().map(|call| call.started).min().unwrap_or_default();
    for (dc, limit) in [("dc1", 2), ("dc2", 1)] {
        let mut at_work = AtWork::new();
        for node in bed.cluster.nodes_in(dc) {
            let name = node.address().to_string();
            for call in calls.iter().filter(|call| call.node == name && call.operation() == SNAPSHOT) {
                let began = (call.started - first).to_std()?;
                note(&mut at_work, &name, began, began + Duration::from_millis(call.millis));
            }
        }
        assert_eq!(at_work.len(), bed.cluster.nodes_in(dc).len());
        assert_eq!(most_at_once(&at_work), limit, "{dc}: {at_work:?}");
    }
    bed.assert_invariants().await
}

#[tokio::test]
async fn uploads() -> anyhow::Result<()> {
    let mut bed = bed().await?;
    let gate = hold_uploads(&bed);
    let task = bed.create_backup(&["--upload-parallel", "dc1:2,1"]).await?;
    assert!(gate.reached(3, HELD).await, "two nodes of dc1 and one of dc2\n{}", bed.log_tails());
    gate.open();
    bed.run_done(&task, 1).await?;

    let log = bed.counters().log();
    for (dc, limit) in [("dc1", 2), ("dc2", 1)] {
        let mut at_work = AtWork::new();
        // Scylla's own manifests go up before, with the list of files.
        let of_tables =
            |put: &&RequestRecord| put.kind == RequestKind::PutObject && !put.key.ends_with("manifest.json");
        for put in log.iter().filter(of_tables) {
            let parts: Vec<&str> = put.key.split('/').collect();
            if let ["backup", "sst", "cluster", _, "dc", of, "node", node, ..] = parts[..]
                && of == dc
            {
                note(&mut at_work, node, put.began, put.at);
            }
        }
        assert_eq!(at_work.len(), bed.cluster.nodes_in(dc).len());
        assert_eq!(most_at_once(&at_work), limit, "{dc}: {at_work:?}");
    }
    bed.assert_invariants().await
}
