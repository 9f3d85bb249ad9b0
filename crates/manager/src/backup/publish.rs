//! MOVE_MANIFEST: makes the sealed manifests visible, on all nodes or on none (spec backup-format.md 4.8,
//! design 3.5).

use tracing::warn;

use super::error::{BackupError, all_hosts};
use super::run::Run;
use super::target::Node;
use crate::hosts::at_most;

/// Nodes at once.
const PARALLEL: usize = 32;

/// How a node's manifest became visible.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Published {
    /// Copied now; the temporary one is still there.
    Now,
    /// By an earlier attempt, which got as far as deleting temporaries: then all were visible.
    Before,
}

/// Copies every temporary manifest to its final name, then deletes the temporaries.
///
/// # Errors
/// A copy failed; then no manifest of the run is visible, unless an earlier attempt had published all of them.
pub async fn publish(run: &Run) -> Result<(), BackupError> {
    let copies = run.nodes.iter().map(|node| async move { (node, copy(run, node).await) });
    let outcomes = at_most(PARALLEL, copies.collect()).await;
    if outcomes.iter().any(|(_, outcome)| outcome.is_err()) {
        // A failed copy may have happened all the same: its reply was lost.
        let doubtful =
            outcomes.iter().filter(|(_, o)| !matches!(o, Ok(Published::Before))).map(|(node, _)| *node);
        withdraw(run, doubtful.collect()).await;
    }
    all_hosts(outcomes.into_iter().map(|(node, outcome)| (node.host.address, outcome)))?;
    delete_temporaries(run).await;
    run.backups.store().delete_checksums(run.key).await?;
    Ok(())
}

async fn copy(run: &Run, node: &Node) -> Result<Published, BackupError> {
    let agent = run.agent(node);
    let path = run.manifest_path(node);
    let published = node.location.remote_path(&path.to_string());
    let temporary = node.location.remote_path(&path.temporary().to_string());
    match agent.copy_file(&temporary, &published).await {
        Ok(()) => Ok(Published::Now),
        Err(error) if error.is_not_found() => match agent.file_info(&published).await? {
            Some(_) => Ok(Published::Before),
            None => Err(BackupError::other(format!("neither {temporary} nor {published} exists"))),
        },
        Err(error) => Err(error.into()),
    }
}

/// Takes published manifests back whose temporary form is still there.
async fn withdraw(run: &Run, nodes: Vec<&Node>) {
    let work = nodes.into_iter().map(|node| async move {
        let agent = run.agent(node);
        let path = run.manifest_path(node);
        let temporary = node.location.remote_path(&path.temporary().to_string());
        let published = node.location.remote_path(&path.to_string());
        let outcome = async {
            if agent.file_info(&temporary).await?.is_some() {
                agent.delete_file(&published).await?;
            }
            Ok::<_, BackupError>(())
        };
        if let Err(error) = outcome.await {
            warn!(
                host = %node.host.address,
                object = published,
                error = common::error::chain(&error),
                "A manifest of an unfinished backup cannot be taken back yet; the next run completes it"
            );
        }
    });
    at_most(PARALLEL, work.collect()).await;
}

/// Temporaries are shadowed now: one that stays does no harm.
async fn delete_temporaries(run: &Run) {
    let work = run.nodes.iter().map(|node| async move {
        let temporary = run.manifest_path(node).temporary().to_string();
        if let Err(error) = run.agent(node).delete_file(&node.location.remote_path(&temporary)).await {
            warn!(
                host = %node.host.address,
                error = common::error::chain(&error),
                "A temporary manifest cannot be deleted; it goes with its backup"
            );
        }
    });
    at_most(PARALLEL, work.collect()).await;
}
