//! File access that cannot leave its root: no symbolic link is followed, anywhere below the root.
//!
//! The kernel does it in one call where it has `openat2`; elsewhere the path is walked component by component.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat, mkdirat, openat, openat2, statat};
use rustix::io::Errno;

use crate::storage::{ObjectPath, Result, StorageError};

/// Mode of new files before the process's umask (spec agent.md 2.7).
const FILE_MODE: Mode = Mode::from_raw_mode(0o666);
/// Mode of new directories before the process's umask.
const DIR_MODE: Mode = Mode::from_raw_mode(0o777);

static NO_OPENAT2: AtomicBool = AtomicBool::new(false);

/// A directory that nothing can be reached outside of.
#[derive(Clone, Debug)]
pub(super) struct Jail {
    root: PathBuf,
}

impl Jail {
    pub(super) fn new(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    /// The root itself; the only place where links are followed, because the operator named it.
    pub(super) fn root(&self) -> Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::open(&self.root, flags, Mode::empty())
            .map_err(|e| directory_error(&self.root.display().to_string(), e))
    }

    /// Opens something below the root.
    pub(super) fn open(&self, path: &ObjectPath, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        let root = rustix::fs::open(
            &self.root,
            OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )?;
        if path.is_root() { Ok(root) } else { open_below(&root, path.as_str(), flags) }
    }

    /// Opens a directory for listing.
    pub(super) fn open_dir(&self, path: &ObjectPath) -> Result<OwnedFd> {
        self.open(path, OFlags::RDONLY | OFlags::DIRECTORY).map_err(|e| directory_error(path.as_str(), e))
    }

    /// Opens the directory that holds `path`, creating it and those above with `create`.
    pub(super) fn open_parent(&self, path: &ObjectPath, create: bool) -> Result<OwnedFd> {
        let parent = path.parent();
        match self.open_dir(&parent) {
            Err(StorageError::DirectoryNotFound { .. }) if create => self.make_dirs(&parent),
            other => other,
        }
    }

    fn make_dirs(&self, dir: &ObjectPath) -> Result<OwnedFd> {
        let error = |e: Errno| StorageError::io("create directory", dir.as_str(), e.into());
        std::fs::create_dir_all(&self.root)
            .map_err(|e| StorageError::io("create directory", self.root.display().to_string(), e))?;
        let mut here = self.root()?;
        for part in dir.as_str().split('/').filter(|p| !p.is_empty()) {
            match mkdirat(&here, part, DIR_MODE) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(e) => return Err(error(e)),
            }
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            here = openat(&here, part, flags, Mode::empty()).map_err(error)?;
        }
        Ok(here)
    }

    /// Opens a regular file for reading.
    pub(super) fn open_file(&self, path: &ObjectPath) -> Result<(OwnedFd, Stat)> {
        // NONBLOCK: opening a FIFO would wait for a writer.
        let fd =
            self.open(path, OFlags::RDONLY | OFlags::NONBLOCK).map_err(|e| file_error("open", path, e))?;
        let stat = rustix::fs::fstat(&fd).map_err(|e| file_error("stat", path, e))?;
        if is_regular(&stat) {
            Ok((fd, stat))
        } else {
            Err(StorageError::NotAFile { path: path.to_string() })
        }
    }

    /// Facts about a file, a link or anything else at `path`, without following it.
    pub(super) fn stat(&self, path: &ObjectPath) -> Result<Stat> {
        let parent = match self.open_parent(path, false) {
            Err(StorageError::DirectoryNotFound { .. } | StorageError::NotADirectory { .. }) => {
                return Err(StorageError::NotFound { path: path.to_string() });
            }
            other => other?,
        };
        let name = if path.is_root() { "." } else { path.file_name() };
        statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW).map_err(|e| file_error("stat", path, e))
    }
}

/// Creates a file that must not exist.
pub(super) fn create(dir: impl AsFd, name: &str) -> rustix::io::Result<OwnedFd> {
    openat(
        dir,
        name,
        OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        FILE_MODE,
    )
}

pub(super) fn is_regular(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
}

fn open_below(root: &OwnedFd, path: &str, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let flags = flags | OFlags::CLOEXEC;
    if !NO_OPENAT2.load(Ordering::Relaxed) {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        match openat2(root, path, flags, Mode::empty(), resolve) {
            Err(Errno::NOSYS) => NO_OPENAT2.store(true, Ordering::Relaxed),
            outcome => return outcome,
        }
    }
    walk_below(root, path, flags)
}

/// What `openat2` does, in steps.
fn walk_below(root: &OwnedFd, path: &str, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let (dirs, name) = path.rsplit_once('/').unwrap_or(("", path));
    let mut here = None;
    for part in dirs.split('/').filter(|p| !p.is_empty()) {
        let step = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        here = Some(openat(here.as_ref().unwrap_or(root), part, step, Mode::empty())?);
    }
    openat(here.as_ref().unwrap_or(root), name, flags | OFlags::NOFOLLOW, Mode::empty())
}

pub(super) fn directory_error(path: &str, error: Errno) -> StorageError {
    let path = path.to_owned();
    match error {
        Errno::NOENT => StorageError::DirectoryNotFound { path },
        Errno::NOTDIR => StorageError::NotADirectory { path },
        // A link is not followed, so for us there is no such directory.
        Errno::LOOP => StorageError::DirectoryNotFound { path },
        _ => StorageError::io("open directory", path, error.into()),
    }
}

pub(super) fn file_error(action: &'static str, path: &ObjectPath, error: Errno) -> StorageError {
    let path = path.to_string();
    match error {
        Errno::LOOP => StorageError::NotAFile { path },
        // A file in place of one of the directories above: there is no such file.
        Errno::NOTDIR => StorageError::NotFound { path },
        _ => StorageError::io(action, path, error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_refuse_links_and_find_files() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        std::fs::create_dir_all(root.join("a/b")).unwrap();
        std::fs::write(root.join("a/b/f"), "x").unwrap();
        std::fs::write(dir.path().join("secret"), "x").unwrap();
        std::os::unix::fs::symlink("..", root.join("up")).unwrap();
        std::os::unix::fs::symlink("../../../secret", root.join("a/b/link")).unwrap();
        std::os::unix::fs::symlink("b", root.join("a/inside")).unwrap();
        let fd = Jail::new(&root).root().unwrap();
        for open in [open_below, walk_below] {
            assert!(open(&fd, "a/b/f", OFlags::RDONLY).is_ok());
            assert_eq!(open(&fd, "a/x/f", OFlags::RDONLY).unwrap_err(), Errno::NOENT);
            for bad in ["up/secret", "a/b/link", "a/inside/f"] {
                let error = open(&fd, bad, OFlags::RDONLY).unwrap_err();
                assert!(matches!(error, Errno::LOOP | Errno::NOTDIR | Errno::XDEV), "{bad}: {error}");
            }
        }
    }
}
