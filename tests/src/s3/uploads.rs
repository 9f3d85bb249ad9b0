//! Multipart uploads: what is kept while one is open, and the rules for completing it.

use std::collections::BTreeMap;
use std::time::SystemTime;

use md5::{Digest, Md5};
use s3s::dto::{Checksum, ChecksumType, CompletedPart};
use s3s::{S3Result, s3_error};

use super::blob::Blob;
use super::checksum::{algorithm_of, crc32_text};
use super::store::Attributes;

/// Smallest part that is not the last one, bytes (AWS: 5 MiB).
pub const MIN_PART: u64 = 5 * 1024 * 1024;
/// Highest part number (AWS).
pub const MAX_PART_NUMBER: i32 = 10_000;

/// An upload between create and complete or abort.
#[derive(Debug)]
pub(super) struct Upload {
    pub(super) initiated: SystemTime,
    /// Checksum algorithm named at creation; parts must carry the same, or none.
    pub(super) algorithm: Option<String>,
    pub(super) checksum_type: Option<String>,
    pub(super) attributes: Attributes,
    pub(super) parts: BTreeMap<i32, UploadedPart>,
}

#[derive(Clone, Debug)]
pub(super) struct UploadedPart {
    pub(super) blob: Blob,
    pub(super) md5: [u8; 16],
    pub(super) checksums: Checksum,
    pub(super) modified: SystemTime,
}

impl UploadedPart {
    pub(super) fn etag(&self) -> String {
        hex::encode(self.md5)
    }
}

/// A finished body with the ETag and checksum of the whole.
#[derive(Debug)]
pub(super) struct Assembled {
    pub(super) blob: Blob,
    pub(super) etag: String,
    pub(super) checksums: Checksum,
}

impl Upload {
    /// Refuses a part whose checksum algorithm is not the one of the upload.
    pub(super) fn check_algorithm(&self, part: &Checksum) -> S3Result<()> {
        let sent = algorithm_of(part);
        if sent == self.algorithm.as_deref() {
            return Ok(());
        }
        let name = |algorithm: Option<&str>| algorithm.map_or_else(|| "null".to_owned(), str::to_lowercase);
        let (expected, actual) = (name(self.algorithm.as_deref()), name(sent));
        Err(s3_error!(
            InvalidRequest,
            "Checksum Type mismatch occurred, expected checksum Type: {expected}, actual checksum Type: {actual}"
        ))
    }

    /// Checks the list of parts as AWS does and joins them.
    pub(super) fn assemble(&self, listed: &[CompletedPart]) -> S3Result<Assembled> {
        if listed.is_empty() {
            return Err(s3_error!(MalformedXML, "You must specify at least one part"));
        }
        let mut parts = Vec::with_capacity(listed.len());
        let mut last_number = 0;
        for part in listed {
            let number = part.part_number.unwrap_or(0);
            if number <= last_number {
                return Err(s3_error!(
                    InvalidPartOrder,
                    "The list of parts was not in ascending order. Parts must be ordered by part number."
                ));
            }
            last_number = number;
            parts.push(self.listed_part(number, part)?);
        }
        if let Some(small) = parts.iter().rev().skip(1).find(|part| part.blob.size() < MIN_PART) {
            return Err(s3_error!(
                EntityTooSmall,
                "Your proposed upload is smaller than the minimum allowed size: a part has {} bytes",
                small.blob.size()
            ));
        }
        let blob = Blob::join(parts.iter().map(|part| &part.blob));
        let mut md5 = Md5::new();
        parts.iter().for_each(|part| md5.update(part.md5));
        let etag = format!("{}-{}", hex::encode(md5.finalize()), parts.len());
        let checksums = self.whole_checksum(&blob, &parts);
        Ok(Assembled { blob, etag, checksums })
    }

    fn listed_part(&self, number: i32, listed: &CompletedPart) -> S3Result<&UploadedPart> {
        let invalid = || {
            s3_error!(
                InvalidPart,
                "One or more of the specified parts could not be found. The part may not have been uploaded, or the specified entity tag may not match the part's entity tag."
            )
        };
        let part = self.parts.get(&number).ok_or_else(invalid)?;
        if listed.e_tag.as_ref().is_none_or(|etag| etag.value() != part.etag()) {
            return Err(invalid());
        }
        let claimed = super::checksum::checksums_of!(listed);
        let differs = algorithm_of(&claimed).is_some() && claimed != part.checksums;
        let missing = self.algorithm.is_some() && algorithm_of(&claimed).is_none() && !self.is_full_object();
        if differs || missing { Err(invalid()) } else { Ok(part) }
    }

    fn is_full_object(&self) -> bool {
        self.checksum_type.as_deref() == Some(ChecksumType::FULL_OBJECT)
    }

    /// CRC-32 over the object, or over the parts' values with their number (`COMPOSITE`). Other algorithms are not
    /// answered for multipart objects.
    fn whole_checksum(&self, blob: &Blob, parts: &[&UploadedPart]) -> Checksum {
        if self.algorithm.as_deref() != Some("CRC32") {
            return Checksum::default();
        }
        let (text, kind) = if self.is_full_object() {
            (crc32_text(blob.crc32()), ChecksumType::FULL_OBJECT)
        } else {
            let mut crc = crc32fast::Hasher::new();
            parts.iter().for_each(|part| crc.update(&part.blob.crc32().to_be_bytes()));
            (format!("{}-{}", crc32_text(crc.finalize()), parts.len()), ChecksumType::COMPOSITE)
        };
        Checksum {
            checksum_crc32: Some(text),
            checksum_type: Some(ChecksumType::from_static(kind)),
            ..Checksum::default()
        }
    }
}
