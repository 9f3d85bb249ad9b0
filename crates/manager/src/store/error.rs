//! What can go wrong with the database.

use std::path::PathBuf;

/// A failure of the database.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file, its directory or its lock cannot be made.
    #[error("create database file {}", path.display())]
    Create {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The file cannot be opened as a database.
    #[error("open database {}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: rusqlite::Error,
    },
    /// Another process has it.
    #[error(
        "database {} is locked: another scylla-manager uses it; stop that one first, or set another database.path",
        path.display()
    )]
    Locked {
        /// The file.
        path: PathBuf,
    },
    /// Written by a release that came after this one.
    #[error(
        "database {} has schema version {found}, this scylla-manager knows versions up to {known}; \
         run the newer release, or restore the file from before the upgrade",
        path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Version in the file.
        found: u32,
        /// Newest version of this release.
        known: u32,
    },
    /// A migration failed; it is rolled back.
    #[error("bring database to schema version {version}")]
    Migrate {
        /// The migration.
        version: u32,
        /// Why.
        #[source]
        source: rusqlite::Error,
    },
    /// A statement failed.
    #[error("database")]
    Sql(#[from] rusqlite::Error),
    /// A stored value is not what this column holds.
    #[error("database column {column} holds {value:?}: {reason}")]
    Corrupt {
        /// The column.
        column: String,
        /// What it holds.
        value: String,
        /// Why that is wrong.
        reason: String,
    },
    /// The work panicked or the process is going down.
    #[error("database work was cut short")]
    Closed,
}
