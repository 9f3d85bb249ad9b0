//! Dry run of a backup (spec/sctool.md 4.3).

use common::api::manager::{BackupTarget, Schedule};
use common::units::{DcLimit, format_size};

use super::{schedule, text};

/// The summary of what would be backed up.
pub fn render(target: &BackupTarget, plan: &Schedule, show_tables: bool) -> String {
    let units = target.units.iter().map(|unit| {
        format!("{} {}", unit.keyspace, text::tables(&unit.tables, unit.all_tables, show_tables))
    });
    let mut out = schedule::dry_run_header(plan);
    out.push_str(&format!("Data Centers:\n{}\n", text::bullets(&target.dc)));
    out.push_str(&format!("Keyspaces:\n{}\n", text::bullets(units)));
    out.push_str(&format!("Disk size: ~{}\n\n", format_size(target.size)));
    out.push_str(&format!("Locations:\n{}\n", text::bullets(&target.location)));
    out.push_str(&restrictions(target));
    out.push_str(&format!("Backup Method: {}\n\n", target.method));
    out.push_str(&format!("Bandwidth Limits:\n{}\n", bandwidth(&target.rate_limit)));
    out.push_str(&format!("Snapshot Parallel Limits:\n{}\n", parallel(&target.snapshot_parallel)));
    out.push_str(&format!("Upload Parallel Limits:\n{}\n", parallel(&target.upload_parallel)));
    out.push_str(&match target.transfers {
        -1 => "Transfers: defined in scylla-manager-agent.yaml config\n\n".to_owned(),
        count => format!("Transfers:\t{count}\n\n"),
    });
    if target.retention > 0 {
        out.push_str(&format!("Retention: Last {} backups\n\n", target.retention));
    }
    out.push_str(&format!("Retention Policy:\n{}\n", retention(target)));
    out
}

/// What the backup leaves out, and the empty line that stands for it otherwise.
fn restrictions(target: &BackupTarget) -> String {
    let mut lines = String::new();
    if target.skip_schema {
        lines.push_str("Skip Schema: snapshot won't contain schema that can be restored\n");
    }
    if target.purge_only {
        lines.push_str(
            "Purge only: backup task execution will only purge snapshots (according to retention policy)\n",
        );
    }
    lines + "\n"
}

/// Upload or download limits, one per line.
pub fn bandwidth(limits: &[DcLimit]) -> String {
    if limits.is_empty() {
        return text::bullets(["Unlimited"]);
    }
    text::bullets(limits.iter().map(|limit| match (&limit.dc, limit.limit) {
        (None, 0) => "Unlimited".to_owned(),
        (Some(dc), 0) => format!("{dc}:Unlimited"),
        _ => format!("{limit} MiB/s"),
    }))
}

fn parallel(limits: &[DcLimit]) -> String {
    match limits {
        [] => text::bullets(["All hosts in parallel"]),
        limits => text::bullets(limits),
    }
}

fn retention(target: &BackupTarget) -> String {
    let mut lines = Vec::new();
    match (target.retention, target.retention_days) {
        (0, 0) => lines.push("ScyllaDB Manager will not purge any backups created by this task".to_owned()),
        (1, _) => lines.push("Retain last backup".to_owned()),
        (0, _) => {}
        (count, _) => lines.push(format!("Retain last {count} backups")),
    }
    match target.retention_days {
        0 => {}
        days => lines.push(format!("Retain backups not older than {}", days_text(days))),
    }
    let lock = lock_lines(&target.retention_lock_mode, target.override_retention_lock, target.retention_days);
    text::bullets(lines.into_iter().chain(lock))
}

/// What happens to the locks of backed up objects.
pub fn lock_lines(mode: &str, overriding: bool, days: i64) -> Vec<String> {
    let has_mode = !matches!(mode, "" | "disabled");
    if !has_mode && !overriding {
        return vec!["Retention lock is not applied to snapshot files".to_owned()];
    }
    let mut lines = Vec::new();
    if has_mode {
        lines.push(format!("Retention lock snapshot files with mode \"{mode}\" for {}", days_text(days)));
    }
    if overriding {
        lines.push("Override retention lock configuration on existing snapshot files".to_owned());
    }
    lines
}

fn days_text(days: i64) -> String {
    if days == 1 { "1 day".to_owned() } else { format!("{days} days") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(json: &str) -> BackupTarget {
        serde_json::from_str(json).expect("a target")
    }

    /// The command of the guide, spec/sctool.md 9.
    #[test]
    fn the_guides_dry_run() {
        let target = target(
            r#"{"units":[{"keyspace":"system_auth","tables":["a","b"],"all_tables":true},
                {"keyspace":"system_distributed","tables":["a"],"all_tables":true},
                {"keyspace":"system_traces","tables":["a","b","c","d","e"],"all_tables":true},
                {"keyspace":"auth_service","tables":["a","b","c"],"all_tables":true}],
                "dc":["dc1","dc2"],"location":["s3:backups"],"retention":3,"retention_days":0,"transfers":-1,
                "method":"rclone","retention_lock_mode":"disabled","size":11166914970}"#,
        );
        insta::assert_snapshot!(render(&target, &Schedule::default(), false), @"
        Data Centers:
          - dc1
          - dc2

        Keyspaces:
          - system_auth all (2 tables)
          - system_distributed all (1 table)
          - system_traces all (5 tables)
          - auth_service all (3 tables)

        Disk size: ~10.400GiB

        Locations:
          - s3:backups


        Backup Method: rclone

        Bandwidth Limits:
          - Unlimited

        Snapshot Parallel Limits:
          - All hosts in parallel

        Upload Parallel Limits:
          - All hosts in parallel

        Transfers: defined in scylla-manager-agent.yaml config

        Retention: Last 3 backups

        Retention Policy:
          - Retain last 3 backups
          - Retention lock is not applied to snapshot files
        ");
    }

    #[test]
    fn everything_set() {
        let target = target(
            r#"{"units":[{"keyspace":"orders","tables":["invoices","lines"],"all_tables":false}],
                "dc":["berlin","oslo"],"location":["berlin:gcs:orders-berlin","oslo:gcs:orders-oslo"],
                "retention":0,"retention_days":30,"transfers":4,"rate_limit":["berlin:50","oslo:0","100"],
                "snapshot_parallel":["berlin:2","5"],"upload_parallel":["1"],"skip_schema":true,"purge_only":true,
                "method":"auto","retention_lock_mode":"unlocked","override_retention_lock":true,"size":0}"#,
        );
        let plan = Schedule {
            cron: "30 2 * * *".to_owned(),
            timezone: "Europe/Oslo".to_owned(),
            ..Schedule::default()
        };
        insta::assert_snapshot!(render(&target, &plan, true), @r#"
        Cron:	30 2 * * * (At 02:30 AM)
        Tz:	Europe/Oslo

        Data Centers:
          - berlin
          - oslo

        Keyspaces:
          - orders (invoices, lines)

        Disk size: ~0B

        Locations:
          - berlin:gcs:orders-berlin
          - oslo:gcs:orders-oslo

        Skip Schema: snapshot won't contain schema that can be restored
        Purge only: backup task execution will only purge snapshots (according to retention policy)

        Backup Method: auto

        Bandwidth Limits:
          - berlin:50 MiB/s
          - oslo:Unlimited
          - 100 MiB/s

        Snapshot Parallel Limits:
          - berlin:2
          - 5

        Upload Parallel Limits:
          - 1

        Transfers:	4

        Retention Policy:
          - Retain backups not older than 30 days
          - Retention lock snapshot files with mode "unlocked" for 30 days
          - Override retention lock configuration on existing snapshot files
        "#);
    }

    #[test]
    fn retention_policies() {
        for (count, days, expected) in [
            (0, 0, "  - ScyllaDB Manager will not purge any backups created by this task\n"),
            (1, 0, "  - Retain last backup\n"),
            (7, 1, "  - Retain last 7 backups\n  - Retain backups not older than 1 day\n"),
        ] {
            let target = BackupTarget { retention: count, retention_days: days, ..BackupTarget::default() };
            let lock = "  - Retention lock is not applied to snapshot files\n";
            assert_eq!(retention(&target), format!("{expected}{lock}"));
        }
    }
}
