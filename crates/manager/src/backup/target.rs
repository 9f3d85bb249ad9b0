//! What a backup will do, from its properties and from what the cluster says now (spec backup-format.md 3.2).
//!
//! Almost everything is asked in interactive mode: a dry run waits for it, and a backup that cannot even ask had
//! better fail at once. Only access to the locations is asked for with the caller's patience, because agents do not
//! retry there. A node that does not answer is left out, not an error, as long as other nodes have its data.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use chrono::{DateTime, Utc};
use common::api::agent::NodeInfo;
use common::api::manager::{BackupTarget, Unit};
use common::ids::ClusterId;
use common::location::Location;
use tracing::{info, warn};

use super::Backups;
use super::access::AccessCheck;
use super::error::{BackupError, HostFailure};
use super::properties::{BackupProperties, PropertiesError, location_of, restrict};
use super::units::{
    Candidates, KeyspaceFacts, Replica, Ring, RingKey, SCHEMA_KEYSPACE, SchemaFacts, candidates, select,
};
use crate::agent_client::{AgentClient, KeyspaceKind, Patience, Replication, host_address};
use crate::cluster::cql::{CqlAccess, CqlError};
use crate::cluster::topology::{Member, members};
use crate::hosts::{Host, at_most};

/// Calls that are in flight at once while facts are gathered.
const PARALLEL: usize = 16;

/// Limit of the call that tells whether a node's Scylla answers.
const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// Nodes whose CQL is tried for a list of views, so that a cluster without CQL does not cost minutes.
const CQL_NODES: usize = 3;

/// A node that takes part.
#[derive(Clone, Debug)]
pub struct Node {
    /// Its addresses and place.
    pub host: Host,
    /// Its location; without a datacenter.
    pub location: Location,
    /// What its agent said.
    pub info: NodeInfo,
}

/// What a backup will do.
#[derive(Clone, Debug)]
pub struct Target {
    /// Live nodes of the selected datacenters.
    pub nodes: Vec<Node>,
    /// Tables.
    pub units: Vec<Unit>,
    /// Selected datacenters, sorted.
    pub dcs: Vec<String>,
    /// Keyspaces that are spread by tablets.
    pub tablet_keyspaces: BTreeSet<String>,
    /// What the operator should know before relying on the backup.
    pub warnings: Vec<String>,
}

/// Said when the schema cannot be read for want of a login or a client certificate.
pub fn no_schema_warning(error: &CqlError) -> String {
    let missing = match error {
        CqlError::MissingCertificate => {
            "a CQL client certificate is missing, set it with sctool cluster update --ssl-user-cert-file \
             --ssl-user-key-file"
        }
        _ => "CQL credentials are missing, set them with sctool cluster update --username --password",
    };
    format!("schema is not part of this backup: {missing}, or silence this with --skip-schema")
}

/// Said when the schema cannot be read for another reason: the backup of a cluster without its schema fails.
fn no_cql_warning(error: &CqlError) -> String {
    let cause = common::error::chain(error);
    format!(
        "the schema cannot be read by CQL, a backup fails unless this changes or with --skip-schema: {cause}"
    )
}

/// Resolves the target of a backup. `patience` is for access to the locations, `now` the time of the check.
///
/// # Errors
/// The first thing that is wrong, in the original's order.
pub async fn resolve(
    backups: &Backups,
    cluster: ClusterId,
    properties: &BackupProperties,
    patience: Patience,
    now: DateTime<Utc>,
) -> Result<Target, BackupError> {
    let client = backups.clusters().client(cluster).await?.interactive();
    let members = members(&client).await?;
    let all: BTreeSet<String> = members.iter().map(|m| m.host.dc.clone()).collect();
    let dcs = properties.select_datacenters(&all)?;
    properties.check(&all, &dcs)?;

    let (live, down) = live_members(&client, &members, &dcs).await;
    if live.is_empty() {
        return Err(BackupError::AllDown { failures: down });
    }
    let check = AccessCheck {
        client: &client.with_patience(patience),
        cluster,
        hosts: &live,
        locations: &properties.location,
        now,
    };
    check.remove_leftovers(backups.config().permission_check_files_ttl).await;
    check.run().await?;
    let nodes = nodes(&client, live, properties).await?;

    let (facts, tablet_keyspaces, mut warnings) =
        schema_facts(backups, cluster, &client, &nodes, properties).await?;
    warnings.extend(down.iter().map(left_out_warning));
    let candidates = candidates(&facts, &properties.keyspace).map_err(PropertiesError::from)?;
    warnings.extend(candidates.warnings());
    let rings = rings(&client, &candidates).await?;
    let addresses = nodes.iter().map(|n| n.host.address).collect();
    let selection = select(&facts, &candidates, &rings, &dcs, &addresses, properties.skip_schema)?;
    warnings.extend(selection.warnings(&dcs));
    Ok(Target { nodes, units: selection.units, dcs, tablet_keyspaces, warnings })
}

impl Target {
    /// The form of the API, without the size.
    pub fn to_wire(&self, properties: &BackupProperties) -> BackupTarget {
        let policy = properties.policy();
        BackupTarget {
            units: self.units.clone(),
            dc: self.dcs.clone(),
            location: restrict(&properties.location, |l| l.dc(), &self.dcs),
            retention: policy.retention,
            retention_days: policy.retention_days,
            rate_limit: restrict(&properties.rate_limit, |l| l.dc.as_deref(), &self.dcs),
            transfers: properties.transfers,
            snapshot_parallel: restrict(&properties.snapshot_parallel, |l| l.dc.as_deref(), &self.dcs),
            upload_parallel: restrict(&properties.upload_parallel, |l| l.dc.as_deref(), &self.dcs),
            continue_run: properties.continue_run,
            purge_only: properties.purge_only,
            skip_schema: properties.skip_schema,
            method: properties.method().to_owned(),
            retention_lock_mode: properties.lock_mode().to_owned(),
            override_retention_lock: properties.override_retention_lock,
            size: 0,
            warnings: self.warnings.clone(),
        }
    }
}

/// Bytes of the target's tables on its nodes, for a dry run.
///
/// # Errors
/// A node does not say.
pub async fn size(backups: &Backups, cluster: ClusterId, target: &Target) -> Result<u64, BackupError> {
    let client = backups.clusters().client(cluster).await?.interactive();
    let mut calls = Vec::new();
    for node in &target.nodes {
        for unit in &target.units {
            calls.extend(unit.tables.iter().map(|table| (node.host.address, &unit.keyspace, table)));
        }
    }
    let sizes = calls.into_iter().map(|(host, keyspace, table)| {
        let agent = client.on(host);
        async move { agent.table_disk_size(keyspace, table).await }
    });
    let mut sum = 0;
    for bytes in at_most(PARALLEL, sizes.collect()).await {
        sum += bytes?;
    }
    Ok(sum)
}

/// Said of a node whose data the others have: what they have not is an error.
fn left_out_warning(down: &HostFailure) -> String {
    format!("node {} does not answer and is left out, other nodes hold its data: {}", down.host, down.reason)
}

/// Members of the datacenters whose Scylla answers through its agent, and why the others do not.
async fn live_members(
    client: &AgentClient,
    members: &[Member],
    dcs: &[String],
) -> (Vec<Host>, Vec<HostFailure>) {
    let selected = members.iter().filter(|m| m.state != 'J' && dcs.contains(&m.host.dc));
    let pings = selected.map(|member| {
        let agent = client.on(member.host.address);
        async move {
            // A second try, so that one lost packet does not cost a node its backup.
            let outcome = match agent.scylla_version(PING_TIMEOUT).await {
                Err(_) => agent.scylla_version(PING_TIMEOUT).await,
                ok => ok,
            };
            (member, outcome)
        }
    });
    let (mut live, mut down) = (Vec::new(), Vec::new());
    for (member, outcome) in at_most(PARALLEL, pings.collect()).await {
        let host = member.host.address;
        match outcome {
            Ok(_) => live.push(member.host.clone()),
            Err(error) => {
                let reason = error.reason();
                warn!(%host, error = reason, "A node does not answer and is left out of the backup");
                down.push(HostFailure { host, reason });
            }
        }
    }
    live.sort_by(|a, b| (&a.dc, a.address).cmp(&(&b.dc, b.address)));
    down.sort();
    (live, down)
}

async fn nodes(
    client: &AgentClient,
    hosts: Vec<Host>,
    properties: &BackupProperties,
) -> Result<Vec<Node>, BackupError> {
    let infos = hosts.into_iter().map(|host| {
        let agent = client.on(host.address);
        async move {
            let info = agent.node_info().await?;
            let location = location_of(&properties.location, &host.dc).map(Location::without_dc);
            Ok::<_, BackupError>(location.map(|location| Node { host, location, info }))
        }
    });
    let mut nodes = Vec::new();
    for node in at_most(PARALLEL, infos.collect()).await {
        nodes.extend(node?);
    }
    nodes.sort_by(|a: &Node, b| (&a.host.dc, a.host.address).cmp(&(&b.host.dc, b.host.address)));
    Ok(nodes)
}

async fn schema_facts(
    backups: &Backups,
    cluster: ClusterId,
    client: &AgentClient,
    nodes: &[Node],
    properties: &BackupProperties,
) -> Result<(SchemaFacts, BTreeSet<String>, Vec<String>), BackupError> {
    let kind = |kind, replication| client.keyspaces(kind, replication);
    let user: BTreeSet<String> = kind(KeyspaceKind::User, Replication::All).await?.into_iter().collect();
    let replicated: BTreeSet<String> =
        kind(KeyspaceKind::NonLocal, Replication::All).await?.into_iter().collect();
    let vnodes: BTreeSet<String> = kind(KeyspaceKind::All, Replication::Vnodes).await?.into_iter().collect();
    let tablets: BTreeSet<String> = kind(KeyspaceKind::All, Replication::Tablets)
        .await?
        .into_iter()
        // An old Scylla ignores the filter and gives all keyspaces for both.
        .filter(|keyspace| !vnodes.contains(keyspace))
        .collect();
    let mut facts = SchemaFacts::default();
    for (keyspace, table) in client.tables().await? {
        let about = facts.keyspaces.entry(keyspace.clone()).or_insert_with(|| KeyspaceFacts {
            user: user.contains(&keyspace),
            replicated: replicated.contains(&keyspace),
            tablets: tablets.contains(&keyspace),
            tables: BTreeSet::new(),
        });
        about.tables.insert(table);
    }
    let (views, warnings) = views(backups, cluster, nodes, properties).await?;
    facts.views = views;
    if properties.skip_schema {
        facts.keyspaces.remove(SCHEMA_KEYSPACE);
    }
    Ok((facts, tablets, warnings))
}

/// Views by CQL. Without a login they are backed up like tables, and the schema is missing.
async fn views(
    backups: &Backups,
    cluster: ClusterId,
    nodes: &[Node],
    properties: &BackupProperties,
) -> Result<(Option<BTreeSet<(String, String)>>, Vec<String>), BackupError> {
    let access = cql_access(backups, cluster).await?;
    let mut warnings = Vec::new();
    for node in nodes.iter().take(CQL_NODES) {
        let session = access.session(node.host.address, &node.info).await;
        let views = match session {
            Ok(session) => session.views().await,
            Err(error) => Err(error),
        };
        match views {
            Ok(views) => return Ok((Some(views), Vec::new())),
            Err(error) if error.lacks_credentials() => {
                info!(host = %node.host.address, "CQL credentials are missing: views are backed up like tables");
                if !properties.skip_schema {
                    warnings.push(no_schema_warning(&error));
                }
                return Ok((None, warnings));
            }
            Err(error) => {
                warn!(
                    host = %node.host.address,
                    error = common::error::chain(&error),
                    "Views cannot be listed by CQL"
                );
                if !properties.skip_schema {
                    warnings = vec![no_cql_warning(&error)];
                }
            }
        }
    }
    Ok((None, warnings))
}

/// How to speak CQL with a cluster.
///
/// # Errors
/// The cluster does not exist or the database failed.
pub async fn cql_access(backups: &Backups, cluster: ClusterId) -> Result<CqlAccess, BackupError> {
    let stored = backups.clusters().cluster(cluster).await?;
    let secrets = backups.store().secrets(cluster).await?;
    Ok(CqlAccess::new(&stored, secrets))
}

async fn rings(
    client: &AgentClient,
    candidates: &Candidates,
) -> Result<BTreeMap<RingKey, Ring>, BackupError> {
    let keys: Vec<RingKey> = candidates.rings().into_iter().cloned().collect();
    let rings = keys.into_iter().map(|key| async move {
        let ranges = client.describe_ring(&key.keyspace, key.table.as_deref()).await?;
        let ring: Ring = ranges
            .into_iter()
            .map(|range| {
                let replica = |detail: crate::agent_client::EndpointDetail| {
                    host_address(&detail.host).map(|host: IpAddr| Replica { host, dc: detail.datacenter })
                };
                let mut set: Vec<Replica> = range.endpoint_details.into_iter().filter_map(replica).collect();
                set.sort();
                set
            })
            .collect();
        Ok::<_, BackupError>((key, ring))
    });
    at_most(PARALLEL, rings.collect()).await.into_iter().collect()
}
