//! What the sender claims about a body, and whether it is true.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use futures::TryStreamExt;
use http::HeaderMap;
use md5::{Digest, Md5};
use s3s::checksum::ChecksumHasher;
use s3s::crypto::{Checksum as _, Crc32, Crc32c, Crc64Nvme, Sha1, Sha256};
use s3s::dto::{Checksum, ChecksumAlgorithm, StreamingBlob};
use s3s::{S3Result, TrailingHeaders, s3_error};

use super::blob::{Blob, BlobWriter, Storage};

/// Largest single PUT or part, bytes (AWS: 5 GiB).
const MAX_BODY: u64 = 5 * 1024 * 1024 * 1024;

/// Digests that the sender put into headers or will put into trailers.
#[derive(Default)]
pub(super) struct Claims {
    pub(super) length: Option<i64>,
    pub(super) md5: Option<String>,
    pub(super) checksums: Checksum,
    pub(super) trailers: Option<TrailingHeaders>,
    pub(super) trailer_names: Vec<String>,
}

/// Copies the checksum fields that half a dozen generated structures share.
macro_rules! checksums_of {
    ($input:expr) => {
        s3s::dto::Checksum {
            checksum_crc32: $input.checksum_crc32.clone(),
            checksum_crc32c: $input.checksum_crc32c.clone(),
            checksum_crc64nvme: $input.checksum_crc64nvme.clone(),
            checksum_sha1: $input.checksum_sha1.clone(),
            checksum_sha256: $input.checksum_sha256.clone(),
            checksum_type: None,
        }
    };
}
pub(super) use checksums_of;

impl Claims {
    /// Notes which checksums `x-amz-trailer` announces, so that they are computed while the body passes.
    pub(super) fn with_trailers(mut self, headers: &HeaderMap, trailers: Option<TrailingHeaders>) -> Self {
        let announced = headers.get_all("x-amz-trailer").iter().filter_map(|value| value.to_str().ok());
        self.trailer_names = announced
            .flat_map(|value| value.split(','))
            .map(|name| name.trim().to_ascii_lowercase())
            .collect();
        self.trailers = trailers;
        self
    }

    fn wants(&self, claimed: Option<&String>, trailer: &str) -> bool {
        claimed.is_some() || self.trailer_names.iter().any(|name| name == trailer)
    }

    fn hasher(&self) -> ChecksumHasher {
        let sums = &self.checksums;
        ChecksumHasher {
            crc32: self.wants(sums.checksum_crc32.as_ref(), "x-amz-checksum-crc32").then(Crc32::new),
            crc32c: self.wants(sums.checksum_crc32c.as_ref(), "x-amz-checksum-crc32c").then(Crc32c::new),
            sha1: self.wants(sums.checksum_sha1.as_ref(), "x-amz-checksum-sha1").then(Sha1::new),
            sha256: self.wants(sums.checksum_sha256.as_ref(), "x-amz-checksum-sha256").then(Sha256::new),
            crc64nvme: self
                .wants(sums.checksum_crc64nvme.as_ref(), "x-amz-checksum-crc64nvme")
                .then(Crc64Nvme::new),
        }
    }

    /// Adds the values that came as trailers; call it after the body was read.
    fn take_trailers(&mut self) {
        let Some(trailers) = self.trailers.take().and_then(|trailers| trailers.take()) else { return };
        let value = |name: &str| trailers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let sums = &mut self.checksums;
        for (field, name) in [
            (&mut sums.checksum_crc32, "x-amz-checksum-crc32"),
            (&mut sums.checksum_crc32c, "x-amz-checksum-crc32c"),
            (&mut sums.checksum_crc64nvme, "x-amz-checksum-crc64nvme"),
            (&mut sums.checksum_sha1, "x-amz-checksum-sha1"),
            (&mut sums.checksum_sha256, "x-amz-checksum-sha256"),
        ] {
            if let Some(sent) = value(name) {
                *field = Some(sent);
            }
        }
    }

    fn verify(&self, computed: &Checksum, md5: [u8; 16]) -> S3Result<()> {
        if let Some(claimed) = &self.md5 {
            let claimed = BASE64.decode(claimed).ok().filter(|bytes| bytes.len() == 16);
            let claimed = claimed
                .ok_or_else(|| s3_error!(InvalidDigest, "The Content-MD5 you specified was invalid."))?;
            if claimed != md5 {
                return Err(s3_error!(
                    BadDigest,
                    "The Content-MD5 you specified did not match what we received."
                ));
            }
        }
        let sums = &self.checksums;
        for (name, claimed, computed) in [
            ("CRC32", &sums.checksum_crc32, &computed.checksum_crc32),
            ("CRC32C", &sums.checksum_crc32c, &computed.checksum_crc32c),
            ("CRC64NVME", &sums.checksum_crc64nvme, &computed.checksum_crc64nvme),
            ("SHA1", &sums.checksum_sha1, &computed.checksum_sha1),
            ("SHA256", &sums.checksum_sha256, &computed.checksum_sha256),
        ] {
            if claimed.is_some() && claimed != computed {
                return Err(s3_error!(
                    BadDigest,
                    "The {name} you specified did not match the calculated checksum."
                ));
            }
        }
        Ok(())
    }
}

/// A body that arrived whole and is what the sender said it is.
pub(super) struct Received {
    pub(super) blob: Blob,
    pub(super) md5: [u8; 16],
    pub(super) checksums: Checksum,
}

/// Reads a body to its end and checks it against its length and every digest sent with it.
pub(super) async fn receive(
    body: Option<StreamingBlob>,
    mut claims: Claims,
    storage: &Storage,
    hash_md5: bool,
) -> S3Result<Received> {
    let expected = claims.length.and_then(|length| u64::try_from(length).ok());
    if expected.is_some_and(|length| length > MAX_BODY) {
        return Err(s3_error!(EntityTooLarge, "Your proposed upload exceeds the maximum allowed size."));
    }
    let mut writer =
        BlobWriter::open(storage, expected.unwrap_or(0)).await.map_err(|e| s3_error!(e, InternalError))?;
    let mut md5 = (hash_md5 || claims.md5.is_some()).then(Md5::new);
    let mut hasher = claims.hasher();
    if let Some(mut body) = body {
        while let Some(chunk) = body.try_next().await.map_err(unreadable)? {
            if let Some(md5) = &mut md5 {
                md5.update(&chunk);
            }
            hasher.update(&chunk);
            writer.write(&chunk).await.map_err(|e| s3_error!(e, InternalError))?;
        }
    }
    let blob = writer.finish().await.map_err(|e| s3_error!(e, InternalError))?;
    if expected.is_some_and(|length| length != blob.size()) {
        return Err(s3_error!(
            IncompleteBody,
            "You did not provide the number of bytes specified by the Content-Length HTTP header"
        ));
    }
    claims.take_trailers();
    let checksums = hasher.finalize();
    let md5 = md5.map_or_else(|| opaque_digest(&blob), |md5| md5.finalize().into());
    claims.verify(&checksums, md5)?;
    Ok(Received { blob, md5, checksums })
}

fn unreadable(error: s3s::StdError) -> s3s::S3Error {
    // s3s keeps these error types to itself, so the text is all there is to tell them apart.
    let text = error.to_string();
    if text.ends_with("Sha256Mismatch") {
        let code = s3s::S3ErrorCode::Custom("XAmzContentSHA256Mismatch".into());
        let mut error = s3s::S3Error::with_message(
            code,
            "The provided 'x-amz-content-sha256' header does not match what was computed.",
        );
        error.set_status_code(http::StatusCode::BAD_REQUEST);
        error
    } else if text.ends_with("SignatureMismatch") {
        s3_error!(SignatureDoesNotMatch, "The signature of a chunk does not match its content.")
    } else {
        s3_error!(IncompleteBody, "The request body could not be read: {text}")
    }
}

/// An ETag value that is not an MD5, as with server-side encryption on AWS; cheap enough for benchmarks.
fn opaque_digest(blob: &Blob) -> [u8; 16] {
    let mut digest = [0; 16];
    digest[..4].copy_from_slice(&blob.crc32().to_be_bytes());
    digest[8..].copy_from_slice(&blob.size().to_be_bytes());
    digest
}

/// The algorithm of the first checksum present.
pub(super) fn algorithm_of(sums: &Checksum) -> Option<&'static str> {
    [
        (ChecksumAlgorithm::CRC32, &sums.checksum_crc32),
        (ChecksumAlgorithm::CRC32C, &sums.checksum_crc32c),
        (ChecksumAlgorithm::CRC64NVME, &sums.checksum_crc64nvme),
        (ChecksumAlgorithm::SHA1, &sums.checksum_sha1),
        (ChecksumAlgorithm::SHA256, &sums.checksum_sha256),
    ]
    .into_iter()
    .find_map(|(name, value)| value.as_ref().map(|_| name))
}

/// The CRC-32 of a body as `x-amz-checksum-crc32` carries it: base64 of the big-endian value.
pub(super) fn crc32_text(crc: u32) -> String {
    BASE64.encode(crc.to_be_bytes())
}

/// MD5 of bytes at rest, as lower-case hex.
pub(super) fn md5_hex(bytes: &[u8]) -> String {
    hex::encode(Md5::digest(bytes))
}
