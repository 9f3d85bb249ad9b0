//! Engine calls, `POST /agent/rclone/<group>/<call>` (spec agent.md 2.4 to 2.6): parse, call, reply.
//!
//! What moves bytes is in `transfer` and `storage`. A call runs under its request, so that a client that leaves
//! cancels it, or as a job with `_async=true`; then parameters are still checked before the answer.

mod core;
mod error;
mod job;
mod list;
mod operations;
mod params;
mod permissions;
mod remote;
mod sync;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use futures::FutureExt;
use futures::future::BoxFuture;
use http::{HeaderName, HeaderValue, Method, Request, StatusCode, header};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

pub use error::CallError;
use params::BodyUse;
pub use params::Params;
pub use remote::{Remote, Remotes};

use crate::config::Config;
use crate::jobs::{JobContext, JobError, Jobs};
use crate::metrics::Metrics;
use crate::storage::Stores;
use crate::transfer::Engine;

/// Where the calls are.
const PREFIX: &str = "/agent/rclone/";
/// Names the job of an answer; 0 without one.
const JOB_HEADER: HeaderName = HeaderName::from_static("x-rclone-jobid");

/// Work of a call whose parameters have been checked, ready to run for a job.
type Work = Box<dyn FnOnce(JobContext) -> BoxFuture<'static, Result<Value, CallError>> + Send>;

/// Boxes the work of a call.
fn work<F>(work: impl FnOnce(JobContext) -> F + Send + 'static) -> Work
where
    F: Future<Output = Result<Value, CallError>> + Send + 'static,
{
    Box::new(move |context| work(context).boxed())
}

/// Uploads by `operations/put` at once: each may hold a part of its file in memory.
const PUTS: usize = 4;

/// Everything the calls need.
pub struct Rclone {
    /// Moves files.
    pub engine: Arc<Engine>,
    /// Jobs in the background.
    pub jobs: Arc<Jobs>,
    /// Providers.
    pub remotes: Remotes,
    /// The same providers with one attempt per request: whoever checks permissions wants to know now.
    checks: Stores,
    /// Counts what is refused.
    metrics: Arc<Metrics>,
    puts: Semaphore,
}

impl Rclone {
    /// Calls on `remotes`; `checks` are the same providers with [`impatient`] settings.
    pub fn new(
        engine: Arc<Engine>,
        jobs: Arc<Jobs>,
        remotes: Remotes,
        checks: Stores,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self { engine, jobs, remotes, checks, metrics, puts: Semaphore::new(PUTS) }
    }
}

/// A configuration with one attempt per request, for permission checks (spec agent.md 2.6.10).
pub fn impatient(config: &Config) -> Config {
    let mut config = config.clone();
    config.rclone.low_level_retries = 1;
    config
}

macro_rules! calls {
    ($($name:ident $path:literal,)*) => {
        /// An exposed call. Everything else is answered with 404, on purpose.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        enum Call { $($name,)* }

        impl Call {
            const ALL: &[(&'static str, &'static str, Self)] =
                &[$(($path, concat!("/agent/rclone/", $path), Self::$name),)*];
        }
    };
}

calls! {
    BandwidthLimit "core/bwlimit",
    Transfers "core/transfers",
    StatsDelete "core/stats-delete",
    StatsReset "core/stats-reset",
    JobInfo "job/info",
    JobProgress "job/progress",
    JobStop "job/stop",
    JobFiles "job/files",
    About "operations/about",
    Cat "operations/cat",
    CheckPermissions "operations/check-permissions",
    CopyFile "operations/copyfile",
    DeleteFile "operations/deletefile",
    DeletePaths "operations/deletepaths",
    EventBasedHold "operations/event-based-hold",
    FileInfo "operations/fileinfo",
    List "operations/list",
    MoveFile "operations/movefile",
    Purge "operations/purge",
    Put "operations/put",
    RetentionLock "operations/retention-lock",
    Verify "operations/verify",
    CopyDir "sync/copydir",
    CopyPaths "sync/copypaths",
    MoveDir "sync/movedir",
}

impl Call {
    fn body_use(self) -> BodyUse {
        if self == Self::Put { BodyUse::Content } else { BodyUse::Parameters }
    }
}

/// The complete path of an exposed call, for metrics.
pub fn call_path(call: &str) -> Option<&'static str> {
    Call::ALL.iter().find(|(name, _, _)| *name == call).map(|(_, path, _)| *path)
}

/// Calls of the original's engine that are left out on purpose.
const ABSENT: [&str; 14] = [
    "job/status",
    "job/list",
    "core/stats",
    "core/transferred",
    "core/aggregated",
    "core/group-list",
    "operations/mkdir",
    "operations/copyurl",
    "operations/uploadfile",
    "sync/sync",
    "rc/noop",
    "rc/list",
    "config/dump",
    "backend/command",
];

/// A name for a call that does not exist. There are few, so that callers cannot fill the metrics.
fn absent(call: &str) -> &'static str {
    ABSENT.into_iter().find(|name| *name == call).unwrap_or("other")
}

/// Answers any request below `/agent/rclone/`.
pub async fn handle(State(rclone): State<Arc<Rclone>>, request: Request<Body>) -> Response {
    let path = request.uri().path().strip_prefix(PREFIX).unwrap_or_default().to_owned();
    let peer =
        request.extensions().get::<ConnectInfo<SocketAddr>>().map_or(String::new(), |p| p.0.ip().to_string());
    if request.method() != Method::POST {
        let message = format!("method {:?} not allowed", request.method().as_str());
        let mut answer = error::response(StatusCode::METHOD_NOT_ALLOWED, &message, &path, None);
        answer.headers_mut().insert(header::ALLOW, HeaderValue::from_static("POST"));
        return answer;
    }
    match Call::ALL.iter().find(|(name, _, _)| *name == path) {
        Some((_, _, call)) => rclone.run(*call, &path, request).await,
        None => {
            tracing::warn!(path, peer, "Call that is not exposed was refused");
            rclone.metrics.count_unexposed(&peer, absent(&path));
            let kind = [(header::CONTENT_TYPE, "text/plain; charset=utf-8")];
            (StatusCode::NOT_FOUND, kind, "{\"message\":\"Not found\",\"status\":404}\n").into_response()
        }
    }
}

impl Rclone {
    async fn run(self: Arc<Self>, call: Call, path: &str, request: Request<Body>) -> Response {
        let (head, mut body) = request.into_parts();
        let query = head.uri.query().unwrap_or_default();
        let params = match Params::read(&head.headers, query, &mut body, call.body_use()).await {
            Ok(params) => params,
            Err(bad) => {
                let input = bad.merged.map(|params| params.as_value());
                return error::response(bad.error.status(), &bad.error.message(), path, input);
            }
        };
        let outcome = match call {
            Call::Cat | Call::List | Call::Put => {
                self.run_streaming(call, &params, content_length(&head.headers), body).await
            }
            call => self.run_simple(call, &params).await,
        };
        outcome.unwrap_or_else(|error| {
            let (status, message) = (error.status(), error.message());
            if status.is_server_error() {
                tracing::error!(call = path, error = message, "Call failed");
            } else {
                tracing::debug!(call = path, error = message, "Call refused");
            }
            error::response(status, &message, path, Some(params.as_value()))
        })
    }

    /// Runs a call that reads or writes a stream: there is nobody to stream for in the background.
    async fn run_streaming(
        &self,
        call: Call,
        params: &Params,
        length: Option<u64>,
        body: Body,
    ) -> Result<Response, CallError> {
        if params.flag("_async")? {
            return Err(CallError::BadRequest("_async: this call does not run in the background".into()));
        }
        match call {
            Call::Cat => self.cat(params).await,
            Call::List => self.list(params).await,
            _ => self.put(params, length, body).await,
        }
    }

    /// Runs a call whose answer is a JSON object, at once or as a job.
    async fn run_simple(self: Arc<Self>, call: Call, params: &Params) -> Result<Response, CallError> {
        let background = params.flag("_async")?;
        let work = self.prepare(call, params)?;
        if !background {
            return Ok(reply(&work(self.jobs.call()).await?, 0));
        }
        let group = params.text("_group")?.to_owned();
        let id = self.jobs.start(Some(group), |context| {
            let work = work(context.clone());
            async move {
                tokio::select! {
                    biased;
                    () = stopped(&context, call) => Err(JobError::Stopped),
                    outcome = work => outcome.map_err(Into::into),
                }
            }
        });
        Ok(reply(&json!({ "jobid": id }), id))
    }

    /// Checks the parameters and returns the work to do. Nothing has happened before it runs, but for the settings of
    /// the process that come with a job.
    fn prepare(self: &Arc<Self>, call: Call, params: &Params) -> Result<Work, CallError> {
        match call {
            Call::BandwidthLimit => self.bandwidth_limit(params),
            Call::Transfers => self.transfers(params),
            Call::StatsDelete => self.stats_delete(params),
            Call::StatsReset => self.stats_reset(params),
            Call::JobInfo => self.job_info(params),
            Call::JobProgress => self.job_progress(params),
            Call::JobStop => self.job_stop(params),
            Call::JobFiles => self.job_files(params),
            Call::About => self.about(params),
            Call::CheckPermissions => self.check(params),
            Call::CopyFile => self.copy_file(params),
            Call::MoveFile => self.move_file(params),
            Call::DeleteFile => self.delete_file(params),
            Call::DeletePaths => self.delete_paths(params),
            Call::FileInfo => self.file_info(params),
            Call::Purge => self.purge(params),
            Call::RetentionLock => self.unsupported(params, "retention lock"),
            Call::EventBasedHold => self.unsupported(params, "event based hold"),
            Call::Verify => self.verify(params),
            Call::MoveDir => self.transfer_dir(params, true),
            Call::CopyDir => self.transfer_dir(params, false),
            Call::CopyPaths => self.copy_paths(params),
            // They stream and are answered elsewhere.
            Call::Cat | Call::List | Call::Put => Err(CallError::Refused("this call has no job".into())),
        }
    }
}

/// Ends when the job is stopped and its work does not look for that itself.
async fn stopped(context: &JobContext, call: Call) {
    match call {
        // The engine stops by itself, and cleans up on the way.
        Call::MoveDir | Call::CopyDir | Call::CopyPaths | Call::Verify => std::future::pending().await,
        _ => context.cancel().cancelled().await,
    }
}

fn content_length(headers: &http::HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// A successful answer.
fn reply(value: &Value, job: u64) -> Response {
    let body = format!("{value}\n");
    let headers =
        [(header::CONTENT_TYPE, HeaderValue::from_static("application/json")), (JOB_HEADER, job.into())];
    (headers, Body::from(body)).into_response()
}

/// An answer type as JSON.
fn to_json(value: &impl Serialize) -> Result<Value, CallError> {
    serde_json::to_value(value).map_err(|e| CallError::Refused(format!("encode answer: {e}")))
}

/// No result.
fn empty() -> Value {
    Value::Object(serde_json::Map::new())
}
