//! Runs and their progress are kept for 180 days; clusters, tasks and secrets for ever (manager.md 1.5).

use chrono::{DateTime, Duration, Utc};

use super::{Store, StoreError, millis};

/// Age at which rows of runs go.
pub const RUN_LIFETIME: Duration = Duration::days(180);

impl Store {
    /// Deletes rows of runs that began longer than [`RUN_LIFETIME`] ago; returns how many.
    ///
    /// # Errors
    /// The database failed; nothing is deleted.
    pub async fn delete_expired_runs(&self, now: DateTime<Utc>) -> Result<usize, StoreError> {
        let limit = millis(now - RUN_LIFETIME);
        self.write(move |tx| {
            let mut deleted = 0;
            // Progress rows of backups and restores go with their run.
            for sql in [
                "DELETE FROM scheduler_task_run WHERE start_time < ?1 AND end_time IS NOT NULL",
                "DELETE FROM backup_run WHERE start_time < ?1",
                "DELETE FROM restore_run WHERE start_time < ?1",
                "DELETE FROM validate_backup_run_progress WHERE started_at < ?1",
            ] {
                deleted += tx.execute(sql, [limit])?;
            }
            Ok(deleted)
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::tests::scratch;

    #[tokio::test]
    async fn old_runs_go_with_their_progress_and_young_ones_stay() {
        let (_dir, store) = scratch().await;
        let now = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        store
            .write(move |tx| {
                for (id, age) in [("old", 181), ("young", 179)] {
                    let start = millis(now - Duration::days(age));
                    tx.execute(
                        "INSERT INTO scheduler_task_run (cluster_id, type, task_id, id, status, start_time, end_time) \
                         VALUES ('c', 'backup', 't', ?1, 'DONE', ?2, ?2)",
                        (id, start),
                    )?;
                    tx.execute(
                        "INSERT INTO backup_run (cluster_id, task_id, id, start_time) VALUES ('c', 't', ?1, ?2)",
                        (id, start),
                    )?;
                    tx.execute(
                        "INSERT INTO backup_run_progress (cluster_id, task_id, run_id, host, unit, table_name) \
                         VALUES ('c', 't', ?1, 'h', 0, 'x')",
                        [id],
                    )?;
                }
                Ok(())
            })
            .await
            .unwrap();
        assert_eq!(store.delete_expired_runs(now).await.unwrap(), 2);
        let left: Vec<String> = store
            .read(|c| {
                let mut statement = c.prepare(
                    "SELECT id FROM scheduler_task_run UNION ALL SELECT id FROM backup_run \
                     UNION ALL SELECT run_id FROM backup_run_progress",
                )?;
                let ids = statement.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
                Ok(ids)
            })
            .await
            .unwrap();
        assert_eq!(left, ["young", "young", "young"]);
    }
}
