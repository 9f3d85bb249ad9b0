//! The task type `backup`, as the scheduler sees it.

use common::api::manager::BackupProgress;
use common::ids::{ClusterId, RunId, TaskId};
use common::units::DcLimit;
use futures::future::BoxFuture;
use serde_json::Value;
use tracing::{Instrument, info, info_span};

use super::backups::Backups;
use super::delete::delete_local_snapshots;
use super::error::{BackupError, HostFailure};
use super::properties::{BackupProperties, check_datacenters};
use super::target::{self, Target};
use super::{progress, workflow};
use crate::agent_client::Patience;
use crate::cluster::topology::members;
use crate::hosts::at_most;
use crate::scheduler::{Clock, Properties, RunContext, RunError, Runner};
use crate::store::backup_runs::RunKey;

/// Property that [`Runner::decorate`] adds.
const RETENTION_MAP: &str = "retention_map";

/// Hosts whose rate limit is changed at once.
const HOSTS_AT_ONCE: usize = 32;

/// Runs backups.
pub struct BackupRunner {
    backups: Backups,
    clock: Clock,
}

impl BackupRunner {
    /// A runner for all clusters.
    pub fn new(backups: Backups, clock: Clock) -> Self {
        Self { backups, clock }
    }

    async fn resolve(
        &self,
        cluster: ClusterId,
        properties: &Properties,
    ) -> Result<(BackupProperties, Target), BackupError> {
        let properties = BackupProperties::parse(properties)?;
        let now = self.clock.now();
        let target = target::resolve(&self.backups, cluster, &properties, Patience::Interactive, now).await?;
        Ok((properties, target))
    }
}

/// How the scheduler and the API treat an error.
fn run_error(error: BackupError) -> RunError {
    match error {
        error if error.is_invalid() => RunError::invalid(error),
        error @ BackupError::BitRot { .. } => RunError::permanent(error),
        error => RunError::failed(error),
    }
}

/// The same for a target that somebody waits for. Users know one failure by the words of the published guide: nodes
/// cannot use their location.
fn target_error(error: BackupError, what: &str) -> RunError {
    let what = match &error {
        BackupError::NotAccessible { .. } => "failed to get backup target",
        _ => what,
    };
    run_error(error).context(what)
}

impl Runner for BackupRunner {
    fn decorate<'a>(
        &'a self,
        cluster: ClusterId,
        mut properties: Properties,
    ) -> BoxFuture<'a, Result<Properties, RunError>> {
        Box::pin(async move {
            let policies = self.backups.policies(cluster).await.map_err(run_error)?;
            let policies = serde_json::to_value(policies).map_err(RunError::failed)?;
            properties.insert(RETENTION_MAP.to_owned(), policies);
            Ok(properties)
        })
    }

    fn check<'a>(
        &'a self,
        cluster: ClusterId,
        properties: &'a Properties,
    ) -> BoxFuture<'a, Result<(), RunError>> {
        Box::pin(async move {
            let resolved = self.resolve(cluster, properties).await;
            resolved.map(drop).map_err(|e| target_error(e, "create backup target"))
        })
    }

    fn dry_run<'a>(
        &'a self,
        cluster: ClusterId,
        properties: &'a Properties,
    ) -> BoxFuture<'a, Result<Option<Value>, RunError>> {
        Box::pin(async move {
            let resolved = self.resolve(cluster, properties).await;
            let (properties, target) = resolved.map_err(|e| target_error(e, "get backup target"))?;
            let size = target::size(&self.backups, cluster, &target).await;
            let mut answer = target.to_wire(&properties);
            answer.size = size.map_err(|e| run_error(e).context("get backup target size"))?;
            serde_json::to_value(answer).map(Some).map_err(RunError::failed)
        })
    }

    fn clean_up<'a>(&'a self, cluster: ClusterId) -> BoxFuture<'a, Result<(), RunError>> {
        Box::pin(async move {
            let client =
                self.backups.clusters().client(cluster).await.map_err(RunError::failed)?.interactive();
            let members = members(&client).await.map_err(RunError::failed)?;
            delete_local_snapshots(&client, &members).await.map_err(RunError::failed)
        })
    }

    fn progress<'a>(
        &'a self,
        cluster: ClusterId,
        task: TaskId,
        run: RunId,
    ) -> BoxFuture<'a, Result<Option<Value>, RunError>> {
        Box::pin(async move {
            let key = RunKey { cluster, task, run };
            let store = self.backups.store();
            let Some(run) = store.backup_run(key).await.map_err(RunError::failed)? else { return Ok(None) };
            let rows = store.backup_progress(key).await.map_err(RunError::failed)?;
            let document = progress::aggregate(&run, &rows);
            serde_json::to_value(document).map(Some).map_err(RunError::failed)
        })
    }

    fn empty_progress(&self) -> Value {
        serde_json::to_value(BackupProgress::default()).unwrap_or_default()
    }

    fn check_rate_limit<'a>(
        &'a self,
        cluster: ClusterId,
        limits: &'a [DcLimit],
    ) -> BoxFuture<'a, Result<(), RunError>> {
        Box::pin(async move { self.check_limits(cluster, limits).await.map_err(run_error) })
    }

    fn change_rate_limit<'a>(
        &'a self,
        cluster: ClusterId,
        task: TaskId,
        limits: &'a [DcLimit],
    ) -> BoxFuture<'a, Result<(), RunError>> {
        Box::pin(async move { self.change_limits(cluster, task, limits).await.map_err(run_error) })
    }

    fn run<'a>(&'a self, context: RunContext) -> BoxFuture<'a, Result<(), RunError>> {
        let (cluster, task, run) = (context.cluster, context.task, context.run);
        let span = info_span!("backup", %cluster, %task, %run);
        let work = async move { workflow::backup(&self.backups, &context).await.map_err(run_error) };
        Box::pin(work.instrument(span))
    }
}

impl BackupRunner {
    async fn check_limits(&self, cluster: ClusterId, limits: &[DcLimit]) -> Result<(), BackupError> {
        let client = self.backups.clusters().client(cluster).await?.interactive();
        let datacenters = members(&client).await?.into_iter().map(|m| m.host.dc).collect();
        Ok(check_datacenters("rate-limit", limits.iter().map(|l| l.dc.as_deref()), &datacenters)?)
    }

    async fn change_limits(
        &self,
        cluster: ClusterId,
        task: TaskId,
        limits: &[DcLimit],
    ) -> Result<(), BackupError> {
        let Some(working) = self.backups.working(cluster, task) else { return Ok(()) };
        working.rate_limit.change(limits);
        let client = self.backups.clusters().client(cluster).await?.interactive();
        let changes = working.hosts.iter().map(|(host, dc)| {
            let (agent, rate_limit) = (client.on(*host), &working.rate_limit);
            async move {
                let failed = rate_limit.impose(&agent, dc, None).await.err()?;
                Some(HostFailure::new(*host, &failed.into()))
            }
        });
        let outcomes = at_most(HOSTS_AT_ONCE, changes.collect()).await;
        let mut failures: Vec<HostFailure> = outcomes.into_iter().flatten().collect();
        failures.sort();
        info!(%cluster, %task, ?limits, "The rate limit of a running backup is changed");
        if failures.is_empty() { Ok(()) } else { Err(BackupError::RateLimit { failures }) }
    }
}
