//! What a run switches off in a cluster, and that it is switched on again whatever happens to the run.
//!
//! The intent is stored before the switch is turned, and forgotten after it was turned back. While a run wants
//! the switch off it keeps a [`BalancingHold`]; what is noted and not held by anyone, because the run was
//! dropped or the manager was killed, [`Clusters::release_forgotten`] turns back.

use std::sync::PoisonError;
use std::time::Duration;

use common::ids::ClusterId;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{ClusterError, Clusters};

/// Key in the drawer: tablet balancing is off because of us.
const BALANCING: &str = "switched_off/tablet_balancing";

/// Pause between attempts to turn a switch back; the cluster may be down for long.
const RETRY_PAUSE: Duration = Duration::from_secs(30);

/// Tablet balancing of a cluster is wanted off as long as this lives.
#[must_use = "balancing is switched on again when this is dropped"]
pub struct BalancingHold {
    clusters: Clusters,
    cluster: ClusterId,
}

impl BalancingHold {
    /// Switches balancing on again, now.
    ///
    /// # Errors
    /// No host of the cluster answers. It is tried again in the background.
    pub async fn release(self) -> Result<(), ClusterError> {
        let (clusters, cluster) = (self.clusters.clone(), self.cluster);
        drop(self);
        clusters.release_balancing(cluster).await
    }
}

impl Drop for BalancingHold {
    fn drop(&mut self) {
        let mut holds = self.clusters.shared.holds.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(index) = holds.iter().position(|c| *c == self.cluster) {
            holds.swap_remove(index);
        }
        self.clusters.shared.hold_dropped.notify_one();
    }
}

impl Clusters {
    /// Switches tablet balancing of a cluster off until the hold is released or dropped.
    ///
    /// # Errors
    /// The note cannot be written, or no host of the cluster answers.
    pub async fn hold_balancing(&self, cluster: ClusterId) -> Result<BalancingHold, ClusterError> {
        self.shared.holds.lock().unwrap_or_else(PoisonError::into_inner).push(cluster);
        // From here on a failure or a drop leaves the rest to `release_forgotten`.
        let hold = BalancingHold { clusters: self.clone(), cluster };
        self.switch_off(cluster).await?;
        Ok(hold)
    }

    async fn switch_off(&self, cluster: ClusterId) -> Result<(), ClusterError> {
        self.shared.store.put_drawer(cluster, BALANCING, b"true".to_vec()).await?;
        self.client(cluster).await?.set_tablet_balancing(false).await?;
        Ok(())
    }

    /// As a manager leaves it that is killed while it holds the switch.
    #[cfg(test)]
    pub(super) async fn switch_off_for_test(&self, cluster: ClusterId) {
        self.switch_off(cluster).await.unwrap();
    }

    fn is_held(&self, cluster: ClusterId) -> bool {
        self.shared.holds.lock().unwrap_or_else(PoisonError::into_inner).contains(&cluster)
    }

    /// Switches balancing on and forgets the note, unless a run holds it.
    async fn release_balancing(&self, cluster: ClusterId) -> Result<(), ClusterError> {
        if self.is_held(cluster) {
            return Ok(());
        }
        self.client(cluster).await?.set_tablet_balancing(true).await?;
        self.shared.store.delete_drawer(cluster, BALANCING).await?;
        // A run may have come meanwhile; its wish counts.
        if self.is_held(cluster) { self.switch_off(cluster).await } else { Ok(()) }
    }

    /// Turns back, until `shutdown`, what runs left switched off: at once what an earlier life of this manager
    /// left, later whatever a dropped run leaves.
    pub async fn release_forgotten(&self, shutdown: CancellationToken) {
        loop {
            let dropped = self.shared.hold_dropped.notified();
            let Some(left) = shutdown.run_until_cancelled(self.release_unheld()).await else { return };
            let next = async {
                if left > 0 {
                    tokio::time::sleep(RETRY_PAUSE).await;
                } else {
                    dropped.await;
                }
            };
            if shutdown.run_until_cancelled(next).await.is_none() {
                return;
            }
        }
    }

    /// One pass; returns how many switches could not be turned back.
    async fn release_unheld(&self) -> usize {
        let noted = match self.shared.store.drawers(BALANCING).await {
            Ok(noted) => noted,
            Err(error) => {
                warn!(error = common::error::chain(&error), "Noted switches cannot be read");
                return 1;
            }
        };
        let mut left = 0;
        for (cluster, _, _) in noted.into_iter().filter(|(cluster, _, _)| !self.is_held(*cluster)) {
            match self.release_balancing(cluster).await {
                Ok(()) => info!(%cluster, "Tablet balancing was left off and is on again"),
                Err(error) => {
                    left += 1;
                    let error = common::error::chain(&error);
                    warn!(%cluster, error, "Tablet balancing cannot be switched on again yet");
                }
            }
        }
        left
    }
}
