//! `status`: every node of one cluster or of all.

use common::api::manager::{Cluster, GetStatus, GetSuspendDetails, ListClusters, NodeStatus, SuspendDetails};
use common::ids::ClusterId;
use serde_json::{Value, json};

use crate::cli::cluster::Status;
use crate::cli::shared::OutputFormat;
use crate::context::{Ctx, to_value};
use crate::error::CliError;
use crate::render;

/// A cluster of a walk: how to address it, and its heading.
pub struct Visited {
    /// Name or ID for requests.
    pub handle: String,
    /// `Cluster: <name> (<id>)` and a line end; nothing if the user named the cluster.
    pub heading: String,
}

/// The clusters that a command with an optional cluster flag goes through.
pub async fn visited(ctx: &mut Ctx<'_>, cluster: Option<String>) -> Result<Vec<Visited>, CliError> {
    if let Some(handle) = cluster.filter(|name| !name.is_empty()) {
        return Ok(vec![Visited { handle, heading: String::new() }]);
    }
    let clusters = ctx.call::<ListClusters>(&[], &()).await?;
    Ok(clusters.iter().map(visit).collect())
}

fn visit(cluster: &Cluster) -> Visited {
    let id = cluster.id.unwrap_or(ClusterId::NIL).to_string();
    let heading = match cluster.name.as_str() {
        "" => format!("Cluster: {id}\n"),
        name => format!("Cluster: {name} ({id})\n"),
    };
    Visited { handle: id, heading }
}

pub async fn status(ctx: &mut Ctx<'_>, flags: Status) -> Result<(), CliError> {
    let mut documents = Vec::new();
    for cluster in visited(ctx, flags.cluster.cluster).await? {
        let answer = ask(ctx, &cluster.handle).await;
        match flags.output.format() {
            OutputFormat::Table => show(ctx, &cluster, answer)?,
            OutputFormat::Json => documents.push(document(ctx, &cluster, answer)?),
        }
    }
    match flags.output.format() {
        OutputFormat::Table => Ok(()),
        format => ctx.show(format, |_| String::new(), || json!({ "clusters": documents })),
    }
}

type Answer = Result<(SuspendDetails, Vec<NodeStatus>), CliError>;

async fn ask(ctx: &mut Ctx<'_>, cluster: &str) -> Answer {
    let details = ctx.call::<GetSuspendDetails>(&[cluster], &()).await?;
    let nodes = ctx.call::<GetStatus>(&[cluster], &()).await?;
    Ok((details, nodes))
}

fn show(ctx: &mut Ctx<'_>, cluster: &Visited, answer: Answer) -> Result<(), CliError> {
    ctx.print(&cluster.heading)?;
    match answer {
        Err(error) => ctx.print_error_inline(&error),
        Ok((details, nodes)) => {
            let utf8 = ctx.view.utf8;
            if details.suspended {
                ctx.print(&render::status::suspended(&cluster.handle, &details, utf8))?;
            }
            ctx.print(&render::status::nodes(&nodes, utf8))
        }
    }
}

fn document(ctx: &mut Ctx<'_>, cluster: &Visited, answer: Answer) -> Result<Value, CliError> {
    match answer {
        Ok((details, nodes)) => Ok(json!({
            "cluster": cluster.handle,
            "suspended": to_value(details)?,
            "nodes": to_value(nodes)?,
        })),
        Err(error) => failed_cluster(ctx, cluster, &error),
    }
}

/// A cluster that could not be asked, in JSON output; the error itself goes to stderr.
pub fn failed_cluster(ctx: &mut Ctx<'_>, cluster: &Visited, error: &CliError) -> Result<Value, CliError> {
    ctx.print_error(error)?;
    Ok(json!({ "cluster": cluster.handle, "error": error.to_string() }))
}
