//! How a transfer ends when it does not succeed.

use crate::jobs::JobError;
use crate::storage::StorageError;

/// A call of the engine that did not do all it should.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// Asked to stop.
    #[error("context canceled")]
    Stopped,
    /// A store failed; in a job with many files: in a way that concerns all of them.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// Some files failed; the others were done.
    #[error("{failed} of {total} files failed; first {name}: {error}")]
    Files {
        /// Number of files that failed.
        failed: usize,
        /// Number of files of the job.
        total: usize,
        /// The first that failed.
        name: String,
        /// Why.
        error: String,
    },
    /// The destination differs and must not be overwritten (`rclone.immutable`).
    #[error("{path} exists with other content, and rclone.immutable forbids to overwrite it")]
    Immutable {
        /// Which.
        path: String,
    },
    /// Source and destination are the same directory.
    #[error("overlapping remotes: source and destination are both {path}")]
    Overlapping {
        /// Which.
        path: String,
    },
}

impl From<crate::storage::InvalidPath> for TransferError {
    fn from(error: crate::storage::InvalidPath) -> Self {
        Self::Storage(error.into())
    }
}

impl From<TransferError> for JobError {
    fn from(error: TransferError) -> Self {
        match error {
            TransferError::Stopped => Self::Stopped,
            other => Self::Failed(common::error::chain(&other)),
        }
    }
}

impl TransferError {
    /// No other file of the job can do better.
    pub(super) fn is_terminal(&self) -> bool {
        match self {
            Self::Stopped => true,
            Self::Storage(error) => error.is_terminal(),
            _ => false,
        }
    }
}
