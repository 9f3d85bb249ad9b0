//! Values of `/v2/config/{name}`.

use serde_json::{Value, json};

use super::NodeCore;
use super::http::RestError;
use crate::cluster::{CqlTls, GenerationIds};

/// The value of one configuration entry.
pub(super) fn value(core: &NodeCore, name: &str) -> Result<Value, RestError> {
    let overridden = core.state().config_overrides.get(name).cloned();
    overridden
        .unwrap_or_else(|| usual(core, name))
        .ok_or_else(|| RestError::bad_request(format!("No such config entry: {name}")))
}

/// The value on an ordinary node; `None` for entries that this release does not know.
fn usual(core: &NodeCore, name: &str) -> Option<Value> {
    let address = core.address().to_string();
    let ports = core.state().ports;
    let options = &core.shared.options;
    Some(match name {
        "listen_address" | "rpc_address" | "prometheus_address" | "api_address" => json!(address),
        "broadcast_address" | "broadcast_rpc_address" | "alternator_address" => json!(""),
        "cluster_name" => json!(core.shared.model().name),
        "native_transport_port" => json!(ports.cql),
        "native_transport_port_ssl" => json!(if ports.cql_tls == 0 { 9142 } else { ports.cql_tls }),
        "rpc_port" => json!(9160),
        "prometheus_port" => json!(ports.metrics),
        "api_port" => json!(ports.rest),
        "alternator_port" | "alternator_https_port" => json!(0),
        "alternator_enforce_authorization" => json!(false),
        "data_file_directories" => json!([core.data_dir]),
        "client_encryption_options" => client_encryption(options.cql_tls),
        "authenticator" if options.auth.is_some() => json!("PasswordAuthenticator"),
        "authenticator" => json!("AllowAllAuthenticator"),
        "uuid_sstable_identifiers_enabled" => json!(options.generation_ids != GenerationIds::Integer),
        "consistent_cluster_management" => json!(true),
        // Deprecated: false although tablets are in use.
        "enable_tablets" => json!(false),
        _ => return None,
    })
}

fn client_encryption(tls: CqlTls) -> Value {
    match tls {
        CqlTls::Off => json!({ "enabled": "false" }),
        CqlTls::Server | CqlTls::ClientCertificate => json!({
            "enabled": "true",
            "certificate": "/etc/scylla/db.crt",
            "keyfile": "/etc/scylla/db.key",
            "require_client_auth": (tls == CqlTls::ClientCertificate).to_string(),
        }),
    }
}
