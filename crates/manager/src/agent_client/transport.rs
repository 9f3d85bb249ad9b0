//! How requests reach the agents over the network: HTTPS, HTTP/1.1, no proxy.

use std::path::{Path, PathBuf};
use std::time::Duration;

use common::http_client::Transport;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

/// Limit for making a connection; a node that is down does not answer at all.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Idle connections are closed before a firewall forgets them.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// The client cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// The file with the authority's certificate.
    #[error("read certificates of the agents' authority from {}", path.display())]
    Authority {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Anything else.
    #[error("set up the client for agents")]
    Client(#[source] reqwest::Error),
}

/// Connections to agents. Without an authority their certificates are not verified: agents sign their own.
///
/// # Errors
/// The authority's certificates cannot be read.
pub fn network(authority: Option<&Path>) -> Result<Transport, TransportError> {
    common::tls::install_provider();
    let builder = ClientConfig::builder();
    let tls = match authority {
        None => builder
            .dangerous()
            .with_custom_certificate_verifier(common::tls::AcceptAnyCertificate::new())
            .with_no_client_auth(),
        Some(path) => builder.with_root_certificates(roots(path)?).with_no_client_auth(),
    };
    let client = reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .no_proxy()
        .connect_timeout(CONNECT_TIMEOUT)
        .pool_idle_timeout(IDLE_TIMEOUT)
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .map_err(TransportError::Client)?;
    Ok(Transport::Network(client))
}

fn roots(path: &Path) -> Result<RootCertStore, TransportError> {
    let failed = |source: Box<dyn std::error::Error + Send + Sync>| TransportError::Authority {
        path: path.to_owned(),
        source,
    };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(|e| failed(Box::new(e)))? {
        let certificate = certificate.map_err(|e| failed(Box::new(e)))?;
        roots.add(certificate).map_err(|e| failed(Box::new(e)))?;
    }
    if roots.is_empty() {
        return Err(failed("it holds no certificate in PEM form".into()));
    }
    Ok(roots)
}
