//! Adding, changing and deleting clusters (spec manager.md 3.1, 5.3, 5.4).

use std::net::IpAddr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use common::api::manager as wire;
use common::ids::ClusterId;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tracing::warn;

use super::discovery::remedy;
use super::{ClusterError, Clusters};
use crate::Secret;
use crate::agent_client::{HostError, join_hosts};
use crate::store::secrets::{AlternatorCredentials, CqlCredentials, TlsIdentity};
use crate::store::{Cluster, Secrets, StoreError};

/// Why a cluster was not stored.
#[derive(Debug, thiserror::Error)]
pub enum AddError {
    /// The fields contradict each other.
    #[error("invalid cluster: {0}")]
    Invalid(String),
    /// Another cluster has the name.
    #[error("name {0:?} is already taken, choose another one with --name")]
    NameTaken(String),
    /// A node does not answer as it should.
    #[error("connectivity check: {reasons}")]
    Connectivity {
        /// `<host>: <reason>; ...`
        reasons: String,
        /// What to look at.
        hint: String,
    },
    /// Discovery failed.
    #[error("connectivity check")]
    Discovery(#[source] ClusterError),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A request taken apart: what is stored in clear, and what is secret.
pub struct Request {
    /// What is stored in clear.
    pub cluster: Cluster,
    /// Secrets that came with it.
    pub secrets: Secrets,
}

/// Checks the fields of a request.
///
/// # Errors
/// All mistakes together.
pub fn validate(id: ClusterId, request: &wire::Cluster) -> Result<Request, AddError> {
    let mut faults = Vec::new();
    if request.name.parse::<ClusterId>().is_ok() {
        faults.push("name cannot be an UUID".to_owned());
    }
    if request.host.trim().is_empty() {
        faults.push("missing host".to_owned());
    }
    let pair =
        |faults: &mut Vec<String>, a: (&str, &str), b: (&str, &str)| match (a.1.is_empty(), b.1.is_empty()) {
            (true, false) => faults.push(format!("missing {}", a.0)),
            (false, true) => faults.push(format!("missing {}", b.0)),
            (true, true) | (false, false) => {}
        };
    pair(&mut faults, ("username", &request.username), ("password", &request.password));
    pair(
        &mut faults,
        ("alternator access key id", &request.alternator_access_key_id),
        ("alternator secret access key", &request.alternator_secret_access_key),
    );
    pair(
        &mut faults,
        ("SSL user certificate", &request.ssl_user_cert_file),
        ("SSL user key", &request.ssl_user_key_file),
    );
    let tls_identity = identity(request).unwrap_or_else(|fault| {
        faults.push(fault);
        None
    });
    if !faults.is_empty() {
        return Err(AddError::Invalid(faults.join("; ")));
    }
    let given = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let cluster = Cluster {
        id,
        name: request.name.clone(),
        labels: request.labels.clone(),
        host: request.host.trim().to_owned(),
        known_hosts: Vec::new(),
        port: request.port,
        auth_token: Secret::new(request.auth_token.clone()),
        force_tls_disabled: request.force_tls_disabled,
        force_non_ssl_session_port: request.force_non_ssl_session_port,
    };
    let secrets = Secrets {
        cql: given(&request.username)
            .map(|username| CqlCredentials { username, password: Secret::new(request.password.clone()) }),
        alternator: given(&request.alternator_access_key_id).map(|access_key_id| AlternatorCredentials {
            access_key_id,
            secret_access_key: Secret::new(request.alternator_secret_access_key.clone()),
        }),
        tls_identity,
    };
    Ok(Request { cluster, secrets })
}

fn identity(request: &wire::Cluster) -> Result<Option<TlsIdentity>, String> {
    if request.ssl_user_cert_file.is_empty() || request.ssl_user_key_file.is_empty() {
        return Ok(None);
    }
    let decode = |what: &str, text: &str| STANDARD.decode(text).map_err(|_| format!("{what} is not base64"));
    let certificate = decode("SSL user certificate", &request.ssl_user_cert_file)?;
    let key = decode("SSL user key", &request.ssl_user_key_file)?;
    let chain = CertificateDer::pem_slice_iter(&certificate)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| format!("SSL user certificate: {e}"))?;
    let parsed = PrivateKeyDer::from_pem_slice(&key).map_err(|e| format!("SSL user key: {e}"))?;
    common::tls::install_provider();
    rustls::ClientConfig::builder()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_client_auth_cert(chain, parsed)
        .map_err(|e| format!("SSL user certificate and key are no pair: {e}"))?;
    let key = String::from_utf8(key).map_err(|_| "SSL user key is not text".to_owned())?;
    Ok(Some(TlsIdentity { certificate, private_key: Secret::new(key) }))
}

impl Clusters {
    /// Stores a cluster, new or changed, after all its live nodes have answered.
    ///
    /// The check is left out where nothing that matters for it changed.
    ///
    /// # Errors
    /// See [`AddError`]; then nothing was stored.
    pub async fn put(&self, request: Request) -> Result<Cluster, AddError> {
        let Request { mut cluster, secrets } = request;
        self.check_name(&cluster).await?;
        let stored = self.shared.store.cluster(cluster.id).await?;
        let (new, changed) = match &stored {
            None => (true, true),
            Some(s) => {
                let token = s.auth_token != cluster.auth_token;
                (false, s.host != cluster.host || s.port != cluster.port || token)
            }
        };
        // Hosts that were found by another way in may be those of another cluster.
        cluster.known_hosts =
            stored.filter(|s| s.host == cluster.host).map(|s| s.known_hosts).unwrap_or_default();
        if changed {
            cluster.known_hosts = self.check_connectivity(&cluster).await?;
        }
        if let Err(error) = self.shared.store.put_cluster(&cluster, secrets).await {
            // Somebody took the name meanwhile?
            self.check_name(&cluster).await?;
            return Err(error.into());
        }
        self.forget_client(cluster.id);
        if cluster.auth_token.is_empty() {
            warn!(cluster = %cluster.id, hosts = ?cluster.known_hosts, "Cluster has no auth token, its data may be exposed");
        }
        if new {
            self.refresh_or_log(cluster.id).await;
        }
        self.want_fresh(cluster.id);
        Ok(cluster)
    }

    async fn check_name(&self, cluster: &Cluster) -> Result<(), AddError> {
        match self.shared.store.cluster_by_name(&cluster.name).await? {
            Some(other) if other.id != cluster.id => Err(AddError::NameTaken(cluster.name.clone())),
            Some(_) | None => Ok(()),
        }
    }

    /// Every live node must answer through its agent.
    async fn check_connectivity(&self, cluster: &Cluster) -> Result<Vec<IpAddr>, AddError> {
        let hosts = self.discover(cluster).await.map_err(AddError::Discovery)?;
        let client = self.client_for(cluster, hosts.clone()).map_err(AddError::Discovery)?.interactive();
        let live = client.live_nodes().await.map_err(|e| AddError::Discovery(e.into()))?;
        let timeout = self.shared.settings.timeout;
        let pings = live.into_iter().map(|node| {
            let agent = client.on(node);
            async move { agent.scylla_version(timeout).await }
        });
        let failed: Vec<HostError> =
            futures::future::join_all(pings).await.into_iter().filter_map(Result::err).collect();
        if failed.is_empty() {
            return Ok(hosts);
        }
        let hint = remedy(failed.iter().map(HostError::status), cluster.agent_port());
        Err(AddError::Connectivity { reasons: join_hosts(&failed), hint })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(request: &wire::Cluster) -> String {
        match validate(ClusterId::random(), request) {
            Ok(_) => String::new(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn mistakes_are_named_together() {
        let good = wire::Cluster { name: "prod".into(), host: "192.0.2.1".into(), ..Default::default() };
        assert_eq!(faults(&good), "");
        for (request, message) in [
            (
                wire::Cluster { name: "a41c7d90-3b52-4e8f-8c60-1d2e3f405162".into(), ..good.clone() },
                "invalid cluster: name cannot be an UUID",
            ),
            (wire::Cluster { username: "u".into(), ..good.clone() }, "invalid cluster: missing password"),
            (
                wire::Cluster { host: " ".into(), password: "p".into(), ..good.clone() },
                "invalid cluster: missing host; missing username",
            ),
            (
                wire::Cluster {
                    ssl_user_cert_file: "!".into(),
                    ssl_user_key_file: "!".into(),
                    ..good.clone()
                },
                "invalid cluster: SSL user certificate is not base64",
            ),
        ] {
            assert_eq!(faults(&request), message);
        }
    }
}
