//! What can go wrong with a store, told apart as far as callers care (spec agent.md 2.2).

use std::io;
use std::time::Duration;

use common::retry::Transient;

/// A failed call to a store.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// No such object.
    #[error("object not found: {path}")]
    NotFound {
        /// Which.
        path: String,
    },
    /// No such directory (local stores only; a missing prefix is an empty listing).
    #[error("directory not found: {path}")]
    DirectoryNotFound {
        /// Which.
        path: String,
    },
    /// The bucket does not exist; the text keeps the code that managers look for.
    #[error("the specified bucket {bucket:?} does not exist (code:NoSuchBucket)")]
    BucketNotFound {
        /// Which.
        bucket: String,
    },
    /// A directory, a link or a special file where a file was expected.
    #[error("not a file: {path}")]
    NotAFile {
        /// Which.
        path: String,
    },
    /// A file where a directory was expected.
    #[error("is a file not a directory: {path}")]
    NotADirectory {
        /// Which.
        path: String,
    },
    /// The operating system refuses access (EACCES, EPERM).
    #[error("cannot {action} {path}: permission denied; check owner and mode of the directory")]
    PermissionDenied {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: String,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// Any other failure of the local file system.
    #[error("cannot {action} {path}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: String,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// The storage service answered with an error.
    #[error(transparent)]
    Service(Box<ServiceError>),
    /// The storage service could not be reached, or went silent.
    #[error("{operation} {target}: no answer from the storage service")]
    Unreachable {
        /// Name of the request, e.g. `PutObject`.
        operation: &'static str,
        /// `bucket/key`.
        target: String,
        /// The cause.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// No credentials, or incomplete ones.
    #[error(
        "NoCredentialProviders: no valid providers in chain: {reason}; attach an IAM role to this node or set \
         s3.access_key_id and s3.secret_access_key in scylla-manager-agent.yaml"
    )]
    Credentials {
        /// What is missing.
        reason: String,
    },
    /// There is a source of credentials, and it has none for us at the moment.
    #[error("credentials are not to be had at the moment: {reason}")]
    CredentialsUnavailable {
        /// Which source, and what it said.
        reason: String,
    },
    /// The store can not do this.
    #[error("{what} is not supported by {provider}")]
    Unsupported {
        /// The call.
        what: &'static str,
        /// Provider name.
        provider: String,
    },
    /// The path cannot name an object.
    #[error(transparent)]
    InvalidPath(#[from] super::InvalidPath),
    /// The settings of the provider do not work.
    #[error("provider {provider}: {reason}")]
    Config {
        /// Provider name.
        provider: &'static str,
        /// What is wrong and how to mend it.
        reason: String,
    },
    /// What arrived is not what was announced.
    #[error("{path}: corrupted on transfer: {detail}")]
    Corrupted {
        /// Which object.
        path: String,
        /// What differs.
        detail: String,
    },
    /// The local file is not what it was when it was opened.
    #[error("{path} changed while it was read: {detail}")]
    Changed {
        /// Which file.
        path: String,
        /// What differs.
        detail: String,
    },
    /// A worker of this process went away in the middle of the call; only at shutdown.
    #[error("interrupted by shutdown")]
    Interrupted,
}

/// An error answer of the storage service.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{operation} {target}: {} (code:{code}) status {status}{}", self.text(), self.remedy())]
pub struct ServiceError {
    /// Name of the request, e.g. `PutObject`.
    pub operation: &'static str,
    /// `bucket/key`.
    pub target: String,
    /// HTTP status.
    pub status: u16,
    /// `<Code>` of the XML error document; the status as text when there is none (answers to HEAD).
    pub code: String,
    /// `<Message>`; may be empty (Ceph).
    pub message: String,
    /// Whether an XML error document came with both code and message: then check-permissions answers 400.
    pub documented: bool,
    /// What to do about it.
    pub class: FailureClass,
    /// How long the service asked to be left alone.
    pub retry_after: Option<Duration>,
}

/// What an error answer means for the work around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureClass {
    /// Too many requests: try again, and with fewer at once.
    Throttled,
    /// A failure of the moment: try again.
    Transient,
    /// Hopeless for this request, others may do better.
    Rejected,
    /// Hopeless for every request to this place: keys, bucket, quota, clock.
    Terminal,
}

impl ServiceError {
    fn text(&self) -> &str {
        if self.message.is_empty() { &self.code } else { &self.message }
    }

    fn remedy(&self) -> &'static str {
        match self.code.as_str() {
            "RequestTimeTooSkewed" => "; the clock of this node is wrong, check NTP",
            "QuotaExceeded" | "XMinioStorageFull" | "InsufficientStorage" => {
                "; the storage is full, free space or raise the quota"
            }
            "InvalidAccessKeyId" | "SignatureDoesNotMatch" => {
                "; check s3.access_key_id and s3.secret_access_key in scylla-manager-agent.yaml"
            }
            "ExpiredToken" | "InvalidToken" => {
                "; the session token is no longer valid, renew the credentials of this node"
            }
            _ => "",
        }
    }
}

impl StorageError {
    /// Maps a system error, telling missing and forbidden things apart.
    pub fn io(action: &'static str, path: impl Into<String>, source: io::Error) -> Self {
        let path = path.into();
        match source.kind() {
            io::ErrorKind::NotFound => Self::NotFound { path },
            io::ErrorKind::PermissionDenied => Self::PermissionDenied { action, path, source },
            io::ErrorKind::IsADirectory => Self::NotAFile { path },
            io::ErrorKind::NotADirectory => Self::NotADirectory { path },
            _ => Self::Io { action, path, source },
        }
    }

    /// Object, directory or bucket is missing.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. } | Self::DirectoryNotFound { .. } | Self::BucketNotFound { .. })
    }

    /// No other request to the same place can succeed either: the job ends.
    pub fn is_terminal(&self) -> bool {
        match self {
            Self::BucketNotFound { .. }
            | Self::Credentials { .. }
            | Self::Config { .. }
            | Self::Interrupted => true,
            Self::Service(service) => service.class == FailureClass::Terminal,
            Self::Io { source, .. } => {
                matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
            }
            _ => false,
        }
    }

    /// The service's answer, if it was one.
    pub fn service(&self) -> Option<&ServiceError> {
        match self {
            Self::Service(service) => Some(service),
            _ => None,
        }
    }
}

impl Transient for StorageError {
    fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::CredentialsUnavailable { .. } | Self::Corrupted { .. } => true,
            Self::Service(s) => matches!(s.class, FailureClass::Throttled | FailureClass::Transient),
            _ => false,
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        self.service().and_then(|s| s.retry_after)
    }
}
