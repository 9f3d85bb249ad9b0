//! A manifest's body, as much of it as the checks need.

use std::io::Read;

use flate2::read::GzDecoder;
use serde::{Deserialize, Deserializer};

#[derive(Debug, Deserialize)]
pub(super) struct Manifest {
    #[serde(default)]
    pub(super) schema: String,
    #[serde(default)]
    pub(super) size: u64,
    #[serde(default, deserialize_with = "null_is_empty")]
    pub(super) index: Vec<Entry>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Entry {
    pub(super) keyspace: String,
    pub(super) table: String,
    pub(super) version: String,
    #[serde(default, deserialize_with = "null_is_empty")]
    pub(super) files: Vec<String>,
    #[serde(default)]
    pub(super) size: u64,
    #[serde(default, deserialize_with = "null_is_empty")]
    pub(super) scylla_manifests: Vec<String>,
    #[serde(default, deserialize_with = "null_is_empty")]
    pub(super) file_sizes: Vec<u64>,
    #[serde(default, deserialize_with = "null_is_empty")]
    pub(super) file_crc32: Vec<Option<u32>>,
}

fn null_is_empty<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Vec<T>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

impl Manifest {
    pub(super) fn read(packed: &[u8]) -> anyhow::Result<Self> {
        let mut text = String::new();
        GzDecoder::new(packed).read_to_string(&mut text)?;
        Ok(serde_json::from_str(&text)?)
    }
}
