//! Prometheus metrics (spec agent.md 4), one registry per agent so that many agents fit into one process.

mod process;

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use prometheus::{Encoder, IntCounter, IntCounterVec, IntGauge, Opts, Registry, TextEncoder};

use process::ProcessMetrics;

/// Sums over all jobs since the start; the original drops them when the manager resets its statistics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EngineTotals {
    /// Bytes moved.
    pub bytes: u64,
    /// Bytes per second, average of the running jobs.
    pub speed: u64,
    /// Failed files and requests.
    pub errors: u64,
    /// Files compared.
    pub checks: u64,
    /// Files moved.
    pub transfers: u64,
    /// Files deleted.
    pub deletes: u64,
    /// Directories deleted.
    pub deleted_dirs: u64,
    /// Files renamed.
    pub renames: u64,
    /// Some job failed for good.
    pub fatal_error: bool,
    /// Some job failed in a way that may be retried.
    pub retry_error: bool,
}

/// Where [`EngineTotals`] come from at each scrape.
pub type TotalsSource = Arc<dyn Fn() -> EngineTotals + Send + Sync>;

/// All metrics of one agent.
pub struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
    unexposed: IntCounterVec,
    storage_requests: IntCounterVec,
    engine: EngineMetrics,
    process: ProcessMetrics,
    totals: TotalsSource,
}

impl Metrics {
    /// Metrics of an agent whose engine reports `totals`.
    ///
    /// # Errors
    /// Never in practice: names are constant and distinct.
    pub fn new(totals: TotalsSource) -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let counters = |name: &str, help: &str, labels: &[&str]| {
            let vec = IntCounterVec::new(Opts::new(format!("scylla_manager_agent_{name}"), help), labels)?;
            registry.register(Box::new(vec.clone()))?;
            Ok::<_, prometheus::Error>(vec)
        };
        Ok(Self {
            requests: counters(
                "http_status_code",
                "Answers of the API by status",
                &["method", "path", "code"],
            )?,
            unexposed: counters("unexposed_access", "Attempts to use calls not exposed", &["addr", "path"])?,
            storage_requests: counters(
                "rclone_http_status_code",
                "Answers of storage services by status",
                &["host", "method", "code"],
            )?,
            engine: EngineMetrics::new(&registry)?,
            process: ProcessMetrics::new(&registry)?,
            totals,
            registry,
        })
    }

    /// Counts an answer of the API. `path` must be a template, never a raw path, so that it stays bounded.
    pub fn count_request(&self, method: &str, path: &str, code: StatusCode) {
        self.requests.with_label_values(&[method, path, code.as_str()]).inc();
    }

    /// Counts an attempt to use a call that does not exist.
    pub fn count_unexposed(&self, addr: &str, path: &str) {
        self.unexposed.with_label_values(&[addr, path]).inc();
    }

    /// Answers of storage services by `host`, `method`, `code`; storage counts into it.
    pub fn storage_requests(&self) -> &IntCounterVec {
        &self.storage_requests
    }

    /// The text format.
    ///
    /// # Errors
    /// A metric that cannot be encoded.
    pub fn render(&self) -> Result<Vec<u8>, prometheus::Error> {
        self.engine.update((self.totals)());
        self.process.update();
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(text)
    }
}

/// Router of the metrics port: any path answers.
pub fn router(metrics: Arc<Metrics>) -> Router {
    async fn scrape(State(metrics): State<Arc<Metrics>>) -> Response {
        match metrics.render() {
            Ok(text) => ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
            Err(error) => {
                tracing::error!(%error, "Metrics cannot be encoded");
                StatusCode::INTERNAL_SERVER_ERROR.into_response()
            }
        }
    }
    Router::new().fallback(scrape).with_state(metrics)
}

struct EngineMetrics {
    bytes: IntCounter,
    errors: IntCounter,
    checks: IntCounter,
    transfers: IntCounter,
    deletes: IntCounter,
    deleted_dirs: IntCounter,
    renames: IntCounter,
    speed: IntGauge,
    fatal_error: IntGauge,
    retry_error: IntGauge,
}

impl EngineMetrics {
    fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let counter = |name: &str, help: &str| {
            let counter = IntCounter::new(format!("scylla_manager_agent_rclone_{name}"), help)?;
            registry.register(Box::new(counter.clone()))?;
            Ok::<_, prometheus::Error>(counter)
        };
        let gauge = |name: &str, help: &str| {
            let gauge = IntGauge::new(format!("scylla_manager_agent_rclone_{name}"), help)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok::<_, prometheus::Error>(gauge)
        };
        Ok(Self {
            bytes: counter("bytes_transferred_total", "Bytes moved")?,
            errors: counter("errors_total", "Failed files")?,
            checks: counter("checked_files_total", "Files compared with the destination")?,
            transfers: counter("files_transferred_total", "Files moved")?,
            deletes: counter("files_deleted_total", "Files deleted")?,
            deleted_dirs: counter("dirs_deleted_total", "Directories deleted")?,
            renames: counter("files_renamed_total", "Files renamed")?,
            speed: gauge("speed", "Average speed in bytes per second")?,
            fatal_error: gauge("fatal_error", "A fatal error has happened")?,
            retry_error: gauge("retry_error", "An error that may be retried has happened")?,
        })
    }

    fn update(&self, totals: EngineTotals) {
        for (counter, total) in [
            (&self.bytes, totals.bytes),
            (&self.errors, totals.errors),
            (&self.checks, totals.checks),
            (&self.transfers, totals.transfers),
            (&self.deletes, totals.deletes),
            (&self.deleted_dirs, totals.deleted_dirs),
            (&self.renames, totals.renames),
        ] {
            // Two scrapes at once may read different totals; a counter never goes back.
            counter.inc_by(total.saturating_sub(counter.get()));
        }
        self.speed.set(i64::try_from(totals.speed).unwrap_or(i64::MAX));
        self.fatal_error.set(totals.fatal_error.into());
        self.retry_error.set(totals.retry_error.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_labels_are_those_of_the_original() {
        let totals = EngineTotals { bytes: 10, transfers: 2, fatal_error: true, ..Default::default() };
        let metrics = Metrics::new(Arc::new(move || totals)).unwrap();
        metrics.count_request("GET", "/agent/node_info", StatusCode::OK);
        metrics.count_unexposed("10.0.0.9", "rc/noop");
        metrics.storage_requests().with_label_values(&["s3.local", "PUT", "200"]).inc();
        metrics.render().unwrap();
        let text = String::from_utf8(metrics.render().unwrap()).unwrap();
        for line in [
            r#"scylla_manager_agent_http_status_code{code="200",method="GET",path="/agent/node_info"} 1"#,
            r#"scylla_manager_agent_unexposed_access{addr="10.0.0.9",path="rc/noop"} 1"#,
            r#"scylla_manager_agent_rclone_http_status_code{code="200",host="s3.local",method="PUT"} 1"#,
            "scylla_manager_agent_rclone_bytes_transferred_total 10",
            "scylla_manager_agent_rclone_files_transferred_total 2",
            "scylla_manager_agent_rclone_files_deleted_total 0",
            "scylla_manager_agent_rclone_dirs_deleted_total 0",
            "scylla_manager_agent_rclone_files_renamed_total 0",
            "scylla_manager_agent_rclone_checked_files_total 0",
            "scylla_manager_agent_rclone_errors_total 0",
            "scylla_manager_agent_rclone_speed 0",
            "scylla_manager_agent_rclone_fatal_error 1",
            "scylla_manager_agent_rclone_retry_error 0",
            "# TYPE process_cpu_seconds_total counter",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
        assert!(text.contains("\nprocess_resident_memory_bytes "), "{text}");
    }
}
