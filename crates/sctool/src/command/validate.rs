//! `backup validate` and its update.

use std::collections::BTreeSet;

use common::task::TaskType;

use super::resolve;
use super::task_body::{self, Properties, changed_task, new_task};
use crate::cli::backup::{ValidateCreate, ValidateOptions, ValidateUpdate};
use crate::cli::shared::LocationFlag;
use crate::context::Ctx;
use crate::error::CliError;

pub async fn create(ctx: &mut Ctx<'_>, flags: ValidateCreate) -> Result<(), CliError> {
    let properties = properties(&flags.location, &flags.options);
    let task = new_task(ctx, TaskType::ValidateBackup, &flags.schedule, flags.enabled.enabled, properties)?;
    let created = task_body::create(ctx, &flags.cluster.cluster, &task).await?;
    task_body::show_reference(ctx, flags.output.format(), &created)
}

pub async fn update(
    ctx: &mut Ctx<'_>,
    flags: ValidateUpdate,
    given: &BTreeSet<String>,
) -> Result<(), CliError> {
    task_body::require_change(given, "nothing to do")?;
    let cluster = &flags.cluster.cluster;
    let reference = flags.task.task.as_deref();
    let found = resolve::task_to_update(ctx, cluster, reference, TaskType::ValidateBackup).await?;
    let stored = task_body::stored(ctx, cluster, &found).await?;
    let properties = properties(&flags.location, &flags.options);
    let task = changed_task(ctx, stored, &flags.schedule, flags.enabled.enabled, properties)?;
    let saved = task_body::save(ctx, cluster, &found, &task).await?;
    task_body::show_reference(ctx, flags.output.format(), &saved)
}

fn properties(location: &LocationFlag, options: &ValidateOptions) -> Properties {
    let mut all = Properties::default();
    all.set("location", location.texts())
        .set_switch("delete_orphaned_files", options.delete_orphaned_files)
        .set_int("parallel", options.parallel);
    all
}
