//! Deletions in batches.

use std::collections::{BTreeMap, BTreeSet};

use aws_sdk_s3::types::{Delete, ObjectIdentifier};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::{StreamExt as _, TryStreamExt as _};

use super::{S3Store, list, object};
use crate::storage::payload::md5;
use crate::storage::{DeleteReport, Depth, ObjectPath, Result, StorageError};

/// Keys per request (S3 limit).
const BATCH: usize = 1000;
/// From so many names in one directory on, a listing is cheaper than a HEAD for each.
const LIST_FROM: usize = 16;

/// Deletes an object that is known to exist.
pub(super) async fn one(store: &S3Store, path: &ObjectPath) -> Result<()> {
    let (bucket, key) = object(path)?;
    store
        .0
        .pacer
        .run(|| async {
            let client = store.client(bucket).await?;
            let payer = store.0.encryption.payer.clone();
            let request = client.delete_object().bucket(bucket).key(key).set_request_payer(payer);
            request.send().await.map(drop).map_err(|e| store.error("DeleteObject", path, e))
        })
        .await
}

/// Deletes those of `paths` that exist.
pub(super) async fn many(store: &S3Store, paths: &[ObjectPath]) -> Result<DeleteReport> {
    let mut by_dir: BTreeMap<ObjectPath, Vec<ObjectPath>> = BTreeMap::new();
    for path in paths {
        object(path)?;
        by_dir.entry(path.parent()).or_default().push(path.clone());
    }
    let mut by_bucket: BTreeMap<String, Vec<ObjectPath>> = BTreeMap::new();
    for (dir, mut wanted) in by_dir {
        wanted.sort();
        wanted.dedup();
        let found = match existing(store, &dir, wanted).await {
            // Without the bucket there is nothing to delete either.
            Err(StorageError::BucketNotFound { .. }) => Vec::new(),
            other => other?,
        };
        by_bucket.entry(dir.bucket_and_key().0.to_owned()).or_default().extend(found);
    }
    let mut report = DeleteReport::default();
    for (bucket, found) in by_bucket {
        for batch in found.chunks(BATCH) {
            delete_batch(store, &bucket, batch, &mut report).await?;
        }
    }
    Ok(report)
}

/// Those of the sorted `wanted` names in `dir` that exist.
async fn existing(store: &S3Store, dir: &ObjectPath, wanted: Vec<ObjectPath>) -> Result<Vec<ObjectPath>> {
    if wanted.len() < LIST_FROM {
        return heads(store, wanted).await;
    }
    let (Some(first), Some(last)) = (wanted.first().cloned(), wanted.last().cloned()) else {
        return Ok(wanted);
    };
    let mut missing: BTreeSet<String> = wanted.iter().map(|p| p.bucket_and_key().1.to_owned()).collect();
    let mut found = Vec::new();
    // Start just before the first name, so that neighbours with smaller names are not read.
    let (prefix, key) = (list::prefix(dir), first.bucket_and_key().1);
    let start =
        key.char_indices().next_back().map(|(at, _)| key[..at].to_owned()).filter(|s| s.len() > prefix.len());
    let budget = wanted.len() / 2;
    let pages = list::pages(store, dir, prefix, Depth::One, start);
    let mut pages = std::pin::pin!(pages.take(budget.max(1)));
    while let Some(page) = pages.try_next().await? {
        let mut past = false;
        for key in page.contents().iter().filter_map(|o| o.key()) {
            past |= key > last.bucket_and_key().1;
            if missing.remove(key) {
                found.push(dir.join(key.rsplit('/').next().unwrap_or_default())?);
            }
        }
        if past || missing.is_empty() || page.is_truncated != Some(true) {
            return Ok(found);
        }
    }
    // The directory is much larger than what is asked for.
    let rest = missing.iter().map(|key| dir.join(key.rsplit('/').next().unwrap_or_default()));
    found.extend(heads(store, rest.collect::<std::result::Result<_, _>>()?).await?);
    Ok(found)
}

async fn heads(store: &S3Store, paths: Vec<ObjectPath>) -> Result<Vec<ObjectPath>> {
    let checks = paths.into_iter().map(|path| async move {
        match store.head(&path).await {
            Ok(_) => Ok(Some(path)),
            Err(StorageError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    });
    let found: Vec<Option<ObjectPath>> =
        futures::stream::iter(checks).buffer_unordered(store.0.checkers).try_collect().await?;
    Ok(found.into_iter().flatten().collect())
}

async fn delete_batch(
    store: &S3Store,
    bucket: &str,
    batch: &[ObjectPath],
    report: &mut DeleteReport,
) -> Result<()> {
    let keys: Vec<String> = batch.iter().map(|p| p.bucket_and_key().1.to_owned()).collect();
    let outcome = delete_keys(store, bucket, &keys).await?;
    let failed: BTreeMap<String, String> = outcome.into_iter().collect();
    for path in batch {
        match failed.get(path.bucket_and_key().1) {
            Some(reason) => report.failed.push((path.clone(), reason.clone())),
            None => report.deleted += 1,
        }
    }
    Ok(())
}

/// Deletes keys of one bucket and returns those that stayed, with the reason.
async fn delete_keys(store: &S3Store, bucket: &str, keys: &[String]) -> Result<Vec<(String, String)>> {
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    let target = ObjectPath::parse(bucket)?;
    let identifiers: std::result::Result<Vec<_>, _> =
        keys.iter().map(|key| ObjectIdentifier::builder().key(key).build()).collect();
    let delete = identifiers.and_then(|all| Delete::builder().set_objects(Some(all)).quiet(true).build());
    let delete =
        delete.map_err(|e| StorageError::Config { provider: super::PROVIDER, reason: e.to_string() })?;
    let answer = store
        .0
        .pacer
        .run(|| async {
            let client = store.client(bucket).await?;
            let request = client
                .delete_objects()
                .bucket(bucket)
                .delete(delete.clone())
                .set_request_payer(store.0.encryption.payer.clone());
            let request = request.customize().mutate_request(|request| {
                // Older services know no other checksum for this request, and demand one.
                if let Some(body) = request.body().bytes().map(|b| STANDARD.encode(md5(b))) {
                    request.headers_mut().insert("content-md5", body);
                }
            });
            request.send().await.map_err(|e| store.error("DeleteObjects", &target, e))
        })
        .await;
    match answer {
        Ok(answer) => Ok(answer
            .errors()
            .iter()
            .map(|e| {
                let reason =
                    format!("{} (code:{})", e.message().unwrap_or_default(), e.code().unwrap_or_default());
                (e.key().unwrap_or_default().to_owned(), reason)
            })
            .collect()),
        // A service without this request.
        Err(StorageError::Service(error)) if error.status == 501 || error.code == "NotImplemented" => {
            delete_singly(store, &target, keys).await
        }
        Err(error) => Err(error),
    }
}

async fn delete_singly(
    store: &S3Store,
    bucket: &ObjectPath,
    keys: &[String],
) -> Result<Vec<(String, String)>> {
    let deletions = keys.iter().cloned().map(|key| async move {
        let path = bucket.join(&key)?;
        Ok::<_, StorageError>(one(store, &path).await.err().map(|e| (key, common::error::chain(&e))))
    });
    let failed: Vec<_> =
        futures::stream::iter(deletions).buffer_unordered(store.0.checkers).try_collect().await?;
    Ok(failed.into_iter().flatten().collect())
}

/// Deletes everything below a directory, folder markers included. Returns the number of objects.
pub(super) async fn purge(store: &S3Store, dir: &ObjectPath) -> Result<u64> {
    let (bucket, prefix) = (dir.bucket_and_key().0, list::prefix(dir));
    let mut pages = std::pin::pin!(list::pages(store, dir, prefix, Depth::All, None));
    let mut deleted = 0;
    loop {
        let page = match pages.try_next().await {
            Ok(Some(page)) => page,
            Ok(None) | Err(StorageError::BucketNotFound { .. }) => return Ok(deleted),
            Err(error) => return Err(error),
        };
        let keys: Vec<String> = page.contents().iter().filter_map(|o| o.key().map(str::to_owned)).collect();
        for batch in keys.chunks(BATCH) {
            let failed = delete_keys(store, bucket, batch).await?;
            deleted += (batch.len() - failed.len()) as u64;
            if let Some((key, reason)) = failed.first() {
                let reason = format!("{} of {} objects, first {key}: {reason}", failed.len(), batch.len());
                return Err(StorageError::Unreachable {
                    operation: "DeleteObjects",
                    target: dir.to_string(),
                    source: reason.into(),
                });
            }
        }
    }
}
