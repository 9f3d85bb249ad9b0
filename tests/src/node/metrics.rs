//! The metrics port: shard count and memory, as the manager reads them.

use std::fmt::Write;
use std::sync::Arc;

use super::NodeCore;
use super::http::{Ask, Reply, RestError};

pub(super) fn dispatch(core: &Arc<NodeCore>, ask: &Ask) -> Result<Reply, RestError> {
    if ask.method != "GET" || ask.path != "/metrics" {
        return Err(RestError::unknown_route());
    }
    // `name` leaves out the prefix; several may be asked for.
    let names: Vec<&str> = ask.query.0.iter().filter(|(n, _)| n == "name").map(|(_, v)| v.as_str()).collect();
    let asked = |name: &str| names.is_empty() || names.contains(&name);
    let shards = core.shared.model().member(core.id).shards;
    let memory = core.shared.options.memory_per_shard;
    let mut text = String::new();
    if asked("database_total_writes") {
        family(
            &mut text,
            "database_total_writes",
            "counter",
            "Counts the total number of successful write operations performed by this shard.",
            shards,
            |shard| 1_000 + u64::from(shard),
        );
    }
    if asked("memory_total_memory") {
        family(&mut text, "memory_total_memory", "counter", "Total memory size in bytes", shards, |_| memory);
    }
    Ok(Reply::Text(text))
}

fn family(text: &mut String, name: &str, kind: &str, help: &str, shards: u32, value: impl Fn(u32) -> u64) {
    // Writing to a string cannot fail.
    let _ = writeln!(text, "# HELP scylla_{name} {help}");
    let _ = writeln!(text, "# TYPE scylla_{name} {kind}");
    for shard in 0..shards {
        let _ = writeln!(text, "scylla_{name}{{shard=\"{shard}\"}} {}", value(shard));
    }
}
