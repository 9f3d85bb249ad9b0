//! Typed reads from the node's own REST API (spec scylla-node.md 1 and 2.9).

use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Limited};
use serde::de::DeserializeOwned;

use crate::upstream::{Upstream, UpstreamError};

/// Limit for one read; configuration values come from memory.
const READ_TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes of an answer that are accepted; the largest value is a map of endpoints.
const ANSWER_LIMIT: usize = 1 << 20;

/// A read that failed.
#[derive(Debug, thiserror::Error)]
pub enum ScyllaError {
    /// No answer.
    #[error(transparent)]
    Unreachable(#[from] UpstreamError),
    /// No answer in time, or broken off.
    #[error("read {path} from Scylla: {reason}")]
    Broken {
        /// Path of the call.
        path: String,
        /// What happened.
        reason: String,
    },
    /// Scylla refused.
    #[error("read {path} from Scylla: {message} (HTTP {status})")]
    Refused {
        /// Path of the call.
        path: String,
        /// Its status.
        status: StatusCode,
        /// Its text.
        message: String,
    },
    /// Not the JSON that was expected.
    #[error("read {path} from Scylla: answer not understood")]
    Decode {
        /// Path of the call.
        path: String,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
}

/// The node's REST API.
#[derive(Clone)]
pub struct ScyllaApi {
    upstream: Upstream,
    base_url: String,
}

impl ScyllaApi {
    /// An API at `base_url`, e.g. `http://10.0.0.1:10000`.
    pub fn new(upstream: Upstream, base_url: String) -> Self {
        Self { upstream, base_url }
    }

    /// Base URL of the API.
    pub fn base_url(&self) -> &str {
        &self.base_url
    }

    /// How requests travel, for the proxy.
    pub fn upstream(&self) -> &Upstream {
        &self.upstream
    }

    /// A configuration value of the node.
    ///
    /// # Errors
    /// No answer, an unknown name, or another type.
    pub async fn config<T: DeserializeOwned>(&self, name: &str) -> Result<T, ScyllaError> {
        self.get(&format!("/v2/config/{name}")).await
    }

    /// A configuration value that some releases do not have: they answer 400, and the default counts.
    ///
    /// # Errors
    /// No answer, or another type.
    pub async fn optional_config<T: DeserializeOwned + Default>(&self, name: &str) -> Result<T, ScyllaError> {
        match self.config(name).await {
            Err(ScyllaError::Refused { status: StatusCode::BAD_REQUEST, .. }) => Ok(T::default()),
            other => other,
        }
    }

    /// Release of Scylla, e.g. `2025.1.0-0.20250325.9dca28d2b818`.
    ///
    /// # Errors
    /// No answer.
    pub async fn release_version(&self) -> Result<String, ScyllaError> {
        self.get("/storage_service/scylla_release_version").await
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ScyllaError> {
        let broken = |reason: String| ScyllaError::Broken { path: path.to_owned(), reason };
        let work = self.fetch(path);
        let (status, bytes) = tokio::time::timeout(READ_TIMEOUT, work)
            .await
            .map_err(|_| broken(format!("no answer within {READ_TIMEOUT:?}")))??;
        if !status.is_success() {
            let message = common::api::ApiError::from_body(status, &bytes).message;
            return Err(ScyllaError::Refused { path: path.to_owned(), status, message });
        }
        serde_json::from_slice(&bytes).map_err(|source| ScyllaError::Decode { path: path.to_owned(), source })
    }

    async fn fetch(&self, path: &str) -> Result<(StatusCode, Bytes), ScyllaError> {
        let broken = |reason: String| ScyllaError::Broken { path: path.to_owned(), reason };
        let request = Request::get(format!("{}{path}", self.base_url))
            .body(Body::empty())
            .map_err(|e| broken(e.to_string()))?;
        let response = self.upstream.send(request).await?;
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_LIMIT).collect().await;
        Ok((status, body.map_err(|e| broken(e.to_string()))?.to_bytes()))
    }
}
