//! The progress document of a run (spec backup-format.md 4.13). Pure: rows in, document out.

use std::collections::{BTreeMap, BTreeSet};

use common::api::manager::{BackupProgress, HostProgress, KeyspaceProgress, ProgressNumbers, TableProgress};
use common::task::Stage;

use crate::store::backup_progress::ProgressRow;
use crate::store::backup_runs::BackupRun;

/// Adds the rows of a run up, level by level.
pub fn aggregate(run: &BackupRun, rows: &[ProgressRow]) -> BackupProgress {
    let mut document = BackupProgress {
        snapshot_tag: run.tag.map(|t| t.to_string()).unwrap_or_default(),
        dcs: run.dcs.clone(),
        stage: run.stage,
        retention_lock_mode: run.retention_lock_mode.clone(),
        override_retention_lock: run.override_retention_lock,
        retention_days: run.retention_days,
        warnings: run.warnings.clone(),
        ..BackupProgress::default()
    };
    // Until the files are known there is nothing to add up.
    if run.stage.is_none_or(|stage| stage <= Stage::Index) {
        return document;
    }
    let mut by_table: BTreeMap<(&str, usize, &str), Vec<&ProgressRow>> = BTreeMap::new();
    for row in rows {
        by_table.entry((&row.host, row.unit, &row.table)).or_default().push(row);
    }
    let hosts: BTreeSet<&str> = rows.iter().map(|row| row.host.as_str()).collect();
    document.hosts = hosts.into_iter().map(|host| host_progress(run, host, &by_table)).collect();
    document.numbers = sum(document.hosts.iter().map(|h| &h.numbers));
    document
}

fn host_progress(
    run: &BackupRun,
    host: &str,
    rows: &BTreeMap<(&str, usize, &str), Vec<&ProgressRow>>,
) -> HostProgress {
    let mut keyspaces = Vec::with_capacity(run.units.len());
    for (number, unit) in run.units.iter().enumerate() {
        let table = |table: &String| match rows.get(&(host, number, table.as_str())) {
            Some(rows) => table_progress(table, rows),
            None => TableProgress { table: table.clone(), ..TableProgress::default() },
        };
        let tables: Vec<TableProgress> = unit.tables.iter().map(table).collect();
        let numbers = sum(tables.iter().map(|t| &t.numbers));
        keyspaces.push(KeyspaceProgress { keyspace: unit.keyspace.clone(), numbers, tables });
    }
    let numbers = sum(keyspaces.iter().map(|k| &k.numbers));
    HostProgress { host: host.to_owned(), numbers, keyspaces }
}

fn table_progress(table: &str, rows: &[&ProgressRow]) -> TableProgress {
    let numbers: Vec<ProgressNumbers> = rows
        .iter()
        .map(|row| ProgressNumbers {
            size: row.size,
            uploaded: row.uploaded,
            skipped: row.skipped,
            failed: row.failed,
            started_at: row.started_at,
            completed_at: row.completed_at,
        })
        .collect();
    let error = rows.iter().map(|row| row.error.as_str()).find(|e| !e.is_empty()).unwrap_or_default();
    TableProgress { table: table.to_owned(), error: error.to_owned(), numbers: sum(numbers.iter()) }
}

/// Numbers of a parent. It is complete when it has children and all of them are.
fn sum<'a>(children: impl Iterator<Item = &'a ProgressNumbers> + Clone) -> ProgressNumbers {
    let mut total = ProgressNumbers::default();
    for child in children.clone() {
        total.size += child.size;
        total.uploaded += child.uploaded;
        total.skipped += child.skipped;
        total.failed += child.failed;
    }
    total.started_at = children.clone().filter_map(|c| c.started_at).min();
    let complete = children.clone().all(|c| c.completed_at.is_some());
    total.completed_at = children.filter_map(|c| c.completed_at).max().filter(|_| complete);
    total
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, Duration, Utc};
    use common::api::manager::Unit;
    use serde_json::Value;

    use super::*;

    fn t() -> DateTime<Utc> {
        "2018-12-31T23:00:00Z".parse().unwrap()
    }

    fn row(host: &str, table: &str, numbers: [u64; 3], minutes: Option<i64>) -> ProgressRow {
        ProgressRow {
            host: host.into(),
            table: table.into(),
            size: numbers[0],
            uploaded: numbers[1],
            skipped: numbers[2],
            started_at: Some(t()),
            completed_at: minutes.map(|m| t() + Duration::minutes(m)),
            ..ProgressRow::default()
        }
    }

    fn run(units: Vec<Unit>, dcs: &[&str]) -> BackupRun {
        BackupRun {
            tag: Some("sm_20091110230000UTC".parse().unwrap()),
            units,
            dcs: dcs.iter().map(|s| (*s).to_owned()).collect(),
            stage: Some(Stage::Upload),
            ..BackupRun::sample()
        }
    }

    fn unit(tables: &[&str]) -> Unit {
        Unit {
            keyspace: "ks".into(),
            tables: tables.iter().map(|s| (*s).to_owned()).collect(),
            all_tables: false,
        }
    }

    fn rows() -> Vec<ProgressRow> {
        vec![
            row("host1", "table1", [17, 7, 10], Some(2)),
            row("host1", "table2", [10, 5, 0], None),
            row("host2", "table1", [10, 10, 0], Some(5)),
            row("host2", "table2", [20, 13, 0], None),
        ]
    }

    /// Every key of the golden document must be there with its value.
    fn assert_contains(actual: &Value, golden: &Value, path: &str) {
        match (actual, golden) {
            (Value::Object(actual), Value::Object(golden)) => {
                for (key, value) in golden.iter().filter(|(_, v)| !v.is_null()) {
                    assert_contains(&actual[key], value, &format!("{path}.{key}"));
                }
            }
            (Value::Array(actual), Value::Array(golden)) => {
                assert_eq!(actual.len(), golden.len(), "{path}");
                for (i, (actual, golden)) in actual.iter().zip(golden).enumerate() {
                    assert_contains(actual, golden, &format!("{path}[{i}]"));
                }
            }
            _ => assert_eq!(actual, golden, "{path}"),
        }
    }

    #[test]
    fn golden_documents_of_the_original() {
        let Some(root) = std::env::var_os("UPSTREAM_FIXTURES") else {
            eprintln!("skipped: UPSTREAM_FIXTURES is not set");
            return;
        };
        let dir = std::path::PathBuf::from(root).join("upstream-backup/expected/backup/aggregate_progress");
        for (file, document) in [
            ("on_success", aggregate(&run(vec![unit(&["table1", "table2"])], &["dc1", "dc2"]), &rows())),
            ("no_units", aggregate(&run(vec![], &["dc3"]), &[])),
        ] {
            let text = std::fs::read_to_string(dir.join(format!("{file}.golden.json"))).unwrap();
            let golden: Value = serde_json::from_str(&text).unwrap();
            assert_contains(&serde_json::to_value(document).unwrap(), &golden, file);
        }
    }

    #[test]
    fn parents_are_complete_when_all_children_are() {
        let units = vec![unit(&["table1", "table2"])];
        let document = aggregate(&run(units, &["dc1"]), &rows());
        assert_eq!(document.numbers.completed_at, None);
        let one = aggregate(&run(vec![unit(&["table1"])], &["dc1"]), &rows());
        assert_eq!(one.numbers.completed_at, Some(t() + Duration::minutes(5)));
        assert_eq!(one.hosts[0].numbers.completed_at, Some(t() + Duration::minutes(2)));
    }

    #[test]
    fn before_the_files_are_known_only_the_header_is_there() {
        for stage in [None, Some(Stage::Init), Some(Stage::Snapshot), Some(Stage::Index)] {
            let run = BackupRun { stage, ..run(vec![unit(&["table1"])], &["dc1"]) };
            let document = aggregate(&run, &rows());
            assert!(document.hosts.is_empty() && document.numbers.size == 0, "{stage:?}");
        }
    }

    #[test]
    fn tables_without_a_row_show_zeros() {
        let document = aggregate(&run(vec![unit(&["table1", "other"])], &["dc1"]), &rows());
        let tables = &document.hosts[0].keyspaces[0].tables;
        assert_eq!((tables[1].table.as_str(), tables[1].numbers.size), ("other", 0));
    }
}
