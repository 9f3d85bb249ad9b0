//! What a job reported about the files it uploaded, packed for the store until the manifests are published.

use std::collections::HashMap;
use std::io::Read;

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use serde::{Deserialize, Serialize};

use super::error::BackupError;

/// One uploaded file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Uploaded {
    /// Name.
    pub name: String,
    /// CRC-32 of the bytes that were sent; `None` when the location had them already.
    pub crc32: Option<u32>,
    /// The bytes differ from the SSTable's own digest.
    pub mismatch: bool,
}

/// Packs a list.
///
/// # Errors
/// None that is expected: the target is memory.
pub fn pack(files: &[Uploaded]) -> Result<Vec<u8>, BackupError> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    serde_json::to_writer(&mut gzip, files).map_err(|e| BackupError::other(e.to_string()))?;
    gzip.finish().map_err(|e| BackupError::other(e.to_string()))
}

/// Unpacks a list by name; no bytes are an empty list.
///
/// # Errors
/// The stored bytes are damaged.
pub fn unpack(packed: &[u8]) -> Result<HashMap<String, Uploaded>, BackupError> {
    if packed.is_empty() {
        return Ok(HashMap::new());
    }
    let damaged =
        |e: &dyn std::fmt::Display| BackupError::other(format!("stored checksums are damaged: {e}"));
    let mut text = Vec::new();
    GzDecoder::new(packed).read_to_end(&mut text).map_err(|e| damaged(&e))?;
    let files: Vec<Uploaded> = serde_json::from_slice(&text).map_err(|e| damaged(&e))?;
    Ok(files.into_iter().map(|file| (file.name.clone(), file)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_round_trip_and_damage_is_told() {
        let file = Uploaded { name: "me-1-big-Data.db".into(), crc32: Some(u32::MAX), mismatch: true };
        let packed = pack(std::slice::from_ref(&file)).unwrap();
        assert_eq!(unpack(&packed).unwrap()[&file.name], file);
        assert!(unpack(&[]).unwrap().is_empty());
        assert!(unpack(&packed[..5]).unwrap_err().to_string().contains("damaged"));
    }
}
