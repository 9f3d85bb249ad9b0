//! `restore`, `restore 1-1-restore` and their updates.

use std::collections::BTreeSet;

use common::task::TaskType;
use serde_json::{Map, Value};

use super::task_body::{self, Properties, changed_task, new_task};
use super::{follow, resolve};
use crate::cli::restore::{
    MirrorCreate, MirrorOptions, MirrorSource, MirrorUpdate, RestoreCreate, RestoreOptions, RestoreSource,
    RestoreUpdate,
};
use crate::cli::shared::limits;
use crate::context::{Ctx, to_value};
use crate::error::CliError;
use crate::grammar::mapping::DcMapping;
use crate::values::is_on;

/// Flags that name what is restored; a task keeps them for its whole life.
const FIXED: [&str; 6] =
    ["location", "snapshot-tag", "keyspace", "restore-schema", "restore-tables", "dc-mapping"];
const MIRROR_FIXED: [&str; 5] =
    ["location", "snapshot-tag", "source-cluster-id", "nodes-mapping", "keyspace"];
const MIRROR_REQUIRED: [&str; 4] = ["location", "snapshot-tag", "source-cluster-id", "nodes-mapping"];

pub async fn create(ctx: &mut Ctx<'_>, flags: RestoreCreate) -> Result<(), CliError> {
    let cluster = &flags.cluster.cluster;
    let mut properties = source(&flags.source);
    options(&mut properties, &flags.options);
    let task = new_task(ctx, TaskType::Restore, &flags.schedule, flags.enabled.enabled, properties)?;
    if is_on(flags.options.dry_run) {
        return Err(dry_run_is_missing());
    }
    let created = task_body::create(ctx, cluster, &task).await?;
    follow::show_and_wait(ctx, cluster, &created, None, flags.output.format(), is_on(flags.wait)).await
}

pub async fn update(
    ctx: &mut Ctx<'_>,
    flags: RestoreUpdate,
    given: &BTreeSet<String>,
) -> Result<(), CliError> {
    refuse_fixed(&FIXED, given, "restore")?;
    if is_on(flags.options.dry_run) {
        return Err(dry_run_is_missing());
    }
    task_body::require_change(given, "nothing to do")?;
    let cluster = &flags.cluster.cluster;
    let found = resolve::task_to_update(ctx, cluster, flags.task.task.as_deref(), TaskType::Restore).await?;
    let stored = task_body::stored(ctx, cluster, &found).await?;
    let mut properties = Properties::default();
    options(&mut properties, &flags.options);
    let task = changed_task(ctx, stored, &flags.schedule, flags.enabled.enabled, properties)?;
    let saved = task_body::save(ctx, cluster, &found, &task).await?;
    task_body::show_reference(ctx, flags.output.format(), &saved)
}

pub async fn create_mirror(ctx: &mut Ctx<'_>, flags: MirrorCreate) -> Result<(), CliError> {
    if is_on(flags.options.dry_run) {
        return mirror_dry_run(ctx);
    }
    require_mirror_flags(&flags.source)?;
    let properties = mirror(&flags.source, &flags.options)?;
    let task = new_task(ctx, TaskType::OneToOneRestore, &flags.schedule, flags.enabled.enabled, properties)?;
    let created = task_body::create(ctx, &flags.cluster.cluster, &task).await?;
    task_body::show_reference(ctx, flags.output.format(), &created)
}

pub async fn update_mirror(
    ctx: &mut Ctx<'_>,
    flags: MirrorUpdate,
    given: &BTreeSet<String>,
) -> Result<(), CliError> {
    refuse_fixed(&MIRROR_FIXED, given, "one2onerestore")?;
    if is_on(flags.options.dry_run) {
        return mirror_dry_run(ctx);
    }
    task_body::require_change(given, "nothing to do")?;
    let cluster = &flags.cluster.cluster;
    let reference = flags.task.task.as_deref();
    let found = resolve::task_to_update(ctx, cluster, reference, TaskType::OneToOneRestore).await?;
    let stored = task_body::stored(ctx, cluster, &found).await?;
    let properties = mirror(&MirrorSource::default(), &flags.options)?;
    let task = changed_task(ctx, stored, &flags.schedule, flags.enabled.enabled, properties)?;
    let saved = task_body::save(ctx, cluster, &found, &task).await?;
    task_body::show_reference(ctx, flags.output.format(), &saved)
}

fn source(flags: &RestoreSource) -> Properties {
    let mut all = Properties::default();
    all.set("location", flags.location.texts())
        .set_text("snapshot_tag", flags.snapshot_tag.as_ref())
        .set("keyspace", flags.keyspace.texts())
        .set_switch("restore_schema", flags.restore_schema)
        .set_switch("restore_tables", flags.restore_tables)
        .set("dc_mapping", flags.dc_mapping.as_ref().map(mapping));
    all
}

fn mapping(mapping: &DcMapping) -> Map<String, Value> {
    mapping.0.iter().map(|(source, target)| (source.clone(), Value::from(target.as_str()))).collect()
}

fn options(all: &mut Properties, flags: &RestoreOptions) {
    all.set_int("batch_size", flags.batch_size)
        .set_int("parallel", flags.parallel)
        .set_int("transfers", flags.transfers)
        .set("rate_limit", limits(&flags.rate_limit))
        .set_switch("allow_compaction", flags.allow_compaction)
        .set_switch("unpin_agent_cpu", flags.unpin_agent_cpu)
        .set_text("method", flags.method);
}

fn mirror(source: &MirrorSource, options: &MirrorOptions) -> Result<Properties, CliError> {
    let nodes = source.nodes_mapping.as_ref().map(to_value).transpose()?;
    let mut all = Properties::default();
    all.set("location", source.location.texts())
        .set_text("snapshot_tag", source.snapshot_tag.as_ref())
        .set_text("source_cluster_id", source.source_cluster_id)
        .set("nodes_mapping", nodes)
        .set("keyspace", source.keyspace.texts())
        .set_switch("unpin_agent_cpu", options.unpin_agent_cpu);
    Ok(all)
}

fn require_mirror_flags(source: &MirrorSource) -> Result<(), CliError> {
    let given = [
        source.location.location.is_some(),
        source.snapshot_tag.is_some(),
        source.source_cluster_id.is_some(),
        source.nodes_mapping.is_some(),
    ];
    let missing: Vec<&str> =
        MIRROR_REQUIRED.iter().zip(given).filter(|(_, given)| !given).map(|(flag, _)| *flag).collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(CliError::text(format!("required flag(s) {} not set", missing.join(", "))))
}

fn refuse_fixed(fixed: &[&str], given: &BTreeSet<String>, what: &str) -> Result<(), CliError> {
    match fixed.iter().find(|flag| given.contains(**flag)) {
        None => Ok(()),
        Some(flag) => Err(CliError::text(format!(
            "updating {what} task's '--{flag}' flag is forbidden. For this purpose, please create a new task with \
             given properties"
        ))),
    }
}

fn mirror_dry_run(ctx: &mut Ctx<'_>) -> Result<(), CliError> {
    ctx.note(format_args!("NOTICE: dry run mode, one2onerestore is not yet implemented\n"))
}

fn dry_run_is_missing() -> CliError {
    CliError::text("dry run of a restore is not available in this release")
}
