//! Checksums as S3 writes them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// A CRC-32 as S3 writes it: base64 of the big-endian bytes.
pub(super) fn crc32_text(crc32: u32) -> String {
    STANDARD.encode(crc32.to_be_bytes())
}

/// Reads what [`crc32_text`] writes. The checksum of checksums of an object in parts has a suffix and is refused.
pub(super) fn parse_crc32(text: &str) -> Option<u32> {
    let bytes = STANDARD.decode(text).ok()?;
    Some(u32::from_be_bytes(bytes.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_written_as_s3_does() {
        assert_eq!(crc32_text(crc32fast::hash(b"hello")), "NhCmhg==");
        assert_eq!(parse_crc32("NhCmhg=="), Some(0x3610_a686));
        assert_eq!(parse_crc32("NhCmhg==-3"), None);
    }
}
