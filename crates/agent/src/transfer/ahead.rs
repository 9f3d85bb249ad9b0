//! Uploads of large files that are begun while the destination is still being looked at.
//!
//! A listing and the beginning of an upload take a round trip each, and most files of a job turn out to be missing: so
//! both are asked for at once. What turns out not to be needed is aborted.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use futures::future::join_all;
use tokio_util::sync::CancellationToken;

use super::order::{SourceFile, Unit};
use super::parts::{Plan, plan};
use super::worker::LAST_MOMENT;
use crate::storage::{LargeUpload, Leftover, Place};

/// Begun uploads that nobody has taken yet, by file name.
#[derive(Default)]
pub(super) struct Ahead(Mutex<HashMap<String, Begun>>);

struct Begun {
    /// Size of the file at that time.
    size: u64,
    upload: Box<dyn LargeUpload>,
}

impl Ahead {
    /// Begins uploads of the files, unless they go to a local directory, which takes no time to begin. What the store is
    /// asked for when the job is stopped has a moment to be answered.
    pub(super) async fn begin(&self, stop: &CancellationToken, to: &Place, units: &[Unit], budget: u64) {
        if to.store.is_local() {
            return;
        }
        let too_late = async {
            stop.cancelled().await;
            tokio::time::sleep(LAST_MOMENT).await;
        };
        tokio::select! {
            _ = join_all(units.iter().map(|unit| self.begin_one(to, &unit.file, budget))) => {}
            () = too_late => {}
        }
    }

    /// Where this fails the file's own turn shows why.
    async fn begin_one(&self, to: &Place, file: &SourceFile, budget: u64) {
        let plan = plan(file.size, to.store.part_rules(), budget);
        let (Plan::Parts(spec) | Plan::Streamed(spec)) = plan else { return };
        let Ok(path) = to.path.join(&file.name) else { return };
        match to.store.begin_large(&path, spec, false).await {
            Ok(upload) => {
                self.begun().insert(file.name.clone(), Begun { size: file.size, upload });
            }
            Err(error) => {
                let error = common::error::chain(&error);
                tracing::debug!(%path, error, "an upload could not be begun ahead of its turn");
            }
        }
    }

    /// Whether that upload is one of these.
    pub(super) fn has(&self, leftover: &Leftover) -> bool {
        self.begun().get(&leftover.name).is_some_and(|b| b.upload.id() == leftover.upload)
    }

    /// The upload of the file, if it was begun and the file is still as it was.
    pub(super) fn take(&self, name: &str, size: u64) -> Option<Box<dyn LargeUpload>> {
        let mut begun = self.begun();
        if begun.get(name)?.size != size {
            return None;
        }
        begun.remove(name).map(|b| b.upload)
    }

    /// Aborts what nobody has taken. A store that does not answer is not waited for: who uploads the file next cleans up.
    pub(super) async fn abort_rest(&self) {
        let rest = std::mem::take(&mut *self.begun());
        let abort = join_all(rest.values().map(|b| b.upload.abort()));
        if tokio::time::timeout(LAST_MOMENT, abort).await.is_err() {
            tracing::debug!("the store did not confirm in time that uploads were aborted");
        }
    }

    fn begun(&self) -> MutexGuard<'_, HashMap<String, Begun>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
