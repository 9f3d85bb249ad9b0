//! The buckets and what is in them. Everything here is synchronous and short; bodies are read before the lock is taken.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use bytes::Bytes;
use s3s::dto::{Checksum, ETag, ETagCondition};
use s3s::{S3Result, s3_error};

use super::blob::{Blob, Storage};
use super::checksum::md5_hex;
use super::listing::{self, ListQuery, Page};
use super::uploads::Upload;

/// Ways in which other servers differ from AWS.
#[derive(Clone, Copy, Debug, Default)]
pub struct Quirks {
    /// ETags are not MD5 sums (server-side encryption; also spares the hashing).
    pub opaque_etags: bool,
    /// `CompleteMultipartUpload` answers an empty ETag (Ceph RGW).
    pub empty_complete_etag: bool,
    /// Checksum headers are neither stored nor answered (Ceph RGW 16).
    pub forgets_checksums: bool,
}

/// One object and its metadata.
#[derive(Debug)]
pub struct StoredObject {
    /// The body.
    pub blob: Blob,
    /// Without quotes.
    pub etag: String,
    /// Time of the last write.
    pub modified: SystemTime,
    pub(super) checksums: Checksum,
    pub(super) attributes: Attributes,
}

/// What a sender may attach to an object.
#[derive(Clone, Debug, Default)]
pub(super) struct Attributes {
    pub(super) content_type: Option<String>,
    pub(super) storage_class: Option<String>,
    pub(super) encryption: Option<String>,
    pub(super) metadata: Option<HashMap<String, String>>,
}

#[derive(Default)]
pub(super) struct Bucket {
    pub(super) objects: BTreeMap<String, Arc<StoredObject>>,
    /// By key and upload ID, the order of `ListMultipartUploads`.
    pub(super) uploads: BTreeMap<(String, String), Upload>,
}

/// All buckets of one server.
pub struct Store {
    pub(super) storage: Storage,
    pub(super) quirks: Quirks,
    buckets: Mutex<BTreeMap<String, Bucket>>,
}

impl Store {
    /// A store with these empty buckets.
    pub fn new(storage: Storage, quirks: Quirks, buckets: impl IntoIterator<Item = String>) -> Self {
        let buckets = buckets.into_iter().map(|name| (name, Bucket::default())).collect();
        Self { storage, quirks, buckets: Mutex::new(buckets) }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Bucket>> {
        // A panic elsewhere does not make the map wrong: every change is a single insert or remove.
        self.buckets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `work` on a bucket under the lock.
    pub(super) fn with<T>(&self, bucket: &str, work: impl FnOnce(&mut Bucket) -> S3Result<T>) -> S3Result<T> {
        match self.lock().get_mut(bucket) {
            Some(bucket) => work(bucket),
            None => Err(s3_error!(NoSuchBucket, "The specified bucket does not exist")),
        }
    }

    pub(super) fn create_bucket(&self, bucket: &str) -> S3Result<()> {
        let mut buckets = self.lock();
        if buckets.contains_key(bucket) {
            return Err(s3_error!(
                BucketAlreadyOwnedByYou,
                "Your previous request to create the named bucket succeeded and you already own it."
            ));
        }
        buckets.insert(bucket.to_owned(), Bucket::default());
        Ok(())
    }

    pub(super) fn delete_bucket(&self, bucket: &str) -> S3Result<()> {
        self.with(bucket, |bucket| {
            let empty = bucket.objects.is_empty();
            if empty {
                Ok(())
            } else {
                Err(s3_error!(BucketNotEmpty, "The bucket you tried to delete is not empty"))
            }
        })?;
        self.lock().remove(bucket);
        Ok(())
    }

    /// Names of all buckets, sorted.
    pub fn bucket_names(&self) -> Vec<String> {
        self.lock().keys().cloned().collect()
    }

    pub(super) fn get(&self, bucket: &str, key: &str) -> S3Result<Arc<StoredObject>> {
        self.with(bucket, |bucket| {
            bucket
                .objects
                .get(key)
                .cloned()
                .ok_or_else(|| s3_error!(NoSuchKey, "The specified key does not exist."))
        })
    }

    pub(super) fn list(&self, bucket: &str, query: &ListQuery<'_>) -> S3Result<Page<Arc<StoredObject>>> {
        self.with(bucket, |bucket| Ok(listing::page(&bucket.objects, query)))
    }

    // What follows is for tests: it looks at and changes the store behind the protocol's back.

    /// Every object of a bucket: key, size in bytes, CRC-32. Empty when there is no such bucket.
    pub fn objects(&self, bucket: &str) -> Vec<(String, u64, u32)> {
        let buckets = self.lock();
        let objects = buckets.get(bucket).into_iter().flat_map(|bucket| &bucket.objects);
        objects.map(|(key, object)| (key.clone(), object.blob.size(), object.blob.crc32())).collect()
    }

    /// The object at this key.
    pub fn object(&self, bucket: &str, key: &str) -> Option<Arc<StoredObject>> {
        self.lock().get(bucket)?.objects.get(key).cloned()
    }

    /// Puts bytes at a key, as a sender without checksums would.
    ///
    /// # Errors
    /// There is no such bucket.
    pub fn insert(&self, bucket: &str, key: &str, body: impl Into<Bytes>) -> io::Result<()> {
        let body = body.into();
        let etag = md5_hex(&body);
        let object = StoredObject {
            blob: Blob::from(body),
            etag,
            modified: SystemTime::now(),
            checksums: Checksum::default(),
            attributes: Attributes::default(),
        };
        self.with(bucket, |bucket| {
            bucket.objects.insert(key.to_owned(), Arc::new(object));
            Ok(())
        })
        .map_err(io::Error::other)
    }

    /// Takes an object away; `false` when there was none.
    pub fn remove(&self, bucket: &str, key: &str) -> bool {
        self.lock().get_mut(bucket).is_some_and(|bucket| bucket.objects.remove(key).is_some())
    }

    /// Makes a bucket vanish with all it holds.
    pub fn drop_bucket(&self, bucket: &str) {
        self.lock().remove(bucket);
    }

    /// Number of multipart uploads that are neither completed nor aborted.
    pub fn unfinished_uploads(&self, bucket: &str) -> usize {
        self.lock().get(bucket).map_or(0, |bucket| bucket.uploads.len())
    }
}

/// Checks `If-Match` and `If-None-Match` of a write against what is there now.
pub(super) fn check_write(
    existing: Option<&Arc<StoredObject>>,
    if_match: Option<&ETagCondition>,
    if_none_match: Option<&ETagCondition>,
) -> S3Result<()> {
    match (if_match, existing) {
        (None, _) => {}
        (Some(_), None) => return Err(s3_error!(NoSuchKey, "The specified key does not exist.")),
        (Some(condition), Some(object)) if matches_etag(condition, object) => {}
        (Some(_), Some(_)) => return Err(precondition("If-Match")),
    }
    match (if_none_match, existing) {
        (Some(condition), Some(object)) if matches_etag(condition, object) => {
            Err(precondition("If-None-Match"))
        }
        _ => Ok(()),
    }
}

pub(super) fn matches_etag(condition: &ETagCondition, object: &StoredObject) -> bool {
    match condition {
        ETagCondition::Any => true,
        ETagCondition::ETag(etag) => etag.value() == object.etag,
    }
}

pub(super) fn precondition(header: &str) -> s3s::S3Error {
    s3_error!(PreconditionFailed, "At least one of the pre-conditions you specified did not hold: {header}")
}

pub(super) fn strong(etag: &str) -> ETag {
    ETag::Strong(etag.to_owned())
}
