//! The rate limit of a run, which may change while the run works (`sctool backup control`).
//!
//! An agent has one limit for its whole process, and several calls set it: every job that a run starts, and every
//! change from outside. Whoever has set it looks afterwards whether it is still the one that counts, and if not sets
//! it again. So in whatever order the calls arrive, the last one carries the newest limit.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use common::units::DcLimit;

use crate::agent_client::{Agent, HostError};

/// Limits of one run by datacenter. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct RateLimit {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    limits: Vec<DcLimit>,
    /// How often they were changed: two changes may lead back to the same number.
    changes: u64,
}

/// The limit of a node at some moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeLimit {
    /// MiB/s; 0 means no limit.
    pub mib_per_second: u64,
    changes: u64,
}

impl RateLimit {
    /// Sets the limits that the run begins with, unless they were changed already: a change is newer.
    pub fn begin_with(&self, limits: &[DcLimit]) {
        let mut state = self.state();
        if state.changes == 0 {
            state.limits = limits.to_vec();
        }
    }

    /// Sets new limits for what is to come. Agents learn them by [`RateLimit::impose`].
    pub fn change(&self, limits: &[DcLimit]) {
        let mut state = self.state();
        state.limits = limits.to_vec();
        state.changes += 1;
    }

    /// The limit of each node of a datacenter.
    pub fn of(&self, dc: &str) -> NodeLimit {
        let state = self.state();
        NodeLimit { mib_per_second: DcLimit::for_dc(&state.limits, dc).unwrap_or(0), changes: state.changes }
    }

    /// Has an agent of a datacenter take the limit, unless `known` says that it has it. Returns what it has now.
    ///
    /// # Errors
    /// The agent does not answer or refuses.
    pub async fn impose(
        &self,
        agent: &Agent,
        dc: &str,
        known: Option<NodeLimit>,
    ) -> Result<NodeLimit, HostError> {
        let mut imposed = known;
        loop {
            let current = self.of(dc);
            if imposed == Some(current) {
                return Ok(current);
            }
            agent.set_rate_limit(current.mib_per_second).await?;
            imposed = Some(current);
        }
    }

    /// Whether both are the limits of one run.
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.state, &other.state)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::extract::Request;
    use common::api::Endpoint;
    use common::api::agent::{BandwidthLimit, BandwidthRequest};
    use serde_json::json;

    use super::*;
    use crate::agent_client::AgentClient;
    use crate::agent_client::tests::client_into;

    fn limits(text: &str) -> Vec<DcLimit> {
        text.split(',').map(|limit| limit.parse().unwrap()).collect()
    }

    /// An agent that remembers the rates it was told, and calls `on_rate` before it answers.
    fn agent(
        on_rate: impl Fn(&str) + Clone + Send + Sync + 'static,
    ) -> (AgentClient, Arc<Mutex<Vec<String>>>) {
        let told: Arc<Mutex<Vec<String>>> = Arc::default();
        let rates = told.clone();
        let router = Router::new().route(
            BandwidthLimit::PATH,
            axum::routing::post(move |request: Request| {
                let (on_rate, rates) = (on_rate.clone(), rates.clone());
                async move {
                    let body = axum::body::to_bytes(request.into_body(), 1 << 10).await.unwrap();
                    let rate = serde_json::from_slice::<BandwidthRequest>(&body).unwrap().rate;
                    on_rate(&rate);
                    rates.lock().unwrap().push(rate);
                    json!({}).to_string()
                }
            }),
        );
        (client_into(&["192.0.2.11"], move |_| Some(router.clone())).interactive(), told)
    }

    #[test]
    fn a_change_is_newer_than_what_the_run_begins_with() {
        let limit = RateLimit::default();
        assert_eq!(limit.of("dc1").mib_per_second, 0);
        limit.begin_with(&limits("dc1:50,100"));
        assert_eq!((limit.of("dc1").mib_per_second, limit.of("dc2").mib_per_second), (50, 100));

        let limit = RateLimit::default();
        limit.change(&limits("5"));
        limit.begin_with(&limits("dc1:50,100"));
        assert_eq!(limit.of("dc1").mib_per_second, 5);
    }

    #[tokio::test]
    async fn an_agent_that_has_the_limit_is_left_alone() {
        let (client, told) = agent(|_| {});
        let agent = client.at("192.0.2.11");
        let limit = RateLimit::default();
        limit.begin_with(&limits("dc1:50,100"));

        let known = limit.impose(&agent, "dc1", None).await.unwrap();
        assert_eq!(limit.impose(&agent, "dc1", Some(known)).await.unwrap(), known);
        assert_eq!(*told.lock().unwrap(), ["50M"]);

        limit.change(&limits("7"));
        limit.change(&limits("50"));
        limit.impose(&agent, "dc1", Some(known)).await.unwrap();
        assert_eq!(*told.lock().unwrap(), ["50M", "50M"], "the change in between may have reached it");
    }

    #[tokio::test]
    async fn a_change_on_the_way_is_made_good() {
        let limit = RateLimit::default();
        limit.begin_with(&limits("50"));
        let other = limit.clone();
        let (client, told) = agent(move |rate| {
            if rate == "50M" {
                other.change(&limits("20"));
            }
        });
        let has = limit.impose(&client.at("192.0.2.11"), "dc1", None).await.unwrap();
        assert_eq!(
            (has.mib_per_second, told.lock().unwrap().clone()),
            (20, vec!["50M".into(), "20M".into()])
        );
    }
}
