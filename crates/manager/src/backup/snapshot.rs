//! SNAPSHOT: freezes the selected tables on every node (spec backup-format.md 4.1).

use common::api::manager::Unit;
use common::snapshot_tag::SnapshotTag;
use rand::seq::SliceRandom;

use super::error::BackupError;
use super::run::Run;
use super::target::Node;
use super::units::SCHEMA_KEYSPACE;
use crate::agent_client::Agent;

/// Takes the snapshots. Tablet balancing is off meanwhile, and on again afterwards whatever happens.
///
/// # Errors
/// A host failed, or balancing cannot be switched.
pub async fn take(run: &Run) -> Result<(), BackupError> {
    let tablets = run.units.iter().any(|unit| run.tablet_keyspaces.contains(&unit.keyspace));
    let hold = match tablets {
        true => Some(run.backups.clusters().hold_balancing(run.cluster()).await?),
        false => None,
    };
    let taken = run.on_nodes(&run.properties.snapshot_parallel, |node| take_on(run, node)).await;
    // A stage that is dropped drops the hold, which the cluster's own task then releases.
    if let Some(hold) = hold {
        let released = hold.release().await;
        taken?;
        return Ok(released?);
    }
    taken.map(drop)
}

async fn take_on(run: &Run, node: &Node) -> Result<(), BackupError> {
    let agent = run.agent(node);
    delete_others(&agent, run.tag).await?;
    check_space(&agent, run.backups.config().disk_space_free_min_percent).await?;
    let tag = run.tag.to_string();
    for unit in order(&run.units) {
        // A call without tables takes the whole keyspace at one moment, and is short however many there are.
        let tables = if unit.all_tables { &[][..] } else { &unit.tables };
        run.backups.metrics().set_snapshot(run.cluster(), &unit.keyspace, node.host.address, false);
        agent.take_snapshot(&tag, &unit.keyspace, tables).await?;
        run.backups.metrics().set_snapshot(run.cluster(), &unit.keyspace, node.host.address, true);
    }
    Ok(())
}

/// Deletes our snapshots on a node but one; those of others are left alone.
async fn delete_others(agent: &Agent, keep: SnapshotTag) -> Result<(), BackupError> {
    for snapshot in agent.snapshots().await? {
        let ours = snapshot.tag.parse::<SnapshotTag>();
        if ours.is_ok_and(|tag| tag != keep) {
            agent.delete_snapshot(&snapshot.tag, None, None).await?;
        }
    }
    Ok(())
}

async fn check_space(agent: &Agent, min_percent: u8) -> Result<(), BackupError> {
    let space = agent.about("data:").await?;
    let percent = (space.free.saturating_mul(100)).checked_div(space.total).unwrap_or(0);
    if percent < u64::from(min_percent) {
        return Err(BackupError::other(format!(
            "not enough disk space: {percent}% free, {min_percent}% needed \
             (backup.disk_space_free_min_percent in scylla-manager.yaml)"
        )));
    }
    Ok(())
}

/// Keyspaces in random order, so that nodes do not all flush the same one; the schema last, so that it is never
/// older than the data.
fn order(units: &[Unit]) -> Vec<&Unit> {
    let mut order: Vec<&Unit> = units.iter().collect();
    order.shuffle(&mut rand::rng());
    order.sort_by_key(|unit| unit.keyspace == SCHEMA_KEYSPACE);
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_comes_last() {
        let unit = |name: &str| Unit { keyspace: name.into(), ..Unit::default() };
        let units = [unit(SCHEMA_KEYSPACE), unit("a"), unit("b"), unit("system_auth")];
        for _ in 0..20 {
            assert_eq!(order(&units).last().map(|u| u.keyspace.as_str()), Some(SCHEMA_KEYSPACE));
        }
    }
}
