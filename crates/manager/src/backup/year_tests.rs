//! A year of the three schedules that everybody has: daily, weekly, monthly, due at the same second. Scheduler,
//! retention and purge are the real ones; the clock is the test's, and so is what a run uploads.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use common::api::manager::TaskRun;
use common::format::paths::{ManifestPath, NodePath};
use common::ids::{ClusterId, HostId};
use common::snapshot_tag::SnapshotTag;
use common::task::{TaskStatus, TaskType};
use futures::future::BoxFuture;
use prometheus::Registry;
use serde_json::json;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::location::Reader;
use super::purge::{by_node, purge_location};
use super::retention::{
    Continuable, ListedManifest, RetentionPolicy, Snapshot, plan_retention, split_shadowed,
};
use super::testing::{FakeBucket, TABLE};
use super::{BackupRunner, Backups};
use crate::cluster::testing::{FakeCluster, add, clusters_into};
use crate::config;
use crate::metrics::BackupMetrics;
use crate::scheduler::{
    Clock, Properties, RunContext, RunError, Runner, Runners, SchedulerMetrics, TaskKey, TaskSpec, load,
};

/// When all three begin, as in the guide.
const BEGIN: &str = "2019-12-09T15:16:05Z";
/// How long an upload takes.
const UPLOAD: Duration = Duration::from_secs(40 * 60);
/// Days between two runs, and backups to keep.
const TRIO: [(i64, i64); 3] = [(1, 7), (7, 2), (30, 1)];

fn at(text: &str) -> DateTime<Utc> {
    DateTime::parse_from_rfc3339(text).unwrap().to_utc()
}

fn node(cluster: ClusterId) -> NodePath {
    NodePath { cluster, dc: "dc1".into(), node: HostId::new("id-192.0.2.11") }
}

/// Uploads one old file, one of the month and a new one, then purges as a backup does.
struct Year {
    real: BackupRunner,
    backups: Backups,
    bucket: FakeBucket,
    /// Files of each snapshot ever made.
    made: Mutex<BTreeMap<Snapshot, Vec<String>>>,
}

impl Runner for Year {
    fn decorate<'a>(
        &'a self,
        cluster: ClusterId,
        properties: Properties,
    ) -> BoxFuture<'a, Result<Properties, RunError>> {
        self.real.decorate(cluster, properties)
    }

    fn run<'a>(&'a self, context: RunContext) -> BoxFuture<'a, Result<(), RunError>> {
        Box::pin(async move {
            self.upload(&context).await;
            self.purge(&context).await;
            self.check(&context).await.map_err(RunError::failed)
        })
    }
}

impl Year {
    async fn upload(&self, context: &RunContext) {
        let tag = self.backups.give_tag(context.clock.now(), None).unwrap();
        let files = vec!["always".to_owned(), tag.time().format("month-%m").to_string(), tag.to_string()];
        tokio::time::sleep(UPLOAD).await;
        let path = ManifestPath { node: node(context.cluster), task: context.task, tag, temporary: false };
        self.bucket.back_up(&path, &files.iter().map(String::as_str).collect::<Vec<_>>());
        self.made.lock().unwrap().insert((context.task, tag), files);
    }

    async fn list(&self, cluster: ClusterId) -> (Reader, Vec<ListedManifest>) {
        let client = self.backups.clusters().client(cluster).await.unwrap();
        let agent = client.on("192.0.2.11".parse().unwrap());
        let reader = Reader { agent, location: FakeBucket::location() };
        let manifests = reader.manifests(Some(cluster)).await.unwrap();
        (reader, manifests)
    }

    async fn purge(&self, context: &RunContext) {
        let (reader, manifests) = self.list(context.cluster).await;
        let (manifests, shadowed) = split_shadowed(manifests);
        let policies: BTreeMap<_, RetentionPolicy> =
            serde_json::from_value(context.properties["retention_map"].clone()).unwrap();
        let now = context.clock.now();
        let plan = plan_retention(now, &manifests, &shadowed, &policies, &Continuable::default());
        let work = by_node(&plan, &manifests, &shadowed).into_iter().map(|node| (reader.clone(), node));
        let work = work.collect();
        purge_location(context.cluster, &reader.location, work, BTreeMap::new()).await.unwrap();
    }

    /// What is left after each run: the newest of each task, with all their files and no other.
    async fn check(&self, context: &RunContext) -> Result<(), String> {
        let (_, manifests) = self.list(context.cluster).await;
        let left: BTreeSet<Snapshot> = manifests.iter().map(ListedManifest::snapshot).collect();
        let made = self.made.lock().unwrap();
        let own = |of: &BTreeSet<Snapshot>| -> BTreeSet<SnapshotTag> {
            of.iter().filter(|s| s.0 == context.task).map(|s| s.1).collect()
        };
        let keep = context.properties["retention"].as_u64().unwrap() as usize;
        let newest: BTreeSet<_> = own(&made.keys().copied().collect()).into_iter().rev().take(keep).collect();
        if own(&left) != newest {
            return Err(format!("{:?} are left instead of {newest:?}", own(&left)));
        }
        let dir = node(context.cluster).table_dir(TABLE.0, TABLE.1, TABLE.2);
        let wanted: BTreeSet<String> =
            left.iter().flat_map(|s| &made[s]).map(|file| format!("{dir}/{file}")).collect();
        let mut there = self.bucket.keys();
        there.retain(|key| key.starts_with(&dir) && !key.ends_with("manifest.json"));
        if there != wanted {
            return Err(format!("files are {there:?} instead of {wanted:?}"));
        }
        Ok(())
    }
}

fn spec(days: i64, keep: i64) -> TaskSpec {
    let schedule =
        json!({ "start_date": BEGIN, "interval": format!("{days}d"), "num_retries": 3, "retry_wait": "10m" });
    let properties = json!({ "location": ["s3:b"], "retention": keep });
    TaskSpec {
        enabled: true,
        schedule: serde_json::from_value(schedule).unwrap(),
        properties: serde_json::from_value(properties).unwrap(),
        ..TaskSpec::default()
    }
}

/// The days of 2026 on which a task with this period is due.
fn due(days: i64) -> Vec<NaiveDate> {
    let begin = at(BEGIN);
    let times = (0..).map(|n| (begin + TimeDelta::days(n * days)).date_naive());
    let (first, last) =
        (NaiveDate::from_ymd_opt(2026, 1, 1).unwrap(), NaiveDate::from_ymd_opt(2026, 12, 31).unwrap());
    times.skip_while(|day| *day < first).take_while(|day| *day <= last).collect()
}

#[tokio::test(start_paused = true)]
async fn daily_weekly_and_monthly_backups_keep_what_they_should_over_a_year() {
    let fake = FakeCluster::two_datacenters();
    let (_dir, clusters) = clusters_into(&fake).await;
    let cluster = add(&clusters, "prod").await;
    let store = clusters.store().clone();
    let metrics = BackupMetrics::new(&Registry::new()).unwrap();
    let backups = Backups::new(clusters, config::Backup::default(), Default::default(), metrics);
    let clock = Clock::starting_at(at("2026-01-01T00:00:00Z"));
    let runner = Arc::new(Year {
        real: BackupRunner::new(backups.clone(), clock),
        backups,
        bucket: fake.bucket.clone(),
        made: Mutex::default(),
    });
    let runners = Runners::new().with(TaskType::Backup, runner.clone());
    let metrics = SchedulerMetrics::new(&Registry::new()).unwrap();
    let (scheduler, driver) = load(store.clone(), clock, runners, metrics).await.unwrap();
    let mut running = JoinSet::new();
    running.spawn(driver.run(CancellationToken::new()));
    let mut tasks = Vec::new();
    for (days, keep) in TRIO {
        let task = scheduler.create(cluster, TaskType::Backup, spec(days, keep)).await.unwrap();
        tasks.push((TaskKey::of(&task), due(days), keep as usize));
    }

    clock.sleep_until(at("2027-01-01T00:00:00Z")).await;

    let left: BTreeSet<Snapshot> =
        runner.list(cluster).await.1.iter().map(ListedManifest::snapshot).collect();
    let mut runs: Vec<TaskRun> = Vec::new();
    for (task, due, keep) in &tasks {
        let history = store.history(cluster, TaskType::Backup, task.id, None).await.unwrap();
        let failed: Vec<_> = history.iter().filter(|run| run.status != TaskStatus::Done).collect();
        assert!(failed.is_empty(), "{failed:?}");
        let mut days: Vec<_> = history.iter().map(|run| run.start_time.unwrap().date_naive()).collect();
        days.reverse();
        assert_eq!(days, *due, "one run for each activation");
        let kept: Vec<_> = left.iter().filter(|s| s.0 == task.id).map(|s| s.1.time().date_naive()).collect();
        assert_eq!(kept, due[due.len() - keep..], "the newest {keep}");
        runs.extend(history);
    }
    let met = tasks[2].1.iter().filter(|day| tasks.iter().all(|task| task.1.contains(day))).count();
    assert_eq!(met, 2, "all three were due in one second");
    runs.sort_by_key(|run| run.start_time);
    for pair in runs.windows(2) {
        assert!(pair[0].end_time <= pair[1].start_time, "they queue: {pair:?}");
    }
}
