//! Keeps what is known about clusters fresh: all of them now and then, one of them after it was changed.
//!
//! A request that changes a cluster only leaves a wish here and is answered; looking at nodes that may not
//! answer takes long.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use common::ids::ClusterId;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use super::Clusters;
use super::cql::CqlAccess;

/// Clusters that somebody wants to be looked at soon; one entry each, however often they were changed.
#[derive(Default)]
pub(super) struct Wanted {
    clusters: Mutex<BTreeSet<ClusterId>>,
    came: Notify,
}

impl Wanted {
    fn add(&self, cluster: ClusterId) {
        self.clusters.lock().unwrap_or_else(PoisonError::into_inner).insert(cluster);
        self.came.notify_one();
    }

    fn take(&self) -> BTreeSet<ClusterId> {
        std::mem::take(&mut *self.clusters.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Clusters {
    /// Has [`Clusters::keep_fresh`] look at the nodes of a cluster and try its CQL.
    pub(super) fn want_fresh(&self, cluster: ClusterId) {
        self.shared.fresh.add(cluster);
    }

    /// Refreshes the facts about all nodes every `period`, and about those of a changed cluster soon, until
    /// `shutdown`. The first period begins now.
    pub async fn keep_fresh(&self, period: Duration, shutdown: CancellationToken) {
        let regularly = async {
            loop {
                tokio::time::sleep(period).await;
                self.refresh_all().await;
            }
        };
        let on_demand = async {
            loop {
                self.shared.fresh.came.notified().await;
                let looks = self.shared.fresh.take().into_iter().map(|cluster| self.look_at(cluster));
                futures::future::join_all(looks).await;
            }
        };
        shutdown.run_until_cancelled(async { tokio::join!(regularly, on_demand) }).await;
    }

    /// Refreshes every cluster; failures are logged.
    pub async fn refresh_all(&self) {
        let clusters = match self.shared.store.clusters().await {
            Ok(clusters) => clusters,
            Err(error) => {
                error!(error = common::error::chain(&error), "Clusters cannot be read");
                return;
            }
        };
        futures::future::join_all(clusters.iter().map(|c| self.refresh_or_log(c.id))).await;
    }

    pub(super) async fn refresh_or_log(&self, cluster: ClusterId) {
        if let Err(error) = self.refresh_nodes(cluster).await {
            warn!(%cluster, error = common::error::chain(&error), "Node facts cannot be refreshed");
        }
    }

    async fn look_at(&self, cluster: ClusterId) {
        self.refresh_or_log(cluster).await;
        if let Err(reason) = self.try_cql(cluster).await {
            warn!(%cluster, reason, "CQL connection cannot be made");
        }
    }

    /// A cluster without CQL can be managed; only the schema of its backups suffers.
    async fn try_cql(&self, id: ClusterId) -> Result<(), String> {
        let Some(nodes) = self.cached_nodes(id) else { return Ok(()) };
        let Some((address, facts)) = nodes.iter().find(|(_, f)| f.member.up) else { return Ok(()) };
        let Some(cluster) = self.shared.store.cluster(id).await.map_err(|e| common::error::chain(&e))? else {
            return Ok(());
        };
        let secrets = self.shared.store.secrets(id).await.map_err(|e| common::error::chain(&e))?;
        let access = CqlAccess::new(&cluster, secrets);
        let session = access.session(*address, &facts.info).await.map_err(|e| common::error::chain(&e))?;
        session.ping().await.map_err(|e| common::error::chain(&e))
    }
}
