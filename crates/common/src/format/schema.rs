//! The replayable CQL schema file (spec backup-format.md 2.2).

use std::io::{Read, Write};

use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;

use crate::api::manager::SchemaRow;

/// Largest schema file that is read, unpacked: far above real ones, far below a memory problem.
const MAX_BYTES: u64 = 256 * 1024 * 1024;

/// A schema file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SchemaFileError {
    /// The bytes did not arrive or do not unpack.
    #[error("schema file cannot be read")]
    Read(#[source] std::io::Error),
    /// The text is not what it should be.
    #[error("schema file is not a JSON array of schema rows")]
    Decode(#[source] serde_json::Error),
}

/// Packs the rows, which must be in the order in which Scylla described them.
///
/// # Errors
/// None that is expected: the target is memory.
pub fn encode(rows: &[SchemaRow]) -> Result<Vec<u8>, SchemaFileError> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    serde_json::to_writer(&mut gzip, rows).map_err(SchemaFileError::Decode)?;
    gzip.flush().and_then(|()| gzip.finish()).map_err(SchemaFileError::Read)
}

/// Unpacks a schema file; a file that unpacks to more than 256 MiB is refused as damaged.
///
/// # Errors
/// The bytes are not gzip, not JSON, or not rows.
pub fn decode(bytes: impl Read) -> Result<Vec<SchemaRow>, SchemaFileError> {
    let mut text = Vec::new();
    MultiGzDecoder::new(bytes).take(MAX_BYTES).read_to_end(&mut text).map_err(SchemaFileError::Read)?;
    let rows: Option<Vec<SchemaRow>> = serde_json::from_slice(&text).map_err(SchemaFileError::Decode)?;
    Ok(rows.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_keep_their_order() {
        let rows: Vec<SchemaRow> = ["b", "a", "c"]
            .iter()
            .map(|name| SchemaRow {
                keyspace: "ks".into(),
                kind: "table".into(),
                name: (*name).into(),
                cql_stmt: "CREATE TABLE ks.b (a int PRIMARY KEY);\nALTER TABLE ks.b DROP x;".into(),
            })
            .collect();
        assert_eq!(decode(&*encode(&rows).unwrap()).unwrap(), rows);
    }

    #[test]
    fn damaged_files_are_errors() {
        let good = encode(&[SchemaRow::default()]).unwrap();
        assert!(matches!(decode(&good[..good.len() / 2]), Err(SchemaFileError::Read(_))));
        assert!(matches!(decode(&b"no gzip"[..]), Err(SchemaFileError::Read(_))));
        let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
        gzip.write_all(b"{\"a\":1}").unwrap();
        assert!(matches!(decode(&*gzip.finish().unwrap()), Err(SchemaFileError::Decode(_))));
    }
}
