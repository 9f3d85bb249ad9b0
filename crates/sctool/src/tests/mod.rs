//! Whole command lines against a fake manager: what they ask, what they print, how they end.

mod backup;
mod cluster;
mod command_line;
mod fake;
mod files;
mod flags;
mod follow;
mod legacy;
mod tasks;
mod tls;
mod update;

use serde_json::{Value, json};

const CLUSTER: &str = "5e2d9f04-8a37-4b6c-9d11-c0ffee5a7e01";
const TASK: &str = "a41c7d90-3b52-4e8f-8c60-1d2e3f405162";
const RUN: &str = "0f6b8c1a-5d20-11f1-9a3e-02420a000105";

/// A stored backup task as the manager answers it.
fn task(name: &str) -> Value {
    json!({
        "cluster_id": CLUSTER, "type": "backup", "id": TASK, "name": name, "enabled": true,
        "labels": { "team": "dba" },
        "schedule": {
            "cron": "{\"spec\":\"30 2 * * *\",\"start_date\":\"0001-01-01T00:00:00Z\"}",
            "interval": "", "num_retries": 3, "retry_wait": "10m", "timezone": "Europe/Oslo", "window": null,
        },
        "properties": { "location": ["s3:my-backups"], "retention": 7 },
        "tags": null, "status": "DONE", "success_count": 12, "error_count": 0,
    })
}

/// A run of that task.
fn run(id: &str, status: &str) -> Value {
    json!({
        "cluster_id": CLUSTER, "type": "backup", "task_id": TASK, "id": id, "status": status,
        "start_time": "2026-03-02T11:50:00Z", "end_time": "2026-03-02T11:59:30Z",
    })
}
