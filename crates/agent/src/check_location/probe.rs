//! The steps of the check: what a backup does to a bucket, with a file of one byte.

use std::cell::Cell;
use std::fmt;

use bytes::Bytes;
use futures::TryStreamExt as _;

use crate::storage::{Depth, LargeSpec, LargeUpload, ObjectPath, Payload, Place, Result, StorageError};

/// Content of the scratch files.
const CONTENT: &[u8] = b"1";
/// A file that is written at once.
const WHOLE: &str = "whole";
/// One that is sent in parts, interrupted and continued.
const CONTINUED: &str = "continued";
/// One that is sent in parts and given up.
const GIVEN_UP: &str = "given-up";

/// What the store lacks where it does not show uploads that were interrupted.
const NO_RESUME: &str =
    "this store does not show interrupted uploads: large files start over after an interruption";

/// What cannot be known there either.
const UNSEEN: &str = "whether the parts are gone cannot be seen";

/// What is tried, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Step {
    Put,
    List,
    Get,
    Delete,
    MultipartStart,
    MultipartPart,
    MultipartList,
    MultipartContinue,
    MultipartFinish,
    MultipartAbort,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Put => "put",
            Self::List => "list",
            Self::Get => "get",
            Self::Delete => "delete",
            Self::MultipartStart => "multipart start",
            Self::MultipartPart => "multipart part",
            Self::MultipartList => "multipart list",
            Self::MultipartContinue => "multipart continue",
            Self::MultipartFinish => "multipart finish",
            Self::MultipartAbort => "multipart abort",
        })
    }
}

/// Told each step with its outcome, and what is worth knowing about one that succeeded.
type Told<'a> = dyn Fn(Step, std::result::Result<Option<&'static str>, &StorageError>) + 'a;

/// Tries everything below `place` and takes it away again. After a refusal of one step the others are tried too;
/// anything else, such as a missing bucket, is the same for all of them and ends the probe.
pub(super) async fn probe(place: &Place, told: &Told<'_>) {
    let name = format!("scylla-manager-agent-{:08x}", rand::random::<u32>());
    let Ok(dir) = place.path.join(&name) else { return };
    let probe = Probe { place, dir, told, hopeless: Cell::new(false), failed: Cell::new(false) };
    probe.whole().await;
    if !place.store.is_local() {
        probe.multipart().await;
    }
    // Whatever happened, leave nothing behind.
    if let Err(error) = place.store.purge(&probe.dir).await
        && !error.is_not_found()
        && !probe.failed.get()
    {
        tracing::warn!(directory = %probe.dir, error = common::error::chain(&error), "Scratch directory is left");
    }
}

struct Probe<'a> {
    place: &'a Place,
    dir: ObjectPath,
    told: &'a Told<'a>,
    /// No other step can succeed.
    hopeless: Cell<bool>,
    failed: Cell<bool>,
}

impl Probe<'_> {
    async fn whole(&self) {
        let written = self.put().await;
        self.list(written.is_some()).await;
        let Some(file) = written else { return };
        self.step(Step::Get, self.get(&file)).await;
        self.step(Step::Delete, self.place.store.delete(&file)).await;
    }

    async fn put(&self) -> Option<ObjectPath> {
        let file = self.dir.join(WHOLE).ok()?;
        let payload = self.payload();
        self.step(Step::Put, self.place.store.put(&file, &payload)).await.map(|()| file)
    }

    /// The listing must show what was written.
    async fn list(&self, written: bool) {
        let listed = async {
            let mut entries = self.place.store.list(&self.dir, Depth::One);
            let mut found = false;
            while let Some(entry) = entries.try_next().await? {
                found |= entry.path == WHOLE;
            }
            let missing = || StorageError::NotFound { path: format!("{}/{WHOLE}", self.dir) };
            if found || !written { Ok(()) } else { Err(missing()) }
        };
        self.step(Step::List, listed).await;
    }

    async fn get(&self, file: &ObjectPath) -> Result<()> {
        let reader = self.place.store.open(file, None).await?;
        let read = reader.bytes.try_fold(Vec::new(), |mut all, bytes| async move {
            all.extend_from_slice(&bytes);
            Ok(all)
        });
        let read = read.await?;
        if read == CONTENT {
            return Ok(());
        }
        let detail = format!("{} bytes were read that differ from those written", read.len());
        Err(StorageError::Corrupted { path: file.to_string(), detail })
    }

    /// An upload in parts that is interrupted and continued, then one that is given up.
    async fn multipart(&self) {
        let Ok(file) = self.dir.join(CONTINUED) else { return };
        let Some(upload) = self.step(Step::MultipartStart, self.begin(&file, false)).await else { return };
        let payload = self.payload();
        let sent = self.step(Step::MultipartPart, upload.put_part(0, &payload)).await.is_some();
        let shown = self.shows(Step::MultipartList, CONTINUED).await;
        let upload = if sent && shown == Some(true) { self.take_up(&file, upload).await } else { upload };
        if !sent || self.step(Step::MultipartFinish, upload.finish(payload.crc32)).await.is_none() {
            upload.abort().await;
        }
        self.abort(shown == Some(true)).await;
    }

    /// Continues an interrupted upload with the part that is there.
    async fn take_up(&self, file: &ObjectPath, first: Box<dyn LargeUpload>) -> Box<dyn LargeUpload> {
        let again = async {
            let again = self.begin(file, true).await?;
            if again.stored(0).is_some() {
                again.keep(0);
            } else {
                // Another upload: the store shows no parts. The first one is gone.
                again.put_part(0, &self.payload()).await?;
            }
            Ok(again)
        };
        self.step(Step::MultipartContinue, again).await.unwrap_or(first)
    }

    /// `shown`: the store shows interrupted uploads, so that one can see whether they go.
    async fn abort(&self, shown: bool) {
        let Ok(file) = self.dir.join(GIVEN_UP) else { return };
        if self.hopeless.get() {
            return;
        }
        let aborted = async {
            self.begin(&file, false).await?.abort().await;
            if shown && self.has_unfinished(GIVEN_UP).await? {
                let detail = "the upload is still there after it was aborted".to_owned();
                return Err(StorageError::Corrupted { path: file.to_string(), detail });
            }
            Ok(())
        };
        match aborted.await {
            Ok(()) => (self.told)(Step::MultipartAbort, Ok((!shown).then_some(UNSEEN))),
            Err(error) => self.note_failure(Step::MultipartAbort, &error),
        }
    }

    /// Whether the store shows an interrupted upload.
    async fn shows(&self, step: Step, name: &str) -> Option<bool> {
        if self.hopeless.get() {
            return None;
        }
        let shown = self.has_unfinished(name).await;
        match &shown {
            Ok(shown) => (self.told)(step, Ok((!shown).then_some(NO_RESUME))),
            Err(error) => self.note_failure(step, error),
        }
        shown.ok()
    }

    async fn has_unfinished(&self, name: &str) -> Result<bool> {
        let leftovers = self.place.store.unfinished(&self.dir).await?;
        Ok(leftovers.iter().any(|leftover| leftover.name == name))
    }

    async fn begin(&self, file: &ObjectPath, resume: bool) -> Result<Box<dyn LargeUpload>> {
        let spec = LargeSpec::whole(CONTENT.len() as u64);
        self.place.store.begin_large(file, spec, resume).await
    }

    fn payload(&self) -> Payload {
        Payload::new(Bytes::from_static(CONTENT), self.place.store.wants())
    }

    async fn step<T>(&self, step: Step, work: impl Future<Output = Result<T>>) -> Option<T> {
        if self.hopeless.get() {
            return None;
        }
        match work.await {
            Ok(value) => {
                (self.told)(step, Ok(None));
                Some(value)
            }
            Err(error) => {
                self.note_failure(step, &error);
                None
            }
        }
    }

    fn note_failure(&self, step: Step, error: &StorageError) {
        self.failed.set(true);
        self.hopeless.set(!is_of_this_step(error));
        (self.told)(step, Err(error));
    }
}

/// Whether another kind of request may fare better: each needs a permission of its own.
fn is_of_this_step(error: &StorageError) -> bool {
    match error {
        StorageError::Service(answer) => {
            answer.code == "AccessDenied" || matches!(answer.status, 405 | 501) || answer.code == "403"
        }
        StorageError::Corrupted { .. } | StorageError::NotFound { .. } => true,
        _ => false,
    }
}
