//! The `s3` section as typed values, with the engine's own defaults filled in (spec agent.md 1.3).

use std::path::PathBuf;

use common::secret::Secret;
use serde::Serialize;

use super::file::S3File;
use super::{ConfigProblem, boolean, number, optional, optional_path, size};

const MIB: u64 = 1 << 20;
/// Smallest part that S3 takes, other than the last one.
pub const MIN_CHUNK: u64 = 5 * MIB;
/// Largest part that S3 takes.
const MAX_CHUNK: u64 = 5 << 30;

/// A brand of object store; it decides about a few quirks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[allow(missing_docs, reason = "the names say it")]
pub enum S3Provider {
    #[default]
    #[serde(rename = "AWS")]
    Aws,
    Minio,
    Alibaba,
    Ceph,
    DigitalOcean,
    #[serde(rename = "IBMCOS")]
    IbmCos,
    Wasabi,
    Dreamhost,
    Netease,
    Other,
}

impl S3Provider {
    const ALL: [(&'static str, Self); 10] = [
        ("AWS", Self::Aws),
        ("Minio", Self::Minio),
        ("Alibaba", Self::Alibaba),
        ("Ceph", Self::Ceph),
        ("DigitalOcean", Self::DigitalOcean),
        ("IBMCOS", Self::IbmCos),
        ("Wasabi", Self::Wasabi),
        ("Dreamhost", Self::Dreamhost),
        ("Netease", Self::Netease),
        ("Other", Self::Other),
    ];

    fn parse(text: &str) -> Result<Self, ConfigProblem> {
        let known = Self::ALL.iter().find(|(name, _)| *name == text);
        known.map(|(_, provider)| *provider).ok_or_else(|| {
            let names: Vec<&str> = Self::ALL.iter().map(|(name, _)| *name).collect();
            ConfigProblem::new("s3.provider", text, format!("expected one of {}", names.join(", ")))
        })
    }

    /// Buckets are addressed by host name there, whatever `force_path_style` says.
    fn refuses_path_style(self) -> bool {
        matches!(self, Self::Aws | Self::Alibaba | Self::Netease)
    }
}

/// When the payload's own SHA-256 is part of the signature (design, transfer engine).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SignPayload {
    /// Over plain http only.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// Settings of the provider `s3`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct S3Config {
    /// Brand.
    pub provider: S3Provider,
    /// Look for credentials in environment, profile, web identity, container and machine metadata.
    pub env_auth: bool,
    /// Static key ID; empty for none. One of key and secret alone is refused at the first use.
    pub access_key_id: Secret,
    /// Static secret.
    pub secret_access_key: Secret,
    /// Session token beside the static keys.
    pub session_token: Secret,
    /// Credentials file instead of the usual one.
    pub shared_credentials_file: Option<PathBuf>,
    /// Profile instead of the usual one.
    pub profile: Option<String>,
    /// Region; `None` until start-up has asked the machine's metadata, then `us-east-1` counts.
    pub region: Option<String>,
    /// Base URL with its scheme; `None` for AWS itself.
    pub endpoint: Option<String>,
    /// Bucket in the path rather than in the host name.
    pub force_path_style: bool,
    /// Legacy signature.
    pub v2_auth: bool,
    /// AWS transfer acceleration.
    pub use_accelerate_endpoint: bool,
    /// The requester pays.
    pub requester_pays: bool,
    /// Speak HTTP/1.1 only; our client does so in any case.
    pub disable_http2: bool,
    /// Leave the parts of a failed upload in the bucket.
    pub leave_parts_on_error: bool,
    /// No HEAD after an upload.
    pub no_head: bool,
    /// Never create or probe the bucket.
    pub no_check_bucket: bool,
    /// Where a bucket would be created.
    pub location_constraint: Option<String>,
    /// Canned ACL of new objects; the original sends `private` when unset.
    pub acl: Option<String>,
    /// Canned ACL of a new bucket.
    pub bucket_acl: Option<String>,
    /// `AES256`, `aws:kms`.
    pub server_side_encryption: Option<String>,
    /// Key ARN for `aws:kms`.
    pub sse_kms_key_id: Option<String>,
    /// SSE-C algorithm.
    pub sse_customer_algorithm: Option<String>,
    /// SSE-C key.
    pub sse_customer_key: Secret,
    /// SSE-C key's MD5 in base64; derived when unset.
    pub sse_customer_key_md5: Option<String>,
    /// Class of new objects.
    pub storage_class: Option<String>,
    /// Bytes from which a file is sent in parts.
    pub upload_cutoff: u64,
    /// Bytes of a part.
    pub chunk_size: u64,
    /// Parts of one upload at most.
    pub max_upload_parts: u32,
    /// Parts in flight per file.
    pub upload_concurrency: u32,
    /// Bytes from which a server-side copy goes in parts.
    pub copy_cutoff: u64,
    /// Do not store a whole-file MD5 beside multipart objects.
    pub disable_checksum: bool,
    /// Objects per page of a listing.
    pub list_chunk: u32,
    /// Authority (PEM) for the store's certificate, beside the public ones.
    pub ca_file: Option<PathBuf>,
    /// When to sign the payload.
    pub sign_payload: SignPayload,
}

impl Default for S3Config {
    fn default() -> Self {
        Self {
            provider: S3Provider::Aws,
            env_auth: true,
            access_key_id: Secret::default(),
            secret_access_key: Secret::default(),
            session_token: Secret::default(),
            shared_credentials_file: None,
            profile: None,
            region: None,
            endpoint: None,
            force_path_style: false,
            v2_auth: false,
            use_accelerate_endpoint: false,
            requester_pays: false,
            disable_http2: false,
            leave_parts_on_error: false,
            no_head: false,
            no_check_bucket: true,
            location_constraint: None,
            acl: None,
            bucket_acl: None,
            server_side_encryption: None,
            sse_kms_key_id: None,
            sse_customer_algorithm: None,
            sse_customer_key: Secret::default(),
            sse_customer_key_md5: None,
            storage_class: None,
            upload_cutoff: 200 * MIB,
            chunk_size: 50 * MIB,
            max_upload_parts: 10_000,
            upload_concurrency: 2,
            copy_cutoff: 4768 * MIB,
            disable_checksum: true,
            list_chunk: 1000,
            ca_file: None,
            sign_payload: SignPayload::Auto,
        }
    }
}

impl S3Config {
    /// The region that requests are signed for.
    pub fn effective_region(&self) -> &str {
        self.region.as_deref().unwrap_or("us-east-1")
    }

    pub(super) fn from_file(file: S3File) -> Result<Self, ConfigProblem> {
        let defaults = Self::default();
        let endpoint = endpoint(&file.endpoint.0)?;
        if file.provider.0.is_empty() && endpoint.is_some() {
            return Err(ConfigProblem::new(
                "s3.provider",
                "",
                "an endpoint needs a provider; try Other".into(),
            ));
        }
        let provider =
            if file.provider.0.is_empty() { S3Provider::Aws } else { S3Provider::parse(&file.provider.0)? };
        let accelerate = boolean("s3.use_accelerate_endpoint", &file.use_accelerate_endpoint.0, false)?;
        let path_style = boolean("s3.force_path_style", &file.force_path_style.0, true)?;
        let config = Self {
            provider,
            env_auth: boolean("s3.env_auth", &file.env_auth.0, false)?,
            access_key_id: file.access_key_id,
            secret_access_key: file.secret_access_key,
            session_token: file.session_token,
            shared_credentials_file: optional_path(file.shared_credentials_file.0),
            profile: optional(file.profile.0),
            region: optional(file.region.0),
            endpoint,
            force_path_style: path_style && !provider.refuses_path_style() && !accelerate,
            v2_auth: boolean("s3.v2_auth", &file.v2_auth.0, false)?,
            use_accelerate_endpoint: accelerate,
            requester_pays: boolean("s3.requester_pays", &file.requester_pays.0, false)?,
            disable_http2: boolean("s3.disable_http2", &file.disable_http2.0, false)?,
            leave_parts_on_error: boolean("s3.leave_parts_on_error", &file.leave_parts_on_error.0, false)?,
            no_head: boolean("s3.no_head", &file.no_head.0, false)?,
            no_check_bucket: boolean("s3.no_check_bucket", &file.no_check_bucket.0, false)?,
            location_constraint: optional(file.location_constraint.0),
            acl: optional(file.acl.0),
            bucket_acl: optional(file.bucket_acl.0),
            server_side_encryption: optional(file.server_side_encryption.0),
            sse_kms_key_id: optional(file.sse_kms_key_id.0),
            sse_customer_algorithm: optional(file.sse_customer_algorithm.0),
            sse_customer_key: file.sse_customer_key,
            sse_customer_key_md5: optional(file.sse_customer_key_md5.0),
            storage_class: optional(file.storage_class.0),
            upload_cutoff: size("s3.upload_cutoff", &file.upload_cutoff.0, defaults.upload_cutoff)?,
            chunk_size: size("s3.chunk_size", &file.chunk_size.0, defaults.chunk_size)?,
            max_upload_parts: number(
                "s3.max_upload_parts",
                &file.max_upload_parts.0,
                defaults.max_upload_parts,
            )?,
            upload_concurrency: number("s3.upload_concurrency", &file.upload_concurrency.0, 4)?,
            copy_cutoff: size("s3.copy_cutoff", &file.copy_cutoff.0, defaults.copy_cutoff)?,
            disable_checksum: boolean("s3.disable_checksum", &file.disable_checksum.0, false)?,
            list_chunk: number("s3.list_chunk", &file.list_chunk.0, defaults.list_chunk)?,
            ca_file: optional_path(file.ca_file.0),
            sign_payload: sign_payload(&file.sign_payload.0)?,
        };
        config.check()
    }

    fn check(self) -> Result<Self, ConfigProblem> {
        if !(MIN_CHUNK..=MAX_CHUNK).contains(&self.chunk_size) {
            let text = self.chunk_size.to_string();
            return Err(ConfigProblem::new("s3.chunk_size", &text, "expected 5M to 5G".into()));
        }
        for (key, value) in [
            ("s3.max_upload_parts", self.max_upload_parts),
            ("s3.upload_concurrency", self.upload_concurrency),
            ("s3.list_chunk", self.list_chunk),
        ] {
            if value == 0 {
                return Err(ConfigProblem::new(key, "0", "expected at least 1".into()));
            }
        }
        if self.v2_auth {
            let hint = "the legacy signature is not supported; remove the key to use version 4";
            return Err(ConfigProblem::new("s3.v2_auth", "true", hint.into()));
        }
        Ok(self)
    }
}

/// A base URL; the scheme may be left out and is https then.
fn endpoint(text: &str) -> Result<Option<String>, ConfigProblem> {
    if text.is_empty() {
        return Ok(None);
    }
    let url = if text.contains("://") { text.to_owned() } else { format!("https://{text}") };
    if let Some((_, host)) = text.rsplit_once('@') {
        let hint =
            "user and password do not belong in the URL; set s3.access_key_id and s3.secret_access_key";
        return Err(ConfigProblem::new("s3.endpoint", &format!("***@{host}"), hint.into()));
    }
    let parsed = url.parse::<http::Uri>();
    let good = parsed.is_ok_and(|u| matches!(u.scheme_str(), Some("http" | "https")) && u.host().is_some());
    if good {
        return Ok(Some(url.trim_end_matches('/').to_owned()));
    }
    Err(ConfigProblem::new("s3.endpoint", text, "expected a URL such as https://s3.example.com:9000".into()))
}

fn sign_payload(text: &str) -> Result<SignPayload, ConfigProblem> {
    match text {
        "" | "auto" => Ok(SignPayload::Auto),
        "always" => Ok(SignPayload::Always),
        "never" => Ok(SignPayload::Never),
        other => Err(ConfigProblem::new("s3.sign_payload", other, "expected auto, always or never".into())),
    }
}
