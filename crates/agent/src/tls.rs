//! TLS of the agent's API (spec agent.md 1.6): files of the operator, or a certificate made at each start.
//!
//! The manager does not verify it by default, so a generated one serves; it is never stored.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use chrono::{Datelike, NaiveDate};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, SerialNumber,
};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::config::{CertificateFiles, TlsVersion};

/// The API cannot speak TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A PEM file cannot be used.
    #[error("{key} {}: {reason}", path.display())]
    File {
        /// Configuration key of the file.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// No certificate could be made.
    #[error("generate a certificate for {names:?}")]
    Generate {
        /// Addresses it was to be for.
        names: Vec<String>,
        /// Why not.
        #[source]
        source: rcgen::Error,
    },
    /// Certificate and key do not fit, or are of a kind that is not supported.
    #[error("certificate and key cannot be used for TLS")]
    Config(#[source] rustls::Error),
}

/// Certificate chain with its key.
pub struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Identity {
    /// Reads PEM files.
    ///
    /// # Errors
    /// A file that is missing or not PEM.
    pub fn from_files(files: &CertificateFiles) -> Result<Self, TlsError> {
        let bad = |key, path: &Path, e: rustls::pki_types::pem::Error| TlsError::File {
            key,
            path: path.to_owned(),
            reason: e.to_string(),
        };
        let cert_error = |e| bad("tls_cert_file", &files.cert, e);
        let chain = CertificateDer::pem_file_iter(&files.cert).map_err(cert_error)?;
        let chain = chain.collect::<Result<_, _>>().map_err(cert_error)?;
        let key = PrivateKeyDer::from_pem_file(&files.key);
        Ok(Self { chain, key: key.map_err(|e| bad("tls_key_file", &files.key, e))? })
    }

    /// Makes a self-signed certificate for the distinct addresses among `names`, valid for a year from `today`.
    ///
    /// # Errors
    /// A name that no certificate can carry.
    pub fn generate(names: &[&str], today: NaiveDate) -> Result<Self, TlsError> {
        let mut names: Vec<String> =
            names.iter().filter(|n| !n.is_empty() && **n != "0.0.0.0").map(|n| (*n).to_owned()).collect();
        names.sort();
        names.dedup();
        let failed = |source| TlsError::Generate { names: names.clone(), source };
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(failed)?;
        let params = certificate_params(&names, today).map_err(failed)?;
        let certificate = params.self_signed(&key).map_err(failed)?;
        Ok(Self { chain: vec![certificate.der().clone()], key: key.into() })
    }

    /// Settings of the server: `version` and newer, HTTP/1.1.
    ///
    /// # Errors
    /// Key and certificate do not belong together.
    pub fn server_config(self, version: TlsVersion) -> Result<Arc<ServerConfig>, TlsError> {
        common::tls::install_provider();
        let versions: &[&rustls::SupportedProtocolVersion] = match version {
            TlsVersion::V1_2 => &[&rustls::version::TLS13, &rustls::version::TLS12],
            TlsVersion::V1_3 => &[&rustls::version::TLS13],
        };
        let mut config = ServerConfig::builder_with_protocol_versions(versions)
            .with_no_client_auth()
            .with_single_cert(self.chain, self.key)
            .map_err(TlsError::Config)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

fn certificate_params(names: &[String], today: NaiveDate) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(names.to_vec())?;
    let date = |d: NaiveDate| rcgen::date_time_ymd(d.year(), d.month() as u8, d.day() as u8);
    params.not_before = date(today);
    params.not_after = date(today + chrono::Days::new(366));
    params.serial_number = Some(SerialNumber::from(rand::random::<[u8; 16]>().to_vec()));
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "Scylla");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyCertSign];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    Ok(params)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn today() -> NaiveDate {
        NaiveDate::from_ymd_opt(2026, 2, 28).unwrap()
    }

    #[test]
    fn generated_certificates_serve_both_versions() {
        for version in [TlsVersion::V1_2, TlsVersion::V1_3] {
            let identity =
                Identity::generate(&["10.0.0.1", "", "0.0.0.0", "10.0.0.1", "::1", "node.local"], today());
            identity.unwrap().server_config(version).unwrap();
        }
    }

    #[test]
    fn generated_certificates_are_as_specified() {
        let names = ["10.0.0.1".to_owned(), "node.local".to_owned()];
        let params = certificate_params(&names, today()).unwrap();
        assert_eq!(params.subject_alt_names.len(), 2);
        assert!(matches!(params.subject_alt_names[0], rcgen::SanType::IpAddress(_)));
        assert!(matches!(params.subject_alt_names[1], rcgen::SanType::DnsName(_)));
        assert_eq!(params.serial_number.unwrap().len(), 16);
        assert!(matches!(params.is_ca, IsCa::Ca(_)));
        assert_eq!(params.not_after.year() - params.not_before.year(), 1);
    }

    #[test]
    fn files_are_read_and_faults_name_them() {
        let dir = tempfile::tempdir().unwrap();
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        let cert = certificate_params(&["x.local".into()], today()).unwrap().self_signed(&key).unwrap();
        let files = CertificateFiles { cert: dir.path().join("c.pem"), key: dir.path().join("k.pem") };
        std::fs::write(&files.cert, cert.pem()).unwrap();
        let error = Identity::from_files(&files).err().unwrap().to_string();
        assert!(error.contains("tls_key_file") && error.contains("k.pem"), "{error}");
        std::fs::write(&files.key, key.serialize_pem()).unwrap();
        Identity::from_files(&files).unwrap().server_config(TlsVersion::V1_2).unwrap();
    }
}
