//! What an operator can do about a step that failed.

use super::Step;
use crate::config::S3Config;
use crate::storage::StorageError;

/// Advice beyond what the error says itself.
pub(super) fn remedy(
    step: Option<Step>,
    error: &StorageError,
    bucket: &str,
    config: &S3Config,
) -> Option<String> {
    match error {
        StorageError::Service(answer)
            if matches!(answer.status, 401 | 403) && is_plain_refusal(&answer.code) =>
        {
            step.map(|step| allow(step, bucket, config))
        }
        StorageError::BucketNotFound { .. } => Some(format!(
            "create bucket {bucket:?}, it is never created for you; or correct its name, s3.endpoint, s3.region"
        )),
        StorageError::Unreachable { .. } => Some(unreachable(error, config)),
        StorageError::CredentialsUnavailable { .. } => {
            Some("try again; if it stays, look at the source that is named".into())
        }
        StorageError::Corrupted { .. } if step == Some(Step::MultipartAbort) => {
            step.map(|step| allow(step, bucket, config))
        }
        _ => None,
    }
}

/// A refusal for want of a permission; other codes say what is wrong themselves.
fn is_plain_refusal(code: &str) -> bool {
    matches!(code, "AccessDenied" | "AllAccessDisabled" | "401" | "403")
}

fn allow(step: Step, bucket: &str, config: &S3Config) -> String {
    let (action, on_bucket) = match step {
        Step::Put | Step::MultipartStart | Step::MultipartPart | Step::MultipartFinish => {
            ("s3:PutObject", false)
        }
        Step::List => ("s3:ListBucket", true),
        Step::Get => ("s3:GetObject", false),
        Step::Delete => ("s3:DeleteObject", false),
        Step::MultipartList => ("s3:ListBucketMultipartUploads", true),
        Step::MultipartContinue => ("s3:ListMultipartUploadParts", false),
        Step::MultipartAbort => ("s3:AbortMultipartUpload", false),
    };
    let objects = if on_bucket { "" } else { "/*" };
    let mut advice = format!("allow {action} on arn:aws:s3:::{bucket}{objects}");
    let writes = action == "s3:PutObject";
    if writes && config.acl.is_some() {
        advice.push_str(", and s3:PutObjectAcl, because s3.acl is set");
    }
    if config.server_side_encryption.as_deref() == Some("aws:kms") && (writes || step == Step::Get) {
        let key = config.sse_kms_key_id.as_deref().unwrap_or("the bucket's key");
        advice.push_str(&format!(", and kms:GenerateDataKey and kms:Decrypt on {key}"));
    }
    advice
}

fn unreachable(error: &StorageError, config: &S3Config) -> String {
    let cause = common::error::chain(error).to_ascii_lowercase();
    let endpoint = config.endpoint.as_deref().unwrap_or("AWS");
    if cause.contains("certificate") || cause.contains("unknownissuer") {
        return format!(
            "the certificate of {endpoint} is not trusted: set s3.ca_file to the authority that signed it"
        );
    }
    format!(
        "check that this node reaches {endpoint}: s3.endpoint, name resolution, firewall, and proxy (HTTPS_PROXY, \
         NO_PROXY)"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::{FailureClass, ServiceError};

    fn refused(status: u16, code: &str) -> StorageError {
        StorageError::Service(Box::new(ServiceError {
            operation: "PutObject",
            target: "b/k".into(),
            status,
            code: code.into(),
            message: String::new(),
            documented: true,
            class: FailureClass::Terminal,
            retry_after: None,
        }))
    }

    #[test]
    fn each_step_names_the_permission_that_it_needs() {
        let denied = refused(403, "AccessDenied");
        let advice = |step| remedy(Some(step), &denied, "b", &S3Config::default()).unwrap();
        for (step, expected) in [
            (Step::Put, "allow s3:PutObject on arn:aws:s3:::b/*"),
            (Step::List, "allow s3:ListBucket on arn:aws:s3:::b"),
            (Step::Get, "allow s3:GetObject on arn:aws:s3:::b/*"),
            (Step::Delete, "allow s3:DeleteObject on arn:aws:s3:::b/*"),
            (Step::MultipartStart, "allow s3:PutObject on arn:aws:s3:::b/*"),
            (Step::MultipartPart, "allow s3:PutObject on arn:aws:s3:::b/*"),
            (Step::MultipartList, "allow s3:ListBucketMultipartUploads on arn:aws:s3:::b"),
            (Step::MultipartContinue, "allow s3:ListMultipartUploadParts on arn:aws:s3:::b/*"),
            (Step::MultipartFinish, "allow s3:PutObject on arn:aws:s3:::b/*"),
            (Step::MultipartAbort, "allow s3:AbortMultipartUpload on arn:aws:s3:::b/*"),
        ] {
            assert_eq!(advice(step), expected);
        }
    }

    #[test]
    fn other_failures_get_other_advice() {
        let config = S3Config {
            acl: Some("private".into()),
            server_side_encryption: Some("aws:kms".into()),
            endpoint: Some("https://rgw".into()),
            ..S3Config::default()
        };
        let unreachable = |cause: &str| StorageError::Unreachable {
            operation: "PutObject",
            target: "b/k".into(),
            source: cause.into(),
        };
        for (error, words) in [
            (refused(403, "AccessDenied"), &["s3:PutObjectAcl", "kms:Decrypt on the bucket's key"] as &[_]),
            (StorageError::BucketNotFound { bucket: "b".into() }, &["create bucket \"b\"", "s3.region"]),
            (unreachable("invalid peer certificate: UnknownIssuer"), &["https://rgw", "s3.ca_file"]),
            (unreachable("connection refused"), &["https://rgw", "firewall", "HTTPS_PROXY"]),
        ] {
            let advice = remedy(Some(Step::Put), &error, "b", &config).unwrap();
            for word in words {
                assert!(advice.contains(word), "{advice}");
            }
        }
        // The error says it itself.
        assert_eq!(remedy(Some(Step::Put), &refused(403, "RequestTimeTooSkewed"), "b", &config), None);
    }
}
