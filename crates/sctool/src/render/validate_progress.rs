//! Progress of a validation run (spec/sctool.md 4.7).

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use common::api::manager::{RunProgress, ValidateHostProgress};
use common::filter::GlobFilter;
use common::units::format_size;

use super::backup_progress::run_header;
use super::table::Table;
use super::{View, text};

/// Sums over all hosts and locations; with `details` a table per location.
pub fn render(
    answer: &RunProgress<Vec<ValidateHostProgress>>,
    hosts: &GlobFilter,
    details: bool,
    now: DateTime<Utc>,
    view: &View,
) -> String {
    let rows = answer.progress.as_deref().unwrap_or_default();
    let mut out = run_header(&answer.run, "", now, view);
    out.push_str(&format!("\n{}", sums(rows)));
    if details {
        out.push('\n');
        out.push_str(&locations(rows, hosts, view));
    }
    out
}

fn sums(rows: &[ValidateHostProgress]) -> String {
    let sum = |field: fn(&ValidateHostProgress) -> u64| rows.iter().map(field).sum::<u64>();
    let orphaned = sum(|row| row.orphaned_files);
    let size = match orphaned {
        0 => String::new(),
        _ => format!("({})", format_size(sum(|row| row.orphaned_bytes))),
    };
    let mut out = format!("Scanned files:\t{}\n", sum(|row| row.scanned_files));
    out.push_str(&format!("Missing files:\t{}\n", sum(|row| row.missing_files)));
    out.push_str(&format!("Orphaned files:\t{orphaned} {size}\n"));
    match sum(|row| row.deleted_files) {
        0 => {}
        deleted => out.push_str(&format!("Deleted files:\t{deleted}\n")),
    }
    let broken: BTreeSet<&String> = rows.iter().flat_map(|row| &row.broken_snapshots).collect();
    if !broken.is_empty() {
        out.push_str(&format!("\nBroken snapshots:\t\n{}", text::bullets(broken)));
    }
    out
}

fn locations(rows: &[ValidateHostProgress], hosts: &GlobFilter, view: &View) -> String {
    let mut by_location: BTreeMap<&str, Vec<&ValidateHostProgress>> = BTreeMap::new();
    for row in rows.iter().filter(|row| hosts.matches(&row.host)) {
        by_location.entry(&row.location).or_default().push(row);
    }
    let block = |(location, rows): (&str, Vec<&ValidateHostProgress>)| {
        format!("Location: {location}\n{}\n", table(&rows, view))
    };
    by_location.into_iter().map(block).collect()
}

fn table(rows: &[&ValidateHostProgress], view: &View) -> String {
    let columns = [
        "Host",
        "Manifests",
        "Scanned files",
        "Missing files",
        "Orphaned files",
        "Orphaned bytes",
        "Deleted files",
    ];
    let mut table = Table::new(&columns).right(1..7).header_as_row();
    for row in rows {
        let counts = [row.manifests, row.scanned_files, row.missing_files, row.orphaned_files];
        let mut cells = vec![row.host.clone()];
        cells.extend(counts.map(|count| count.to_string()));
        cells.push(format_size(row.orphaned_bytes));
        cells.push(row.deleted_files.to_string());
        table.row(cells);
    }
    table.render(view.utf8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_and_a_table_per_location() {
        let answer: RunProgress<Vec<ValidateHostProgress>> = serde_json::from_str(
            r#"{"run":{"cluster_id":"5e2d9f04-8a37-4b6c-9d11-c0ffee5a7e01","type":"validate_backup",
                "task_id":"a41c7d90-3b52-4e8f-8c60-1d2e3f405162","id":"0f6b8c1a-5d20-11f1-9a3e-02420a000105",
                "status":"DONE","start_time":"2026-03-02T02:30:00Z","end_time":"2026-03-02T02:42:17Z"},
               "progress":[{"dc":"berlin","host":"10.20.0.11","location":"s3:orders-backups","manifests":14,
                 "scanned_files":9120,"missing_files":0,"orphaned_files":3,"orphaned_bytes":5242881,"deleted_files":3,
                 "broken_snapshots":null},
                {"dc":"berlin","host":"10.20.0.12","location":"s3:orders-backups","manifests":14,
                 "scanned_files":9120,"missing_files":1,"broken_snapshots":["sm_20260228023011UTC"]}]}"#,
        )
        .expect("progress");
        let now = DateTime::UNIX_EPOCH;
        insta::assert_snapshot!(render(&answer, &GlobFilter::default(), true, now, &View::plain()), @"
        Run:		0f6b8c1a-5d20-11f1-9a3e-02420a000105
        Status:		DONE
        Start time:	02 Mar 26 02:30:00 UTC
        End time:	02 Mar 26 02:42:17 UTC
        Duration:	12m17s

        Scanned files:	18240
        Missing files:	1
        Orphaned files:	3 (5.000MiB)
        Deleted files:	3

        Broken snapshots:	
          - sm_20260228023011UTC

        Location: s3:orders-backups
        ╭────────────┬───────────┬───────────────┬───────────────┬────────────────┬────────────────┬───────────────╮
        │ Host       │ Manifests │ Scanned files │ Missing files │ Orphaned files │ Orphaned bytes │ Deleted files │
        ├────────────┼───────────┼───────────────┼───────────────┼────────────────┼────────────────┼───────────────┤
        │ 10.20.0.11 │        14 │          9120 │             0 │              3 │       5.000MiB │             3 │
        │ 10.20.0.12 │        14 │          9120 │             1 │              0 │             0B │             0 │
        ╰────────────┴───────────┴───────────────┴───────────────┴────────────────┴────────────────┴───────────────╯
        ");
        let empty = RunProgress { progress: None, ..answer };
        assert!(
            render(&empty, &GlobFilter::default(), true, now, &View::plain())
                .ends_with("Orphaned files:\t0 \n\n")
        );
    }
}
