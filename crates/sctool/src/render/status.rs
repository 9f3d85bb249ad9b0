//! State of the nodes (spec/sctool.md 4.10).

use common::api::manager::{NodeStatus, SuspendDetails};
use common::units::format_size;

use super::table::Table;
use super::text;

/// The table before the nodes of a suspended cluster; `cluster` as the user named it.
pub fn suspended(cluster: &str, details: &SuspendDetails, utf8: bool) -> String {
    let mut table = Table::new(&["Cluster ID", "Suspended", "Allowed Task"]);
    table.row([cluster, "true", &details.allow_task_type]);
    table.render(utf8)
}

/// One block per datacenter, in the order of the server.
pub fn nodes(nodes: &[NodeStatus], utf8: bool) -> String {
    let alternator = nodes.iter().any(|node| !node.alternator_status.is_empty());
    let blocks = nodes.chunk_by(|one, next| one.dc == next.dc);
    blocks
        .map(|dc| format!("Datacenter: {}\n{}{}", dc[0].dc, table(dc, alternator, utf8), errors(dc)))
        .collect()
}

fn table(nodes: &[NodeStatus], alternator: bool, utf8: bool) -> String {
    let apis: &[&str] = if alternator { &["", "Alternator", "CQL", "REST"] } else { &["", "CQL", "REST"] };
    let facts = ["Address", "Uptime", "CPUs", "Memory", "Scylla", "Agent", "Host ID"];
    let mut table = Table::new(&[apis, &facts].concat());
    for node in nodes {
        let mut row = vec![node.status.clone()];
        if alternator {
            row.push(api(&node.alternator_status, node.ssl, node.alternator_rtt_ms));
        }
        row.push(api(&node.cql_status, node.ssl, node.cql_rtt_ms));
        row.push(api(&node.rest_status, false, node.rest_rtt_ms));
        row.extend(facts_of(node));
        table.row(row);
    }
    table.render(utf8)
}

fn facts_of(node: &NodeStatus) -> [String; 7] {
    let number = |value: u64, text: String| if value == 0 { "-".to_owned() } else { text };
    [
        node.host.clone(),
        number(node.uptime, text::seconds(node.uptime)),
        number(node.cpu_count, node.cpu_count.to_string()),
        number(node.total_ram, format_size(node.total_ram)),
        text::or_dash(release(&node.scylla_version)),
        text::or_dash(release(&node.agent_version)),
        node.host_id.clone(),
    ]
}

/// `UP SSL (4ms)`; `-` if the API was not asked.
fn api(status: &str, ssl: bool, rtt_ms: f64) -> String {
    match status {
        "" => "-".to_owned(),
        _ => format!("{status}{} ({rtt_ms:.0}ms)", if ssl { " SSL" } else { "" }),
    }
}

/// The numeric part of a version: `3.12.0` of `3.12.0-0.20260814.abc`. A text without numbers stays.
fn release(version: &str) -> String {
    let numeric = version.split(['-', '~', '+']).next().unwrap_or_default();
    match numeric.starts_with(|c: char| c.is_ascii_digit()) {
        true => numeric.to_owned(),
        false => version.to_owned(),
    }
}

/// Why APIs do not answer, and the empty line that ends the block.
fn errors(nodes: &[NodeStatus]) -> String {
    let mut lines = String::new();
    for node in nodes {
        let causes =
            [("alternator", &node.alternator_cause), ("CQL", &node.cql_cause), ("REST", &node.rest_cause)];
        for (api, cause) in causes.iter().filter(|(_, cause)| !cause.is_empty()) {
            lines.push_str(&format!("- {} {api}: {cause}\n", node.host));
        }
    }
    if lines.is_empty() { String::new() } else { format!("Errors:\n{lines}\n") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster() -> Vec<NodeStatus> {
        serde_json::from_str(
            r#"[{"dc":"berlin","host_id":"3f0c6f8e-0b1d-4a55-9d2e-00000000000b","host":"10.20.0.11","status":"UN",
                 "ssl":true,"alternator_status":"UP","alternator_rtt_ms":3.6,"cql_status":"UP","cql_rtt_ms":3.2,
                 "rest_status":"UP","rest_rtt_ms":12,"total_ram":33554432000,"uptime":853321,"cpu_count":8,
                 "scylla_version":"2026.1.2","agent_version":"3.12.0-0.20260814.abc"},
                {"dc":"berlin","host_id":"3f0c6f8e-0b1d-4a55-9d2e-00000000000c","host":"10.20.0.12","status":"UN",
                 "ssl":true,"cql_status":"DOWN","cql_rtt_ms":0,
                 "cql_cause":"dial tcp 10.20.0.12:9042: connect: connection refused","rest_status":"UP",
                 "rest_rtt_ms":12,"total_ram":33554432000,"uptime":853321,"cpu_count":8,
                 "scylla_version":"2026.1.2","agent_version":"Snapshot"},
                {"dc":"oslo","host_id":"3f0c6f8e-0b1d-4a55-9d2e-000000000015","host":"10.30.0.21","status":"DN",
                 "rest_status":"TIMEOUT","rest_rtt_ms":30000,"rest_cause":"after 30s"}]"#,
        )
        .expect("nodes")
    }

    #[test]
    fn a_block_per_datacenter() {
        insta::assert_snapshot!(nodes(&cluster(), true), @"
        Datacenter: berlin
        ╭────┬──────────────┬────────────────┬───────────┬────────────┬──────────┬──────┬───────────┬──────────┬──────────┬──────────────────────────────────────╮
        │    │ Alternator   │ CQL            │ REST      │ Address    │ Uptime   │ CPUs │ Memory    │ Scylla   │ Agent    │ Host ID                              │
        ├────┼──────────────┼────────────────┼───────────┼────────────┼──────────┼──────┼───────────┼──────────┼──────────┼──────────────────────────────────────┤
        │ UN │ UP SSL (4ms) │ UP SSL (3ms)   │ UP (12ms) │ 10.20.0.11 │ 237h2m1s │ 8    │ 31.250GiB │ 2026.1.2 │ 3.12.0   │ 3f0c6f8e-0b1d-4a55-9d2e-00000000000b │
        │ UN │ -            │ DOWN SSL (0ms) │ UP (12ms) │ 10.20.0.12 │ 237h2m1s │ 8    │ 31.250GiB │ 2026.1.2 │ Snapshot │ 3f0c6f8e-0b1d-4a55-9d2e-00000000000c │
        ╰────┴──────────────┴────────────────┴───────────┴────────────┴──────────┴──────┴───────────┴──────────┴──────────┴──────────────────────────────────────╯
        Errors:
        - 10.20.0.12 CQL: dial tcp 10.20.0.12:9042: connect: connection refused

        Datacenter: oslo
        ╭────┬────────────┬─────┬───────────────────┬────────────┬────────┬──────┬────────┬────────┬───────┬──────────────────────────────────────╮
        │    │ Alternator │ CQL │ REST              │ Address    │ Uptime │ CPUs │ Memory │ Scylla │ Agent │ Host ID                              │
        ├────┼────────────┼─────┼───────────────────┼────────────┼────────┼──────┼────────┼────────┼───────┼──────────────────────────────────────┤
        │ DN │ -          │ -   │ TIMEOUT (30000ms) │ 10.30.0.21 │ -      │ -    │ -      │ -      │ -     │ 3f0c6f8e-0b1d-4a55-9d2e-000000000015 │
        ╰────┴────────────┴─────┴───────────────────┴────────────┴────────┴──────┴────────┴────────┴───────┴──────────────────────────────────────╯
        Errors:
        - 10.30.0.21 REST: after 30s
        ");
    }

    #[test]
    fn without_alternator_there_is_no_column_for_it() {
        assert!(!nodes(&cluster()[1..], false).contains("Alternator"));
    }

    #[test]
    fn a_suspended_cluster_says_so() {
        let details = SuspendDetails { suspended: true, allow_task_type: "tablet_repair".to_owned() };
        insta::assert_snapshot!(suspended("5e2d9f04-8a37-4b6c-9d11-c0ffee5a7e01", &details, true), @"
        ╭──────────────────────────────────────┬───────────┬───────────────╮
        │ Cluster ID                           │ Suspended │ Allowed Task  │
        ├──────────────────────────────────────┼───────────┼───────────────┤
        │ 5e2d9f04-8a37-4b6c-9d11-c0ffee5a7e01 │ true      │ tablet_repair │
        ╰──────────────────────────────────────┴───────────┴───────────────╯
        ");
    }
}
