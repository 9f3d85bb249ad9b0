//! Answers of the simulated REST API: types, wording, effects on disk (checks N1-N4, N6, N9, N11).

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use axum::body::Body;
use http::Request;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::cluster::{
    ClusterBuilder, GenerationIds, KeyspaceSpec, ManifestForm, Membership, SimCluster, TableSpec,
};
use crate::node::faults::{Action, Rule};
use crate::node::{DiskFault, SameName, SimNode, SnapshotFault};
use crate::sstable::Component;

const TAG: &str = "sm_20250101000000UTC";

fn cluster() -> ClusterBuilder {
    SimCluster::builder()
        .dc("dc1", 2)
        .dc("dc2", 1)
        .tokens_per_node(1)
        .empty_system_tables()
        .keyspace(KeyspaceSpec::new("ks").table(TableSpec::new("t").view("mv").index("ix")).table("u"))
        .keyspace(KeyspaceSpec::new("tab").tablets(2).table("t").table(TableSpec::new("empty").sstables(0)))
}

/// Status and body of one call through the node's router.
async fn call(node: &SimNode, method: &str, path: &str) -> (u16, String) {
    let request = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
    let response = node.rest_router().oneshot(request).await.unwrap();
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

/// The JSON body of a GET that succeeds.
async fn get(node: &SimNode, path: &str) -> Value {
    let (status, body) = call(node, "GET", path).await;
    assert_eq!(status, 200, "{path}: {body}");
    serde_json::from_str(&body).unwrap()
}

async fn void(node: &SimNode, method: &str, path: &str) {
    assert_eq!(call(node, method, path).await, (200, String::new()), "{method} {path}");
}

async fn snapshot(node: &SimNode, query: &str) {
    void(node, "POST", &format!("/storage_service/snapshots?tag={TAG}&{query}")).await;
}

fn snapshot_dir(node: &SimNode, keyspace: &str, table: &str) -> PathBuf {
    node.table_dir(keyspace, table).unwrap().join("snapshots").join(TAG)
}

/// File names in a directory with the inode of each; none if it does not exist.
fn inodes(dir: &PathBuf) -> BTreeMap<String, u64> {
    let Ok(entries) = fs::read_dir(dir) else { return BTreeMap::new() };
    let entries = entries.map(Result::unwrap).filter(|e| e.metadata().unwrap().is_file());
    entries.map(|e| (e.file_name().into_string().unwrap(), e.metadata().unwrap().ino())).collect()
}

#[tokio::test]
async fn golden_answers() {
    let cluster = cluster().start().await.unwrap();
    let node = &cluster.nodes()[0];
    cluster.nodes()[1].set_membership(Membership::Leaving);
    cluster.nodes()[2].set_gossip(false);
    let network = node.address().to_string();
    let network = network.rsplit_once('.').unwrap().0;
    let mut golden = String::new();
    for path in [
        "/storage_service/host_id",
        "/storage_service/hostid/local",
        "/gossiper/endpoint/live/",
        "/gossiper/endpoint/live",
        "/storage_service/nodes/joining",
        "/storage_service/nodes/leaving",
        "/storage_service/nodes/moving",
        "/snitch/datacenter",
        "/snitch/rack?host=IP.12",
        "/snitch/datacenter?host=10.9.9.9",
        "/storage_service/cluster_name",
        "/storage_service/scylla_release_version",
        "/storage_service/tokens/IP.11",
        "/storage_service/tokens/10.9.9.9",
        "/storage_service/keyspaces?type=user",
        "/storage_service/keyspaces?type=non_local_strategy&replication=vnodes",
        "/storage_service/keyspaces?replication=tablets",
        "/column_family/autocompaction/ks%3At",
        "/storage_service/view_build_statuses/ks/ix_index",
        "/storage_service/view_build_statuses/ks/nothing",
        "/storage_service/snapshots",
        "/storage_service/snapshots/size/true",
        "/v2/config/rpc_address",
        "/v2/config/broadcast_rpc_address",
        "/v2/config/rpc_port",
        "/v2/config/client_encryption_options",
        "/v2/config/authenticator",
        "/v2/config/uuid_sstable_identifiers_enabled",
    ] {
        let (status, body) = call(node, "GET", &path.replace("IP", network)).await;
        golden.push_str(&format!("{path} {status} {}\n", body.replace(network, "IP")));
    }
    insta::assert_snapshot!(golden, @r#"
    /storage_service/host_id 200 [{"key":"IP.11","value":"2d55d1aa-cc19-41c8-8557-eb16b9df4f85"},{"key":"IP.12","value":"b9ed1b8c-4411-4422-bb95-f2d2e4d4aeba"},{"key":"IP.13","value":"7179cf80-2e81-4e3f-bfb2-26aec995b05f"}]
    /storage_service/hostid/local 200 "2d55d1aa-cc19-41c8-8557-eb16b9df4f85"
    /gossiper/endpoint/live/ 200 ["IP.11","IP.12"]
    /gossiper/endpoint/live 200 ["IP.11","IP.12"]
    /storage_service/nodes/joining 200 []
    /storage_service/nodes/leaving 200 ["IP.12"]
    /storage_service/nodes/moving 200 []
    /snitch/datacenter 200 "dc1"
    /snitch/rack?host=IP.12 200 "r2"
    /snitch/datacenter?host=10.9.9.9 200 "UNKNOWN_DC"
    /storage_service/cluster_name 200 "test-cluster"
    /storage_service/scylla_release_version 200 "2025.1.0-0.20250325.9dca28d2b818"
    /storage_service/tokens/IP.11 200 ["-7685467320405685210"]
    /storage_service/tokens/10.9.9.9 200 []
    /storage_service/keyspaces?type=user 200 ["ks","tab"]
    /storage_service/keyspaces?type=non_local_strategy&replication=vnodes 200 ["ks","system_auth","system_distributed","system_distributed_everywhere","system_replicated_keys","system_traces"]
    /storage_service/keyspaces?replication=tablets 200 ["tab"]
    /column_family/autocompaction/ks%3At 200 true
    /storage_service/view_build_statuses/ks/ix_index 200 [{"key":"IP.11","value":"SUCCESS"},{"key":"IP.12","value":"SUCCESS"},{"key":"IP.13","value":"SUCCESS"}]
    /storage_service/view_build_statuses/ks/nothing 200 []
    /storage_service/snapshots 200 []
    /storage_service/snapshots/size/true 200 0
    /v2/config/rpc_address 200 "IP.11"
    /v2/config/broadcast_rpc_address 200 ""
    /v2/config/rpc_port 200 9160
    /v2/config/client_encryption_options 200 {"enabled":"false"}
    /v2/config/authenticator 200 "AllowAllAuthenticator"
    /v2/config/uuid_sstable_identifiers_enabled 200 true
    "#);
    assert_eq!(cluster.observed().unknown_calls().len(), 0);
}

#[tokio::test]
async fn errors_have_the_wording_of_scylla() {
    let cluster = cluster().start().await.unwrap();
    let node = &cluster.nodes()[0];
    node.set_config("enable_tablets", None);
    snapshot(node, "kn=ks&cf=t").await;
    let snapshots = "/storage_service/snapshots";
    let mut golden = String::new();
    for (method, path) in [
        ("GET", "/nowhere".to_owned()),
        ("PUT", "/storage_service/keyspaces".to_owned()),
        ("POST", "/storage_service/tablets/balancing".to_owned()),
        ("GET", "/storage_service/describe_ring/none".to_owned()),
        ("GET", "/storage_service/describe_ring/tab?table=none".to_owned()),
        ("GET", "/storage_service/describe_ring/tab".to_owned()),
        ("POST", "/storage_service/keyspace_flush/ks?cf=none".to_owned()),
        ("GET", "/column_family/metrics/total_disk_space_used/ks%3Anone".to_owned()),
        ("GET", "/v2/config/none".to_owned()),
        ("GET", "/v2/config/enable_tablets".to_owned()),
        ("POST", format!("{snapshots}?kn=ks")),
        ("POST", format!("{snapshots}?tag={TAG}&kn=ks")),
        ("POST", format!("{snapshots}?tag=x&cf=t")),
        ("POST", format!("{snapshots}?tag=x&kn=ks,tab&cf=t")),
        ("POST", format!("{snapshots}?tag=x&kn=none")),
        ("POST", format!("{snapshots}?tag=x&kn=ks&cf=none")),
        ("POST", "/raft/read_barrier?timeout=0".to_owned()),
        ("POST", "/raft/read_barrier?group_id=none".to_owned()),
    ] {
        let (status, body) = call(node, method, &path).await;
        golden.push_str(&format!("{method} {path} {status} {body}\n"));
    }
    insta::assert_snapshot!(golden, @r#"
    GET /nowhere 404 {"message":"Not found","code":404}
    PUT /storage_service/keyspaces 404 {"message":"Not found","code":404}
    POST /storage_service/tablets/balancing 400 {"message":"Missing mandatory parameter 'enabled'","code":400}
    GET /storage_service/describe_ring/none 400 {"message":"Can't find a keyspace none","code":400}
    GET /storage_service/describe_ring/tab?table=none 400 {"message":"Can't find a column family none in keyspace tab","code":400}
    GET /storage_service/describe_ring/tab 500 {"message":"The keyspace tab has tablet table. Query describe_ring with the table parameter!","code":500}
    POST /storage_service/keyspace_flush/ks?cf=none 400 {"message":"Can't find a column family none in keyspace ks","code":400}
    GET /column_family/metrics/total_disk_space_used/ks%3Anone 400 {"message":"Column family 'ks:none' not found","code":400}
    GET /v2/config/none 400 {"message":"No such config entry: none","code":400}
    GET /v2/config/enable_tablets 400 {"message":"No such config entry: enable_tablets","code":400}
    POST /storage_service/snapshots?kn=ks 500 {"message":"You must supply a snapshot name.","code":500}
    POST /storage_service/snapshots?tag=sm_20250101000000UTC&kn=ks 500 {"message":"Keyspace ks: snapshot sm_20250101000000UTC already exists.","code":500}
    POST /storage_service/snapshots?tag=x&cf=t 400 {"message":"The keyspace of column families must be specified","code":400}
    POST /storage_service/snapshots?tag=x&kn=ks,tab&cf=t 400 {"message":"Only one keyspace allowed when specifying a column family","code":400}
    POST /storage_service/snapshots?tag=x&kn=none 400 {"message":"Can't find a keyspace none","code":400}
    POST /storage_service/snapshots?tag=x&kn=ks&cf=none 400 {"message":"Can't find a column family none in keyspace ks","code":400}
    POST /raft/read_barrier?timeout=0 400 {"message":"Timeout must be a positive number.","code":400}
    POST /raft/read_barrier?group_id=none 400 {"message":"Cannot find raft group none","code":400}
    "#);
    let unknown: Vec<_> = cluster.observed().unknown_calls().iter().map(|c| c.operation()).collect();
    assert_eq!(unknown, ["GET /nowhere", "PUT /storage_service/keyspaces"]);
}

#[tokio::test]
async fn every_table_is_listed_with_views_and_index_tables() {
    let cluster = cluster().start().await.unwrap();
    let node = &cluster.nodes()[0];
    let names = get(node, "/column_family/name").await;
    let names: Vec<&str> = names.as_array().unwrap().iter().filter_map(Value::as_str).collect();
    for expected in ["ks:t", "ks:mv", "ks:ix_index", "tab:empty", "system_schema:tables", "system:paxos"] {
        assert!(names.contains(&expected), "{expected}");
    }
    let on_disk: u64 = node.sstables("ks", "t").unwrap().iter().map(|s| s.size().unwrap()).sum();
    assert_eq!(get(node, "/column_family/metrics/total_disk_space_used/ks:t").await, json!(on_disk));
}

#[tokio::test]
async fn a_snapshot_links_files_and_compaction_makes_them_live() {
    let cluster = cluster().start().await.unwrap();
    let node = &cluster.nodes()[0];
    cluster.write_rows("ks", "t", 20).unwrap();
    snapshot(node, "kn=ks").await;
    let (table, dir) = (node.table_dir("ks", "t").unwrap(), snapshot_dir(node, "ks", "t"));
    let mut linked = inodes(&dir);
    assert!(linked.remove("manifest.json").is_some() && linked.remove("schema.cql").is_some());
    assert_eq!(linked, inodes(&table), "the flush came first, and all files are the same inodes");

    let size = |snapshots: &Value, field: &str| {
        let tables = snapshots[0]["value"].as_array().unwrap();
        tables.iter().find(|t| t["cf"] == "t").unwrap()[field].as_u64().unwrap()
    };
    let before = get(node, "/storage_service/snapshots").await;
    assert_eq!(before[0]["key"], TAG);
    assert_eq!(size(&before, "live"), 0);
    let total = size(&before, "total");
    assert_eq!(json!(total), get(node, "/column_family/metrics/total_disk_space_used/ks:t").await);

    node.compact("ks", "t").await.unwrap();
    assert_eq!(node.sstables("ks", "t").unwrap().len(), 1);
    let after = get(node, "/storage_service/snapshots").await;
    assert_eq!((size(&after, "total"), size(&after, "live")), (total, total));
    assert!(get(node, "/storage_service/snapshots/size/true").await.as_u64().unwrap() >= total);

    void(node, "DELETE", &format!("/storage_service/snapshots?tag={TAG}&kn=ks&cf=t")).await;
    assert!(!dir.exists());
    assert!(snapshot_dir(node, "ks", "u").exists(), "other tables keep theirs");
    void(node, "DELETE", &format!("/storage_service/snapshots?tag={TAG}")).await;
    void(node, "DELETE", "/storage_service/snapshots?tag=unknown").await;
    assert_eq!(get(node, "/storage_service/snapshots").await, json!([]));
}

#[tokio::test]
async fn snapshots_of_empty_tables_views_keyspaces_and_selections() {
    let cluster = cluster().start().await.unwrap();
    let node = &cluster.nodes()[0];
    snapshot(node, "kn=ks&cf=mv,u").await;
    let tagged = |ks: &str, t: &str| snapshot_dir(node, ks, t).exists();
    assert_eq!(
        [tagged("ks", "mv"), tagged("ks", "u"), tagged("ks", "t"), tagged("tab", "t")],
        [true, true, false, false]
    );
    assert!(inodes(&snapshot_dir(node, "ks", "mv")).keys().any(|n| n.ends_with("-Data.db")));
    let schema = fs::read_to_string(snapshot_dir(node, "ks", "mv").join("schema.cql")).unwrap();
    assert!(schema.starts_with("CREATE MATERIALIZED VIEW ks.mv AS"), "{schema}");

    snapshot(node, "kn=tab,system_schema").await;
    let empty = inodes(&snapshot_dir(node, "tab", "empty"));
    assert_eq!(empty.keys().collect::<Vec<_>>(), ["manifest.json", "schema.cql"]);
    let listed = get(node, "/storage_service/snapshots").await;
    let tables = listed[0]["value"].as_array().unwrap();
    let zero = tables.iter().find(|t| t["cf"] == "empty").unwrap();
    assert_eq!((&zero["total"], &zero["ks"]), (&json!(0), &json!("tab")));
    assert!(tagged("system_schema", "tables"));
}

#[tokio::test]
async fn unsealed_sstables_and_uploads_are_not_linked_and_flush_can_be_skipped() {
    let cluster = cluster().start().await.unwrap();
    let node = &cluster.nodes()[0];
    let dir = node.table_dir("ks", "u").unwrap();
    fs::write(dir.join("me-77-big-TOC.txt.tmp"), "").unwrap();
    fs::write(dir.join("me-77-big-Data.db"), "").unwrap();
    fs::write(dir.join("upload").join("me-78-big-Data.db"), "").unwrap();
    let before = node.sstables("ks", "u").unwrap().len();
    cluster.write_rows("ks", "u", 20).unwrap();
    snapshot(node, "kn=ks&cf=u&sf=true").await;
    assert_eq!(node.sstables("ks", "u").unwrap().len(), before, "no flush");
    let names = inodes(&snapshot_dir(node, "ks", "u"));
    assert!(names.keys().all(|n| !n.starts_with("me-77-") && !n.starts_with("me-78-")));
    void(node, "POST", "/storage_service/keyspace_flush/ks?cf=u").await;
    assert_eq!(node.sstables("ks", "u").unwrap().len(), before + 1);
}

#[tokio::test]
async fn manifests_come_in_both_forms() {
    for form in [ManifestForm::FileList, ManifestForm::Detailed] {
        let cluster = cluster().manifest_form(form).start().await.unwrap();
        let node = &cluster.nodes()[0];
        snapshot(node, "kn=tab&cf=t&ttl=2h").await;
        let text = fs::read(snapshot_dir(node, "tab", "t").join("manifest.json")).unwrap();
        let manifest: Value = serde_json::from_slice(&text).unwrap();
        let sstable = &node.sstables("tab", "t").unwrap()[0];
        let file = |c| sstable.path(c).file_name().unwrap().to_str().unwrap().to_owned();
        match form {
            ManifestForm::FileList => assert_eq!(manifest, json!({ "files": [file(Component::Data)] })),
            ManifestForm::Detailed => {
                assert_eq!(manifest["sstables"][0]["toc_name"], json!(file(Component::Toc)));
                assert_eq!(manifest["table"]["tablet_count"], json!(2));
                assert_eq!(manifest["tablets"][1]["last_token"], json!(i64::MAX));
                let times = &manifest["snapshot"];
                let lifetime = times["expires_at"].as_i64().unwrap() - times["created_at"].as_i64().unwrap();
                assert_eq!(lifetime, 7_200);
            }
        }
    }
}

#[tokio::test]
async fn same_names_with_other_content_leave_the_snapshot_alone() {
    for how in [SameName::DifferentSize, SameName::DifferentBytes, SameName::SameBytes] {
        let cluster = cluster().generation_ids(GenerationIds::Integer).start().await.unwrap();
        let node = &cluster.nodes()[0];
        snapshot(node, "kn=ks&cf=t").await;
        let old = &node.sstables("ks", "t").unwrap()[0];
        let dir = snapshot_dir(node, "ks", "t");
        let new = &node.rewrite_same_names("ks", "t", how).await.unwrap()[0];
        assert_eq!(old.generation, new.generation);
        let mut differing = 0;
        for path in new.paths() {
            let kept = dir.join(path.file_name().unwrap());
            let (kept, written) = (fs::read(kept).unwrap(), fs::read(&path).unwrap());
            if how == SameName::DifferentBytes {
                assert_eq!(kept.len(), written.len(), "{}", path.display());
            }
            differing += usize::from(kept != written);
        }
        let kept_digest =
            fs::read_to_string(dir.join(old.path(Component::Digest).file_name().unwrap())).unwrap();
        let same = how == SameName::SameBytes;
        assert_eq!((differing == 0, kept_digest == new.digest().unwrap()), (same, same), "{how:?}");
        assert!(get(node, "/storage_service/snapshots/size/true").await.as_u64().unwrap() > 0);
    }
}

#[tokio::test]
async fn integer_generations_restart_after_data_loss() {
    let cluster = cluster().generation_ids(GenerationIds::Integer).start().await.unwrap();
    let node = &cluster.nodes()[0];
    let before = node.sstables("ks", "t").unwrap();
    node.lose_table("ks", "t").await.unwrap();
    assert_eq!(node.rows("ks", "t").unwrap(), []);
    cluster.write_rows("ks", "t", 10).unwrap();
    node.flush("ks", "t").await.unwrap();
    let after = node.sstables("ks", "t").unwrap();
    assert_eq!(before[0].generation, after[0].generation);
    assert_ne!(before[0].generation.to_string(), "0");
}

#[tokio::test]
async fn rings_of_vnodes_and_tablets() {
    let cluster = cluster().start().await.unwrap();
    let node = &cluster.nodes()[0];
    let vnodes = get(node, "/storage_service/describe_ring/ks").await;
    let tablets = get(node, "/storage_service/describe_ring/tab?table=t").await;
    assert_eq!((vnodes.as_array().unwrap().len(), tablets.as_array().unwrap().len()), (3, 2));
    for range in vnodes.as_array().unwrap().iter().chain(tablets.as_array().unwrap()) {
        range["start_token"].as_str().unwrap().parse::<i64>().unwrap();
        assert_eq!(range["endpoints"].as_array().unwrap().len(), 3);
        assert_eq!(range["endpoints"], range["rpc_endpoints"]);
        assert_eq!(range["endpoint_details"][0]["host"], range["endpoints"][0]);
    }
    assert_eq!(tablets[0]["start_token"], json!(i64::MIN.to_string()));
    let local = get(node, "/storage_service/describe_ring/system").await;
    assert_eq!(local[0]["endpoints"], json!([node.address()]));
}

#[tokio::test]
async fn metrics_tell_shards_and_memory() {
    let cluster = cluster().shards(7).start().await.unwrap();
    let metrics = async |query: &str| {
        let uri = format!("http://{}/metrics{query}", cluster.nodes()[0].metrics_addr());
        client().get(uri).send().await.unwrap().text().await.unwrap()
    };
    let series =
        |text: &str, name: &str| text.lines().filter(|l| l.starts_with(&format!("{name}{{"))).count();
    let writes = metrics("?name=database_total_writes").await;
    assert_eq!(series(&writes, "scylla_database_total_writes"), 7);
    assert_eq!(series(&writes, "scylla_memory_total_memory"), 0);
    let memory = metrics("?name=memory_total_memory").await;
    let bytes: u64 = memory.lines().filter(|l| !l.starts_with('#')).map(last_number).sum();
    assert_eq!(bytes, 7 << 30);
    assert_eq!(series(&metrics("").await, "scylla_database_total_writes"), 7);
}

fn last_number(line: &str) -> u64 {
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

fn client() -> reqwest::Client {
    common::tls::install_provider();
    let timeout = std::time::Duration::from_secs(10);
    reqwest::Client::builder().no_proxy().timeout(timeout).pool_max_idle_per_host(0).build().unwrap()
}

#[tokio::test]
async fn rules_break_and_delay_calls_on_the_wire() {
    let cluster = cluster().start().await.unwrap();
    let node = &cluster.nodes()[0];
    let url = format!("http://{}/storage_service/cluster_name", node.rest_addr());
    let path = "/storage_service/cluster_name";
    let rules = cluster.rules();

    rules.add(Rule::new("GET", path, Action::Reset).on(node).times(1));
    assert!(client().get(&url).send().await.is_err());
    rules.add(Rule::new("GET", path, Action::Truncate { bytes: 3 }).times(1));
    assert!(client().get(&url).send().await.unwrap().text().await.is_err());
    rules.add(
        Rule::new("GET", path, Action::Respond { status: 503, body: None, content_type: None }).times(1),
    );
    assert_eq!(client().get(&url).send().await.unwrap().status(), 503);
    rules.add(Rule::new("GET", path, Action::ContentType { value: "text/plain".into() }).times(1));
    let answer = client().get(&url).send().await.unwrap();
    assert_eq!(answer.headers()["content-type"], "text/plain");
    assert_eq!(answer.text().await.unwrap(), "\"test-cluster\"");

    let hang = rules.add(Rule::new("GET", path, Action::Hang));
    let hanging = async { client().get(&url).send().await.unwrap().status() };
    let release = async {
        while rules.acted(hang) == 0 {
            tokio::task::yield_now().await;
        }
        rules.remove(hang);
    };
    let (status, ()) = tokio::join!(hanging, release);
    assert_eq!(status, 200);
}

#[tokio::test]
async fn a_lost_reply_still_has_its_effect() {
    let cluster = cluster().start().await.unwrap();
    let node = &cluster.nodes()[0];
    let rule = Rule::new("POST", "/storage_service/snapshots", Action::ResetAfter).times(1);
    cluster.rules().add(rule);
    let url = format!("http://{}/storage_service/snapshots?tag={TAG}&kn=ks", node.rest_addr());
    assert!(client().post(&url).send().await.is_err());
    let again = client().post(&url).send().await.unwrap();
    assert_eq!(again.status(), 500);
    assert!(again.text().await.unwrap().contains(&format!("snapshot {TAG} already exists")));
}

#[tokio::test]
async fn calls_in_flight_are_counted_per_scope() {
    let cluster = cluster().start().await.unwrap();
    let path = "/storage_service/snapshots";
    cluster.rules().add(Rule::new("GET", path, Action::Delay { millis: 50, jitter_millis: 0 }));
    let calls = cluster.nodes().iter().map(|node| call(node, "GET", path));
    futures::future::join_all(calls).await;
    let observed = cluster.observed();
    assert_eq!(observed.max_in_flight("GET /storage_service/snapshots"), 3);
    assert_eq!(observed.max_in_flight_in("dc1", "GET /storage_service/snapshots"), 2);
    assert_eq!(observed.calls().len(), 3);
}

#[tokio::test]
async fn a_stopped_node_refuses_and_comes_back_with_its_data() {
    let cluster = cluster().start().await.unwrap();
    let (node, other) = (&cluster.nodes()[0], &cluster.nodes()[1]);
    let url = format!("http://{}/storage_service/cluster_name", node.rest_addr());
    void(node, "DELETE", "/column_family/autocompaction/ks:t").await;
    assert!(!node.autocompaction("ks", "t").unwrap());
    let rows = node.rows("ks", "t").unwrap();
    node.stop().await;
    assert!(client().get(&url).send().await.unwrap_err().is_connect());
    let live = get(other, "/gossiper/endpoint/live").await;
    assert!(!live.as_array().unwrap().contains(&json!(node.address())));
    assert_eq!(get(other, "/storage_service/host_id").await.as_array().unwrap().len(), 3);
    node.start().await.unwrap();
    assert_eq!(client().get(&url).send().await.unwrap().status(), 200);
    assert!(node.autocompaction("ks", "t").unwrap(), "a restart switches it on again");
    assert_eq!(node.rows("ks", "t").unwrap(), rows);
}

#[tokio::test]
async fn a_kept_data_directory_is_taken_up_again() {
    let root = tempfile::tempdir().unwrap();
    let first = std::net::Ipv4Addr::new(127, 0, 99, 11);
    let build = || cluster().first_address(first).data_root(root.path());
    let before = {
        let cluster = build().start().await.unwrap();
        cluster.write_rows("ks", "t", 5).unwrap();
        cluster.flush("ks", "t").await.unwrap();
        let rows = cluster.rows("ks", "t").unwrap();
        cluster.shutdown().await;
        rows
    };
    let cluster = build().start().await.unwrap();
    assert_eq!(cluster.rows("ks", "t").unwrap(), before);
    let sstables = cluster.nodes()[0].sstables("ks", "t").unwrap();
    cluster.write_rows("ks", "t", 5).unwrap();
    let new = &cluster.nodes()[0].flush("ks", "t").await.unwrap()[0];
    assert!(sstables.iter().all(|s| s.generation < new.generation), "generations go on");
}

#[tokio::test]
async fn snapshots_go_wrong_in_every_way() {
    let table = || "ks.t".to_owned();
    let cluster = cluster().start().await.unwrap();
    let node = &cluster.nodes()[0];
    let path = format!("/storage_service/snapshots?tag={TAG}&kn=ks");
    let clear = async || void(node, "DELETE", "/storage_service/snapshots").await;
    let dir = snapshot_dir(node, "ks", "t");

    node.add_snapshot_fault(SnapshotFault::Fails { table: table() });
    assert_eq!(call(node, "POST", &path).await.0, 500);
    assert!(snapshot_dir(node, "ks", "mv").exists() && !dir.exists(), "tables before it have theirs");
    clear().await;

    node.add_snapshot_fault(SnapshotFault::DirVanishes { table: table() });
    void(node, "POST", &path).await;
    assert!(!dir.exists());
    clear().await;

    for (fault, name) in [
        (SnapshotFault::StrayFile { table: table() }, "README.txt"),
        (SnapshotFault::UnsealedSstable { table: table() }, "me-999999-big-TOC.txt.tmp"),
        (SnapshotFault::Symlink { table: table() }, "me-999998-big-Data.db"),
    ] {
        node.add_snapshot_fault(fault);
        void(node, "POST", &path).await;
        assert!(dir.join(name).symlink_metadata().is_ok(), "{name}");
        clear().await;
    }

    node.set_disk_fault(DiskFault::FullAfter(3));
    let (status, body) = call(node, "POST", &path).await;
    assert_eq!((status, body.contains("No space left on device")), (500, true), "{body}");
    node.set_disk_fault(DiskFault::None);
    clear().await;

    node.add_snapshot_fault(SnapshotFault::DropTable { table: table() });
    void(node, "POST", &path).await;
    assert!(dir.exists(), "the snapshot survives the table");
    assert_eq!(call(node, "GET", "/column_family/autocompaction/ks:t").await.0, 400);
    let table_dir = dir.parent().unwrap().parent().unwrap().to_owned();
    clear().await;
    assert!(!table_dir.exists(), "the last snapshot took the dropped table's directory along");
}

#[tokio::test]
async fn switches_and_barriers() {
    let cluster = cluster().start().await.unwrap();
    let node = &cluster.nodes()[0];
    void(node, "POST", "/storage_service/tablets/balancing?enabled=false").await;
    assert!(!cluster.balancing());
    void(&cluster.nodes()[1], "POST", "/storage_service/tablets/balancing?enabled=true").await;
    assert_eq!(cluster.model().balancing_changes, [false, true]);
    void(node, "POST", "/raft/read_barrier").await;
    node.freeze_schema(true);
    cluster.drop_table("ks", "u").unwrap();
    assert_eq!(call(node, "POST", "/raft/read_barrier?timeout=1").await.0, 500);
    let waiting = call(node, "POST", "/raft/read_barrier");
    let release = async { node.freeze_schema(false) };
    assert_eq!(tokio::join!(waiting, release).0, (200, String::new()));
}

#[tokio::test]
async fn rows_reach_every_replica_and_views() {
    let cluster = cluster().start().await.unwrap();
    let keys = cluster.write_rows("ks", "t", 30).unwrap();
    cluster.insert("ks", "t", "mine", "first").unwrap();
    cluster.insert("ks", "t", "mine", "second").unwrap();
    cluster.flush("ks", "t").await.unwrap();
    let rows = cluster.rows("ks", "t").unwrap();
    assert!(keys.iter().all(|k| rows.contains_key(k)));
    assert_eq!(rows[b"mine".as_slice()].value, b"second");
    assert_eq!(cluster.rows("ks", "mv").unwrap().len(), rows.len());
    assert_eq!(cluster.missing_replicas("ks", "t").unwrap(), []);
    cluster.compact("ks", "t").await.unwrap();
    assert_eq!(cluster.rows("ks", "t").unwrap(), rows);
    cluster.nodes()[1].lose_table("ks", "t").await.unwrap();
    assert_eq!(cluster.missing_replicas("ks", "t").unwrap().len(), rows.len(), "the lost replica shows");
}

#[tokio::test]
async fn the_seed_decides_everything() {
    let root = |seed| async move {
        let cluster = cluster().seed(seed).start().await.unwrap();
        let node = &cluster.nodes()[0];
        let sstable = &node.sstables("ks", "t").unwrap()[0];
        let dir = node.table_dir("ks", "t").unwrap();
        let name = dir.file_name().unwrap().to_str().unwrap().to_owned();
        (node.host_id(), name, sstable.generation, sstable.digest().unwrap())
    };
    let (a, b, c) = (root(5).await, root(5).await, root(6).await);
    assert_eq!(a, b);
    assert!(a.0 != c.0 && a.1 != c.1 && a.3 != c.3);
}
