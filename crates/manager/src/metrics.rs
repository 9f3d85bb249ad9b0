//! Gauges besides the scheduler's, names and labels of the original (spec manager.md 7).
//!
//! The monitoring dashboards read these names. All are gauges, also the counting ones.

use std::net::IpAddr;

use common::ids::ClusterId;
use prometheus::{GaugeVec, IntGaugeVec, Opts, Registry};

use crate::cluster::NodeFacts;
use crate::cluster::health::{Ping, PingKind};

/// Registers a family of integer gauges.
fn gauge(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> prometheus::Result<IntGaugeVec> {
    let gauge = IntGaugeVec::new(Opts::new(format!("scylla_manager_{name}"), help), labels)?;
    registry.register(Box::new(gauge.clone()))?;
    Ok(gauge)
}

/// Release of the server and names of clusters.
#[derive(Clone)]
pub struct ServerMetrics {
    names: IntGaugeVec,
}

impl ServerMetrics {
    /// Registers the series and sets the release.
    ///
    /// # Errors
    /// They are registered already.
    pub fn new(registry: &Registry) -> prometheus::Result<Self> {
        let version = gauge(registry, "server_current_version", "Release of the server.", &["version"])?;
        version.with_label_values(&[common::version::VERSION]).set(0);
        let names =
            gauge(registry, "cluster_name", "Maps a cluster's ID to its name.", &["cluster", "name"])?;
        Ok(Self { names })
    }

    /// Publishes the name of a cluster, replacing an older one.
    pub fn set_name(&self, cluster: ClusterId, name: &str) {
        self.remove(cluster);
        self.names.with_label_values(&[&cluster.to_string(), name]).set(0);
    }

    /// Removes the series of a cluster.
    pub fn remove(&self, cluster: ClusterId) {
        remove_where(&self.names, "cluster", &cluster.to_string());
    }
}

/// Removes all series of a family in which a label has a value.
fn remove_where(family: &IntGaugeVec, label: &str, value: &str) {
    use prometheus::core::Collector;
    let names: Vec<String> = family.desc().first().map(|d| d.variable_labels.clone()).unwrap_or_default();
    for series in family.collect().iter().flat_map(prometheus::proto::MetricFamily::get_metric) {
        let get = |name: &str| {
            let pair = series.get_label().iter().find(|l| l.name() == name);
            pair.map(|l| l.value().to_owned()).unwrap_or_default()
        };
        if get(label) == value {
            let values: Vec<String> = names.iter().map(|n| get(n)).collect();
            let values: Vec<&str> = values.iter().map(String::as_str).collect();
            // Gone already: somebody else removed it meanwhile.
            let _ = family.remove_label_values(&values);
        }
    }
}

/// Status and round trip of each kind of ping.
#[derive(Clone)]
pub struct HealthMetrics {
    status: [IntGaugeVec; 3],
    rtt: [GaugeVec; 3],
}

const HEALTH_LABELS: [&str; 4] = ["cluster", "dc", "rack", "host"];

impl HealthMetrics {
    /// Registers the series.
    ///
    /// # Errors
    /// They are registered already.
    pub fn new(registry: &Registry) -> prometheus::Result<Self> {
        let status = |kind: &str| {
            let help = "1 when the node answers, -1 when it does not.";
            gauge(registry, &format!("healthcheck_{kind}_status"), help, &HEALTH_LABELS)
        };
        let rtt = |kind: &str| {
            let name = format!("scylla_manager_healthcheck_{kind}_rtt_ms");
            let gauge = GaugeVec::new(Opts::new(name, "Round trip in milliseconds."), &HEALTH_LABELS)?;
            registry.register(Box::new(gauge.clone()))?;
            prometheus::Result::Ok(gauge)
        };
        Ok(Self {
            status: [status("cql")?, status("rest")?, status("alternator")?],
            rtt: [rtt("cql")?, rtt("rest")?, rtt("alternator")?],
        })
    }

    /// Replaces the series of a cluster and kind by the outcome of a round of pings.
    pub fn set(&self, cluster: ClusterId, kind: PingKind, pings: &[(NodeFacts, Ping)]) {
        self.remove(cluster, kind);
        let (status, rtt) = (&self.status[index(kind)], &self.rtt[index(kind)]);
        let cluster = cluster.to_string();
        for (facts, ping) in pings {
            let (host, address) = (&facts.member.host, facts.member.host.address.to_string());
            let labels = [cluster.as_str(), &host.dc, &host.rack, &address];
            status.with_label_values(&labels).set(if ping.is_up() { 1 } else { -1 });
            rtt.with_label_values(&labels).set(ping.rtt.as_secs_f64() * 1000.0);
        }
    }

    /// Removes the series of a cluster and kind.
    pub fn remove(&self, cluster: ClusterId, kind: PingKind) {
        use prometheus::core::Collector;
        let cluster = cluster.to_string();
        remove_where(&self.status[index(kind)], "cluster", &cluster);
        let rtt = &self.rtt[index(kind)];
        for series in rtt.collect().iter().flat_map(prometheus::proto::MetricFamily::get_metric) {
            let values: Vec<&str> = HEALTH_LABELS
                .iter()
                .filter_map(|name| series.get_label().iter().find(|l| l.name() == *name).map(|l| l.value()))
                .collect();
            if values.first() == Some(&cluster.as_str()) {
                // Gone already: somebody else removed it meanwhile.
                let _ = rtt.remove_label_values(&values);
            }
        }
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

/// Progress of backups.
#[derive(Clone)]
pub struct BackupMetrics {
    snapshot: IntGaugeVec,
    tables: [IntGaugeVec; 6],
    purge_files: IntGaugeVec,
    purge_deleted: IntGaugeVec,
}

impl BackupMetrics {
    /// Registers the series.
    ///
    /// # Errors
    /// They are registered already.
    pub fn new(registry: &Registry) -> prometheus::Result<Self> {
        let table = |name: &str, help: &str| {
            gauge(registry, &format!("backup_{name}"), help, &["cluster", "keyspace", "table", "host"])
        };
        let host = |name: &str, help: &str| gauge(registry, name, help, &["cluster", "host"]);
        let snapshot_labels = ["cluster", "keyspace", "host"];
        Ok(Self {
            snapshot: gauge(registry, "backup_snapshot", "1 when the snapshot is taken.", &snapshot_labels)?,
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
        })
    }

    /// Sets all series of a cluster to -1: a run begins.
    pub fn reset(&self, cluster: ClusterId) {
        use prometheus::core::Collector;
        let cluster = cluster.to_string();
        let others = [&self.snapshot, &self.purge_files, &self.purge_deleted];
        for family in self.tables.iter().chain(others) {
            let names: Vec<String> =
                family.desc().first().map(|d| d.variable_labels.clone()).unwrap_or_default();
            for series in family.collect().iter().flat_map(prometheus::proto::MetricFamily::get_metric) {
                let values: Vec<&str> = names
                    .iter()
                    .filter_map(|n| series.get_label().iter().find(|l| l.name() == n).map(|l| l.value()))
                    .collect();
                if values.first() == Some(&cluster.as_str()) && values.len() == names.len() {
                    family.with_label_values(&values).set(-1);
                }
            }
        }
    }

    /// Says whether a keyspace's snapshot is taken on a host.
    pub fn set_snapshot(&self, cluster: ClusterId, keyspace: &str, host: IpAddr, taken: bool) {
        let labels = [cluster.to_string(), keyspace.to_owned(), host.to_string()];
        self.snapshot.with_label_values(&labels).set(i64::from(taken));
    }

    /// Publishes the numbers of a table.
    pub fn set_table(&self, labels: TableLabels<'_>, numbers: TableNumbers) {
        let (cluster, host) = (labels.cluster.to_string(), labels.host.to_string());
        let values = [cluster.as_str(), labels.keyspace, labels.table, &host];
        let TableNumbers { size, uploaded, skipped, failed, files, files_skipped } = numbers;
        for (family, number) in
            self.tables.iter().zip([size, uploaded, skipped, failed, files, files_skipped])
        {
            family.with_label_values(&values).set(i64::try_from(number).unwrap_or(i64::MAX));
        }
    }

    /// Publishes what a purge planned and did through a host.
    pub fn set_purge(&self, cluster: ClusterId, host: IpAddr, planned: u64, deleted: u64) {
        let labels = [cluster.to_string(), host.to_string()];
        let set = |family: &IntGaugeVec, n: u64| {
            family.with_label_values(&labels).set(i64::try_from(n).unwrap_or(i64::MAX));
        };
        set(&self.purge_files, planned);
        set(&self.purge_deleted, deleted);
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
