//! The task type `healthcheck`: pings all nodes of a cluster one way and publishes the outcome (spec manager.md 6.3).

use std::time::Duration;

use common::api::manager::{CronText, Task};
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
        create_task(scheduler, cluster, mode, cron).await?;
    }
    Ok(())
}

async fn create_task(
    scheduler: &Scheduler,
    cluster: ClusterId,
    mode: &str,
    cron: &str,
) -> Result<(), SchedulerError> {
    let mut spec = TaskSpec { name: mode.to_owned(), enabled: true, ..TaskSpec::default() };
    spec.schedule.cron = cron.to_owned();
    spec.schedule.timezone = local_timezone();
    spec.properties.insert(MODE.to_owned(), mode.into());
    scheduler.create(cluster, TaskType::HealthCheck, spec).await.map(drop)
}

/// Name of the zone of this machine, `UTC` when it cannot be told.
fn local_timezone() -> String {
    let link = std::fs::read_link("/etc/localtime").ok();
    let name = link.as_deref().and_then(|p| p.to_str()).and_then(|p| p.split_once("zoneinfo/"));
    name.map_or_else(|| "UTC".to_owned(), |(_, zone)| zone.to_owned())
}

/// Sets the cron of every automatic health check to the configured one, and makes those that a cluster never had
/// because the manager was killed while it was added. Failures are logged.
///
/// # Errors
/// The tasks or clusters cannot be read.
pub async fn align_tasks(
    store: &Store,
    scheduler: &Scheduler,
    config: &HealthCheck,
) -> Result<(), StoreError> {
    let tasks = store.all_tasks().await?;
    for cluster in store.clusters().await? {
        for (mode, cron) in automatic(config) {
            // One that the user deleted stays away; its row is still there.
            let ours = |t: &Task| t.cluster_id == cluster.id && t.task_type == TaskType::HealthCheck;
            if tasks.iter().any(|t| ours(t) && t.properties.get(MODE).is_some_and(|m| m == mode)) {
                continue;
            }
            if let Err(error) = create_task(scheduler, cluster.id, mode, cron).await {
                warn!(cluster = %cluster.id, mode, error = common::error::chain(&error), "Health check cannot be created");
            }
        }
    }
    for task in tasks {
        let automatic = automatic(config).into_iter().find(|(mode, _)| *mode == task.name);
        let Some((_, cron)) = automatic.filter(|_| task.task_type == TaskType::HealthCheck && !task.deleted)
        else {
            continue;
        };
        if CronText::parse(&task.schedule.cron).spec == cron {
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

#[cfg(test)]
mod tests {
    use prometheus::Registry;

    use super::*;
    use crate::cluster::testing::{FakeCluster, add, clusters_into};
    use crate::scheduler::{Clock, StopSignal};

    fn context(cluster: ClusterId, mode: &str) -> RunContext {
        let clock = Clock::system();
        RunContext {
            cluster,
            task_type: TaskType::HealthCheck,
            task: common::ids::TaskId::random(),
            run: crate::scheduler::HEALTH_CHECK_RUN,
            properties: [(MODE.to_owned(), mode.into())].into_iter().collect(),
            continue_run: true,
            stop: StopSignal::new(),
            started: clock.now(),
            clock,
        }
    }

    /// `dc host value` of the series of one family.
    fn series(registry: &Registry, name: &str) -> Vec<(String, String, f64)> {
        let families = registry.gather();
        let Some(family) = families.iter().find(|f| f.name() == name) else { return Vec::new() };
        let label = |metric: &prometheus::proto::Metric, name: &str| {
            metric.get_label().iter().find(|l| l.name() == name).map(|l| l.value().to_owned()).unwrap()
        };
        let one =
            |m: &prometheus::proto::Metric| (label(m, "dc"), label(m, "host"), m.get_gauge().get_value());
        family.get_metric().iter().map(one).collect()
    }

    fn expected(list: &[(&str, &str, f64)]) -> Vec<(String, String, f64)> {
        list.iter().map(|(dc, host, value)| ((*dc).to_owned(), (*host).to_owned(), *value)).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn gauges_follow_the_nodes_and_a_failed_ping_fails_no_run() {
        const STATUS: &str = "scylla_manager_healthcheck_rest_status";
        let fake = FakeCluster::two_datacenters();
        let (_dir, clusters) = clusters_into(&fake).await;
        let id = add(&clusters, "c").await;
        let registry = Registry::new();
        let metrics = HealthMetrics::new(&registry).unwrap();
        let runner = HealthRunner::new(clusters.clone(), metrics, Duration::from_secs(1));

        fake.node("192.0.2.12").change(|n| (n.live, n.agent) = (false, false));
        runner.run(context(id, "rest")).await.unwrap();
        let seen = [("dc1", "192.0.2.11", 1.0), ("dc1", "192.0.2.12", -1.0), ("dc2", "192.0.2.21", 1.0)];
        assert_eq!(series(&registry, STATUS), expected(&seen));

        fake.leave("192.0.2.21");
        clusters.refresh_nodes(id).await.unwrap();
        runner.run(context(id, "rest")).await.unwrap();
        assert_eq!(series(&registry, STATUS), expected(&seen[..2]), "the one that is down is still checked");

        // No node serves Alternator: that is fine, and nothing was sent.
        runner.run(context(id, "alternator")).await.unwrap();
        let off = [("dc1", "192.0.2.11", 1.0), ("dc1", "192.0.2.12", 1.0)];
        assert_eq!(series(&registry, "scylla_manager_healthcheck_alternator_status"), expected(&off));
        let none = off.map(|(dc, host, _)| (dc, host, 0.0));
        assert_eq!(series(&registry, "scylla_manager_healthcheck_alternator_rtt_ms"), expected(&none));

        // Nothing known and nobody answers.
        clusters.forget(id);
        fake.node("192.0.2.11").change(|n| n.agent = false);
        let error = runner.run(context(id, "rest")).await.unwrap_err();
        assert!(error.cause().starts_with("unable to connect"), "{}", error.cause());
        assert_eq!(series(&registry, STATUS), []);
        assert_eq!(series(&registry, "scylla_manager_healthcheck_alternator_status").len(), 2);
    }

    #[tokio::test]
    async fn an_unknown_mode_is_refused() {
        let (_dir, clusters) = clusters_into(&FakeCluster::two_datacenters()).await;
        let metrics = HealthMetrics::new(&Registry::new()).unwrap();
        let runner = HealthRunner::new(clusters, metrics, Duration::from_secs(1));
        let context = context(ClusterId::random(), "gossip");
        let error = runner.check(context.cluster, &context.properties).await.unwrap_err();
        assert!(error.cause().contains("expected cql, rest or alternator"));
    }
}
