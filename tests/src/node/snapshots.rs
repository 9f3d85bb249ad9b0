//! Snapshots on disk: hard links of all components of sealed SSTables, `manifest.json`, `schema.cql`.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::PoisonError;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::NodeCore;
use super::disk::disk_error;
use crate::cluster::{ManifestForm, SimError, Table, describe};
use crate::sstable::{Component, Fill, Sstable, SstableName, read_header};

/// Keyspaces with the tables of each.
pub(super) type Selection = Vec<(String, Vec<Table>)>;

/// What to snapshot.
pub(super) struct SnapshotRequest {
    pub tag: String,
    pub tables: Selection,
    pub skip_flush: bool,
    pub ttl_seconds: Option<u64>,
}

/// One table's part of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableSnapshot {
    pub keyspace: String,
    pub table: String,
    /// Bytes of SSTable files; `manifest.json` and `schema.cql` do not count.
    pub total_bytes: u64,
    /// Bytes that only the snapshot still holds.
    pub live_bytes: u64,
    /// Directories, usually one.
    pub dirs: Vec<PathBuf>,
}

/// Something that goes wrong with the snapshot of one table, given as `keyspace.table`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum SnapshotFault {
    /// Fails when it comes to this table; tables before it keep their snapshot.
    Fails { table: String },
    /// The directory is gone afterwards.
    DirVanishes { table: String },
    /// A file that is no SSTable component appears in the directory.
    StrayFile { table: String },
    /// An SSTable without `TOC.txt`, as after a crash in mid-write.
    UnsealedSstable { table: String },
    /// A symbolic link appears in the directory.
    Symlink { table: String },
    /// The table is dropped right after the snapshot.
    DropTable { table: String },
}

impl SnapshotFault {
    fn table(&self) -> &str {
        match self {
            Self::Fails { table }
            | Self::DirVanishes { table }
            | Self::StrayFile { table }
            | Self::UnsealedSstable { table }
            | Self::Symlink { table }
            | Self::DropTable { table } => table,
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub(super) enum SnapshotError {
    #[error("Keyspace {keyspace}: snapshot {tag} already exists.")]
    Exists { keyspace: String, tag: String },
    #[error("injected fault: snapshot of {0} failed")]
    Injected(String),
    #[error(transparent)]
    Disk(#[from] SimError),
}

impl NodeCore {
    /// Every `snapshots/<tag>` directory, also of tables that are gone.
    pub fn list_snapshots(&self) -> Result<BTreeMap<String, Vec<TableSnapshot>>, SimError> {
        let mut found: BTreeMap<String, Vec<TableSnapshot>> = BTreeMap::new();
        for (keyspace, table, dir) in self.table_dirs()? {
            for (tag, snapshot) in subdirs(&dir.join("snapshots"))? {
                let (total_bytes, live_bytes) = snapshot_size(&dir, &snapshot)?;
                let tables = found.entry(tag).or_default();
                match tables.iter_mut().find(|t| t.keyspace == keyspace && t.table == table) {
                    // An older table of the same name left its directory behind.
                    Some(same) => {
                        same.total_bytes += total_bytes;
                        same.live_bytes += live_bytes;
                        same.dirs.push(snapshot);
                    }
                    None => tables.push(TableSnapshot {
                        keyspace: keyspace.clone(),
                        table: table.clone(),
                        total_bytes,
                        live_bytes,
                        dirs: vec![snapshot],
                    }),
                }
            }
        }
        Ok(found)
    }

    /// Keyspace, table name and path of every table directory on disk.
    fn table_dirs(&self) -> Result<Vec<(String, String, PathBuf)>, SimError> {
        let mut found = Vec::new();
        for (keyspace, dir) in subdirs(&self.data_dir)? {
            for (name, dir) in subdirs(&dir)? {
                if let Some((table, id)) = name.rsplit_once('-')
                    && id.len() == 32
                {
                    found.push((keyspace.clone(), table.to_owned(), dir));
                }
            }
        }
        Ok(found)
    }

    /// Takes a snapshot: nothing happens if any of the tables has one of that name.
    pub(super) fn take_snapshot(&self, request: &SnapshotRequest) -> Result<(), SnapshotError> {
        let tables = || request.tables.iter().flat_map(|(ks, tables)| tables.iter().map(move |t| (ks, t)));
        for (keyspace, table) in tables() {
            if self.snapshot_dir(keyspace, table, &request.tag).exists() {
                let (keyspace, tag) = (keyspace.clone(), request.tag.clone());
                return Err(SnapshotError::Exists { keyspace, tag });
            }
        }
        if !request.skip_flush {
            for (keyspace, table) in tables() {
                self.flush_table(keyspace, table, Fill::Noise)?;
            }
        }
        for (keyspace, table) in tables() {
            self.snapshot_table(request, keyspace, table)?;
        }
        Ok(())
    }

    fn snapshot_dir(&self, keyspace: &str, table: &Table, tag: &str) -> PathBuf {
        self.table_dir(keyspace, table).join("snapshots").join(tag)
    }

    fn snapshot_table(
        &self,
        request: &SnapshotRequest,
        keyspace: &str,
        table: &Table,
    ) -> Result<(), SnapshotError> {
        let faults = self.take_snapshot_faults(keyspace, table);
        if faults.iter().any(|f| matches!(f, SnapshotFault::Fails { .. })) {
            return Err(SnapshotError::Injected(format!("{keyspace}.{}", table.name)));
        }
        let dir = self.snapshot_dir(keyspace, table, &request.tag);
        let linked = self.link_sstables(keyspace, table, &dir)?;
        let manifest = self.manifest(request, keyspace, table, &linked)?;
        let schema = describe::table(&self.shared.model(), keyspace, table);
        for (name, content) in
            [("manifest.json", manifest.to_string()), ("schema.cql", format!("{schema}\n"))]
        {
            let path = dir.join(name);
            fs::write(&path, content).map_err(disk_error("write", &path))?;
        }
        for fault in faults {
            self.spoil(&fault, keyspace, table, &dir)?;
        }
        Ok(())
    }

    fn take_snapshot_faults(&self, keyspace: &str, table: &Table) -> Vec<SnapshotFault> {
        let name = format!("{keyspace}.{}", table.name);
        let mut state = self.state();
        state.snapshot_faults.extract_if(.., |fault| fault.table() == name).collect()
    }

    /// Links every sealed SSTable; compaction cannot take files away meanwhile.
    fn link_sstables(&self, keyspace: &str, table: &Table, dir: &Path) -> Result<Vec<Sstable>, SimError> {
        let _disk = self.disk.lock().unwrap_or_else(PoisonError::into_inner);
        fs::create_dir_all(dir).map_err(disk_error("create", dir))?;
        let sstables = self.sstables(keyspace, table)?;
        for sstable in &sstables {
            self.take_space(sstable.components.len() as u64, dir)?;
            for path in sstable.paths() {
                let link = dir.join(path.file_name().unwrap_or_default());
                fs::hard_link(&path, &link).map_err(disk_error("link", &link))?;
            }
        }
        Ok(sstables)
    }

    fn spoil(
        &self,
        fault: &SnapshotFault,
        keyspace: &str,
        table: &Table,
        dir: &Path,
    ) -> Result<(), SimError> {
        let write = |name: &str, content: &str| {
            let path = dir.join(name);
            fs::write(&path, content).map_err(disk_error("write", &path))
        };
        match fault {
            SnapshotFault::Fails { .. } => Ok(()),
            SnapshotFault::DirVanishes { .. } => fs::remove_dir_all(dir).map_err(disk_error("remove", dir)),
            SnapshotFault::StrayFile { .. } => write("README.txt", "left by an operator\n"),
            SnapshotFault::UnsealedSstable { .. } => {
                write("me-999999-big-TOC.txt.tmp", "Data.db\nTOC.txt\n")?;
                write("me-999999-big-Data.db", "half an SSTable")
            }
            SnapshotFault::Symlink { .. } => {
                let link = dir.join("me-999998-big-Data.db");
                std::os::unix::fs::symlink("/etc/hostname", &link).map_err(disk_error("link", &link))
            }
            SnapshotFault::DropTable { .. } => self.shared.drop_table(keyspace, &table.name),
        }
    }

    fn manifest(
        &self,
        request: &SnapshotRequest,
        keyspace: &str,
        table: &Table,
        sstables: &[Sstable],
    ) -> Result<Value, SimError> {
        let name = |s: &Sstable, c| SstableName::new(s.version, s.generation, c).to_string();
        if self.shared.options.manifest_form == ManifestForm::FileList {
            let files: Vec<String> = sstables.iter().map(|s| name(s, Component::Data)).collect();
            return Ok(json!({ "files": files }));
        }
        let mut entries = Vec::new();
        for sstable in sstables {
            entries.push(sstable_entry(sstable, table, &name(sstable, Component::Toc))?);
        }
        let model = self.shared.model();
        let member = model.member(self.id);
        let created = self.shared.now().timestamp();
        let mut snapshot = json!({ "name": request.tag, "created_at": created });
        if let Some(ttl) = request.ttl_seconds {
            snapshot["expires_at"] = json!(created + i64::try_from(ttl).unwrap_or(i64::MAX / 2));
        }
        let tablets = tablet_entries(table);
        let kind = if table.tablets.is_empty() { "none" } else { "powof2" };
        let mut manifest = json!({
            "manifest": { "version": "1.0", "scope": "node" },
            "node": { "host_id": member.host_id, "datacenter": member.dc, "rack": member.rack },
            "snapshot": snapshot,
            "table": {
                "keyspace_name": keyspace, "table_name": table.name, "table_id": table.id,
                "tablets_type": kind, "tablet_count": table.tablets.len(),
            },
            "sstables": entries,
        });
        if !tablets.is_empty() {
            manifest["tablets"] = json!(tablets);
        }
        Ok(manifest)
    }

    /// Removes snapshot directories that fit; none fitting is fine. `None` or empty: any.
    pub(super) fn delete_snapshots(
        &self,
        tag: Option<&str>,
        keyspaces: &[String],
        table: Option<&str>,
    ) -> Result<(), SimError> {
        for (ks, name, dir) in self.table_dirs()? {
            let wanted = (keyspaces.is_empty() || keyspaces.contains(&ks)) && table.is_none_or(|t| t == name);
            if !wanted {
                continue;
            }
            let snapshots = dir.join("snapshots");
            for (found, path) in subdirs(&snapshots)? {
                if tag.is_none_or(|t| t == found) {
                    fs::remove_dir_all(&path).map_err(disk_error("remove", &path))?;
                }
            }
            if snapshots.exists() && subdirs(&snapshots)?.is_empty() {
                fs::remove_dir(&snapshots).map_err(disk_error("remove", &snapshots))?;
                self.remove_if_dropped(&ks, &dir)?;
            }
        }
        Ok(())
    }

    /// Removes the directory of a table that no longer exists.
    fn remove_if_dropped(&self, keyspace: &str, dir: &Path) -> Result<(), SimError> {
        let exists = {
            let model = self.shared.model();
            let tables = model.keyspaces.get(keyspace).into_iter().flat_map(|ks| ks.tables.values());
            tables.into_iter().any(|t| dir.ends_with(t.dir_name()))
        };
        if exists { Ok(()) } else { fs::remove_dir_all(dir).map_err(disk_error("remove", dir)) }
    }
}

/// Names and paths of the directories in `dir`, sorted; none if there is no such directory.
fn subdirs(dir: &Path) -> Result<Vec<(String, PathBuf)>, SimError> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(disk_error("list", dir)(error)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(disk_error("list", dir))?;
        if entry.file_type().map_err(disk_error("look at", &entry.path()))?.is_dir() {
            found.push((entry.file_name().to_string_lossy().into_owned(), entry.path()));
        }
    }
    found.sort();
    Ok(found)
}

/// Bytes of all SSTable files of a snapshot, and of those that the table no longer has.
fn snapshot_size(table_dir: &Path, snapshot: &Path) -> Result<(u64, u64), SimError> {
    let (mut total, mut live) = (0, 0);
    for entry in fs::read_dir(snapshot).map_err(disk_error("list", snapshot))? {
        let entry = entry.map_err(disk_error("list", snapshot))?;
        let name = entry.file_name();
        if name == "manifest.json" || name == "schema.cql" {
            continue;
        }
        let metadata = match entry.metadata() {
            Ok(metadata) => metadata,
            // Uploading takes files away meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(disk_error("look at", &entry.path())(error)),
        };
        total += metadata.len();
        let same = |dir: &Path| fs::metadata(dir.join(&name)).is_ok_and(|m| m.ino() == metadata.ino());
        if metadata.nlink() == 1 || !(same(table_dir) || same(&table_dir.join("staging"))) {
            live += metadata.len();
        }
    }
    Ok((total, live))
}

fn sstable_entry(sstable: &Sstable, table: &Table, toc: &str) -> Result<Value, SimError> {
    let path = sstable.path(Component::Data);
    let header = read_header(&path).map_err(disk_error("read", &path))?;
    let len = |component| fs::metadata(sstable.path(component)).map(|m| m.len());
    let index = [Component::Index, Component::Partitions, Component::Rows];
    let mut entry = json!({
        "toc_name": toc,
        "data_size": len(Component::Data).map_err(disk_error("look at", &path))?,
        "index_size": index.into_iter().filter_map(|c| len(c).ok()).sum::<u64>(),
        "first_token": header.first_token,
        "last_token": header.last_token,
        "repaired_at": 0,
    });
    if let Some(id) = sstable.generation.as_uuid() {
        entry["id"] = json!(id);
    }
    if !table.tablets.is_empty() {
        entry["tablet_id"] = json!(table.tablets.partition_point(|t| t.last_token < header.first_token));
    }
    Ok(entry)
}

fn tablet_entries(table: &Table) -> Vec<Value> {
    let mut first = i64::MIN;
    let mut entries = Vec::new();
    for (id, tablet) in table.tablets.iter().enumerate() {
        entries.push(json!({
            "id": id, "first_token": first, "last_token": tablet.last_token,
            "repair_time": 0, "repaired_at": 0,
        }));
        first = tablet.last_token.saturating_add(1);
    }
    entries
}
