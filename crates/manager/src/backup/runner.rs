//! The task type `backup`, as the scheduler sees it.

use common::api::manager::BackupProgress;
use common::ids::{ClusterId, RunId, TaskId};
use common::units::DcLimit;
use futures::future::BoxFuture;
use serde_json::Value;
use tracing::{Instrument, info, info_span, warn};

use super::backups::Backups;
use super::delete::delete_local_snapshots;
use super::error::BackupError;
use super::properties::{BackupProperties, PropertiesError};
use super::target::{self, Target};
use super::{progress, workflow};
use crate::agent_client::{HostError, Patience};
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

    fn set_rate_limit<'a>(
        &'a self,
        cluster: ClusterId,
        task: TaskId,
        limits: &'a [DcLimit],
    ) -> BoxFuture<'a, Result<(), RunError>> {
        Box::pin(async move { self.change_rate_limit(cluster, task, limits).await.map_err(run_error) })
    }

    fn run<'a>(&'a self, context: RunContext) -> BoxFuture<'a, Result<(), RunError>> {
        let (cluster, task, run) = (context.cluster, context.task, context.run);
        let span = info_span!("backup", %cluster, %task, %run);
        let work = async move { workflow::backup(&self.backups, &context).await.map_err(run_error) };
        Box::pin(work.instrument(span))
    }
}

impl BackupRunner {
    async fn change_rate_limit(
        &self,
        cluster: ClusterId,
        task: TaskId,
        limits: &[DcLimit],
    ) -> Result<(), BackupError> {
        let client = self.backups.clusters().client(cluster).await?.interactive();
        let datacenters: Vec<String> = members(&client).await?.into_iter().map(|m| m.host.dc).collect();
        let unknown = limits.iter().filter_map(|l| l.dc.as_ref()).find(|dc| !datacenters.contains(dc));
        if let Some(dc) = unknown {
            return Err(PropertiesError::UnknownDatacenter { what: "rate-limit", dc: dc.clone() }.into());
        }
        let Some(working) = self.backups.working().get(&(cluster, task)).cloned() else { return Ok(()) };
        // First for jobs to come, then for those that run.
        *working.rate_limit.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = limits.to_vec();
        let changes = working.hosts.iter().map(|(host, dc)| {
            let rate = DcLimit::for_dc(limits, dc).unwrap_or(0);
            let agent = client.on(*host);
            async move { agent.set_rate_limit(rate).await.map(drop) }
        });
        let outcomes = at_most(HOSTS_AT_ONCE, changes.collect()).await;
        let failed: Vec<HostError> = outcomes.into_iter().filter_map(Result::err).collect();
        info!(%cluster, %task, ?limits, "The rate limit of a running backup is changed");
        if failed.is_empty() {
            return Ok(());
        }
        let reasons = crate::agent_client::join_hosts(&failed);
        warn!(%cluster, %task, error = reasons, "Hosts keep their rate limit until their next table");
        Err(BackupError::other(reasons))
    }
}
