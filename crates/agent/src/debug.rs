//! Diagnosis port (spec agent.md 1.3, `debug`): what can be told without a profiler in the process.
//!
//! The original serves the profiles of its runtime here; the paths are kept, and those that have no counterpart
//! say which tool gives the answer.

use axum::Router;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::{StatusCode, header};

const NO_PROFILER: &str = "This build has no sampling profiler; use: perf record -g -p <pid of the agent>\n";

/// Routes below `/debug/pprof/`.
pub fn router() -> Router {
    let none = || async { (StatusCode::NOT_IMPLEMENTED, NO_PROFILER) };
    Router::new()
        .route("/debug/pprof/", get(threads))
        .route("/debug/pprof/cmdline", get(cmdline))
        .route("/debug/pprof/profile", get(none))
        .route("/debug/pprof/symbol", get(none))
        .route("/debug/pprof/trace", get(none))
}

/// Arguments, separated by NUL bytes.
async fn cmdline() -> Response {
    let arguments: Vec<String> = std::env::args().collect();
    ([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], arguments.join("\0")).into_response()
}

/// Memory of the process and what each of its threads does.
async fn threads() -> Response {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let memory = status.lines().filter(|l| l.starts_with("Vm") || l.starts_with("Threads"));
    let mut lines: Vec<String> = memory.map(str::to_owned).collect();
    for entry in std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten() {
        // A thread may end while it is looked at.
        let Ok(stat) = std::fs::read_to_string(entry.path().join("stat")) else { continue };
        let state = stat.rsplit_once(')').map_or("?", |(_, rest)| rest.trim_start()).chars().next();
        let name = stat.split_once('(').and_then(|(_, r)| r.rsplit_once(')')).map_or("", |(name, _)| name);
        lines.push(format!("thread {:?} {name} {}", entry.file_name(), state.unwrap_or('?')));
    }
    ([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], lines.join("\n") + "\n").into_response()
}
