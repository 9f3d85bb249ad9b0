//! One task and its last runs (spec/sctool.md 4.9).

use chrono::{DateTime, Utc};
use common::api::manager::{TaskListItem, TaskRun};

use super::table::Table;
use super::{View, schedule, text};
use crate::grammar::cron_text::describe;
use crate::grammar::task_ref;

/// Name, schedule, labels and properties, with the empty line before the runs.
pub fn task(item: &TaskListItem, view: &View) -> String {
    let task = &item.task;
    let mut out = format!("Name:\t{}\n", task_ref::display(task.task_type, task.id, &task.name));
    out.push_str(&format!("Cron:   {}\n", activations(item, view)));
    let window = task.schedule.window.as_deref().unwrap_or_default();
    if !window.is_empty() {
        let pairs: String = window.chunks(2).map(|pair| format!("[{}] ", pair.join(" "))).collect();
        out.push_str(&format!("Window:\t{pairs}\n"));
    }
    if !task.schedule.timezone.is_empty() {
        out.push_str(&format!("Tz:\t{}\n", task.schedule.timezone));
    }
    out.push_str(&retries(item));
    out.push_str(&section("Labels:", task.labels.iter().map(|(key, value)| format!("{key}: {value}"))));
    out.push_str(&section("Properties:", text::properties(&task.properties)));
    if !out.ends_with("\n\n") {
        out.push('\n');
    }
    out
}

/// When it runs: cron or interval, and in parentheses what that means.
fn activations(item: &TaskListItem, view: &View) -> String {
    let spec = schedule::cron_spec(&item.task.schedule);
    let (plan, description) = match spec.as_str() {
        "" => (item.task.schedule.interval.to_string(), String::new()),
        _ => (spec.clone(), describe(&spec)),
    };
    let meaning = match (description.as_str(), item.next_activation) {
        ("", Some(next)) => format!("next activation date: {}", text::time(Some(next), view.tz)),
        ("", None) => "no activations scheduled".to_owned(),
        _ => description,
    };
    if plan.is_empty() { meaning } else { format!("{plan} ({meaning})") }
}

fn retries(item: &TaskListItem) -> String {
    let schedule = &item.task.schedule;
    match (schedule.num_retries, schedule.retry_wait.is_zero()) {
        (0, _) => String::new(),
        (count, true) => format!("Retry:\t{count}\n"),
        (count, false) => format!("Retry:\t{count} (initial backoff {})\n", schedule.retry_wait),
    }
}

/// A titled list with an empty line after it; nothing without entries.
fn section(title: &str, entries: impl IntoIterator<Item = String>) -> String {
    let lines: String = entries.into_iter().map(|entry| format!("- {entry}\n")).collect();
    if lines.is_empty() { lines } else { format!("{title}\n{lines}\n") }
}

/// The runs, newest first.
pub fn runs(runs: &[TaskRun], causes: bool, now: DateTime<Utc>, view: &View) -> String {
    if runs.is_empty() {
        return "No runs yet.\n".to_owned();
    }
    let cut = if causes { view.width } else { None };
    let mut table = Table::new(&["ID", "Start time", "Duration", "Status"]).cut(3, cut);
    for run in runs {
        let status = match (causes, run.cause.as_str()) {
            (true, cause) if !cause.is_empty() => format!("{} {}", run.status, cause.replace('\n', " ")),
            _ => run.status.to_string(),
        };
        let start = text::time(run.start_time, view.tz);
        table.row([run.id.to_string(), start, text::elapsed(run.start_time, run.end_time, now), status]);
    }
    table.render(view.utf8)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLUSTER: &str = "5e2d9f04-8a37-4b6c-9d11-c0ffee5a7e01";
    const TASK: &str = "a41c7d90-3b52-4e8f-8c60-1d2e3f405162";

    fn item(fields: &str) -> TaskListItem {
        let text = format!(
            r#"{{"cluster_id":"{CLUSTER}","type":"backup","id":"{TASK}","enabled":true,"status":"DONE",{fields}}}"#
        );
        serde_json::from_str(&text).expect("a task")
    }

    fn run(id: &str, status: &str, start: &str, end: &str, cause: &str) -> TaskRun {
        let text = format!(
            r#"{{"cluster_id":"{CLUSTER}","type":"backup","task_id":"{TASK}","id":"{id}","status":"{status}",
                "cause":"{cause}","start_time":"{start}","end_time":"{end}"}}"#
        );
        serde_json::from_str(&text).expect("a run")
    }

    #[test]
    fn a_task_in_full() {
        let item = item(
            r#""name":"nightly","labels":{"team":"dba"},"schedule":{"cron":"{\"spec\":\"30 2 * * *\",\"start_date\":\"0001-01-01T00:00:00Z\"}",
               "window":["Mon-0:00","Fri-15:00"],"timezone":"Europe/Oslo","num_retries":3,"retry_wait":"10m"},
               "properties":{"location":["s3:orders-backups"],"retention":7}"#,
        );
        insta::assert_snapshot!(task(&item, &View::plain()), @"
        Name:	backup/nightly
        Cron:   30 2 * * * (At 02:30 AM)
        Window:	[Mon-0:00 Fri-15:00] 
        Tz:	Europe/Oslo
        Retry:	3 (initial backoff 10m)
        Labels:
        - team: dba

        Properties:
        - location: 's3:orders-backups'
        - retention: 7
        ");
    }

    #[test]
    fn activations_in_words() {
        let line = |fields: &str| task(&item(fields), &View::plain()).lines().nth(1).map(str::to_owned);
        let next = r#""next_activation":"2026-03-03T02:30:00Z""#;
        for (fields, expected) in [
            (
                format!(r#""schedule":{{"interval":"24h"}},{next}"#),
                "Cron:   1d (next activation date: 03 Mar 26 02:30:00 UTC)",
            ),
            (r#""schedule":{"interval":"24h"}"#.to_owned(), "Cron:   1d (no activations scheduled)"),
            (r#""schedule":{}"#.to_owned(), "Cron:   no activations scheduled"),
            (
                format!(r#""schedule":{{"cron":"@daily"}},{next}"#),
                "Cron:   @daily (next activation date: 03 Mar 26 02:30:00 UTC)",
            ),
        ] {
            assert_eq!(line(&fields).as_deref(), Some(expected));
        }
    }

    #[test]
    fn runs_with_and_without_causes() {
        let all = [
            run(
                "0f6b8c1a-5d20-11f1-9a3e-02420a000105",
                "DONE",
                "2026-03-02T02:30:00Z",
                "2026-03-02T02:42:17Z",
                "",
            ),
            run(
                "0f6b8c1a-5c57-11f1-9a3e-02420a000105",
                "ERROR",
                "2026-03-01T02:30:00Z",
                "2026-03-01T02:30:44Z",
                "upload: agent not reachable",
            ),
        ];
        let now = DateTime::UNIX_EPOCH;
        insta::assert_snapshot!(runs(&all, false, now, &View::plain()), @"
        ╭──────────────────────────────────────┬────────────────────────┬──────────┬────────╮
        │ ID                                   │ Start time             │ Duration │ Status │
        ├──────────────────────────────────────┼────────────────────────┼──────────┼────────┤
        │ 0f6b8c1a-5d20-11f1-9a3e-02420a000105 │ 02 Mar 26 02:30:00 UTC │ 12m17s   │ DONE   │
        │ 0f6b8c1a-5c57-11f1-9a3e-02420a000105 │ 01 Mar 26 02:30:00 UTC │ 44s      │ ERROR  │
        ╰──────────────────────────────────────┴────────────────────────┴──────────┴────────╯
        ");
        let narrow = View { width: Some(100), ..View::plain() };
        assert!(runs(&all, true, now, &View::plain()).contains("ERROR upload: agent not reachable │"));
        assert!(
            runs(&all, true, now, &narrow).contains("ERROR upload: agent … │"),
            "{}",
            runs(&all, true, now, &narrow)
        );
        assert_eq!(runs(&[], true, now, &narrow), "No runs yet.\n");
    }
}
