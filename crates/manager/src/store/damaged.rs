//! Objects whose bytes are known to be wrong (design 3.8).

use chrono::{DateTime, Utc};
use common::location::Location;

use super::{Store, StoreError, millis};

impl Store {
    /// Remembers a damaged object; `crc32` is what its bytes should have, where known.
    ///
    /// # Errors
    /// The database failed.
    pub async fn put_damaged(
        &self,
        location: &Location,
        key: &str,
        crc32: Option<u32>,
        found_at: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        let (location, key) = (location.bucket_key(), key.to_owned());
        self.write(move |tx| {
            tx.execute(
                "INSERT INTO damaged_object (location, key, crc32, found_at) VALUES (?1, ?2, ?3, ?4) \
                 ON CONFLICT (location, key) DO UPDATE SET crc32 = coalesce(?3, crc32), found_at = ?4",
                (location, key, crc32, millis(found_at)),
            )?;
            Ok(())
        })
        .await
    }

    /// Damaged objects below a directory of a location: file name and the CRC-32 it should have.
    ///
    /// # Errors
    /// The database failed.
    pub async fn damaged_in(
        &self,
        location: &Location,
        dir: &str,
    ) -> Result<Vec<(String, Option<u32>)>, StoreError> {
        let (location, prefix) = (location.bucket_key(), format!("{dir}/"));
        self.read(move |c| {
            // A range on the key: all texts that begin with the prefix. Keys are far below U+10FFFF.
            let mut statement = c.prepare(
                "SELECT substr(key, length(?2) + 1), crc32 FROM damaged_object \
                 WHERE location = ?1 AND key > ?2 AND key < ?2 || char(1114111)",
            )?;
            let rows = statement.query_map((location, prefix), |row| Ok((row.get(0)?, row.get(1)?)))?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
        .await
    }

    /// Forgets damaged objects of a directory that were replaced.
    ///
    /// # Errors
    /// The database failed.
    pub async fn mend(&self, location: &Location, dir: &str, names: &[String]) -> Result<(), StoreError> {
        let location = location.bucket_key();
        let keys: Vec<String> = names.iter().map(|name| format!("{dir}/{name}")).collect();
        self.write(move |tx| {
            for key in keys {
                tx.execute("DELETE FROM damaged_object WHERE location = ?1 AND key = ?2", (&location, key))?;
            }
            Ok(())
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::tests::scratch;

    #[tokio::test]
    async fn damage_is_remembered_until_it_is_mended() {
        let (_dir, store) = scratch().await;
        let location: Location = "dc1:s3:b".parse().unwrap();
        let now = DateTime::from_timestamp(1, 0).unwrap();
        for (key, crc) in [("a/x", Some(7)), ("a/y", None), ("ab/z", None)] {
            store.put_damaged(&location, key, crc, now).await.unwrap();
        }
        let bare = location.without_dc();
        let found = store.damaged_in(&bare, "a").await.unwrap();
        assert_eq!(found, [("x".to_owned(), Some(7)), ("y".to_owned(), None)]);
        store.mend(&bare, "a", &["x".to_owned()]).await.unwrap();
        assert_eq!(store.damaged_in(&bare, "a").await.unwrap(), [("y".to_owned(), None)]);
    }
}
