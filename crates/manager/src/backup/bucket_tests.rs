//! Listing, deleting and purging over a bucket in memory, with content that somebody else may have put there.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;

use common::format::manifest::{ManifestHeader, TableEntry};
use common::format::paths::{ManifestPath, NodePath, SchemaKind, SchemaPath, SstPath};
use common::format::versioned;
use common::ids::{ClusterId, HostId};
use common::location::Location;
use common::snapshot_tag::SnapshotTag;
use flate2::Compression;
use flate2::write::GzEncoder;
use proptest::prelude::*;

use super::delete::{DeleteError, delete_backups};
use super::list::{ListFilter, list_backups, list_files};
use super::location::{LocationError, Reader, open};
use super::purge::{PurgeError, Purged};
use super::retention::tests::{day, task};
use super::testing::{BUCKET, FakeBucket, TABLE, pack};
use crate::agent_client::AgentClient;
use crate::agent_client::tests::client_into;
use crate::cluster::topology::Member;
use crate::hosts::Host;

fn cluster() -> ClusterId {
    uuid::Uuid::from_u128(9).into()
}

fn node(id: &str) -> NodePath {
    NodePath { cluster: cluster(), dc: "dc1".into(), node: HostId::new(id) }
}

fn manifest(id: &str, task_number: u8, tag: SnapshotTag) -> ManifestPath {
    ManifestPath { node: node(id), task: task(task_number), tag, temporary: false }
}

fn file(id: &str, name: &str) -> String {
    format!("{}/{name}", node(id).table_dir(TABLE.0, TABLE.1, TABLE.2))
}

fn schema(task_number: u8, tag: SnapshotTag) -> Vec<String> {
    let path = |kind| SchemaPath { cluster: cluster(), task: task(task_number), tag, kind }.to_string();
    SchemaKind::ALL.map(path).to_vec()
}

fn host(id: &str, address: &str) -> Host {
    Host { id: HostId::new(id), address: address.parse().unwrap(), dc: "dc1".into(), rack: "r1".into() }
}

/// Nodes `a` and `b`; any other node is gone from the cluster.
fn hosts() -> Vec<Host> {
    vec![host("a", "192.0.2.11"), host("b", "192.0.2.12")]
}

fn client(bucket: &FakeBucket) -> AgentClient {
    let router = bucket.router();
    client_into(&["192.0.2.11", "192.0.2.12"], move |_| Some(router.clone())).interactive()
}

fn reader(bucket: &FakeBucket) -> Reader {
    Reader { agent: client(bucket).on("192.0.2.11".parse().unwrap()), location: FakeBucket::location() }
}

/// `backup delete` of some tags.
async fn delete(bucket: &FakeBucket, tags: &[SnapshotTag]) -> Result<Purged, DeleteError> {
    let places = [(FakeBucket::location(), reader(bucket))];
    let tags = tags.iter().copied().collect();
    delete_backups(cluster(), &places, &hosts(), &client(bucket), &tags).await
}

/// Two tasks with a common tag on node `a`, one of them also on a node that left; the second day stays.
fn two_days() -> FakeBucket {
    let bucket = FakeBucket::default();
    bucket.back_up(&manifest("a", 1, day(1)), &["1", "2"]);
    bucket.back_up(&manifest("a", 1, day(2)), &["2", "3"]);
    bucket.back_up(&manifest("a", 2, day(1)), &["2", "4"]);
    bucket.back_up(&manifest("gone", 1, day(1)), &["1"]);
    bucket.put(manifest("a", 1, day(1)).temporary(), "shadowed");
    bucket.put(file("a", &versioned::join("2", day(2))), "as it was on the first day");
    bucket.put(file("a", &versioned::join("3", day(3))), "as it was on the second day");
    bucket
}

/// What deleting the first day of [`two_days`] takes.
fn first_day() -> BTreeSet<String> {
    let scylla = |id: &str| file(id, &format!("tag_{}_node_{id}_manifest.json", day(1)));
    let mut gone: BTreeSet<String> = schema(1, day(1)).into_iter().chain(schema(2, day(1))).collect();
    gone.extend(
        [manifest("a", 1, day(1)), manifest("a", 2, day(1)), manifest("gone", 1, day(1))]
            .map(|m| m.to_string()),
    );
    gone.insert(manifest("a", 1, day(1)).temporary().to_string());
    gone.extend([
        file("a", "1"),
        file("a", "4"),
        file("a", &versioned::join("2", day(2))),
        file("gone", "1"),
    ]);
    gone.extend([scylla("a"), scylla("gone")]);
    gone
}

fn taken(before: &FakeBucket, after: &FakeBucket) -> BTreeSet<String> {
    before.keys().difference(&after.keys()).cloned().collect()
}

/// P1, P5, P7, D1: exactly what nobody else needs, and nothing that is not ours.
#[tokio::test]
async fn exactly_what_only_stale_manifests_list_goes() {
    let bucket = two_days();
    let own_sst = node("a").sst_dir();
    let copy = versioned::join("1", day(1));
    for foreign in [
        "photos/cat.jpg".to_owned(),
        "backup/readme".to_owned(),
        format!("backup/meta/cluster/{}/.version", cluster()),
        format!("{}.old", manifest("a", 1, day(1))),
        format!("{own_sst}/{copy}"),
        file("a", &format!("deeper/{copy}")),
        file("a", "in no manifest"),
        file("other", &copy),
        file("a", &copy).replace(&cluster().to_string(), &ClusterId::NIL.to_string()),
        manifest("a", 1, day(1)).to_string().replace(&cluster().to_string(), &ClusterId::NIL.to_string()),
        format!("{own_sst}/keyspace/{}/table/t/v/{copy}", "x".repeat(5000)),
    ] {
        bucket.put(foreign, "foreign");
    }
    let before = bucket.copy();
    let purged = delete(&bucket, &[day(1)]).await.unwrap();
    assert_eq!(taken(&before, &bucket), first_day());
    assert_eq!(purged.manifests, 3);
    assert_eq!(purged.files, purged.deleted);
    assert!(matches!(delete(&bucket, &[day(1)]).await, Err(DeleteError::NotFound)));

    delete(&bucket, &[day(2)]).await.unwrap();
    assert!(
        !bucket.keys().contains(&file("a", &versioned::join("3", day(3)))),
        "nobody needs older copies now"
    );
    assert!(bucket.keys().contains(&file("a", "in no manifest")), "orphans are the business of validate");
}

/// P6: killed at any deletion, the next purge ends with what an undisturbed one leaves.
#[tokio::test]
async fn a_purge_that_is_killed_is_completed_by_the_next() {
    let mut lives = 0;
    loop {
        let bucket = two_days();
        bucket.die_after(Some(lives));
        let outcome = delete(&bucket, &[day(1)]).await;
        for kept in ["2", "3"] {
            assert!(bucket.keys().contains(&file("a", kept)));
        }
        if outcome.is_ok() {
            break;
        }
        assert!(bucket.is_dead());
        bucket.die_after(None);
        delete(&bucket, &[day(1)]).await.unwrap();
        assert_eq!(taken(&two_days(), &bucket), first_day(), "killed after {lives} deletions");
        lives += 1;
    }
    assert_eq!(lives, first_day().len());
}

fn gzip(text: &str) -> Vec<u8> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(text.as_bytes()).unwrap();
    gzip.finish().unwrap()
}

fn listing_of(files: &str) -> Vec<u8> {
    gzip(&format!(r#"{{"index":[{{"keyspace":"k","table":"t","version":"v","files":[{files}]}}]}}"#))
}

/// P8: whatever is wrong with a manifest of a node, stale or kept, nothing of this node goes; other nodes are purged,
/// and the schema waits for the rest of its snapshot.
#[tokio::test]
async fn a_damaged_manifest_stops_the_purge_of_its_node() {
    let sound = two_days().get(manifest("a", 1, day(1)));
    let mut flipped = sound.to_vec();
    flipped[sound.len() / 2] ^= 0x10;
    let damages: Vec<(&str, Vec<u8>)> = vec![
        ("nothing", vec![]),
        ("half", sound[..sound.len() / 2].to_vec()),
        ("all but the end", sound[..sound.len() - 1].to_vec()),
        ("a flipped bit", flipped),
        ("no gzip", b"{\"index\":[]}".to_vec()),
        ("no manifest", gzip("[]")),
        ("no index", gzip("{}")),
        ("an index of another kind", gzip(r#"{"index":{"k":1}}"#)),
        ("a way out", listing_of(r#""../../../../x""#)),
        ("an endless name", listing_of(&format!("\"{}\"", "x".repeat(2000)))),
        ("numbers for names", listing_of("1,2")),
        ("two manifests", [gzip(r#"{"index":[]}"#), gzip(r#"{"index":[]}"#)].concat()),
    ];
    for (what, content) in damages {
        for damaged in [manifest("a", 2, day(1)), manifest("a", 1, day(2))] {
            let bucket = two_days();
            bucket.put(&damaged, content.clone());
            stops(&bucket, &damaged, what).await;
        }
    }
    for damaged in [manifest("a", 2, day(1)), manifest("a", 1, day(2))] {
        let bucket = two_days();
        bucket.cut(&damaged);
        stops(&bucket, &damaged, "an answer that breaks off").await;
    }
}

async fn stops(bucket: &FakeBucket, damaged: &ManifestPath, what: &str) {
    let error = delete(bucket, &[day(1)]).await.unwrap_err();
    assert!(matches!(&error, DeleteError::Purge(PurgeError::Unreadable { .. })), "{what}: {error:?}");
    let text = common::error::chain(&error);
    assert!(text.contains(&damaged.to_string()) && text.contains("nothing was purged for node a"), "{text}");
    let mut gone = BTreeSet::from([manifest("gone", 1, day(1)).to_string(), file("gone", "1")]);
    gone.insert(file("gone", &format!("tag_{}_node_gone_manifest.json", day(1))));
    assert_eq!(taken(&two_days(), bucket), gone, "{what}");
}

/// A listing without its end is no listing: neither of manifests nor of older copies.
#[tokio::test]
async fn a_listing_that_ends_early_deletes_nothing() {
    for below in ["backup/meta", "backup/sst"] {
        let bucket = two_days();
        bucket.cut_listings(Some(below));
        let text = common::error::chain(&delete(&bucket, &[day(1)]).await.unwrap_err());
        assert!(text.contains("closing brackets"), "{text}");
        assert_eq!(bucket.keys(), two_days().keys(), "{below}");
        bucket.cut_listings(None);
        delete(&bucket, &[day(1)]).await.unwrap();
        assert_eq!(taken(&two_days(), &bucket), first_day());
    }
}

/// What cannot be deleted keeps the manifests that lead to it.
#[tokio::test]
async fn an_object_that_cannot_be_deleted_is_reported_and_found_again() {
    for locked in [schema(1, day(1))[1].clone(), manifest("gone", 1, day(1)).to_string(), file("a", "4")] {
        let bucket = two_days();
        bucket.lock(&locked, true);
        let text = common::error::chain(&delete(&bucket, &[day(1)]).await.unwrap_err());
        assert!(text.contains("AccessDenied"), "{text}");
        assert!(bucket.keys().contains(&locked));
        bucket.lock(&locked, false);
        delete(&bucket, &[day(1)]).await.unwrap();
        assert_eq!(taken(&two_days(), &bucket), first_day(), "{locked}");
    }
}

#[tokio::test]
async fn a_manifest_cannot_make_older_copies_go() {
    let bucket = two_days();
    let copy = versioned::join("3", day(3));
    bucket.back_up(&manifest("a", 3, day(1)), &["3", &copy]);
    delete(&bucket, &[day(1)]).await.unwrap();
    assert!(bucket.keys().contains(&file("a", &copy)) && bucket.keys().contains(&file("a", "3")));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// P1 and P5 over every step: reading manifests, listing, deleting.
    #[test]
    fn kept_files_stay_and_others_go(
        backups in prop::collection::btree_map(
            (prop::sample::select(vec!["a", "b", "gone"]), 1..3_u8, 0..5_i64),
            (prop::collection::btree_set(0..5_u8, 0..4), prop::bool::weighted(0.2)),
            1..12,
        ),
        stale in prop::collection::btree_set(0..5_i64, 1..4),
    ) {
        let bucket = FakeBucket::default();
        let mut needed = BTreeSet::new();
        let mut doomed = BTreeSet::new();
        for ((id, task_number, d), (files, temporary)) in &backups {
            let path = ManifestPath { temporary: *temporary, ..manifest(id, *task_number, day(*d)) };
            let names: Vec<String> = files.iter().map(ToString::to_string).collect();
            bucket.back_up(&path, &names.iter().map(String::as_str).collect::<Vec<_>>());
            let keys = names.iter().map(|name| file(id, name)).chain([path.to_string()]);
            if stale.contains(d) {
                doomed.extend(keys.chain(schema(*task_number, day(*d))));
            } else {
                needed.extend(keys.chain(schema(*task_number, day(*d))));
            }
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let tags: Vec<SnapshotTag> = stale.iter().map(|d| day(*d)).collect();
        let outcome = runtime.block_on(delete(&bucket, &tags));
        prop_assert!(outcome.is_ok() || doomed.is_empty(), "{outcome:?}");
        let left = bucket.keys();
        prop_assert!(needed.is_subset(&left), "lost {:?}", needed.difference(&left));
        let rest: Vec<_> = doomed.difference(&needed).filter(|key| left.contains(*key)).collect();
        prop_assert!(rest.is_empty(), "left {rest:?}");
        for key in left.iter().filter_map(|key| SstPath::parse(key)) {
            let of_stale = tags.iter().any(|tag| key.file.starts_with(&format!("tag_{tag}_")));
            prop_assert!(!of_stale, "a manifest of Scylla is left: {key}");
        }
    }
}

#[tokio::test]
async fn a_list_passes_over_what_is_damaged_and_says_so() {
    let bucket = two_days();
    bucket.put(manifest("a", 2, day(1)), "damaged");
    bucket.put(format!("backup/meta/cluster/{}/{}", cluster(), "x/".repeat(2000)), "");
    let other =
        manifest("a", 1, day(2)).to_string().replace(&cluster().to_string(), &ClusterId::NIL.to_string());
    bucket.put(&other, pack(&ManifestHeader::default(), &[entry("system_schema", u64::MAX), entry("k", 5)]));
    let readers = [reader(&bucket)];
    let filter = ListFilter { cluster: Some(cluster()), ..ListFilter::default() };
    let items = list_backups(&readers, &filter).await.unwrap();
    let seen: Vec<_> = items
        .iter()
        .map(|i| {
            (i.task_id, i.snapshot_info.iter().map(|s| (s.snapshot_tag, s.nodes, s.size)).collect::<Vec<_>>())
        })
        .collect();
    assert_eq!(seen, [(task(1), vec![(day(2), 1, 2), (day(1), 2, 3)]), (task(2), vec![])]);
    assert!(items[1].warnings[0].contains(&manifest("a", 2, day(1)).to_string()), "{:?}", items[1].warnings);
    let error = list_files(&readers, &filter).await.unwrap_err();
    assert!(common::error::chain(&error).contains(&manifest("a", 2, day(1)).to_string()));

    let items = list_backups(&readers, &ListFilter::default()).await.unwrap();
    assert_eq!((items.len(), items[0].cluster_id), (3, ClusterId::NIL));
    assert_eq!(items[0].snapshot_info[0].size, i64::MAX as u64, "sums have an end");
    assert!(items[0].warnings[0].contains("--username --password"), "{:?}", items[0].warnings);

    bucket.cut_listings(Some("backup/meta"));
    let text = common::error::chain(&list_backups(&readers, &filter).await.unwrap_err());
    assert!(text.starts_with("location s3:b: 192.0.2.11: "), "{text}");
}

fn entry(keyspace: &str, size: u64) -> TableEntry {
    TableEntry {
        keyspace: keyspace.into(),
        table: "t".into(),
        version: "v".into(),
        size,
        ..TableEntry::default()
    }
}

#[tokio::test]
async fn files_are_listed_by_manifest() {
    let filter = ListFilter { cluster: Some(cluster()), tag: Some(day(1)), ..ListFilter::default() };
    let found = list_files(&[reader(&two_days())], &filter).await.unwrap();
    let seen: Vec<_> = found.iter().map(|i| (i.files[0].path.clone(), i.files[0].files.join(" "))).collect();
    let dir = |id| node(id).table_dir(TABLE.0, TABLE.1, TABLE.2);
    assert_eq!(
        seen,
        [(dir("a"), "1 2".to_owned()), (dir("gone"), "1".to_owned()), (dir("a"), "2 4".to_owned())]
    );
    assert_eq!((&found[0].location, &found[0].schema), (&FakeBucket::location(), &schema(1, day(1))[0]));
}

#[tokio::test(start_paused = true)]
async fn a_location_is_read_through_the_first_node_that_can() {
    let members: Vec<Member> =
        hosts().into_iter().map(|host| Member { host, up: true, state: 'N' }).collect();
    let bucket = FakeBucket::default();
    let router = bucket.router();
    let answering: BTreeMap<&str, bool> = BTreeMap::from([("192.0.2.11", false), ("192.0.2.12", true)]);
    let lookup = move |host: &str| answering[host].then(|| router.clone());
    let some = client_into(&["192.0.2.11", "192.0.2.12"], lookup).interactive();
    let empty = FakeBucket::location();
    assert_eq!(
        open(&some, &members, &empty).await.unwrap().agent.host(),
        "192.0.2.12",
        "an empty bucket is fine"
    );

    let none = client_into(&["192.0.2.11", "192.0.2.12"], |_| None).interactive();
    let text = common::error::chain(&open(&none, &members, &empty).await.err().unwrap());
    assert!(
        text.starts_with(&format!("no matching hosts found for location s3:{BUCKET}: 192.0.2.11: ")),
        "{text}"
    );
    assert!(text.contains("; 192.0.2.12: "), "{text}");

    let missing: Location = "s3:missing".parse().unwrap();
    let text = common::error::chain(&open(&some, &members, &missing).await.err().unwrap());
    assert!(text.contains("directory not found"), "{text}");
    let elsewhere: Location = "dc9:s3:b".parse().unwrap();
    assert!(matches!(open(&some, &members, &elsewhere).await, Err(LocationError::NoHosts(_))));
}
