//! Progress of a backup run (spec/sctool.md 4.6).

use chrono::{DateTime, Utc};
use common::api::manager::{
    BackupProgress, HostProgress, KeyspaceProgress, ProgressNumbers, RunProgress, TaskRun,
};
use common::filter::{GlobFilter, KeyspaceFilter};
use common::task::{Stage, TaskStatus};
use common::units::format_size;

use super::backup_target::lock_lines;
use super::table::Table;
use super::{View, text};
use crate::error::split_hosts;

/// Which part of a run to show. Filters hide rows; they never change the totals of the header.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    pub hosts: GlobFilter,
    pub keyspaces: KeyspaceFilter,
}

impl Filter {
    /// A keyspace is shown if any of its tables is, one without tables by its own name.
    pub fn shows_keyspace(&self, keyspace: &KeyspaceProgress) -> bool {
        match keyspace.tables.as_slice() {
            [] => self.keyspaces.matches(&keyspace.keyspace, ""),
            tables => tables.iter().any(|table| self.keyspaces.matches(&keyspace.keyspace, &table.table)),
        }
    }
}

/// Header and host table, with `details` also a table per host.
pub fn render(
    answer: &RunProgress<BackupProgress>,
    filter: &Filter,
    details: bool,
    now: DateTime<Utc>,
    view: &View,
) -> String {
    let none = BackupProgress::default();
    let progress = answer.progress.as_ref().unwrap_or(&none);
    let mut out = header(&answer.run, progress, now, view);
    out.push('\n');
    if progress.numbers.size > 0 {
        out.push_str(&host_table(progress, filter, view));
    }
    if details {
        for host in shown_hosts(progress, filter) {
            out.push_str(&format!("\nHost: {}\n{}", host.host, keyspace_table(host, filter, view)));
        }
    }
    out
}

fn shown_hosts<'a>(
    progress: &'a BackupProgress,
    filter: &'a Filter,
) -> impl Iterator<Item = &'a HostProgress> {
    progress.hosts.iter().filter(|host| filter.hosts.matches(&host.host))
}

/// The lines that the headers of all run types begin with: run, status, cause, times.
pub fn run_header(run: &TaskRun, stage: &str, now: DateTime<Utc>, view: &View) -> String {
    let id = if run.id.is_nil() { String::new() } else { run.id.to_string() };
    let mut out = format!("Run:\t\t{id}\nStatus:\t\t{}\n", run_status(run.status, stage));
    if !run.cause.is_empty() {
        out.push_str(&format!("Cause:\t\t{}\n", split_hosts(&run.cause)));
    }
    if let Some(start) = run.start_time {
        out.push_str(&format!("Start time:\t{}\n", text::time(Some(start), view.tz)));
    }
    if let Some(end) = run.end_time {
        out.push_str(&format!("End time:\t{}\n", text::time(Some(end), view.tz)));
    }
    out.push_str(&format!("Duration:\t{}\n", text::elapsed(run.start_time, run.end_time, now)));
    out
}

/// `RUNNING (uploading data)`; the stage of a run that is NEW or DONE says nothing.
pub fn run_status(status: TaskStatus, stage: &str) -> String {
    match status {
        TaskStatus::New | TaskStatus::Done => status.to_string(),
        _ if stage.is_empty() => status.to_string(),
        _ => format!("{status} ({stage})"),
    }
}

fn header(run: &TaskRun, progress: &BackupProgress, now: DateTime<Utc>, view: &View) -> String {
    let numbers = &progress.numbers;
    let mut out = run_header(run, progress.stage.map_or("", Stage::description), now, view);
    let share = match numbers.size {
        0 => "-".to_owned(),
        size => text::progress(numbers.uploaded + numbers.skipped, numbers.failed, size),
    };
    out.push_str(&format!("Progress:\t{share}\n"));
    if !progress.snapshot_tag.is_empty() {
        out.push_str(&format!("Snapshot Tag:\t{}\n", progress.snapshot_tag));
    }
    if !progress.dcs.is_empty() {
        out.push_str(&format!("Datacenters:\t\n{}", text::bullets(&progress.dcs)));
    }
    let lock =
        lock_lines(&progress.retention_lock_mode, progress.override_retention_lock, progress.retention_days);
    out.push_str(&format!("Retention Lock:\n{}", text::bullets(lock)));
    let errors = table_errors(progress);
    if run.status == TaskStatus::Error && !errors.is_empty() {
        out.push_str(&format!("Errors:\t\n{}", text::bullets(errors)));
    }
    out
}

/// Errors of the tables, each text once, in the order of the hosts.
fn table_errors(progress: &BackupProgress) -> Vec<&str> {
    let tables = progress.hosts.iter().flat_map(|host| &host.keyspaces).flat_map(|keyspace| &keyspace.tables);
    let mut errors: Vec<&str> = Vec::new();
    for error in tables.map(|table| table.error.as_str()).filter(|error| !error.is_empty()) {
        if !errors.contains(&error) {
            errors.push(error);
        }
    }
    errors
}

fn sizes(numbers: &ProgressNumbers) -> [String; 4] {
    let success = numbers.uploaded + numbers.skipped;
    [numbers.size, success, numbers.skipped, numbers.failed].map(format_size)
}

fn share(numbers: &ProgressNumbers) -> String {
    text::progress(numbers.uploaded + numbers.skipped, numbers.failed, numbers.size)
}

fn host_table(progress: &BackupProgress, filter: &Filter, view: &View) -> String {
    let mut table = Table::new(&["Host", "Progress", "Size", "Success", "Deduplicated", "Failed"])
        .right(1..6)
        .header_as_row();
    for host in shown_hosts(progress, filter) {
        let share = if host.keyspaces.is_empty() { "-".to_owned() } else { share(&host.numbers) };
        table.row([vec![host.host.clone(), share], sizes(&host.numbers).to_vec()].concat());
    }
    table.render(view.utf8)
}

fn keyspace_table(host: &HostProgress, filter: &Filter, view: &View) -> String {
    let columns = [
        "Keyspace",
        "Table",
        "Progress",
        "Size",
        "Success",
        "Deduplicated",
        "Failed",
        "Started at",
        "Completed at",
    ];
    let mut table = Table::new(&columns).right(2..7);
    for keyspace in host.keyspaces.iter().filter(|keyspace| filter.shows_keyspace(keyspace)) {
        table.separator();
        if keyspace.tables.is_empty() {
            table.row(["-"; 9]);
        }
        for row in &keyspace.tables {
            if !filter.keyspaces.matches(&keyspace.keyspace, &row.table) {
                continue;
            }
            let mut cells = vec![keyspace.keyspace.clone(), row.table.clone(), share(&row.numbers)];
            cells.extend(sizes(&row.numbers));
            cells.push(text::time(row.numbers.started_at, view.tz));
            cells.push(text::time(row.numbers.completed_at, view.tz));
            table.row(cells);
        }
    }
    table.render(view.utf8)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    fn answer(run: &str, progress: &str) -> RunProgress<BackupProgress> {
        let text = format!(
            r#"{{"run":{{"cluster_id":"5e2d9f04-8a37-4b6c-9d11-c0ffee5a7e01","type":"backup",
               "task_id":"a41c7d90-3b52-4e8f-8c60-1d2e3f405162",{run}}},"progress":{progress}}}"#
        );
        serde_json::from_str(&text).expect("progress")
    }

    const RUN: &str = r#""id":"0f6b8c1a-5d20-11f1-9a3e-02420a000105","start_time":"2026-03-02T02:30:00Z""#;

    fn numbers(size: u64, uploaded: u64, skipped: u64, failed: u64) -> String {
        format!(
            r#""size":{size},"uploaded":{uploaded},"skipped":{skipped},"failed":{failed},
               "started_at":"2026-03-02T02:31:05Z","completed_at":"2026-03-02T02:40:11Z""#
        )
    }

    fn now() -> DateTime<Utc> {
        "2026-03-02T02:34:12Z".parse().expect("valid")
    }

    fn done() -> RunProgress<BackupProgress> {
        let (invoices, lines) =
            (numbers(3 * GIB, 2 * GIB, GIB, 0), numbers(4 * GIB + GIB / 4, 4 * GIB + GIB / 4, 0, 0));
        let (roles, host) =
            (numbers(18 << 10, 18 << 10, 0, 0), numbers(7 * GIB + GIB / 4, 6 * GIB + GIB / 4, GIB, 0));
        let progress = format!(
            r#"{{"snapshot_tag":"sm_20260302023012UTC","dcs":["berlin","oslo"],"stage":"DONE",
              "retention_lock_mode":"disabled",{},"hosts":[{{"host":"10.20.0.11",{host},"keyspaces":[
                {{"keyspace":"orders","tables":[{{"table":"invoices",{invoices}}},{{"table":"lines",{lines}}}]}},
                {{"keyspace":"system_auth","tables":[{{"table":"roles",{roles}}}]}}]}},
               {{"host":"10.20.0.12",{},"keyspaces":[]}}]}}"#,
            numbers(14 * GIB, 13 * GIB, GIB, 0),
            numbers(7 * GIB + 300, 7 * GIB + 300, 0, 0),
        );
        answer(&format!(r#"{RUN},"status":"DONE","end_time":"2026-03-02T02:42:17Z""#), &progress)
    }

    fn show(answer: &RunProgress<BackupProgress>, details: bool) -> String {
        render(answer, &Filter::default(), details, now(), &View::plain())
    }

    #[test]
    fn done_with_details() {
        insta::assert_snapshot!(show(&done(), true), @"
        Run:		0f6b8c1a-5d20-11f1-9a3e-02420a000105
        Status:		DONE
        Start time:	02 Mar 26 02:30:00 UTC
        End time:	02 Mar 26 02:42:17 UTC
        Duration:	12m17s
        Progress:	100%
        Snapshot Tag:	sm_20260302023012UTC
        Datacenters:	
          - berlin
          - oslo
        Retention Lock:
          - Retention lock is not applied to snapshot files

        ╭────────────┬──────────┬──────────┬──────────┬──────────────┬────────╮
        │ Host       │ Progress │     Size │  Success │ Deduplicated │ Failed │
        ├────────────┼──────────┼──────────┼──────────┼──────────────┼────────┤
        │ 10.20.0.11 │     100% │ 7.250GiB │ 7.250GiB │         1GiB │     0B │
        │ 10.20.0.12 │        - │ 7.000GiB │ 7.000GiB │           0B │     0B │
        ╰────────────┴──────────┴──────────┴──────────┴──────────────┴────────╯

        Host: 10.20.0.11
        ╭─────────────┬──────────┬──────────┬──────────┬──────────┬──────────────┬────────┬────────────────────────┬────────────────────────╮
        │ Keyspace    │ Table    │ Progress │ Size     │ Success  │ Deduplicated │ Failed │ Started at             │ Completed at           │
        ├─────────────┼──────────┼──────────┼──────────┼──────────┼──────────────┼────────┼────────────────────────┼────────────────────────┤
        │ orders      │ invoices │     100% │     3GiB │     3GiB │         1GiB │     0B │ 02 Mar 26 02:31:05 UTC │ 02 Mar 26 02:40:11 UTC │
        │ orders      │ lines    │     100% │ 4.250GiB │ 4.250GiB │           0B │     0B │ 02 Mar 26 02:31:05 UTC │ 02 Mar 26 02:40:11 UTC │
        ├─────────────┼──────────┼──────────┼──────────┼──────────┼──────────────┼────────┼────────────────────────┼────────────────────────┤
        │ system_auth │ roles    │     100% │    18KiB │    18KiB │           0B │     0B │ 02 Mar 26 02:31:05 UTC │ 02 Mar 26 02:40:11 UTC │
        ╰─────────────┴──────────┴──────────┴──────────┴──────────┴──────────────┴────────┴────────────────────────┴────────────────────────╯

        Host: 10.20.0.12
        ");
    }

    #[test]
    fn filters_hide_rows_and_keep_totals() {
        let filter = Filter {
            hosts: GlobFilter::new(&["10.20.0.11"]).expect("a glob"),
            keyspaces: KeyspaceFilter::new(&["*", "!orders"]).expect("a glob"),
        };
        let text = render(&done(), &filter, true, now(), &View::plain());
        assert!(text.contains("Progress:\t100%"));
        assert!(
            !text.contains("10.20.0.12") && !text.contains("invoices") && text.contains("roles"),
            "{text}"
        );
    }

    #[test]
    fn never_run_and_just_started() {
        let never = answer(
            r#""id":"00000000-0000-0000-0000-000000000000","status":"NEW","start_time":"0001-01-01T00:00:00Z""#,
            r#"{"size":0}"#,
        );
        insta::assert_snapshot!(show(&never, false), @"
        Run:		
        Status:		NEW
        Duration:	0s
        Progress:	-
        Retention Lock:
          - Retention lock is not applied to snapshot files
        ");
        let started = answer(&format!(r#"{RUN},"status":"RUNNING""#), r#"{"stage":"SNAPSHOT","size":0}"#);
        insta::assert_snapshot!(show(&started, false), @"
        Run:		0f6b8c1a-5d20-11f1-9a3e-02420a000105
        Status:		RUNNING (taking snapshot)
        Start time:	02 Mar 26 02:30:00 UTC
        Duration:	4m12s
        Progress:	-
        Retention Lock:
          - Retention lock is not applied to snapshot files
        ");
        let no_rows = answer(&format!(r#"{RUN},"status":"RUNNING""#), "null");
        assert!(show(&no_rows, true).contains("Status:\t\tRUNNING\n"));
    }

    #[test]
    fn failed_with_causes_per_host() {
        let table = numbers(3 * GIB, GIB, GIB, 64 << 20);
        let progress = format!(
            r#"{{"snapshot_tag":"sm_20260302023012UTC","stage":"UPLOAD","retention_lock_mode":"unlocked",
              "retention_days":1,{table},"hosts":[{{"host":"10.20.0.11",{table},"keyspaces":[{{"keyspace":"orders",
              "tables":[{{"table":"invoices","error":"upload job failed: AccessDenied",{table}}}]}}]}}]}}"#
        );
        let run = format!(
            r#"{RUN},"status":"ERROR","end_time":"2026-03-02T02:42:17Z","cause":"upload data: 10.20.0.11: upload job failed: AccessDenied; 10.20.0.12: agent not reachable""#
        );
        insta::assert_snapshot!(show(&answer(&run, &progress), false), @r#"
        Run:		0f6b8c1a-5d20-11f1-9a3e-02420a000105
        Status:		ERROR (uploading data)
        Cause:		upload data
         10.20.0.11: upload job failed: AccessDenied
         10.20.0.12: agent not reachable
        Start time:	02 Mar 26 02:30:00 UTC
        End time:	02 Mar 26 02:42:17 UTC
        Duration:	12m17s
        Progress:	66%/3%
        Snapshot Tag:	sm_20260302023012UTC
        Retention Lock:
          - Retention lock snapshot files with mode "unlocked" for 1 day
        Errors:	
          - upload job failed: AccessDenied

        ╭────────────┬──────────┬──────┬─────────┬──────────────┬────────╮
        │ Host       │ Progress │ Size │ Success │ Deduplicated │ Failed │
        ├────────────┼──────────┼──────┼─────────┼──────────────┼────────┤
        │ 10.20.0.11 │   66%/3% │ 3GiB │    2GiB │         1GiB │  64MiB │
        ╰────────────┴──────────┴──────┴─────────┴──────────────┴────────╯
        "#);
    }
}
