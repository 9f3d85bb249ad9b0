//! Builds the HTTP client of one invocation from flags and environment (spec/sctool.md 1.1, 1.2).

use std::net::IpAddr;
use std::time::Duration;

use common::http_client::{HttpClient, Transport};
use common::tls::AcceptAnyCertificate;
use rustls::ClientConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::cli::GlobalFlags;
use crate::env::Env;
use crate::error::CliError;

/// Time to reach the manager, TLS handshake included. Answers may take as long as they need: dry runs and
/// listings run for minutes.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// A client certificate with its key.
pub struct ClientCert {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

/// Loads the certificate pair, if one is given.
pub fn client_cert(flags: &GlobalFlags, env: &Env) -> Result<Option<ClientCert>, CliError> {
    let given = |flag: &Option<String>, var| {
        flag.as_deref().or_else(|| env.var(var)).filter(|path| !path.is_empty()).map(str::to_owned)
    };
    let cert = given(&flags.api_cert_file, "SCYLLA_MANAGER_API_CERT_FILE");
    let key = given(&flags.api_key_file, "SCYLLA_MANAGER_API_KEY_FILE");
    match (cert, key) {
        (None, None) => Ok(None),
        (Some(_), None) => Err(CliError::text("missing --api-key-file flag")),
        (None, Some(_)) => Err(CliError::text("missing --api-cert-file flag")),
        (Some(cert), Some(key)) => load(&cert, &key).map(Some),
    }
}

fn load(cert: &str, key: &str) -> Result<ClientCert, CliError> {
    let failed = |file: &str, error: &dyn std::fmt::Display| {
        CliError::text(format!("load client certificate: {file}: {error}"))
    };
    let chain = CertificateDer::pem_file_iter(cert)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| failed(cert, &error))?;
    if chain.is_empty() {
        return Err(failed(cert, &"no certificate in the file"));
    }
    let key = PrivateKeyDer::from_pem_file(key).map_err(|error| failed(key, &error))?;
    Ok(ClientCert { chain, key })
}

/// The client for `url`.
pub fn client(url: &str, cert: Option<ClientCert>, env: &Env) -> Result<HttpClient, CliError> {
    if let Some(transport) = &env.transport {
        return Ok(HttpClient::new(transport.clone()));
    }
    let mut builder = reqwest::Client::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .user_agent(concat!("sctool/", env!("CARGO_PKG_VERSION")))
        .tls_backend_preconfigured(tls(cert)?);
    if is_loopback(url) {
        builder = builder.no_proxy();
    }
    let client = builder.build().map_err(|error| CliError::text(common::error::chain(&error)))?;
    Ok(HttpClient::new(Transport::Network(client)))
}

/// The manager's certificate is self-signed by default, so that there is nothing to check it against.
fn tls(cert: Option<ClientCert>) -> Result<ClientConfig, CliError> {
    common::tls::install_provider();
    let config =
        ClientConfig::builder().dangerous().with_custom_certificate_verifier(AcceptAnyCertificate::new());
    match cert {
        None => Ok(config.with_no_client_auth()),
        Some(cert) => config
            .with_client_auth_cert(cert.chain, cert.key)
            .map_err(|error| CliError::text(format!("load client certificate: {error}"))),
    }
}

fn is_loopback(url: &str) -> bool {
    let host =
        reqwest::Url::parse(url).ok().and_then(|url| url.host_str().map(str::to_owned)).unwrap_or_default();
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    bare == "localhost" || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::is_loopback;

    #[test]
    fn loopback_goes_without_proxy() {
        for (url, expected) in [
            ("http://localhost:5080/api/v1", true),
            ("http://127.0.0.11:5080/api/v1", true),
            ("https://[::1]:5443/api/v1", true),
            ("http://10.0.0.1:5080/api/v1", false),
            ("http://manager:5080/api/v1", false),
            ("nonsense", false),
        ] {
            assert_eq!(is_loopback(url), expected, "{url}");
        }
    }
}
