//! The SSTable's own checksum: `*-Digest.crc32` holds the CRC-32 of `*-Data.db` as decimal text (design 3.3).

use futures::TryStreamExt as _;

use crate::storage::Place;

/// Longest text that is read; ten digits and a line end are enough.
const MAX_DIGEST: u64 = 64;

const DATA: &str = "-Data.db";
const DIGEST: &str = "-Digest.crc32";

/// Name of the digest of a `Data.db`; `None` for other files.
pub(super) fn digest_of(name: &str) -> Option<String> {
    name.strip_suffix(DATA).map(|stem| format!("{stem}{DIGEST}"))
}

/// Reads a digest file. `None`, with a warning, when it cannot be read or holds something else: a check that cannot
/// be made must not stop a backup.
pub(super) async fn read(place: &Place) -> Option<u32> {
    let text = async {
        let reader = place.store.open(&place.path, None).await?;
        if reader.length > MAX_DIGEST {
            return Ok(Vec::new());
        }
        let parts: Vec<_> = reader.bytes.try_collect().await?;
        Ok::<_, crate::storage::StorageError>(parts.concat())
    };
    let parsed = match text.await {
        Ok(text) => parse(&text),
        Err(error) if error.is_not_found() => return None,
        Err(error) => {
            tracing::warn!(digest = %place, error = %common::error::chain(&error), "cannot read the digest of an SSTable");
            return None;
        }
    };
    if parsed.is_none() {
        tracing::warn!(digest = %place, "the digest of an SSTable is not a number");
    }
    parsed
}

fn parse(text: &[u8]) -> Option<u32> {
    std::str::from_utf8(text).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_data_has_a_digest() {
        assert_eq!(digest_of("me-3-big-Data.db").as_deref(), Some("me-3-big-Digest.crc32"));
        assert_eq!(digest_of("me-3-big-Index.db"), None);
    }

    #[test]
    fn digests_are_decimal() {
        for (text, value) in [
            ("2143211963", Some(2_143_211_963)),
            ("0\n", Some(0)),
            ("", None),
            ("4294967296", None),
            ("x", None),
        ] {
            assert_eq!(parse(text.as_bytes()), value, "{text:?}");
        }
    }
}
