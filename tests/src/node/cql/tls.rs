//! TLS on the CQL port, with a certificate made at the start.

use std::sync::Arc;

use rustls::DistinguishedName;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, ServerConfig, SignatureScheme};
use tokio_rustls::TlsAcceptor;

use crate::cluster::{CqlTls, SimError};

/// The acceptor a cluster's TLS setting asks for; none when it is off.
pub(crate) fn acceptor(tls: CqlTls) -> Result<Option<TlsAcceptor>, SimError> {
    let failed = |error: Box<dyn std::error::Error + Send + Sync>| SimError::Certificate(error);
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|e| failed(e.into()))?;
    let builder = match tls {
        CqlTls::Off => return Ok(None),
        CqlTls::Server => builder.with_no_client_auth(),
        CqlTls::ClientCertificate => builder.with_client_cert_verifier(Arc::new(AnyCertificate(provider))),
    };
    let made = rcgen::generate_simple_self_signed(vec!["simulated-scylla".to_owned()])
        .map_err(|e| failed(e.into()))?;
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).map_err(|e| failed(e.into()))?;
    let config =
        builder.with_single_cert(vec![made.cert.der().clone()], key).map_err(|e| failed(e.into()))?;
    Ok(Some(TlsAcceptor::from(Arc::new(config))))
}

/// Demands a client certificate and accepts any: what counts here is that the client sends one.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ClientCertVerifier for AnyCertificate {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
