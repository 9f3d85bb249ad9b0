//! `/ping` and `/version`.

use axum::Json;
use axum::Router;
use axum::routing::get;
use common::api::manager::{GetVersion, Version};
use http::StatusCode;

use super::{AppState, route};

pub(super) fn routes() -> Router<AppState> {
    route(Router::new(), GetVersion, version)
}

/// Beside the API, for probes.
pub(super) fn root_routes() -> Router<AppState> {
    routes().route("/ping", get(|| async { StatusCode::NO_CONTENT }))
}

async fn version() -> Json<Version> {
    Json(Version { version: common::version::VERSION.to_owned() })
}
