//! Clusters and their status.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::api::null_as_default;
use crate::ids::ClusterId;

/// A managed cluster (spec manager.md 3.1). Credentials are write-only.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Cluster {
    /// Absent on create unless the caller chooses it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<ClusterId>,
    /// May be empty; unique; never a UUID.
    #[serde(deserialize_with = "null_as_default")]
    pub name: String,
    /// Free key-value pairs.
    #[serde(deserialize_with = "null_as_default")]
    pub labels: BTreeMap<String, String>,
    /// First contact point: DNS name or IP.
    #[serde(deserialize_with = "null_as_default")]
    pub host: String,
    /// Agent port; 0 means 10001.
    #[serde(skip_serializing_if = "is_zero_u16")]
    pub port: u16,
    /// Bearer token of the agents.
    #[serde(deserialize_with = "null_as_default")]
    pub auth_token: String,
    /// Never use TLS for CQL to this cluster.
    pub force_tls_disabled: bool,
    /// Use the plain CQL port even when TLS is on.
    pub force_non_ssl_session_port: bool,
    /// Create only: no automatic repair task. Without effect here; repair is out of scope.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub without_repair: bool,
    /// CQL user; `set` in listings when one is stored.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub username: String,
    /// CQL password; `set` in listings when one is stored.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub password: String,
    /// Alternator key ID; `set` in listings when one is stored.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub alternator_access_key_id: String,
    /// Alternator secret; `set` in listings when one is stored.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub alternator_secret_access_key: String,
    /// CQL client certificate: base64 of PEM.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub ssl_user_cert_file: String,
    /// Key of the client certificate: base64 of PEM.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub ssl_user_key_file: String,
}

fn is_zero_u16(port: &u16) -> bool {
    *port == 0
}

/// Which secrets `DELETE /cluster/{id}` removes; none given deletes the cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DeleteClusterQuery {
    /// CQL user and password.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cql_creds: Option<bool>,
    /// Alternator key pair.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alternator_creds: Option<bool>,
    /// CQL client certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ssl_user_cert: Option<bool>,
}

/// One node in `sctool status` (spec manager.md 3.3).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeStatus {
    /// Datacenter.
    pub dc: String,
    /// Scylla host ID.
    pub host_id: String,
    /// IP address.
    pub host: String,
    /// Two letters: `U`/`D` and `N`/`L`/`J`/`M`.
    pub status: String,
    /// CQL to this node uses TLS.
    pub ssl: bool,
    /// `UP`, `DOWN`, `ERROR`, `TIMEOUT`, `UNAUTHORIZED` or empty.
    pub alternator_status: String,
    /// Round trip in milliseconds.
    pub alternator_rtt_ms: f64,
    /// Why it is down.
    pub alternator_cause: String,
    /// As for Alternator.
    pub cql_status: String,
    /// Round trip in milliseconds.
    pub cql_rtt_ms: f64,
    /// Why it is down.
    pub cql_cause: String,
    /// As for Alternator, or `HTTP <code>`.
    pub rest_status: String,
    /// Round trip in milliseconds.
    pub rest_rtt_ms: f64,
    /// Why it is down.
    pub rest_cause: String,
    /// Bytes.
    pub total_ram: u64,
    /// Seconds.
    pub uptime: u64,
    /// Logical CPUs.
    pub cpu_count: u64,
    /// Release of Scylla.
    pub scylla_version: String,
    /// Release of the agent.
    pub agent_version: String,
}

/// Answer of `GET .../suspended/details`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SuspendDetails {
    /// Whether the cluster is suspended.
    pub suspended: bool,
    /// Task type that keeps running; empty when none.
    pub allow_task_type: String,
}

/// Answer of `GET /version`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// Release of the server.
    pub version: String,
}
