//! Between UPLOAD and MOVE_MANIFEST: compares each location with the lists of files, name by name and size by
//! size, and adds the proof to the manifests (design 3.1, 3.4). Nothing is published that was not seen here.

use std::collections::HashMap;
use std::sync::PoisonError;

use bytes::Bytes;
use common::format::manifest::{self, ManifestError, ManifestHeader, TableEntry, Writer};
use common::format::paths::ManifestPath;
use common::format::sstable::{ComponentName, IdKind};
use common::snapshot_tag::SnapshotTag;
use futures::{StreamExt, TryStreamExt};
use tracing::{info, warn};

use super::checksums::{Uploaded, unpack};
use super::deduplicate::{Pending, PendingTables};
use super::error::{BackupError, all_hosts, shown};
use super::file_lists::{self, ManifestTables, local_files, snapshot_dir, table_dir};
use super::remote_dir::{MissingFile, RemoteDir};
use super::run::Run;
use super::target::Node;
use crate::hosts::at_most;
use crate::store::backup_progress::ProgressRow;

/// Nodes whose lists are compared at once: each may hold the facts of one older manifest.
const NODES_AT_ONCE: usize = 4;
/// Tables of one node whose directories are listed at once.
const TABLES_AT_ONCE: usize = 8;
/// Seals every node.
///
/// Returns tables that must be uploaded again: some of their files are missing in the location, and still on the
/// node. When there are none, every manifest of the run is complete. `schema` is the key of the schema file that
/// this run stored, empty for none; without it the manifests keep what an earlier run wrote.
///
/// # Errors
/// Files are missing and gone from the node: then no run can ever end this backup well.
pub async fn seal(run: &Run, schema: Option<&str>) -> Result<PendingTables, BackupError> {
    let sealed =
        run.nodes.iter().map(|node| async move { (node.host.address, seal_node(run, node, schema).await) });
    let again = all_hosts(at_most(NODES_AT_ONCE, sealed.collect()).await)?;
    Ok(again.into_iter().filter(|(_, tables)| !tables.is_empty()).collect())
}

async fn seal_node(run: &Run, node: &Node, schema: Option<&str>) -> Result<Vec<Pending>, BackupError> {
    let path = run.manifest_path(node).temporary().to_string();
    let agent = run.agent(node);
    let packed = file_lists::fetch_manifest(&agent, &node.location, &path).await?;
    let object = node.location.remote_path(&path);
    let mut header = ManifestTables::new(packed.clone(), object.clone()).finish().await?;
    if let Some(key) = schema {
        key.clone_into(&mut header.schema);
    }
    check_schema(run, node, &header.schema).await?;
    let older = Older::read(run, node).await;

    let mut writer = Some(Writer::new(Vec::new(), &header).map_err(packing)?);
    let tables = ManifestTables::new(packed, object);
    let entries = futures::stream::unfold(tables, |mut tables| async move {
        let entry = tables.next().await?;
        Some((entry, tables))
    });
    let compared = entries.map(|entry| compare(run, node, &older, entry)).buffered(TABLES_AT_ONCE);
    let mut compared = Box::pin(compared);
    let (mut again, mut lost) = (Vec::new(), Vec::new());
    while let Some((entry, missing)) = compared.try_next().await? {
        if !missing.is_empty() {
            match still_local(run, node, &entry, &missing).await? {
                true => again.push(pending(&entry)),
                false => lost.extend(missing.iter().map(|m| describe(run, node, &entry, m))),
            }
        }
        note_marks(run, node, &entry).await?;
        writer = write(writer, entry).await?;
    }
    drop(compared);
    if !lost.is_empty() {
        run.backups.store().abandon_backup_run(run.key).await?;
        return Err(lost_error(&lost));
    }
    if again.is_empty() {
        let packed = finish(writer).await?;
        agent.put(&node.location.remote_path(&path), packed).await?;
    } else {
        reopen(run, node, &again).await?;
    }
    Ok(again)
}

/// The schema file belongs to the backup like any other file.
async fn check_schema(run: &Run, node: &Node, key: &str) -> Result<(), BackupError> {
    if key.is_empty() {
        return Ok(());
    }
    let path = node.location.remote_path(key);
    if run.agent(node).file_info(&path).await?.is_some() {
        return Ok(());
    }
    run.backups.store().abandon_backup_run(run.key).await?;
    Err(lost_error(&[format!("{path} is missing")]))
}

/// Keeps the marks of a table in its row, inherited ones too, so that the end of the run can tell them.
async fn note_marks(run: &Run, node: &Node, entry: &TableEntry) -> Result<(), BackupError> {
    let row = run.row(node, &entry.keyspace, &entry.table);
    if row.damaged == entry.digest_mismatch {
        return Ok(());
    }
    run.put_rows(node, vec![ProgressRow { damaged: entry.digest_mismatch.clone(), ..row }]).await
}

fn packing(error: ManifestError) -> BackupError {
    BackupError::other(common::error::chain(&error))
}

async fn write(
    writer: Option<Writer<Vec<u8>>>,
    entry: TableEntry,
) -> Result<Option<Writer<Vec<u8>>>, BackupError> {
    let Some(mut writer) = writer else { return Ok(None) };
    let work = move || writer.entry(&entry).map(|()| writer);
    match tokio::task::spawn_blocking(work).await {
        Ok(outcome) => outcome.map(Some).map_err(packing),
        Err(_) => Err(BackupError::other("writing the manifest panicked")),
    }
}

async fn finish(writer: Option<Writer<Vec<u8>>>) -> Result<Bytes, BackupError> {
    match writer {
        Some(writer) => writer.finish().map(Bytes::from).map_err(packing),
        None => Err(BackupError::other("writing the manifest panicked")),
    }
}

/// Lists a table's directory and compares; the table comes back with all that can be proved about its files.
async fn compare(
    run: &Run,
    node: &Node,
    older: &Older,
    mut entry: TableEntry,
) -> Result<(TableEntry, Vec<MissingFile>), BackupError> {
    if entry.files.is_empty() && entry.scylla_manifests.is_empty() {
        return Ok((entry, Vec::new()));
    }
    let dir = run.table_dir(node, &entry);
    let stored = table_dir(&run.agent(node), &node.location, &dir).await?;
    let missing = stored.missing(&entry, run.tag);
    let host = node.host.address.to_string();
    let unit = run.unit_of(&entry.keyspace).unwrap_or(0);
    let packed = run.backups.store().table_checksums(run.key, &host, unit, &entry.table).await?;
    prove(&mut entry, &unpack(&packed)?, older, &stored);
    Ok((entry, missing))
}

/// Adds checksums and marks: of uploaded files from this run's jobs, of others from the older manifest.
fn prove(entry: &mut TableEntry, uploaded: &HashMap<String, Uploaded>, older: &Older, stored: &RemoteDir) {
    let known = older.tables.get(&table_key(entry));
    let mut crcs = Vec::with_capacity(entry.files.len());
    let mut marks = Vec::new();
    for (i, name) in entry.files.iter().enumerate() {
        let sent = uploaded.get(name).filter(|file| file.crc32.is_some());
        let inherited = || {
            let fact = known?.get(name)?;
            let same = entry.file_sizes.get(i) == Some(&fact.size);
            // An integer ID may have come back with other content since then.
            let unchanged = ComponentName::parse(name).is_some_and(|c| c.kind() == IdKind::Uuid)
                || older.tag.is_some_and(|tag| !stored.changed_after(name, tag));
            (same && unchanged).then_some(fact)
        };
        let (crc32, mismatch) = match sent {
            Some(file) => (file.crc32, file.mismatch),
            None => inherited().map_or((None, false), |fact| (fact.crc32, fact.mismatch)),
        };
        crcs.push(crc32);
        if mismatch {
            marks.push(name.clone());
        }
    }
    entry.file_crc32 = if crcs.iter().any(Option::is_some) { crcs } else { Vec::new() };
    entry.digest_mismatch = marks;
}

type TableKey = (String, String, String);

fn table_key(entry: &TableEntry) -> TableKey {
    (entry.keyspace.clone(), entry.table.clone(), entry.version.clone())
}

/// What an older manifest proves about a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Fact {
    size: u64,
    crc32: Option<u32>,
    mismatch: bool,
}

/// Facts of the node's newest published manifest.
#[derive(Debug, Default)]
struct Older {
    tag: Option<SnapshotTag>,
    tables: HashMap<TableKey, HashMap<String, Fact>>,
}

impl Older {
    /// Reads them; without them deduplicated files carry no checksum, which is a loss but no error.
    async fn read(run: &Run, node: &Node) -> Self {
        match Self::try_read(run, node).await {
            Ok(older) => older,
            Err(error) => {
                warn!(
                    host = %node.host.address,
                    error = common::error::chain(&error),
                    "Checksums of deduplicated files are unknown: the node's last manifest cannot be read"
                );
                Self::default()
            }
        }
    }

    async fn try_read(run: &Run, node: &Node) -> Result<Self, BackupError> {
        let agent = run.agent(node);
        let dir = run.node_path(node).meta_dir();
        let request = file_lists::files_only(false);
        let listed = agent.list_if_exists(&node.location.remote_path(&dir), request).await?;
        let items: Vec<common::api::agent::ListItem> = listed.try_collect().await?;
        let newest = items
            .iter()
            .filter_map(|item| ManifestPath::parse(&format!("{dir}/{}", item.name)))
            .filter(|path| !path.temporary && path.tag < run.tag)
            .max_by_key(|path| path.tag);
        let Some(newest) = newest else { return Ok(Self::default()) };
        let packed = file_lists::fetch_manifest(&agent, &node.location, &newest.to_string()).await?;
        let object = node.location.remote_path(&newest.to_string());
        let tables = match tokio::task::spawn_blocking(move || facts(&packed)).await {
            Ok(outcome) => outcome.map_err(|source| BackupError::Manifest { object, source })?,
            Err(_) => return Err(BackupError::other(format!("{object}: reading the manifest panicked"))),
        };
        Ok(Self { tag: Some(newest.tag), tables })
    }
}

fn facts(packed: &[u8]) -> Result<HashMap<TableKey, HashMap<String, Fact>>, ManifestError> {
    let mut tables = HashMap::new();
    let _: ManifestHeader = manifest::read(packed, |entry| {
        let of_file = |fact: manifest::FileFacts<'_>| {
            let mismatch = entry.digest_mismatch.iter().any(|name| name == fact.name);
            let known = fact.crc32.is_some() || mismatch;
            let size = fact.size.filter(|_| known)?;
            Some((fact.name.to_owned(), Fact { size, crc32: fact.crc32, mismatch }))
        };
        let files: HashMap<String, Fact> = entry.facts().filter_map(of_file).collect();
        if !files.is_empty() {
            tables.insert(table_key(&entry), files);
        }
    })?;
    Ok(tables)
}

async fn still_local(
    run: &Run,
    node: &Node,
    entry: &TableEntry,
    missing: &[MissingFile],
) -> Result<bool, BackupError> {
    let dir = snapshot_dir(entry, &run.tag.to_string());
    let local = local_files(&run.agent(node), &dir).await?.unwrap_or_default();
    Ok(missing
        .iter()
        .all(|m| local.iter().any(|(name, size)| *name == m.name && m.expected.is_none_or(|e| e == *size))))
}

fn pending(entry: &TableEntry) -> Pending {
    let entry = TableEntry {
        files: Vec::new(),
        file_sizes: Vec::new(),
        file_crc32: Vec::new(),
        scylla_manifests: Vec::new(),
        digest_mismatch: Vec::new(),
        ..entry.clone()
    };
    Pending { entry, overwrite: Vec::new() }
}

async fn reopen(run: &Run, node: &Node, again: &[Pending]) -> Result<(), BackupError> {
    let mut rows = Vec::with_capacity(again.len());
    for table in again {
        info!(
            host = %node.host.address,
            table = format!("{}.{}", table.entry.keyspace, table.entry.table),
            "Files of a table are missing in the location and are sent again"
        );
        let row = run.row(node, &table.entry.keyspace, &table.entry.table);
        rows.push(ProgressRow { completed_at: None, ..row });
    }
    run.put_rows(node, rows).await
}

fn describe(run: &Run, node: &Node, entry: &TableEntry, missing: &MissingFile) -> String {
    let key = format!("{}/{}", run.table_dir(node, entry), missing.name);
    let path = node.location.remote_path(&key);
    match (missing.found, missing.expected) {
        (Some(found), Some(expected)) => format!("{path} has {found} bytes instead of {expected}"),
        (Some(_), None) | (None, _) => format!("{path} is missing"),
    }
}

fn lost_error(lost: &[String]) -> BackupError {
    BackupError::other(format!(
        "uploaded files are not in the location: {}; this backup is not published, the next run starts from scratch",
        shown(lost)
    ))
}

/// Files of the run's tables whose bytes rotted on the node's disk, for the run's final error.
pub fn bit_rot(run: &Run) -> Vec<String> {
    let rows = run.rows.lock().unwrap_or_else(PoisonError::into_inner);
    let mut damaged: Vec<String> = rows
        .values()
        .flat_map(|row| {
            let keyspace = run.units.get(row.unit).map(|u| u.keyspace.as_str()).unwrap_or_default();
            row.damaged.iter().map(move |file| format!("{}: {keyspace}.{}: {file}", row.host, row.table))
        })
        .collect();
    damaged.sort();
    damaged
}

#[cfg(test)]
mod tests {
    use super::*;

    const UUID: &str = "me-3g7k_098r_4wtqo2asamoc1i8h9n-big-Data.db";

    fn tag(second: u32) -> SnapshotTag {
        format!("sm_202601010000{second:02}UTC").parse().unwrap()
    }

    fn entry(files: &[(&str, u64)]) -> TableEntry {
        TableEntry {
            files: files.iter().map(|f| f.0.to_owned()).collect(),
            file_sizes: files.iter().map(|f| f.1).collect(),
            ..TableEntry::default()
        }
    }

    fn older(files: &[(&str, u64)], mismatch: bool) -> Older {
        let facts =
            files.iter().map(|(n, size)| ((*n).to_owned(), Fact { size: *size, crc32: Some(9), mismatch }));
        Older { tag: Some(tag(10)), tables: HashMap::from([(table_key(&entry(&[])), facts.collect())]) }
    }

    #[test]
    fn checksums_come_from_the_upload_else_from_the_last_manifest() {
        let integer = "me-7-big-Data.db";
        let copy = format!("{integer}.{}", tag(11));
        let (same, changed): (RemoteDir, RemoteDir) =
            ([(integer, 5)].into_iter().collect(), [(integer, 5), (copy.as_str(), 5)].into_iter().collect());
        for (name, size, stored, expected) in [
            (UUID, 5, &same, Some(9)),
            (UUID, 6, &same, None),
            (integer, 5, &same, Some(9)),
            (integer, 5, &changed, None),
        ] {
            let mut table = entry(&[(name, size)]);
            prove(&mut table, &HashMap::new(), &older(&[(name, 5)], true), stored);
            assert_eq!(table.file_crc32.first().copied().flatten(), expected, "{name} {size}");
            assert_eq!(table.digest_mismatch.len(), usize::from(expected.is_some()), "marks are inherited");
        }
        let sent = Uploaded { name: UUID.into(), crc32: Some(1), mismatch: false };
        let mut table = entry(&[(UUID, 5)]);
        prove(&mut table, &HashMap::from([(UUID.into(), sent)]), &older(&[(UUID, 5)], true), &same);
        assert_eq!((table.file_crc32, table.digest_mismatch.len()), (vec![Some(1)], 0));
    }

    #[test]
    fn nothing_known_leaves_the_manifest_as_it_was() {
        let mut table = entry(&[(UUID, 5)]);
        prove(&mut table, &HashMap::new(), &Older::default(), &RemoteDir::default());
        assert_eq!(table, entry(&[(UUID, 5)]));
    }

    #[test]
    fn lost_files_are_named() {
        let lost: Vec<String> = (0..7).map(|i| format!("s3:b/{i} is missing")).collect();
        let text = lost_error(&lost).to_string();
        assert!(text.contains("s3:b/4 is missing and 2 more;"), "{text}");
    }
}
