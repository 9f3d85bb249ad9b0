//! What a run did with each table: bytes, checksums, and the agent jobs that it owns.
//!
//! A job ID stays in its row until the job is known to be over, so that a job on an agent always has an owner here
//! (design 3.10).

use chrono::{DateTime, Utc};
use common::ids::ClusterId;
use rusqlite::{OptionalExtension, Row, Transaction, params};

use super::backup_runs::RunKey;
use super::{Store, StoreError, get_id, get_json, get_optional_time, json_text, millis};

/// What a run did with one table on one host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProgressRow {
    /// Address of the host.
    pub host: String,
    /// Index of the unit in the run.
    pub unit: usize,
    /// Table.
    pub table: String,
    /// Job on the agent that is not known to be over.
    pub job: Option<u64>,
    /// When its upload began.
    pub started_at: Option<DateTime<Utc>>,
    /// When all its files were in the location.
    pub completed_at: Option<DateTime<Utc>>,
    /// Why it failed.
    pub error: String,
    /// Bytes in the snapshot.
    pub size: u64,
    /// Bytes sent.
    pub uploaded: u64,
    /// Bytes that the location had.
    pub skipped: u64,
    /// Bytes that must be sent again.
    pub failed: u64,
    /// Files in the snapshot.
    pub files_count: u64,
    /// Files that the location had.
    pub files_skipped_count: u64,
    /// `Data.db` files whose bytes differ from their own digest.
    pub damaged: Vec<String>,
}

/// A job on an agent that a run owns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenJob {
    /// The run.
    pub key: RunKey,
    /// Address of the agent.
    pub host: String,
    /// The job.
    pub job: u64,
}

pub(super) fn int(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

fn count(row: &Row<'_>, column: &str) -> Result<u64, StoreError> {
    Ok(u64::try_from(row.get::<_, i64>(column)?).unwrap_or(0))
}

impl ProgressRow {
    fn from_row(row: &Row<'_>) -> Result<Self, StoreError> {
        Ok(Self {
            host: row.get("host")?,
            unit: usize::try_from(row.get::<_, i64>("unit")?).unwrap_or(0),
            table: row.get("table_name")?,
            job: row.get::<_, Option<i64>>("agent_job_id")?.and_then(|id| u64::try_from(id).ok()),
            started_at: get_optional_time(row, "started_at")?,
            completed_at: get_optional_time(row, "completed_at")?,
            error: row.get("error")?,
            size: count(row, "size")?,
            uploaded: count(row, "uploaded")?,
            skipped: count(row, "skipped")?,
            failed: count(row, "failed")?,
            files_count: count(row, "files_count")?,
            files_skipped_count: count(row, "files_skipped_count")?,
            damaged: get_json(row, "damaged")?,
        })
    }
}

impl Store {
    /// Writes rows of a run; existing ones are replaced.
    ///
    /// # Errors
    /// The database failed; nothing is written.
    pub async fn put_backup_progress(&self, key: RunKey, rows: Vec<ProgressRow>) -> Result<(), StoreError> {
        if rows.is_empty() {
            return Ok(());
        }
        self.write(move |tx| rows.iter().try_for_each(|row| put_row(tx, &key, row))).await
    }

    /// Rows of a run, by host, unit and table.
    ///
    /// # Errors
    /// The database failed.
    pub async fn backup_progress(&self, key: RunKey) -> Result<Vec<ProgressRow>, StoreError> {
        self.read(move |c| {
            let mut statement = c.prepare(
                "SELECT * FROM backup_run_progress WHERE cluster_id = ?1 AND task_id = ?2 AND run_id = ?3 \
                 ORDER BY host, unit, table_name",
            )?;
            let mut rows = statement.query(key.texts())?;
            let mut found = Vec::new();
            while let Some(row) = rows.next()? {
                found.push(ProgressRow::from_row(row)?);
            }
            Ok(found)
        })
        .await
    }

    /// All jobs of the cluster's agents that are not known to be over.
    ///
    /// # Errors
    /// The database failed.
    pub async fn open_backup_jobs(&self, cluster: ClusterId) -> Result<Vec<OpenJob>, StoreError> {
        self.read(move |c| {
            let mut statement = c.prepare(
                "SELECT task_id, run_id, host, agent_job_id FROM backup_run_progress \
                 WHERE cluster_id = ?1 AND agent_job_id IS NOT NULL",
            )?;
            let mut rows = statement.query([cluster.to_string()])?;
            let mut jobs = Vec::new();
            while let Some(row) = rows.next()? {
                let key = RunKey { cluster, task: get_id(row, "task_id")?, run: get_id(row, "run_id")? };
                jobs.push(OpenJob { key, host: row.get("host")?, job: count(row, "agent_job_id")? });
            }
            Ok(jobs)
        })
        .await
    }

    /// Says that a job is over.
    ///
    /// # Errors
    /// The database failed.
    pub async fn close_backup_job(&self, job: &OpenJob) -> Result<(), StoreError> {
        let job = job.clone();
        self.write(move |tx| {
            let (cluster, task, run) = job.key.texts();
            tx.execute(
                "UPDATE backup_run_progress SET agent_job_id = NULL WHERE cluster_id = ?1 AND task_id = ?2 \
                 AND run_id = ?3 AND host = ?4 AND agent_job_id = ?5",
                params![cluster, task, run, job.host, int(job.job)],
            )?;
            Ok(())
        })
        .await
    }

    /// Writes a row together with what jobs reported about the files of its table, packed. No bytes leave what is
    /// stored.
    ///
    /// # Errors
    /// The database failed; nothing is written.
    pub async fn put_table(
        &self,
        key: RunKey,
        row: ProgressRow,
        checksums: Vec<u8>,
    ) -> Result<(), StoreError> {
        self.write(move |tx| {
            put_row(tx, &key, &row)?;
            if checksums.is_empty() {
                return Ok(());
            }
            let (cluster, task, run) = key.texts();
            tx.execute(
                "INSERT INTO backup_run_checksums (cluster_id, task_id, run_id, host, unit, table_name, files) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) \
                 ON CONFLICT (cluster_id, task_id, run_id, host, unit, table_name) DO UPDATE SET files = ?7",
                params![cluster, task, run, row.host, int(row.unit as u64), row.table, checksums],
            )?;
            Ok(())
        })
        .await
    }

    /// What [`Store::put_table`] kept; empty when there is nothing.
    ///
    /// # Errors
    /// The database failed.
    pub async fn table_checksums(
        &self,
        key: RunKey,
        host: &str,
        unit: usize,
        table: &str,
    ) -> Result<Vec<u8>, StoreError> {
        let (host, table) = (host.to_owned(), table.to_owned());
        self.read(move |c| {
            let (cluster, task, run) = key.texts();
            let sql = "SELECT files FROM backup_run_checksums WHERE cluster_id = ?1 AND task_id = ?2 \
                       AND run_id = ?3 AND host = ?4 AND unit = ?5 AND table_name = ?6";
            let parameters = params![cluster, task, run, host, int(unit as u64), table];
            Ok(c.query_row(sql, parameters, |row| row.get(0)).optional()?.unwrap_or_default())
        })
        .await
    }

    /// Drops the checksums of a run whose manifests are published.
    ///
    /// # Errors
    /// The database failed.
    pub async fn delete_checksums(&self, key: RunKey) -> Result<(), StoreError> {
        self.write(move |tx| {
            let sql =
                "DELETE FROM backup_run_checksums WHERE cluster_id = ?1 AND task_id = ?2 AND run_id = ?3";
            tx.execute(sql, key.texts())?;
            Ok(())
        })
        .await
    }
}

fn put_row(tx: &Transaction<'_>, key: &RunKey, row: &ProgressRow) -> Result<(), StoreError> {
    let (cluster, task, run) = key.texts();
    tx.prepare(
        "INSERT OR REPLACE INTO backup_run_progress (cluster_id, task_id, run_id, host, unit, table_name, \
             agent_job_id, started_at, completed_at, error, size, uploaded, skipped, failed, files_count, \
             files_skipped_count, damaged) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17)",
    )?
    .execute(params![
        cluster,
        task,
        run,
        row.host,
        int(row.unit as u64),
        row.table,
        row.job.map(int),
        row.started_at.map(millis),
        row.completed_at.map(millis),
        row.error,
        int(row.size),
        int(row.uploaded),
        int(row.skipped),
        int(row.failed),
        int(row.files_count),
        int(row.files_skipped_count),
        json_text(&row.damaged)?,
    ])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use common::ids::RunId;

    use super::super::backup_runs::BackupRun;
    use super::*;
    use crate::store::tests::scratch;

    #[tokio::test]
    async fn a_continued_run_takes_rows_checksums_and_jobs_over() {
        let (_dir, store) = scratch().await;
        let old = BackupRun::sample();
        store.put_backup_run(&old).await.unwrap();
        let row =
            ProgressRow { host: "h".into(), table: "t".into(), size: 7, job: Some(9), ..Default::default() };
        store.put_table(old.key, row.clone(), vec![1, 2]).await.unwrap();
        let start = old.start + chrono::Duration::seconds(5);
        let key = RunKey { run: RunId::at(start), ..old.key };
        let new = BackupRun { key, start, previous: Some(old.key.run), ..old.clone() };
        store.put_backup_run(&new).await.unwrap();
        assert_eq!(store.backup_progress(key).await.unwrap(), std::slice::from_ref(&row));
        assert_eq!(store.backup_progress(old.key).await.unwrap()[0].job, None);
        assert_eq!(store.table_checksums(key, "h", 0, "t").await.unwrap(), [1, 2]);
        let jobs = store.open_backup_jobs(key.cluster).await.unwrap();
        assert_eq!(jobs, [OpenJob { key, host: "h".into(), job: 9 }]);
        store.close_backup_job(&jobs[0]).await.unwrap();
        assert!(store.open_backup_jobs(key.cluster).await.unwrap().is_empty());
        let runs = store.latest_backup_runs(key.cluster, key.task, 20).await.unwrap();
        assert_eq!(runs.iter().map(|r| r.key.run).collect::<Vec<_>>(), [key.run, old.key.run]);
    }
}
