//! What was on the nodes when each snapshot was taken, read from their disks.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use super::bucket::ObjectFact;
use crate::cluster::SimCluster;

/// One file of a table on a node.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FileId {
    /// Keyspace.
    pub keyspace: String,
    /// Table.
    pub table: String,
    /// Table ID, 32 hexadecimal digits.
    pub version: String,
    /// Name.
    pub file: String,
}

type NodeFiles = BTreeMap<FileId, ObjectFact>;

/// Contents of all nodes by snapshot tag and host ID.
#[derive(Debug, Default)]
pub struct Ledger(BTreeMap<(String, String), NodeFiles>);

impl Ledger {
    /// Records what every node holds now as the content of `tag`. Nothing may be written between the snapshot and this.
    ///
    /// # Errors
    /// A data directory cannot be read.
    pub fn record(&mut self, tag: &str, cluster: &SimCluster) -> io::Result<()> {
        for node in cluster.nodes() {
            self.0.insert((tag.to_owned(), node.host_id().to_string()), live_files(node.data_dir())?);
        }
        Ok(())
    }

    /// What a node held at a tag; `None` when that was not recorded.
    pub fn of(&self, tag: &str, node: &str) -> Option<&BTreeMap<FileId, ObjectFact>> {
        self.0.get(&(tag.to_owned(), node.to_owned()))
    }

    /// Number of recorded files of a tag on all nodes.
    pub fn file_count(&self, tag: &str) -> usize {
        self.0.iter().filter(|((recorded, _), _)| recorded == tag).map(|(_, files)| files.len()).sum()
    }
}

/// Files directly in the table directories below a data directory.
fn live_files(data_dir: &Path) -> io::Result<NodeFiles> {
    let mut files = NodeFiles::new();
    for keyspace in directories(data_dir)? {
        for directory in directories(&keyspace.path())? {
            let name = directory.file_name().to_string_lossy().into_owned();
            let Some((table, version)) = name.rsplit_once('-') else { continue };
            for entry in std::fs::read_dir(directory.path())? {
                let entry = entry?;
                if entry.file_type()?.is_file() {
                    let id = FileId {
                        keyspace: keyspace.file_name().to_string_lossy().into_owned(),
                        table: table.to_owned(),
                        version: version.to_owned(),
                        file: entry.file_name().to_string_lossy().into_owned(),
                    };
                    let body = std::fs::read(entry.path())?;
                    files.insert(id, ObjectFact { size: body.len() as u64, crc32: crc32fast::hash(&body) });
                }
            }
        }
    }
    Ok(files)
}

fn directories(parent: &Path) -> io::Result<Vec<std::fs::DirEntry>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(parent)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            found.push(entry);
        }
    }
    Ok(found)
}
