//! `backup list`, `backup files`, `backup delete`: what is in the locations.

use common::api::manager::{
    BackupDeleteQuery, BackupListQuery, DeleteBackups, DeleteLocalSnapshots, ListBackupFiles, ListBackups,
};
use serde_json::json;

use crate::cli::backup::{BackupDelete, BackupFiles, BackupList, DeleteLocalSnapshot};
use crate::context::{Ctx, to_value};
use crate::error::CliError;
use crate::grammar::date::{When, wire_time};
use crate::render;
use crate::values::{is_on, joined_text};

const READING_TAKES_TIME: &str = "this may take a while, we are reading metadata from backup location(s)";

/// One query parameter per list; an empty list is left out.
fn comma_joined(list: Option<Vec<String>>) -> Option<String> {
    list.filter(|values| !values.is_empty()).map(|values| values.join(","))
}

pub async fn list(ctx: &mut Ctx<'_>, flags: BackupList) -> Result<(), CliError> {
    let cluster = &flags.cluster.cluster;
    let all_clusters = is_on(flags.all_clusters);
    let date = |when: Option<When>| when.map(|when| wire_time(when.absolute(ctx.now())));
    let query = BackupListQuery {
        locations: comma_joined(flags.location.texts()),
        query_cluster_id: (!all_clusters).then(|| cluster.clone()),
        keyspace: comma_joined(flags.keyspace.texts()),
        min_date: date(flags.min_date),
        max_date: date(flags.max_date),
        snapshot_tag: None,
    };
    let items = ctx.call_slow::<ListBackups>(READING_TAKES_TIME, &[cluster], &query, None).await?;
    for warning in items.iter().flat_map(|item| &item.warnings) {
        ctx.note(format_args!("WARNING! {warning}"))?;
    }
    if items.is_empty() {
        ctx.note(format_args!("NOTICE: no backups found"))?;
    }
    let json = to_value(&items)?;
    let show_tables = is_on(flags.show_tables);
    ctx.show(
        flags.output.format(),
        |_| render::backup_list::render(&items, all_clusters, show_tables),
        || json!({ "backups": json }),
    )
}

pub async fn files(ctx: &mut Ctx<'_>, flags: BackupFiles) -> Result<(), CliError> {
    let cluster = &flags.cluster.cluster;
    let query = BackupListQuery {
        locations: comma_joined(flags.location.texts()),
        query_cluster_id: (!is_on(flags.all_clusters)).then(|| cluster.clone()),
        keyspace: comma_joined(flags.keyspace.texts()),
        snapshot_tag: Some(flags.snapshot_tag.to_string()),
        ..BackupListQuery::default()
    };
    let manifests = ctx.call_slow::<ListBackupFiles>(READING_TAKES_TIME, &[cluster], &query, None).await?;
    if manifests.is_empty() {
        ctx.note(format_args!(
            "NOTICE: no files of backup {} found, sctool backup list shows the backups there are",
            flags.snapshot_tag
        ))?;
    }
    let json = to_value(&manifests)?;
    let delimiter = flags.delimiter.as_deref().unwrap_or("\t");
    ctx.show(
        flags.output.format(),
        |_| render::backup_files::render(&manifests, delimiter, is_on(flags.with_version)),
        || json!({ "manifests": json }),
    )
}

pub async fn delete(ctx: &mut Ctx<'_>, flags: BackupDelete) -> Result<(), CliError> {
    let query = BackupDeleteQuery {
        locations: comma_joined(flags.location.texts()),
        snapshot_tags: comma_joined(joined_text(&Some(flags.snapshot_tag))),
    };
    ctx.call_slow::<DeleteBackups>(READING_TAKES_TIME, &[&flags.cluster.cluster], &query, None).await
}

pub async fn delete_local(ctx: &mut Ctx<'_>, flags: DeleteLocalSnapshot) -> Result<(), CliError> {
    ctx.call::<DeleteLocalSnapshots>(&[&flags.cluster.cluster], &()).await
}
