//! The real driver against the simulated server, and raw frames where the driver has no say.

use std::sync::Arc;
use std::time::Duration;

use scylla::client::execution_profile::ExecutionProfile;
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use scylla::cluster::NodeRef;
use scylla::policies::host_filter::{AllowListHostFilter, HostFilter};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::cluster::{ClusterBuilder, CqlTls, KeyspaceSpec, Refusal, SimCluster, TableSpec, TombstoneGc};
use crate::node::SimNode;
use crate::node::faults::{Action, Rule};

fn cluster() -> ClusterBuilder {
    SimCluster::builder()
        .dc("dc1", 2)
        .dc("dc2", 1)
        .empty_system_tables()
        .keyspace(KeyspaceSpec::new("shop").table(TableSpec::new("orders").view("by_value").index("ix")))
}

fn builder(node: &SimNode) -> SessionBuilder {
    let profile = ExecutionProfile::builder().request_timeout(Some(Duration::from_secs(5))).build();
    SessionBuilder::new()
        .known_node_addr(node.cql_addr())
        .host_filter(only(node))
        .connection_timeout(Duration::from_secs(5))
        .default_execution_profile_handle(profile.into_handle())
}

/// Keeps the driver on one node, as the manager does.
fn only(node: &SimNode) -> Arc<dyn HostFilter> {
    Arc::new(AllowListHostFilter::new([node.cql_addr()]).expect("one address"))
}

async fn texts(session: &Session, statement: &str) -> Vec<Vec<Option<String>>> {
    let result = session.query_unpaged(statement, &[]).await.expect(statement).into_rows_result().unwrap();
    let rows = result.rows::<(Option<String>, Option<String>, Option<String>, Option<String>)>().unwrap();
    rows.map(|row| row.map(|(a, b, c, d)| vec![a, b, c, d]).unwrap()).collect()
}

#[tokio::test]
async fn the_driver_connects_and_dumps_the_schema() {
    let cluster = cluster().start().await.unwrap();
    let node = &cluster.nodes()[1];
    for metadata in [false, true] {
        let session = builder(node).fetch_schema_metadata(metadata).build().await.unwrap();
        let rows = texts(&session, "DESCRIBE SCHEMA WITH INTERNALS").await;
        let kinds: Vec<_> = rows.iter().map(|r| r[1].clone().unwrap()).collect();
        assert_eq!(kinds, ["keyspace", "table", "view", "index", "role"]);
        assert_eq!(rows[4][0], None, "roles have no keyspace");
        assert!(rows[1][3].as_ref().unwrap().contains("WITH ID = "));

        let state = session.get_cluster_state();
        let nodes: &[Arc<scylla::cluster::Node>] = state.get_nodes_info();
        assert_eq!(nodes.len(), 3);
        let dc2 = nodes.iter().find(|n: &NodeRef<'_>| n.datacenter.as_deref() == Some("dc2")).unwrap();
        assert_eq!(dc2.host_id, cluster.nodes()[2].host_id());
        if metadata {
            let keyspace = state.get_keyspace("shop").unwrap();
            assert_eq!(keyspace.tables.keys().collect::<Vec<_>>(), ["orders"]);
            assert_eq!(keyspace.views.len(), 2);
        }
    }
    assert_eq!(cluster.observed().unknown_statements(), Vec::<String>::new());
    assert!(cluster.observed().count("CQL DESCRIBE SCHEMA WITH INTERNALS") >= 2);
}

#[tokio::test]
async fn the_managers_statements_are_answered() {
    let cluster = cluster().start().await.unwrap();
    let node = &cluster.nodes()[0];
    let session = builder(node).fetch_schema_metadata(false).build().await.unwrap();

    let now = session.query_unpaged("SELECT now() FROM system.local WHERE key='local'", &[]).await.unwrap();
    let (id,): (scylla::value::CqlTimeuuid,) = now.into_rows_result().unwrap().single_row().unwrap();
    assert_eq!(uuid::Uuid::from_bytes(*id.as_ref().as_bytes()).get_version_num(), 1);

    let views = session.query_unpaged("SELECT keyspace_name, view_name FROM system_schema.views", &[]).await;
    let views = views.unwrap().into_rows_result().unwrap();
    let views: Vec<(String, String)> = views.rows().unwrap().map(Result::unwrap).collect();
    assert_eq!(views, [("shop".into(), "by_value".into()), ("shop".into(), "ix_index".into())]);

    let statement = "SELECT id FROM system_schema.tables WHERE keyspace_name=? AND table_name=?";
    let prepared = session.prepare(statement).await.unwrap();
    let found = session.execute_unpaged(&prepared, ("shop", "orders")).await.unwrap();
    let (id,): (uuid::Uuid,) = found.into_rows_result().unwrap().single_row().unwrap();
    let dir = node.table_dir("shop", "orders").unwrap();
    assert!(dir.to_string_lossy().ends_with(&id.simple().to_string()));

    cluster.model().keyspaces.get_mut("shop").unwrap().tables.get_mut("orders").unwrap().tombstone_gc =
        Some(TombstoneGc::Repair);
    let mode = session
        .query_unpaged("SELECT extensions FROM system_schema.tables WHERE keyspace_name = 'shop'", &[])
        .await
        .unwrap();
    let (extensions,): (std::collections::HashMap<String, Vec<u8>>,) =
        mode.into_rows_result().unwrap().single_row().unwrap();
    assert!(String::from_utf8_lossy(&extensions["tombstone_gc"]).contains("repair"));

    assert!(session.await_schema_agreement().await.is_ok());
    cluster.nodes()[2].freeze_schema(true);
    cluster.drop_table("shop", "orders").unwrap();
    let versions = session.query_unpaged("SELECT schema_version FROM system.peers", &[]).await.unwrap();
    let versions = versions.into_rows_result().unwrap();
    let distinct: std::collections::BTreeSet<uuid::Uuid> =
        versions.rows::<(uuid::Uuid,)>().unwrap().map(|r| r.unwrap().0).collect();
    assert_eq!(distinct.len(), 2, "the frozen node lags behind");
}

#[tokio::test]
async fn unknown_statements_are_syntax_errors_and_remembered() {
    let cluster = cluster().start().await.unwrap();
    let session = builder(&cluster.nodes()[0]).fetch_schema_metadata(false).build().await.unwrap();
    let error = session.query_unpaged("FROBNICATE everything", &[]).await.unwrap_err();
    assert!(error.to_string().contains("no viable alternative"), "{error}");
    assert_eq!(cluster.observed().unknown_statements(), ["FROBNICATE everything"]);
    let error = session.query_unpaged("SELECT a FROM shop.nothing", &[]).await.unwrap_err();
    assert!(error.to_string().contains("unconfigured table nothing"), "{error}");
    assert_eq!(cluster.observed().unknown_statements().len(), 1);
}

#[tokio::test]
async fn wrong_passwords_get_both_refusals() {
    for (refusal, ending) in [
        (Refusal::Incorrect, "Username and/or password are incorrect"),
        (Refusal::Failed, "authentication failed"),
    ] {
        let cluster = cluster().auth("scylla", "secret").refusal(refusal).start().await.unwrap();
        let node = &cluster.nodes()[0];
        let session = builder(node).user("scylla", "secret").build().await.unwrap();
        assert!(!texts(&session, "DESCRIBE SCHEMA WITH INTERNALS").await.is_empty());
        let error = builder(node).user("scylla", "guess").build().await.unwrap_err();
        let text = format!("{error:?}");
        assert!(text.contains(ending), "{text}");
        assert!(builder(node).build().await.is_err(), "credentials are demanded");
    }
}

#[tokio::test]
async fn raw_options_frame_is_answered_with_supported() {
    let cluster = cluster().auth("u", "p").start().await.unwrap();
    let mut stream = tokio::net::TcpStream::connect(cluster.nodes()[0].cql_addr()).await.unwrap();
    stream.write_all(&[4, 0, 0, 0, 5, 0, 0, 0, 0]).await.unwrap();
    let mut header = [0; 9];
    stream.read_exact(&mut header).await.unwrap();
    assert_eq!((header[0], header[4]), (0x84, 0x06), "version 4 response, SUPPORTED");

    let mut old = tokio::net::TcpStream::connect(cluster.nodes()[0].cql_addr()).await.unwrap();
    old.write_all(&[3, 0, 0, 0, 5, 0, 0, 0, 0]).await.unwrap();
    old.read_exact(&mut header).await.unwrap();
    assert_eq!((header[0], header[4]), (0x83, 0x06));
}

#[tokio::test]
async fn version_5_is_refused_in_version_4() {
    let cluster = cluster().start().await.unwrap();
    let mut stream = tokio::net::TcpStream::connect(cluster.nodes()[0].cql_addr()).await.unwrap();
    stream.write_all(&[5, 0, 0, 0, 5, 0, 0, 0, 0]).await.unwrap();
    let mut header = [0; 9];
    stream.read_exact(&mut header).await.unwrap();
    assert_eq!((header[0], header[4]), (0x84, 0x00), "ERROR");
}

#[tokio::test]
async fn faults_reach_cql_too() {
    let cluster = cluster().start().await.unwrap();
    let node = &cluster.nodes()[0];
    let session = builder(node).fetch_schema_metadata(false).build().await.unwrap();
    let body = Some("timeout during read".to_owned());
    let action = Action::Respond { status: 500, body, content_type: None };
    cluster.rules().add(Rule::new("CQL", "DESCRIBE*", action).on(node).times(1));
    let error = session.query_unpaged("DESCRIBE SCHEMA WITH INTERNALS", &[]).await.unwrap_err();
    assert!(error.to_string().contains("timeout during read"), "{error}");
    assert!(session.query_unpaged("DESCRIBE SCHEMA WITH INTERNALS", &[]).await.is_ok());
}

#[tokio::test]
async fn tls_demands_a_client_certificate_when_told_to() {
    for (tls, with_certificate) in [(CqlTls::Server, false), (CqlTls::ClientCertificate, true)] {
        let cluster = cluster().cql_tls(tls).start().await.unwrap();
        let node = &cluster.nodes()[0];
        let connect = async |certificate: bool| {
            SessionBuilder::new()
                .known_node_addr(node.cql_tls_addr())
                .tls_context(Some(client_tls(certificate)))
                .connection_timeout(Duration::from_secs(5))
                .build()
                .await
        };
        assert!(connect(with_certificate).await.is_ok(), "{tls:?}");
        if with_certificate {
            assert!(connect(false).await.is_err());
        }
    }
}

/// A client that trusts any server.
fn client_tls(certificate: bool) -> Arc<rustls::ClientConfig> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyServer(provider)));
    Arc::new(if certificate {
        let made = rcgen::generate_simple_self_signed(vec!["client".to_owned()]).unwrap();
        let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        builder.with_client_auth_cert(vec![made.cert.der().clone()], key).unwrap()
    } else {
        builder.with_no_client_auth()
    })
}

#[derive(Debug)]
struct AnyServer(Arc<rustls::crypto::CryptoProvider>);

impl rustls::client::danger::ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &[rustls::pki_types::CertificateDer<'_>],
        _: &rustls::pki_types::ServerName<'_>,
        _: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &rustls::pki_types::CertificateDer<'_>,
        dss: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &rustls::pki_types::CertificateDer<'_>,
        dss: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[tokio::test]
async fn a_dumped_schema_can_be_replayed_on_another_cluster() {
    let source = cluster().start().await.unwrap();
    let session = builder(&source.nodes()[0]).fetch_schema_metadata(false).build().await.unwrap();
    let dump = texts(&session, "DESCRIBE SCHEMA WITH INTERNALS").await;
    let target = SimCluster::builder().dc("dc1", 2).dc("dc2", 1).empty_system_tables().start().await.unwrap();
    let node = &target.nodes()[0];
    let session = builder(node).fetch_schema_metadata(true).build().await.unwrap();
    let before = target.model().schema_version;
    for row in dump.iter().filter(|r| r[0].is_some()) {
        session.query_unpaged(row[3].clone().unwrap(), &[]).await.unwrap();
    }
    assert_eq!(texts(&session, "DESCRIBE SCHEMA WITH INTERNALS").await, dump);
    assert_eq!(target.model().group0_log.len(), 4);
    assert_ne!(target.model().schema_version, before);
    let dir = node.table_dir("shop", "orders").unwrap();
    assert_eq!(dir.file_name(), source.nodes()[0].table_dir("shop", "orders").unwrap().file_name());
    assert!(dir.join("upload").is_dir());

    let again = session.query_unpaged(dump[0][3].clone().unwrap(), &[]).await.unwrap_err();
    assert!(again.to_string().contains("existing keyspace"), "{again}");
    session
        .query_unpaged("ALTER TABLE shop.orders WITH tombstone_gc = {'mode': 'disabled'}", &[])
        .await
        .unwrap();
    assert_eq!(target.model().table("shop", "orders").unwrap().tombstone_gc, Some(TombstoneGc::Disabled));
    for statement in ["DROP INDEX IF EXISTS shop.ix", "DROP MATERIALIZED VIEW shop.by_value"] {
        session.query_unpaged(statement, &[]).await.unwrap();
    }
    assert_eq!(target.model().keyspaces["shop"].tables.len(), 1);
    session.query_unpaged("DROP KEYSPACE IF EXISTS \"shop\"", &[]).await.unwrap();
    session.query_unpaged("DROP KEYSPACE IF EXISTS \"shop\"", &[]).await.unwrap();
    assert!(!dir.exists());
}

#[tokio::test]
async fn rows_written_over_cql_are_on_the_replicas() {
    let cluster = cluster().start().await.unwrap();
    let session = builder(&cluster.nodes()[0]).build().await.unwrap();
    session.query_unpaged("INSERT INTO shop.orders (pk, v) VALUES ('a', 'one')", &[]).await.unwrap();
    let insert = session.prepare("INSERT INTO shop.orders (pk, v) VALUES (?, ?)").await.unwrap();
    session.execute_unpaged(&insert, ("b", "two")).await.unwrap();
    let found = session.query_unpaged("SELECT v FROM shop.orders WHERE pk = 'b'", &[]).await.unwrap();
    let (value,): (String,) = found.into_rows_result().unwrap().single_row().unwrap();
    assert_eq!(value, "two");
    assert_eq!(cluster.missing_replicas("shop", "orders").unwrap(), []);
    assert!(cluster.rows("shop", "orders").unwrap().contains_key(b"a".as_slice()));
}
