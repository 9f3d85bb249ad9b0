//! `backup list`, `files` and `delete`.

use serde_json::json;

use super::fake::{Fake, Reply, refused};
use super::{CLUSTER, TASK};

const LIST: &str = "GET /cluster/prod/backups";
const FILES: &str = "GET /cluster/prod/backups/files";

fn backups() -> serde_json::Value {
    json!([{
        "cluster_id": CLUSTER, "task_id": TASK,
        "units": [{ "keyspace": "auth_service", "tables": ["roles", "users"], "all_tables": false }],
        "snapshot_info": [{ "snapshot_tag": "sm_20191210145027UTC", "nodes": 6, "size": 11_166_914_970_u64 }],
        "warnings": ["schema is not part of this backup: sm_20191210145027UTC"],
    }])
}

#[tokio::test]
async fn list_prints_backups_and_warns_on_stderr() {
    insta::assert_snapshot!(Fake::new().on(LIST, backups()).transcript("backup list -c prod").await, @"
    GET /cluster/prod/backups?query_cluster_id=prod
    --- stdout
    backup/a41c7d90-3b52-4e8f-8c60-1d2e3f405162
    Snapshots:
      - sm_20191210145027UTC (10.400GiB, 6 nodes)
    Keyspaces:
      - auth_service (2 tables)

    --- stderr
    WARNING! schema is not part of this backup: sm_20191210145027UTC
    --- exit 0
    ");
}

#[tokio::test(start_paused = true)]
async fn list_sends_its_filters() {
    let fake = Fake::new().on(LIST, backups());
    let line = "backup list -c prod -L s3:a -L eu-dc:s3:b -K 'shop,!shop.carts' --all-clusters --min-date now-7d \
                --max-date 2026-03-01T00:00:00+01:00 --show-tables";
    let transcript = fake.run(line).await;
    insta::assert_snapshot!(transcript.requests, @"GET /cluster/prod/backups?keyspace=shop,!shop.carts&locations=s3:a,eu-dc:s3:b&max_date=2026-02-28T23:00:00.000Z&min_date=2026-02-23T12:00:00.000Z");
    insta::assert_snapshot!(transcript.out, @"
    Cluster: 5e2d9f04-8a37-4b6c-9d11-c0ffee5a7e01

    backup/a41c7d90-3b52-4e8f-8c60-1d2e3f405162
    Snapshots:
      - sm_20191210145027UTC (10.400GiB, 6 nodes)
    Keyspaces:
      - auth_service (roles, users)
    ");
}

#[tokio::test]
async fn list_as_json() {
    insta::assert_snapshot!(Fake::new().on(LIST, backups()).run("backup list -c prod -o json").await.out, @r#"
    {
      "backups": [
        {
          "cluster_id": "5e2d9f04-8a37-4b6c-9d11-c0ffee5a7e01",
          "snapshot_info": [
            {
              "nodes": 6,
              "size": 11166914970,
              "snapshot_tag": "sm_20191210145027UTC"
            }
          ],
          "task_id": "a41c7d90-3b52-4e8f-8c60-1d2e3f405162",
          "units": [
            {
              "all_tables": false,
              "keyspace": "auth_service",
              "tables": [
                "roles",
                "users"
              ]
            }
          ],
          "warnings": [
            "schema is not part of this backup: sm_20191210145027UTC"
          ]
        }
      ],
      "schema": 1
    }
    "#);
}

#[tokio::test(start_paused = true)]
async fn a_slow_listing_says_why_once() {
    let mut quiet = backups();
    quiet[0]["warnings"] = json!([]);
    let slow = Reply::from(quiet.clone()).after(std::time::Duration::from_secs(6));
    let fast = Reply::from(quiet).after(std::time::Duration::from_secs(4));
    let notice = "NOTICE: this may take a while, we are reading metadata from backup location(s)\n";
    for (reply, expected) in [(slow, notice), (fast, "")] {
        let transcript = Fake::new().on(LIST, reply).run("backup list -c prod").await;
        assert_eq!((transcript.err.as_str(), transcript.code), (expected, 0));
    }
}

#[tokio::test]
async fn nothing_found_is_told_on_stderr() {
    let fake = Fake::new().on(LIST, json!([])).on(FILES, json!([]));
    let list = fake.run("backup list -c prod").await;
    assert_eq!((list.out.as_str(), list.err.as_str(), list.code), ("", "NOTICE: no backups found\n", 0));
    let files = fake.run("backup files -c prod -T sm_20191210145027UTC").await;
    assert_eq!((files.out.as_str(), files.code), ("", 0));
    assert_eq!(
        files.err,
        "NOTICE: no files of backup sm_20191210145027UTC found, sctool backup list shows the backups there are\n"
    );
}

#[tokio::test]
async fn files_go_one_per_line() {
    let manifest = json!([{
        "location": "eu-dc:s3:backups", "schema": "backup/schema/cluster/c/schema.json.gz",
        "files": [{
            "keyspace": "auth_service", "table": "roles", "version": "5bc52802de2535edaeab188eecebb090",
            "files": ["me-1-big-Data.db"], "path": "backup/sst/keyspace/auth_service/table/roles/v",
        }],
    }]);
    let fake = Fake::new().on(FILES, manifest);
    let line = "backup files -c prod -L s3:backups --snapshot-tag sm_20191210145027UTC";
    insta::assert_snapshot!(fake.transcript(line).await, @"
    GET /cluster/prod/backups/files?locations=s3:backups&query_cluster_id=prod&snapshot_tag=sm_20191210145027UTC
    --- stdout
    s3://backups/backup/schema/cluster/c/schema.json.gz 	 ./
    s3://backups/backup/sst/keyspace/auth_service/table/roles/v/me-1-big-Data.db 	 auth_service/roles
    --- exit 0
    ");
    insta::assert_snapshot!(fake.run(&format!("{line} -d '|' --with-version")).await.out, @"
    s3://backups/backup/schema/cluster/c/schema.json.gz | ./
    s3://backups/backup/sst/keyspace/auth_service/table/roles/v/me-1-big-Data.db | auth_service/roles-5bc52802de2535edaeab188eecebb090
    ");
}

#[tokio::test]
async fn delete_sends_tags_and_says_nothing() {
    let fake = Fake::new().on("DELETE /cluster/prod/backups", Reply::empty());
    let line = "backup delete -c prod -L s3:backups -T sm_20191210145027UTC,sm_20191210145143UTC";
    insta::assert_snapshot!(fake.transcript(line).await, @"
    DELETE /cluster/prod/backups?locations=s3:backups&snapshot_tags=sm_20191210145027UTC,sm_20191210145143UTC
    --- exit 0
    ");
    let fake = Fake::new().on("DELETE /cluster/prod/backups/local_snapshots", Reply::empty());
    for name in ["local-snapshot", "local-snapshots"] {
        let transcript = fake.transcript(&format!("backup delete {name} -c prod")).await;
        assert_eq!(transcript, "DELETE /cluster/prod/backups/local_snapshots\n--- exit 0");
    }
}

#[tokio::test]
async fn tags_and_filters_are_checked() {
    for (line, message) in [
        ("backup delete -c prod", "required flag(s) \"snapshot-tag\" not set"),
        ("backup files", "required flag(s) \"cluster\", \"snapshot-tag\" not set"),
        ("backup list -c prod extra", "unknown command \"extra\" for \"sctool backup list\""),
    ] {
        assert_eq!(refused(line).await, message, "{line}");
    }
    for (line, start) in [
        ("backup delete -c prod -T sm_2019", "\"sm_2019\" for \"-T, --snapshot-tag\" flag: "),
        (
            "backup list -c prod --min-date yesterday",
            "\"yesterday\" for \"--min-date\" flag: parsing time \"yesterday\" as \"2006-01-02T15:04:05Z07:00\": ",
        ),
    ] {
        let message = refused(line).await;
        assert!(message.starts_with(&format!("invalid argument {start}")), "{message}");
    }
}

#[tokio::test]
async fn no_location_is_known() {
    let fake = Fake::new().on(LIST, Reply::error(400, "malformed request: missing locations"));
    insta::assert_snapshot!(fake.transcript("backup list -c prod").await, @"
    GET /cluster/prod/backups?query_cluster_id=prod
    --- stderr
    Error: malformed request: missing locations
    Trace ID: Xk3Yt0aQS2ybTz8m4mW1eA (grep in scylla-manager logs)

    --- exit 1
    ");
}
