//! PUT of objects and parts, without the SDK's machinery around it.
//!
//! Thousands of small components make a backup, and for each the SDK spends more on layers of configuration than the
//! network costs. These two requests are therefore put together here: where to is what the SDK's endpoint rules say
//! (asked once per bucket), the signature comes from the SDK's own signer, everything else still goes through the SDK.

use std::fmt::Write as _;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_credential_types::provider::ProvideCredentials as _;
use aws_sdk_s3::config::SharedCredentialsProvider;
use aws_sdk_s3::presigning::PresigningConfig;
use aws_sigv4::http_request::{
    PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SigningSettings,
    UriPathNormalizationMode, sign,
};
use aws_sigv4::sign::v4;
use aws_smithy_runtime_api::client::identity::Identity;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::body::Attempt;
use super::checksum::crc32_text;
use super::{PROVIDER, S3Store, errors, object};
use crate::storage::{ObjectPath, Payload, Result, StorageError};

/// What a path keeps as it is; the signature depends on it.
const PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b'/');
/// What a value in a query keeps as it is.
const QUERY: &AsciiSet = &PATH.add(b'/');
/// Longest error document that is read, bytes.
const MAX_ERROR: usize = 64 << 10;

/// Where the objects of a bucket are.
#[derive(Debug)]
pub(super) struct Address {
    /// URL of the empty key.
    base: String,
    region: String,
}

/// A request that carries a payload.
pub(super) struct Upload<'a> {
    pub operation: &'static str,
    pub path: &'a ObjectPath,
    /// Query with its question mark, values encoded; may be empty.
    pub query: String,
    pub headers: Vec<(&'static str, String)>,
    pub payload: &'a Payload,
}

/// A name and its value in a query.
pub(super) fn query_pair(name: &str, value: &str) -> String {
    format!("{name}={}", utf8_percent_encode(value, QUERY))
}

impl S3Store {
    /// Headers that every upload of an object gets.
    pub(super) fn attribute_headers(&self) -> Vec<(&'static str, String)> {
        let attributes = &self.0.encryption;
        let mut headers = self.key_headers();
        let mut add = |name, value: Option<&str>| headers.extend(value.map(|v| (name, v.to_owned())));
        add("x-amz-acl", attributes.acl.as_ref().map(|v| v.as_str()));
        add("x-amz-storage-class", attributes.storage_class.as_ref().map(|v| v.as_str()));
        add("x-amz-server-side-encryption", attributes.sse.as_ref().map(|v| v.as_str()));
        add("x-amz-server-side-encryption-aws-kms-key-id", attributes.kms_key.as_deref());
        headers
    }

    /// Headers that uploads of parts get too.
    pub(super) fn key_headers(&self) -> Vec<(&'static str, String)> {
        let attributes = &self.0.encryption;
        let mut headers = Vec::new();
        if let Some((algorithm, key, md5)) = &attributes.customer {
            headers.push(("x-amz-server-side-encryption-customer-algorithm", algorithm.clone()));
            headers.push(("x-amz-server-side-encryption-customer-key", key.clone()));
            headers.push(("x-amz-server-side-encryption-customer-key-md5", md5.clone()));
        }
        if let Some(payer) = &attributes.payer {
            headers.push(("x-amz-request-payer", payer.as_str().to_owned()));
        }
        headers
    }

    /// Sends a payload once and returns the ETag.
    pub(super) async fn send_payload(&self, upload: Upload<'_>) -> Result<Option<String>> {
        let (bucket, key) = object(upload.path)?;
        let regional = self.regional(bucket).await?;
        let address = self.address(bucket, &regional.client, &regional.region).await?;
        // Before the signature is made, which grows old.
        let turn = upload.payload.turn().await?;
        let mut url = address.base.clone();
        // Infallible: a String grows.
        let _ = write!(url, "{}{}", utf8_percent_encode(key, PATH), upload.query);
        let request = http::Request::put(&url).header("content-length", upload.payload.length());
        let request = upload.headers.iter().fold(request, |r, (name, value)| r.header(*name, value));
        let request = match self.0.quirks.crc32 {
            true => request.header("x-amz-checksum-crc32", crc32_text(upload.payload.crc32)),
            false => request,
        };
        let mut request = request.body(()).map_err(|e| invalid(&e))?;
        if let Some(provider) = &regional.credentials {
            let identity = self.identity(provider).await?;
            self.sign(&mut request, &url, &address, &identity, upload.payload)?;
        }
        let (attempt, body) = Attempt::new(upload.payload, &self.0.limits, turn);
        let http =
            self.0.http.clone().map_err(|reason| StorageError::Config { provider: PROVIDER, reason })?;
        let answer =
            http.request(request.map(|()| body)).await.map_err(|error| StorageError::Unreachable {
                operation: upload.operation,
                target: upload.path.to_string(),
                source: Box::new(error),
            })?;
        if !answer.status().is_success() {
            return Err(self.refusal(&upload, answer).await);
        }
        let etag = answer.headers().get("etag").and_then(|v| v.to_str().ok()).map(str::to_owned);
        // The connection can be used again once the (empty) body is read.
        drop(answer.into_body().collect().await);
        attempt.confirm();
        Ok(etag)
    }

    fn sign(
        &self,
        request: &mut http::Request<()>,
        url: &str,
        address: &Address,
        identity: &Identity,
        payload: &Payload,
    ) -> Result<()> {
        let mut settings = SigningSettings::default();
        settings.percent_encoding_mode = PercentEncodingMode::Single;
        settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
        settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
        let params = v4::SigningParams::builder()
            .identity(identity)
            .region(&address.region)
            .name("s3")
            .time(SystemTime::now())
            .settings(settings)
            .build()
            .map_err(|e| invalid(&e))?
            .into();
        let body = match payload.sha256 {
            Some(sha256) => SignableBody::Precomputed(hex::encode(sha256)),
            None => SignableBody::UnsignedPayload,
        };
        let headers =
            request.headers().iter().filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)));
        let signable = SignableRequest::new("PUT", url, headers, body).map_err(|e| invalid(&e))?;
        let (instructions, _) = sign(signable, &params).map_err(|e| invalid(&e))?.into_parts();
        instructions.apply_to_request_http1x(request);
        Ok(())
    }

    /// Where a bucket's objects are, by the SDK's rules for endpoints.
    async fn address(&self, bucket: &str, client: &aws_sdk_s3::Client, region: &str) -> Result<Arc<Address>> {
        let known = |known: &std::collections::BTreeMap<String, Arc<Address>>| {
            known.get(bucket).filter(|address| address.region == region).cloned()
        };
        if let Some(address) = known(&self.0.addresses.read().unwrap_or_else(PoisonError::into_inner)) {
            return Ok(address);
        }
        // Signing a URL sends nothing; the key pair only has to exist.
        let anybody = Credentials::new("unused", "unused", None, None, "address of a bucket");
        let config = client.config().to_builder().credentials_provider(anybody).build();
        let expires = PresigningConfig::expires_in(Duration::from_secs(60)).map_err(|e| invalid(&e))?;
        let request =
            aws_sdk_s3::Client::from_conf(config).put_object().bucket(bucket).key("k").presigned(expires);
        let request = Box::pin(request).await.map_err(|e| invalid(&e))?;
        let url = request.uri().split('?').next().unwrap_or_default();
        let base = url.strip_suffix('k').unwrap_or(url).to_owned();
        let address = Arc::new(Address { base, region: region.to_owned() });
        let mut addresses = self.0.addresses.write().unwrap_or_else(PoisonError::into_inner);
        addresses.insert(bucket.to_owned(), address.clone());
        Ok(address)
    }

    async fn identity(&self, provider: &SharedCredentialsProvider) -> Result<Identity> {
        let found = provider.provide_credentials().await;
        found.map(Identity::from).map_err(|error| errors::credentials(&error))
    }

    async fn refusal(&self, upload: &Upload<'_>, answer: http::Response<Incoming>) -> StorageError {
        let (head, body) = answer.into_parts();
        let text = |name: &str| head.headers.get(name).and_then(|v| v.to_str().ok());
        let bucket = upload.path.bucket_and_key().0;
        let status = head.status.as_u16();
        if matches!(status, 301 | 307 | 400) && self.moved(bucket, text("x-amz-bucket-region")) {
            return self.elsewhere(upload.operation, upload.path);
        }
        let retry_after = errors::retry_after(text("retry-after"));
        let document = match http_body_util::Limited::new(body, MAX_ERROR).collect().await {
            Ok(body) => String::from_utf8_lossy(&body.to_bytes()).into_owned(),
            Err(_) => String::new(),
        };
        let (code, message) = (element(&document, "Code"), element(&document, "Message"));
        errors::service(upload.operation, upload.path.to_string(), status, &code, &message, retry_after)
    }
}

/// Text of the first element of that name in an error document; empty when there is none.
fn element(document: &str, name: &str) -> String {
    let start = document.split_once(&format!("<{name}>")).map_or("", |(_, rest)| rest);
    let text = start.split_once(&format!("</{name}>")).map_or("", |(text, _)| text);
    let entities =
        [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&apos;", "'"), ("&#39;", "'"), ("&amp;", "&")];
    entities.iter().fold(text.to_owned(), |text, (entity, plain)| text.replace(entity, plain))
}

fn invalid(error: &(dyn std::error::Error + 'static)) -> StorageError {
    let reason = format!("cannot put a request together: {}", common::error::chain(error));
    StorageError::Config { provider: PROVIDER, reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_documents_are_read() {
        let document = "<?xml version=\"1.0\"?><Error><Code>AccessDenied</Code>\
                        <Message>a &lt;b&gt; &amp;amp; c</Message></Error>";
        assert_eq!(element(document, "Code"), "AccessDenied");
        assert_eq!(element(document, "Message"), "a <b> &amp; c");
        assert_eq!(element("<Error><Message></Message></Error>", "Message"), "");
        assert_eq!(element("<html>oops", "Code"), "");
    }

    #[test]
    fn queries_are_encoded() {
        assert_eq!(query_pair("uploadId", "a/b+c=~"), "uploadId=a%2Fb%2Bc%3D~");
        assert_eq!(utf8_percent_encode("a b/é+(1).db", PATH).to_string(), "a%20b/%C3%A9%2B%281%29.db");
    }
}
