//! What a job is told to move, and the files that come of it.

use std::collections::HashSet;

use crate::storage::{ObjectInfo, Place};

/// Upload of a directory.
#[derive(Clone, Debug)]
pub struct DirTransfer {
    /// Source directory.
    pub from: Place,
    /// Destination directory.
    pub to: Place,
    /// `.<snapshot tag>`: what an object with other content is renamed with before it is replaced.
    pub suffix: Option<String>,
    /// Names that are sent whatever the destination holds.
    pub overwrite: HashSet<String>,
    /// Delete each source file once the destination has it.
    pub remove_source: bool,
    /// Files at once; `None` for the process's setting.
    pub transfers: Option<u32>,
}

/// Download of files.
#[derive(Clone, Debug)]
pub struct CopyPaths {
    /// Source directory.
    pub from: Place,
    /// Destination directory; directories in it are created.
    pub to: Place,
    /// Files relative to both.
    pub paths: Vec<String>,
    /// Files at once; `None` for the process's setting.
    pub transfers: Option<u32>,
}

/// A file to be sent.
#[derive(Clone, Debug)]
pub(super) struct SourceFile {
    pub name: String,
    pub size: u64,
    /// `None`: ask the store. `Err`: it is not there.
    pub info: Option<ObjectInfo>,
    pub missing: bool,
}

/// A file, and the digest that goes after it.
#[derive(Clone, Debug)]
pub(super) struct Unit {
    pub file: SourceFile,
    pub digest: Option<SourceFile>,
}
