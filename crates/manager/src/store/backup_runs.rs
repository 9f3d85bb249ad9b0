//! Runs of backups: where each stands, what it did with each table, which agent jobs it owns.
//!
//! The stage only moves forward. A job ID stays in its row until the job is known to be over, so that a job on an
//! agent always has an owner here (design 3.10).

use chrono::{DateTime, Utc};
use common::api::manager::Unit;
use common::ids::{ClusterId, HostId, RunId, TaskId};
use common::location::Location;
use common::snapshot_tag::SnapshotTag;
use common::task::Stage;
use rusqlite::{OptionalExtension, Row, Transaction, params};

use super::{Store, StoreError, get_id, get_json, get_optional_time, get_time, json_text, millis};

/// Names one run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunKey {
    /// Its cluster.
    pub cluster: ClusterId,
    /// Its task.
    pub task: TaskId,
    /// The run.
    pub run: RunId,
}

impl RunKey {
    fn texts(&self) -> (String, String, String) {
        (self.cluster.to_string(), self.task.to_string(), self.run.to_string())
    }
}

/// A backup run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupRun {
    /// Its name.
    pub key: RunKey,
    /// The run that it goes on with.
    pub previous: Option<RunId>,
    /// Name of its snapshot; `None` until it is chosen.
    pub tag: Option<SnapshotTag>,
    /// Tables.
    pub units: Vec<Unit>,
    /// Datacenters.
    pub dcs: Vec<String>,
    /// Nodes.
    pub nodes: Vec<HostId>,
    /// Locations.
    pub locations: Vec<Location>,
    /// When it began.
    pub start: DateTime<Utc>,
    /// The stage it is in or stopped in.
    pub stage: Option<Stage>,
    /// `disabled` unless locks are set.
    pub retention_lock_mode: String,
    /// Replace existing unlocked locks.
    pub override_retention_lock: bool,
    /// Days to keep.
    pub retention_days: i64,
    /// What the operator should know before relying on it.
    pub warnings: Vec<String>,
    /// Files of it are lost: no later run may go on with it.
    pub abandoned: bool,
}

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

fn int(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

fn count(row: &Row<'_>, column: &str) -> Result<u64, StoreError> {
    Ok(u64::try_from(row.get::<_, i64>(column)?).unwrap_or(0))
}

fn optional<T: std::str::FromStr>(text: &str) -> Option<T> {
    // Written by a newer release, or empty: nothing to go on with.
    text.parse().ok()
}

impl BackupRun {
    fn from_row(row: &Row<'_>) -> Result<Self, StoreError> {
        let key = RunKey {
            cluster: get_id(row, "cluster_id")?,
            task: get_id(row, "task_id")?,
            run: get_id(row, "id")?,
        };
        Ok(Self {
            key,
            previous: row.get::<_, Option<String>>("prev_id")?.and_then(|t| optional(&t)),
            tag: optional(&row.get::<_, String>("snapshot_tag")?),
            units: get_json(row, "units")?,
            dcs: get_json(row, "dc")?,
            nodes: get_json(row, "nodes")?,
            locations: get_json(row, "location")?,
            start: get_time(row, "start_time")?,
            stage: optional(&row.get::<_, String>("stage")?),
            retention_lock_mode: row.get("retention_lock_mode")?,
            override_retention_lock: row.get("override_retention_lock")?,
            retention_days: row.get("retention_days")?,
            warnings: get_json(row, "warnings")?,
            abandoned: row.get("abandoned")?,
        })
    }

    /// A run for tests of other modules.
    #[cfg(test)]
    pub(crate) fn sample() -> Self {
        let start = DateTime::from_timestamp(1_700_000_000, 0).expect("a valid time");
        let key = RunKey { cluster: ClusterId::random(), task: TaskId::random(), run: RunId::at(start) };
        Self {
            key,
            previous: None,
            tag: None,
            units: Vec::new(),
            dcs: Vec::new(),
            nodes: Vec::new(),
            locations: Vec::new(),
            start,
            stage: None,
            retention_lock_mode: "disabled".into(),
            override_retention_lock: false,
            retention_days: 0,
            warnings: Vec::new(),
            abandoned: false,
        }
    }
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
    /// Writes a new run. With a previous run its rows and checksums are taken over, and so are its jobs: the
    /// previous run owns none afterwards.
    ///
    /// # Errors
    /// The database failed.
    pub async fn put_backup_run(&self, run: &BackupRun) -> Result<(), StoreError> {
        let run = run.clone();
        self.write(move |tx| {
            insert_run(tx, &run)?;
            match run.previous {
                Some(previous) => take_over(tx, &run.key, previous),
                None => Ok(()),
            }
        })
        .await
    }

    /// A run.
    ///
    /// # Errors
    /// The database failed.
    pub async fn backup_run(&self, key: RunKey) -> Result<Option<BackupRun>, StoreError> {
        self.read(move |c| {
            let mut statement =
                c.prepare("SELECT * FROM backup_run WHERE cluster_id = ?1 AND task_id = ?2 AND id = ?3")?;
            statement.query_row(key.texts(), |row| Ok(BackupRun::from_row(row))).optional()?.transpose()
        })
        .await
    }

    /// Runs of a task, newest first.
    ///
    /// # Errors
    /// The database failed.
    pub async fn latest_backup_runs(
        &self,
        cluster: ClusterId,
        task: TaskId,
        limit: usize,
    ) -> Result<Vec<BackupRun>, StoreError> {
        self.read(move |c| {
            let mut statement = c.prepare(
                "SELECT * FROM backup_run WHERE cluster_id = ?1 AND task_id = ?2 \
                 ORDER BY start_time DESC, id DESC LIMIT ?3",
            )?;
            let mut rows = statement.query((cluster.to_string(), task.to_string(), int(limit as u64)))?;
            let mut runs = Vec::new();
            while let Some(row) = rows.next()? {
                runs.push(BackupRun::from_row(row)?);
            }
            Ok(runs)
        })
        .await
    }

    /// The newest tag that any run of any cluster has.
    ///
    /// # Errors
    /// The database failed.
    pub async fn newest_backup_tag(&self) -> Result<Option<SnapshotTag>, StoreError> {
        self.read(|c| {
            let newest: Option<String> = c.query_row(
                "SELECT max(snapshot_tag) FROM backup_run WHERE snapshot_tag <> ''",
                [],
                |row| row.get(0),
            )?;
            Ok(newest.and_then(|text| optional(&text)))
        })
        .await
    }

    /// Gives a run its tag.
    ///
    /// # Errors
    /// The database failed.
    pub async fn set_backup_tag(&self, key: RunKey, tag: SnapshotTag) -> Result<(), StoreError> {
        self.update_run(key, "snapshot_tag", tag.to_string()).await
    }

    /// Says that no later run may go on with this one.
    ///
    /// # Errors
    /// The database failed.
    pub async fn abandon_backup_run(&self, key: RunKey) -> Result<(), StoreError> {
        self.update_run(key, "abandoned", 1_i64).await
    }

    async fn update_run(
        &self,
        key: RunKey,
        column: &'static str,
        value: impl rusqlite::ToSql + Send + 'static,
    ) -> Result<(), StoreError> {
        self.write(move |tx| {
            let (cluster, task, run) = key.texts();
            let sql = format!(
                "UPDATE backup_run SET {column} = ?4 WHERE cluster_id = ?1 AND task_id = ?2 AND id = ?3"
            );
            tx.execute(&sql, params![cluster, task, run, value])?;
            Ok(())
        })
        .await
    }

    /// Moves a run forward to `stage`; a run that is further stays where it is.
    ///
    /// # Errors
    /// The database failed.
    pub async fn advance_backup_run(&self, key: RunKey, stage: Stage) -> Result<(), StoreError> {
        self.write(move |tx| {
            let (cluster, task, run) = key.texts();
            let stored: Option<String> = tx
                .query_row(
                    "SELECT stage FROM backup_run WHERE cluster_id = ?1 AND task_id = ?2 AND id = ?3",
                    (&cluster, &task, &run),
                    |row| row.get(0),
                )
                .optional()?;
            let reached: Option<Stage> = stored.and_then(|text| optional(&text));
            if reached.is_none_or(|reached| stage > reached) {
                tx.execute(
                    "UPDATE backup_run SET stage = ?4 WHERE cluster_id = ?1 AND task_id = ?2 AND id = ?3",
                    (cluster, task, run, stage.as_str()),
                )?;
            }
            Ok(())
        })
        .await
    }

    /// Adds a warning to a run, once.
    ///
    /// # Errors
    /// The database failed.
    pub async fn warn_backup_run(&self, key: RunKey, warning: &str) -> Result<(), StoreError> {
        let warning = warning.to_owned();
        self.write(move |tx| {
            let (cluster, task, run) = key.texts();
            let mut statement = tx.prepare(
                "SELECT warnings FROM backup_run WHERE cluster_id = ?1 AND task_id = ?2 AND id = ?3",
            )?;
            let stored = statement
                .query_row((&cluster, &task, &run), |row| Ok(get_json::<Vec<String>>(row, "warnings")))
                .optional()?
                .transpose()?;
            let Some(mut warnings) = stored else { return Ok(()) };
            if !warnings.contains(&warning) {
                warnings.push(warning);
                tx.execute(
                    "UPDATE backup_run SET warnings = ?4 WHERE cluster_id = ?1 AND task_id = ?2 AND id = ?3",
                    (cluster, task, run, json_text(&warnings)?),
                )?;
            }
            Ok(())
        })
        .await
    }

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

fn insert_run(tx: &Transaction<'_>, run: &BackupRun) -> Result<(), StoreError> {
    let (cluster, task, id) = run.key.texts();
    tx.execute(
        "INSERT INTO backup_run (cluster_id, task_id, id, prev_id, snapshot_tag, units, dc, nodes, location, \
             start_time, stage, retention_lock_mode, override_retention_lock, retention_days, warnings, abandoned) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)",
        params![
            cluster,
            task,
            id,
            run.previous.map(|p| p.to_string()),
            run.tag.map(|t| t.to_string()).unwrap_or_default(),
            json_text(&run.units)?,
            json_text(&run.dcs)?,
            json_text(&run.nodes)?,
            json_text(&run.locations)?,
            millis(run.start),
            run.stage.map(Stage::as_str).unwrap_or_default(),
            run.retention_lock_mode,
            run.override_retention_lock,
            run.retention_days,
            json_text(&run.warnings)?,
            run.abandoned,
        ],
    )?;
    Ok(())
}

fn take_over(tx: &Transaction<'_>, key: &RunKey, previous: RunId) -> Result<(), StoreError> {
    let (cluster, task, run) = key.texts();
    let previous = previous.to_string();
    for (table, columns) in [
        (
            "backup_run_progress",
            "host, unit, table_name, agent_job_id, scylla_task_id, started_at, completed_at, error, size, uploaded, \
             skipped, failed, files_count, files_skipped_count, damaged",
        ),
        ("backup_run_checksums", "host, unit, table_name, files"),
    ] {
        let sql = format!(
            "INSERT INTO {table} (cluster_id, task_id, run_id, {columns}) SELECT ?1, ?2, ?3, {columns} FROM {table} \
             WHERE cluster_id = ?1 AND task_id = ?2 AND run_id = ?4"
        );
        tx.execute(&sql, (&cluster, &task, &run, &previous))?;
    }
    tx.execute(
        "UPDATE backup_run_progress SET agent_job_id = NULL \
         WHERE cluster_id = ?1 AND task_id = ?2 AND run_id = ?3",
        (cluster, task, previous),
    )?;
    Ok(())
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
    use super::*;
    use crate::store::tests::scratch;

    #[tokio::test]
    async fn stages_only_move_forward_and_warnings_are_kept_once() {
        let (_dir, store) = scratch().await;
        let run = BackupRun::sample();
        store.put_backup_run(&run).await.unwrap();
        for stage in [Stage::Init, Stage::Upload, Stage::Index] {
            store.advance_backup_run(run.key, stage).await.unwrap();
        }
        let tag: SnapshotTag = "sm_20260101000000UTC".parse().unwrap();
        store.set_backup_tag(run.key, tag).await.unwrap();
        for _ in 0..2 {
            store.warn_backup_run(run.key, "no schema").await.unwrap();
        }
        let stored = store.backup_run(run.key).await.unwrap().unwrap();
        assert_eq!((stored.stage, stored.tag), (Some(Stage::Upload), Some(tag)));
        assert_eq!(stored.warnings, ["no schema"]);
        assert_eq!(store.newest_backup_tag().await.unwrap(), Some(tag));
        store.abandon_backup_run(run.key).await.unwrap();
        assert!(store.backup_run(run.key).await.unwrap().unwrap().abandoned);
    }

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
