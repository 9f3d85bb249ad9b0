//! The node and its machine (spec agent.md 2.3).

use std::collections::BTreeMap;

use http::Method;
use serde::{Deserialize, Serialize};

use crate::api::{Endpoint, null_as_default};

wire! {
    /// Facts about a node (`GET /agent/node_info`, spec agent.md 2.3). Ports are texts.
    NodeInfo {
        /// Address of Scylla's REST API as configured in the agent.
        api_address: String,
        /// Its port.
        api_port: String,
        /// `/v2/config/broadcast_address`.
        broadcast_address: String,
        /// `/v2/config/broadcast_rpc_address`.
        broadcast_rpc_address: String,
        /// `/v2/config/listen_address`.
        listen_address: String,
        /// `/v2/config/rpc_address`.
        rpc_address: String,
        /// `/v2/config/prometheus_address`.
        prometheus_address: String,
        /// `/v2/config/prometheus_port`.
        prometheus_port: String,
        /// CQL port.
        native_transport_port: String,
        /// CQL port with TLS.
        native_transport_port_ssl: String,
        /// Thrift port.
        rpc_port: String,
        /// Alternator address; empty when off.
        alternator_address: String,
        /// Alternator port; empty or `0` when off.
        alternator_port: String,
        /// Alternator port with TLS; empty or `0` when off.
        alternator_https_port: String,
        /// Alternator wants signed requests.
        alternator_enforce_authorization: bool,
        /// CQL speaks TLS.
        client_encryption_enabled: bool,
        /// CQL wants a client certificate.
        client_encryption_require_auth: bool,
        /// CQL wants a password.
        cql_password_protected: bool,
        /// New SSTables get UUID identifiers.
        sstable_uuid_format: bool,
        /// `/v2/config/consistent_cluster_management`.
        consistent_cluster_management: bool,
        /// `/v2/config/enable_tablets`; deprecated, decide per keyspace.
        enable_tablets: bool,
        /// Endpoints for Scylla's own backup.
        #[serde(skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "null_as_default")]
        object_storage_endpoints: BTreeMap<String, ObjectStorageEndpoint>,
        /// First data directory.
        data_directory: String,
        /// Bytes of RAM.
        memory_total: u64,
        /// Logical CPUs.
        cpu_count: u64,
        /// Uptime of the host in seconds.
        uptime: u64,
        /// Bytes of the file system that holds the data directory.
        storage_size: u64,
        /// Release of Scylla.
        scylla_version: String,
        /// Release of the agent.
        agent_version: String,
        /// Storage settings of the agent.
        rclone_backend_config: BackendConfig,
        /// Ours: see [`capability`]; absent from an original agent.
        #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_as_default")]
        capabilities: Vec<String>,
    }
}

impl NodeInfo {
    /// Whether the agent announces `capability`.
    pub fn can(&self, capability: &str) -> bool {
        self.capabilities.iter().any(|c| c == capability)
    }
}

wire! {
    /// An object storage endpoint in Scylla's configuration.
    ObjectStorageEndpoint {
        /// Name.
        name: String,
        /// Port.
        port: u16,
        /// TLS.
        use_https: bool,
        /// Region.
        aws_region: String,
        /// Role.
        iam_role_arn: String,
        /// `s3` or `gs`.
        #[serde(rename = "type")]
        kind: String,
    }
}

wire! {
    /// Storage settings that the manager may compare.
    BackendConfig {
        /// S3.
        s3: BackendEndpoint,
        /// GCS.
        gcs: BackendEndpoint,
    }
}

wire! {
    /// Endpoint and region of a provider.
    BackendEndpoint {
        /// Base URL; empty for the provider's own.
        endpoint: String,
        /// Region.
        #[serde(skip_serializing_if = "String::is_empty")]
        region: String,
    }
}

/// `GET /agent/node_info`.
pub struct GetNodeInfo;

impl Endpoint for GetNodeInfo {
    const METHOD: Method = Method::GET;
    const PATH: &'static str = "/agent/node_info";
    type Query = ();
    type Body = ();
    type Reply = NodeInfo;
}

wire! {
    /// Cloud and machine type; empty outside a cloud.
    CloudMetadata {
        /// `aws`, `gcp`, `azure` or empty.
        cloud_provider: String,
        /// E.g. `i4i.xlarge`.
        instance_type: String,
    }
}

/// `GET /agent/cloud/metadata`.
pub struct GetCloudMetadata;

impl Endpoint for GetCloudMetadata {
    const METHOD: Method = Method::GET;
    const PATH: &'static str = "/agent/cloud/metadata";
    type Query = ();
    type Body = ();
    type Reply = CloudMetadata;
}

wire! {
    /// CPUs that the agent is pinned to.
    PinnedCpus {
        /// In no particular order.
        #[serde(deserialize_with = "null_as_default")]
        cpu: Vec<usize>,
    }
}

/// `GET /agent/pin_cpu`.
pub struct GetPinnedCpus;

impl Endpoint for GetPinnedCpus {
    const METHOD: Method = Method::GET;
    const PATH: &'static str = "/agent/pin_cpu";
    type Query = ();
    type Body = ();
    type Reply = PinnedCpus;
}

/// `POST /agent/free_os_memory`.
pub struct FreeOsMemory;

impl Endpoint for FreeOsMemory {
    const METHOD: Method = Method::POST;
    const PATH: &'static str = "/agent/free_os_memory";
    type Query = ();
    type Body = ();
    type Reply = ();
}
