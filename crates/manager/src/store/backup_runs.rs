//! Runs of backups: what each is to do, and where it stands. The stage only moves forward.

use chrono::{DateTime, Utc};
use common::api::manager::Unit;
use common::ids::{ClusterId, HostId, RunId, TaskId};
use common::location::Location;
use common::snapshot_tag::SnapshotTag;
use common::task::Stage;
use rusqlite::{OptionalExtension, Row, Transaction, params};

use super::backup_progress::int;
use super::{Store, StoreError, get_id, get_json, get_time, json_text, millis};

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
    pub(super) fn texts(&self) -> (String, String, String) {
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
}
