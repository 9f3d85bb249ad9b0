//! Stored runs of tasks. They expire after 180 days.
//!
//! A run and the status of its task change in one transaction. The order of runs is their start time: health
//! checks reuse one fixed run ID, so the time in the ID says nothing there.

use chrono::{DateTime, Utc};
use common::api::manager::{Task, TaskRun};
use common::ids::{ClusterId, RunId, TaskId};
use common::task::{TaskStatus, TaskType};
use rusqlite::{Connection, Row, ToSql, Transaction};

use super::{Store, StoreError, get_id, get_optional_time, get_text, get_time, millis};

fn run_from_row(row: &Row<'_>) -> Result<TaskRun, StoreError> {
    Ok(TaskRun {
        cluster_id: get_id(row, "cluster_id")?,
        task_type: get_text(row, "type")?,
        task_id: get_id(row, "task_id")?,
        id: get_id(row, "id")?,
        status: get_text(row, "status")?,
        cause: row.get("cause")?,
        owner: row.get("owner")?,
        start_time: Some(get_time(row, "start_time")?),
        end_time: get_optional_time(row, "end_time")?,
    })
}

fn select(c: &Connection, rest: &str, parameters: &[&dyn ToSql]) -> Result<Vec<TaskRun>, StoreError> {
    let sql = format!(
        "SELECT * FROM scheduler_task_run WHERE cluster_id = ?1 AND type = ?2 AND task_id = ?3 {rest}"
    );
    let mut statement = c.prepare(&sql)?;
    let mut rows = statement.query(parameters)?;
    let mut runs = Vec::new();
    while let Some(row) = rows.next()? {
        runs.push(run_from_row(row)?);
    }
    Ok(runs)
}

fn put(tx: &Transaction<'_>, run: &TaskRun) -> Result<(), StoreError> {
    tx.prepare(
        "INSERT OR REPLACE INTO scheduler_task_run \
         (cluster_id, type, task_id, id, status, cause, owner, start_time, end_time) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
    )?
    .execute((
        run.cluster_id.to_string(),
        run.task_type.as_str(),
        run.task_id.to_string(),
        run.id.to_string(),
        run.status.as_str(),
        &run.cause,
        &run.owner,
        run.start_time.map_or(0, millis),
        run.end_time.map(millis),
    ))?;
    Ok(())
}

fn set_status(tx: &Transaction<'_>, run: &TaskRun) -> Result<(), StoreError> {
    tx.prepare("UPDATE scheduler_task SET status = ?4 WHERE cluster_id = ?1 AND type = ?2 AND id = ?3")?
        .execute((
            run.cluster_id.to_string(),
            run.task_type.as_str(),
            run.task_id.to_string(),
            run.status.as_str(),
        ))?;
    Ok(())
}

fn count_outcome(tx: &Transaction<'_>, run: &TaskRun) -> Result<(), StoreError> {
    let counter = match run.status {
        TaskStatus::Done => "success_count = success_count + 1, last_success = ?4",
        TaskStatus::Error => "error_count = error_count + 1, last_error = ?4",
        TaskStatus::New
        | TaskStatus::Running
        | TaskStatus::Stopping
        | TaskStatus::Stopped
        | TaskStatus::Waiting
        | TaskStatus::Aborted => return Ok(()),
    };
    tx.prepare(&format!(
        "UPDATE scheduler_task SET {counter} WHERE cluster_id = ?1 AND type = ?2 AND id = ?3"
    ))?
    .execute((
        run.cluster_id.to_string(),
        run.task_type.as_str(),
        run.task_id.to_string(),
        run.end_time.map(millis),
    ))?;
    Ok(())
}

impl Store {
    /// Writes a run that has begun, is being stopped or was cut short, and its status as that of the task.
    ///
    /// # Errors
    /// The database failed.
    pub async fn put_run(&self, run: &TaskRun) -> Result<(), StoreError> {
        let run = run.clone();
        self.write(move |tx| {
            put(tx, &run)?;
            set_status(tx, &run)
        })
        .await
    }

    /// Writes a run that has ended, and the status and the counters of its task.
    ///
    /// `began_as` is the ID under which the run was written at its start; its row is replaced if it is another.
    ///
    /// # Errors
    /// The database failed.
    pub async fn finish_run(&self, run: &TaskRun, began_as: RunId) -> Result<(), StoreError> {
        let run = run.clone();
        self.write(move |tx| {
            if began_as != run.id {
                tx.execute(
                    "DELETE FROM scheduler_task_run \
                     WHERE cluster_id = ?1 AND type = ?2 AND task_id = ?3 AND id = ?4",
                    (
                        run.cluster_id.to_string(),
                        run.task_type.as_str(),
                        run.task_id.to_string(),
                        began_as.to_string(),
                    ),
                )?;
            }
            put(tx, &run)?;
            set_status(tx, &run)?;
            count_outcome(tx, &run)
        })
        .await
    }

    /// Ends runs as `ABORTED` that are open although their task has had another run since: their end was never
    /// written. The latest run of each task is left alone.
    ///
    /// # Errors
    /// The database failed.
    pub async fn close_superseded_runs(&self, now: DateTime<Utc>, cause: &str) -> Result<(), StoreError> {
        let cause = cause.to_owned();
        self.write(move |tx| {
            tx.execute(
                "UPDATE scheduler_task_run AS old SET status = 'ABORTED', cause = ?1, end_time = ?2 \
                 WHERE status IN ('RUNNING', 'STOPPING') AND EXISTS ( \
                     SELECT 1 FROM scheduler_task_run AS new WHERE new.cluster_id = old.cluster_id \
                     AND new.type = old.type AND new.task_id = old.task_id AND new.start_time > old.start_time)",
                (cause, millis(now)),
            )?;
            Ok(())
        })
        .await
    }

    /// One run by its ID.
    ///
    /// # Errors
    /// The database failed.
    pub async fn run(
        &self,
        cluster: ClusterId,
        task_type: TaskType,
        task: TaskId,
        run: RunId,
    ) -> Result<Option<TaskRun>, StoreError> {
        let found = self.read(move |c| {
            let key = (cluster.to_string(), task.to_string(), run.to_string());
            select(c, "AND id = ?4", &[&key.0, &task_type.as_str(), &key.1, &key.2])
        });
        Ok(found.await?.pop())
    }

    /// The run that is `back` runs before the latest one; 0 is the latest.
    ///
    /// # Errors
    /// The database failed.
    pub async fn nth_latest_run(
        &self,
        cluster: ClusterId,
        task_type: TaskType,
        task: TaskId,
        back: u32,
    ) -> Result<Option<TaskRun>, StoreError> {
        let found = self.read(move |c| {
            let rest = "ORDER BY start_time DESC, id LIMIT 1 OFFSET ?4";
            select(c, rest, &[&cluster.to_string(), &task_type.as_str(), &task.to_string(), &back])
        });
        Ok(found.await?.pop())
    }

    /// The latest runs, newest first; all of them without a limit.
    ///
    /// # Errors
    /// The database failed.
    pub async fn history(
        &self,
        cluster: ClusterId,
        task_type: TaskType,
        task: TaskId,
        limit: Option<u32>,
    ) -> Result<Vec<TaskRun>, StoreError> {
        self.read(move |c| {
            // SQLite reads a negative limit as none.
            let limit = limit.map_or(-1, i64::from);
            let rest = "ORDER BY start_time DESC, id LIMIT ?4";
            select(c, rest, &[&cluster.to_string(), &task_type.as_str(), &task.to_string(), &limit])
        })
        .await
    }

    /// The latest run of a task.
    ///
    /// # Errors
    /// The database failed.
    pub async fn latest_run(&self, task: &Task) -> Result<Option<TaskRun>, StoreError> {
        self.nth_latest_run(task.cluster_id, task.task_type, task.id, 0).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::tasks::tests::task;
    use crate::store::tests::scratch;

    fn run(task: &Task, second: i64, status: TaskStatus) -> TaskRun {
        let start = chrono::DateTime::from_timestamp(1_700_000_000 + second, 0).unwrap();
        TaskRun {
            cluster_id: task.cluster_id,
            task_type: task.task_type,
            task_id: task.id,
            id: RunId::at(start),
            status,
            cause: String::new(),
            owner: String::new(),
            start_time: Some(start),
            end_time: None,
        }
    }

    #[tokio::test]
    async fn runs_are_found_by_id_and_by_distance() {
        let (_dir, store) = scratch().await;
        let task = task(ClusterId::random(), TaskType::Backup, "a");
        store.put_task(&task).await.unwrap();
        assert_eq!(store.latest_run(&task).await.unwrap(), None);
        let runs: Vec<TaskRun> = (0..4).map(|n| run(&task, n, TaskStatus::Running)).collect();
        for run in &runs {
            store.put_run(run).await.unwrap();
        }
        let (cluster, kind, id) = (task.cluster_id, task.task_type, task.id);
        assert_eq!(store.nth_latest_run(cluster, kind, id, 1).await.unwrap().as_ref(), Some(&runs[2]));
        assert_eq!(store.nth_latest_run(cluster, kind, id, 4).await.unwrap(), None);
        assert_eq!(store.run(cluster, kind, id, runs[1].id).await.unwrap().as_ref(), Some(&runs[1]));
        let newest = |limit| store.history(cluster, kind, id, limit);
        assert_eq!(newest(Some(2)).await.unwrap(), [runs[3].clone(), runs[2].clone()]);
        assert_eq!(newest(None).await.unwrap().len(), 4);
        let read = store.task(cluster, kind, id).await.unwrap().unwrap();
        assert_eq!(read.status, TaskStatus::Running);
    }

    #[tokio::test]
    async fn only_the_latest_run_of_a_task_stays_open() {
        let (_dir, store) = scratch().await;
        let task = task(ClusterId::random(), TaskType::Backup, "a");
        store.put_task(&task).await.unwrap();
        for (n, status) in [TaskStatus::Stopping, TaskStatus::Done, TaskStatus::Running, TaskStatus::Running]
            .into_iter()
            .enumerate()
        {
            store.put_run(&run(&task, n as i64, status)).await.unwrap();
        }
        store.close_superseded_runs(Utc::now(), "lost").await.unwrap();
        let history = store.history(task.cluster_id, task.task_type, task.id, None).await.unwrap();
        let statuses: Vec<&str> = history.iter().map(|r| r.status.as_str()).collect();
        assert_eq!(statuses, ["RUNNING", "ABORTED", "DONE", "ABORTED"]);
        assert!(history[1].end_time.is_some() && history[1].cause == "lost");
    }

    #[tokio::test]
    async fn the_end_of_a_run_is_counted_once_and_may_change_its_id() {
        let (_dir, store) = scratch().await;
        let task = task(ClusterId::random(), TaskType::HealthCheck, "cql");
        store.put_task(&task).await.unwrap();
        let begun = run(&task, 0, TaskStatus::Running);
        store.put_run(&begun).await.unwrap();
        let end = chrono::DateTime::from_timestamp(1_700_000_005, 0);
        let failed = TaskRun {
            id: RunId::at(end.unwrap()),
            status: TaskStatus::Error,
            cause: "x".into(),
            end_time: end,
            ..begun.clone()
        };
        store.finish_run(&failed, begun.id).await.unwrap();
        let history = store.history(task.cluster_id, task.task_type, task.id, None).await.unwrap();
        assert_eq!(history, [failed]);
        let read = store.task(task.cluster_id, task.task_type, task.id).await.unwrap().unwrap();
        assert_eq!((read.status, read.error_count, read.last_error), (TaskStatus::Error, 1, end));
        assert_eq!((read.success_count, read.last_success), (0, None));
    }
}
