//! The 2.x group `task` (spec/sctool.md 2.20): the 3.x commands under their old names.

use std::collections::BTreeSet;

use common::task::TaskType;
use serde_json::json;

use super::task_body::{self, Properties, changed_task};
use super::tasks::{Listing, SortKey, list as list_tasks, query};
use super::{control, info, progress as new_progress, resolve, status};
use crate::cli::cluster::Status;
use crate::cli::shared::{OptionalCluster, OutputFormat};
use crate::cli::tasks::{LegacyDelete, LegacyHistory, LegacyList, LegacyStop, LegacyUpdate, Progress};
use crate::context::{Ctx, to_value};
use crate::error::CliError;
use crate::grammar::task_ref::TaskRef;
use crate::render;
use crate::render::tasks::Options;
use crate::values::is_on;

pub async fn list(ctx: &mut Ctx<'_>, flags: LegacyList) -> Result<(), CliError> {
    let sort = match flags.sort.as_deref().unwrap_or_default() {
        "start-time" | "end-time" => Some(SortKey::LastRun),
        other => SortKey::parse(other)?,
    };
    let listing = Listing {
        query: query(is_on(flags.all), flags.status, flags.task_type),
        sort,
        options: Options::default(),
        format: flags.output.format(),
    };
    list_tasks(ctx, flags.cluster.cluster, &listing).await
}

pub async fn stop(ctx: &mut Ctx<'_>, flags: LegacyStop) -> Result<(), CliError> {
    let cluster = &flags.cluster.cluster;
    let task = resolve::task(ctx, cluster, &flags.task.task).await?;
    control::stop_task(ctx, cluster, &task, is_on(flags.disable)).await
}

pub async fn progress(ctx: &mut Ctx<'_>, flags: Progress) -> Result<(), CliError> {
    let reference: TaskRef = flags.task.task.parse()?;
    if reference.task_type != TaskType::HealthCheck {
        return new_progress::progress(ctx, flags).await;
    }
    let cluster = flags.cluster.cluster;
    if flags.output.format() == OutputFormat::Table {
        ctx.print(&format!("Use: sctool status -c {cluster}\n"))?;
    }
    let cluster = OptionalCluster { cluster: Some(cluster) };
    status::status(ctx, Status { cluster, output: flags.output }).await
}

pub async fn history(ctx: &mut Ctx<'_>, flags: LegacyHistory) -> Result<(), CliError> {
    let cluster = &flags.cluster.cluster;
    let task = resolve::task(ctx, cluster, &flags.task.task).await?;
    let runs = info::history(ctx, cluster, &task, flags.limit).await?;
    let (json, now) = (to_value(&runs)?, ctx.now());
    ctx.show(
        flags.output.format(),
        |view| render::info::runs(&runs, true, now, view),
        || json!({ "runs": json }),
    )
}

pub async fn update(
    ctx: &mut Ctx<'_>,
    flags: LegacyUpdate,
    given: &BTreeSet<String>,
) -> Result<(), CliError> {
    task_body::require_change(given, "nothing to change")?;
    let cluster = &flags.cluster.cluster;
    let found = resolve::task(ctx, cluster, &flags.task.task).await?;
    let stored = task_body::stored(ctx, cluster, &found).await?;
    let task = changed_task(ctx, stored, &flags.schedule, flags.enabled.enabled, Properties::default())?;
    task_body::save(ctx, cluster, &found, &task).await?;
    Ok(())
}

pub async fn delete(ctx: &mut Ctx<'_>, flags: LegacyDelete) -> Result<(), CliError> {
    let cluster = &flags.cluster.cluster;
    let task = resolve::task(ctx, cluster, &flags.task.task).await?;
    control::delete_task(ctx, cluster, &task).await
}
