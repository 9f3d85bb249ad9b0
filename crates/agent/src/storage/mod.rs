//! Places where files live: the node's data directory, object stores, plain directories.
//!
//! All are used through [`ObjectStore`]. A path is relative to the provider's root; for object stores its first
//! component is the bucket. Nothing here knows of jobs, equality or versions: that is the transfer engine's.

pub(crate) mod blocking;
pub mod buffer;
mod error;
pub mod local;
mod path;
pub mod payload;
pub mod s3;

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures::future::BoxFuture;
use futures::stream::BoxStream;

use self::buffer::Buffer;
pub use error::{FailureClass, ServiceError, StorageError};
pub use path::{InvalidPath, ObjectPath};
pub use payload::{Hashes, Payload};

use crate::config::Config;
use crate::transfer::rate_limit::RateLimits;

/// Result of a call to a store.
pub type Result<T, E = StorageError> = std::result::Result<T, E>;

/// How far down a listing goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// The directory's own entries.
    One,
    /// Everything below.
    All,
}

/// File or directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum EntryKind {
    /// A file or object.
    File,
    /// A directory, or the common prefix of objects.
    Directory,
}

/// An entry of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Path relative to the listed directory.
    pub path: String,
    /// File or directory.
    pub kind: EntryKind,
    /// Bytes; 0 for directories.
    pub size: u64,
    /// Last change; unknown for directories of object stores.
    pub modified: Option<DateTime<Utc>>,
    /// MD5 of the content, where the store gives it away for free.
    pub md5: Option<[u8; 16]>,
}

impl Entry {
    /// Last component of the path.
    pub fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or_default()
    }
}

/// Facts about one file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ObjectInfo {
    /// Bytes.
    pub size: u64,
    /// Last change.
    pub modified: Option<DateTime<Utc>>,
    /// MD5 of the content, where the store knows it without reading.
    pub md5: Option<[u8; 16]>,
    /// CRC-32 of the whole content, where the store knows it without reading.
    pub crc32: Option<u32>,
}

/// Part of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByteRange {
    /// First byte.
    pub offset: u64,
    /// Number of bytes.
    pub length: u64,
}

/// Content of a file as it arrives.
pub struct ObjectReader {
    /// Bytes that `bytes` will deliver.
    pub length: u64,
    /// The content; an error ends it.
    pub bytes: BoxStream<'static, Result<Bytes>>,
}

impl fmt::Debug for ObjectReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ObjectReader").field("length", &self.length).finish_non_exhaustive()
    }
}

/// A file that is read in large blocks, in any order.
pub trait Source: Send + Sync + fmt::Debug {
    /// Bytes.
    fn size(&self) -> u64;

    /// Facts at the time of opening.
    fn info(&self) -> &ObjectInfo;

    /// Reads a range into `buffer` and takes its checksums on the way.
    fn read<'a>(&'a self, range: ByteRange, hashes: Hashes, buffer: Buffer)
    -> BoxFuture<'a, Result<Payload>>;

    /// The bytes of a range that was read by `read_bytes` are not needed again: no memory has to hold them.
    fn release(&self, _range: ByteRange) {}

    /// Reads a range into `buffer`.
    fn read_bytes<'a>(&'a self, range: ByteRange, buffer: Buffer) -> BoxFuture<'a, Result<Bytes>>;
}

/// Space of a file system, bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// All.
    pub total: u64,
    /// Taken.
    pub used: u64,
    /// Available to users other than root.
    pub free: u64,
}

/// What a large file will look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LargeSpec {
    /// Bytes of the whole file.
    pub size: u64,
    /// Bytes of each part but the last.
    pub part_size: u64,
}

impl LargeSpec {
    /// A file in one part.
    pub fn whole(size: u64) -> Self {
        Self { size, part_size: size.max(1) }
    }

    /// Number of parts.
    pub fn parts(&self) -> u32 {
        u32::try_from(self.size.div_ceil(self.part_size.max(1))).unwrap_or(u32::MAX)
    }

    /// Place of part `index` (from 0).
    pub fn range(&self, index: u32) -> ByteRange {
        let offset = u64::from(index) * self.part_size;
        ByteRange { offset, length: self.part_size.min(self.size.saturating_sub(offset)) }
    }
}

/// A part that an interrupted upload left in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredPart {
    /// Bytes.
    pub size: u64,
    /// Its CRC-32, if the store keeps it.
    pub crc32: Option<u32>,
    /// Its MD5, if the store keeps it.
    pub md5: Option<[u8; 16]>,
}

/// A large file on its way into a store. It becomes visible with `finish`, whole or not at all.
pub trait LargeUpload: Send + Sync {
    /// Part `index` (from 0) as an earlier upload of the same file left it.
    fn stored(&self, index: u32) -> Option<StoredPart>;

    /// Takes over a stored part whose checksum the caller has compared.
    fn keep(&self, index: u32);

    /// Sends part `index` (from 0); retried.
    fn put_part<'a>(&'a self, index: u32, part: &'a Payload) -> BoxFuture<'a, Result<()>>;

    /// Makes the file visible. `crc32` is that of the whole content.
    fn finish<'a>(&'a self, crc32: u32) -> BoxFuture<'a, Result<()>>;

    /// Leaves nothing behind. Failing is only logged: a later upload of the file cleans up too.
    fn abort<'a>(&'a self) -> BoxFuture<'a, ()>;

    /// What the store calls it; empty where the store does not show unfinished uploads.
    fn id(&self) -> &str {
        ""
    }
}

/// An upload that was begun and neither finished nor aborted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leftover {
    /// Name of the file in its directory.
    pub name: String,
    /// What the store calls the upload.
    pub upload: String,
}

/// A provider: `data`, `localstorage`, `s3`.
///
/// Methods retry what is worth retrying, except where they say that they do not.
pub trait ObjectStore: Send + Sync + fmt::Debug {
    /// Name of the provider.
    fn provider(&self) -> &str;

    /// A directory of this machine.
    fn is_local(&self) -> bool;

    /// Checksums that uploads to this store need.
    fn wants(&self) -> Hashes;

    /// Size limits of parts and the number of them; see the transfer engine.
    fn part_rules(&self) -> PartRules;

    /// Entries of a directory; per directory sorted by name. Links and special files are left out.
    ///
    /// Errors come as an item and end the stream: a missing local directory, a missing bucket, a file in place of
    /// the directory. A missing prefix of an object store is an empty listing.
    fn list<'a>(&'a self, dir: &'a ObjectPath, depth: Depth) -> BoxStream<'a, Result<Entry>>;

    /// Facts about a file; [`StorageError::NotFound`] when it is missing, `NotAFile` for a local directory.
    fn stat<'a>(&'a self, path: &'a ObjectPath) -> BoxFuture<'a, Result<ObjectInfo>>;

    /// Opens a file for reading, whole or a part of it.
    fn open<'a>(
        &'a self,
        path: &'a ObjectPath,
        range: Option<ByteRange>,
    ) -> BoxFuture<'a, Result<ObjectReader>>;

    /// Opens a file for the transfer engine, which reads it in large blocks. What is known from a listing saves an
    /// object store the question.
    fn source<'a>(
        &'a self,
        path: &'a ObjectPath,
        known: Option<ObjectInfo>,
    ) -> BoxFuture<'a, Result<Arc<dyn Source>>>;

    /// Reads small files whole, one after the other in one step, into a buffer with room for all of them. Local stores
    /// only: there the way to a blocking thread costs more than such a file.
    fn read_together<'a>(
        &'a self,
        files: Vec<(ObjectPath, ObjectInfo)>,
        hashes: Hashes,
        buffer: Buffer,
    ) -> BoxFuture<'a, Result<Vec<Result<Payload>>>> {
        drop((files, hashes, buffer));
        let error =
            StorageError::Unsupported { what: "reading files together", provider: self.provider().into() };
        Box::pin(std::future::ready(Err(error)))
    }

    /// Stores a small file, replacing what is there. One request, retried.
    fn put<'a>(&'a self, path: &'a ObjectPath, content: &'a Payload) -> BoxFuture<'a, Result<()>>;

    /// Starts a large file; with `resume` parts of an interrupted upload of the same shape are offered.
    fn begin_large<'a>(
        &'a self,
        path: &'a ObjectPath,
        spec: LargeSpec,
        resume: bool,
    ) -> BoxFuture<'a, Result<Box<dyn LargeUpload>>>;

    /// Interrupted uploads of files directly in `dir`. What was abandoned days ago is removed.
    fn unfinished<'a>(&'a self, dir: &'a ObjectPath) -> BoxFuture<'a, Result<Vec<Leftover>>>;

    /// Copies within the store, without the bytes passing through here where the store can.
    fn copy<'a>(&'a self, from: &'a ObjectPath, to: &'a ObjectPath) -> BoxFuture<'a, Result<()>>;

    /// Renames a file, replacing what is at `to`. Object stores copy and delete.
    fn rename<'a>(&'a self, from: &'a ObjectPath, to: &'a ObjectPath) -> BoxFuture<'a, Result<()>>;

    /// Deletes a file that must exist.
    fn delete<'a>(&'a self, path: &'a ObjectPath) -> BoxFuture<'a, Result<()>>;

    /// Deletes files one by one and says of each how it went, as [`ObjectStore::delete`] does.
    fn delete_each<'a>(&'a self, paths: &'a [ObjectPath]) -> BoxFuture<'a, Vec<Result<()>>> {
        Box::pin(async move {
            let mut outcomes = Vec::with_capacity(paths.len());
            for path in paths {
                outcomes.push(self.delete(path).await);
            }
            outcomes
        })
    }

    /// Deletes files, ignores missing ones, and says how many there were. Failures are counted, not returned,
    /// unless they concern all files.
    fn delete_many<'a>(&'a self, paths: &'a [ObjectPath]) -> BoxFuture<'a, Result<DeleteReport>>;

    /// Deletes a directory with everything in it. Missing: an error for local stores only.
    fn purge<'a>(&'a self, dir: &'a ObjectPath) -> BoxFuture<'a, Result<u64>>;

    /// Space of the file system; `Unsupported` for object stores.
    fn about(&self) -> BoxFuture<'_, Result<Space>>;
}

/// What became of a batch of deletions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeleteReport {
    /// Files that existed and are gone.
    pub deleted: u64,
    /// Files that could not be deleted, with the reason.
    pub failed: Vec<(ObjectPath, String)>,
}

/// A store's rules for files in parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartRules {
    /// Smallest part but for the last.
    pub min_part: u64,
    /// Wanted size of a part.
    pub chunk: u64,
    /// Parts of one file at most.
    pub max_parts: u32,
    /// Bytes from which a file goes in parts, if it is not small anyway.
    pub cutoff: u64,
    /// Parts in flight per file.
    pub concurrency: u32,
}

/// A file or directory in a store.
#[derive(Clone, Debug)]
pub struct Place {
    /// The store.
    pub store: Arc<dyn ObjectStore>,
    /// Where in it.
    pub path: ObjectPath,
}

impl Place {
    /// `path` in `store`.
    pub fn new(store: Arc<dyn ObjectStore>, path: ObjectPath) -> Self {
        Self { store, path }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.store.provider(), self.path)
    }
}

/// The configured providers by name.
#[derive(Clone, Debug, Default)]
pub struct Stores(BTreeMap<String, Arc<dyn ObjectStore>>);

impl Stores {
    /// The providers of a configuration: `data` and `s3` always, `localstorage` where a path is set.
    pub fn open(
        config: &Config,
        data_directory: &Path,
        limits: &Arc<RateLimits>,
        observer: s3::RequestObserver,
    ) -> Self {
        let mut stores = Self::default();
        stores.add(Arc::new(local::LocalStore::data(data_directory)));
        if let Some(path) = &config.localstorage {
            stores.add(Arc::new(local::LocalStore::localstorage(path, limits.clone())));
        }
        stores.add(Arc::new(s3::S3Store::new(&config.s3, &config.rclone, limits.clone(), observer)));
        stores
    }

    /// Adds a provider under its own name.
    pub fn add(&mut self, store: Arc<dyn ObjectStore>) {
        self.0.insert(store.provider().to_owned(), store);
    }

    /// The provider, if it is configured.
    pub fn get(&self, provider: &str) -> Option<&Arc<dyn ObjectStore>> {
        self.0.get(provider)
    }

    /// Names of the providers.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}
