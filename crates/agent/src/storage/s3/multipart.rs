//! Objects in parts, and what interrupted uploads left behind.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use aws_sdk_s3::types::{
    ChecksumAlgorithm, ChecksumType, CompletedMultipartUpload, CompletedPart, MultipartUpload,
};
use futures::FutureExt as _;
use futures::future::BoxFuture;

use super::checksum::{crc32_text, parse_crc32};
use super::direct::{Upload, query_pair};
use super::quirks::etag_md5;
use super::sse::{with_attributes, with_key};
use super::{S3Store, object};
use crate::storage::{
    LargeSpec, LargeUpload, Leftover, ObjectPath, Payload, Result, StorageError, StoredPart,
};

/// Starts an object in parts. With `resume` the newest interrupted upload of the same shape is taken up, and all
/// others of the same key are aborted.
pub(super) async fn begin(
    store: &S3Store,
    path: &ObjectPath,
    spec: LargeSpec,
    resume: bool,
) -> Result<S3Upload> {
    let mut found =
        if resume { interrupted(store, path, path.bucket_and_key().1).await? } else { Vec::new() };
    // Newest first; the rest is rubbish.
    found.sort_by_key(|u| std::cmp::Reverse(u.initiated().map(aws_sdk_s3::primitives::DateTime::as_nanos)));
    let mut taken_up = None;
    for upload in found.iter().filter(|u| u.key() == Some(path.bucket_and_key().1)) {
        let Some(id) = upload.upload_id() else { continue };
        if taken_up.is_none() {
            let parts = stored_parts(store, path, id).await?;
            if fits(&parts, spec) {
                taken_up = Some(S3Upload::new(store, path, id, parts));
                continue;
            }
        }
        abort(store, path, id).await;
    }
    match taken_up {
        Some(upload) => Ok(upload),
        None => create(store, path).await,
    }
}

/// Whether the parts could belong to a file of this shape.
fn fits(parts: &BTreeMap<u32, Stored>, spec: LargeSpec) -> bool {
    !parts.is_empty()
        && parts
            .iter()
            .all(|(index, part)| *index < spec.parts() && part.part.size == spec.range(*index).length)
}

async fn create(store: &S3Store, path: &ObjectPath) -> Result<S3Upload> {
    let (bucket, key) = object(path)?;
    let id = store
        .0
        .pacer
        .run(|| async {
            let client = store.client(bucket).await?;
            let checked = store.0.quirks.crc32;
            let request = client
                .create_multipart_upload()
                .bucket(bucket)
                .key(key)
                .set_checksum_algorithm(checked.then_some(ChecksumAlgorithm::Crc32))
                .set_checksum_type(checked.then_some(ChecksumType::FullObject));
            let answer = with_attributes!(store, request).send().await;
            let answer = answer.map_err(|e| store.error("CreateMultipartUpload", path, e))?;
            answer.upload_id.ok_or_else(|| StorageError::Corrupted {
                path: path.to_string(),
                detail: "the store started an upload without an ID".into(),
            })
        })
        .await?;
    Ok(S3Upload::new(store, path, &id, BTreeMap::new()))
}

/// Interrupted uploads of files in `dir`; abandoned ones are removed. A service without such a listing has none.
pub(super) async fn unfinished(store: &S3Store, dir: &ObjectPath) -> Result<Vec<Leftover>> {
    let prefix = match dir.bucket_and_key().1 {
        "" => String::new(),
        key => format!("{key}/"),
    };
    let uploads = match interrupted(store, dir, &prefix).await {
        Ok(uploads) => uploads,
        Err(StorageError::Service(error)) if error.status == 501 || error.code == "NotImplemented" => {
            Vec::new()
        }
        Err(error) => return Err(error),
    };
    let mut leftovers = Vec::new();
    for upload in &uploads {
        let Some(name) = upload.key().and_then(|k| k.strip_prefix(&prefix)).filter(|n| !n.contains('/'))
        else {
            continue;
        };
        let Some(id) = upload.upload_id() else { continue };
        if is_abandoned(upload) {
            abort(store, &dir.join(name)?, id).await;
        } else {
            leftovers.push(Leftover { name: name.to_owned(), upload: id.to_owned() });
        }
    }
    Ok(leftovers)
}

/// Age at which nobody continues an upload any more: a run is continued for a day.
const ABANDONED: Duration = Duration::from_secs(2 * 24 * 3600);

/// The file of such an upload may be gone from the node, so no later upload of the same key cleans up.
fn is_abandoned(upload: &MultipartUpload) -> bool {
    let started = upload.initiated().and_then(|t| SystemTime::try_from(*t).ok());
    started.is_some_and(|t| SystemTime::now().duration_since(t).is_ok_and(|age| age > ABANDONED))
}

/// Most interrupted uploads that are looked at per directory; more than that is for the bucket's lifecycle rules.
const MAX_INTERRUPTED: usize = 10_000;

async fn interrupted(store: &S3Store, path: &ObjectPath, prefix: &str) -> Result<Vec<MultipartUpload>> {
    let bucket = path.bucket_and_key().0;
    let (mut uploads, mut marker) = (Vec::new(), (None, None));
    loop {
        let page = store
            .0
            .pacer
            .run(|| async {
                let client = store.client(bucket).await?;
                let request = client
                    .list_multipart_uploads()
                    .bucket(bucket)
                    .prefix(prefix)
                    .set_key_marker(marker.0.clone())
                    .set_upload_id_marker(marker.1.clone())
                    .set_request_payer(store.0.encryption.payer.clone());
                request.send().await.map_err(|e| store.error("ListMultipartUploads", path, e))
            })
            .await?;
        marker = (page.next_key_marker.clone(), page.next_upload_id_marker.clone());
        let more = page.is_truncated == Some(true) && marker.0.is_some();
        uploads.extend(page.uploads.unwrap_or_default());
        if !more || uploads.len() >= MAX_INTERRUPTED {
            return Ok(uploads);
        }
    }
}

#[derive(Clone, Debug)]
struct Stored {
    part: StoredPart,
    etag: String,
}

async fn stored_parts(store: &S3Store, path: &ObjectPath, id: &str) -> Result<BTreeMap<u32, Stored>> {
    let (bucket, key) = object(path)?;
    let (mut parts, mut marker) = (BTreeMap::new(), None);
    loop {
        let page = store
            .0
            .pacer
            .run(|| async {
                let client = store.client(bucket).await?;
                let request = client
                    .list_parts()
                    .bucket(bucket)
                    .key(key)
                    .upload_id(id)
                    .set_part_number_marker(marker.clone());
                let answer = with_key!(store, request).send().await;
                answer.map_err(|e| store.error("ListParts", path, e))
            })
            .await;
        let page = match page {
            Ok(page) => page,
            // It was completed or aborted just now.
            Err(error) if is_gone(&error) => return Ok(BTreeMap::new()),
            Err(error) => return Err(error),
        };
        for part in page.parts() {
            let (Some(number), Some(size), Some(etag)) = (part.part_number(), part.size(), part.e_tag())
            else {
                continue;
            };
            let (Ok(number), Ok(size)) = (u32::try_from(number), u64::try_from(size)) else { continue };
            let md5 = store.0.quirks.etag_is_md5.then(|| etag_md5(etag)).flatten();
            let stored = StoredPart { size, crc32: part.checksum_crc32().and_then(parse_crc32), md5 };
            parts.insert(number.saturating_sub(1), Stored { part: stored, etag: etag.to_owned() });
        }
        marker = page.next_part_number_marker.clone();
        if page.is_truncated != Some(true) || marker.is_none() {
            return Ok(parts);
        }
    }
}

fn is_gone(error: &StorageError) -> bool {
    error.is_not_found() || error.service().is_some_and(|s| s.code == "NoSuchUpload")
}

async fn abort(store: &S3Store, path: &ObjectPath, id: &str) {
    let aborted = async {
        let (bucket, key) = object(path)?;
        store
            .0
            .pacer
            .run(|| async {
                let client = store.client(bucket).await?;
                let request = client
                    .abort_multipart_upload()
                    .bucket(bucket)
                    .key(key)
                    .upload_id(id)
                    .set_request_payer(store.0.encryption.payer.clone());
                let answer = request.send().await;
                answer.map(drop).map_err(|e| store.error("AbortMultipartUpload", path, e))
            })
            .await
    };
    match aborted.await {
        Err(error) if !is_gone(&error) => {
            tracing::warn!(path = %path, error = %common::error::chain(&error), "parts of an upload stay in the bucket");
        }
        _ => {}
    }
}

/// An object on its way, part by part.
pub(super) struct S3Upload {
    store: S3Store,
    path: ObjectPath,
    id: String,
    stored: BTreeMap<u32, Stored>,
    done: Mutex<BTreeMap<u32, CompletedPart>>,
    size: std::sync::atomic::AtomicU64,
}

impl S3Upload {
    fn new(store: &S3Store, path: &ObjectPath, id: &str, stored: BTreeMap<u32, Stored>) -> Self {
        let (store, path, id) = (store.clone(), path.clone(), id.to_owned());
        Self { store, path, id, stored, done: Mutex::default(), size: 0.into() }
    }

    fn done(&self) -> MutexGuard<'_, BTreeMap<u32, CompletedPart>> {
        self.done.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, index: u32, etag: Option<String>, crc32: Option<u32>, size: u64) {
        let crc32 = crc32.filter(|_| self.store.0.quirks.crc32).map(crc32_text);
        let part = CompletedPart::builder()
            .part_number(part_number(index))
            .set_e_tag(etag)
            .set_checksum_crc32(crc32)
            .build();
        if self.done().insert(index, part).is_none() {
            self.size.fetch_add(size, std::sync::atomic::Ordering::Relaxed);
        }
    }

    async fn put_once(&self, index: u32, part: &Payload) -> Result<()> {
        let query = format!(
            "?{}&{}",
            query_pair("partNumber", &part_number(index).to_string()),
            query_pair("uploadId", &self.id)
        );
        let headers = self.store.key_headers();
        let upload = Upload { operation: "UploadPart", path: &self.path, query, headers, payload: part };
        let etag = self.store.send_payload(upload).await?;
        self.add(index, etag, Some(part.crc32), part.length());
        Ok(())
    }

    async fn complete(&self, crc32: u32) -> Result<()> {
        let store = &self.store;
        let (bucket, key) = object(&self.path)?;
        let client = store.client(bucket).await?;
        let parts = self.done().values().cloned().collect();
        let checked = store.0.quirks.crc32;
        let request = client
            .complete_multipart_upload()
            .bucket(bucket)
            .key(key)
            .upload_id(&self.id)
            .multipart_upload(CompletedMultipartUpload::builder().set_parts(Some(parts)).build())
            .set_checksum_crc32(checked.then(|| crc32_text(crc32)))
            .set_checksum_type(checked.then_some(ChecksumType::FullObject));
        let answer = with_key!(store, request).send().await;
        let answer = answer.map_err(|e| store.error("CompleteMultipartUpload", &self.path, e))?;
        if answer.e_tag().is_none_or(|etag| etag.trim_matches('"').is_empty()) {
            // Ceph answers before it is sure.
            return self.confirm(crc32).await;
        }
        Ok(())
    }

    /// Looks whether the object is there as sent.
    async fn confirm(&self, crc32: u32) -> Result<()> {
        let info = self.store.head(&self.path).await?;
        let size = self.size.load(std::sync::atomic::Ordering::Relaxed);
        if info.size == size && info.crc32.is_none_or(|stored| stored == crc32) {
            return Ok(());
        }
        let detail = format!("sizes differ {size} vs {}", info.size);
        Err(StorageError::Corrupted { path: self.path.to_string(), detail })
    }
}

/// S3 counts parts from 1.
fn part_number(index: u32) -> i32 {
    i32::try_from(index).unwrap_or(i32::MAX - 1) + 1
}

impl LargeUpload for S3Upload {
    fn stored(&self, index: u32) -> Option<StoredPart> {
        self.stored.get(&index).map(|s| s.part)
    }

    fn keep(&self, index: u32) {
        if let Some(stored) = self.stored.get(&index) {
            self.add(index, Some(stored.etag.clone()), stored.part.crc32, stored.part.size);
        }
    }

    fn put_part<'a>(&'a self, index: u32, part: &'a Payload) -> BoxFuture<'a, Result<()>> {
        async move { self.store.0.pacer.run(|| self.put_once(index, part)).await }.boxed()
    }

    fn finish<'a>(&'a self, crc32: u32) -> BoxFuture<'a, Result<()>> {
        async move {
            let tried = std::sync::atomic::AtomicBool::new(false);
            self.store
                .0
                .pacer
                .run(|| async {
                    let again = tried.swap(true, std::sync::atomic::Ordering::Relaxed);
                    match self.complete(crc32).await {
                        // The answer to an earlier try was lost: the upload is gone because it succeeded.
                        Err(error) if again && is_gone(&error) => self.confirm(crc32).await,
                        other => other,
                    }
                })
                .await
        }
        .boxed()
    }

    fn abort<'a>(&'a self) -> BoxFuture<'a, ()> {
        async move {
            // Without parts there is nothing that the setting could leave.
            if !self.store.0.config.leave_parts_on_error || self.done().is_empty() {
                abort(&self.store, &self.path, &self.id).await;
            }
        }
        .boxed()
    }

    fn id(&self) -> &str {
        &self.id
    }
}
