//! What the agent learns from Scylla before it serves (spec agent.md 1.5).

use std::path::PathBuf;
use std::time::Duration;

use common::retry::Backoff;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use tokio::net::TcpStream;

use crate::config::{Config, ScyllaConfig, authority};
use crate::scylla_api::{ScyllaApi, ScyllaError};
use crate::upstream::Upstream;

/// Limit for one attempt to connect.
const DIAL_TIMEOUT: Duration = Duration::from_secs(1);
/// Pause between attempts.
const DIAL_PAUSE: Duration = Duration::from_secs(2);
/// Attempts; a node may take minutes to start.
const DIAL_ATTEMPTS: u32 = 60;

/// Scylla did not come up.
#[derive(Debug, thiserror::Error)]
#[error(
    "no connection to Scylla API at {authority} after {attempts} attempts: {reason}; is Scylla running? \
     Check `api_address` and `api_port` of section `scylla` in the configuration"
)]
pub struct ScyllaDown {
    authority: String,
    attempts: u32,
    reason: String,
}

/// Addresses and directories of the node, read once at start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeFacts {
    /// Address of the node for its peers.
    pub listen_address: String,
    /// Address of Scylla's metrics.
    pub prometheus_address: String,
    /// Port of Scylla's metrics.
    pub prometheus_port: String,
    /// First data directory.
    pub data_directory: PathBuf,
    /// CQL address as told to clients.
    pub broadcast_rpc_address: String,
    /// CQL address.
    pub rpc_address: String,
}

impl NodeFacts {
    /// Reads the facts.
    ///
    /// # Errors
    /// Any value that cannot be read; the agent cannot work without.
    pub async fn read(api: &ScyllaApi) -> Result<Self, ScyllaError> {
        Ok(Self {
            listen_address: api.config("listen_address").await?,
            prometheus_address: api.config("prometheus_address").await?,
            prometheus_port: api.config::<PortText>("prometheus_port").await?.0,
            data_directory: data_directory(api).await?,
            broadcast_rpc_address: api.config("broadcast_rpc_address").await?,
            rpc_address: api.config("rpc_address").await?,
        })
    }

    /// Base URL of Scylla's metrics.
    pub fn metrics_url(&self) -> String {
        let host = match self.prometheus_address.as_str() {
            "" => &self.listen_address,
            host => host,
        };
        format!("http://{}", authority(host, &self.prometheus_port))
    }

    /// Where the API listens when the configuration does not say: Scylla's address, the configured port.
    pub fn https_address(&self, config: &Config) -> crate::config::ListenAddress {
        let default = || crate::config::ListenAddress::new(self.listen_address.clone(), config.https_port);
        config.https.clone().unwrap_or_else(default)
    }
}

/// First data directory of the node.
///
/// # Errors
/// No answer, or an empty list.
pub async fn data_directory(api: &ScyllaApi) -> Result<PathBuf, ScyllaError> {
    let name = "data_file_directories";
    let all: Vec<PathBuf> = api.config(name).await?;
    all.into_iter().next().ok_or_else(|| ScyllaError::Decode {
        path: format!("/v2/config/{name}"),
        source: serde_json::Error::custom("the list of data directories is empty"),
    })
}

/// A port that Scylla gives as a number; a text is accepted too.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PortText(pub String);

impl<'de> Deserialize<'de> for PortText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match serde_json::Value::deserialize(deserializer)? {
            serde_json::Value::Number(n) => Ok(Self(n.to_string())),
            serde_json::Value::String(text) => Ok(Self(text)),
            other => Err(D::Error::custom(format!("{other} is not a port"))),
        }
    }
}

/// Waits until Scylla's REST API accepts connections.
///
/// # Errors
/// It does not within 60 attempts.
pub async fn wait_for_api(upstream: &Upstream, scylla: &ScyllaConfig) -> Result<(), ScyllaDown> {
    let pause = Backoff { wait_min: DIAL_PAUSE, wait_max: DIAL_PAUSE, ..Backoff::NONE };
    let mut reason = String::new();
    for attempt in 0..DIAL_ATTEMPTS {
        if attempt > 0 {
            tokio::time::sleep(pause.wait(attempt)).await;
        }
        match dial(upstream, scylla).await {
            Ok(()) => return Ok(()),
            Err(error) => reason = error,
        }
        if attempt == 0 {
            tracing::info!(address = scylla.authority(), reason, "Waiting for Scylla API");
        }
    }
    Err(ScyllaDown { authority: scylla.authority(), attempts: DIAL_ATTEMPTS, reason })
}

async fn dial(upstream: &Upstream, scylla: &ScyllaConfig) -> Result<(), String> {
    match upstream {
        Upstream::Network(_) => {
            let connecting = TcpStream::connect(scylla.authority());
            match tokio::time::timeout(DIAL_TIMEOUT, connecting).await {
                Ok(connected) => connected.map(drop).map_err(|e| e.to_string()),
                Err(_) => Err(format!("no answer within {DIAL_TIMEOUT:?}")),
            }
        }
        Upstream::InProcess(lookup) => {
            let uri = scylla.base_url().parse().map_err(|e: http::uri::InvalidUri| e.to_string())?;
            lookup(&uri).map(drop).ok_or_else(|| "connection refused".to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    fn refusing(times: u32) -> (Upstream, Arc<AtomicU32>) {
        let calls = Arc::new(AtomicU32::new(0));
        let counted = calls.clone();
        let lookup =
            move |_: &http::Uri| (counted.fetch_add(1, Ordering::SeqCst) >= times).then(axum::Router::new);
        (Upstream::InProcess(Arc::new(lookup)), calls)
    }

    #[tokio::test(start_paused = true)]
    async fn start_waits_for_the_api_and_gives_up_after_sixty_attempts() {
        let (upstream, calls) = refusing(3);
        let start = tokio::time::Instant::now();
        wait_for_api(&upstream, &ScyllaConfig::default()).await.unwrap();
        assert_eq!((calls.load(Ordering::SeqCst), start.elapsed()), (4, Duration::from_secs(6)));
        let (upstream, calls) = refusing(u32::MAX);
        let start = tokio::time::Instant::now();
        let error = wait_for_api(&upstream, &ScyllaConfig::default()).await.unwrap_err().to_string();
        assert_eq!(start.elapsed(), Duration::from_secs(59 * 2), "no pause after the last attempt");
        assert_eq!(calls.load(Ordering::SeqCst), 60);
        for words in ["0.0.0.0:10000", "60 attempts", "connection refused", "`api_address`", "`api_port`"] {
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn addresses_are_derived() {
        let mut facts = NodeFacts {
            listen_address: "10.0.0.1".into(),
            prometheus_port: "9180".into(),
            ..NodeFacts::default()
        };
        assert_eq!(facts.metrics_url(), "http://10.0.0.1:9180");
        assert_eq!(facts.https_address(&Config::default()).to_string(), "10.0.0.1:10001");
        facts.prometheus_address = "::1".into();
        assert_eq!(facts.metrics_url(), "http://[::1]:9180");
        let config = Config { https: Some("0.0.0.0:9".parse().unwrap()), ..Config::default() };
        assert_eq!(facts.https_address(&config).to_string(), "0.0.0.0:9");
    }
}
