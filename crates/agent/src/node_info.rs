//! `GET /agent/node_info`: facts about the node and its host (spec agent.md 2.3).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use common::api::agent::{BackendConfig, BackendEndpoint, NodeInfo, ObjectStorageEndpoint, capability};
use serde::Deserialize;

use crate::config::Config;
use crate::scylla_api::{ScyllaApi, ScyllaError};
use crate::startup::{PortText, data_directory};

/// Prefix of the authenticator's name in older configurations.
const AUTHENTICATOR_PREFIX: &str = "org.apache.cassandra.auth.";

/// What this agent does beyond the original's.
pub const CAPABILITIES: [&str; 4] =
    [capability::JOB_FILES, capability::OVERWRITE, capability::SUFFIX_SAFE, capability::VERIFY];

/// Facts that could not be collected.
#[derive(Debug, thiserror::Error)]
pub enum NodeInfoError {
    /// Scylla did not say.
    #[error(transparent)]
    Scylla(#[from] ScyllaError),
    /// The operating system did not say.
    #[error("get size of the file system of {}", path.display())]
    FileSystem {
        /// The data directory.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
}

/// Collects everything anew: an operator may have changed Scylla's configuration.
///
/// # Errors
/// Scylla does not answer, or the data directory is not there.
pub async fn collect(config: &Config, api: &ScyllaApi) -> Result<NodeInfo, NodeInfoError> {
    let mut info = NodeInfo {
        api_address: config.scylla.api_address.clone(),
        api_port: config.scylla.api_port.clone(),
        agent_version: common::version::VERSION.to_owned(),
        scylla_version: api.release_version().await?,
        rclone_backend_config: backend_config(config),
        capabilities: CAPABILITIES.map(str::to_owned).to_vec(),
        ..NodeInfo::default()
    };
    read_addresses(api, &mut info).await?;
    read_security(api, &mut info).await?;
    read_features(api, &mut info).await?;
    let directory = data_directory(api).await?;
    read_host(&directory, &mut info)?;
    info.data_directory = directory.to_string_lossy().into_owned();
    Ok(info)
}

async fn read_addresses(api: &ScyllaApi, info: &mut NodeInfo) -> Result<(), ScyllaError> {
    info.broadcast_address = api.config("broadcast_address").await?;
    info.broadcast_rpc_address = api.config("broadcast_rpc_address").await?;
    info.listen_address = api.config("listen_address").await?;
    info.rpc_address = api.config("rpc_address").await?;
    info.prometheus_address = api.config("prometheus_address").await?;
    info.prometheus_port = api.config::<PortText>("prometheus_port").await?.0;
    info.native_transport_port = api.config::<PortText>("native_transport_port").await?.0;
    info.native_transport_port_ssl = api.config::<PortText>("native_transport_port_ssl").await?.0;
    info.rpc_port = api.config::<PortText>("rpc_port").await?.0;
    info.alternator_address = api.optional_config("alternator_address").await?;
    info.alternator_port = api.optional_config::<PortText>("alternator_port").await?.0;
    info.alternator_https_port = api.optional_config::<PortText>("alternator_https_port").await?.0;
    Ok(())
}

async fn read_security(api: &ScyllaApi, info: &mut NodeInfo) -> Result<(), ScyllaError> {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct ClientEncryption {
        enabled: Flag,
        require_client_auth: Flag,
    }
    let encryption: ClientEncryption = api.config("client_encryption_options").await?;
    info.client_encryption_enabled = encryption.enabled.0;
    info.client_encryption_require_auth = encryption.require_client_auth.0;
    let authenticator: String = api.config("authenticator").await?;
    let authenticator = authenticator.strip_prefix(AUTHENTICATOR_PREFIX).unwrap_or(&authenticator);
    info.cql_password_protected = authenticator == "PasswordAuthenticator";
    info.alternator_enforce_authorization =
        api.optional_config::<Flag>("alternator_enforce_authorization").await?.0;
    Ok(())
}

async fn read_features(api: &ScyllaApi, info: &mut NodeInfo) -> Result<(), ScyllaError> {
    info.sstable_uuid_format = api.optional_config::<Flag>("uuid_sstable_identifiers_enabled").await?.0;
    info.consistent_cluster_management =
        api.optional_config::<Flag>("consistent_cluster_management").await?.0;
    info.enable_tablets = api.optional_config::<Flag>("enable_tablets").await?.0;
    let endpoints: Option<BTreeMap<String, String>> = api.optional_config("object_storage_endpoints").await?;
    info.object_storage_endpoints = object_storage_endpoints(endpoints.unwrap_or_default())?;
    Ok(())
}

/// Each value is a JSON text of its own.
fn object_storage_endpoints(
    texts: BTreeMap<String, String>,
) -> Result<BTreeMap<String, ObjectStorageEndpoint>, ScyllaError> {
    let parse = |(name, text): (String, String)| {
        let mut endpoint: ObjectStorageEndpoint = serde_json::from_str(&text).map_err(|source| {
            ScyllaError::Decode { path: "/v2/config/object_storage_endpoints".into(), source }
        })?;
        endpoint.name.clone_from(&name);
        Ok((name, endpoint))
    };
    texts.into_iter().map(parse).collect()
}

/// A boolean that may come as a text of any case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Flag(bool);

impl<'de> Deserialize<'de> for Flag {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = serde_json::Value::deserialize(deserializer)?;
        Ok(Self(match &value {
            serde_json::Value::Bool(flag) => *flag,
            serde_json::Value::String(text) => text.eq_ignore_ascii_case("true"),
            _ => false,
        }))
    }
}

fn read_host(directory: &Path, info: &mut NodeInfo) -> Result<(), NodeInfoError> {
    let stat = rustix::fs::statvfs(directory)
        .map_err(|e| NodeInfoError::FileSystem { path: directory.to_owned(), source: e.into() })?;
    info.storage_size = stat.f_blocks.saturating_mul(stat.f_frsize);
    let system = rustix::system::sysinfo();
    info.memory_total = system.totalram.saturating_mul(u64::from(system.mem_unit));
    info.uptime = u64::try_from(system.uptime).unwrap_or(0);
    info.cpu_count = cpu_count();
    Ok(())
}

/// Logical CPUs of the host, whatever this process is pinned to.
fn cpu_count() -> u64 {
    let online = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let cpus = online.lines().filter(|l| l.starts_with("cpu") && !l.starts_with("cpu ")).count();
    u64::try_from(cpus.max(1)).unwrap_or(1)
}

fn backend_config(config: &Config) -> BackendConfig {
    BackendConfig {
        s3: BackendEndpoint {
            endpoint: config.s3.endpoint.clone().unwrap_or_default(),
            region: config.s3.region.clone().unwrap_or_default(),
        },
        gcs: BackendEndpoint { endpoint: config.gcs.endpoint.clone(), region: String::new() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_texts_within_json() {
        let texts = BTreeMap::from([(
            "s3.eu".to_owned(),
            r#"{"port":443,"use_https":true,"aws_region":"eu","iam_role_arn":"arn","type":"s3"}"#.to_owned(),
        )]);
        let parsed = object_storage_endpoints(texts).unwrap();
        let endpoint = &parsed["s3.eu"];
        assert_eq!((endpoint.name.as_str(), endpoint.port, endpoint.kind.as_str()), ("s3.eu", 443, "s3"));
        let broken = BTreeMap::from([("x".to_owned(), "no json".to_owned())]);
        assert!(object_storage_endpoints(broken).is_err());
    }

    #[test]
    fn flags_come_as_texts_too() {
        for (json, expected) in
            [("true", true), ("\"True\"", true), ("\"false\"", false), ("\"\"", false), ("0", false)]
        {
            assert_eq!(serde_json::from_str::<Flag>(json).unwrap().0, expected, "{json}");
        }
    }

    #[test]
    fn the_host_can_be_read() {
        let mut info = NodeInfo::default();
        read_host(Path::new("/"), &mut info).unwrap();
        assert!(info.memory_total > 0 && info.cpu_count > 0 && info.storage_size > 0, "{info:?}");
        assert!(read_host(Path::new("/nonexistent"), &mut info).is_err());
    }
}
