//! Stored tasks. They never expire: deleted ones keep counting for the retention of their backups.
//!
//! The schedule is kept in its wire form, because a round trip through `sctool ... update` must not change it;
//! the scheduler reads it anew each time.

use common::api::manager::Task;
use common::ids::{ClusterId, TaskId};
use common::task::{TaskStatus, TaskType};
use rusqlite::{Connection, Row, ToSql};

use super::{Store, StoreError, get_id, get_json, get_optional_time, get_text, json_text, millis};

/// What `sctool` lists in its order: by type, then by ID.
const SELECT: &str = "SELECT * FROM scheduler_task";
const ORDER: &str = "ORDER BY type, id";

fn task_from_row(row: &Row<'_>) -> Result<Task, StoreError> {
    Ok(Task {
        cluster_id: get_id(row, "cluster_id")?,
        task_type: get_text(row, "type")?,
        id: get_id(row, "id")?,
        name: row.get("name")?,
        labels: get_json(row, "labels")?,
        enabled: row.get("enabled")?,
        deleted: row.get("deleted")?,
        schedule: get_json(row, "sched")?,
        properties: get_json(row, "properties")?,
        tags: None,
        status: get_text(row, "status")?,
        success_count: count(row, "success_count")?,
        error_count: count(row, "error_count")?,
        last_success: get_optional_time(row, "last_success")?,
        last_error: get_optional_time(row, "last_error")?,
    })
}

fn count(row: &Row<'_>, column: &str) -> Result<u64, StoreError> {
    Ok(u64::try_from(row.get::<_, i64>(column)?).unwrap_or(0))
}

fn stored_count(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn select(c: &Connection, condition: &str, parameters: &[&dyn ToSql]) -> Result<Vec<Task>, StoreError> {
    let mut statement = c.prepare(&format!("{SELECT} {condition} {ORDER}"))?;
    let mut rows = statement.query(parameters)?;
    let mut tasks = Vec::new();
    while let Some(row) = rows.next()? {
        tasks.push(task_from_row(row)?);
    }
    Ok(tasks)
}

impl Store {
    /// Every task of every cluster, deleted ones too.
    ///
    /// # Errors
    /// The database failed.
    pub async fn all_tasks(&self) -> Result<Vec<Task>, StoreError> {
        self.read(|c| select(c, "", &[])).await
    }

    /// The tasks of a cluster, by type and ID, without deleted ones.
    ///
    /// # Errors
    /// The database failed.
    pub async fn tasks(&self, cluster: ClusterId) -> Result<Vec<Task>, StoreError> {
        self.read(move |c| select(c, "WHERE cluster_id = ?1 AND deleted = 0", &[&cluster.to_string()])).await
    }

    /// The tasks of one type of a cluster, deleted ones too: what retention looks at.
    ///
    /// # Errors
    /// The database failed.
    pub async fn tasks_with_deleted(
        &self,
        cluster: ClusterId,
        task_type: TaskType,
    ) -> Result<Vec<Task>, StoreError> {
        let condition = "WHERE cluster_id = ?1 AND type = ?2";
        self.read(move |c| select(c, condition, &[&cluster.to_string(), &task_type.as_str()])).await
    }

    /// One task, also when it is deleted.
    ///
    /// # Errors
    /// The database failed.
    pub async fn task(
        &self,
        cluster: ClusterId,
        task_type: TaskType,
        id: TaskId,
    ) -> Result<Option<Task>, StoreError> {
        let condition = "WHERE cluster_id = ?1 AND type = ?2 AND id = ?3";
        let found = self.read(move |c| {
            select(c, condition, &[&cluster.to_string(), &task_type.as_str(), &id.to_string()])
        });
        Ok(found.await?.pop())
    }

    /// Stores the specification of a task: name, labels, enabled, deleted, schedule and properties.
    ///
    /// Status and counters are written for a new task and kept for one that exists.
    ///
    /// # Errors
    /// The database failed, or the name is taken.
    pub async fn put_task(&self, task: &Task) -> Result<(), StoreError> {
        let (labels, sched, properties) =
            (json_text(&task.labels)?, json_text(&task.schedule)?, json_text(&task.properties)?);
        let task = task.clone();
        self.write(move |tx| {
            tx.prepare(
                "INSERT INTO scheduler_task (cluster_id, type, id, name, labels, enabled, deleted, sched, \
                 properties, status, success_count, error_count, last_success, last_error) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14) \
                 ON CONFLICT (cluster_id, type, id) DO UPDATE SET name = excluded.name, labels = excluded.labels, \
                 enabled = excluded.enabled, deleted = excluded.deleted, sched = excluded.sched, \
                 properties = excluded.properties",
            )?
            .execute((
                task.cluster_id.to_string(),
                task.task_type.as_str(),
                task.id.to_string(),
                task.name,
                labels,
                task.enabled,
                task.deleted,
                sched,
                properties,
                task.status.as_str(),
                stored_count(task.success_count),
                stored_count(task.error_count),
                task.last_success.map(millis),
                task.last_error.map(millis),
            ))?;
            Ok(())
        })
        .await
    }

    /// Sets the status that lists show, without a run: a task that waits for another one.
    ///
    /// # Errors
    /// The database failed.
    pub async fn set_task_status(
        &self,
        cluster: ClusterId,
        task_type: TaskType,
        id: TaskId,
        status: TaskStatus,
    ) -> Result<(), StoreError> {
        self.write(move |tx| {
            tx.prepare(
                "UPDATE scheduler_task SET status = ?4 WHERE cluster_id = ?1 AND type = ?2 AND id = ?3",
            )?
            .execute((
                cluster.to_string(),
                task_type.as_str(),
                id.to_string(),
                status.as_str(),
            ))?;
            Ok(())
        })
        .await
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::store::tests::scratch;

    pub(crate) fn task(cluster: ClusterId, task_type: TaskType, name: &str) -> Task {
        Task {
            cluster_id: cluster,
            task_type,
            id: TaskId::random(),
            name: name.to_owned(),
            labels: [("team".to_owned(), "db".to_owned())].into(),
            enabled: true,
            deleted: false,
            schedule: common::api::manager::Schedule { timezone: "UTC".into(), ..Default::default() },
            properties: serde_json::Map::new(),
            tags: None,
            status: TaskStatus::New,
            success_count: 0,
            error_count: 0,
            last_success: None,
            last_error: None,
        }
    }

    #[tokio::test]
    async fn a_task_round_trips_and_an_update_keeps_its_counters() {
        let (_dir, store) = scratch().await;
        let cluster = ClusterId::random();
        let mut stored = task(cluster, TaskType::Backup, "nightly");
        stored.success_count = 3;
        stored.last_success = chrono::DateTime::from_timestamp_millis(1_700_000_000_123);
        store.put_task(&stored).await.unwrap();
        assert_eq!(store.task(cluster, TaskType::Backup, stored.id).await.unwrap(), Some(stored.clone()));

        let changed = Task { name: "weekly".into(), enabled: false, success_count: 0, ..stored.clone() };
        store.put_task(&changed).await.unwrap();
        let read = store.task(cluster, TaskType::Backup, stored.id).await.unwrap().unwrap();
        assert_eq!((read.name.as_str(), read.enabled, read.success_count), ("weekly", false, 3));
        assert_eq!(store.task(cluster, TaskType::Restore, stored.id).await.unwrap(), None);
    }

    #[tokio::test]
    async fn lists_are_sorted_and_leave_out_deleted_tasks() {
        let (_dir, store) = scratch().await;
        let cluster = ClusterId::random();
        let tasks = [
            task(cluster, TaskType::HealthCheck, "cql"),
            task(cluster, TaskType::Backup, "b"),
            Task { deleted: true, ..task(cluster, TaskType::Backup, "") },
            task(ClusterId::random(), TaskType::Backup, "b"),
        ];
        for task in &tasks {
            store.put_task(task).await.unwrap();
        }
        let names: Vec<String> = store.tasks(cluster).await.unwrap().into_iter().map(|t| t.name).collect();
        assert_eq!(names, ["b", "cql"]);
        assert_eq!(store.tasks_with_deleted(cluster, TaskType::Backup).await.unwrap().len(), 2);
        assert_eq!(store.all_tasks().await.unwrap().len(), 4);
    }
}
