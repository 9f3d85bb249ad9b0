//! CQL of a cluster: only to describe its schema, to list its views, and to see whether a login works.
//!
//! A session talks to one node and to no other: the schema must come from the node that just applied all
//! changes (spec manager.md 5.5, backup-format.md 4.2).

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use common::api::agent::NodeInfo;
use common::api::manager::SchemaRow;
use common::tls::AcceptAnyCertificate;
use rustls::ClientConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use scylla::client::PoolSize;
use scylla::client::execution_profile::ExecutionProfile;
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use scylla::policies::host_filter::AllowListHostFilter;

use crate::agent_client::host_address;
use crate::store::{Cluster, Secrets};

/// Limit of a connection attempt.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Limit of a statement: describing a schema of thousands of tables takes a while.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(120);

/// Why CQL cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CqlError {
    /// The node wants a password and none is stored.
    #[error(
        "CQL credentials are required to back up schema on this cluster, set them with sctool cluster update \
         --username --password"
    )]
    MissingCredentials,
    /// The node wants a client certificate and none is stored.
    #[error(
        "a CQL client certificate is required on this cluster, set it with sctool cluster update \
         --ssl-user-key-file --ssl-user-cert-file"
    )]
    MissingCertificate,
    /// The stored certificate cannot be used.
    #[error("the stored CQL client certificate cannot be used: {0}")]
    Certificate(String),
    /// The node has no usable address or port.
    #[error("node {node} has no CQL address: {reason}")]
    Address {
        /// The node.
        node: IpAddr,
        /// Why not.
        reason: String,
    },
    /// No session.
    #[error("connect to CQL at {address}")]
    Connect {
        /// Where.
        address: SocketAddr,
        /// Why not.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A statement failed.
    #[error("{statement} at {address}")]
    Statement {
        /// Where.
        address: SocketAddr,
        /// What.
        statement: &'static str,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl CqlError {
    /// Whether storing a login or certificate would help: a backup goes on without the schema then.
    pub fn lacks_credentials(&self) -> bool {
        match self {
            Self::MissingCredentials | Self::MissingCertificate => true,
            Self::Certificate(_) | Self::Address { .. } | Self::Connect { .. } | Self::Statement { .. } => {
                false
            }
        }
    }
}

/// What decides how to connect, besides the node.
#[derive(Clone, Debug)]
pub struct CqlAccess {
    secrets: Secrets,
    tls_disabled: bool,
    plain_port: bool,
}

impl CqlAccess {
    /// Access as the cluster's settings and secrets say.
    pub fn new(cluster: &Cluster, secrets: Secrets) -> Self {
        Self {
            secrets,
            tls_disabled: cluster.force_tls_disabled,
            plain_port: cluster.force_non_ssl_session_port,
        }
    }

    /// The stored login.
    pub fn login(&self) -> Option<(&str, &str)> {
        self.secrets.cql.as_ref().map(|c| (c.username.as_str(), c.password.expose()))
    }

    /// Whether connections to the node use TLS.
    pub fn uses_tls(&self, info: &NodeInfo) -> bool {
        info.client_encryption_enabled && !self.tls_disabled
    }

    /// Where the node listens for CQL.
    ///
    /// # Errors
    /// Its configuration holds no usable address or port.
    pub fn address(&self, node: IpAddr, info: &NodeInfo) -> Result<SocketAddr, CqlError> {
        let usable = |text: &str| match host_address(text) {
            Some(ip) if ip.is_unspecified() => Some(node),
            other => other,
        };
        let ip = [&info.broadcast_rpc_address, &info.rpc_address, &info.listen_address]
            .into_iter()
            .find_map(|text| usable(text))
            .unwrap_or(node);
        let encrypted = self.uses_tls(info) && !self.plain_port;
        let port = if encrypted { &info.native_transport_port_ssl } else { &info.native_transport_port };
        let port =
            port.parse().map_err(|_| CqlError::Address { node, reason: format!("port is {port:?}") })?;
        Ok(SocketAddr::new(ip, port))
    }

    /// The client side of TLS, or none where the node speaks plain CQL.
    ///
    /// # Errors
    /// A client certificate is missing or unusable.
    pub fn tls(&self, info: &NodeInfo) -> Result<Option<Arc<ClientConfig>>, CqlError> {
        if !self.uses_tls(info) {
            return Ok(None);
        }
        common::tls::install_provider();
        let builder =
            ClientConfig::builder().dangerous().with_custom_certificate_verifier(AcceptAnyCertificate::new());
        let config = match &self.secrets.tls_identity {
            None if info.client_encryption_require_auth => return Err(CqlError::MissingCertificate),
            None => builder.with_no_client_auth(),
            Some(identity) => {
                let unusable = |e: &dyn std::fmt::Display| CqlError::Certificate(e.to_string());
                let chain = CertificateDer::pem_slice_iter(&identity.certificate)
                    .collect::<Result<Vec<_>, _>>()
                    .map_err(|e| unusable(&e))?;
                let key = PrivateKeyDer::from_pem_slice(identity.private_key.expose().as_bytes())
                    .map_err(|e| unusable(&e))?;
                builder.with_client_auth_cert(chain, key).map_err(|e| unusable(&e))?
            }
        };
        Ok(Some(Arc::new(config)))
    }

    /// Opens a session that talks to this node only.
    ///
    /// # Errors
    /// Credentials are missing, or there is no connection.
    pub async fn session(&self, node: IpAddr, info: &NodeInfo) -> Result<NodeSession, CqlError> {
        if info.cql_password_protected && self.secrets.cql.is_none() {
            return Err(CqlError::MissingCredentials);
        }
        let address = self.address(node, info)?;
        let failed = |source| CqlError::Connect { address, source };
        let only = AllowListHostFilter::new([address]).map_err(|e| failed(e.into()))?;
        let profile = ExecutionProfile::builder().request_timeout(Some(STATEMENT_TIMEOUT)).build();
        let mut builder = SessionBuilder::new()
            .known_node_addr(address)
            .host_filter(Arc::new(only))
            .connection_timeout(CONNECT_TIMEOUT)
            .fetch_schema_metadata(false)
            .fetch_full_schema_metadata(false)
            // One connection, not one per shard: the node serves its users, we ask one question.
            .pool_size(PoolSize::PerHost(NonZeroUsize::MIN))
            .disallow_shard_aware_port(true)
            .default_execution_profile_handle(profile.into_handle());
        if let Some((user, password)) = self.login() {
            builder = builder.user(user, password);
        }
        if let Some(tls) = self.tls(info)? {
            builder = builder.tls_context(Some(tls));
        }
        let connect = tokio::time::timeout(CONNECT_TIMEOUT * 3, builder.build());
        let session = connect.await.map_err(|e| failed(e.into()))?.map_err(|e| failed(e.into()))?;
        Ok(NodeSession { session, address })
    }
}

/// A session with one node.
pub struct NodeSession {
    session: Session,
    address: SocketAddr,
}

impl NodeSession {
    /// The whole schema in the order in which it must be replayed.
    ///
    /// # Errors
    /// The statement failed.
    pub async fn describe_schema(&self) -> Result<Vec<SchemaRow>, CqlError> {
        const STATEMENT: &str = "DESCRIBE SCHEMA WITH INTERNALS";
        type Row = (Option<String>, Option<String>, Option<String>, Option<String>);
        let rows = self.query::<Row>(STATEMENT).await?;
        let row = |(keyspace, kind, name, statement): Row| SchemaRow {
            keyspace: keyspace.unwrap_or_default(),
            kind: kind.unwrap_or_default(),
            name: name.unwrap_or_default(),
            cql_stmt: statement.unwrap_or_default(),
        };
        Ok(rows.into_iter().map(row).collect())
    }

    /// All materialized views, index tables included: `(keyspace, view)`.
    ///
    /// # Errors
    /// The statement failed.
    pub async fn views(&self) -> Result<BTreeSet<(String, String)>, CqlError> {
        const STATEMENT: &str = "SELECT keyspace_name, view_name FROM system_schema.views";
        Ok(self.query::<(String, String)>(STATEMENT).await?.into_iter().collect())
    }

    /// Runs the statement of the health check.
    ///
    /// # Errors
    /// The statement failed.
    pub async fn ping(&self) -> Result<(), CqlError> {
        const STATEMENT: &str = "SELECT now() FROM system.local WHERE key='local'";
        let result = self.session.query_unpaged(STATEMENT, &[]).await;
        result.map(drop).map_err(|e| self.failed(STATEMENT, e))
    }

    async fn query<R>(&self, statement: &'static str) -> Result<Vec<R>, CqlError>
    where
        R: for<'f, 'm> scylla::deserialize::row::DeserializeRow<'f, 'm>,
    {
        let result =
            self.session.query_unpaged(statement, &[]).await.map_err(|e| self.failed(statement, e))?;
        let rows = result.into_rows_result().map_err(|e| self.failed(statement, e))?;
        let typed = rows.rows::<R>().map_err(|e| self.failed(statement, e))?;
        typed.collect::<Result<Vec<R>, _>>().map_err(|e| self.failed(statement, e))
    }

    fn failed(
        &self,
        statement: &'static str,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> CqlError {
        CqlError::Statement { address: self.address, statement, source: source.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(broadcast: &str, rpc: &str, listen: &str) -> NodeInfo {
        NodeInfo {
            broadcast_rpc_address: broadcast.into(),
            rpc_address: rpc.into(),
            listen_address: listen.into(),
            native_transport_port: "9042".into(),
            native_transport_port_ssl: "9142".into(),
            ..NodeInfo::default()
        }
    }

    fn access(tls_disabled: bool, plain_port: bool) -> CqlAccess {
        CqlAccess { secrets: Secrets::default(), tls_disabled, plain_port }
    }

    #[test]
    fn the_first_usable_address_is_taken() {
        let node: IpAddr = "192.0.2.1".parse().unwrap();
        for (broadcast, rpc, listen, expected) in [
            ("192.0.2.9", "192.0.2.8", "192.0.2.7", "192.0.2.9:9042"),
            ("", "192.0.2.8", "192.0.2.7", "192.0.2.8:9042"),
            ("", "0.0.0.0", "192.0.2.7", "192.0.2.1:9042"),
            ("", "", "192.0.2.7", "192.0.2.7:9042"),
            ("", "", "", "192.0.2.1:9042"),
        ] {
            let address = access(false, false).address(node, &info(broadcast, rpc, listen)).unwrap();
            assert_eq!(address.to_string(), expected);
        }
    }

    #[test]
    fn encryption_decides_the_port() {
        let node: IpAddr = "192.0.2.1".parse().unwrap();
        let encrypted = NodeInfo { client_encryption_enabled: true, ..info("", "", "") };
        for (tls_disabled, plain_port, port) in
            [(false, false, 9142), (true, false, 9042), (false, true, 9042), (true, true, 9042)]
        {
            assert_eq!(access(tls_disabled, plain_port).address(node, &encrypted).unwrap().port(), port);
        }
    }

    #[tokio::test]
    async fn missing_credentials_name_the_remedy() {
        let protected = NodeInfo { cql_password_protected: true, ..info("", "", "") };
        let node = "192.0.2.1".parse().unwrap();
        let Err(error) = access(false, false).session(node, &protected).await else { panic!("no login") };
        assert!(error.lacks_credentials() && error.to_string().contains("--username --password"));
    }
}
