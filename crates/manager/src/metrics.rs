//! Gauges besides the scheduler's, names and labels of the original (spec manager.md 7).
//!
//! The monitoring dashboards read these names. All are gauges, also the counting ones. In every family the
//! first label is `cluster`, so that a cluster can be reset or removed as a whole.

use std::collections::BTreeSet;
use std::net::IpAddr;

use common::ids::ClusterId;
use prometheus::core::Collector;
use prometheus::proto::MetricFamily;
use prometheus::{GaugeVec, Opts, Registry};

use crate::cluster::NodeFacts;
use crate::cluster::health::{Ping, PingKind};

/// Value of series of a run that is over and of none that follows; the recording rules filter it out.
const NO_VALUE: f64 = -1.0;

/// One family of gauges whose first label is the cluster.
#[derive(Clone)]
struct Family {
    gauges: GaugeVec,
    labels: &'static [&'static str],
}

impl Family {
    fn new(
        registry: &Registry,
        name: &str,
        help: &str,
        labels: &'static [&'static str],
    ) -> prometheus::Result<Self> {
        let gauges = GaugeVec::new(Opts::new(format!("scylla_manager_{name}"), help), labels)?;
        registry.register(Box::new(gauges.clone()))?;
        Ok(Self { gauges, labels })
    }

    fn set(&self, values: &[&str], number: f64) {
        self.gauges.with_label_values(values).set(number);
    }

    /// Label values of all series of a cluster, in the order of the labels.
    fn series_of(&self, cluster: ClusterId) -> Vec<Vec<String>> {
        let cluster = cluster.to_string();
        let families = self.gauges.collect();
        let all = families.iter().flat_map(MetricFamily::get_metric).map(|series| {
            let value = |name: &&str| series.get_label().iter().find(|l| l.name() == *name);
            self.labels.iter().filter_map(value).map(|l| l.value().to_owned()).collect::<Vec<_>>()
        });
        all.filter(|values| values.first() == Some(&cluster)).collect()
    }

    fn reset(&self, cluster: ClusterId) {
        for series in self.series_of(cluster) {
            self.set(&texts(&series), NO_VALUE);
        }
    }

    /// Removes the series of a cluster but those in `keep`.
    fn remove_others(&self, cluster: ClusterId, keep: &BTreeSet<Vec<String>>) {
        for series in self.series_of(cluster).iter().filter(|s| !keep.contains(*s)) {
            // Gone already: somebody else removed it meanwhile.
            let _ = self.gauges.remove_label_values(&texts(series));
        }
    }

    fn remove(&self, cluster: ClusterId) {
        self.remove_others(cluster, &BTreeSet::new());
    }
}

fn texts(values: &[String]) -> Vec<&str> {
    values.iter().map(String::as_str).collect()
}

/// All gauges of this module.
#[derive(Clone)]
pub struct Metrics {
    /// Names of clusters.
    pub server: ServerMetrics,
    /// Pings.
    pub health: HealthMetrics,
    /// Backups.
    pub backup: BackupMetrics,
}

impl Metrics {
    /// Registers all families.
    ///
    /// # Errors
    /// They are registered already.
    pub fn new(registry: &Registry) -> prometheus::Result<Self> {
        Ok(Self {
            server: ServerMetrics::new(registry)?,
            health: HealthMetrics::new(registry)?,
            backup: BackupMetrics::new(registry)?,
        })
    }

    /// Removes every series of a deleted cluster.
    pub fn remove(&self, cluster: ClusterId) {
        self.server.remove(cluster);
        self.health.remove_all(cluster);
        self.backup.remove(cluster);
    }
}

/// Release of the server and names of clusters.
#[derive(Clone)]
pub struct ServerMetrics {
    names: Family,
}

impl ServerMetrics {
    /// Registers the series and sets the release.
    ///
    /// # Errors
    /// They are registered already.
    pub fn new(registry: &Registry) -> prometheus::Result<Self> {
        let version =
            Family::new(registry, "server_current_version", "Release of the server.", &["version"])?;
        version.set(&[common::version::VERSION], 0.0);
        let names =
            Family::new(registry, "cluster_name", "Maps a cluster's ID to its name.", &["cluster", "name"])?;
        Ok(Self { names })
    }

    /// Publishes the name of a cluster, replacing an older one.
    pub fn set_name(&self, cluster: ClusterId, name: &str) {
        let series = vec![cluster.to_string(), name.to_owned()];
        self.names.set(&texts(&series), 0.0);
        self.names.remove_others(cluster, &BTreeSet::from([series]));
    }

    /// Removes the series of a cluster.
    pub fn remove(&self, cluster: ClusterId) {
        self.names.remove(cluster);
    }
}

/// Status and round trip of each kind of ping.
#[derive(Clone)]
pub struct HealthMetrics {
    status: [Family; 3],
    rtt: [Family; 3],
}

impl HealthMetrics {
    /// Registers the series.
    ///
    /// # Errors
    /// They are registered already.
    pub fn new(registry: &Registry) -> prometheus::Result<Self> {
        const LABELS: &[&str] = &["cluster", "dc", "rack", "host"];
        let status = |kind: &str| {
            let help = "1 when the node answers, -1 when it does not.";
            Family::new(registry, &format!("healthcheck_{kind}_status"), help, LABELS)
        };
        let rtt = |kind: &str| {
            let name = format!("healthcheck_{kind}_rtt_ms");
            Family::new(registry, &name, "Round trip in milliseconds.", LABELS)
        };
        Ok(Self {
            status: [status("cql")?, status("rest")?, status("alternator")?],
            rtt: [rtt("cql")?, rtt("rest")?, rtt("alternator")?],
        })
    }

    /// Replaces the series of a cluster and kind by the outcome of a round of pings.
    pub fn set(&self, cluster: ClusterId, kind: PingKind, pings: &[(NodeFacts, Ping)]) {
        let (status, rtt) = (&self.status[index(kind)], &self.rtt[index(kind)]);
        let mut present = BTreeSet::new();
        for (facts, ping) in pings {
            let host = &facts.member.host;
            let series =
                vec![cluster.to_string(), host.dc.clone(), host.rack.clone(), host.address.to_string()];
            status.set(&texts(&series), if ping.is_up() { 1.0 } else { -1.0 });
            rtt.set(&texts(&series), ping.rtt.as_secs_f64() * 1000.0);
            present.insert(series);
        }
        // Afterwards, so that a scrape never finds a node missing.
        status.remove_others(cluster, &present);
        rtt.remove_others(cluster, &present);
    }

    /// Removes the series of a cluster and kind.
    pub fn remove(&self, cluster: ClusterId, kind: PingKind) {
        self.status[index(kind)].remove(cluster);
        self.rtt[index(kind)].remove(cluster);
    }

    /// Removes all series of a cluster.
    pub fn remove_all(&self, cluster: ClusterId) {
        self.status.iter().chain(&self.rtt).for_each(|family| family.remove(cluster));
    }
}

fn index(kind: PingKind) -> usize {
    match kind {
        PingKind::Cql => 0,
        PingKind::Rest => 1,
        PingKind::Alternator => 2,
    }
}

/// Labels of a table's series.
#[derive(Clone, Copy, Debug)]
pub struct TableLabels<'a> {
    /// The cluster.
    pub cluster: ClusterId,
    /// The keyspace.
    pub keyspace: &'a str,
    /// The table.
    pub table: &'a str,
    /// The node.
    pub host: IpAddr,
}

/// Numbers of a table on a host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TableNumbers {
    /// Bytes in the snapshot.
    pub size: u64,
    /// Bytes sent.
    pub uploaded: u64,
    /// Bytes that the bucket had.
    pub skipped: u64,
    /// Bytes that must be sent again.
    pub failed: u64,
    /// Files before deduplication.
    pub files: u64,
    /// Files that the bucket had.
    pub files_skipped: u64,
}

/// Progress of backups. The families for retention locks and holds come with these features.
#[derive(Clone)]
pub struct BackupMetrics {
    snapshot: Family,
    tables: [Family; 6],
    purge_files: Family,
    purge_deleted: Family,
    versioned: Family,
}

impl BackupMetrics {
    /// Registers the series.
    ///
    /// # Errors
    /// They are registered already.
    pub fn new(registry: &Registry) -> prometheus::Result<Self> {
        let table = |name: &str, help: &str| {
            let labels = &["cluster", "keyspace", "table", "host"];
            Family::new(registry, &format!("backup_{name}"), help, labels)
        };
        let host = |name: &str, help: &str| Family::new(registry, name, help, &["cluster", "host"]);
        let taken = "1 when the snapshot is taken.";
        let versioned = "Files kept under a versioned name because a later file has their name.";
        Ok(Self {
            snapshot: Family::new(registry, "backup_snapshot", taken, &["cluster", "keyspace", "host"])?,
            tables: [
                table("files_size_bytes", "Bytes in the snapshot.")?,
                table("files_uploaded_bytes", "Bytes sent.")?,
                table("files_skipped_bytes", "Bytes that the location had already.")?,
                table("files_failed_bytes", "Bytes that must be sent again.")?,
                table("files_count", "Files in the snapshot.")?,
                table("files_skipped_count", "Files that the location had already.")?,
            ],
            purge_files: host("backup_purge_files", "Files that retention lets go.")?,
            purge_deleted: host("backup_purge_deleted_files", "Files that were deleted.")?,
            versioned: Family::new(
                registry,
                "backup_versioned_files_count",
                versioned,
                &["cluster", "node", "keyspace", "table"],
            )?,
        })
    }

    fn kept(&self) -> impl Iterator<Item = &Family> {
        self.tables.iter().chain([&self.snapshot, &self.purge_files, &self.purge_deleted])
    }

    /// A run begins: sets all series of a cluster to -1, and removes those of versioned files.
    pub fn reset(&self, cluster: ClusterId) {
        self.kept().for_each(|family| family.reset(cluster));
        self.versioned.remove(cluster);
    }

    /// Removes all series of a cluster.
    pub fn remove(&self, cluster: ClusterId) {
        self.kept().chain([&self.versioned]).for_each(|family| family.remove(cluster));
    }

    /// Says whether a keyspace's snapshot is taken on a host.
    pub fn set_snapshot(&self, cluster: ClusterId, keyspace: &str, host: IpAddr, taken: bool) {
        let (cluster, host) = (cluster.to_string(), host.to_string());
        self.snapshot.set(&[&cluster, keyspace, &host], if taken { 1.0 } else { 0.0 });
    }

    /// Publishes the numbers of a table.
    pub fn set_table(&self, labels: TableLabels<'_>, numbers: TableNumbers) {
        let (cluster, host) = (labels.cluster.to_string(), labels.host.to_string());
        let values = [cluster.as_str(), labels.keyspace, labels.table, &host];
        let TableNumbers { size, uploaded, skipped, failed, files, files_skipped } = numbers;
        let numbers = [size, uploaded, skipped, failed, files, files_skipped];
        for (family, number) in self.tables.iter().zip(numbers) {
            family.set(&values, number as f64);
        }
    }

    /// Publishes what a purge planned and did through a host.
    pub fn set_purge(&self, cluster: ClusterId, host: IpAddr, planned: u64, deleted: u64) {
        let (cluster, host) = (cluster.to_string(), host.to_string());
        self.purge_files.set(&[&cluster, &host], planned as f64);
        self.purge_deleted.set(&[&cluster, &host], deleted as f64);
    }

    /// Publishes how many versioned files of a table a node has in the location.
    pub fn set_versioned(&self, cluster: ClusterId, node: &str, keyspace: &str, table: &str, files: u64) {
        self.versioned.set(&[&cluster.to_string(), node, keyspace, table], files as f64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(registry: &Registry) -> String {
        prometheus::TextEncoder::new().encode_to_string(&registry.gather()).unwrap()
    }

    #[test]
    fn a_renamed_cluster_has_one_series() {
        let registry = Registry::new();
        let metrics = ServerMetrics::new(&registry).unwrap();
        let cluster = ClusterId::random();
        metrics.set_name(cluster, "old");
        metrics.set_name(cluster, "new");
        assert!(text(&registry).contains("name=\"new\"") && !text(&registry).contains("name=\"old\""));
    }

    #[test]
    fn a_node_that_left_has_no_series_and_a_deleted_cluster_none_at_all() {
        use common::api::agent::NodeInfo;

        let registry = Registry::new();
        let metrics = Metrics::new(&registry).unwrap();
        let (cluster, other) = (ClusterId::random(), ClusterId::random());
        let ping = |address: &str, status: &str| {
            let host = crate::hosts::Host {
                id: common::ids::HostId::new(address),
                address: address.parse().unwrap(),
                dc: "dc1".into(),
                rack: "r1".into(),
            };
            let member = crate::cluster::topology::Member { host, up: true, state: 'N' };
            let ping = Ping { status: status.into(), ..Ping::default() };
            (NodeFacts { member, info: NodeInfo::default(), shards: 1 }, ping)
        };
        for cluster in [cluster, other] {
            let pings = [ping("192.0.2.1", "UP"), ping("192.0.2.2", "TIMEOUT")];
            metrics.health.set(cluster, PingKind::Cql, &pings);
        }
        metrics.health.set(cluster, PingKind::Cql, &[ping("192.0.2.2", "DOWN")]);
        let status: Vec<String> = text(&registry)
            .lines()
            .filter(|l| {
                l.starts_with("scylla_manager_healthcheck_cql_status{") && l.contains(&cluster.to_string())
            })
            .map(|l| l.replace(&cluster.to_string(), "C"))
            .collect();
        assert_eq!(
            status,
            [r#"scylla_manager_healthcheck_cql_status{cluster="C",dc="dc1",host="192.0.2.2",rack="r1"} -1"#]
        );
        metrics.remove(cluster);
        let left = text(&registry);
        assert!(!left.contains(&cluster.to_string()) && left.contains(&other.to_string()));
    }

    #[test]
    fn a_new_run_sets_the_old_series_of_its_cluster_back() {
        let registry = Registry::new();
        let metrics = BackupMetrics::new(&registry).unwrap();
        let (one, other) = (ClusterId::random(), ClusterId::random());
        let host = "192.0.2.1".parse().unwrap();
        for cluster in [one, other] {
            let labels = TableLabels { cluster, keyspace: "k", table: "t", host };
            metrics.set_table(labels, TableNumbers { size: 7, ..TableNumbers::default() });
        }
        metrics.reset(one);
        let lines = text(&registry);
        let size = |cluster: ClusterId| {
            let mut lines = lines.lines().filter(|l| l.starts_with("scylla_manager_backup_files_size_bytes"));
            lines.find(|l| l.contains(&cluster.to_string())).unwrap().rsplit(' ').next().unwrap().to_owned()
        };
        assert_eq!((size(one).as_str(), size(other).as_str()), ("-1", "7"));
    }
}
