//! Builds and parses every key below `backup/` (spec backup-format.md 1.2).
//!
//! Parsing never fails loudly: a key that is not of a known form is simply not ours, because buckets hold
//! `.version` files, trees of older releases and foreign files.

use std::fmt;

use crate::ids::{ClusterId, HostId, TaskId};
use crate::snapshot_tag::SnapshotTag;

/// Root of all manifests.
pub const META_DIR: &str = "backup/meta";
/// Root of all schema files.
pub const SCHEMA_DIR: &str = "backup/schema";
/// Longest key that the object stores take (S3: 1024 bytes of UTF-8).
pub const MAX_KEY_BYTES: usize = 1024;

const MANIFEST_FILE: &str = "manifest.json.gz";
const TEMPORARY_SUFFIX: &str = ".tmp";
/// Ending of Scylla's own manifests: such a name in a table directory is never an SSTable component.
const SCYLLA_MANIFEST_SUFFIX: &str = "manifest.json";

/// One node of one cluster, as the bucket knows it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodePath {
    /// Cluster.
    pub cluster: ClusterId,
    /// Datacenter.
    pub dc: String,
    /// Node.
    pub node: HostId,
}

impl NodePath {
    /// Directory of the node's manifests.
    pub fn meta_dir(&self) -> String {
        format!("{META_DIR}/cluster/{}/dc/{}/node/{}", self.cluster, self.dc, self.node)
    }

    /// Directory of all SSTables of the node.
    pub fn sst_dir(&self) -> String {
        format!("backup/sst/cluster/{}/dc/{}/node/{}", self.cluster, self.dc, self.node)
    }

    /// Directory of one table version.
    pub fn table_dir(&self, keyspace: &str, table: &str, version: &str) -> String {
        format!("{}/keyspace/{keyspace}/table/{table}/{version}", self.sst_dir())
    }
}

/// Directory that holds the manifests of one cluster, of all its nodes.
pub fn cluster_meta_dir(cluster: ClusterId) -> String {
    format!("{META_DIR}/cluster/{cluster}")
}

/// Directory that holds the schema files of one cluster.
pub fn cluster_schema_dir(cluster: ClusterId) -> String {
    format!("{SCHEMA_DIR}/cluster/{cluster}")
}

/// Name that one of Scylla's own snapshot manifests gets in the table directory (spec 2.5).
pub fn scylla_manifest_name(tag: SnapshotTag, node: &HostId, original: &str) -> String {
    format!("tag_{tag}_node_{node}_{original}")
}

/// Whether a file name belongs to one of Scylla's own manifests, local or remote.
pub fn is_scylla_manifest(name: &str) -> bool {
    name.ends_with(SCYLLA_MANIFEST_SUFFIX)
}

/// Whether `name` can be one element of a key: not empty, no `/`, not `.` or `..`, of sane length.
pub fn is_element(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= MAX_KEY_BYTES
        && !matches!(name, "." | "..")
        && !name.chars().any(|c| c == '/' || c.is_control())
}

/// Where a manifest lies: one node's list of files of one snapshot.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ManifestPath {
    /// Cluster, datacenter and node.
    pub node: NodePath,
    /// Task that made the snapshot.
    pub task: TaskId,
    /// The snapshot.
    pub tag: SnapshotTag,
    /// Not published yet: its files may still be missing.
    pub temporary: bool,
}

impl ManifestPath {
    /// The published form.
    pub fn regular(&self) -> Self {
        Self { temporary: false, ..self.clone() }
    }

    /// The form before publishing.
    pub fn temporary(&self) -> Self {
        Self { temporary: true, ..self.clone() }
    }

    /// Reads a key; `None` for everything that is not a manifest.
    pub fn parse(key: &str) -> Option<Self> {
        let elements: Vec<&str> = key.split('/').filter(|e| !e.is_empty() && *e != ".").collect();
        let ["backup", "meta", "cluster", cluster, "dc", dc, "node", node, file] = elements[..] else {
            return None;
        };
        if !is_element(dc) || !is_element(node) {
            return None;
        }
        let (rest, temporary) = match file.strip_suffix(TEMPORARY_SUFFIX) {
            Some(rest) => (rest, true),
            None => (file, false),
        };
        let (task, tag, kind) = parse_file_name(rest)?;
        if kind != MANIFEST_FILE {
            return None;
        }
        let node = NodePath { cluster: cluster.parse().ok()?, dc: dc.to_owned(), node: HostId::new(node) };
        Some(Self { node, task, tag, temporary })
    }
}

impl fmt::Display for ManifestPath {
    /// The key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let suffix = if self.temporary { TEMPORARY_SUFFIX } else { "" };
        write!(f, "{}/task_{}_tag_{}_{MANIFEST_FILE}{suffix}", self.node.meta_dir(), self.task, self.tag)
    }
}

/// Splits `task_<uuid>_tag_<tag>_<kind>`.
fn parse_file_name(name: &str) -> Option<(TaskId, SnapshotTag, &str)> {
    let rest = name.strip_prefix("task_")?;
    let (task, rest) = rest.split_once("_tag_")?;
    // A tag is `sm_<14 digits>UTC`: 20 bytes, ASCII.
    let (tag, rest) = (rest.get(..20)?, rest.get(20..)?);
    Some((task.parse().ok()?, tag.parse().ok()?, rest.strip_prefix('_')?))
}

/// Kinds of schema files (spec 2.2 to 2.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SchemaKind {
    /// CQL schema that can be replayed.
    Safe,
    /// CQL schema of older releases, for information only.
    Unsafe,
    /// Alternator schema.
    Alternator,
}

impl SchemaKind {
    /// All kinds, in the order in which purge deletes them.
    pub const ALL: [Self; 3] = [Self::Safe, Self::Unsafe, Self::Alternator];

    /// End of the file name.
    pub fn file_suffix(self) -> &'static str {
        match self {
            Self::Safe => "schema_with_internals.json.gz",
            Self::Unsafe => "schema.tar.gz",
            Self::Alternator => "alternator_schema.json.gz",
        }
    }
}

/// Where a schema file lies: one per cluster, task and tag in each location.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SchemaPath {
    /// Cluster.
    pub cluster: ClusterId,
    /// Task that made the snapshot.
    pub task: TaskId,
    /// The snapshot.
    pub tag: SnapshotTag,
    /// What it holds.
    pub kind: SchemaKind,
}

impl SchemaPath {
    /// Reads a key; `None` for everything that is not a schema file.
    pub fn parse(key: &str) -> Option<Self> {
        let elements: Vec<&str> = key.split('/').filter(|e| !e.is_empty() && *e != ".").collect();
        let ["backup", "schema", "cluster", cluster, file] = elements[..] else { return None };
        let (task, tag, suffix) = parse_file_name(file)?;
        let kind = SchemaKind::ALL.into_iter().find(|k| k.file_suffix() == suffix)?;
        Some(Self { cluster: cluster.parse().ok()?, task, tag, kind })
    }
}

impl fmt::Display for SchemaPath {
    /// The key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dir = cluster_schema_dir(self.cluster);
        write!(f, "{dir}/task_{}_tag_{}_{}", self.task, self.tag, self.kind.file_suffix())
    }
}

/// Where a file of a table lies.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SstPath {
    /// Cluster, datacenter and node.
    pub node: NodePath,
    /// Keyspace.
    pub keyspace: String,
    /// Table.
    pub table: String,
    /// Table ID: 32 hexadecimal digits.
    pub version: String,
    /// File, possibly with a version suffix.
    pub file: String,
}

impl SstPath {
    /// Reads a key; `None` for everything that is not a file of a table.
    pub fn parse(key: &str) -> Option<Self> {
        let elements: Vec<&str> = key.split('/').filter(|e| !e.is_empty() && *e != ".").collect();
        let [
            "backup",
            "sst",
            "cluster",
            cluster,
            "dc",
            dc,
            "node",
            node,
            "keyspace",
            keyspace,
            "table",
            table,
            version,
            file,
        ] = elements[..]
        else {
            return None;
        };
        if ![dc, node, keyspace, table, version, file].into_iter().all(is_element) {
            return None;
        }
        Some(Self {
            node: NodePath { cluster: cluster.parse().ok()?, dc: dc.to_owned(), node: HostId::new(node) },
            keyspace: keyspace.to_owned(),
            table: table.to_owned(),
            version: version.to_owned(),
            file: file.to_owned(),
        })
    }
}

impl fmt::Display for SstPath {
    /// The key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.node.table_dir(&self.keyspace, &self.table, &self.version), self.file)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_node() -> impl Strategy<Value = NodePath> {
        (any::<u128>(), "[A-Za-z0-9_.-]{1,20}", "[a-z0-9-]{1,36}")
            .prop_filter("not a path element", |(_, dc, node)| is_element(dc) && is_element(node))
            .prop_map(|(c, dc, node)| NodePath {
                cluster: uuid::Uuid::from_u128(c).into(),
                dc,
                node: HostId::new(node),
            })
    }

    fn any_tag() -> impl Strategy<Value = SnapshotTag> {
        // Years 2000 to 2200.
        (946_684_800_i64..7_258_118_400)
            .prop_map(|s| SnapshotTag::at(chrono::DateTime::from_timestamp(s, 0).unwrap()))
    }

    proptest! {
        #[test]
        fn manifest_keys_round_trip(node in any_node(), task in any::<u128>(), tag in any_tag(), temporary: bool) {
            let path = ManifestPath { node, task: uuid::Uuid::from_u128(task).into(), tag, temporary };
            prop_assert_eq!(ManifestPath::parse(&path.to_string()), Some(path.clone()));
            prop_assert_eq!(ManifestPath::parse(&format!("/{path}")), Some(path.clone()));
            prop_assert_eq!(SchemaPath::parse(&path.to_string()), None);
            prop_assert!(path.temporary().to_string().ends_with(".tmp"));
        }

        #[test]
        fn schema_keys_round_trip(cluster in any::<u128>(), task in any::<u128>(), tag in any_tag(), kind in 0..3_usize) {
            let path = SchemaPath {
                cluster: uuid::Uuid::from_u128(cluster).into(),
                task: uuid::Uuid::from_u128(task).into(),
                tag,
                kind: SchemaKind::ALL[kind],
            };
            prop_assert_eq!(SchemaPath::parse(&path.to_string()), Some(path));
        }

        #[test]
        fn table_keys_round_trip(node in any_node(), ks in "[a-z_]{1,20}", table in "[A-Za-z0-9_.$-]{3,20}", version in "[0-9a-f]{32}") {
            let path = SstPath { node, keyspace: ks, table, version, file: "me-1-big-Data.db".into() };
            prop_assert_eq!(SstPath::parse(&path.to_string()), Some(path));
        }

        #[test]
        fn no_key_panics(key in ".*") {
            let _ = (ManifestPath::parse(&key), SchemaPath::parse(&key), SstPath::parse(&key));
        }
    }

    #[test]
    fn what_is_not_a_manifest_is_not_ours() {
        let dir = "backup/meta/cluster/e2ba9ec5-8a8f-48d9-bcd9-0569706e9e84/dc/dc1/node/n1";
        let good = "task_02d0d878-e6a6-489f-8377-612c1032a8b7_tag_sm_20210215144841UTC_manifest.json.gz";
        assert!(ManifestPath::parse(&format!("{dir}/{good}")).is_some());
        assert!(ManifestPath::parse(&format!("//{dir}/./{good}.tmp")).is_some());
        for bad in [
            format!("{dir}/.version"),
            format!("{dir}/{good}.old"),
            format!("{dir}/{good}.tmp.tmp"),
            format!("{dir}/x/{good}"),
            format!("{dir}/{}", good.replace("sm_", "xx_")),
            format!("{dir}/{}", good.replace("20210215", "20211315")),
            format!("{dir}/{}", good.replace("02d0d878", "zzzzzzzz")),
            format!("{dir}/{}", good.replace("manifest", "schema")),
            format!("{}/{good}", dir.replace("e2ba9ec5", "nope")),
            format!("{}/{good}", dir.replace("/dc/", "/xx/")),
            "backup/meta/cluster/6a14ea0a-0f7c-4d39-84bf-06413188b029/dc/dc1/node/n/keyspace/k/table/t/task/ea986c36-9c97-4f7d-ac49-ec0166f0c8ca/tag/sm_20200227111752UTC/2ee3e681989042ef8798b9dcb99ab690/manifest.json".into(),
        ] {
            assert_eq!(ManifestPath::parse(&bad), None, "{bad}");
        }
    }

    #[test]
    fn elements_that_would_leave_their_directory_are_refused() {
        for bad in ["", ".", "..", "a/b", "a\nb"] {
            assert!(!is_element(bad), "{bad:?}");
        }
        assert!(!is_element(&"x".repeat(2000)));
        assert!(is_element("me-1-big-Data.db"));
    }
}
