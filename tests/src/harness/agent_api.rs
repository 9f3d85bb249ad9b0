//! What an agent says of its settings: the manager's calls, without the manager.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;
use common::api::agent::{Bandwidth, BandwidthLimit, BandwidthRequest, SetTransfers, Transfers};
use common::http_client::HttpClient;

use super::config::AUTH_TOKEN;

/// An agent answers within this time.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Client of one agent.
pub struct AgentApi {
    base: String,
    http: HttpClient,
}

impl AgentApi {
    /// A client of the agent that listens at `address`.
    ///
    /// # Errors
    /// The HTTP client cannot be built.
    pub fn new(address: SocketAddr) -> anyhow::Result<Self> {
        let transport = scylla_manager::agent_client::network(None).context("make the client of an agent")?;
        let http = HttpClient::new(transport).with_bearer(AUTH_TOKEN)?;
        Ok(Self { base: format!("https://{address}"), http })
    }

    /// The rate limit that is in force, e.g. `50M`, or `off`.
    ///
    /// # Errors
    /// The agent does not answer.
    pub async fn rate_limit(&self) -> anyhow::Result<String> {
        let body = BandwidthRequest { rate: String::new() };
        let call = self.http.call::<BandwidthLimit>(&self.base, &[], &(), Some(&body), Some(TIMEOUT));
        let Bandwidth { rate, .. } = call.await.context("ask for the rate limit")?;
        Ok(rate)
    }

    /// The number of transfers that jobs get.
    ///
    /// # Errors
    /// The agent does not answer, or leaves the number out.
    pub async fn transfers(&self) -> anyhow::Result<i64> {
        let body = Transfers { transfers: None };
        let call = self.http.call::<SetTransfers>(&self.base, &[], &(), Some(&body), Some(TIMEOUT));
        call.await.context("ask for the transfers")?.transfers.context("the agent tells no transfers")
    }
}
