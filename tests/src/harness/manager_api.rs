//! The few calls to the manager that scenarios poll, in plain JSON: what `sctool` prints is for people.

use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::Value;

use super::wait::{Deadline, wait_for};

/// Client of one manager.
#[derive(Clone, Debug)]
pub struct ManagerApi {
    base: String,
    http: reqwest::Client,
}

/// One run of a task.
#[derive(Clone, Debug)]
pub struct RunState {
    /// Run ID.
    pub id: String,
    /// `RUNNING`, `DONE`, `ERROR`, ...
    pub status: String,
    /// What went wrong; empty when nothing did.
    pub cause: String,
}

impl RunState {
    fn of(run: &Value) -> Self {
        let text = |name: &str| run[name].as_str().unwrap_or_default().to_owned();
        Self { id: text("id"), status: text("status"), cause: text("cause") }
    }

    /// Whether it will not change any more.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        !matches!(self.status.as_str(), "NEW" | "RUNNING" | "STOPPING" | "WAITING" | "")
    }
}

impl ManagerApi {
    /// A client for the API at `base`, e.g. `http://127.0.0.1:5080/api/v1`.
    ///
    /// # Errors
    /// The HTTP client cannot be built.
    pub fn new(base: &str) -> anyhow::Result<Self> {
        common::tls::install_provider();
        let http = reqwest::Client::builder().timeout(Duration::from_secs(60)).no_proxy().build()?;
        Ok(Self { base: base.to_owned(), http })
    }

    /// Base URL.
    #[must_use]
    pub fn base(&self) -> &str {
        &self.base
    }

    /// Gets a JSON document.
    ///
    /// # Errors
    /// No answer, or a status other than 2xx.
    pub async fn get(&self, path: &str) -> anyhow::Result<Value> {
        let url = format!("{}{path}", self.base);
        let reply = self.http.get(&url).send().await.with_context(|| format!("GET {url}"))?;
        let status = reply.status();
        let text = reply.text().await?;
        if !status.is_success() {
            bail!("GET {url}: {status}: {text}");
        }
        serde_json::from_str(&text).with_context(|| format!("GET {url}: {text}"))
    }

    /// The runs of a task, newest first. `task` is `<type>/<id>`.
    ///
    /// # Errors
    /// As for [`get`](Self::get).
    pub async fn history(&self, cluster: &str, task: &str) -> anyhow::Result<Vec<RunState>> {
        let runs = self.get(&format!("/cluster/{cluster}/task/{task}/history?limit=20")).await?;
        Ok(runs.as_array().map(|runs| runs.iter().map(RunState::of).collect()).unwrap_or_default())
    }

    /// Progress document of the latest run.
    ///
    /// # Errors
    /// As for [`get`](Self::get).
    pub async fn progress(&self, cluster: &str, task: &str) -> anyhow::Result<Value> {
        let answer = self.get(&format!("/cluster/{cluster}/task/{task}/latest")).await?;
        Ok(answer["progress"].clone())
    }

    /// Waits until the task has had `runs` runs and the newest has ended, and answers it.
    ///
    /// # Errors
    /// The deadline passed.
    pub async fn wait_ended(
        &self,
        cluster: &str,
        task: &str,
        runs: usize,
        deadline: Deadline,
    ) -> anyhow::Result<RunState> {
        let what = format!("the end of run {runs} of {task}");
        wait_for(&what, deadline, async || {
            let history = self.history(cluster, task).await?;
            Ok(history.first().filter(|run| history.len() >= runs && run.has_ended()).cloned())
        })
        .await
    }

    /// Waits until the newest run of a task has this status.
    ///
    /// # Errors
    /// The deadline passed.
    pub async fn wait_status(
        &self,
        cluster: &str,
        task: &str,
        status: &str,
        deadline: Deadline,
    ) -> anyhow::Result<RunState> {
        let what = format!("status {status} of {task}");
        wait_for(&what, deadline, async || {
            // A manager that is just starting does not answer yet.
            let history = self.history(cluster, task).await.unwrap_or_default();
            Ok(history.first().filter(|run| run.status == status).cloned())
        })
        .await
    }
}
