//! The node's data directory: flush, compaction, data loss, all on real files.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::PoisonError;

use super::{DiskFault, NodeCore};
use crate::cluster::{GenerationIds, SimError, Table, seeded_number};
use crate::sstable::{
    self, Component, Fill, Generation, Row, Sstable, SstableSpec, merge_rows, read_header, read_rows,
};

/// Unix time of the first UUID generation, 2025-03-25; each further one is a second later.
const FIRST_UUID_TIME: u64 = 1_742_860_800;

/// How a rewritten SSTable differs from the one whose name it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SameName {
    /// Larger `Data.db`.
    DifferentSize,
    /// Every component keeps its size; `Data.db` and the digest differ.
    DifferentBytes,
    /// Byte by byte the same, in new files.
    SameBytes,
}

pub(super) fn disk_error(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> SimError {
    let path = path.to_owned();
    move |source| SimError::Disk { doing, path, source }
}

impl NodeCore {
    pub fn table_dir(&self, keyspace: &str, table: &Table) -> PathBuf {
        self.data_dir.join(keyspace).join(table.dir_name())
    }

    /// Creates the directories of all tables and takes up the generations found there.
    pub fn create_all_tables(&self) -> Result<(), SimError> {
        let tables: Vec<(String, Table)> =
            self.shared.model().tables().map(|(ks, t)| (ks.name.clone(), t.clone())).collect();
        for (keyspace, table) in tables {
            self.create_table(&keyspace, &table)?;
        }
        Ok(())
    }

    /// Creates the directories of one table.
    pub fn create_table(&self, keyspace: &str, table: &Table) -> Result<(), SimError> {
        let dir = self.table_dir(keyspace, table);
        for sub in ["staging", "upload"] {
            let sub = dir.join(sub);
            fs::create_dir_all(&sub).map_err(disk_error("create", &sub))?;
        }
        let known = sstable::list(&dir).map_err(disk_error("list", &dir))?;
        let mut state = self.state();
        for sstable in known {
            match sstable.generation {
                Generation::Integer(n) => {
                    let last = state.last_integer.entry(table.id).or_default();
                    *last = (*last).max(n);
                }
                // One per second: as many as lie between the first and this one were given out.
                Generation::Uuid { ticks, .. } => {
                    let Generation::Uuid { ticks: first, .. } = Generation::from_time(FIRST_UUID_TIME, 0, 0)
                    else {
                        continue;
                    };
                    let given = ticks.saturating_sub(first) / 10_000_000 + 1;
                    state.uuid_generations = state.uuid_generations.max(given);
                }
            }
        }
        Ok(())
    }

    /// Live (sealed) SSTables of a table.
    pub fn sstables(&self, keyspace: &str, table: &Table) -> Result<Vec<Sstable>, SimError> {
        let dir = self.table_dir(keyspace, table);
        let mut sstables = sstable::list(&dir).map_err(disk_error("list", &dir))?;
        sstables.retain(Sstable::is_sealed);
        Ok(sstables)
    }

    /// Bytes of all live SSTables of a table.
    pub fn disk_usage(&self, keyspace: &str, table: &Table) -> Result<u64, SimError> {
        let dir = self.table_dir(keyspace, table);
        let sizes = self.sstables(keyspace, table)?.into_iter().map(|s| s.size());
        sizes.sum::<io::Result<u64>>().map_err(disk_error("measure", &dir))
    }

    /// Rows of a table in memory and on disk, newest versions, sorted by key.
    pub fn rows(&self, keyspace: &str, table: &Table) -> Result<Vec<Row>, SimError> {
        let _disk = self.disk.lock().unwrap_or_else(PoisonError::into_inner);
        let memtable = self.state().memtables.get(&table.id).cloned().unwrap_or_default();
        let mut rows: Vec<Row> = memtable.into_values().collect();
        for sstable in self.sstables(keyspace, table)? {
            let path = sstable.path(Component::Data);
            rows.extend(read_rows(&path).map_err(disk_error("read", &path))?);
        }
        Ok(merge_rows(rows))
    }

    fn next_generation(&self, table: &Table) -> Generation {
        let (seed, host) = {
            let model = self.shared.model();
            (model.seed, model.member(self.id).host_id)
        };
        let mut state = self.state();
        let uuid = match self.shared.options.generation_ids {
            GenerationIds::Integer => false,
            GenerationIds::Uuid => true,
            GenerationIds::Mixed => {
                let given = state.uuid_generations + state.last_integer.get(&table.id).copied().unwrap_or(0);
                given % 2 == 1
            }
        };
        if uuid {
            let number = state.uuid_generations;
            state.uuid_generations += 1;
            let noise = seeded_number(seed, &format!("generation {host} {number}"));
            // Variant bits of a UUID; the rest tells nodes apart.
            let low = (noise & (u64::MAX >> 2)) | (1 << 63);
            Generation::from_time(FIRST_UUID_TIME + number, noise % 10_000_000, low)
        } else {
            let last = state.last_integer.entry(table.id).or_default();
            *last += 1;
            Generation::Integer(*last)
        }
    }

    /// Counts `files` against a disk that is about to be full.
    pub(super) fn take_space(&self, files: u64, path: &Path) -> Result<(), SimError> {
        let mut state = self.state();
        match state.disk {
            DiskFault::None => Ok(()),
            DiskFault::FullAfter(left) if left >= files => {
                state.disk = DiskFault::FullAfter(left - files);
                Ok(())
            }
            DiskFault::FullAfter(_) => {
                let full = io::Error::from_raw_os_error(rustix::io::Errno::NOSPC.raw_os_error());
                Err(disk_error("write", path)(full))
            }
        }
    }

    /// Content of a new SSTable: no two nodes, tables or generations share bytes.
    fn spec(&self, table: &Table, rows: Vec<Row>) -> SstableSpec {
        let generation = self.next_generation(table);
        let model = self.shared.model();
        let identity = format!("{} {} {generation}", model.member(self.id).host_id, table.id);
        SstableSpec {
            compressed: table.compressed,
            nonce: seeded_number(model.seed, &identity) >> 1,
            ..SstableSpec::new(table.version, generation, rows)
        }
    }

    /// Writes what is in memory of one table to a new SSTable; nothing in memory, nothing written.
    pub fn flush_table(
        &self,
        keyspace: &str,
        table: &Table,
        fill: Fill,
    ) -> Result<Option<Sstable>, SimError> {
        let _disk = self.disk.lock().unwrap_or_else(PoisonError::into_inner);
        let memtable = self.state().memtables.remove(&table.id).unwrap_or_default();
        if memtable.is_empty() {
            return Ok(None);
        }
        let rows = memtable.values().cloned().collect();
        let spec = SstableSpec { fill, ..self.spec(table, rows) }.data_size(table.min_data_size);
        let written = self.write_sstable(keyspace, table, &spec);
        if written.is_err() {
            self.keep_in_memory(table, memtable);
        }
        written.map(Some)
    }

    fn keep_in_memory(&self, table: &Table, rows: BTreeMap<Vec<u8>, Row>) {
        for row in rows.into_values() {
            self.insert(table.id, row);
        }
    }

    fn write_sstable(&self, keyspace: &str, table: &Table, spec: &SstableSpec) -> Result<Sstable, SimError> {
        let dir = self.table_dir(keyspace, table);
        self.take_space(spec.version.components(spec.compressed).len() as u64, &dir)?;
        sstable::write(&dir, spec).map_err(disk_error("write an SSTable to", &dir))
    }

    /// Replaces all SSTables of one table by a new one; fewer than two are left alone.
    pub fn compact_table(&self, keyspace: &str, table: &Table) -> Result<Option<Sstable>, SimError> {
        let _disk = self.disk.lock().unwrap_or_else(PoisonError::into_inner);
        let inputs = self.sstables(keyspace, table)?;
        if inputs.len() < 2 {
            return Ok(None);
        }
        let (mut rows, mut fill_bytes) = (Vec::new(), 0);
        for input in &inputs {
            let path = input.path(Component::Data);
            rows.extend(read_rows(&path).map_err(disk_error("read", &path))?);
            fill_bytes += read_header(&path).map_err(disk_error("read", &path))?.fill_bytes;
        }
        let spec = SstableSpec { fill_bytes, ..self.spec(table, merge_rows(rows)) };
        let output = self.write_sstable(keyspace, table, &spec)?;
        for input in &inputs {
            remove_sstable(input)?;
        }
        Ok(Some(output))
    }

    pub(super) fn rewrite_same_names(
        &self,
        keyspace: &str,
        table: &Table,
        how: SameName,
    ) -> Result<Vec<Sstable>, SimError> {
        let _disk = self.disk.lock().unwrap_or_else(PoisonError::into_inner);
        let mut rewritten = Vec::new();
        for old in self.sstables(keyspace, table)?.into_iter().filter(|s| !s.generation.is_uuid()) {
            rewritten.push(match how {
                SameName::SameBytes => copy_in_place(&old)?,
                SameName::DifferentBytes | SameName::DifferentSize => self.replace(table, &old, how)?,
            });
        }
        Ok(rewritten)
    }

    fn replace(&self, table: &Table, old: &Sstable, how: SameName) -> Result<Sstable, SimError> {
        let path = old.path(Component::Data);
        let rows = read_rows(&path).map_err(disk_error("read", &path))?;
        let header = read_header(&path).map_err(disk_error("read", &path))?;
        let digest = old.digest().map_err(disk_error("read the digest of", &path))?;
        let mut spec = SstableSpec {
            fill_bytes: header.fill_bytes,
            compressed: table.compressed,
            nonce: seeded_number(0, &digest) >> 1,
            digest_digits: Some(digest.len()),
            ..SstableSpec::new(old.version, old.generation, rows)
        };
        if how == SameName::DifferentSize {
            spec.fill_bytes += 1_000 + header.fill_bytes / 10;
        }
        remove_sstable(old)?;
        sstable::write(&old.dir, &spec).map_err(disk_error("write an SSTable to", &old.dir))
    }

    pub(super) fn lose_table(&self, keyspace: &str, table: &Table) -> Result<(), SimError> {
        let _disk = self.disk.lock().unwrap_or_else(PoisonError::into_inner);
        for sstable in self.sstables(keyspace, table)? {
            remove_sstable(&sstable)?;
        }
        let mut state = self.state();
        state.memtables.remove(&table.id);
        state.last_integer.remove(&table.id);
        Ok(())
    }

    /// Removes a dropped table's files; the directory stays while it has snapshots.
    pub fn remove_table(&self, keyspace: &str, table: &Table) -> Result<(), SimError> {
        let dir = self.table_dir(keyspace, table);
        self.lose_table(keyspace, table)?;
        for sub in ["staging", "upload"] {
            let sub = dir.join(sub);
            fs::remove_dir_all(&sub).map_err(disk_error("remove", &sub))?;
        }
        if !dir.join("snapshots").exists() {
            fs::remove_dir_all(&dir).map_err(disk_error("remove", &dir))?;
        }
        Ok(())
    }
}

/// Unlinks all components, `TOC.txt` first, so that a half-removed SSTable is no SSTable.
pub(super) fn remove_sstable(sstable: &Sstable) -> Result<(), SimError> {
    let toc = sstable.path(Component::Toc);
    fs::remove_file(&toc).map_err(disk_error("remove", &toc))?;
    for path in sstable.paths().filter(|path| *path != toc) {
        fs::remove_file(&path).map_err(disk_error("remove", &path))?;
    }
    Ok(())
}

/// Gives every component a new inode with the same bytes.
fn copy_in_place(sstable: &Sstable) -> Result<Sstable, SimError> {
    for path in sstable.paths() {
        let copy = path.with_extension("copy");
        fs::copy(&path, &copy).map_err(disk_error("copy", &path))?;
        fs::rename(&copy, &path).map_err(disk_error("replace", &path))?;
    }
    Ok(sstable.clone())
}
