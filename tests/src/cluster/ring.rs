//! Who owns which token: the vnode ring and tablets.

use std::collections::BTreeSet;

use super::model::{Keyspace, Model, NodeId, Replication, Table, Tablet};

/// Half-open token range `(start, end]`; one range of a vnode ring wraps around, with start > end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenRange {
    pub start: i64,
    pub end: i64,
    /// Primary replica first.
    pub replicas: Vec<NodeId>,
}

/// All tokens of the ring with their owners, sorted.
fn ring(model: &Model) -> Vec<(i64, NodeId)> {
    let mut ring: Vec<_> = model
        .members
        .iter()
        .filter(|m| m.is_in_ring())
        .flat_map(|m| m.tokens.iter().map(move |t| (*t, m.id)))
        .collect();
    ring.sort_unstable();
    ring
}

/// Ranges of a vnode keyspace, one per token of the ring.
pub fn vnode_ranges(model: &Model, keyspace: &Keyspace, asked: NodeId) -> Vec<TokenRange> {
    let ring = ring(model);
    (0..ring.len())
        .map(|at| TokenRange {
            start: ring[(at + ring.len() - 1) % ring.len()].0,
            end: ring[at].0,
            replicas: walk(model, &keyspace.replication, &ring, at, asked),
        })
        .collect()
}

/// Ranges of a tablet table, one per tablet.
pub fn tablet_ranges(table: &Table) -> Vec<TokenRange> {
    let mut start = i64::MIN;
    table
        .tablets
        .iter()
        .map(|tablet| {
            let range = TokenRange { start, end: tablet.last_token, replicas: tablet.replicas.clone() };
            start = tablet.last_token;
            range
        })
        .collect()
}

/// Replicas of one token of a table, the primary one first.
pub fn replicas(model: &Model, keyspace: &Keyspace, table: &Table, token: i64, asked: NodeId) -> Vec<NodeId> {
    if keyspace.uses_tablets() {
        let at = table.tablets.partition_point(|t| t.last_token < token);
        return table.tablets.get(at).map(|t| t.replicas.clone()).unwrap_or_default();
    }
    let ring = ring(model);
    if ring.is_empty() {
        return Vec::new();
    }
    let at = ring.partition_point(|(t, _)| *t < token) % ring.len();
    walk(model, &keyspace.replication, &ring, at, asked)
}

/// Collects replicas clockwise from a place on the ring.
fn walk(
    model: &Model,
    replication: &Replication,
    ring: &[(i64, NodeId)],
    at: usize,
    asked: NodeId,
) -> Vec<NodeId> {
    let mut clockwise = Vec::new();
    for (_, id) in ring[at..].iter().chain(&ring[..at]) {
        if !clockwise.contains(id) {
            clockwise.push(*id);
        }
    }
    match replication {
        Replication::Local => vec![asked],
        Replication::Everywhere => clockwise,
        Replication::Simple { factor } => {
            clockwise.truncate(*factor);
            clockwise
        }
        Replication::NetworkTopology(per_dc) => {
            let mut chosen: Vec<NodeId> = per_dc
                .iter()
                .flat_map(|(dc, factor)| spread_over_racks(model, &clockwise, dc, *factor))
                .collect();
            // Ring order over all datacenters, so that the primary replica is the first on the ring.
            chosen.sort_by_key(|id| clockwise.iter().position(|c| c == id));
            chosen
        }
    }
}

/// The first `factor` nodes of a datacenter in the given order, a new rack each while there is one.
fn spread_over_racks(model: &Model, order: &[NodeId], dc: &str, factor: usize) -> Vec<NodeId> {
    let in_dc: Vec<NodeId> = order.iter().copied().filter(|id| model.member(*id).dc == dc).collect();
    let mut racks = BTreeSet::new();
    let (mut chosen, mut same_rack) = (Vec::new(), Vec::new());
    for id in in_dc {
        if racks.insert(&model.member(id).rack) { chosen.push(id) } else { same_rack.push(id) }
    }
    chosen.extend(same_rack);
    chosen.truncate(factor);
    chosen
}

/// Gives a new table its tablets: `count` (rounded up to a power of two) equal pieces of the token range.
pub fn make_tablets(model: &Model, keyspace: &Keyspace, count: u32, offset: usize) -> Vec<Tablet> {
    let count = count.max(1).next_power_of_two();
    let members: Vec<NodeId> = model.members.iter().filter(|m| m.is_in_ring()).map(|m| m.id).collect();
    (0..count)
        .map(|n| {
            let mut order = members.clone();
            if !order.is_empty() {
                let len = order.len();
                order.rotate_left((n as usize + offset) % len);
            }
            let replicas = match &keyspace.replication {
                Replication::NetworkTopology(per_dc) => per_dc
                    .iter()
                    .flat_map(|(dc, factor)| spread_over_racks(model, &order, dc, *factor))
                    .collect(),
                Replication::Simple { factor } => order.into_iter().take(*factor).collect(),
                Replication::Everywhere => order,
                Replication::Local => Vec::new(),
            };
            Tablet { last_token: last_token(n, count), replicas }
        })
        .collect()
}

fn last_token(n: u32, count: u32) -> i64 {
    let width = (1_i128 << 64) / i128::from(count);
    let last = i128::from(i64::MIN) + width * (i128::from(n) + 1) - 1;
    i64::try_from(last).expect("the last tablet ends at the greatest token")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::{ClusterBuilder, KeyspaceSpec, token_of};

    fn model() -> Model {
        ClusterBuilder::new()
            .dc("dc1", 3)
            .dc("dc2", 2)
            .keyspace(KeyspaceSpec::new("v").table("t"))
            .keyspace(KeyspaceSpec::new("w").tablets(8).table("t"))
            .model()
    }

    #[test]
    fn vnode_ranges_cover_the_ring_and_wrap_once() {
        let model = model();
        let ranges = vnode_ranges(&model, &model.keyspaces["v"], NodeId(0));
        assert_eq!(ranges.len(), model.members.iter().map(|m| m.tokens.len()).sum::<usize>());
        assert_eq!(ranges.iter().filter(|r| r.start > r.end).count(), 1);
        assert!(ranges.iter().all(|r| r.replicas.len() == 5), "RF 3 in dc1, capped at 2 in dc2");
        assert!(ranges.windows(2).all(|w| w[0].end == w[1].start));
    }

    #[test]
    fn tablets_cover_the_ring_without_wrapping() {
        let model = model();
        let ranges = tablet_ranges(&model.keyspaces["w"].tables["t"]);
        assert_eq!(ranges.len(), 8);
        assert_eq!((ranges[0].start, ranges[7].end), (i64::MIN, i64::MAX));
        assert!(ranges.iter().all(|r| r.start < r.end && r.replicas.len() == 5));
    }

    #[test]
    fn replicas_of_a_token_are_those_of_its_range() {
        let model = model();
        for ks in ["v", "w"] {
            let keyspace = &model.keyspaces[ks];
            let table = &keyspace.tables["t"];
            let ranges = if keyspace.uses_tablets() {
                tablet_ranges(table)
            } else {
                vnode_ranges(&model, keyspace, NodeId(0))
            };
            for n in 0..200 {
                let token = token_of(format!("key {n}").as_bytes());
                let range = ranges
                    .iter()
                    .find(|r| {
                        if r.start < r.end {
                            r.start < token && token <= r.end
                        } else {
                            r.start < token || token <= r.end
                        }
                    })
                    .unwrap();
                assert_eq!(replicas(&model, keyspace, table, token, NodeId(0)), range.replicas);
            }
        }
    }
}
