//! Reads the SDK's errors: what the service said, and whether another try can help.

use std::error::Error as StdError;
use std::time::Duration;

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;

use crate::storage::{FailureClass, ServiceError, StorageError};

/// Longest `Retry-After` that is obeyed.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(60);

const THROTTLED: [&str; 9] = [
    "SlowDown",
    "SlowDownRead",
    "SlowDownWrite",
    "Throttling",
    "ThrottlingException",
    "RequestLimitExceeded",
    "RequestThrottled",
    "TooManyRequests",
    "ServiceUnavailable",
];
const TRANSIENT: [&str; 9] = [
    "InternalError",
    "RequestTimeout",
    "OperationAborted",
    "IncompleteBody",
    "BadDigest",
    "XAmzContentChecksumMismatch",
    "XAmzContentSHA256Mismatch",
    "ConditionalRequestConflict",
    "XMinioServerNotInitialized",
];
const TERMINAL: [&str; 22] = [
    "AccessDenied",
    "AllAccessDisabled",
    "AccountProblem",
    "AuthorizationHeaderMalformed",
    "ExpiredToken",
    "InvalidAccessKeyId",
    "InvalidBucketName",
    "InvalidToken",
    "InvalidStorageClass",
    "NoSuchBucket",
    "NotSignedUp",
    "PermanentRedirect",
    "QuotaExceeded",
    "RequestTimeTooSkewed",
    "SignatureDoesNotMatch",
    "TokenRefreshRequired",
    "UserSuspended",
    "XMinioStorageFull",
    "InsufficientStorage",
    "KMS.DisabledException",
    "KMS.NotFoundException",
    "KMS.KMSInvalidStateException",
];

/// Maps an error of the SDK. `target` is `bucket/key`.
pub(super) fn map<E>(operation: &'static str, target: &str, error: SdkError<E, HttpResponse>) -> StorageError
where
    E: ProvideErrorMetadata + StdError + Send + Sync + 'static,
{
    let target = target.to_owned();
    match error {
        SdkError::ServiceError(answer) => {
            let raw = answer.raw();
            let meta = answer.err().meta();
            let retry_after = retry_after(raw.headers().get("retry-after"));
            let (code, message) = (meta.code().unwrap_or_default(), meta.message().unwrap_or_default());
            service(operation, target, raw.status().as_u16(), code, message, retry_after)
        }
        SdkError::ResponseError(answer) => {
            let status = answer.raw().status().as_u16();
            // An answer that is no S3 document, e.g. from a load balancer.
            if status >= 300 {
                return service(operation, target, status, "", "", None);
            }
            let source = Box::new(SdkError::<E, HttpResponse>::ResponseError(answer));
            StorageError::Unreachable { operation, target, source }
        }
        other => match credentials_error(&other) {
            Some(error) => credentials(error),
            None => StorageError::Unreachable { operation, target, source: Box::new(other) },
        },
    }
}

/// An error answer as our own type; missing things get the types of their own.
pub(super) fn service(
    operation: &'static str,
    target: String,
    status: u16,
    code: &str,
    message: &str,
    retry_after: Option<Duration>,
) -> StorageError {
    match (status, code) {
        (_, "NoSuchBucket") => {
            let bucket = target.split('/').next().unwrap_or_default().to_owned();
            return StorageError::BucketNotFound { bucket };
        }
        (_, "NoSuchKey" | "NotFound") | (404, "") => return StorageError::NotFound { path: target },
        _ => {}
    }
    let documented = !code.is_empty() && !message.is_empty();
    let class = classify(status, code);
    let code = if code.is_empty() { status.to_string() } else { code.to_owned() };
    let message = message.to_owned();
    StorageError::Service(Box::new(ServiceError {
        operation,
        target,
        status,
        code,
        message,
        documented,
        class,
        retry_after,
    }))
}

/// What an error answer means.
pub(super) fn classify(status: u16, code: &str) -> FailureClass {
    if THROTTLED.contains(&code) {
        return FailureClass::Throttled;
    }
    if TERMINAL.contains(&code) {
        return FailureClass::Terminal;
    }
    if TRANSIENT.contains(&code) {
        return FailureClass::Transient;
    }
    match status {
        429 | 503 => FailureClass::Throttled,
        401 | 403 | 507 => FailureClass::Terminal,
        408 | 500 | 502 | 504 | 520..=599 => FailureClass::Transient,
        _ => FailureClass::Rejected,
    }
}

/// Reads a `Retry-After` in seconds.
pub(super) fn retry_after(header: Option<&str>) -> Option<Duration> {
    let seconds = header?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(MAX_RETRY_AFTER))
}

/// A failure to get credentials as our own error.
pub(super) fn credentials(error: &CredentialsError) -> StorageError {
    let reason = common::error::chain(error);
    match error {
        // The source was there but did not answer: worth another try.
        CredentialsError::ProviderTimedOut(_) | CredentialsError::ProviderError(_) => {
            StorageError::CredentialsUnavailable { reason }
        }
        _ => StorageError::Credentials { reason },
    }
}

/// The failure to get credentials that made a request fail, if one did.
fn credentials_error<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a CredentialsError> {
    std::iter::successors(Some(error), |&error| error.source()).find_map(|error| error.downcast_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_told_apart() {
        use FailureClass::{Rejected, Terminal, Throttled, Transient};
        for (status, code, class) in [
            (503, "SlowDown", Throttled),
            (503, "", Throttled),
            (429, "", Throttled),
            (500, "InternalError", Transient),
            (502, "", Transient),
            (400, "RequestTimeout", Transient),
            (400, "BadDigest", Transient),
            (403, "AccessDenied", Terminal),
            (403, "", Terminal),
            (403, "RequestTimeTooSkewed", Terminal),
            (403, "QuotaExceeded", Terminal),
            (507, "XMinioStorageFull", Terminal),
            (301, "PermanentRedirect", Terminal),
            (400, "InvalidPart", Rejected),
            (404, "NoSuchUpload", Rejected),
            (400, "EntityTooLarge", Rejected),
            (501, "NotImplemented", Rejected),
        ] {
            assert_eq!(classify(status, code), class, "{status} {code}");
        }
    }

    #[test]
    fn texts_name_place_code_and_remedy() {
        let error = |status, code, message| {
            service("PutObject", "bucket/key".into(), status, code, message, None).to_string()
        };
        insta::assert_snapshot!(error(404, "NoSuchBucket", "The specified bucket does not exist"), @r#"the specified bucket "bucket" does not exist (code:NoSuchBucket)"#);
        insta::assert_snapshot!(error(403, "AccessDenied", "Access Denied"), @"PutObject bucket/key: Access Denied (code:AccessDenied) status 403");
        insta::assert_snapshot!(error(403, "QuotaExceeded", ""), @"PutObject bucket/key: QuotaExceeded (code:QuotaExceeded) status 403; the storage is full, free space or raise the quota");
        insta::assert_snapshot!(error(404, "", ""), @"object not found: bucket/key");
        insta::assert_snapshot!(error(502, "", ""), @"PutObject bucket/key: 502 (code:502) status 502");
    }

    #[test]
    fn a_long_retry_after_is_cut() {
        assert_eq!(retry_after(Some("3")), Some(Duration::from_secs(3)));
        assert_eq!(retry_after(Some("86400")), Some(MAX_RETRY_AFTER));
        assert_eq!(retry_after(Some("Wed, 21 Oct 2026 07:28:00 GMT")), None);
    }
}
