//! The schema grows by numbered SQL files, forward only; `PRAGMA user_version` says how far a file is.

use std::path::Path;

use rusqlite::{Connection, TransactionBehavior};

use super::StoreError;

/// In order; a released file is never changed.
const MIGRATIONS: &[&str] = &[include_str!("migrations/001_initial.sql")];

/// Applies what is missing, each migration in a transaction of its own.
pub(super) fn run(connection: &mut Connection, path: &Path) -> Result<(), StoreError> {
    let opened = |source| StoreError::Open { path: path.to_owned(), source };
    let found: u32 = connection.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(opened)?;
    let known = u32::try_from(MIGRATIONS.len()).unwrap_or(u32::MAX);
    if found > known {
        return Err(StoreError::Newer { path: path.to_owned(), found, known });
    }
    for (version, sql) in (1..).zip(MIGRATIONS).skip(found as usize) {
        apply(connection, version, sql).map_err(|source| StoreError::Migrate { version, source })?;
        tracing::info!(version, "Database schema brought up to date");
    }
    Ok(())
}

fn apply(connection: &mut Connection, version: u32, sql: &str) -> rusqlite::Result<()> {
    let tx = connection.transaction_with_behavior(TransactionBehavior::Exclusive)?;
    tx.execute_batch(sql)?;
    tx.pragma_update(None, "user_version", version)?;
    tx.commit()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn migrations_run_once_and_a_newer_file_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m.db");
        let mut connection = Connection::open(&path).unwrap();
        run(&mut connection, &path).unwrap();
        run(&mut connection, &path).unwrap();
        let version: u32 = connection.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
        assert_eq!(version as usize, MIGRATIONS.len());

        connection.pragma_update(None, "user_version", 999).unwrap();
        let text = run(&mut connection, &path).unwrap_err().to_string();
        assert!(text.contains("schema version 999") && text.contains("run the newer release"), "{text}");
    }

    #[test]
    fn every_table_is_strict() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m.db");
        let mut connection = Connection::open(&path).unwrap();
        run(&mut connection, &path).unwrap();
        let lax: i64 = connection
            .query_row(
                "SELECT count(*) FROM pragma_table_list WHERE schema = 'main' AND strict = 0 AND name NOT LIKE 'sqlite%'",
                [],
                |row| row.get(0),
            )
            .unwrap();
        assert_eq!(lax, 0);
    }
}
