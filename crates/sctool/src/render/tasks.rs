//! The tasks table (spec/sctool.md 4.8).

use chrono::{DateTime, Utc};
use common::api::manager::TaskListItem;
use common::task::TaskStatus;

use super::clusters::labels;
use super::table::Table;
use super::{View, schedule, text};
use crate::grammar::task_ref;

/// What else to show.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// IDs instead of names.
    pub ids: bool,
    /// A column with the properties.
    pub properties: bool,
}

const COLUMNS: [&str; 11] = [
    "Task",
    "Labels",
    "Schedule",
    "Window",
    "Timezone",
    "Success",
    "Error",
    "Last Success",
    "Last Error",
    "Status",
    "Next",
];

/// The table, empty if there are no tasks.
pub fn render(items: &[TaskListItem], options: Options, now: DateTime<Utc>, view: &View) -> String {
    let mut columns = COLUMNS.to_vec();
    if options.properties {
        columns.push("Properties");
    }
    let mut table = Table::new(&columns);
    for item in items {
        let mut row = row(item, options, now, view);
        if options.properties {
            row.push(text::properties(&item.task.properties).join(", "));
        }
        table.row(row);
    }
    table.render(view.utf8)
}

fn row(item: &TaskListItem, options: Options, now: DateTime<Utc>, view: &View) -> Vec<String> {
    let task = &item.task;
    let name = if options.ids { "" } else { task.name.as_str() };
    let mark = if task.enabled { "" } else { "*" };
    vec![
        format!("{mark}{}", task_ref::display(task.task_type, task.id, name)),
        labels(&task.labels),
        schedule::cell(&task.schedule, now),
        task.schedule.window.clone().unwrap_or_default().join(","),
        task.schedule.timezone.clone(),
        task.success_count.to_string(),
        task.error_count.to_string(),
        text::time(task.last_success, view.tz),
        text::time(task.last_error, view.tz),
        status(item),
        next(item, view),
    ]
}

/// `ERROR (1/3)` while a retry is planned.
fn status(item: &TaskListItem) -> String {
    match (item.task.status, item.retry) {
        (TaskStatus::Error, retry) if retry > 0 => {
            format!("{} ({}/{})", item.task.status, retry - 1, item.task.schedule.num_retries)
        }
        (status, _) => status.to_string(),
    }
}

fn next(item: &TaskListItem, view: &View) -> String {
    if item.suspended { "[SUSPENDED]".to_owned() } else { text::time(item.next_activation, view.tz) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn items() -> Vec<TaskListItem> {
        let cluster = "5e2d9f04-8a37-4b6c-9d11-c0ffee5a7e01";
        let text = format!(
            r#"[{{"cluster_id":"{cluster}","type":"backup","id":"a41c7d90-3b52-4e8f-8c60-1d2e3f405162","name":"nightly",
              "labels":{{"team":"dba"}},"enabled":true,"schedule":{{"cron":"{{\"spec\":\"30 2 * * *\",\"start_date\":\"0001-01-01T00:00:00Z\"}}",
              "window":["Mon-0:00","Fri-15:00"],"timezone":"Europe/Oslo","num_retries":3}},
              "properties":{{"location":["s3:orders-backups"],"retention":7}},
              "status":"DONE","success_count":12,"error_count":0,"last_success":"2026-03-02T02:42:17Z",
              "next_activation":"2026-03-03T02:30:00Z"}},
             {{"cluster_id":"{cluster}","type":"backup","id":"b52d8ea1-4c63-4f90-9d71-2e3f40516273","enabled":true,
              "schedule":{{"interval":"7d","timezone":"Etc/UTC","num_retries":3,"window":null}},"properties":{{}},
              "status":"ERROR","success_count":12,"error_count":1,"last_error":"2026-03-01T02:30:44Z","retry":2,
              "next_activation":"2026-03-03T02:30:00Z"}},
             {{"cluster_id":"{cluster}","type":"validate_backup","id":"b52d8ea1-4c63-4f90-9d71-2e3f40516274",
              "schedule":{{}},"properties":{{}},"status":"RUNNING","suspended":true}}]"#
        );
        serde_json::from_str(&text).expect("tasks")
    }

    #[test]
    fn tasks_with_schedule_status_and_next_activation() {
        let now = "2026-03-02T12:00:00Z".parse().expect("valid");
        insta::assert_snapshot!(render(&items(), Options::default(), now, &View::plain()), @"
        ╭───────────────────────────────────────────────────────┬──────────┬────────────┬────────────────────┬─────────────┬─────────┬───────┬────────────────────────┬────────────────────────┬─────────────┬────────────────────────╮
        │ Task                                                  │ Labels   │ Schedule   │ Window             │ Timezone    │ Success │ Error │ Last Success           │ Last Error             │ Status      │ Next                   │
        ├───────────────────────────────────────────────────────┼──────────┼────────────┼────────────────────┼─────────────┼─────────┼───────┼────────────────────────┼────────────────────────┼─────────────┼────────────────────────┤
        │ backup/nightly                                        │ team=dba │ 30 2 * * * │ Mon-0:00,Fri-15:00 │ Europe/Oslo │ 12      │ 0     │ 02 Mar 26 02:42:17 UTC │                        │ DONE        │ 03 Mar 26 02:30:00 UTC │
        │ backup/b52d8ea1-4c63-4f90-9d71-2e3f40516273           │          │ 7d         │                    │ Etc/UTC     │ 12      │ 1     │                        │ 01 Mar 26 02:30:44 UTC │ ERROR (1/3) │ 03 Mar 26 02:30:00 UTC │
        │ *validate_backup/b52d8ea1-4c63-4f90-9d71-2e3f40516274 │          │            │                    │             │ 0       │ 0     │                        │                        │ RUNNING     │ [SUSPENDED]            │
        ╰───────────────────────────────────────────────────────┴──────────┴────────────┴────────────────────┴─────────────┴─────────┴───────┴────────────────────────┴────────────────────────┴─────────────┴────────────────────────╯
        ");
    }

    #[test]
    fn ids_and_properties_on_request() {
        let now = "2026-03-02T12:00:00Z".parse().expect("valid");
        let text = render(&items(), Options { ids: true, properties: true }, now, &View::plain());
        assert!(text.contains("│ backup/a41c7d90-3b52-4e8f-8c60-1d2e3f405162 "), "{text}");
        assert!(text.contains("│ location: 's3:orders-backups', retention: 7 │"), "{text}");
        assert_eq!(render(&[], Options::default(), now, &View::plain()), "");
    }
}
