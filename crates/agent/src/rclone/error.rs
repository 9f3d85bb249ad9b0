//! Errors of engine calls and what they become on the wire (spec agent.md 2.2).

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use serde_json::{Value, json};

use crate::jobs::{JobError, JobNotFound};
use crate::storage::{InvalidPath, StorageError};
use crate::transfer::{InvalidTransfers, TransferError};

/// A call that did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// A parameter is missing.
    #[error("Didn't find key {0:?} in input")]
    MissingKey(&'static str),
    /// A parameter or the request itself makes no sense; the text says what is expected.
    #[error("{0}")]
    BadRequest(String),
    /// Not a provider's name.
    #[error("invalid provider {provider} in {param} param")]
    InvalidProvider {
        /// The refused text.
        provider: String,
        /// Which parameter.
        param: &'static str,
    },
    /// A provider that the agent does not have.
    #[error(
        "provider {provider:?} in {param} param is not configured on this node; it has {known}, \
         and localstorage once localstorage.path is set in scylla-manager-agent.yaml"
    )]
    UnknownProvider {
        /// Its name.
        provider: String,
        /// Which parameter.
        param: &'static str,
        /// Those that there are.
        known: String,
    },
    /// A path that leads out of the provider's root.
    #[error("accessing path outside of root")]
    OutsideRoot,
    /// The call is not allowed on this place.
    #[error("permission denied")]
    Forbidden,
    /// The provider cannot do it.
    #[error("backend {provider:?} does not support {what}")]
    Unsupported {
        /// Its name.
        provider: String,
        /// What it cannot do.
        what: &'static str,
    },
    /// A combination of options, or an empty list, that the original answers with 500.
    #[error("{0}")]
    Refused(String),
    /// No such job.
    #[error(transparent)]
    Job(#[from] JobNotFound),
    /// Not a number of transfers.
    #[error(transparent)]
    Transfers(#[from] InvalidTransfers),
    /// A store failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// A store failed in a call for which a missing bucket, or a file in place of a directory, is no
    /// "not found" or bad request: callers take those for a missing source.
    #[error(transparent)]
    Write(StorageError),
    /// The engine failed.
    #[error(transparent)]
    Transfer(TransferError),
    /// A step of the permission check failed.
    #[error("operation {operation}")]
    Check {
        /// Name of the step.
        operation: &'static str,
        /// 400, 500 or 503.
        status: StatusCode,
        /// Why.
        #[source]
        source: Box<CallError>,
    },
}

impl From<InvalidPath> for CallError {
    fn from(error: InvalidPath) -> Self {
        Self::Storage(error.into())
    }
}

impl From<TransferError> for CallError {
    fn from(error: TransferError) -> Self {
        match error {
            TransferError::Storage(error) => Self::Storage(error),
            other => Self::Transfer(other),
        }
    }
}

impl From<CallError> for JobError {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Transfer(TransferError::Stopped) => Self::Stopped,
            other => Self::Failed(other.message()),
        }
    }
}

impl CallError {
    /// HTTP status.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::MissingKey(_) | Self::BadRequest(_) | Self::InvalidProvider { .. } => {
                StatusCode::BAD_REQUEST
            }
            Self::UnknownProvider { .. } | Self::OutsideRoot | Self::Job(_) => StatusCode::NOT_FOUND,
            Self::Forbidden => StatusCode::FORBIDDEN,
            Self::Unsupported { .. } | Self::Refused(_) | Self::Transfers(_) | Self::Transfer(_) => {
                StatusCode::INTERNAL_SERVER_ERROR
            }
            Self::Storage(error) => storage_status(error),
            Self::Write(StorageError::BucketNotFound { .. } | StorageError::NotADirectory { .. }) => {
                StatusCode::INTERNAL_SERVER_ERROR
            }
            Self::Write(error) => storage_status(error),
            Self::Check { status, .. } => *status,
        }
    }

    /// The text for the caller: the whole chain, XML documents of storage services made readable.
    pub fn message(&self) -> String {
        rewrite_xml(&common::error::chain(self))
    }
}

fn storage_status(error: &StorageError) -> StatusCode {
    match error {
        error if error.is_not_found() => StatusCode::NOT_FOUND,
        StorageError::NotAFile { .. } | StorageError::NotADirectory { .. } | StorageError::InvalidPath(_) => {
            StatusCode::BAD_REQUEST
        }
        StorageError::PermissionDenied { .. } => StatusCode::FORBIDDEN,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// The error body of an engine call. `input` are the merged parameters, `None` where there are none.
pub fn response(status: StatusCode, message: &str, path: &str, input: Option<Value>) -> Response {
    // The original labels answers without input as text.
    let kind = if input.is_some() { "application/json" } else { "text/plain; charset=utf-8" };
    let body = json!({"status": status.as_u16(), "message": message, "path": path, "input": input});
    (status, [(header::CONTENT_TYPE, kind)], Body::from(format!("{body}\n"))).into_response()
}

/// Replaces an XML error document in a message by `<Message> (code:<Code>)`; both must be there.
fn rewrite_xml(message: &str) -> String {
    let element = |xml: &str, name: &str| {
        let start = xml.find(&format!("<{name}>"))? + name.len() + 2;
        let end = start + xml[start..].find(&format!("</{name}>"))?;
        let text = xml[start..end].trim();
        (!text.is_empty()).then(|| text.to_owned())
    };
    let rewritten = message.find("<?xml").and_then(|at| {
        let (before, xml) = message.split_at(at);
        let inside = &xml[xml.find("<Error>")?..];
        Some(format!("{before}{} (code:{})", element(inside, "Message")?, element(inside, "Code")?))
    });
    rewritten.unwrap_or_else(|| message.to_owned())
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;
    use crate::storage::{FailureClass, ServiceError};

    fn service(status: u16, code: &str) -> StorageError {
        StorageError::Service(Box::new(ServiceError {
            operation: "PutObject",
            target: "b/k".into(),
            status,
            code: code.into(),
            message: "Access Denied".into(),
            documented: true,
            class: FailureClass::Terminal,
            retry_after: None,
        }))
    }

    #[test]
    fn errors_have_the_status_of_the_map() {
        let path = || "x".to_owned();
        let io = |kind| StorageError::io("list", "x", io::Error::from(kind));
        for (error, status) in [
            (CallError::MissingKey("fs"), 400),
            (CallError::BadRequest("x".into()), 400),
            (CallError::InvalidProvider { provider: path(), param: "fs" }, 400),
            (CallError::UnknownProvider { provider: path(), param: "fs", known: path() }, 404),
            (CallError::OutsideRoot, 404),
            (CallError::Forbidden, 403),
            (CallError::Unsupported { provider: path(), what: "retention lock" }, 500),
            (CallError::Refused("empty paths".into()), 500),
            (JobNotFound.into(), 404),
            (InvalidTransfers(0).into(), 500),
            (StorageError::NotFound { path: path() }.into(), 404),
            (StorageError::DirectoryNotFound { path: path() }.into(), 404),
            (StorageError::BucketNotFound { bucket: path() }.into(), 404),
            (StorageError::NotAFile { path: path() }.into(), 400),
            (StorageError::NotADirectory { path: path() }.into(), 400),
            (io(io::ErrorKind::PermissionDenied).into(), 403),
            (io(io::ErrorKind::StorageFull).into(), 500),
            (service(403, "AccessDenied").into(), 500),
            (CallError::Write(StorageError::BucketNotFound { bucket: path() }), 500),
            (CallError::Write(StorageError::NotFound { path: path() }), 404),
            (TransferError::Stopped.into(), 500),
            (TransferError::Storage(StorageError::NotFound { path: path() }).into(), 404),
        ] {
            assert_eq!(error.status().as_u16(), status, "{error:?}");
        }
    }

    #[test]
    fn xml_documents_are_rewritten_when_code_and_message_are_there() {
        let xml = |code: &str, message: &str| {
            format!(
                "operation put: <?xml version=\"1.0\"?>\n<Error><Code>{code}</Code><Message>{message}</Message></Error>"
            )
        };
        assert_eq!(
            rewrite_xml(&xml("NoSuchBucket", "The specified bucket does not exist")),
            "operation put: The specified bucket does not exist (code:NoSuchBucket)"
        );
        for raw in
            [xml("NoSuchBucket", ""), xml("", "x"), "plain".into(), "<?xml broken <Error><Code>".into()]
        {
            assert_eq!(rewrite_xml(&raw), raw);
        }
    }

    #[tokio::test]
    async fn bodies_carry_status_message_path_and_input() {
        for (input, kind) in
            [(Some(json!({"fs": "s3:b"})), "application/json"), (None, "text/plain; charset=utf-8")]
        {
            let answer = response(StatusCode::NOT_FOUND, "object not found", "operations/cat", input.clone());
            assert_eq!(answer.status(), 404);
            assert_eq!(answer.headers()[header::CONTENT_TYPE], kind);
            let body = axum::body::to_bytes(answer.into_body(), 1000).await.unwrap();
            let body: Value = serde_json::from_slice(&body).unwrap();
            let expected =
                json!({"status":404,"message":"object not found","path":"operations/cat","input":input});
            assert_eq!(body, expected);
        }
    }
}
