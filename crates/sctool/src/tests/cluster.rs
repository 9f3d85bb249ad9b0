//! `cluster` and `status`.

use serde_json::json;

use super::CLUSTER;
use super::fake::{Fake, Reply, refused};

fn added() -> Fake {
    Fake::new().on("POST /clusters", Reply::created(&format!("/api/v1/cluster/{CLUSTER}")))
}

#[tokio::test]
async fn add_prints_the_id_and_what_to_do_next() {
    insta::assert_snapshot!(added().transcript("cluster add --host 10.20.0.11 --name orders-prod --auth-token t").await, @r#"
    POST /clusters
    {
      "auth_token": "t",
      "host": "10.20.0.11",
      "name": "orders-prod"
    }
    --- stdout
    5e2d9f04-8a37-4b6c-9d11-c0ffee5a7e01
    --- stderr
     __  
    /  \     Cluster added! You can set it as default, by exporting its name or ID as env variable:
    @  @     $ export SCYLLA_MANAGER_CLUSTER=5e2d9f04-8a37-4b6c-9d11-c0ffee5a7e01
    |  |     $ export SCYLLA_MANAGER_CLUSTER=orders-prod
    || |/    
    || ||    Now run:
    |\_/|    $ sctool status -c orders-prod
    \___/    $ sctool tasks -c orders-prod
    --- exit 0
    "#);
}

#[tokio::test]
async fn add_with_everything() {
    let home = tempfile::tempdir().expect("a directory");
    std::fs::write(home.path().join("user.crt"), "CERT").expect("written");
    std::fs::write(home.path().join("user.key"), "KEY").expect("written");
    let fake = added().on("GET /clusters", json!([])).var("HOME", home.path().to_str().expect("UTF-8"));
    let line = format!(
        "cluster add --host 10.20.0.11 -i {CLUSTER} --port 10002 -u user -p secret --alternator-access-key-id a \
         --alternator-secret-access-key b --ssl-user-cert-file ~/user.crt --ssl-user-key-file ~/user.key \
         --label env=prod,old- --without-repair --force-tls-disabled --force-non-ssl-session-port"
    );
    insta::assert_snapshot!(fake.transcript(&line).await, @r#"
    GET /clusters
    POST /clusters
    {
      "alternator_access_key_id": "a",
      "alternator_secret_access_key": "b",
      "force_non_ssl_session_port": true,
      "force_tls_disabled": true,
      "host": "10.20.0.11",
      "id": "5e2d9f04-8a37-4b6c-9d11-c0ffee5a7e01",
      "labels": {
        "env": "prod"
      },
      "password": "secret",
      "port": 10002,
      "ssl_user_cert_file": "Q0VSVA==",
      "ssl_user_key_file": "S0VZ",
      "username": "user",
      "without_repair": true
    }
    --- stdout
    5e2d9f04-8a37-4b6c-9d11-c0ffee5a7e01
    --- stderr
    WARNING! TLS is explicitly disabled on cluster sessions (--force-tls-disabled).
    WARNING! Cluster session is going to always use non SSL port (--force-non-ssl-session-port).
     __  
    /  \     Cluster added! You can set it as default, by exporting its name or ID as env variable:
    @  @     $ export SCYLLA_MANAGER_CLUSTER=5e2d9f04-8a37-4b6c-9d11-c0ffee5a7e01
    |  |     $ export SCYLLA_MANAGER_CLUSTER=<name>
    || |/    
    || ||    Now run:
    |\_/|    $ sctool status -c 5e2d9f04-8a37-4b6c-9d11-c0ffee5a7e01
    \___/    $ sctool tasks -c 5e2d9f04-8a37-4b6c-9d11-c0ffee5a7e01

    WARNING! Scylla data may be exposed
    Protect it by specifying auth_token in /etc/scylla-manager-agent/scylla-manager-agent.yaml on Scylla nodes
    --- exit 0
    "#);
}

#[tokio::test]
async fn add_as_json_is_one_document() {
    insta::assert_snapshot!(added().run("cluster add --host h -n orders-prod -o json").await.out, @r#"
    {
      "id": "5e2d9f04-8a37-4b6c-9d11-c0ffee5a7e01",
      "name": "orders-prod",
      "schema": 1
    }
    "#);
}

#[tokio::test]
async fn add_refuses_an_id_that_is_taken() {
    let fake = added().on("GET /clusters", json!([{ "id": CLUSTER, "name": "orders-prod" }]));
    insta::assert_snapshot!(fake.transcript(&format!("cluster add --host h --id {CLUSTER}")).await, @r#"
    GET /clusters
    --- stderr
    Error: Cluster ID "5e2d9f04-8a37-4b6c-9d11-c0ffee5a7e01" in use

    --- exit 1
    "#);
}

#[tokio::test]
async fn credentials_come_in_pairs() {
    for (flags, missing) in [
        ("--username u", "password"),
        ("--password p", "username"),
        ("--alternator-access-key-id a", "alternator-secret-access-key"),
        ("--alternator-secret-access-key a", "alternator-access-key-id"),
        ("--ssl-user-cert-file f", "ssl-user-key-file"),
        ("--ssl-user-key-file f", "ssl-user-cert-file"),
    ] {
        for command in ["add --host h", "update -c prod"] {
            let line = format!("cluster {command} {flags}");
            assert_eq!(refused(&line).await, format!("missing flag \"{missing}\""), "{line}");
        }
    }
}

#[tokio::test]
async fn update_forgets_secrets_and_writes_the_rest_back() {
    let path = format!("/cluster/{CLUSTER}");
    let stored = json!({
        "id": CLUSTER, "name": "orders-prod", "labels": { "env": "prod", "old": "1" }, "host": "10.20.0.11",
        "port": 10101, "auth_token": "t", "force_tls_disabled": true, "force_non_ssl_session_port": false,
    });
    let fake = Fake::new()
        .on("GET /cluster/prod", stored.clone())
        .on("DELETE /cluster/prod", Reply::empty())
        .on(&format!("PUT {path}"), stored);
    let line = "cluster update -c prod --host 10.20.0.12 --port 10001 --label old-,team=dba --force-tls-disabled=false \
                --delete-cql-credentials --delete-ssl-user-cert";
    insta::assert_snapshot!(fake.transcript(line).await, @r#"
    GET /cluster/prod
    DELETE /cluster/prod?cql_creds=true&ssl_user_cert=true
    PUT /cluster/5e2d9f04-8a37-4b6c-9d11-c0ffee5a7e01
    {
      "auth_token": "t",
      "host": "10.20.0.12",
      "id": "5e2d9f04-8a37-4b6c-9d11-c0ffee5a7e01",
      "labels": {
        "env": "prod",
        "team": "dba"
      },
      "name": "orders-prod"
    }
    --- exit 0
    "#);
}

#[tokio::test]
async fn update_without_a_change_is_refused() {
    assert_eq!(refused("cluster update -c prod").await, "nothing to do");
}

#[tokio::test]
async fn delete_is_silent() {
    let fake = Fake::new().on("DELETE /cluster/prod", Reply::empty());
    insta::assert_snapshot!(fake.transcript("cluster delete -c prod").await, @"
    DELETE /cluster/prod
    --- exit 0
    ");
}

fn two_clusters() -> Fake {
    Fake::new().on(
        "GET /clusters",
        json!([
            { "id": CLUSTER, "name": "orders-prod", "labels": { "env": "prod" }, "host": "10.20.0.11",
              "auth_token": "secret", "username": "set", "password": "set" },
            { "id": "c0a81e2b-77d4-4f10-b0b9-5a5a5a5a5a5a", "name": "", "port": 10101 },
        ]),
    )
}

#[tokio::test]
async fn list_as_table_in_ascii_and_as_json_without_tokens() {
    let fake = two_clusters().var("SCTOOL_ASCII_TABLES", "1");
    insta::assert_snapshot!(fake.transcript("cluster list").await, @"
    GET /clusters
    --- stdout
    +--------------------------------------+-------------+----------+---------+-------------+
    | ID                                   | Name        | Labels   | Port    | Credentials |
    +--------------------------------------+-------------+----------+---------+-------------+
    | 5e2d9f04-8a37-4b6c-9d11-c0ffee5a7e01 | orders-prod | env=prod | default | CQL         |
    | c0a81e2b-77d4-4f10-b0b9-5a5a5a5a5a5a |             |          | 10101   |             |
    +--------------------------------------+-------------+----------+---------+-------------+
    --- exit 0
    ");
    insta::assert_snapshot!(fake.run("cluster list -o json").await.out, @r#"
    {
      "clusters": [
        {
          "force_non_ssl_session_port": false,
          "force_tls_disabled": false,
          "host": "10.20.0.11",
          "id": "5e2d9f04-8a37-4b6c-9d11-c0ffee5a7e01",
          "labels": {
            "env": "prod"
          },
          "name": "orders-prod",
          "password": "set",
          "username": "set"
        },
        {
          "force_non_ssl_session_port": false,
          "force_tls_disabled": false,
          "host": "",
          "id": "c0a81e2b-77d4-4f10-b0b9-5a5a5a5a5a5a",
          "labels": {},
          "name": "",
          "port": 10101
        }
      ],
      "schema": 1
    }
    "#);
}

fn node(dc: &str, host: &str, rest: &str) -> serde_json::Value {
    json!({
        "dc": dc, "host": host, "host_id": format!("3f0c6f8e-0b1d-4a55-9d2e-{:012}", host.len()), "status": "UN",
        "ssl": true, "cql_status": "UP", "cql_rtt_ms": 3.4, "rest_status": rest, "rest_rtt_ms": 12.0,
        "rest_cause": if rest == "UP" { "" } else { "after 30s" }, "total_ram": 33_554_432_000_u64, "uptime": 853_321,
        "cpu_count": 8, "scylla_version": "2026.1.2", "agent_version": "3.12.0-0.20260814.abc",
    })
}

#[tokio::test]
async fn status_walks_over_clusters_and_failures() {
    let first = format!("/cluster/{CLUSTER}");
    let fake = two_clusters()
        .on(
            &format!("GET {first}/suspended/details"),
            json!({ "suspended": true, "allow_task_type": "backup" }),
        )
        .on(
            &format!("GET {first}/status"),
            json!([node("berlin", "10.20.0.11", "UP"), node("oslo", "10.30.0.21", "TIMEOUT")]),
        )
        .on(
            "GET /cluster/c0a81e2b-77d4-4f10-b0b9-5a5a5a5a5a5a/suspended/details",
            Reply::error(500, "get cluster status: 10.9.0.1: agent not reachable"),
        );
    insta::assert_snapshot!(fake.transcript("status").await, @"
    GET /clusters
    GET /cluster/5e2d9f04-8a37-4b6c-9d11-c0ffee5a7e01/suspended/details
    GET /cluster/5e2d9f04-8a37-4b6c-9d11-c0ffee5a7e01/status
    GET /cluster/c0a81e2b-77d4-4f10-b0b9-5a5a5a5a5a5a/suspended/details
    --- stdout
    Cluster: orders-prod (5e2d9f04-8a37-4b6c-9d11-c0ffee5a7e01)
    ╭──────────────────────────────────────┬───────────┬──────────────╮
    │ Cluster ID                           │ Suspended │ Allowed Task │
    ├──────────────────────────────────────┼───────────┼──────────────┤
    │ 5e2d9f04-8a37-4b6c-9d11-c0ffee5a7e01 │ true      │ backup       │
    ╰──────────────────────────────────────┴───────────┴──────────────╯
    Datacenter: berlin
    ╭────┬──────────────┬───────────┬────────────┬──────────┬──────┬───────────┬──────────┬────────┬──────────────────────────────────────╮
    │    │ CQL          │ REST      │ Address    │ Uptime   │ CPUs │ Memory    │ Scylla   │ Agent  │ Host ID                              │
    ├────┼──────────────┼───────────┼────────────┼──────────┼──────┼───────────┼──────────┼────────┼──────────────────────────────────────┤
    │ UN │ UP SSL (3ms) │ UP (12ms) │ 10.20.0.11 │ 237h2m1s │ 8    │ 31.250GiB │ 2026.1.2 │ 3.12.0 │ 3f0c6f8e-0b1d-4a55-9d2e-000000000010 │
    ╰────┴──────────────┴───────────┴────────────┴──────────┴──────┴───────────┴──────────┴────────┴──────────────────────────────────────╯
    Datacenter: oslo
    ╭────┬──────────────┬────────────────┬────────────┬──────────┬──────┬───────────┬──────────┬────────┬──────────────────────────────────────╮
    │    │ CQL          │ REST           │ Address    │ Uptime   │ CPUs │ Memory    │ Scylla   │ Agent  │ Host ID                              │
    ├────┼──────────────┼────────────────┼────────────┼──────────┼──────┼───────────┼──────────┼────────┼──────────────────────────────────────┤
    │ UN │ UP SSL (3ms) │ TIMEOUT (12ms) │ 10.30.0.21 │ 237h2m1s │ 8    │ 31.250GiB │ 2026.1.2 │ 3.12.0 │ 3f0c6f8e-0b1d-4a55-9d2e-000000000010 │
    ╰────┴──────────────┴────────────────┴────────────┴──────────┴──────┴───────────┴──────────┴────────┴──────────────────────────────────────╯
    Errors:
    - 10.30.0.21 REST: after 30s

    Cluster: c0a81e2b-77d4-4f10-b0b9-5a5a5a5a5a5a
    Error: get cluster status
     10.9.0.1: agent not reachable
    Trace ID: Xk3Yt0aQS2ybTz8m4mW1eA (grep in scylla-manager logs)

    --- exit 0
    ");
}

#[tokio::test]
async fn status_of_one_cluster_prints_its_failure_and_ends_well() {
    let fake = Fake::new()
        .on("GET /cluster/prod/suspended/details", Reply::error(404, "get resource: prod: not found"));
    insta::assert_snapshot!(fake.transcript("status -c prod").await, @"
    GET /cluster/prod/suspended/details
    --- stdout
    Error: get resource: prod: not found
    Trace ID: Xk3Yt0aQS2ybTz8m4mW1eA (grep in scylla-manager logs)

    --- exit 0
    ");
    insta::assert_snapshot!(fake.transcript("-c prod status -o json").await, @r#"
    GET /cluster/prod/suspended/details
    --- stdout
    {
      "clusters": [
        {
          "cluster": "prod",
          "error": "get resource: prod: not found"
        }
      ],
      "schema": 1
    }
    --- stderr
    Error: get resource: prod: not found
    Trace ID: Xk3Yt0aQS2ybTz8m4mW1eA (grep in scylla-manager logs)

    --- exit 0
    "#);
}

#[tokio::test]
async fn a_failed_cluster_listing_fails_the_command() {
    let fake = Fake::new().on("GET /clusters", Reply::error(500, "list clusters: store is closed"));
    insta::assert_snapshot!(fake.transcript("status").await, @"
    GET /clusters
    --- stderr
    Error: list clusters: store is closed
    Trace ID: Xk3Yt0aQS2ybTz8m4mW1eA (grep in scylla-manager logs)

    --- exit 1
    ");
}
