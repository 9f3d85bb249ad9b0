//! Where services that speak S3 differ (design, transfer engine).
//!
//! | Provider | Payload | Why |
//! |---|---|---|
//! | AWS | unsigned, CRC-32 in a header; multipart with a CRC-32 over the whole object | verified and stored by the service |
//! | others over TLS | unsigned | TLS protects the bytes already |
//! | others over http | signed with its real SHA-256 | Ceph verifies that, and ignores `x-amz-checksum-*` |

use crate::config::{S3Config, S3Provider, SignPayload};

/// What to do for one configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Quirks {
    /// Send and expect `x-amz-checksum-crc32`.
    pub crc32: bool,
    /// Sign the payload's own SHA-256.
    pub sign_payload: bool,
    /// The ETag of an object sent in one request is the MD5 of its content.
    pub etag_is_md5: bool,
}

impl Quirks {
    pub(super) fn new(config: &S3Config) -> Self {
        let aws = config.provider == S3Provider::Aws;
        let plain_http = config.endpoint.as_deref().is_some_and(|e| e.starts_with("http://"));
        Self {
            crc32: aws,
            sign_payload: match config.sign_payload {
                SignPayload::Always => true,
                SignPayload::Never => false,
                SignPayload::Auto => plain_http && !aws,
            },
            etag_is_md5: config.sse_customer_key.is_empty()
                && config.server_side_encryption.as_deref() != Some("aws:kms"),
        }
    }
}

/// The MD5 in an ETag; `None` for an ETag of another kind, such as that of an object sent in parts.
pub(super) fn etag_md5(etag: &str) -> Option<[u8; 16]> {
    let text = etag.trim_matches('"');
    let mut md5 = [0; 16];
    hex::decode_to_slice(text, &mut md5).ok().map(|()| md5)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads_are_signed_where_nothing_else_protects_them() {
        let config = |provider, endpoint: Option<&str>, sign_payload| S3Config {
            provider,
            endpoint: endpoint.map(str::to_owned),
            sign_payload,
            ..S3Config::default()
        };
        use SignPayload::{Always, Auto, Never};
        for (provider, endpoint, sign, crc32, signed) in [
            (S3Provider::Aws, None, Auto, true, false),
            (S3Provider::Aws, Some("http://127.0.0.1:9000"), Auto, true, false),
            (S3Provider::Aws, None, Always, true, true),
            (S3Provider::Ceph, Some("http://rgw:7480"), Auto, false, true),
            (S3Provider::Ceph, Some("https://rgw"), Auto, false, false),
            (S3Provider::Minio, Some("http://minio:9000"), Never, false, false),
        ] {
            let quirks = Quirks::new(&config(provider, endpoint, sign));
            assert_eq!(
                (quirks.crc32, quirks.sign_payload),
                (crc32, signed),
                "{provider:?} {endpoint:?} {sign:?}"
            );
        }
    }

    #[test]
    fn only_plain_etags_are_md5() {
        assert!(etag_md5("\"d41d8cd98f00b204e9800998ecf8427e\"").is_some());
        assert!(etag_md5("d41d8cd98f00b204e9800998ecf8427e").is_some());
        assert!(etag_md5("\"d41d8cd98f00b204e9800998ecf8427e-3\"").is_none());
        assert!(etag_md5("").is_none());
    }
}
