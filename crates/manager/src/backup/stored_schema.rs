//! The CQL schema that lies beside a backup (spec backup-format.md 6.4).

use common::api::agent::{ListOptions, ListRequest};
use common::api::manager::SchemaRow;
use common::format::paths::{SCHEMA_DIR, SchemaKind, SchemaPath, cluster_schema_dir};
use common::format::schema::{self, SchemaFileError};
use common::ids::{ClusterId, TaskId};
use common::location::Location;
use common::snapshot_tag::SnapshotTag;
use futures::TryStreamExt;

use super::location::Reader;
use crate::agent_client::HostError;

/// Packed bytes of the largest schema file that is read: thousands of tables take a few hundred KiB.
const MAX_PACKED: usize = 64 * 1024 * 1024;

/// Why there is no schema to show.
#[derive(Debug, thiserror::Error)]
pub enum StoredSchemaError {
    /// The backup has none, or there is no such backup.
    #[error("no cql schema file found in backup location {location} for snapshot {tag}")]
    Missing {
        /// The location.
        location: Location,
        /// The snapshot.
        tag: SnapshotTag,
    },
    /// The tag alone does not tell which.
    #[error("multiple cql schema files found, choose one with query_cluster_id and query_task_id: {keys}")]
    Several {
        /// All of them.
        keys: String,
    },
    /// A call failed.
    #[error("location {location}")]
    Host {
        /// The location.
        location: Location,
        /// Which host, and why.
        #[source]
        source: HostError,
    },
    /// It arrived and cannot be used.
    #[error("schema file {key} is damaged")]
    Damaged {
        /// Its key.
        key: String,
        /// How.
        #[source]
        source: SchemaFileError,
    },
}

/// Which schema is asked for.
#[derive(Clone, Copy, Debug)]
pub struct SchemaFilter {
    /// The snapshot.
    pub tag: SnapshotTag,
    /// Only of this cluster.
    pub cluster: Option<ClusterId>,
    /// Only of this task.
    pub task: Option<TaskId>,
}

/// Finds and reads the schema that can be replayed.
///
/// # Errors
/// None or several fit, or the one that fits cannot be read.
pub async fn stored_schema(
    reader: &Reader,
    filter: &SchemaFilter,
) -> Result<Vec<SchemaRow>, StoredSchemaError> {
    let location = &reader.location;
    let failed = |source| StoredSchemaError::Host { location: location.clone(), source };
    let mut keys = find(reader, filter).await.map_err(failed)?;
    let key = match keys.len() {
        0 => return Err(StoredSchemaError::Missing { location: location.clone(), tag: filter.tag }),
        1 => keys.remove(0),
        _ => return Err(StoredSchemaError::Several { keys: keys.join(", ") }),
    };
    let packed = reader.agent.cat(&location.remote_path(&key), MAX_PACKED).await.map_err(failed)?;
    let unpacked = tokio::task::spawn_blocking(move || schema::decode(&*packed)).await;
    let rows = unpacked.unwrap_or_else(|e| Err(SchemaFileError::Read(std::io::Error::other(e))));
    rows.map_err(|source| StoredSchemaError::Damaged { key, source })
}

/// Keys of all schema files that fit.
async fn find(reader: &Reader, filter: &SchemaFilter) -> Result<Vec<String>, HostError> {
    let dir = filter.cluster.map_or_else(|| format!("{SCHEMA_DIR}/cluster"), cluster_schema_dir);
    let options = ListOptions {
        recurse: true,
        files_only: true,
        no_mod_time: true,
        no_mime_type: true,
        ..ListOptions::default()
    };
    let request = ListRequest { opt: options, ..ListRequest::default() };
    let mut items = reader.agent.list_if_exists(&reader.location.remote_path(&dir), request).await?;
    let mut keys = Vec::new();
    while let Some(item) = items.try_next().await? {
        let key = format!("{dir}/{}", item.path);
        let fits = |path: &SchemaPath| {
            path.kind == SchemaKind::Safe
                && path.tag == filter.tag
                && filter.task.is_none_or(|task| task == path.task)
        };
        if SchemaPath::parse(&key).as_ref().is_some_and(fits) {
            keys.push(key);
        }
    }
    keys.sort();
    Ok(keys)
}
