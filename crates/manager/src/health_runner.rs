//! The task type `healthcheck`: pings all nodes of a cluster one way and publishes the outcome (spec manager.md 6.3).

use std::time::Duration;

use common::ids::ClusterId;
use common::task::TaskType;
use futures::future::BoxFuture;
use serde_json::Value;
use tracing::{info, warn};

use crate::cluster::Clusters;
use crate::cluster::health::PingKind;
use crate::config::HealthCheck;
use crate::metrics::HealthMetrics;
use crate::scheduler::{
    Properties, RunContext, RunError, Runner, Scheduler, SchedulerError, TaskKey, TaskSpec,
};
use crate::store::{Store, StoreError};

/// Property that says what is pinged.
const MODE: &str = "mode";

/// Name on the wire and in task names, with the kind.
const KINDS: [(&str, PingKind); 3] =
    [("cql", PingKind::Cql), ("rest", PingKind::Rest), ("alternator", PingKind::Alternator)];

/// Runs health checks.
pub struct HealthRunner {
    clusters: Clusters,
    metrics: HealthMetrics,
    timeout: Duration,
}

impl HealthRunner {
    /// Pings with a limit of `timeout` each.
    pub fn new(clusters: Clusters, metrics: HealthMetrics, timeout: Duration) -> Self {
        Self { clusters, metrics, timeout }
    }
}

fn kind(properties: &Properties) -> Result<PingKind, RunError> {
    let mode = properties.get(MODE).and_then(Value::as_str).unwrap_or_default();
    let found = KINDS.iter().find(|(name, _)| *name == mode);
    found.map(|(_, kind)| *kind).ok_or_else(|| {
        RunError::invalid(format!("unknown health check mode {mode:?}, expected cql, rest or alternator"))
    })
}

impl Runner for HealthRunner {
    fn check<'a>(
        &'a self,
        _cluster: ClusterId,
        properties: &'a Properties,
    ) -> BoxFuture<'a, Result<(), RunError>> {
        Box::pin(async move { kind(properties).map(drop) })
    }

    fn run<'a>(&'a self, context: RunContext) -> BoxFuture<'a, Result<(), RunError>> {
        Box::pin(async move {
            let kind = kind(&context.properties)?;
            let pings = match self.clusters.ping_all(context.cluster, kind, self.timeout).await {
                Ok(pings) => pings,
                Err(error) => {
                    self.metrics.remove(context.cluster, kind);
                    return Err(RunError::failed(error));
                }
            };
            for (facts, ping) in pings.iter().filter(|(_, ping)| !ping.is_up()) {
                let host = facts.member.host.address;
                let (status, cause) = (&ping.status, &ping.cause);
                info!(cluster = %context.cluster, %host, ?kind, status, cause, "Node does not answer");
            }
            self.metrics.set(context.cluster, kind, &pings);
            Ok(())
        })
    }
}

/// Name, cron and mode of the three automatic tasks.
fn automatic(config: &HealthCheck) -> [(&'static str, &str); 3] {
    [
        ("cql", config.cql_ping_cron.as_str()),
        ("rest", config.rest_ping_cron.as_str()),
        ("alternator", config.alternator_ping_cron.as_str()),
    ]
}

/// Makes the health-check tasks of a new cluster.
///
/// # Errors
/// The scheduler refuses one.
pub async fn create_tasks(
    scheduler: &Scheduler,
    cluster: ClusterId,
    config: &HealthCheck,
) -> Result<(), SchedulerError> {
    for (mode, cron) in automatic(config) {
        let mut spec = TaskSpec { name: mode.to_owned(), enabled: true, ..TaskSpec::default() };
        spec.schedule.cron = cron.to_owned();
        spec.schedule.timezone = local_timezone();
        spec.properties.insert(MODE.to_owned(), mode.into());
        scheduler.create(cluster, TaskType::HealthCheck, spec).await?;
    }
    Ok(())
}

/// Name of the zone of this machine, `UTC` when it cannot be told.
fn local_timezone() -> String {
    let link = std::fs::read_link("/etc/localtime").ok();
    let name = link.as_deref().and_then(|p| p.to_str()).and_then(|p| p.split_once("zoneinfo/"));
    name.map_or_else(|| "UTC".to_owned(), |(_, zone)| zone.to_owned())
}

/// Sets the cron of every automatic health check to the configured one; failures are logged.
///
/// # Errors
/// The tasks cannot be read.
pub async fn align_tasks(
    store: &Store,
    scheduler: &Scheduler,
    config: &HealthCheck,
) -> Result<(), StoreError> {
    for task in store.all_tasks().await? {
        let automatic = automatic(config).into_iter().find(|(mode, _)| *mode == task.name);
        let Some((_, cron)) = automatic.filter(|_| task.task_type == TaskType::HealthCheck && !task.deleted)
        else {
            continue;
        };
        if common::api::manager::CronText::parse(&task.schedule.cron).spec == cron {
            continue;
        }
        let key = TaskKey::of(&task);
        let mut spec = TaskSpec {
            name: task.name,
            labels: task.labels,
            enabled: task.enabled,
            schedule: task.schedule,
            properties: task.properties,
        };
        spec.schedule.cron = cron.to_owned();
        if let Err(error) = scheduler.update(key, spec).await {
            warn!(cluster = %key.cluster, task = %key.id, error = common::error::chain(&error), "Health check cannot be aligned with the configuration");
        }
    }
    Ok(())
}
