//! Lists of files, wherever they are: in a snapshot on a node, in a table directory of a location, in a manifest.

use std::sync::LazyLock;

use bytes::Bytes;
use common::api::agent::{ListItem, ListOptions, ListRequest};
use common::format::manifest::{self, ManifestHeader, TableEntry};
use common::location::Location;
use futures::TryStreamExt;
use regex::Regex;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::dedup_plan::SizedFile;
use super::error::BackupError;
use super::remote_dir::RemoteDir;
use crate::agent_client::Agent;

/// Largest packed manifest that is read: some fifty million files. Only the packed bytes are ever held whole.
const MAX_MANIFEST_BYTES: usize = 512 * 1024 * 1024;

/// Tables that are unpacked ahead of their use.
const TABLES_AHEAD: usize = 2;

static TABLE_DIR: LazyLock<Regex> =
    LazyLock::new(|| Regex::new("^([A-Za-z0-9_.$!:-]+)-([a-f0-9]{32})$").expect("the pattern is a constant"));

/// Options of a listing that asks for names and sizes of files only.
pub fn files_only(recurse: bool) -> ListRequest {
    let opt = ListOptions {
        recurse,
        files_only: true,
        no_mod_time: true,
        no_mime_type: true,
        ..ListOptions::default()
    };
    ListRequest { opt, ..ListRequest::default() }
}

/// Splits the directory name `<table>-<32 hexadecimal digits>`.
pub fn split_table_dir(name: &str) -> Option<(&str, &str)> {
    let groups = TABLE_DIR.captures(name)?;
    Some((groups.get(1)?.as_str(), groups.get(2)?.as_str()))
}

/// Directory of a table's snapshot on its node, as the agent names it.
pub fn snapshot_dir(entry: &TableEntry, tag: &str) -> String {
    format!("data:{}/{}-{}/snapshots/{tag}", entry.keyspace, entry.table, entry.version)
}

/// Files of a directory of the node with sizes; `None` when it does not exist.
///
/// # Errors
/// The listing failed or broke off.
pub async fn local_files(agent: &Agent, dir: &str) -> Result<Option<Vec<SizedFile>>, BackupError> {
    let listed = match agent.list(dir, files_only(false)).await {
        Err(error) if error.is_not_found() => return Ok(None),
        outcome => outcome?,
    };
    let sized = |item: ListItem| (item.name, u64::try_from(item.size).unwrap_or(0));
    let files: Vec<ListItem> = listed.try_collect().await?;
    Ok(Some(files.into_iter().filter(|item| !item.is_dir).map(sized).collect()))
}

/// Objects of one table directory in a location; one that does not exist is empty.
///
/// # Errors
/// The listing failed or broke off.
pub async fn table_dir(agent: &Agent, location: &Location, dir: &str) -> Result<RemoteDir, BackupError> {
    let mut listed = agent.list_if_exists(&location.remote_path(dir), files_only(false)).await?;
    let mut found = RemoteDir::default();
    while let Some(item) = listed.try_next().await? {
        if !item.is_dir {
            found.add(&item.name, u64::try_from(item.size).unwrap_or(0));
        }
    }
    Ok(found)
}

/// The packed bytes of a manifest.
///
/// # Errors
/// It does not exist (status 404) or did not arrive.
pub async fn fetch_manifest(agent: &Agent, location: &Location, key: &str) -> Result<Bytes, BackupError> {
    Ok(agent.cat(&location.remote_path(key), MAX_MANIFEST_BYTES).await?)
}

/// Tables of a manifest, one at a time, unpacked on a blocking thread. The packed bytes are fetched first: what is
/// done with a table may take hours, and no agent should keep a reply open for so long.
pub struct ManifestTables {
    entries: mpsc::Receiver<TableEntry>,
    reader: JoinHandle<Result<ManifestHeader, manifest::ManifestError>>,
    object: String,
}

impl ManifestTables {
    /// Starts to unpack; `object` names the manifest in errors.
    pub fn new(packed: Bytes, object: String) -> Self {
        let (sender, entries) = mpsc::channel(TABLES_AHEAD);
        let reader = tokio::task::spawn_blocking(move || {
            // A receiver that went away wants no more tables; the rest is only read for the checksum.
            manifest::read(&*packed, |entry| drop(sender.blocking_send(entry)))
        });
        Self { entries, reader, object }
    }

    /// Fetches a manifest and starts to unpack it.
    ///
    /// # Errors
    /// See [`fetch_manifest`].
    pub async fn fetch(agent: &Agent, location: &Location, key: &str) -> Result<Self, BackupError> {
        let packed = fetch_manifest(agent, location, key).await?;
        Ok(Self::new(packed, location.remote_path(key)))
    }

    /// The next table; `None` at the end, also at the end of a damaged manifest: [`ManifestTables::finish`] says.
    pub async fn next(&mut self) -> Option<TableEntry> {
        self.entries.recv().await
    }

    /// The header, once all tables are taken.
    ///
    /// # Errors
    /// The manifest is damaged: the tables handed out must not be believed.
    pub async fn finish(self) -> Result<ManifestHeader, BackupError> {
        drop(self.entries);
        match self.reader.await {
            Ok(outcome) => outcome.map_err(|source| BackupError::Manifest { object: self.object, source }),
            Err(_) => Err(BackupError::other(format!("{}: reading the manifest panicked", self.object))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_directories_are_recognised() {
        let id = "f34b6ff0f8f711eb9fcf000000000000";
        for (name, expected) in [
            (format!("cart-{id}"), Some(("cart", id))),
            (format!("a-b.c:d$x-{id}"), Some(("a-b.c:d$x", id))),
            (format!("-{id}"), None),
            (format!("cart-{}", &id[1..]), None),
            (format!("cart-{}", id.to_uppercase()), None),
            ("cart".to_owned(), None),
        ] {
            assert_eq!(split_table_dir(&name), expected, "{name}");
        }
    }

    #[tokio::test]
    async fn tables_come_one_by_one_and_damage_comes_at_the_end() {
        let mut writer = manifest::Writer::new(Vec::new(), &ManifestHeader::default()).unwrap();
        for table in ["a", "b", "c", "d"] {
            let entry = TableEntry {
                keyspace: "k".into(),
                table: table.into(),
                version: "v".into(),
                ..TableEntry::default()
            };
            writer.entry(&entry).unwrap();
        }
        let packed = writer.finish().unwrap();
        let mut tables = ManifestTables::new(packed.clone().into(), "m".into());
        let mut names = String::new();
        while let Some(entry) = tables.next().await {
            names.push_str(&entry.table);
        }
        assert_eq!(names, "abcd");
        tables.finish().await.unwrap();

        let cut = Bytes::from(packed[..packed.len() - 4].to_vec());
        let error = ManifestTables::new(cut, "s3:b/m".into()).finish().await.unwrap_err();
        assert!(error.to_string().starts_with("s3:b/m: unreadable manifest"), "{error}");
    }
}
