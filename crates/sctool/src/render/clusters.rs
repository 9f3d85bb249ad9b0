//! `cluster list` and `cluster add` (spec/sctool.md 4.11).

use common::api::manager::Cluster;
use common::ids::ClusterId;

use super::table::Table;

/// `k=v, k2=v2`.
pub fn labels(labels: &std::collections::BTreeMap<String, String>) -> String {
    labels.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(", ")
}

/// The table of all clusters.
pub fn list(clusters: &[Cluster], utf8: bool) -> String {
    let mut table = Table::new(&["ID", "Name", "Labels", "Port", "Credentials"]);
    for cluster in clusters {
        let port = if cluster.port == 0 { "default".to_owned() } else { cluster.port.to_string() };
        let id = cluster.id.unwrap_or(ClusterId::NIL).to_string();
        table.row([id, cluster.name.clone(), labels(&cluster.labels), port, credentials(cluster)]);
    }
    table.render(utf8)
}

fn credentials(cluster: &Cluster) -> String {
    let stored = [("CQL", &cluster.username), ("Alternator", &cluster.alternator_access_key_id)];
    let names: Vec<&str> =
        stored.iter().filter(|(_, value)| !value.is_empty()).map(|(name, _)| *name).collect();
    names.join(", ")
}

/// What to do with a new cluster; goes to stderr, next to a picture.
pub fn added(id: &str, name: &str) -> String {
    let shown = if name.is_empty() { "<name>" } else { name };
    let handle = if name.is_empty() { id } else { name };
    format!(
        " __  \n\
         /  \\     Cluster added! You can set it as default, by exporting its name or ID as env variable:\n\
         @  @     $ export SCYLLA_MANAGER_CLUSTER={id}\n\
         |  |     $ export SCYLLA_MANAGER_CLUSTER={shown}\n\
         || |/    \n\
         || ||    Now run:\n\
         |\\_/|    $ sctool status -c {handle}\n\
         \\___/    $ sctool tasks -c {handle}\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clusters_show_port_and_credentials() {
        let clusters: Vec<Cluster> = serde_json::from_str(
            r#"[{"id":"5e2d9f04-8a37-4b6c-9d11-c0ffee5a7e01","name":"orders-prod","labels":{"env":"prod"},
                 "username":"set","password":"set","alternator_access_key_id":"set"},
                {"id":"c0a81e2b-77d4-4f10-b0b9-5a5a5a5a5a5a","name":"metrics-eu","labels":null,"port":10101}]"#,
        )
        .expect("clusters");
        insta::assert_snapshot!(list(&clusters, true), @"
        ╭──────────────────────────────────────┬─────────────┬──────────┬─────────┬─────────────────╮
        │ ID                                   │ Name        │ Labels   │ Port    │ Credentials     │
        ├──────────────────────────────────────┼─────────────┼──────────┼─────────┼─────────────────┤
        │ 5e2d9f04-8a37-4b6c-9d11-c0ffee5a7e01 │ orders-prod │ env=prod │ default │ CQL, Alternator │
        │ c0a81e2b-77d4-4f10-b0b9-5a5a5a5a5a5a │ metrics-eu  │          │ 10101   │                 │
        ╰──────────────────────────────────────┴─────────────┴──────────┴─────────┴─────────────────╯
        ");
        insta::assert_snapshot!(list(&clusters[..1], false), @"
        +--------------------------------------+-------------+----------+---------+-----------------+
        | ID                                   | Name        | Labels   | Port    | Credentials     |
        +--------------------------------------+-------------+----------+---------+-----------------+
        | 5e2d9f04-8a37-4b6c-9d11-c0ffee5a7e01 | orders-prod | env=prod | default | CQL, Alternator |
        +--------------------------------------+-------------+----------+---------+-----------------+
        ");
        assert_eq!(list(&[], true), "");
    }

    #[test]
    fn a_new_cluster_is_explained() {
        insta::assert_snapshot!(added("5e2d9f04-8a37-4b6c-9d11-c0ffee5a7e01", "orders-prod"), @r"
         __  
        /  \     Cluster added! You can set it as default, by exporting its name or ID as env variable:
        @  @     $ export SCYLLA_MANAGER_CLUSTER=5e2d9f04-8a37-4b6c-9d11-c0ffee5a7e01
        |  |     $ export SCYLLA_MANAGER_CLUSTER=orders-prod
        || |/    
        || ||    Now run:
        |\_/|    $ sctool status -c orders-prod
        \___/    $ sctool tasks -c orders-prod
        ");
    }
}
