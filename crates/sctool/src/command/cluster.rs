//! `cluster add|update|delete|list`.

use std::collections::BTreeSet;
use std::path::PathBuf;

use base64::Engine as _;
use common::api::manager::{
    AddCluster, Cluster, DeleteCluster, DeleteClusterQuery, GetCluster, ListClusters, UpdateCluster,
};
use serde_json::{Value, json};

use super::task_body::{change_labels, require_change};
use crate::cli::cluster::{ClusterAdd, ClusterDelete, ClusterList, ClusterOptions, ClusterUpdate};
use crate::cli::shared::OutputFormat;
use crate::context::{Ctx, to_value};
use crate::env::Env;
use crate::error::CliError;
use crate::render;
use crate::values::is_on;

const DEFAULT_PORT: u16 = 10001;

pub async fn add(ctx: &mut Ctx<'_>, flags: ClusterAdd) -> Result<(), CliError> {
    check_pairs(&flags.options)?;
    let mut cluster = Cluster {
        id: flags.id,
        host: flags.host.clone(),
        without_repair: is_on(flags.without_repair),
        ..Cluster::default()
    };
    apply(ctx.env, &mut cluster, &flags.options)?;
    if let Some(id) = flags.id {
        let clusters = ctx.call::<ListClusters>(&[], &()).await?;
        if clusters.iter().any(|known| known.id == Some(id)) {
            return Err(CliError::text(format!("Cluster ID \"{id}\" in use")));
        }
    }
    let id = ctx.create::<AddCluster>(&[], &body(&cluster)?).await?;
    let name = cluster.name.clone();
    ctx.show(flags.output.format(), |_| format!("{id}\n"), || json!({ "id": id, "name": name }))?;
    if flags.output.format() == OutputFormat::Table {
        explain(ctx, &id, &cluster)?;
    }
    Ok(())
}

/// Picture, next steps and warnings, on stderr.
fn explain(ctx: &mut Ctx<'_>, id: &str, cluster: &Cluster) -> Result<(), CliError> {
    ctx.flush()?;
    if cluster.force_tls_disabled {
        ctx.note(format_args!(
            "WARNING! TLS is explicitly disabled on cluster sessions (--force-tls-disabled)."
        ))?;
    }
    if cluster.force_non_ssl_session_port {
        ctx.note(format_args!(
            "WARNING! Cluster session is going to always use non SSL port (--force-non-ssl-session-port)."
        ))?;
    }
    ctx.note(format_args!("{}", render::clusters::added(id, &cluster.name).trim_end_matches('\n')))?;
    if cluster.auth_token.is_empty() {
        ctx.note(format_args!(
            "\nWARNING! Scylla data may be exposed\nProtect it by specifying auth_token in \
             /etc/scylla-manager-agent/scylla-manager-agent.yaml on Scylla nodes"
        ))?;
    }
    Ok(())
}

pub async fn update(
    ctx: &mut Ctx<'_>,
    flags: ClusterUpdate,
    given: &BTreeSet<String>,
) -> Result<(), CliError> {
    require_change(given, "nothing to do")?;
    check_pairs(&flags.options)?;
    let mut cluster = ctx.call::<GetCluster>(&[&flags.cluster.cluster], &()).await?;
    if let Some(host) = flags.host.clone() {
        cluster.host = host;
    }
    apply(ctx.env, &mut cluster, &flags.options)?;
    forget_secrets(ctx, &flags).await?;
    let id = cluster.id.map_or_else(|| flags.cluster.cluster.clone(), |id| id.to_string());
    ctx.call_with::<UpdateCluster>(&[&id], &(), &body(&cluster)?).await?;
    Ok(())
}

async fn forget_secrets(ctx: &mut Ctx<'_>, flags: &ClusterUpdate) -> Result<(), CliError> {
    let wanted = |switch| is_on(switch).then_some(true);
    let query = DeleteClusterQuery {
        cql_creds: wanted(flags.delete_cql_credentials),
        alternator_creds: wanted(flags.delete_alternator_credentials),
        ssl_user_cert: wanted(flags.delete_ssl_user_cert),
    };
    // Without any parameter the same call deletes the cluster.
    if query == DeleteClusterQuery::default() {
        return Ok(());
    }
    ctx.call::<DeleteCluster>(&[&flags.cluster.cluster], &query).await
}

pub async fn delete(ctx: &mut Ctx<'_>, flags: ClusterDelete) -> Result<(), CliError> {
    ctx.call::<DeleteCluster>(&[&flags.cluster.cluster], &DeleteClusterQuery::default()).await
}

pub async fn list(ctx: &mut Ctx<'_>, flags: ClusterList) -> Result<(), CliError> {
    let clusters = ctx.call::<ListClusters>(&[], &()).await?;
    let json = listed(&clusters)?;
    ctx.show(
        flags.output.format(),
        |view| render::clusters::list(&clusters, view.utf8),
        || json!({ "clusters": json }),
    )
}

/// Clusters for JSON output: without the token, which listings carry in clear.
fn listed(clusters: &[Cluster]) -> Result<Value, CliError> {
    let mut all = to_value(clusters)?;
    for cluster in all.as_array_mut().into_iter().flatten().filter_map(Value::as_object_mut) {
        cluster.remove("auth_token");
    }
    Ok(all)
}

fn apply(env: &Env, cluster: &mut Cluster, flags: &ClusterOptions) -> Result<(), CliError> {
    fn replace(field: &mut String, value: &Option<String>) {
        if let Some(value) = value {
            field.clone_from(value);
        }
    }
    replace(&mut cluster.name, &flags.name);
    replace(&mut cluster.auth_token, &flags.auth_token);
    replace(&mut cluster.username, &flags.username);
    replace(&mut cluster.password, &flags.password);
    replace(&mut cluster.alternator_access_key_id, &flags.alternator_access_key_id);
    replace(&mut cluster.alternator_secret_access_key, &flags.alternator_secret_access_key);
    replace(&mut cluster.ssl_user_cert_file, &read_file(env, &flags.ssl_user_cert_file)?);
    replace(&mut cluster.ssl_user_key_file, &read_file(env, &flags.ssl_user_key_file)?);
    change_labels(&mut cluster.labels, &flags.label)?;
    if let Some(switch) = flags.force_tls_disabled {
        cluster.force_tls_disabled = switch.0;
    }
    if let Some(switch) = flags.force_non_ssl_session_port {
        cluster.force_non_ssl_session_port = switch.0;
    }
    if let Some(port) = flags.port {
        let invalid = |_| CliError::text(format!("port {} is out of range, use 1 to 65535", port.0));
        let port = u16::try_from(port.0).map_err(invalid)?;
        cluster.port = if port == DEFAULT_PORT { 0 } else { port };
    }
    Ok(())
}

/// The content of a file in base64; `~` is the home directory.
fn read_file(env: &Env, path: &Option<String>) -> Result<Option<String>, CliError> {
    let Some(path) = path.as_deref().filter(|path| !path.is_empty()) else { return Ok(None) };
    let expanded = match (path.strip_prefix("~/"), env.var("HOME")) {
        (Some(rest), Some(home)) => PathBuf::from(home).join(rest),
        _ => PathBuf::from(path),
    };
    let bytes = std::fs::read(&expanded)
        .map_err(|error| CliError::text(format!("read {}: {error}", expanded.display())))?;
    Ok(Some(base64::engine::general_purpose::STANDARD.encode(bytes)))
}

/// Credentials come in pairs.
fn check_pairs(flags: &ClusterOptions) -> Result<(), CliError> {
    let given = |flag: &Option<String>| flag.as_deref().is_some_and(|text| !text.is_empty());
    let pairs = [
        [("username", given(&flags.username)), ("password", given(&flags.password))],
        [
            ("alternator-access-key-id", given(&flags.alternator_access_key_id)),
            ("alternator-secret-access-key", given(&flags.alternator_secret_access_key)),
        ],
        [
            ("ssl-user-cert-file", given(&flags.ssl_user_cert_file)),
            ("ssl-user-key-file", given(&flags.ssl_user_key_file)),
        ],
    ];
    let half = pairs.iter().find(|pair| pair[0].1 != pair[1].1);
    match half.and_then(|pair| pair.iter().find(|(_, given)| !given)) {
        Some((missing, _)) => Err(CliError::text(format!("missing flag \"{missing}\""))),
        None => Ok(()),
    }
}

/// The body on the wire, empty fields left out.
fn body(cluster: &Cluster) -> Result<Value, CliError> {
    let mut body = to_value(cluster)?;
    if let Some(fields) = body.as_object_mut() {
        fields.retain(|_, value| match value {
            Value::Null => false,
            Value::String(text) => !text.is_empty(),
            Value::Bool(on) => *on,
            Value::Object(map) => !map.is_empty(),
            Value::Number(_) | Value::Array(_) => true,
        });
    }
    Ok(body)
}
