//! One node's list of files of one snapshot (spec backup-format.md 2.1), written and read as streams.
//!
//! An index can be hundreds of megabytes: a reader sees one table at a time, a writer is given one table at
//! a time, and nobody holds a whole index. The surprise: older releases put `index` before other keys, so the
//! header is complete only at the end of a read.

mod split;

use std::fmt;
use std::io::{self, Read, Write};

use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use self::split::{Detail, Limits, Splitter};
use super::paths::is_element;
use crate::api::null_as_default;
use crate::ids::{ClusterId, TaskId};
use crate::snapshot_tag::SnapshotTag;

/// Unpacked bytes that are held at a time. A table of a million files takes about 100 MiB; beyond this a manifest is a
/// decompression bomb.
const LIMITS: Limits = Limits { rest: 16 * 1024 * 1024, entry: 256 * 1024 * 1024 };

/// Bytes that are unpacked at a time.
const CHUNK_BYTES: usize = 64 * 1024;

/// A manifest that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// The bytes did not arrive or do not unpack.
    #[error("manifest cannot be read")]
    Read(#[source] io::Error),
    /// The text is not a manifest.
    #[error("manifest is damaged")]
    Decode(#[source] serde_json::Error),
    /// The target refused the bytes.
    #[error("manifest cannot be written")]
    Write(#[source] io::Error),
}

/// Cloud and machine type of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct InstanceDetails {
    /// `aws`, `gcp`, `azure`; empty when unknown.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "null_as_default")]
    pub cloud_provider: String,
    /// E.g. `i4i.xlarge`; empty when unknown.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "null_as_default")]
    pub instance_type: String,
}

macro_rules! header {
    ($($(#[$meta:meta])* $field:ident: $ty:ty,)*) => {
        /// Everything in a manifest but its index. All fields are optional when read: releases added them
        /// one by one. The path of a manifest, not its body, is authoritative for what both name.
        #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
        #[serde(default)]
        pub struct ManifestHeader { $($(#[$meta])* pub $field: $ty,)* }

        /// Keys that are kept while reading; any other is skipped without being held.
        const HEADER_KEYS: &[&str] = &[$(stringify!($field),)*];
    };
}

header! {
    /// `v2`; `v1` only in manifests that 2.x migrated.
    #[serde(deserialize_with = "null_as_default")]
    version: String,
    /// Scylla release of the node.
    #[serde(deserialize_with = "null_as_default")]
    scylla_version: String,
    /// Name of the cluster in the manager.
    #[serde(deserialize_with = "null_as_default")]
    cluster_name: String,
    /// Address of the node.
    #[serde(deserialize_with = "null_as_default")]
    ip: String,
    /// Bytes of all files.
    #[serde(deserialize_with = "null_as_default")]
    size: u64,
    /// Tokens owned by the node, in the whole int64 range.
    #[serde(deserialize_with = "null_as_default")]
    tokens: Vec<i64>,
    /// Key of the CQL schema file; empty when there is none.
    #[serde(deserialize_with = "null_as_default")]
    schema: String,
    /// Rack.
    #[serde(deserialize_with = "null_as_default")]
    rack: String,
    /// Shards.
    #[serde(deserialize_with = "null_as_default")]
    shard_count: u64,
    /// Logical CPUs.
    #[serde(deserialize_with = "null_as_default")]
    cpu_count: u64,
    /// Bytes of the data disk.
    #[serde(deserialize_with = "null_as_default")]
    storage_size: u64,
    /// Cloud and machine type.
    #[serde(deserialize_with = "null_as_default")]
    instance_details: InstanceDetails,
    /// Repeats the path.
    #[serde(deserialize_with = "null_as_default")]
    dc: String,
    /// Repeats the path. Left out when unknown: the original refuses an empty text.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "lenient")]
    cluster_id: Option<ClusterId>,
    /// Repeats the path.
    #[serde(deserialize_with = "null_as_default")]
    node_id: String,
    /// Repeats the path. Left out when unknown.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "lenient")]
    task_id: Option<TaskId>,
    /// Repeats the path. Left out when unknown.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "lenient")]
    snapshot_tag: Option<SnapshotTag>,
}

/// Reads a text that the path repeats: what does not parse counts as absent.
fn lenient<'de, D: Deserializer<'de>, T: std::str::FromStr>(deserializer: D) -> Result<Option<T>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    Ok(text.and_then(|t| t.parse().ok()))
}

/// Files of one table version on one node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TableEntry {
    /// Keyspace.
    #[serde(deserialize_with = "null_as_default")]
    pub keyspace: String,
    /// Table.
    #[serde(deserialize_with = "null_as_default")]
    pub table: String,
    /// `vnodes` or `tablets`; empty in older manifests.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "null_as_default")]
    pub replication_type: String,
    /// Table ID: 32 hexadecimal digits.
    #[serde(deserialize_with = "null_as_default")]
    pub version: String,
    /// Component names, unversioned, without path. Empty for a table without data.
    #[serde(deserialize_with = "null_as_default")]
    pub files: Vec<String>,
    /// Bytes of `files`.
    #[serde(deserialize_with = "null_as_default")]
    pub size: u64,
    /// Scylla's own manifests, as named in the bucket.
    #[serde(deserialize_with = "null_as_default")]
    pub scylla_manifests: Vec<String>,
    /// Ours: bytes of each file, parallel to `files`; empty when unknown.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_as_default")]
    pub file_sizes: Vec<u64>,
    /// Ours: CRC-32 of each file, parallel to `files`; empty when none is known.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_as_default")]
    pub file_crc32: Vec<Option<u32>>,
    /// Ours: `Data.db` names whose bytes differ from their own digest.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_as_default")]
    pub digest_mismatch: Vec<String>,
}

/// One file of a [`TableEntry`] with what the manifest can prove about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileFacts<'a> {
    /// Unversioned name.
    pub name: &'a str,
    /// Bytes; `None` in manifests of the original.
    pub size: Option<u64>,
    /// CRC-32; `None` when unknown.
    pub crc32: Option<u32>,
}

impl TableEntry {
    /// The files with their facts.
    pub fn facts(&self) -> impl Iterator<Item = FileFacts<'_>> {
        self.files.iter().enumerate().map(|(i, name)| FileFacts {
            name,
            size: self.file_sizes.get(i).copied(),
            crc32: self.file_crc32.get(i).copied().flatten(),
        })
    }

    /// Refuses names that would leave the table's directory; drops facts that do not fit the files.
    fn checked(mut self) -> Result<Self, ManifestError> {
        let names = [&self.keyspace, &self.table, &self.version].into_iter();
        check_names(&self.keyspace, &self.table, names.chain(&self.files).chain(&self.scylla_manifests))?;
        if self.file_sizes.len() != self.files.len() {
            self.file_sizes.clear();
        }
        if self.file_crc32.len() != self.files.len() {
            self.file_crc32.clear();
        }
        Ok(self)
    }
}

/// Refuses names of a table that could not be part of a key.
fn check_names<'a>(
    keyspace: &str,
    table: &str,
    mut names: impl Iterator<Item = &'a String>,
) -> Result<(), ManifestError> {
    let Some(bad) = names.find(|name| !is_element(name)) else { return Ok(()) };
    let shown: String = bad.chars().take(100).collect();
    let text = format!("table {keyspace}.{table}: unusable name {shown:?}");
    Err(ManifestError::Decode(serde::de::Error::custom(text)))
}

/// What `backup list` shows of a table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct TableSize {
    /// Keyspace.
    #[serde(deserialize_with = "null_as_default")]
    pub keyspace: String,
    /// Table.
    #[serde(deserialize_with = "null_as_default")]
    pub table: String,
    /// Bytes of its files.
    #[serde(deserialize_with = "null_as_default")]
    pub size: u64,
}

/// Reads a packed manifest to its end, handing each table to `on_entry` as it comes.
///
/// Blocks: run it on a blocking thread. Names that could not be part of a key are refused, so that what is
/// read may be used to build keys.
///
/// # Errors
/// Bytes missing or not gzip, or no manifest. Entries handed out before that must be thrown away.
pub fn read(
    packed: impl Read,
    mut on_entry: impl FnMut(TableEntry),
) -> Result<ManifestHeader, ManifestError> {
    read_entries(packed, Detail::Whole, |entry: TableEntry| {
        on_entry(entry.checked()?);
        Ok(())
    })
}

/// As [`read`], for who wants to know no file: several times as fast. Lists of files are not looked at; the checksum of
/// the archive vouches for them.
///
/// # Errors
/// As for [`read`].
pub fn read_sizes(
    packed: impl Read,
    mut on_table: impl FnMut(TableSize),
) -> Result<ManifestHeader, ManifestError> {
    read_entries(packed, Detail::Scalars, |table: TableSize| {
        check_names(&table.keyspace, &table.table, [&table.keyspace, &table.table].into_iter())?;
        on_table(table);
        Ok(())
    })
}

fn read_entries<T: serde::de::DeserializeOwned>(
    packed: impl Read,
    detail: Detail,
    mut on_entry: impl FnMut(T) -> Result<(), ManifestError>,
) -> Result<ManifestHeader, ManifestError> {
    let mut unpacked = MultiGzDecoder::new(packed);
    let mut splitter = Splitter::new(LIMITS, detail);
    let mut chunk = vec![0; CHUNK_BYTES];
    // The end is read too: only then the checksum of the gzip stream has been compared.
    loop {
        match unpacked.read(&mut chunk) {
            Ok(0) => break,
            Ok(read) => splitter.feed(&chunk[..read], |entry| {
                on_entry(serde_json::from_slice(entry).map_err(ManifestError::Decode)?)
            })?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(ManifestError::Read(error)),
        }
    }
    let (rest, entries) = splitter.finish();
    let mut json = serde_json::Deserializer::from_slice(&rest);
    let mut keys = serde_json::Map::new();
    let body = Body { keys: &mut keys, entries };
    body.deserialize(&mut json).and_then(|()| json.end()).map_err(read_error)?;
    serde_json::from_value(Value::Object(keys)).map_err(ManifestError::Decode)
}

fn read_error(error: serde_json::Error) -> ManifestError {
    if error.is_eof() { ManifestError::Read(error.into()) } else { ManifestError::Decode(error) }
}

/// What the splitter left of a manifest: everything but the entries of its index.
struct Body<'k> {
    keys: &'k mut serde_json::Map<String, Value>,
    /// Entries that were taken out.
    entries: usize,
}

impl<'de> DeserializeSeed<'de> for Body<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Body<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a manifest")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut left = None;
        while let Some(key) = map.next_key::<String>()? {
            if key == "index" {
                // `null`: no table.
                let marks: Vec<u64> = map.next_value::<Option<_>>()?.unwrap_or_default();
                *left.get_or_insert(0) += marks.len();
            } else if HEADER_KEYS.contains(&key.as_str()) {
                self.keys.insert(key, map.next_value()?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        match left {
            // Every release writes an index, if only an empty one: without it this is something else, and taking it for
            // a manifest of no files would let go what a real one protects.
            None => Err(serde::de::Error::missing_field("index")),
            Some(left) if left == self.entries => Ok(()),
            Some(_) => Err(serde::de::Error::custom("the index is not an array of tables")),
        }
    }
}

/// Writes a packed manifest, table by table. Dropped before [`Writer::finish`] it leaves a broken stream.
pub struct Writer<W: Write> {
    gzip: GzEncoder<W>,
    first: bool,
}

impl<W: Write> Writer<W> {
    /// Writes the header.
    ///
    /// # Errors
    /// The target refused the bytes.
    pub fn new(out: W, header: &ManifestHeader) -> Result<Self, ManifestError> {
        let mut text = serde_json::to_vec(header).map_err(ManifestError::Decode)?;
        // The header is an object and never empty: reopen it, so that the index comes last.
        text.pop();
        text.extend_from_slice(b",\"index\":[");
        let mut gzip = GzEncoder::new(out, Compression::default());
        gzip.write_all(&text).map_err(ManifestError::Write)?;
        Ok(Self { gzip, first: true })
    }

    /// Adds a table.
    ///
    /// # Errors
    /// The target refused the bytes.
    pub fn entry(&mut self, entry: &TableEntry) -> Result<(), ManifestError> {
        let mut text = serde_json::to_vec(entry).map_err(ManifestError::Decode)?;
        if !self.first {
            text.insert(0, b',');
        }
        self.first = false;
        self.gzip.write_all(&text).map_err(ManifestError::Write)
    }

    /// Ends the manifest and gives the target back.
    ///
    /// # Errors
    /// The target refused the bytes.
    pub fn finish(mut self) -> Result<W, ManifestError> {
        self.gzip.write_all(b"]}\n").and_then(|()| self.gzip.finish()).map_err(ManifestError::Write)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pack(json: &str) -> Vec<u8> {
        let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
        gzip.write_all(json.as_bytes()).unwrap();
        gzip.finish().unwrap()
    }

    fn read_all(packed: &[u8]) -> Result<(ManifestHeader, Vec<TableEntry>), ManifestError> {
        let mut entries = Vec::new();
        let header = read(packed, |e| entries.push(e))?;
        Ok((header, entries))
    }

    fn write_all(header: &ManifestHeader, entries: &[TableEntry]) -> Vec<u8> {
        let mut writer = Writer::new(Vec::new(), header).unwrap();
        for entry in entries {
            writer.entry(entry).unwrap();
        }
        writer.finish().unwrap()
    }

    fn any_entry() -> impl Strategy<Value = TableEntry> {
        let files = prop::collection::vec(("[a-z0-9-]{1,12}", any::<u64>(), any::<Option<u32>>()), 0..5);
        ("[a-z]{1,8}", "[A-Za-z0-9_.-]{3,10}", "[0-9a-f]{32}", files, any::<bool>()).prop_map(
            |(keyspace, table, version, files, proof)| TableEntry {
                keyspace,
                table,
                version,
                size: files.iter().fold(0, |sum, (_, size, _)| size.wrapping_add(sum)),
                files: files.iter().map(|(name, _, _)| name.clone()).collect(),
                file_sizes: files.iter().filter(|_| proof).map(|(_, size, _)| *size).collect(),
                file_crc32: files.iter().filter(|_| proof).map(|(_, _, crc)| *crc).collect(),
                ..TableEntry::default()
            },
        )
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            entries in prop::collection::vec(any_entry(), 0..6),
            tokens in prop::collection::vec(any::<i64>(), 0..4),
            cluster in any::<u128>(),
            schema in "[a-z/]{0,10}",
        ) {
            let header = ManifestHeader {
                version: "v2".into(),
                tokens,
                schema,
                cluster_id: Some(uuid::Uuid::from_u128(cluster).into()),
                snapshot_tag: Some("sm_20210215144841UTC".parse().unwrap()),
                ..ManifestHeader::default()
            };
            let packed = write_all(&header, &entries);
            let (read_header, read_entries) = read_all(&packed).unwrap();
            prop_assert_eq!(&read_header, &header);
            prop_assert_eq!(&read_entries, &entries);
            let (mut sizes, size) = (Vec::new(), |e: &TableEntry| (e.keyspace.clone(), e.table.clone(), e.size));
            prop_assert_eq!(read_sizes(&*packed, |t| sizes.push((t.keyspace, t.table, t.size))).unwrap(), header);
            prop_assert_eq!(sizes, entries.iter().map(size).collect::<Vec<_>>());
        }

        #[test]
        fn damage_is_an_error_and_never_a_panic(flip in any::<prop::sample::Index>(), bit in 0..8_u8, cut: bool) {
            let entry = TableEntry { keyspace: "k".into(), table: "t".into(), version: "0".into(), ..TableEntry::default() };
            let mut packed = write_all(&ManifestHeader::default(), &vec![entry; 50]);
            let sound = read_all(&packed).unwrap();
            let at = flip.index(packed.len());
            if cut { packed.truncate(at) } else { packed[at] ^= 1 << bit }
            // Some bits of gzip carry no data: flags, time and system in its header, padding behind the last block.
            match read_all(&packed) {
                Err(_) => {}
                Ok(read) => prop_assert!(!cut && read == sound),
            }
        }
    }

    #[test]
    fn all_generations_are_read() {
        let text = r#"{"version":"v2","unknown":{"a":[1,2]},"index":[
            {"keyspace":"k","table":"t","version":"v","files":null,"size":0,"scylla_manifests":null,"new":1}],
            "tokens":[-9223372036854775808,9223372036854775807],"token_ranges":{"k":[1]},"instance_details":{},
            "cluster_id":"","schema":"backup/schema/x"}"#;
        let (header, entries) = read_all(&pack(text)).unwrap();
        assert_eq!(header.tokens, [i64::MIN, i64::MAX]);
        assert_eq!((header.cluster_id, header.schema.as_str()), (None, "backup/schema/x"));
        assert_eq!(entries.len(), 1);
        assert_eq!(read_all(&pack(r#"{"index":null,"tokens":null}"#)).unwrap().1, []);
    }

    #[test]
    fn the_written_form_is_the_original_one() {
        let header = ManifestHeader { version: "v2".into(), tokens: vec![-1], ..ManifestHeader::default() };
        let entry = TableEntry {
            keyspace: "k".into(),
            table: "t".into(),
            version: "v".into(),
            files: vec!["me-1-big-Data.db".into()],
            size: 3,
            ..TableEntry::default()
        };
        let mut text = String::new();
        let packed = write_all(&header, &[entry.clone(), entry]);
        MultiGzDecoder::new(&*packed).read_to_string(&mut text).unwrap();
        assert!(text.ends_with("}\n") && text.contains(r#""tokens":[-1]"#), "{text}");
        let one = r#"{"keyspace":"k","table":"t","version":"v","files":["me-1-big-Data.db"],"size":3,"scylla_manifests":[]}"#;
        assert!(text.contains(&format!(r#","index":[{one},{one}]}}"#)), "{text}");
        assert!(!text.contains("cluster_id"), "{text}");
    }

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        for bad in ["../x", "..", "", "a/b"] {
            let text =
                format!(r#"{{"index":[{{"keyspace":"k","table":"t","version":"v","files":["{bad}"]}}]}}"#);
            let error = read_all(&pack(&text)).unwrap_err();
            assert!(crate::error::chain(&error).contains("unusable name"), "{bad}: {error:?}");
        }
    }

    #[test]
    fn what_has_no_index_is_no_manifest() {
        for text in [
            "{}",
            r#"{"version":"v2","tokens":[1]}"#,
            r#"{"index":[0]}"#,
            r#"{"index":[[{}]]}"#,
            "[]",
            "null",
        ] {
            assert!(matches!(read_all(&pack(text)), Err(ManifestError::Decode(_))), "{text}");
        }
    }

    #[test]
    fn facts_that_do_not_fit_are_dropped() {
        let text = r#"{"index":[{"keyspace":"k","table":"t","version":"v","files":["a","b"],"file_sizes":[1],"file_crc32":[7,null]}]}"#;
        let (_, entries) = read_all(&pack(text)).unwrap();
        let facts: Vec<_> = entries[0].facts().map(|f| (f.name, f.size, f.crc32)).collect();
        assert_eq!(facts, [("a", None, Some(7)), ("b", None, None)]);
    }

    #[test]
    fn upstream_fixtures_are_read() {
        let Some(root) = std::env::var_os("UPSTREAM_FIXTURES") else {
            eprintln!("skipped: UPSTREAM_FIXTURES is not set");
            return;
        };
        let root = std::path::PathBuf::from(root).join("upstream-backup");
        let mut manifests = 0;
        for location in ["location-a", "location-b", "legacy-v1"] {
            let base = root.join(location);
            let mut dirs = vec![base.join("backup/meta")];
            while let Some(dir) = dirs.pop() {
                for entry in std::fs::read_dir(dir).unwrap() {
                    let entry = entry.unwrap();
                    if entry.file_type().unwrap().is_dir() {
                        dirs.push(entry.path());
                        continue;
                    }
                    let path = entry.path();
                    let key = path.strip_prefix(&base).unwrap().to_str().unwrap();
                    let Some(parsed) = super::super::paths::ManifestPath::parse(key) else { continue };
                    assert_eq!(parsed.to_string(), key);
                    let (header, entries) = read_all(&std::fs::read(&path).unwrap()).unwrap();
                    assert_eq!(header.version, "v2");
                    assert_eq!(header.size, entries.iter().map(|e| e.size).sum::<u64>(), "{key}");
                    assert_eq!(header.tokens.len(), 256);
                    assert!(
                        header.tokens.is_sorted() || location == "location-b" || !header.tokens.is_empty()
                    );
                    manifests += 1;
                }
            }
        }
        assert_eq!(manifests, 17);
    }
}
