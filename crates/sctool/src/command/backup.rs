//! `backup` and `backup update`.

use std::collections::BTreeSet;

use common::api::manager::{BackupTarget, GetBackupTarget, TaskUpdate};
use common::task::TaskType;
use serde_json::json;

use super::task_body::{self, Properties, changed_task, new_task};
use super::{follow, resolve};
use crate::cli::backup::{BackupCreate, BackupOptions, BackupUpdate};
use crate::cli::shared::{DcFlag, KeyspaceFlag, OutputFormat, limits};
use crate::context::{Ctx, to_value};
use crate::error::CliError;
use crate::render;
use crate::values::{is_on, joined_text};

const SIZES_TAKE_TIME: &str = "this may take a while, we are performing disk size calculations on the nodes";

pub async fn create(ctx: &mut Ctx<'_>, flags: BackupCreate) -> Result<(), CliError> {
    let cluster = &flags.cluster.cluster;
    let location = joined_text(&Some(flags.location));
    let properties = properties(location, &flags.dc, &flags.keyspace, &flags.options)?;
    let task = new_task(ctx, TaskType::Backup, &flags.schedule, flags.enabled.enabled, properties)?;
    if is_on(flags.options.dry_run) {
        return dry_run(ctx, cluster, &task, &flags.options, flags.output.format()).await;
    }
    let created = task_body::create(ctx, cluster, &task).await?;
    follow::show_and_wait(ctx, cluster, &created, None, flags.output.format(), is_on(flags.wait)).await
}

pub async fn update(
    ctx: &mut Ctx<'_>,
    flags: BackupUpdate,
    given: &BTreeSet<String>,
) -> Result<(), CliError> {
    let cluster = &flags.cluster.cluster;
    let dry = is_on(flags.options.dry_run);
    if !dry {
        task_body::require_change(given, "nothing to do")?;
    }
    let properties = properties(flags.location.texts(), &flags.dc, &flags.keyspace, &flags.options)?;
    let found = resolve::task_to_update(ctx, cluster, flags.task.task.as_deref(), TaskType::Backup).await?;
    let stored = task_body::stored(ctx, cluster, &found).await?;
    let task = changed_task(ctx, stored, &flags.schedule, flags.enabled.enabled, properties)?;
    if dry {
        let task = TaskUpdate { task_type: TaskType::Backup.to_string(), ..task };
        return dry_run(ctx, cluster, &task, &flags.options, flags.output.format()).await;
    }
    let saved = task_body::save(ctx, cluster, &found, &task).await?;
    task_body::show_reference(ctx, flags.output.format(), &saved)
}

fn properties(
    location: Option<Vec<String>>,
    dc: &DcFlag,
    keyspace: &KeyspaceFlag,
    options: &BackupOptions,
) -> Result<Properties, CliError> {
    check(options)?;
    let mut all = Properties::default();
    all.set("location", location)
        .set("dc", dc.texts())
        .set("keyspace", keyspace.texts())
        .set_int("retention", options.retention)
        .set_int("retention_days", options.retention_days)
        .set("rate_limit", limits(&options.rate_limit))
        .set_int("transfers", options.transfers)
        .set("snapshot_parallel", limits(&options.snapshot_parallel))
        .set("upload_parallel", limits(&options.upload_parallel))
        .set_switch("purge_only", options.purge_only)
        .set_switch("skip_schema", options.skip_schema)
        .set_text("method", options.method)
        .set_text("retention_lock_mode", options.retention_lock_mode)
        .set_switch("override_retention_lock", options.override_retention_lock);
    Ok(all)
}

/// What the server would refuse too, but only after it has asked the whole cluster.
fn check(options: &BackupOptions) -> Result<(), CliError> {
    let negative = [options.retention, options.retention_days].into_iter().flatten().any(|count| count.0 < 0);
    if negative {
        return Err(CliError::text("negative retention"));
    }
    match options.transfers {
        Some(count) if count.0 == 0 || count.0 < -1 => Err(CliError::text(
            "transfers param has to be equal to -1 (set transfers to the value from scylla-manager-agent.yaml config) \
             or greater than zero",
        )),
        _ => Ok(()),
    }
}

async fn dry_run(
    ctx: &mut Ctx<'_>,
    cluster: &str,
    task: &TaskUpdate,
    options: &BackupOptions,
    format: OutputFormat,
) -> Result<(), CliError> {
    ctx.note(format_args!("NOTICE: dry run mode, backup is not scheduled\n"))?;
    let body = task_body::body(task)?;
    let args = [cluster, TaskType::Backup.as_str()];
    let target: BackupTarget =
        ctx.call_slow::<GetBackupTarget>(SIZES_TAKE_TIME, &args, &(), Some(&body)).await?;
    for warning in &target.warnings {
        ctx.note(format_args!("WARNING! {warning}"))?;
    }
    let json = to_value(&target)?;
    let show_tables = is_on(options.show_tables);
    ctx.show(
        format,
        |_| render::backup_target::render(&target, &task.schedule, show_tables),
        || json!({ "target": json }),
    )
}
