//! What an operator types, and waits for.

use std::process::Stdio;

use anyhow::{Context, bail, ensure};

use super::Bed;
use crate::harness::config::AUTH_TOKEN;
use crate::harness::manager_api::RunState;
use crate::harness::process::Child;
use crate::harness::wait::Deadline;

/// A small backup ends within this many seconds.
const RUN: Deadline = Deadline::seconds(120);

/// What a call of `sctool` printed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SctoolRun {
    /// Exit code.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

/// A call of `sctool` that may still run; dropping it ends it.
#[derive(Debug)]
pub struct RunningSctool(tokio::process::Child);

impl RunningSctool {
    /// Waits for its end.
    ///
    /// # Errors
    /// It does not end in time.
    pub async fn ended(self) -> anyhow::Result<SctoolRun> {
        let output = tokio::time::timeout(RUN.limit, self.0.wait_with_output());
        let output = output.await.context("sctool did not end in time")??;
        Ok(SctoolRun {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }
}

impl Bed {
    /// Starts `sctool` with these arguments against the manager, so that the test can do something else meanwhile.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start_sctool(&self, arguments: &[&str]) -> anyhow::Result<RunningSctool> {
        let mut command = self.programs.sctool.command();
        command
            .env("SCYLLA_MANAGER_API_URL", self.api.base())
            .env_remove("SCYLLA_MANAGER_CLUSTER")
            .env("TZ", "UTC");
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = tokio::process::Command::from(command).kill_on_drop(true).spawn();
        Ok(RunningSctool(child.context("start sctool")?))
    }

    /// Runs `sctool` with these arguments against the manager and waits for its end.
    ///
    /// # Errors
    /// It cannot be started, or does not end in time.
    pub async fn sctool(&self, arguments: &[&str]) -> anyhow::Result<SctoolRun> {
        self.start_sctool(arguments)?.ended().await
    }

    /// Runs `sctool` and demands success; answers its standard output.
    ///
    /// # Errors
    /// It fails; the message holds what it printed and the end of the manager's log.
    pub async fn sctool_ok(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let run = self.sctool(arguments).await?;
        if run.code != 0 {
            let log = self.manager.as_ref().map(Child::log_tail).unwrap_or_default();
            bail!(
                "sctool {} ended with {}:\n{}{}\n{log}",
                arguments.join(" "),
                run.code,
                run.stdout,
                run.stderr
            );
        }
        Ok(run.stdout)
    }

    /// The `sctool cluster add` that makes the cluster known.
    #[must_use]
    pub fn add_cluster_arguments(&self) -> Vec<String> {
        let host = self.cluster.nodes()[0].address().to_string();
        let port = self.agent_port.to_string();
        let mut arguments: Vec<String> =
            ["cluster", "add", "--host", &host, "--port", &port].map(str::to_owned).into();
        arguments.extend(["--name", &self.name, "--auth-token", AUTH_TOKEN].map(str::to_owned));
        if let Some((username, password)) = &self.cql {
            arguments.extend(["--username", username, "--password", password].map(str::to_owned));
        }
        arguments
    }

    pub(super) async fn add_cluster(&self) -> anyhow::Result<()> {
        let arguments = self.add_cluster_arguments();
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        self.sctool_ok(&arguments).await.map(drop)
    }

    /// The location of the bucket, e.g. `s3:backups`.
    #[must_use]
    pub fn location(&self) -> String {
        format!("s3:{}", self.bucket)
    }

    /// Creates a backup task that starts at once; answers `backup/<id>`. Failed runs are not retried.
    ///
    /// # Errors
    /// The task is refused.
    pub async fn create_backup(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let location = self.location();
        let mut all = vec!["backup", "-c", &self.name, "-L", &location, "--num-retries", "0"];
        all.extend(arguments);
        Ok(self.sctool_ok(&all).await?.trim().to_owned())
    }

    /// Starts a task again.
    ///
    /// # Errors
    /// The manager refuses.
    pub async fn start_task(&self, task: &str) -> anyhow::Result<()> {
        self.sctool_ok(&["start", "-c", &self.name, task]).await.map(drop)
    }

    /// Waits for the end of the task's n-th run and demands DONE; records what the nodes hold under its tag.
    ///
    /// # Errors
    /// The run ends otherwise, or not in time.
    pub async fn run_done(&mut self, task: &str, run: usize) -> anyhow::Result<String> {
        let ended = self.run_ended(task, run).await?;
        let progress = self.api.progress(&self.name, task).await?;
        let log = self.manager.as_ref().map(Child::log_tail).unwrap_or_default();
        ensure!(ended.status == "DONE", "run {run} of {task} is {}: {}\n{log}", ended.status, ended.cause);
        let tag = progress["snapshot_tag"].as_str().context("the progress has no snapshot tag")?.to_owned();
        self.ledger.record(&tag, &self.cluster)?;
        Ok(tag)
    }

    /// Records what the nodes hold as the content of the task's newest snapshot; nothing may have been written since.
    ///
    /// # Errors
    /// The newest run has no snapshot.
    pub async fn record_latest(&mut self, task: &str) -> anyhow::Result<()> {
        let progress = self.api.progress(&self.name, task).await?;
        let tag = progress["snapshot_tag"].as_str().context("the progress has no snapshot tag")?;
        self.ledger.record(tag, &self.cluster)?;
        Ok(())
    }

    /// Waits for the end of the task's n-th run, however it ends.
    ///
    /// # Errors
    /// It does not end in time.
    pub async fn run_ended(&self, task: &str, run: usize) -> anyhow::Result<RunState> {
        let ended = self.api.wait_ended(&self.name, task, run, RUN).await;
        ended.with_context(|| self.manager.as_ref().map(Child::log_tail).unwrap_or_default())
    }

    /// Creates a backup task, waits for DONE, answers task and tag.
    ///
    /// # Errors
    /// The task is refused or the run fails.
    pub async fn backup(&mut self, arguments: &[&str]) -> anyhow::Result<(String, String)> {
        let task = self.create_backup(arguments).await?;
        let tag = self.run_done(&task, 1).await?;
        Ok((task, tag))
    }

    /// Starts a task again, waits for DONE of its n-th run, answers the tag.
    ///
    /// # Errors
    /// The run fails.
    pub async fn backup_again(&mut self, task: &str, run: usize) -> anyhow::Result<String> {
        self.start_task(task).await?;
        self.run_done(task, run).await
    }
}
