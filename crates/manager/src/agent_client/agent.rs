//! Calls that concern the agent itself, and how every call is made (spec agent.md 2.3, 2.6).

use std::time::Duration;

use bytes::Bytes;
use common::api::Endpoint;
use common::api::agent::{
    Bandwidth, BandwidthLimit, BandwidthRequest, CloudMetadata, FreeOsMemory, GetCloudMetadata, GetNodeInfo,
    NodeInfo,
};
use common::http_client::Call;
use tokio::time::Instant;

use super::policy::{CallOptions, RetryOn};
use super::{Agent, HostError};

/// What the cloud probes of an agent may take beyond the usual limit.
const METADATA_SLACK: Duration = Duration::from_secs(5);

impl Agent {
    /// `GET /ping`: how long the agent took. Never repeated; exactly 204 counts.
    ///
    /// # Errors
    /// No answer within `timeout`, or another one.
    pub async fn ping(&self, timeout: Duration) -> Result<Duration, HostError> {
        let begin = Instant::now();
        let options = CallOptions::new(timeout).retry(RetryOn::Nothing);
        self.send(options, |timeout| Call::new(http::Method::GET, self.url("/ping")).timeout(timeout))
            .await?;
        Ok(begin.elapsed())
    }

    /// Facts about the node, with what the agent can do beyond the original's.
    ///
    /// # Errors
    /// See [`HostError`].
    pub async fn node_info(&self) -> Result<NodeInfo, HostError> {
        self.call::<GetNodeInfo>(None, self.options()).await
    }

    /// Cloud and machine type; empty outside a cloud.
    ///
    /// # Errors
    /// See [`HostError`].
    pub async fn cloud_metadata(&self) -> Result<CloudMetadata, HostError> {
        let timeout = self.settings().timeout + METADATA_SLACK;
        self.call::<GetCloudMetadata>(None, self.options().timeout(timeout)).await
    }

    /// Asks the agent to give memory back to the system.
    ///
    /// # Errors
    /// See [`HostError`].
    pub async fn free_os_memory(&self) -> Result<(), HostError> {
        self.call::<FreeOsMemory>(None, self.options()).await
    }

    /// Sets the rate limit of the agent in MiB/s; 0 means none.
    ///
    /// # Errors
    /// See [`HostError`].
    pub async fn set_rate_limit(&self, mib_per_second: u64) -> Result<Bandwidth, HostError> {
        let body = BandwidthRequest { rate: format!("{mib_per_second}M") };
        self.call::<BandwidthLimit>(Some(&body), self.options()).await
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    /// One typed call under the retry policy.
    pub(super) async fn call<E>(
        &self,
        body: Option<&E::Body>,
        options: CallOptions,
    ) -> Result<E::Reply, HostError>
    where
        E: Endpoint<Query = ()>,
    {
        self.policy()
            .run(&self.host, options, |timeout| {
                self.shared.http.call::<E>(&self.base, &[], &(), body, Some(timeout))
            })
            .await
    }

    /// One call whose answer is raw, under the retry policy.
    pub(super) async fn send(
        &self,
        options: CallOptions,
        call: impl Fn(Duration) -> Call,
    ) -> Result<Bytes, HostError> {
        self.policy()
            .run(&self.host, options, |timeout| {
                let call = call(timeout);
                async move { self.shared.http.send(call).await.map(|(_, bytes)| bytes) }
            })
            .await
    }
}
