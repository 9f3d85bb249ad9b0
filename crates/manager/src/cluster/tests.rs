//! Discovery, client cache, facts and switches over agents in memory.

use std::net::IpAddr;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::testing::{FakeCluster, add, clusters_into};
use super::*;

fn addresses(texts: &[&str]) -> Vec<IpAddr> {
    texts.iter().map(|t| t.parse().unwrap()).collect()
}

#[tokio::test(start_paused = true)]
async fn all_nodes_of_datacenters_with_a_live_node_are_known() {
    let fake = FakeCluster::two_datacenters();
    fake.join("192.0.2.31", "dc3");
    fake.node("192.0.2.31").change(|n| n.live = false);
    fake.node("192.0.2.12").change(|n| (n.live, n.agent) = (false, false));
    let (_dir, clusters) = clusters_into(&fake).await;
    let id = add(&clusters, "c").await;
    let mut hosts = clusters.client(id).await.unwrap().hosts().to_vec();
    hosts.sort();
    assert_eq!(hosts, addresses(&["192.0.2.11", "192.0.2.12", "192.0.2.21"]));
    assert_eq!(clusters.cluster(id).await.unwrap().known_hosts.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn known_hosts_are_the_way_in_when_the_first_contact_is_gone() {
    let fake = FakeCluster::two_datacenters();
    let (_dir, clusters) = clusters_into(&fake).await;
    let id = add(&clusters, "c").await;
    fake.leave("192.0.2.11");
    clusters.forget(id);
    let mut hosts = clusters.client(id).await.unwrap().hosts().to_vec();
    hosts.sort();
    assert_eq!(hosts, addresses(&["192.0.2.12", "192.0.2.21"]));

    for node in ["192.0.2.12", "192.0.2.21"] {
        fake.node(node).change(|n| n.agent = false);
    }
    clusters.forget(id);
    let text = common::error::chain(&clusters.client(id).await.err().unwrap());
    assert!(text.starts_with("unable to connect to any of cluster's known hosts"), "{text}");
    assert!(
        text.contains("port 10001") && text.contains("192.0.2.12: ") && text.contains("192.0.2.11: "),
        "{text}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_cluster_whose_contact_sees_nobody_is_refused() {
    let fake = FakeCluster::two_datacenters();
    let (_dir, clusters) = clusters_into(&fake).await;
    let id = add(&clusters, "c").await;
    clusters.forget(id);
    for node in ["192.0.2.11", "192.0.2.12", "192.0.2.21"] {
        fake.node(node).change(|n| n.live = false);
    }
    assert!(matches!(clusters.client(id).await, Err(ClusterError::NobodyLive)));
}

#[tokio::test(start_paused = true)]
async fn a_client_is_kept_until_the_nodes_change() {
    let fake = FakeCluster::two_datacenters();
    let (_dir, clusters) = clusters_into(&fake).await;
    let id = add(&clusters, "c").await;
    fake.take_calls();
    clusters.client(id).await.unwrap();
    assert!(fake.take_calls().is_empty(), "fresh from the cache");

    fake.join("192.0.2.13", "dc1");
    assert_eq!(clusters.client(id).await.unwrap().hosts().len(), 3, "not compared yet");
    tokio::time::advance(COMPARE_PERIOD).await;
    assert_eq!(clusters.client(id).await.unwrap().hosts().len(), 4);
    fake.take_calls();
    tokio::time::advance(COMPARE_PERIOD).await;
    clusters.client(id).await.unwrap();
    assert_eq!(fake.take_calls().len(), 2, "compared, and nothing changed");
    tokio::time::advance(Duration::from_secs(900)).await;
    clusters.client(id).await.unwrap();
    assert!(fake.take_calls().len() > 2, "discovered anew");
}

#[tokio::test(start_paused = true)]
async fn a_member_that_fails_keeps_its_facts_and_one_that_left_is_forgotten() {
    let fake = FakeCluster::two_datacenters();
    let (_dir, clusters) = clusters_into(&fake).await;
    let id = add(&clusters, "c").await;
    fake.node("192.0.2.12").change(|n| (n.live, n.agent) = (false, false));
    fake.leave("192.0.2.21");
    let nodes = clusters.refresh_nodes(id).await.unwrap();
    assert_eq!(nodes.keys().copied().collect::<Vec<_>>(), addresses(&["192.0.2.11", "192.0.2.12"]));
    let down = &nodes[&addresses(&["192.0.2.12"])[0]];
    assert_eq!((down.member.status().as_str(), down.shards, down.info.cpu_count), ("DN", 2, 4));
}

#[tokio::test(start_paused = true)]
async fn balancing_comes_back_after_a_release_a_drop_and_a_restart() {
    let fake = FakeCluster::two_datacenters();
    let (_dir, clusters) = clusters_into(&fake).await;
    let id = add(&clusters, "c").await;
    let hold = clusters.hold_balancing(id).await.unwrap();
    assert!(!fake.balancing());
    hold.release().await.unwrap();
    assert!(fake.balancing());
    assert!(clusters.store().drawers("switched_off/").await.unwrap().is_empty());

    let shutdown = CancellationToken::new();
    let hold = clusters.hold_balancing(id).await.unwrap();
    let janitor = clusters.release_forgotten(shutdown.clone());
    let drop_it = async {
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert!(!fake.balancing(), "held all the time");
        for node in ["192.0.2.11", "192.0.2.12", "192.0.2.21"] {
            fake.node(node).change(|n| n.agent = false);
        }
        drop(hold);
        tokio::time::sleep(Duration::from_secs(3600)).await;
        for node in ["192.0.2.11", "192.0.2.12", "192.0.2.21"] {
            fake.node(node).change(|n| n.agent = true);
        }
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert!(fake.balancing(), "released as soon as the cluster answered");
        shutdown.cancel();
    };
    tokio::join!(janitor, drop_it);

    // As a killed manager leaves it.
    clusters.switch_off_for_test(id).await;
    assert!(!fake.balancing());
    let shutdown = CancellationToken::new();
    let restarted = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        shutdown.cancel();
    };
    tokio::join!(clusters.release_forgotten(shutdown.clone()), restarted);
    assert!(fake.balancing());
}

#[tokio::test(start_paused = true)]
async fn status_tells_down_nodes_and_wrong_tokens() {
    let fake = FakeCluster::two_datacenters();
    let (_dir, clusters) = clusters_into(&fake).await;
    let id = add(&clusters, "c").await;
    fake.node("192.0.2.12").change(|n| (n.live, n.agent) = (false, false));
    fake.node("192.0.2.21").change(|n| n.token = "changed".into());
    let nodes = clusters.status(id, Duration::from_secs(1)).await.unwrap();
    let seen: Vec<_> = nodes
        .iter()
        .map(|n| (n.dc.as_str(), n.host.as_str(), n.status.as_str(), n.rest_status.as_str()))
        .collect();
    assert_eq!(
        seen,
        [
            ("dc1", "192.0.2.11", "UN", "UP"),
            ("dc1", "192.0.2.12", "DN", ""),
            ("dc2", "192.0.2.21", "UN", "UNAUTHORIZED"),
        ]
    );
    assert_eq!((nodes[0].cpu_count, nodes[0].alternator_status.as_str()), (4, ""));
}

#[tokio::test(start_paused = true)]
async fn the_status_has_a_word_for_each_kind_of_answer() {
    let fake = FakeCluster::two_datacenters();
    fake.join("192.0.2.13", "dc1");
    fake.join("192.0.2.22", "dc2");
    let (_dir, clusters) = clusters_into(&fake).await;
    let id = add(&clusters, "c").await;
    fake.node("192.0.2.12").change(|n| n.state = 'J');
    fake.node("192.0.2.13").change(|n| n.delay = Duration::from_secs(2));
    fake.node("192.0.2.21").change(|n| n.ping_status = http::StatusCode::SERVICE_UNAVAILABLE);
    fake.node("192.0.2.22").change(|n| n.agent = false);
    let nodes = clusters.status(id, Duration::from_secs(1)).await.unwrap();
    let seen: Vec<_> = nodes
        .iter()
        .map(|n| (n.host.as_str(), n.status.as_str(), n.rest_status.as_str(), n.cql_status.as_str()))
        .collect();
    assert_eq!(
        seen,
        [
            ("192.0.2.11", "UN", "UP", "ERROR"),
            ("192.0.2.12", "UJ", "", ""),
            ("192.0.2.13", "UN", "TIMEOUT", "ERROR"),
            ("192.0.2.21", "UN", "HTTP 503", "ERROR"),
            ("192.0.2.22", "UN", "DOWN", "ERROR"),
        ]
    );
    assert!(nodes[4].rest_cause.contains("refused"), "{}", nodes[4].rest_cause);
    assert!(nodes[0].cql_cause.contains("no CQL address"), "{}", nodes[0].cql_cause);
    assert_eq!((nodes[2].rest_rtt_ms, nodes[2].rest_cause.as_str()), (1000.0, ""));
}

#[tokio::test(start_paused = true)]
async fn the_nearest_datacenter_comes_first() {
    let fake = FakeCluster::two_datacenters();
    for (node, delay) in [("192.0.2.11", 50), ("192.0.2.12", 80), ("192.0.2.21", 5)] {
        fake.node(node).change(|n| n.delay = Duration::from_millis(delay));
    }
    let (_dir, clusters) = clusters_into(&fake).await;
    let id = add(&clusters, "c").await;
    let hosts = clusters.client(id).await.unwrap().hosts().to_vec();
    assert_eq!(hosts, addresses(&["192.0.2.21", "192.0.2.11", "192.0.2.12"]));
    // A datacenter whose agents are silent comes last.
    fake.node("192.0.2.21").change(|n| n.agent = false);
    clusters.forget(id);
    let hosts = clusters.client(id).await.unwrap().hosts().to_vec();
    assert_eq!(hosts, addresses(&["192.0.2.11", "192.0.2.12", "192.0.2.21"]));
}

#[tokio::test(start_paused = true)]
async fn the_remedy_fits_what_was_answered() {
    let fake = FakeCluster::two_datacenters();
    let (_dir, clusters) = clusters_into(&fake).await;
    let id = add(&clusters, "c").await;
    let failure = async |clusters: &Clusters| {
        clusters.forget(id);
        common::error::chain(&clusters.client(id).await.err().unwrap())
    };
    for node in ["192.0.2.11", "192.0.2.12", "192.0.2.21"] {
        fake.node(node).change(|n| n.token = "other".into());
    }
    let text = failure(&clusters).await;
    assert!(text.contains("--auth-token") && !text.contains("port 10001 is open"), "{text}");
    fake.node("192.0.2.12").change(|n| n.agent = false);
    let text = failure(&clusters).await;
    assert!(text.contains("--auth-token") && text.contains("port 10001 is open"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn a_change_keeps_old_facts_and_is_looked_at_soon() {
    let fake = FakeCluster::two_datacenters();
    let (_dir, clusters) = clusters_into(&fake).await;
    let id = add(&clusters, "c").await;
    let known = || clusters.cached_nodes(id).unwrap().keys().copied().collect::<Vec<_>>();
    assert_eq!(known(), addresses(&["192.0.2.11", "192.0.2.12", "192.0.2.21"]), "read when it was added");

    fake.node("192.0.2.12").change(|n| (n.live, n.agent) = (false, false));
    fake.join("192.0.2.22", "dc2");
    fake.take_calls();
    rename(&clusters, id, "d").await.unwrap();
    assert_eq!(fake.take_calls(), [] as [&str; 0], "nothing that needs a check has changed");
    assert_eq!(known().len(), 3);

    let shutdown = CancellationToken::new();
    let user = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(known(), addresses(&["192.0.2.11", "192.0.2.12", "192.0.2.21", "192.0.2.22"]));
        fake.leave("192.0.2.22");
        tokio::time::sleep(Duration::from_secs(298)).await;
        assert_eq!(known().len(), 4);
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(known().len(), 3, "the period is over");
        shutdown.cancel();
    };
    tokio::join!(clusters.keep_fresh(Duration::from_secs(300), shutdown.clone()), user);
}

async fn rename(clusters: &Clusters, id: ClusterId, name: &str) -> Result<Cluster, add::AddError> {
    let request = common::api::manager::Cluster {
        name: name.into(),
        host: "192.0.2.11".into(),
        auth_token: super::testing::TOKEN.into(),
        ..Default::default()
    };
    clusters.put(add::validate(id, &request).unwrap()).await
}

#[tokio::test(start_paused = true)]
async fn another_token_is_tried_on_known_hosts_and_another_host_is_not_doubted() {
    let fake = FakeCluster::two_datacenters();
    let (_dir, clusters) = clusters_into(&fake).await;
    let id = add(&clusters, "c").await;
    // The first contact left the cluster, and then the tokens were changed.
    fake.leave("192.0.2.11");
    for node in ["192.0.2.12", "192.0.2.21"] {
        fake.node(node).change(|n| n.token = "new".into());
    }
    let mut request = common::api::manager::Cluster {
        name: "c".into(),
        host: "192.0.2.11".into(),
        auth_token: "new".into(),
        ..Default::default()
    };
    let put = async |request: &common::api::manager::Cluster| {
        clusters.put(add::validate(id, request).unwrap()).await
    };
    let mut known = put(&request).await.unwrap().known_hosts;
    known.sort();
    assert_eq!(known, addresses(&["192.0.2.12", "192.0.2.21"]));
    request.host = "192.0.2.99".into();
    let text = common::error::chain(&put(&request).await.err().unwrap());
    assert!(
        text.starts_with("connectivity check: unable to connect") && text.contains("192.0.2.99: "),
        "{text}"
    );
    assert_eq!(clusters.cluster(id).await.unwrap().host, "192.0.2.11", "nothing was stored");
}

#[tokio::test]
async fn names_are_resolved_to_all_their_addresses() {
    let found = super::discovery::resolve("localhost").await.unwrap();
    assert!(!found.is_empty() && found.iter().all(|a| a.is_loopback()), "{found:?}");
    assert_eq!(super::discovery::resolve("::ffff:192.0.2.1").await.unwrap(), addresses(&["192.0.2.1"]));
}
