//! Backups in the locations (spec/sctool.md 4.4).

use std::cmp::Reverse;

use common::api::manager::{BackupListItem, SnapshotInfo, Unit};
use common::task::TaskType;
use common::units::format_size;

use super::text;

/// One block per task; with `name_clusters` a heading before the first block of each cluster.
pub fn render(items: &[BackupListItem], name_clusters: bool, show_tables: bool) -> String {
    let mut out = String::new();
    let mut last = None;
    for item in items {
        if name_clusters && last != Some(item.cluster_id) {
            out.push_str(&format!("Cluster: {}\n\n", item.cluster_id));
            last = Some(item.cluster_id);
        }
        out.push_str(&block(item, show_tables));
    }
    out
}

fn block(item: &BackupListItem, show_tables: bool) -> String {
    let mut snapshots: Vec<&SnapshotInfo> = item.snapshot_info.iter().collect();
    snapshots.sort_by_key(|info| Reverse(info.snapshot_tag));
    let snapshots = snapshots.into_iter().map(|info| {
        let size = if info.size == 0 { "n/a".to_owned() } else { format_size(info.size) };
        format!("{} ({size}, {} nodes)", info.snapshot_tag, info.nodes)
    });
    let mut units: Vec<&Unit> = item.units.iter().collect();
    units.sort_by_key(|unit| (!unit.keyspace.starts_with("system"), unit.keyspace.as_str()));
    let keyspaces = units.into_iter().map(|unit| {
        format!("{} {}", unit.keyspace, text::tables(&unit.tables, unit.all_tables, show_tables))
    });
    format!(
        "{}/{}\nSnapshots:\n{}Keyspaces:\n{}\n",
        TaskType::Backup,
        item.task_id,
        text::bullets(snapshots),
        text::bullets(keyspaces)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn items() -> Vec<BackupListItem> {
        serde_json::from_str(
            r#"[{"cluster_id":"5e2d9f04-8a37-4b6c-9d11-c0ffee5a7e01","task_id":"a41c7d90-3b52-4e8f-8c60-1d2e3f405162",
            "units":[{"keyspace":"orders","tables":["invoices","lines","refunds"],"all_tables":false},
                     {"keyspace":"system_auth","tables":["roles"],"all_tables":false}],
            "snapshot_info":[{"snapshot_tag":"sm_20260301023011UTC","nodes":6,"size":0},
                             {"snapshot_tag":"sm_20260302023012UTC","nodes":6,"size":11166914970}]}]"#,
        )
        .expect("items")
    }

    #[test]
    fn newest_first_and_system_keyspaces_first() {
        insta::assert_snapshot!(render(&items(), false, false), @"
        backup/a41c7d90-3b52-4e8f-8c60-1d2e3f405162
        Snapshots:
          - sm_20260302023012UTC (10.400GiB, 6 nodes)
          - sm_20260301023011UTC (n/a, 6 nodes)
        Keyspaces:
          - system_auth (1 table)
          - orders (3 tables)
        ");
    }

    #[test]
    fn clusters_and_tables_are_named_on_request() {
        let twice = [items(), items()].concat();
        insta::assert_snapshot!(render(&twice[..1], true, true), @"
        Cluster: 5e2d9f04-8a37-4b6c-9d11-c0ffee5a7e01

        backup/a41c7d90-3b52-4e8f-8c60-1d2e3f405162
        Snapshots:
          - sm_20260302023012UTC (10.400GiB, 6 nodes)
          - sm_20260301023011UTC (n/a, 6 nodes)
        Keyspaces:
          - system_auth (roles)
          - orders (invoices, lines, refunds)
        ");
        assert_eq!(render(&twice, true, true).matches("Cluster:").count(), 1);
    }
}
