//! Who may delete what a running backup relies on (spec backup-format.md section 11, 22).
//!
//! Between MANIFEST and MOVE_MANIFEST a backup counts on files that the location holds already. `backup delete`
//! must not remove them meanwhile, and reads the manifests only once it is sure to be alone.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use common::ids::ClusterId;
use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};

/// Held by a backup while it relies on stored files.
pub type UploadGuard = OwnedRwLockReadGuard<()>;

/// Held by a deletion from its first look at the manifests to its end.
pub type DeleteGuard = OwnedRwLockWriteGuard<()>;

/// One lock per cluster.
#[derive(Clone, Default)]
pub struct ClusterLocks {
    locks: Arc<Mutex<HashMap<ClusterId, Arc<RwLock<()>>>>>,
}

impl ClusterLocks {
    fn of(&self, cluster: ClusterId) -> Arc<RwLock<()>> {
        self.locks.lock().unwrap_or_else(PoisonError::into_inner).entry(cluster).or_default().clone()
    }

    /// Waits until no deletion works on the cluster; deletions take minutes at most.
    pub async fn upload(&self, cluster: ClusterId) -> UploadGuard {
        self.of(cluster).read_owned().await
    }

    /// The right to delete, or `None` while a backup relies on stored files. That may last for hours: nobody
    /// should wait for it in a request.
    pub fn delete(&self, cluster: ClusterId) -> Option<DeleteGuard> {
        self.of(cluster).try_write_owned().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn backups_share_and_deletions_do_not() {
        let locks = ClusterLocks::default();
        let (one, other) = (ClusterId::random(), ClusterId::random());
        let uploads = (locks.upload(one).await, locks.upload(one).await);
        assert!(locks.delete(one).is_none() && locks.delete(other).is_some());
        drop(uploads);
        let deletion = locks.delete(one).unwrap();
        assert!(locks.delete(one).is_none());
        drop(deletion);
        locks.upload(one).await;
    }
}
