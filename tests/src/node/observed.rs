//! What the nodes saw: every call, calls that nobody simulates, and how many ran at once.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::cluster::NodeId;

/// Calls remembered; older ones are forgotten first.
const MAX_CALLS: usize = 100_000;

/// One finished call.
#[derive(Clone, Debug, Serialize)]
pub struct Call {
    /// Counts all calls of the cluster, in the order they ended.
    pub number: u64,
    pub node: String,
    pub method: String,
    /// Path without the query, or the CQL statement.
    pub path: String,
    pub query: BTreeMap<String, String>,
    /// HTTP status; absent when the connection was broken instead, and for CQL.
    pub status: Option<u16>,
    pub started: DateTime<Utc>,
    pub millis: u64,
}

impl Call {
    /// `METHOD path`, the name that the counters use.
    pub fn operation(&self) -> String {
        format!("{} {}", self.method, self.path)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Scope {
    Cluster,
    Dc(String),
    Node(NodeId),
}

#[derive(Clone, Copy, Debug, Default)]
struct Gauge {
    now: usize,
    max: usize,
    total: u64,
}

#[derive(Default)]
struct State {
    calls: VecDeque<Call>,
    last_number: u64,
    unknown: Vec<Call>,
    unknown_statements: Vec<String>,
    gauges: BTreeMap<(Scope, String), Gauge>,
}

/// Counters and log of a cluster. Operations are named `METHOD path`, e.g. `POST /storage_service/snapshots`.
#[derive(Default)]
pub struct Observed {
    state: Mutex<State>,
}

impl Observed {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The calls seen so far, oldest first.
    pub fn calls(&self) -> Vec<Call> {
        self.state().calls.iter().cloned().collect()
    }

    /// Calls of one operation, answered or not.
    pub fn count(&self, operation: &str) -> u64 {
        self.gauge(&Scope::Cluster, operation).total
    }

    /// Calls to paths that the simulator does not have, which it answered with 404. A scenario ends with
    /// this list empty, so that nothing unsimulated passes unseen.
    pub fn unknown_calls(&self) -> Vec<Call> {
        self.state().unknown.clone()
    }

    /// CQL statements that were answered with a syntax error.
    pub fn unknown_statements(&self) -> Vec<String> {
        self.state().unknown_statements.clone()
    }

    /// Most calls of one operation that ran at the same time in the whole cluster.
    pub fn max_in_flight(&self, operation: &str) -> usize {
        self.gauge(&Scope::Cluster, operation).max
    }

    /// The same within one datacenter.
    pub fn max_in_flight_in(&self, dc: &str, operation: &str) -> usize {
        self.gauge(&Scope::Dc(dc.to_owned()), operation).max
    }

    /// The same on one node.
    pub fn max_in_flight_on(&self, node: NodeId, operation: &str) -> usize {
        self.gauge(&Scope::Node(node), operation).max
    }

    /// Forgets everything but calls that still run.
    pub fn reset(&self) {
        let mut state = self.state();
        state.calls.clear();
        state.unknown.clear();
        state.unknown_statements.clear();
        state.gauges.retain(|_, gauge| gauge.now > 0);
        for gauge in state.gauges.values_mut() {
            *gauge = Gauge { now: gauge.now, max: gauge.now, total: 0 };
        }
    }

    fn gauge(&self, scope: &Scope, operation: &str) -> Gauge {
        self.state().gauges.get(&(scope.clone(), operation.to_owned())).copied().unwrap_or_default()
    }

    /// Counts a call as running until the guard is dropped.
    pub(crate) fn enter(&self, node: NodeId, dc: &str, operation: String) -> InFlight<'_> {
        let scopes = [Scope::Cluster, Scope::Dc(dc.to_owned()), Scope::Node(node)];
        let mut state = self.state();
        for scope in &scopes {
            let gauge = state.gauges.entry((scope.clone(), operation.clone())).or_default();
            gauge.now += 1;
            gauge.total += 1;
            gauge.max = gauge.max.max(gauge.now);
        }
        InFlight { observed: self, scopes, operation }
    }

    /// Remembers a finished call.
    pub(crate) fn record(&self, mut call: Call, known: bool) {
        let mut state = self.state();
        state.last_number += 1;
        call.number = state.last_number;
        if !known {
            state.unknown.push(call.clone());
        }
        if state.calls.len() == MAX_CALLS {
            state.calls.pop_front();
        }
        state.calls.push_back(call);
    }

    /// Remembers a statement that was answered with a syntax error.
    pub(crate) fn unknown_statement(&self, statement: &str) {
        self.state().unknown_statements.push(statement.to_owned());
    }
}

/// Counts one running call; see [`Observed::enter`].
pub(crate) struct InFlight<'a> {
    observed: &'a Observed,
    scopes: [Scope; 3],
    operation: String,
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        let mut state = self.observed.state();
        for scope in &self.scopes {
            if let Some(gauge) = state.gauges.get_mut(&(scope.clone(), self.operation.clone())) {
                gauge.now = gauge.now.saturating_sub(1);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gauges_keep_the_maximum_per_scope() {
        let observed = Observed::default();
        let op = || "POST /x".to_owned();
        let first = observed.enter(NodeId(0), "dc1", op());
        let second = observed.enter(NodeId(1), "dc2", op());
        drop((first, second));
        let third = observed.enter(NodeId(0), "dc1", op());
        assert_eq!(observed.max_in_flight("POST /x"), 2);
        assert_eq!(observed.max_in_flight_in("dc1", "POST /x"), 1);
        assert_eq!(observed.max_in_flight_on(NodeId(1), "POST /x"), 1);
        assert_eq!(observed.count("POST /x"), 3);
        observed.reset();
        assert_eq!((observed.max_in_flight("POST /x"), observed.count("POST /x")), (1, 0));
        drop(third);
    }
}
