//! Backups in their locations (spec manager.md 2.6).

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use axum::extract::State;
use axum::{Json, Router};
use chrono::{DateTime, Utc};
use common::api::manager::{
    BackupDeleteQuery, BackupFilesInfo, BackupListItem, BackupListQuery, BackupSchema, BackupSchemaQuery,
    DeleteBackups, DeleteLocalSnapshots, GetBackupSchema, ListBackupFiles, ListBackups,
};
use common::filter::KeyspaceFilter;
use common::ids::ClusterId;
use common::location::Location;
use common::snapshot_tag::SnapshotTag;
use common::task::TaskType;

use super::{ApiError, ApiResult, AppState, PathParams, QueryParams, resolve, route};
use crate::agent_client::AgentClient;
use crate::backup::delete::{DeleteError, delete_backups, delete_local_snapshots};
use crate::backup::list::{ListFilter, list_backups, list_files};
use crate::backup::location::{self, Reader};
use crate::backup::stored_schema::{SchemaFilter, StoredSchemaError, stored_schema};
use crate::cluster::topology::{Member, members};
use crate::store::Cluster;

pub(super) fn routes() -> Router<AppState> {
    let router = route(Router::new(), ListBackups, list);
    let router = route(router, ListBackupFiles, files);
    let router = route(router, GetBackupSchema, schema);
    let router = route(router, DeleteBackups, delete);
    route(router, DeleteLocalSnapshots, delete_local)
}

/// A cluster that can be worked with.
struct Access {
    cluster: Cluster,
    client: AgentClient,
    members: Vec<Member>,
}

async fn access(state: &AppState, text: &str) -> ApiResult<Access> {
    let cluster = resolve::cluster(&state.store, text).await?;
    let failed = |e: crate::cluster::ClusterError| ApiError::internal(&e);
    let client = state.clusters.client(cluster.id).await.map_err(failed)?.interactive();
    let members = members(&client).await.map_err(failed)?;
    Ok(Access { cluster, client, members })
}

impl Access {
    async fn readers(&self, locations: &[Location]) -> ApiResult<Vec<Reader>> {
        let mut readers = Vec::with_capacity(locations.len());
        for location in locations {
            readers.push(self.reader(location).await?);
        }
        Ok(readers)
    }

    async fn reader(&self, location: &Location) -> ApiResult<Reader> {
        location::open(&self.client, &self.members, location).await.map_err(|e| ApiError::internal(&e))
    }
}

fn split(list: Option<&String>) -> Vec<&str> {
    list.map(|text| text.split(',').map(str::trim).filter(|t| !t.is_empty()).collect()).unwrap_or_default()
}

/// The given locations, else those of all enabled backup tasks; each bucket once.
async fn locations(state: &AppState, cluster: ClusterId, given: Option<&String>) -> ApiResult<Vec<Location>> {
    let mut locations: Vec<Location> = Vec::new();
    for text in split(given) {
        locations.push(text.parse().map_err(ApiError::malformed)?);
    }
    if locations.is_empty() {
        for task in state.store.tasks(cluster).await? {
            if task.task_type != TaskType::Backup || !task.enabled || task.deleted {
                continue;
            }
            let texts = task.properties.get("location").and_then(|l| l.as_array()).into_iter().flatten();
            locations.extend(texts.filter_map(|l| l.as_str()).filter_map(|l| l.parse().ok()));
        }
    }
    let mut seen = BTreeSet::new();
    locations.retain(|l| seen.insert(l.bucket_key()));
    if locations.is_empty() { Err(ApiError::malformed("missing locations")) } else { Ok(locations) }
}

fn filter(cluster: &Cluster, query: &BackupListQuery) -> ApiResult<ListFilter> {
    let wanted = match query.query_cluster_id.as_deref().filter(|t| !t.is_empty()) {
        None => None,
        Some(name) if name == cluster.name => Some(cluster.id),
        Some(id) => Some(id.parse::<ClusterId>().map_err(ApiError::malformed)?),
    };
    let date = |text: Option<&String>| -> ApiResult<Option<DateTime<Utc>>> {
        let Some(text) = text.filter(|t| !t.is_empty()) else { return Ok(None) };
        let time = DateTime::parse_from_rfc3339(text)
            .map_err(|e| ApiError::malformed(format!("date {text:?}: {e}")))?;
        Ok(Some(time.with_timezone(&Utc)))
    };
    let tag = query.snapshot_tag.as_deref().filter(|t| !t.is_empty());
    Ok(ListFilter {
        cluster: wanted,
        tables: KeyspaceFilter::new(&split(query.keyspace.as_ref())).map_err(ApiError::malformed)?,
        min_date: date(query.min_date.as_ref())?,
        max_date: date(query.max_date.as_ref())?,
        tag: tag.map(str::parse::<SnapshotTag>).transpose().map_err(ApiError::malformed)?,
    })
}

async fn list(
    State(state): State<AppState>,
    PathParams(text): PathParams<String>,
    QueryParams(query): QueryParams<BackupListQuery>,
) -> ApiResult<Json<Vec<BackupListItem>>> {
    let cluster = resolve::cluster(&state.store, &text).await?;
    let filter = filter(&cluster, &query)?;
    let locations = locations(&state, cluster.id, query.locations.as_ref()).await?;
    let readers = access(&state, &text).await?.readers(&locations).await?;
    Ok(Json(list_backups(&readers, &filter).await.map_err(|e| ApiError::internal(&e))?))
}

async fn files(
    State(state): State<AppState>,
    PathParams(text): PathParams<String>,
    QueryParams(query): QueryParams<BackupListQuery>,
) -> ApiResult<Json<Vec<BackupFilesInfo>>> {
    let cluster = resolve::cluster(&state.store, &text).await?;
    let filter = filter(&cluster, &query)?;
    let locations = locations(&state, cluster.id, query.locations.as_ref()).await?;
    let readers = access(&state, &text).await?.readers(&locations).await?;
    Ok(Json(list_files(&readers, &filter).await.map_err(|e| ApiError::internal(&e))?))
}

async fn schema(
    State(state): State<AppState>,
    PathParams(text): PathParams<String>,
    QueryParams(query): QueryParams<BackupSchemaQuery>,
) -> ApiResult<Json<BackupSchema>> {
    let tag = query.snapshot_tag.as_deref().ok_or_else(|| ApiError::malformed("missing snapshot tag"))?;
    let [location] = split(query.location.as_ref())[..] else {
        return Err(ApiError::malformed("exactly one location is needed"));
    };
    let location: Location = location.parse().map_err(ApiError::malformed)?;
    let cluster = query.query_cluster_id.as_deref().map(str::parse);
    let task = query.query_task_id.as_deref().map(str::parse);
    let filter = SchemaFilter {
        tag: tag.parse().map_err(ApiError::malformed)?,
        cluster: cluster.transpose().map_err(ApiError::malformed)?,
        task: task.transpose().map_err(ApiError::malformed)?,
    };
    let reader = access(&state, &text).await?.reader(&location).await?;
    let schema = stored_schema(&reader, &filter).await.map_err(|error| match error {
        StoredSchemaError::Several { .. } => ApiError::invalid(error),
        StoredSchemaError::Missing { .. }
        | StoredSchemaError::Host { .. }
        | StoredSchemaError::Damaged { .. } => ApiError::internal(&error),
    })?;
    Ok(Json(BackupSchema { schema }))
}

async fn delete(
    State(state): State<AppState>,
    PathParams(text): PathParams<String>,
    QueryParams(query): QueryParams<BackupDeleteQuery>,
) -> ApiResult<()> {
    let cluster = resolve::cluster(&state.store, &text).await?;
    let mut tags = BTreeSet::new();
    for tag in split(query.snapshot_tags.as_ref()) {
        tags.insert(tag.parse::<SnapshotTag>().map_err(ApiError::malformed)?);
    }
    if tags.is_empty() {
        return Err(ApiError::malformed("missing snapshot tags"));
    }
    let locations = locations(&state, cluster.id, query.locations.as_ref()).await?;
    let access = access(&state, &text).await?;
    let mut places = Vec::new();
    for location in locations {
        let reader = access.reader(&location).await?;
        places.push((location, reader));
    }
    let Some(_guard) = state.backup_locks.delete(access.cluster.id) else {
        return Err(refused(DeleteError::Busy));
    };
    let hosts: Vec<_> = access.members.iter().filter(|m| m.up).map(|m| m.host.clone()).collect();
    delete_backups(access.cluster.id, &places, &hosts, &access.client, &tags).await.map(drop).map_err(refused)
}

fn refused(error: DeleteError) -> ApiError {
    const WHAT: &str = "delete snapshots";
    match &error {
        DeleteError::NotFound => ApiError::not_found(WHAT),
        DeleteError::Busy => ApiError::conflict(&error).context(WHAT),
        DeleteError::Protected(_) => ApiError::invalid(&error).context(WHAT),
        DeleteError::Location(_) | DeleteError::Purge(_) | DeleteError::Hosts(_) => {
            ApiError::internal(&error).context(WHAT)
        }
    }
}

async fn delete_local(State(state): State<AppState>, PathParams(text): PathParams<String>) -> ApiResult<()> {
    let access = access(&state, &text).await?;
    delete_local_snapshots(&access.client, &access.members)
        .await
        .map_err(|e| ApiError::internal(&e).context("delete local snapshots"))
}
