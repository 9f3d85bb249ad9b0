//! AWAIT_SCHEMA and SCHEMA: dumps the CQL schema after all snapshots, and stores it once per location
//! (spec backup-format.md 4.2, 4.5).

use bytes::Bytes;
use common::format::schema as schema_file;
use tracing::warn;

use super::error::BackupError;
use super::run::Run;
use super::target::{Node, cql_access, no_schema_warning};
use crate::cluster::cql::{CqlAccess, CqlError};

/// The packed schema; `None` when it is not wanted or cannot be read for want of a login.
pub type Schema = Option<Bytes>;

/// Dumps the schema from the first node that gives it.
///
/// # Errors
/// No node gives it, for another reason than missing credentials.
pub async fn dump(run: &Run) -> Result<Schema, BackupError> {
    if run.properties.skip_schema {
        return Ok(None);
    }
    let access = cql_access(&run.backups, run.cluster()).await?;
    let mut last = BackupError::NoLiveNodes;
    for node in &run.nodes {
        match dump_from(run, &access, node).await {
            Ok(packed) => return Ok(Some(packed)),
            Err(BackupError::Schema(error)) if error.lacks_credentials() => {
                run.warn(&no_schema_warning(&error)).await;
                return Ok(None);
            }
            Err(error) => {
                warn!(
                    host = %node.host.address,
                    error = common::error::chain(&error),
                    "The schema cannot be read from a node"
                );
                last = error;
            }
        }
    }
    Err(last)
}

async fn dump_from(run: &Run, access: &CqlAccess, node: &Node) -> Result<Bytes, BackupError> {
    if node.info.cql_password_protected && access.login().is_none() {
        return Err(BackupError::Schema(CqlError::MissingCredentials));
    }
    if run.agent(node).read_barrier().await?.is_none() {
        warn!(host = %node.host.address, "This Scylla has no read barrier: the schema may lack the latest changes");
    }
    let session = access.session(node.host.address, &node.info).await.map_err(BackupError::Schema)?;
    let rows = session.describe_schema().await.map_err(BackupError::Schema)?;
    let packed = schema_file::encode(&rows).map_err(|e| BackupError::other(common::error::chain(&e)))?;
    Ok(packed.into())
}

/// What a manifest says about the schema: the key of its file, empty for none.
pub fn key(run: &Run, schema: &Schema) -> String {
    if schema.is_some() { run.schema_key() } else { String::new() }
}

/// Stores the schema, whole, in each location.
///
/// # Errors
/// No node of a location can store it.
pub async fn upload(run: &Run, schema: &Schema) -> Result<(), BackupError> {
    let Some(packed) = schema else { return Ok(()) };
    for (location, nodes) in run.locations() {
        let path = location.remote_path(&run.schema_key());
        let mut outcome = Err(BackupError::NoLiveNodes);
        for node in nodes {
            outcome = run.agent(node).put(&path, packed.clone()).await.map_err(BackupError::from);
            if outcome.is_ok() {
                break;
            }
        }
        outcome?;
    }
    Ok(())
}
