//! Clusters and their live status (spec manager.md 2.3).

#[cfg(test)]
mod tests;

use axum::extract::State;
use axum::{Json, Router};
use common::api::manager as wire;
use common::api::manager::{
    AddCluster, DeleteCluster, DeleteClusterQuery, GetCluster, GetStatus, ListClusters, NodeStatus,
    UpdateCluster,
};
use common::ids::ClusterId;
use http::{StatusCode, header};
use tracing::warn;

use super::{ApiError, ApiResult, AppState, Context, JsonBody, PathParams, QueryParams, resolve, route};
use crate::cluster::ClusterError;
use crate::cluster::add::{AddError, validate};
use crate::health_runner;
use crate::store::Cluster;
use crate::store::secrets::SecretKind;

/// What listings show in place of a secret.
const SET: &str = "set";

pub(super) fn routes() -> Router<AppState> {
    let router = route(Router::new(), ListClusters, list);
    let router = route(router, AddCluster, add);
    let router = route(router, GetCluster, get);
    let router = route(router, UpdateCluster, update);
    let router = route(router, DeleteCluster, delete);
    route(router, GetStatus, status)
}

fn to_wire(cluster: Cluster) -> wire::Cluster {
    wire::Cluster {
        id: Some(cluster.id),
        name: cluster.name,
        labels: cluster.labels,
        host: cluster.host,
        port: cluster.port,
        auth_token: cluster.auth_token.expose().to_owned(),
        force_tls_disabled: cluster.force_tls_disabled,
        force_non_ssl_session_port: cluster.force_non_ssl_session_port,
        ..wire::Cluster::default()
    }
}

async fn list(State(state): State<AppState>) -> ApiResult<Json<Vec<wire::Cluster>>> {
    let kinds = state.store.secret_kinds().await.context("list clusters")?;
    let clusters = state.store.clusters().await.context("list clusters")?;
    let mut clusters: Vec<wire::Cluster> = clusters.into_iter().map(to_wire).collect();
    for cluster in &mut clusters {
        let kinds = cluster.id.and_then(|id| kinds.get(&id)).cloned().unwrap_or_default();
        if kinds.contains(&SecretKind::Cql) {
            (cluster.username, cluster.password) = (SET.into(), SET.into());
        }
        if kinds.contains(&SecretKind::Alternator) {
            cluster.alternator_access_key_id = SET.into();
            cluster.alternator_secret_access_key = SET.into();
        }
    }
    clusters.sort_by_key(|c| c.id);
    Ok(Json(clusters))
}

async fn add(
    State(state): State<AppState>,
    JsonBody(body): JsonBody<wire::Cluster>,
) -> ApiResult<(StatusCode, [(header::HeaderName, String); 1])> {
    let id = body.id.filter(|id| !id.is_nil()).unwrap_or_else(ClusterId::random);
    let known = state.store.cluster(id).await.context("create cluster")?.is_some();
    let cluster = put(&state, id, &body).await.context("create cluster")?;
    if !known
        && let Err(error) =
            health_runner::create_tasks(&state.scheduler, cluster.id, &state.config.healthcheck).await
    {
        // Half a cluster is worse than none: the user would add it again and find its name taken.
        if let Err(error) = remove(&state, cluster.id).await {
            warn!(cluster = %cluster.id, error = error.message(), "Cluster without health checks cannot be removed");
        }
        return Err(ApiError::internal(&error).context("create cluster: create health check tasks"));
    }
    let location = format!("/api/v1/cluster/{}", cluster.id);
    Ok((StatusCode::CREATED, [(header::LOCATION, location)]))
}

async fn put(state: &AppState, id: ClusterId, body: &wire::Cluster) -> ApiResult<Cluster> {
    let request = validate(id, body).map_err(|e| refused(&e))?;
    let cluster = state.clusters.put(request).await.map_err(|e| refused(&e))?;
    state.metrics.server.set_name(cluster.id, &cluster.display_name());
    Ok(cluster)
}

fn refused(error: &AddError) -> ApiError {
    let message = common::error::chain(error);
    match error {
        AddError::Invalid(_) | AddError::NameTaken(_) => ApiError::invalid(message),
        AddError::Connectivity { hint, .. } => ApiError::failed(message).with_details(hint.clone()),
        AddError::Discovery(_) | AddError::Store(_) => ApiError::failed(message),
    }
}

async fn get(
    State(state): State<AppState>,
    PathParams(text): PathParams<String>,
) -> ApiResult<Json<wire::Cluster>> {
    Ok(Json(to_wire(resolve::cluster(&state.store, &text).await?)))
}

async fn update(
    State(state): State<AppState>,
    PathParams(text): PathParams<String>,
    JsonBody(body): JsonBody<wire::Cluster>,
) -> ApiResult<Json<wire::Cluster>> {
    let id = resolve::cluster(&state.store, &text).await?.id;
    let cluster = put(&state, id, &body).await.context(format_args!("update cluster \"{id}\""))?;
    Ok(Json(to_wire(cluster)))
}

async fn delete(
    State(state): State<AppState>,
    PathParams(text): PathParams<String>,
    QueryParams(query): QueryParams<DeleteClusterQuery>,
) -> ApiResult<()> {
    let cluster = resolve::cluster(&state.store, &text).await?;
    let chosen: Vec<SecretKind> = [
        (query.cql_creds, SecretKind::Cql),
        (query.alternator_creds, SecretKind::Alternator),
        (query.ssl_user_cert, SecretKind::TlsIdentity),
    ]
    .into_iter()
    .filter_map(|(wanted, kind)| wanted.unwrap_or(false).then_some(kind))
    .collect();
    let what = format!("delete cluster \"{}\"", cluster.id);
    if chosen.is_empty() {
        remove(&state, cluster.id).await.context(what)
    } else {
        state.store.delete_secrets(cluster.id, chosen).await.context(what)
    }
}

/// Stops the tasks of a cluster, and forgets it.
async fn remove(state: &AppState, id: ClusterId) -> ApiResult<()> {
    state.scheduler.remove_cluster(id).await.map_err(|e| ApiError::internal(&e))?;
    if !state.store.delete_cluster(id).await? {
        warn!(cluster = %id, "Cluster was deleted by another request");
    }
    state.clusters.forget(id);
    state.metrics.remove(id);
    Ok(())
}

async fn status(
    State(state): State<AppState>,
    PathParams(text): PathParams<String>,
) -> ApiResult<Json<Vec<NodeStatus>>> {
    let cluster = resolve::cluster(&state.store, &text).await?;
    let timeout = state.config.healthcheck.max_timeout;
    let failed = |e: ClusterError| {
        ApiError::internal(&e).context(format_args!("get cluster \"{}\" status", cluster.id))
    };
    Ok(Json(state.clusters.status(cluster.id, timeout).await.map_err(failed)?))
}
