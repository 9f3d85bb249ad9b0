//! Server-side encryption and the other attributes of new objects.
//!
//! The SDK's builders have the same setters but no common trait; a macro writes the calls once.

use aws_sdk_s3::types::{ObjectCannedAcl, RequestPayer, ServerSideEncryption, StorageClass};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::config::S3Config;
use crate::storage::payload::md5;

/// What new objects get, and what reading encrypted ones needs.
#[derive(Clone)]
pub(super) struct Encryption {
    pub acl: Option<ObjectCannedAcl>,
    pub storage_class: Option<StorageClass>,
    pub sse: Option<ServerSideEncryption>,
    pub kms_key: Option<String>,
    pub payer: Option<RequestPayer>,
    /// Algorithm, key in base64, MD5 of the key in base64.
    pub customer: Option<(String, String, String)>,
}

impl Encryption {
    pub(super) fn new(config: &S3Config) -> Self {
        Self {
            acl: config.acl.as_deref().map(ObjectCannedAcl::from),
            storage_class: config.storage_class.as_deref().map(StorageClass::from),
            sse: config.server_side_encryption.as_deref().map(ServerSideEncryption::from),
            kms_key: config.sse_kms_key_id.clone(),
            payer: config.requester_pays.then_some(RequestPayer::Requester),
            customer: customer_key(config),
        }
    }
}

/// The key may be given raw or in base64, as the original takes both in practice; on the wire it is base64.
fn customer_key(config: &S3Config) -> Option<(String, String, String)> {
    let text = config.sse_customer_key.expose();
    if text.is_empty() {
        return None;
    }
    let raw = match STANDARD.decode(text) {
        Ok(key) if key.len() == 32 => key,
        _ => text.as_bytes().to_vec(),
    };
    let algorithm = config.sse_customer_algorithm.clone().unwrap_or_else(|| "AES256".into());
    let digest = config.sse_customer_key_md5.clone().unwrap_or_else(|| STANDARD.encode(md5(&raw)));
    Some((algorithm, STANDARD.encode(&raw), digest))
}

/// Sets the customer's key and the payer on a request that reads or writes an object.
macro_rules! with_key {
    ($store:expr, $request:expr) => {{
        let attributes = &$store.0.encryption;
        let (algorithm, key, md5) =
            attributes.customer.clone().map_or((None, None, None), |(a, k, m)| (Some(a), Some(k), Some(m)));
        $request
            .set_sse_customer_algorithm(algorithm)
            .set_sse_customer_key(key)
            .set_sse_customer_key_md5(md5)
            .set_request_payer(attributes.payer.clone())
    }};
}

/// Sets everything that a new object gets.
macro_rules! with_attributes {
    ($store:expr, $request:expr) => {{
        let attributes = &$store.0.encryption;
        $crate::storage::s3::sse::with_key!($store, $request)
            .set_acl(attributes.acl.clone())
            .set_storage_class(attributes.storage_class.clone())
            .set_server_side_encryption(attributes.sse.clone())
            .set_ssekms_key_id(attributes.kms_key.clone())
    }};
}

pub(super) use {with_attributes, with_key};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;

    #[test]
    fn the_customer_key_is_sent_in_base64_with_its_md5() {
        let raw = "0123456789abcdef0123456789abcdef";
        for text in [raw.to_owned(), STANDARD.encode(raw)] {
            let config = S3Config { sse_customer_key: Secret::new(text), ..S3Config::default() };
            let (algorithm, key, md5) = Encryption::new(&config).customer.unwrap();
            assert_eq!(algorithm, "AES256");
            assert_eq!(STANDARD.decode(key).unwrap(), raw.as_bytes());
            assert_eq!(STANDARD.decode(md5).unwrap().len(), 16);
        }
        assert!(Encryption::new(&S3Config::default()).customer.is_none());
    }
}
