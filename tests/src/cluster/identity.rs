//! Seeded identities: the same seed gives the same UUIDs, tokens and keys in every run.

use md5::{Digest, Md5};
use uuid::Uuid;

/// UUID derived from the cluster's seed and a name, shaped as a random (v4) one.
pub fn seeded_uuid(seed: u64, name: &str) -> Uuid {
    uuid::Builder::from_random_bytes(digest(seed, name)).into_uuid()
}

/// UUID derived likewise, shaped as the time-based (v1) one that Scylla gives to user tables.
pub fn seeded_table_id(seed: u64, name: &str) -> Uuid {
    let mut bytes = digest(seed, name);
    bytes[6] = (bytes[6] & 0x0f) | 0x10;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    Uuid::from_bytes(bytes)
}

/// UUID of a system table: the name-based (v3) UUID of keyspace and table, as on every real node.
pub fn system_table_id(keyspace: &str, table: &str) -> Uuid {
    let mut hasher = Md5::new();
    hasher.update(keyspace);
    hasher.update(table);
    uuid::Builder::from_md5_bytes(hasher.finalize().into()).into_uuid()
}

/// 64 seeded bits for `name`.
pub fn seeded_number(seed: u64, name: &str) -> u64 {
    let bytes = digest(seed, name);
    u64::from_be_bytes(bytes[..8].try_into().expect("sixteen bytes"))
}

fn digest(seed: u64, name: &str) -> [u8; 16] {
    let mut hasher = Md5::new();
    hasher.update(seed.to_be_bytes());
    hasher.update(name);
    hasher.finalize().into()
}

/// Token of a partition key: FNV-1a, stirred so that neighbours spread over the ring.
pub fn token_of(key: &[u8]) -> i64 {
    let hash = key.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    let hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    // The smallest token is reserved, as in Murmur3Partitioner.
    ((hash ^ (hash >> 31)) as i64).max(i64::MIN + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn system_tables_have_the_ids_of_real_nodes() {
        let hex = |ks, t| system_table_id(ks, t).simple().to_string();
        assert_eq!(hex("system", "local"), "7ad54392bcdd35a684174e047860b377");
        assert_eq!(hex("system_schema", "tables"), "afddfb9dbc1e30688056eed6c302ba09");
    }

    #[test]
    fn seeds_differ_and_repeat() {
        assert_eq!(seeded_uuid(1, "a"), seeded_uuid(1, "a"));
        assert_ne!(seeded_uuid(1, "a"), seeded_uuid(2, "a"));
        assert_eq!(seeded_uuid(1, "a").get_version_num(), 4);
        assert_eq!(seeded_table_id(1, "a").get_version_num(), 1);
    }
}
