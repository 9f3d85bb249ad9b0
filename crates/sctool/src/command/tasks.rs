//! `tasks`: the tasks of one cluster or of all.

use std::cmp::Ordering;

use chrono::{DateTime, Utc};
use common::api::manager::{ListTasks, TaskListItem, TaskListQuery};
use serde_json::{Value, json};

use super::status::{Visited, failed_cluster, visited};
use crate::cli::shared::OutputFormat;
use crate::cli::tasks::Tasks;
use crate::context::{Ctx, to_value};
use crate::error::CliError;
use crate::render;
use crate::render::tasks::Options;
use crate::values::is_on;

/// Orders that the tasks of a cluster can be shown in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SortKey {
    NextActivation,
    Status,
    /// Keys of 2.x: by the last run.
    LastRun,
}

impl SortKey {
    /// A key of `tasks`.
    pub fn parse(text: &str) -> Result<Option<Self>, CliError> {
        match text {
            "" => Ok(None),
            "next-activation" => Ok(Some(Self::NextActivation)),
            "status" => Ok(Some(Self::Status)),
            _ => Err(CliError::text(format!("{text} sort key not supported"))),
        }
    }

    fn compare(self, one: &TaskListItem, other: &TaskListItem) -> Ordering {
        match self {
            Self::NextActivation => one.next_activation.cmp(&other.next_activation),
            Self::Status => one.task.status.cmp(&other.task.status),
            Self::LastRun => last_run(one).cmp(&last_run(other)),
        }
    }
}

fn last_run(item: &TaskListItem) -> Option<DateTime<Utc>> {
    item.task.last_success.max(item.task.last_error)
}

/// What to list and how.
pub struct Listing {
    pub query: TaskListQuery,
    pub sort: Option<SortKey>,
    pub options: Options,
    pub format: OutputFormat,
}

pub async fn tasks(ctx: &mut Ctx<'_>, flags: Tasks) -> Result<(), CliError> {
    let listing = Listing {
        query: query(is_on(flags.all), flags.status, flags.task_type),
        sort: SortKey::parse(flags.sort.as_deref().unwrap_or_default())?,
        options: Options { ids: is_on(flags.show_ids), properties: is_on(flags.show_properties) },
        format: flags.output.format(),
    };
    list(ctx, flags.cluster.cluster, &listing).await
}

pub fn query(all: bool, status: Option<String>, task_type: Option<String>) -> TaskListQuery {
    let set = |text: Option<String>| text.filter(|text| !text.is_empty());
    TaskListQuery { all: Some(all), status: set(status), task_type: set(task_type), ..Default::default() }
}

pub async fn list(ctx: &mut Ctx<'_>, cluster: Option<String>, listing: &Listing) -> Result<(), CliError> {
    let mut documents = Vec::new();
    for cluster in visited(ctx, cluster).await? {
        let mut answer = ctx.call::<ListTasks>(&[&cluster.handle], &listing.query).await;
        if let (Ok(items), Some(key)) = (&mut answer, listing.sort) {
            items.sort_by(|one, other| key.compare(one, other));
        }
        match listing.format {
            OutputFormat::Table => show(ctx, &cluster, answer, listing.options)?,
            OutputFormat::Json => documents.push(document(ctx, &cluster, answer)?),
        }
    }
    match listing.format {
        OutputFormat::Table => Ok(()),
        format => ctx.show(format, |_| String::new(), || json!({ "clusters": documents })),
    }
}

type Answer = Result<Vec<TaskListItem>, CliError>;

fn show(ctx: &mut Ctx<'_>, cluster: &Visited, answer: Answer, options: Options) -> Result<(), CliError> {
    ctx.print(&cluster.heading)?;
    match answer {
        Ok(items) => {
            let text = render::tasks::render(&items, options, ctx.now(), &ctx.view);
            ctx.print(&text)
        }
        Err(error) => ctx.print_error_inline(&error),
    }
}

fn document(ctx: &mut Ctx<'_>, cluster: &Visited, answer: Answer) -> Result<Value, CliError> {
    match answer {
        Ok(items) => Ok(json!({ "cluster": cluster.handle, "tasks": to_value(items)? })),
        Err(error) => failed_cluster(ctx, cluster, &error),
    }
}
