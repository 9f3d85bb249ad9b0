//! What the manager must not forget, in one SQLite file.
//!
//! Durable: clusters and their secrets, tasks, every run with its stage and its progress, the IDs of jobs that
//! run on agents, and objects known to be damaged. A restarted manager works from this alone. WAL with
//! `synchronous=FULL`: what `write` returned for has survived a power cut. Not here: anything that can be asked
//! from the cluster or from a location again.
//!
//! One connection writes, a few read. Workflows call the named methods of the sub-modules and never see SQL.
//! The surprise: `write` and `read` run on blocking threads of the runtime and not on a thread of their own, as
//! only these keep a paused test clock from running away while the database works.

pub mod backup_progress;
pub mod backup_runs;
pub mod clusters;
mod columns;
pub mod damaged;
mod error;
mod expiry;
mod migrations;
pub mod runs;
pub mod secrets;
pub mod tasks;

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior};
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

pub use clusters::Cluster;
pub use columns::{get_id, get_json, get_optional_time, get_text, get_time, json_text, millis};
pub use error::StoreError;
pub use secrets::Secrets;

/// Connections that read; API calls are short, so a few are plenty.
const READERS: usize = 4;

/// How long a connection waits for a lock. Only a foreign program (`sqlite3` on the file) makes us wait.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// The database. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    writer: Arc<tokio::sync::Mutex<Connection>>,
    readers: Arc<Mutex<Vec<Connection>>>,
    reader_permits: Arc<Semaphore>,
    // Released when the last clone goes.
    _lock: File,
}

impl Store {
    /// Opens the file, makes it when it is missing (mode 0600, and its directory), and brings the schema up to
    /// date.
    ///
    /// # Errors
    /// Another manager has the file open; the file cannot be made or is no database; it was written by a newer
    /// release.
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
        let path = path.to_owned();
        blocking(move || Self::open_blocking(&path)).await
    }

    fn open_blocking(path: &Path) -> Result<Self, StoreError> {
        let failed = |source| StoreError::Create { path: path.to_owned(), source };
        if let Some(dir) = path.parent() {
            std::fs::create_dir_all(dir).map_err(failed)?;
        }
        let lock = take_lock(path)?;
        // SQLite would create it with the umask's mode.
        private_file(path).map_err(failed)?;
        let mut writer = connect(path, false)?;
        migrations::run(&mut writer, path)?;
        let readers = (0..READERS).map(|_| connect(path, true)).collect::<Result<Vec<_>, _>>()?;
        Ok(Self {
            inner: Arc::new(Inner {
                writer: Arc::new(tokio::sync::Mutex::new(writer)),
                readers: Arc::new(Mutex::new(readers)),
                reader_permits: Arc::new(Semaphore::new(READERS)),
                _lock: lock,
            }),
        })
    }

    /// Runs `work` in one immediate transaction on the writing connection; commits if it returns `Ok`.
    ///
    /// `work` is not async: a transaction can never be held across an `.await`. Writers queue in order. Work
    /// that has begun is finished also when the caller goes away.
    ///
    /// # Errors
    /// What `work` returned, or a failed commit; then nothing is changed.
    pub async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let mut writer = self.inner.writer.clone().lock_owned().await;
        blocking(move || {
            let tx = writer.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let value = work(&tx)?;
            tx.commit()?;
            Ok(value)
        })
        .await
    }

    /// Runs `work` on a reading connection, within one snapshot of the database.
    ///
    /// # Errors
    /// What `work` returned.
    pub async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let permit = self.inner.reader_permits.clone().acquire_owned().await;
        let readers = self.inner.readers.clone();
        blocking(move || {
            let _permit = permit.map_err(|_| StoreError::Closed)?;
            let reader = readers.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let mut lease = Lease { reader: Some(reader.ok_or(StoreError::Closed)?), home: readers };
            let reader = lease.reader.as_mut().ok_or(StoreError::Closed)?;
            let tx = reader.transaction()?;
            work(&tx)
        })
        .await
    }

    /// Waits for the writer, moves the log into the main file, and lets later writes fail only by themselves.
    ///
    /// # Errors
    /// The checkpoint failed; nothing is lost, the next start does it.
    pub async fn checkpoint(&self) -> Result<(), StoreError> {
        let writer = self.inner.writer.clone().lock_owned().await;
        blocking(move || Ok(writer.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?)).await
    }
}

/// A reading connection on loan; goes home also when the work panics.
struct Lease {
    reader: Option<Connection>,
    home: Arc<Mutex<Vec<Connection>>>,
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(reader) = self.reader.take() {
            self.home.lock().unwrap_or_else(PoisonError::into_inner).push(reader);
        }
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    // An error here is a panic in `work` or a runtime that shuts down.
    spawn_blocking(work).await.unwrap_or(Err(StoreError::Closed))
}

fn connect(path: &Path, read_only: bool) -> Result<Connection, StoreError> {
    let failed = |source| StoreError::Open { path: path.to_owned(), source };
    let access = if read_only { OpenFlags::SQLITE_OPEN_READ_ONLY } else { OpenFlags::SQLITE_OPEN_READ_WRITE };
    let connection =
        Connection::open_with_flags(path, access | OpenFlags::SQLITE_OPEN_NO_MUTEX).map_err(failed)?;
    connection.busy_timeout(BUSY_TIMEOUT).map_err(failed)?;
    if !read_only {
        connection.pragma_update(None, "journal_mode", "wal").map_err(failed)?;
        connection.pragma_update(None, "synchronous", "full").map_err(failed)?;
    }
    connection.pragma_update(None, "foreign_keys", true).map_err(failed)?;
    Ok(connection)
}

/// Opens or makes a file that only its owner may read.
fn private_file(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

/// Takes the advisory lock that marks the database as in use, on a file beside it: SQLite has its own locks on
/// the database file itself.
fn take_lock(database: &Path) -> Result<File, StoreError> {
    let mut name = database.as_os_str().to_owned();
    name.push(".lock");
    let path = PathBuf::from(name);
    let file = private_file(&path).map_err(|source| StoreError::Create { path: path.clone(), source })?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(StoreError::Locked { path: database.to_owned() }),
        Err(std::fs::TryLockError::Error(source)) => Err(StoreError::Create { path, source }),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// A store in a directory that goes with the test.
    pub(crate) async fn scratch() -> (tempfile::TempDir, Store) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("sub/manager.db")).await.unwrap();
        (dir, store)
    }

    #[tokio::test]
    async fn files_are_private_and_a_second_manager_is_refused() {
        let (dir, store) = scratch().await;
        let path = dir.path().join("sub/manager.db");
        store.write(|tx| Ok(tx.execute("INSERT INTO drawer VALUES ('c', 'k', x'00')", [])?)).await.unwrap();
        for name in ["manager.db", "manager.db.lock", "manager.db-wal"] {
            let mode = std::fs::metadata(dir.path().join("sub").join(name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
        let refused = Store::open(&path).await.err().unwrap();
        assert!(refused.to_string().contains("another scylla-manager uses it"), "{refused}");
        drop(store);
        let again = Store::open(&path).await.unwrap();
        let rows: i64 = again
            .read(|c| Ok(c.query_row("SELECT count(*) FROM drawer", [], |row| row.get(0))?))
            .await
            .unwrap();
        assert_eq!(rows, 1);
    }

    #[tokio::test]
    async fn a_failed_write_changes_nothing() {
        let (_dir, store) = scratch().await;
        let outcome: Result<(), _> = store
            .write(|tx| {
                tx.execute("INSERT INTO drawer VALUES ('c', 'k', x'00')", [])?;
                Err(StoreError::Closed)
            })
            .await;
        assert!(outcome.is_err());
        let rows: i64 = store
            .read(|c| Ok(c.query_row("SELECT count(*) FROM drawer", [], |row| row.get(0))?))
            .await
            .unwrap();
        assert_eq!(rows, 0);
    }

    #[tokio::test]
    async fn readers_cannot_write_and_survive_a_panic() {
        let (_dir, store) = scratch().await;
        let refused = store.read(|c| Ok(c.execute("DELETE FROM drawer", [])?)).await;
        assert!(refused.is_err());
        for _ in 0..=READERS {
            let outcome: Result<(), _> = store.read(|_| panic!("on purpose")).await;
            assert!(outcome.is_err());
        }
        store.read(|_| Ok(())).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_paused_clock_waits_for_the_database() {
        let (_dir, store) = scratch().await;
        let write = store.write(|tx| Ok(tx.execute("INSERT INTO drawer VALUES ('c', 'k', x'00')", [])?));
        tokio::time::timeout(Duration::from_millis(1), write).await.unwrap().unwrap();
    }
}
