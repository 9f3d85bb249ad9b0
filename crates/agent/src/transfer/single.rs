//! Single files: copy, move, store what a request brings (spec agent.md 2.6.9, 2.6.11).

use bytes::Bytes;
use common::api::agent::{FileOutcome, JobFile};
use futures::{Stream, StreamExt as _, TryStreamExt as _};

use super::destination::stat;
use super::equality::Unproven;
use super::send::{OpenFile, Sending};
use super::{Engine, TransferError};
use crate::jobs::JobContext;
use crate::storage::{LargeSpec, ObjectInfo, Payload, Place, Result, StorageError};

impl Engine {
    /// Copies a file; one that is there already is left alone.
    ///
    /// # Errors
    /// The source is missing, or a store failed.
    pub async fn copy_file(
        &self,
        context: &JobContext,
        from: &Place,
        to: &Place,
    ) -> Result<(), TransferError> {
        if is_same_place(from, to) {
            return Ok(());
        }
        let open = OpenFile::open(from.clone(), None).await?;
        if self.is_copied(context, &open, to).await? {
            return Ok(());
        }
        if from.store.provider() == to.store.provider() {
            to.store.copy(&from.path, &to.path).await?;
            return Ok(());
        }
        self.transmit(context, &open, to).await
    }

    /// Moves a file; the source goes once the destination has it.
    ///
    /// # Errors
    /// The source is missing, or a store failed.
    pub async fn move_file(
        &self,
        context: &JobContext,
        from: &Place,
        to: &Place,
    ) -> Result<(), TransferError> {
        if is_same_place(from, to) {
            return Ok(());
        }
        let open = OpenFile::open(from.clone(), None).await?;
        if !self.is_copied(context, &open, to).await? {
            if from.store.provider() == to.store.provider() {
                from.store.rename(&from.path, &to.path).await?;
                context.renamed(1);
                return Ok(());
            }
            self.transmit(context, &open, to).await?;
        }
        drop(open);
        from.store.delete(&from.path).await?;
        context.deleted(1);
        Ok(())
    }

    /// Whether the destination holds the file already.
    async fn is_copied(
        &self,
        context: &JobContext,
        open: &OpenFile,
        to: &Place,
    ) -> Result<bool, TransferError> {
        let Some(known) = stat(to).await? else { return Ok(false) };
        let equal = self.is_equal(open, to, &known, Unproven::Equal).await?;
        context.checked(to.path.file_name(), known.size);
        if !equal && self.immutable {
            return Err(TransferError::Immutable { path: to.to_string() });
        }
        Ok(equal)
    }

    async fn transmit(&self, context: &JobContext, open: &OpenFile, to: &Place) -> Result<(), TransferError> {
        let transfer = context.transferring(to.path.file_name(), open.source.size());
        let (meter, limits) = (transfer.meter().clone(), self.limits_of_job(1, to));
        let how = Sending { meter, limits, begun: None, resume: false };
        match self.send(open, to, how).await {
            Ok(_) => {
                transfer.done();
                Ok(())
            }
            Err(error) => {
                transfer.failed(&common::error::chain(&error));
                Err(error.into())
            }
        }
    }

    /// Stores what `content` brings; the same content is not stored again. `length` is the announced one.
    ///
    /// # Errors
    /// The content ends early or its stream fails; nothing is changed then. Or the store failed.
    pub async fn put(
        &self,
        context: &JobContext,
        to: &Place,
        length: Option<u64>,
        content: impl Stream<Item = std::io::Result<Bytes>> + Send,
    ) -> Result<(), TransferError> {
        let rules = to.store.part_rules();
        let part_size = rules.chunk.min(self.buffers.budget() / 8).max(rules.min_part);
        let mut content = Blocks::new(content);
        // One byte more than announced, so that too many are noticed.
        let room =
            |received: u64| length.map_or(part_size, |all| part_size.min(all.saturating_sub(received) + 1));
        let first = content.next(self, room(0), to).await?;
        let whole = first.length() < part_size || length == Some(part_size);
        if whole {
            check_length(to, length, first.length())?;
            if self.is_stored(to, &first).await? {
                return Ok(());
            }
            return self.put_small(context, to, first).await;
        }
        let spec = LargeSpec { size: length.unwrap_or(0), part_size };
        let upload = to.store.begin_large(&to.path, spec, false).await?;
        let sent = async {
            let (mut index, mut part, mut size) = (0, first, 0);
            let mut crc32 = crc32fast::Hasher::new();
            while part.length() > 0 {
                upload.put_part(index, &part).await?;
                crc32.combine(&crc32fast::Hasher::new_with_initial_len(part.crc32, part.length()));
                size += part.length();
                index += 1;
                // The part goes before there is room for the next: who waits holds nothing that others wait for.
                drop(part);
                part = content.next(self, room(size), to).await?;
            }
            check_length(to, length, size)?;
            upload.finish(crc32.finalize()).await
        };
        let outcome = sent.await;
        if outcome.is_err() {
            upload.abort().await;
        }
        Ok(outcome?)
    }

    async fn put_small(
        &self,
        context: &JobContext,
        to: &Place,
        payload: Payload,
    ) -> Result<(), TransferError> {
        let transfer = context.transferring(to.path.file_name(), payload.length());
        let payload = payload.metered(transfer.meter().clone());
        match to.store.put(&to.path, &payload).await {
            Ok(()) => {
                transfer.done();
                Ok(())
            }
            Err(error) => {
                transfer.failed(&common::error::chain(&error));
                Err(error.into())
            }
        }
    }

    /// Whether the store provably holds these bytes. A store with retention refuses to have them replaced.
    async fn is_stored(&self, to: &Place, payload: &Payload) -> Result<bool, TransferError> {
        let Some(known) = stat(to).await? else { return Ok(false) };
        let equal = known.size == payload.length() && self.has_content(to, &known, payload).await?;
        if !equal && self.immutable {
            return Err(TransferError::Immutable { path: to.to_string() });
        }
        Ok(equal)
    }

    async fn has_content(&self, to: &Place, known: &ObjectInfo, payload: &Payload) -> Result<bool> {
        if to.store.is_local() {
            let source = to.store.source(&to.path, None).await?;
            return Ok(self.sums(&*source).await?.crc32 == payload.crc32);
        }
        Ok(match (known.crc32, known.md5) {
            (Some(crc32), _) => crc32 == payload.crc32,
            (None, Some(sum)) => payload.md5() == Some(sum),
            (None, None) => false,
        })
    }

    /// Reads files and reports their CRC-32 in the job's list; nothing is written (spec agent.md 4a, `verify`).
    ///
    /// # Errors
    /// Some files could not be read; or the job was stopped.
    pub async fn verify(
        &self,
        context: &JobContext,
        dir: &Place,
        paths: &[String],
    ) -> Result<(), TransferError> {
        let width = self.transfers.get() as usize * super::SMALL_PER_TRANSFER;
        let work = async {
            let mut failed = 0;
            let mut first = None;
            let checks = futures::stream::iter(paths.iter().cloned())
                .map(|name| async move { self.verify_file(context, dir, &name).await })
                .buffer_unordered(width.clamp(1, super::MAX_SMALL));
            let mut checks = std::pin::pin!(checks);
            while let Some(outcome) = checks.next().await {
                if let Err(failure) = outcome {
                    failed += 1;
                    first.get_or_insert(failure);
                }
            }
            match first {
                None => Ok(()),
                Some((name, error)) => Err(TransferError::Files { failed, total: paths.len(), name, error }),
            }
        };
        tokio::select! {
            biased;
            () = context.cancel().cancelled() => Err(TransferError::Stopped),
            outcome = work => outcome,
        }
    }

    async fn verify_file(
        &self,
        context: &JobContext,
        dir: &Place,
        name: &str,
    ) -> Result<(), (String, String)> {
        let read = async {
            let place = Place::new(dir.store.clone(), dir.path.join(name)?);
            let mut reader = place.store.open(&place.path, None).await?;
            let transfer = context.transferring(name, reader.length);
            let mut crc32 = crc32fast::Hasher::new();
            while let Some(block) = reader.bytes.try_next().await? {
                crc32.update(&block);
                transfer.meter().add(block.len() as u64);
            }
            transfer.done();
            Ok::<_, StorageError>((reader.length, crc32.finalize()))
        };
        let mut file = JobFile { name: name.to_owned(), ..JobFile::default() };
        match read.await {
            Ok((size, crc32)) => {
                (file.size, file.crc32) = (size, Some(crc32));
                context.log_file(&file);
                Ok(())
            }
            Err(error) => {
                let error = common::error::chain(&error);
                context.error(&error);
                (file.outcome, file.error) = (FileOutcome::Failed, error.clone());
                context.log_file(&file);
                Err((name.to_owned(), error))
            }
        }
    }
}

fn is_same_place(a: &Place, b: &Place) -> bool {
    a.store.provider() == b.store.provider() && a.path == b.path
}

fn check_length(to: &Place, announced: Option<u64>, found: u64) -> Result<()> {
    match announced {
        Some(announced) if announced != found => Err(StorageError::Corrupted {
            path: to.path.to_string(),
            detail: format!("{found} bytes came instead of {announced}"),
        }),
        _ => Ok(()),
    }
}

/// Cuts a stream into payloads of equal size.
struct Blocks<S> {
    stream: std::pin::Pin<Box<S>>,
    left: Bytes,
}

impl<S: Stream<Item = std::io::Result<Bytes>>> Blocks<S> {
    fn new(stream: S) -> Self {
        Self { stream: Box::pin(stream), left: Bytes::new() }
    }

    /// The next `size` bytes, fewer at the end, none after it. They are read into a buffer of the engine's budget.
    async fn next(&mut self, engine: &Engine, size: u64, to: &Place) -> Result<Payload> {
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        let mut buffer = engine.buffers.take(size).await;
        let space = buffer.space(size);
        let mut filled = 0;
        while filled < size {
            if self.left.is_empty() {
                match self.stream.try_next().await {
                    Ok(Some(bytes)) => self.left = bytes,
                    Ok(None) => break,
                    Err(error) => return Err(StorageError::io("receive", to.path.as_str(), error)),
                }
            }
            let take = self.left.len().min(size - filled);
            space[filled..filled + take].copy_from_slice(&self.left.split_to(take));
            filled += take;
        }
        buffer.space(filled);
        let hashes = to.store.wants();
        crate::storage::blocking::blocking(move || Ok(Payload::new(buffer.freeze(), hashes))).await
    }
}
