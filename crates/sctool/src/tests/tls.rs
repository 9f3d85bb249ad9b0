//! HTTPS to a manager with a certificate of its own making, with and without a client certificate.

use std::sync::Arc;

use rcgen::{CertifiedKey, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::env::Env;
use crate::{Exit, run};

const ANSWER: &[u8] =
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 20\r\nconnection: close\r\n\r\n{\"version\":\"3.12.0\"}";

fn certificate() -> CertifiedKey<KeyPair> {
    rcgen::generate_simple_self_signed(["manager.example".to_owned()]).expect("a certificate")
}

/// A server that asks for a client certificate signed by `client` if that is given.
fn acceptor(client: Option<&CertifiedKey<KeyPair>>) -> TlsAcceptor {
    common::tls::install_provider();
    let CertifiedKey { cert, signing_key } = certificate();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(signing_key.serialize_der()));
    let builder = match client {
        None => ServerConfig::builder().with_no_client_auth(),
        Some(client) => {
            let mut roots = RootCertStore::empty();
            roots.add(client.cert.der().clone()).expect("a root");
            let verifier = WebPkiClientVerifier::builder(Arc::new(roots)).build().expect("a verifier");
            ServerConfig::builder().with_client_cert_verifier(verifier)
        }
    };
    let config = builder.with_single_cert(vec![cert.der().clone()], key).expect("a configuration");
    TlsAcceptor::from(Arc::new(config))
}

/// Answers one request; the number of certificates that the client showed.
async fn serve_once(acceptor: TlsAcceptor, listener: TcpListener) -> std::io::Result<usize> {
    let (tcp, _) = listener.accept().await?;
    let mut tls = acceptor.accept(tcp).await?;
    let shown = tls.get_ref().1.peer_certificates().map_or(0, <[_]>::len);
    let mut request = [0; 4096];
    let _ = tls.read(&mut request).await?;
    tls.write_all(ANSWER).await?;
    tls.shutdown().await?;
    Ok(shown)
}

/// Runs `sctool version` against the server with more flags.
async fn version(acceptor: TlsAcceptor, flags: &[String]) -> (std::io::Result<usize>, Exit, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("https://{}/api/v1", listener.local_addr().expect("bound"));
    let args = [vec!["version".to_owned(), "--api-url".to_owned(), url], flags.to_vec()].concat();
    let env = Env { transport: None, vars: Default::default(), ..Env::of_process() };
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let (served, exit) =
        tokio::join!(serve_once(acceptor, listener), Box::pin(run(&args, &env, &mut out, &mut err)));
    (served, exit, String::from_utf8(out).expect("UTF-8"))
}

#[tokio::test]
async fn a_certificate_of_the_managers_own_is_accepted() {
    let (served, exit, out) = version(acceptor(None), &[]).await;
    assert_eq!((served.expect("a request"), exit), (0, Exit::Success));
    assert!(out.ends_with("Server version: 3.12.0\n"), "{out}");
}

#[tokio::test]
async fn the_client_certificate_is_shown() {
    let client = certificate();
    let directory = tempfile::tempdir().expect("a directory");
    let (cert, key) = (directory.path().join("client.crt"), directory.path().join("client.key"));
    std::fs::write(&cert, client.cert.pem()).expect("written");
    std::fs::write(&key, client.signing_key.serialize_pem()).expect("written");
    let flags = [format!("--api-cert-file={}", cert.display()), format!("--api-key-file={}", key.display())];
    let (served, exit, _) = version(acceptor(Some(&client)), &flags).await;
    assert_eq!((served.expect("a request"), exit), (1, Exit::Success));
    let (served, exit, _) = version(acceptor(Some(&client)), &[]).await;
    assert_eq!((served.is_err(), exit), (true, Exit::Failure));
}
