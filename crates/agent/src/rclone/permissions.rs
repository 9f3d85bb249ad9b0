//! `operations/check-permissions`: try what a backup needs (spec agent.md 2.6.10). The command `check-location` tries more.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use common::retry::Transient;
use futures::TryStreamExt;
use http::StatusCode;

use super::{CallError, Params, Rclone, Work, empty, work};
use crate::storage::{Depth, EntryKind, ObjectPath, Payload, Place, StorageError};

/// Content of the scratch file.
const CONTENT: &[u8] = b"1";
/// Its name.
const FILE: &str = "test";

/// A step of the check; the name is part of error texts that managers read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CheckStep {
    Put,
    List,
    Open,
    Read,
    Remove,
}

impl CheckStep {
    fn as_str(self) -> &'static str {
        match self {
            Self::Put => "put",
            Self::List => "list",
            Self::Open => "open",
            Self::Read => "read",
            Self::Remove => "remove",
        }
    }
}

impl fmt::Display for CheckStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Rclone {
    pub(super) fn check(self: &Arc<Self>, params: &Params) -> Result<Work, CallError> {
        let remote = self.remotes.remote(params)?;
        let provider = || remote.place.store.provider().to_owned();
        if !params.text("retentionMode")?.is_empty() {
            return Err(unsupported("set-retention-lock", provider(), "retention lock"));
        }
        if params.flag("eventBasedHold")? {
            return Err(unsupported("event-based-hold", provider(), "event based hold"));
        }
        let store = self.checks.get(remote.place.store.provider()).unwrap_or(&remote.place.store);
        let place = Place::new(store.clone(), remote.place.path);
        Ok(work(move |_| async move {
            check_permissions(&place).await?;
            Ok(empty())
        }))
    }
}

fn unsupported(operation: &'static str, provider: String, what: &'static str) -> CallError {
    let status = if provider == "s3" { StatusCode::INTERNAL_SERVER_ERROR } else { StatusCode::BAD_REQUEST };
    let source = Box::new(CallError::Unsupported { provider, what });
    CallError::Check { operation, status, source }
}

/// Writes, lists, reads and deletes a scratch file below `place`.
///
/// # Errors
/// The first step that failed, by name.
async fn check_permissions(place: &Place) -> Result<(), CallError> {
    let dir = place.path.join(&format!("scylla-manager-agent-{:08x}", rand::random::<u32>()))?;
    let file = dir.join(FILE)?;
    let outcome = try_steps(place, &dir, &file).await;
    // Whatever happened, leave nothing behind; what is protected the manager cleans up later.
    if let Err(error) = place.store.purge(&dir).await
        && !error.is_not_found()
        && outcome.is_ok()
    {
        tracing::warn!(directory = %dir, error = common::error::chain(&error), "Scratch directory is left");
    }
    outcome
}

async fn try_steps(place: &Place, dir: &ObjectPath, file: &ObjectPath) -> Result<(), CallError> {
    let store = &place.store;
    let payload = Payload::new(Bytes::from_static(CONTENT), store.wants());
    let provider = store.provider();
    step(provider, CheckStep::Put, store.put(file, &payload).await)?;
    step(provider, CheckStep::List, find(place, dir).await)?;
    let reader = step(provider, CheckStep::Open, store.open(file, None).await)?;
    let read = reader.bytes.try_fold(Vec::new(), |mut all, bytes| async move {
        all.extend_from_slice(&bytes);
        Ok(all)
    });
    let read = read.await.and_then(|bytes| compare(file, &bytes));
    step(provider, CheckStep::Read, read)?;
    step(provider, CheckStep::Remove, store.delete(file).await)
}

/// The listing must show what was just written.
async fn find(place: &Place, dir: &ObjectPath) -> Result<(), StorageError> {
    let mut entries = place.store.list(dir, Depth::One);
    while let Some(entry) = entries.try_next().await? {
        if entry.kind == EntryKind::File && entry.path == FILE {
            return Ok(());
        }
    }
    Err(StorageError::NotFound { path: format!("{dir}/{FILE}") })
}

fn compare(file: &ObjectPath, bytes: &[u8]) -> Result<(), StorageError> {
    if bytes == CONTENT {
        return Ok(());
    }
    let detail = format!("{} bytes were read that differ from those written", bytes.len());
    Err(StorageError::Corrupted { path: file.to_string(), detail })
}

fn step<T>(provider: &str, step: CheckStep, outcome: Result<T, StorageError>) -> Result<T, CallError> {
    match outcome {
        Ok(value) => Ok(value),
        Err(error) => {
            let status = status(provider, step, &error);
            let source = Box::new(CallError::Storage(error));
            Err(CallError::Check { operation: step.as_str(), status, source })
        }
    }
}

/// 503 where the same check may go well in a moment: nothing is retried here, so the caller has to know. 400 where
/// the caller can mend it; on S3 only a documented refusal of the upload counts as that.
fn status(provider: &str, step: CheckStep, error: &StorageError) -> StatusCode {
    if error.is_transient() {
        return StatusCode::SERVICE_UNAVAILABLE;
    }
    let documented = match error {
        StorageError::BucketNotFound { .. } => true,
        error => error.service().is_some_and(|service| service.documented),
    };
    if provider != "s3" || (step == CheckStep::Put && documented) {
        StatusCode::BAD_REQUEST
    } else {
        StatusCode::INTERNAL_SERVER_ERROR
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::{FailureClass, ServiceError};

    fn service(status: u16, code: &str, class: FailureClass) -> StorageError {
        StorageError::Service(Box::new(ServiceError {
            operation: "PutObject",
            target: "b/k".into(),
            status,
            code: code.into(),
            message: "in words".into(),
            documented: true,
            class,
            retry_after: None,
        }))
    }

    #[test]
    fn statuses_follow_provider_and_step() {
        let denied = || service(403, "AccessDenied", FailureClass::Terminal);
        let unreachable = StorageError::Unreachable {
            operation: "ListObjectsV2",
            target: "b".into(),
            source: "end of file before message length reached".into(),
        };
        let missing = || StorageError::BucketNotFound { bucket: "b".into() };
        let keys = || StorageError::Credentials { reason: "none".into() };
        for (provider, step, error, expected) in [
            ("s3", CheckStep::Put, missing(), 400),
            ("s3", CheckStep::List, missing(), 500),
            ("s3", CheckStep::Put, keys(), 500),
            ("s3", CheckStep::Put, denied(), 400),
            ("s3", CheckStep::Open, denied(), 500),
            ("s3", CheckStep::Put, service(503, "SlowDown", FailureClass::Throttled), 503),
            ("s3", CheckStep::Remove, service(500, "InternalError", FailureClass::Transient), 503),
            ("s3", CheckStep::List, unreachable, 503),
            ("localstorage", CheckStep::Open, StorageError::NotFound { path: "x".into() }, 400),
        ] {
            assert_eq!(status(provider, step, &error).as_u16(), expected, "{provider} {step}");
        }
    }
}
