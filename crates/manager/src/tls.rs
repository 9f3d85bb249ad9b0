//! TLS of the `https` listener (spec manager.md 1.4).

use std::sync::Arc;

use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;

use crate::config::Config;

/// TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
#[error("TLS of the https listener: {what}")]
pub struct TlsError {
    what: String,
    #[source]
    source: Box<dyn std::error::Error + Send + Sync>,
}

impl TlsError {
    fn new(what: impl Into<String>, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self { what: what.into(), source: source.into() }
    }
}

/// The server side as the configuration says: given files, or a certificate signed by itself; clients must show
/// a certificate when an authority for them is set.
///
/// # Errors
/// A file is missing or unusable.
pub fn server_config(config: &Config) -> Result<Arc<ServerConfig>, TlsError> {
    common::tls::install_provider();
    let (chain, key) = if config.tls_cert_file.is_empty() && config.tls_key_file.is_empty() {
        self_signed(host(&config.https))?
    } else {
        from_files(&config.tls_cert_file, &config.tls_key_file)?
    };
    let versions: &[&rustls::SupportedProtocolVersion] = match config.tls_version.as_str() {
        "TLSv1.3" => &[&rustls::version::TLS13],
        _ => &[&rustls::version::TLS12, &rustls::version::TLS13],
    };
    let builder = ServerConfig::builder_with_protocol_versions(versions);
    let builder = if config.tls_ca_file.is_empty() {
        builder.with_no_client_auth()
    } else {
        let roots = Arc::new(roots(&config.tls_ca_file)?);
        let verifier = WebPkiClientVerifier::builder(roots).build();
        builder.with_client_cert_verifier(verifier.map_err(|e| TlsError::new("tls_ca_file", e))?)
    };
    let server = builder.with_single_cert(chain, key).map_err(|e| TlsError::new("certificate and key", e))?;
    Ok(Arc::new(server))
}

/// Host part of `host:port`.
fn host(address: &str) -> &str {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    host.trim_start_matches('[').trim_end_matches(']')
}

type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn from_files(cert: &str, key: &str) -> Result<Identity, TlsError> {
    let chain = CertificateDer::pem_file_iter(cert)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|e| TlsError::new(format!("tls_cert_file {cert}"), e))?;
    let key =
        PrivateKeyDer::from_pem_file(key).map_err(|e| TlsError::new(format!("tls_key_file {key}"), e))?;
    Ok((chain, key))
}

fn roots(path: &str) -> Result<rustls::RootCertStore, TlsError> {
    let failed =
        |e: Box<dyn std::error::Error + Send + Sync>| TlsError::new(format!("tls_ca_file {path}"), e);
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(|e| failed(e.into()))? {
        roots.add(certificate.map_err(|e| failed(e.into()))?).map_err(|e| failed(e.into()))?;
    }
    if roots.is_empty() { Err(failed("it holds no certificate".into())) } else { Ok(roots) }
}

/// EC P-256, valid for a year from now (the default of the library is centuries).
fn self_signed(host: &str) -> Result<Identity, TlsError> {
    let failed = |e: rcgen::Error| TlsError::new("generate a certificate", e);
    let names: Vec<String> =
        if host.is_empty() { vec!["localhost".to_owned()] } else { vec![host.to_owned()] };
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(failed)?;
    let mut params = CertificateParams::new(names).map_err(failed)?;
    params.distinguished_name.push(DnType::OrganizationName, "Scylla");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let today = chrono::Utc::now().date_naive();
    let (year, month, day) = ymd(today);
    params.not_before = rcgen::date_time_ymd(year, month, day);
    let (year, month, day) = ymd(today + chrono::Duration::days(366));
    params.not_after = rcgen::date_time_ymd(year, month, day);
    let certificate = params.self_signed(&key).map_err(failed)?;
    let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(|e| TlsError::new("generate a key", e))?;
    Ok((vec![certificate.der().clone()], key))
}

fn ymd(day: chrono::NaiveDate) -> (i32, u8, u8) {
    use chrono::Datelike;
    // Months and days fit.
    (day.year(), u8::try_from(day.month()).unwrap_or(1), u8::try_from(day.day()).unwrap_or(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_made_when_none_is_given() {
        for https in ["127.0.0.1:5443", ":5443", "[::1]:5443", "manager.example:5443"] {
            server_config(&Config { https: https.into(), ..Config::default() }).unwrap();
        }
    }

    #[test]
    fn missing_files_are_named() {
        let config = Config { tls_cert_file: "/nonexistent.crt".into(), ..Config::default() };
        let text = common::error::chain(&server_config(&config).unwrap_err());
        assert!(text.contains("tls_cert_file /nonexistent.crt"), "{text}");
    }
}
