//! Configuration files of agents and manager.

use std::net::SocketAddr;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::target::S3Target;

/// Token of all agents in tests and in the demo.
pub const AUTH_TOKEN: &str = "testbed-agent-token";

/// Where a bucket is and how to get in.
#[derive(Clone, Debug)]
pub struct S3Access {
    /// Base URL.
    pub endpoint: String,
    /// Access key ID.
    pub access_key: String,
    /// Secret access key.
    pub secret_key: String,
    /// Provider name of the agent's configuration.
    pub provider: String,
}

impl From<&S3Target> for S3Access {
    fn from(target: &S3Target) -> Self {
        let (access_key, secret_key) = target.keys();
        Self { endpoint: target.endpoint(), access_key, secret_key, provider: target.provider().to_owned() }
    }
}

/// What distinguishes one agent's configuration.
#[derive(Clone, Debug)]
pub struct AgentOptions<'a> {
    /// Address it listens on.
    pub https: SocketAddr,
    /// Scylla's REST API.
    pub scylla_api: SocketAddr,
    /// Metrics address, empty for none.
    pub prometheus: String,
    /// Its object store.
    pub s3: &'a S3Access,
    /// Keys to add or to replace; only the original's keys, unless the agent is ours.
    pub extra: &'a Value,
}

/// Configuration of one agent; YAML is a superset of JSON, but a person may want to read it.
///
/// # Errors
/// Never for values of JSON; the serialiser's signature demands it.
pub fn agent_yaml(options: &AgentOptions<'_>) -> anyhow::Result<String> {
    let mut config = json!({
        "auth_token": AUTH_TOKEN,
        "https": options.https.to_string(),
        "prometheus": options.prometheus,
        "debug": "",
        "logger": {"level": "info"},
        "scylla": {
            "api_address": options.scylla_api.ip().to_string(),
            "api_port": options.scylla_api.port().to_string(),
        },
        "s3": {
            "provider": options.s3.provider,
            "endpoint": options.s3.endpoint,
            "region": "us-east-1",
            "access_key_id": options.s3.access_key,
            "secret_access_key": options.s3.secret_key,
        },
    });
    merge(&mut config, options.extra);
    Ok(serde_yaml_ng::to_string(&config)?)
}

/// Configuration of the manager.
///
/// # Errors
/// As for [`agent_yaml`].
pub fn manager_yaml(http: SocketAddr, database: &Path, extra: &Value) -> anyhow::Result<String> {
    let mut config = json!({
        "http": http.to_string(),
        "prometheus": "",
        "debug": "",
        "logger": {"level": "info"},
        "database": {"path": database},
        // Scenarios must not depend on how full the disk of this machine is.
        "backup": {"disk_space_free_min_percent": 0},
    });
    merge(&mut config, extra);
    Ok(serde_yaml_ng::to_string(&config)?)
}

/// Puts the keys of `extra` over those of `base`, section by section.
fn merge(base: &mut Value, extra: &Value) {
    match (base, extra) {
        (Value::Object(base), Value::Object(extra)) => merge_maps(base, extra),
        (_, Value::Null) => {}
        (base, extra) => *base = extra.clone(),
    }
}

fn merge_maps(base: &mut Map<String, Value>, extra: &Map<String, Value>) {
    for (key, value) in extra {
        merge(base.entry(key).or_insert(Value::Null), value);
    }
}
