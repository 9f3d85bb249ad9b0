//! Keys of the backup layout, read with regular expressions written from its description.

use std::fmt;
use std::sync::LazyLock;

use regex::Regex;

use super::manifest::Entry;

const UUID: &str = "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}";
const TAG: &str = "sm_[0-9]{14}UTC";

fn regex(pattern: &str) -> Regex {
    let pattern = pattern.replace("UUID", UUID).replace("TAG", TAG);
    Regex::new(&format!("^{pattern}$")).expect("the pattern is a constant")
}

static MANIFEST: LazyLock<Regex> = LazyLock::new(|| {
    regex("backup/meta/cluster/(UUID)/dc/([^/]+)/node/([^/]+)/task_(UUID)_tag_(TAG)_manifest.json.gz(.tmp)?")
});
static SCHEMA: LazyLock<Regex> = LazyLock::new(|| {
    regex(
        "backup/schema/cluster/(UUID)/task_(UUID)_tag_(TAG)_(?:schema_with_internals.json.gz|schema.tar.gz|alternator_schema.json.gz)",
    )
});
static SST: LazyLock<Regex> = LazyLock::new(|| {
    regex(
        "(backup/sst/cluster/UUID/dc/[^/]+/node/[^/]+/keyspace/[^/]+/table/[^/]+/[0-9a-f]{32})/([^/]+?)(?:.(TAG))?",
    )
});
static MARKER: LazyLock<Regex> = LazyLock::new(|| regex("backup/meta/cluster/UUID/[.]manager"));

/// What a key stands for.
pub(super) enum Key {
    Manifest(ManifestKey),
    Schema {
        cluster: String,
        task: String,
        tag: String,
    },
    Sst(SstKey),
    /// Tells managers of each other.
    Marker,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ManifestKey {
    pub(super) cluster: String,
    pub(super) dc: String,
    pub(super) node: String,
    pub(super) task: String,
    pub(super) tag: String,
    pub(super) temporary: bool,
}

pub(super) struct SstKey {
    pub(super) directory: String,
    pub(super) plain: String,
    pub(super) replaced_by: Option<String>,
}

impl ManifestKey {
    pub(super) fn table_directory(&self, entry: &Entry) -> String {
        format!(
            "backup/sst/cluster/{}/dc/{}/node/{}/keyspace/{}/table/{}/{}",
            self.cluster, self.dc, self.node, entry.keyspace, entry.table, entry.version
        )
    }
}

impl fmt::Display for ManifestKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.temporary { "temporary manifest" } else { "manifest" };
        write!(f, "{kind} {} of node {} ({})", self.tag, self.node, self.dc)
    }
}

/// Reads a key; `None` when no template matches.
pub(super) fn parse(key: &str) -> Option<Key> {
    let group = |captures: &regex::Captures<'_>, n: usize| {
        captures.get(n).map_or(String::new(), |m| m.as_str().to_owned())
    };
    if let Some(found) = MANIFEST.captures(key) {
        return Some(Key::Manifest(ManifestKey {
            cluster: group(&found, 1),
            dc: group(&found, 2),
            node: group(&found, 3),
            task: group(&found, 4),
            tag: group(&found, 5),
            temporary: found.get(6).is_some(),
        }));
    }
    if let Some(found) = SCHEMA.captures(key) {
        return Some(Key::Schema {
            cluster: group(&found, 1),
            task: group(&found, 2),
            tag: group(&found, 3),
        });
    }
    if let Some(found) = SST.captures(key) {
        let replaced_by = found.get(3).map(|m| m.as_str().to_owned());
        return Some(Key::Sst(SstKey { directory: group(&found, 1), plain: group(&found, 2), replaced_by }));
    }
    MARKER.is_match(key).then_some(Key::Marker)
}
