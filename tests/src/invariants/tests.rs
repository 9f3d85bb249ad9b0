//! The checks find what they are for: each case breaks a sound bucket in one way.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::json;

use super::*;
use crate::s3::{Quirks, Storage, Store};

const CLUSTER: &str = "11111111-1111-4111-8111-111111111111";
const TASK: &str = "22222222-2222-4222-8222-222222222222";
const OLD: &str = "sm_20260101000000UTC";
const NEW: &str = "sm_20260102000000UTC";

fn table() -> String {
    format!("backup/sst/cluster/{CLUSTER}/dc/dc1/node/n1/keyspace/ks/table/t/{}", "0".repeat(32))
}

fn schema_table() -> String {
    format!(
        "backup/sst/cluster/{CLUSTER}/dc/dc1/node/n1/keyspace/system_schema/table/tables/{}",
        "1".repeat(32)
    )
}

fn schema(tag: &str) -> String {
    format!("backup/schema/cluster/{CLUSTER}/task_{TASK}_tag_{tag}_schema_with_internals.json.gz")
}

fn manifest_key(tag: &str) -> String {
    format!("backup/meta/cluster/{CLUSTER}/dc/dc1/node/n1/task_{TASK}_tag_{tag}_manifest.json.gz")
}

fn manifest(tag: &str, body: &str) -> Vec<u8> {
    let file = "mc-1-big-Data.db";
    let text = json!({
        "version": "v2", "size": body.len(), "schema": schema(tag),
        "index": [
            {"keyspace": "ks", "table": "t", "version": "0".repeat(32), "files": [file], "size": body.len(),
             "file_sizes": [body.len()], "file_crc32": [crc32fast::hash(body.as_bytes())],
             "scylla_manifests": [format!("tag_{tag}_node_n1_manifest.json")]},
            {"keyspace": "system_schema", "table": "tables", "version": "1".repeat(32), "files": null, "size": 0},
        ],
    });
    let mut packed = GzEncoder::new(Vec::new(), Compression::default());
    packed.write_all(text.to_string().as_bytes()).expect("in memory");
    packed.finish().expect("in memory")
}

/// Two snapshots whose file has the same name and other content.
fn sound() -> Store {
    let store = Store::new(Storage::Memory, Quirks::default(), ["b".to_owned()]);
    let put = |key: String, body: Vec<u8>| store.insert("b", &key, body).expect("the bucket exists");
    for (tag, body) in [(OLD, "old"), (NEW, "newer")] {
        put(manifest_key(tag), manifest(tag, body));
        put(schema(tag), b"schema".to_vec());
        put(format!("{}/tag_{tag}_node_n1_manifest.json", table()), b"{}".to_vec());
    }
    put(format!("{}/mc-1-big-Data.db", table()), b"newer".to_vec());
    put(format!("{}/mc-1-big-Data.db.{NEW}", table()), b"old".to_vec());
    store
}

fn broken(store: &Store) -> Vec<&'static str> {
    let contents = BucketContents::of_store(store, "b").expect("bodies are in memory");
    check(&contents, &Expected::default()).into_iter().map(|violation| violation.invariant).collect()
}

#[test]
fn a_sound_bucket_has_no_violation() {
    let contents = BucketContents::of_store(&sound(), "b").expect("bodies are in memory");
    assert_eq!(check(&contents, &Expected::default()), []);
}

type Damage = Box<dyn Fn(&Store)>;

#[test]
fn every_kind_of_damage_is_found() {
    let data = format!("{}/mc-1-big-Data.db", table());
    let cases: Vec<(&str, Damage, &[&str])> = vec![
        (
            "lost versioned copy",
            Box::new(|s| assert!(s.remove("b", &format!("{}/mc-1-big-Data.db.{NEW}", table())))),
            &["U1", "U3", "F3"],
        ),
        ("lost schema", Box::new(|s| assert!(s.remove("b", &schema(OLD)))), &["U1"]),
        ("other bytes", Box::new(move |s| s.insert("b", &data, "NEWER").expect("put")), &["U3"]),
        (
            "orphan",
            Box::new(|s| s.insert("b", &format!("{}/mc-2-big-Data.db", table()), "x").expect("put")),
            &["P5"],
        ),
        ("foreign key", Box::new(|s| s.insert("b", "backup/x", "x").expect("put")), &["L1"]),
        (
            "broken manifest",
            Box::new(|s| s.insert("b", &manifest_key(NEW), "no gzip").expect("put")),
            &["F1", "P5"],
        ),
        (
            "temporary",
            Box::new(|s| s.insert("b", &(manifest_key(NEW) + ".tmp"), manifest(NEW, "newer")).expect("put")),
            &["U2"],
        ),
        ("manifest gone, files not", Box::new(|s| assert!(s.remove("b", &manifest_key(OLD)))), &["P2", "P5"]),
        (
            "other node's table",
            Box::new(|s| s.insert("b", &format!("{}/mc-1-big-Data.db", schema_table()), "x").expect("put")),
            &["P5"],
        ),
    ];
    for (name, damage, expected) in cases {
        let store = sound();
        damage(&store);
        let found = broken(&store);
        for invariant in expected {
            assert!(found.contains(invariant), "{name}: {invariant} not in {found:?}");
        }
    }
}

#[test]
fn snapshots_left_on_nodes_are_found() {
    let contents = BucketContents::default();
    let local_snapshots =
        vec![("127.0.0.11".to_owned(), OLD.to_owned()), ("127.0.0.11".to_owned(), "mine".to_owned())];
    let found = check(&contents, &Expected { local_snapshots, ..Expected::default() });
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].invariant, "U8");
}
