//! One backup from its properties to its end (spec backup-format.md 4, design section 3).

use std::collections::HashMap;
use std::sync::Mutex;

use common::snapshot_tag::SnapshotTag;
use common::task::Stage;
use common::units::DcLimit;
use tracing::{info, warn};

use super::backups::Backups;
use super::deduplicate::PendingTables;
use super::error::BackupError;
use super::location::Reader;
use super::properties::{BackupProperties, restrict};
use super::rate_limit::RateLimit;
use super::run::Run;
use super::schema::Schema;
use super::target::{self, Target};
use super::{continued, deduplicate, index, jobs, publish, retain, schema, seal, snapshot, staged, upload};
use crate::agent_client::{AgentClient, Patience};
use crate::scheduler::RunContext;
use crate::store::backup_progress::ProgressRow;
use crate::store::backup_runs::{BackupRun, RunKey};

/// How often tables whose files are missing in the location are sent again before the run gives up.
const MAX_SEALS: u32 = 3;

/// Makes one backup, fresh or continued.
///
/// # Errors
/// What failed, with its stage; [`BackupError::Stopped`] after an asked-for stop.
pub async fn backup(backups: &Backups, context: &RunContext) -> Result<(), BackupError> {
    let properties = BackupProperties::parse(&context.properties).map_err(as_target_error)?;
    backups.metrics().reset(context.cluster);
    let enlisted = backups.enlist(context.cluster, context.task);
    let rate_limit = enlisted.rate_limit().clone();
    let work = async {
        rate_limit.begin_with(&stored_rate_limit(backups, context, &properties).await?);
        let now = context.clock.now();
        let resolved =
            target::resolve(backups, context.cluster, &properties, Patience::Background, now).await;
        let target = resolved.map_err(as_target_error)?;
        begin(backups, context, properties, target, rate_limit).await
    };
    let begun = tokio::select! {
        biased;
        () = context.stop.stopped() => return Err(BackupError::Stopped),
        begun = work => begun?,
    };
    let Begun { run, left_over } = begun;
    enlisted.set_hosts(run.nodes.iter().map(|n| (n.host.address, n.host.dc.clone())).collect());
    let outcome = make(&run, left_over).await;
    if outcome.is_err() {
        jobs::stop_all(&run).await;
    }
    drop(enlisted);
    outcome
}

/// The rate limit as it is in the task now. The properties of the run were read before the run was known as working:
/// a change in between reached neither.
async fn stored_rate_limit(
    backups: &Backups,
    context: &RunContext,
    properties: &BackupProperties,
) -> Result<Vec<DcLimit>, BackupError> {
    match backups.store().task(context.cluster, context.task_type, context.task).await? {
        Some(task) => Ok(BackupProperties::parse(&task.properties).map_err(as_target_error)?.rate_limit),
        None => Ok(properties.rate_limit.clone()),
    }
}

fn as_target_error(error: impl Into<BackupError>) -> BackupError {
    match error.into() {
        BackupError::Stopped => BackupError::Stopped,
        other => BackupError::Target(Box::new(other)),
    }
}

/// All stages, in order. Those that the run which this one goes on with has behind it are passed over.
///
/// Upload moves files off the node, so the snapshot shrinks as it goes: from MANIFEST on the temporary manifests are
/// the only complete lists of files, and are never built again.
async fn make(run: &Run, left_over: Option<SnapshotTag>) -> Result<(), BackupError> {
    run.stage(Stage::Init, jobs::end_foreign(run)).await?;
    if !run.properties.purge_only && !run.completed(Stage::MoveManifest) {
        publish_backup(run).await?;
    }
    run.stage(Stage::Purge, retain::purge(run, left_over)).await?;
    run.backups.store().advance_backup_run(run.key, Stage::Done).await?;
    let files = seal::bit_rot(run);
    if files.is_empty() { Ok(()) } else { Err(BackupError::BitRot { files }) }
}

async fn publish_backup(run: &Run) -> Result<(), BackupError> {
    if run.reached.is_none() {
        run.stage(Stage::Snapshot, snapshot::take(run)).await?;
    }
    // Held until the manifests are visible: what lies in the locations is counted on.
    let guard;
    let schema_key = if run.completed(Stage::Schema) {
        guard = run.locked().await?;
        None
    } else {
        let schema = run.stage(Stage::AwaitSchema, schema::dump(run)).await?;
        let index = run.stage(Stage::Index, index::build(run)).await?;
        guard = run.locked().await?;
        let key = schema::key(run, &schema);
        run.stage(Stage::Manifest, staged::store(run, index, &key)).await?;
        store_schema(run, &schema).await?;
        Some(key)
    };
    if !run.completed(Stage::Upload) {
        upload_all(run, schema_key.as_deref()).await?;
    }
    run.stage_to_end(Stage::MoveManifest, publish::publish(run)).await?;
    drop(guard);
    Ok(())
}

async fn store_schema(run: &Run, schema: &Schema) -> Result<(), BackupError> {
    run.stage(Stage::Schema, schema::upload(run, schema)).await
}

/// Uploads what is left on the nodes until nothing is missing in the locations.
async fn upload_all(run: &Run, schema_key: Option<&str>) -> Result<(), BackupError> {
    let mut pending: PendingTables = run.stage(Stage::Deduplicate, deduplicate::drop_duplicates(run)).await?;
    for _ in 0..MAX_SEALS {
        run.stage(Stage::Upload, upload::upload(run, &pending)).await?;
        pending = run.stage(Stage::Upload, seal::seal(run, schema_key)).await?;
        if pending.is_empty() {
            return Ok(());
        }
    }
    let tables: Vec<String> = pending
        .iter()
        .flat_map(|(host, tables)| {
            tables.iter().map(move |t| format!("{host}: {}.{}", t.entry.keyspace, t.entry.table))
        })
        .collect();
    let source = BackupError::other(format!(
        "files that were uploaded {MAX_SEALS} times are still missing in the location: {}",
        tables.join(", ")
    ));
    Err(BackupError::Stage { stage: Stage::Upload, source: Box::new(source) })
}

/// A run that has its row in the store.
struct Begun {
    run: Run,
    /// Snapshot of an interrupted run that a purge-only run ends.
    left_over: Option<SnapshotTag>,
}

/// Decides what to go on with, and writes the run down.
async fn begin(
    backups: &Backups,
    context: &RunContext,
    properties: BackupProperties,
    target: Target,
    rate_limit: RateLimit,
) -> Result<Begun, BackupError> {
    let key = RunKey { cluster: context.cluster, task: context.task, run: context.run };
    let client = backups.clusters().client(context.cluster).await?;
    let cluster = backups.clusters().cluster(context.cluster).await?;
    let (mut previous, mut left_over) = (None, None);
    if properties.continue_run && properties.purge_only {
        left_over = continued::candidate(backups, key, context.clock).await?.and_then(|run| run.tag);
    } else if properties.continue_run {
        previous = continued::find(backups, key, context.clock, &client, &target).await?;
    }
    let (tag, reached) = match &previous {
        Some((run, tag, stage)) => {
            info!(previous = %run.key.run, %tag, %stage, "The backup goes on with an interrupted one");
            (*tag, Some(*stage))
        }
        None => (new_tag(backups, context, &client, &target).await?, None),
    };
    let mut warnings = target.warnings;
    let mut nodes = target.nodes;
    let mut units = target.units;
    let previous_run = previous.map(|(run, _, _)| run);
    if let Some(previous) = &previous_run {
        units.clone_from(&previous.units);
        nodes.retain(|node| previous.nodes.contains(&node.host.id));
        warnings.extend(previous.warnings.iter().cloned());
        warnings.sort();
        warnings.dedup();
    }
    let row = BackupRun {
        key,
        previous: previous_run.map(|run| run.key.run),
        tag: (!properties.purge_only).then_some(tag),
        units: units.clone(),
        dcs: target.dcs.clone(),
        nodes: nodes.iter().map(|n| n.host.id.clone()).collect(),
        locations: restrict(&properties.location, |l| l.dc(), &target.dcs),
        start: context.started,
        stage: reached.or(Some(Stage::Init)),
        retention_lock_mode: properties.lock_mode().to_owned(),
        override_retention_lock: properties.override_retention_lock,
        retention_days: properties.policy().retention_days,
        warnings,
        abandoned: false,
    };
    backups.store().put_backup_run(&row).await?;
    let rows: HashMap<(String, usize, String), ProgressRow> = backups
        .store()
        .backup_progress(key)
        .await?
        .into_iter()
        .map(|row| ((row.host.clone(), row.unit, row.table.clone()), row))
        .collect();
    let run = Run {
        backups: backups.clone(),
        key,
        cluster_name: cluster.name,
        tag,
        properties,
        nodes,
        units,
        tablet_keyspaces: target.tablet_keyspaces,
        client,
        reached,
        stop: context.stop.clone(),
        clock: context.clock,
        rate_limit,
        rows: Mutex::new(rows),
    };
    Ok(Begun { run, left_over })
}

/// A tag later than every tag known, here and in the locations (design 3.6).
async fn new_tag(
    backups: &Backups,
    context: &RunContext,
    client: &AgentClient,
    target: &Target,
) -> Result<SnapshotTag, BackupError> {
    let mut newest = backups.store().newest_backup_tag().await?;
    let mut seen = Vec::new();
    for node in &target.nodes {
        if seen.contains(&&node.location) {
            continue;
        }
        let reader = Reader { agent: client.on(node.host.address), location: node.location.clone() };
        let manifests = reader.manifests(Some(context.cluster)).await?;
        newest = newest.max(manifests.iter().map(|m| m.path.tag).max());
        seen.push(&node.location);
    }
    let now = context.clock.now();
    let tag = backups.give_tag(now, newest)?;
    let ahead = tag.time() - SnapshotTag::at(now).time();
    if ahead > chrono::Duration::zero() {
        let seconds = ahead.num_seconds();
        warn!(%tag, seconds, "A backup has this or a later tag already, so the tag is ahead of the clock");
    }
    Ok(tag)
}
