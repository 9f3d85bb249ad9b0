//! The REST API for `sctool`, base path `/api/v1` (spec manager.md 2). One module per resource.
//!
//! Handlers hold no decisions: they decode, call a workflow or the store, and encode. Every answer that is not
//! a success is JSON, also for paths and methods that do not exist.

pub mod error;
pub mod extract;
pub mod trace;

mod backups;
#[cfg(test)]
mod catalogue;
mod clusters;
mod resolve;
mod suspend;
mod tasks;
#[cfg(test)]
pub(crate) mod testing;
mod version;

use std::sync::Arc;

use axum::Router;
use axum::extract::{OriginalUri, Request};
use axum::middleware;
use axum::routing::{MethodFilter, on};
use common::api::Endpoint;
use http::Method;
use tower::Layer;
use tower::util::MapRequestLayer;

use crate::Manager;

pub use error::{ApiError, Context};
pub use extract::{JsonBody, PathParams, QueryParams};

/// What handlers share.
pub type AppState = Arc<Manager>;

/// A handler's outcome.
pub type ApiResult<T> = Result<T, ApiError>;

/// The whole API with `/ping` and `/version` beside it.
pub fn router(state: AppState) -> Router {
    let api = Router::new()
        .merge(version::routes())
        .merge(tasks::routes())
        .merge(suspend::routes())
        .merge(clusters::routes())
        .merge(backups::routes());
    let all = Router::new()
        .nest("/api/v1", api)
        .merge(version::root_routes())
        .fallback(no_endpoint)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(middleware::from_fn(trace::layer))
        .with_state(state);
    // Before routing, so that each path answers with and without a slash at its end.
    Router::new().fallback_service(MapRequestLayer::new(without_trailing_slash).layer(all))
}

/// The route of an endpoint: its method and its handler. Path and method come from the wire contract.
pub fn route<S, E, H, T>(router: Router<S>, _endpoint: E, handler: H) -> Router<S>
where
    S: Clone + Send + Sync + 'static,
    E: Endpoint,
    H: axum::handler::Handler<T, S>,
    T: 'static,
{
    // Every method of our contracts is one that axum can filter by.
    let method = MethodFilter::try_from(E::METHOD).unwrap_or(MethodFilter::GET);
    router.route(E::PATH, on(method, handler))
}

async fn no_endpoint(OriginalUri(uri): OriginalUri) -> ApiError {
    ApiError::no_endpoint(uri.path())
}

async fn method_not_allowed(method: Method, OriginalUri(uri): OriginalUri) -> ApiError {
    ApiError::method_not_allowed(&method, uri.path())
}

fn without_trailing_slash(mut request: Request) -> Request {
    let path = request.uri().path();
    let trimmed = path.trim_end_matches('/');
    if trimmed.len() == path.len() || trimmed.is_empty() {
        return request;
    }
    let text = match request.uri().query() {
        Some(query) => format!("{trimmed}?{query}"),
        None => trimmed.to_owned(),
    };
    if let Ok(uri) = text.parse() {
        *request.uri_mut() = uri;
    }
    request
}
