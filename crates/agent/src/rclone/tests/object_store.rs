//! An object store that holds names only and fails where it is told to.

use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt as _, StreamExt as _};

use crate::storage::{
    ByteRange, DeleteReport, Depth, Entry, EntryKind, Hashes, LargeSpec, LargeUpload, Leftover, ObjectInfo,
    ObjectPath, ObjectReader, ObjectStore, PartRules, Payload, Result, Source, Space, StorageError,
};

/// Provider `fake`. A listing has `entries`, then fails if `broken` is `list`.
#[derive(Clone, Debug, Default)]
pub(super) struct FakeStore {
    pub entries: Vec<Entry>,
    pub objects: Vec<&'static str>,
    pub broken: Option<&'static str>,
}

impl FakeStore {
    /// With so many files to list, then an error or not.
    pub(super) fn listing(files: usize, broken: bool) -> Arc<Self> {
        let entries = (0..files).map(|i| file(&format!("f{i:05}"))).collect();
        Arc::new(Self { entries, objects: Vec::new(), broken: broken.then_some("list") })
    }

    fn try_to<T: Send + 'static>(&self, operation: &str, value: T) -> BoxFuture<'static, Result<T>> {
        std::future::ready(if self.broken == Some(operation) { Err(missing()) } else { Ok(value) }).boxed()
    }
}

pub(super) fn file(path: &str) -> Entry {
    Entry { path: path.into(), kind: EntryKind::File, size: 3, modified: None, md5: Some([0xab; 16]) }
}

fn missing() -> StorageError {
    StorageError::BucketNotFound { bucket: "b".into() }
}

fn unsupported<T: Send + 'static>(what: &'static str) -> BoxFuture<'static, Result<T>> {
    std::future::ready(Err(StorageError::Unsupported { what, provider: "fake".into() })).boxed()
}

impl ObjectStore for FakeStore {
    fn provider(&self) -> &str {
        "fake"
    }

    fn is_local(&self) -> bool {
        false
    }

    fn wants(&self) -> Hashes {
        Hashes::default()
    }

    fn part_rules(&self) -> PartRules {
        PartRules { min_part: 1, chunk: 1 << 20, max_parts: 10_000, cutoff: 1 << 20, concurrency: 1 }
    }

    fn list<'a>(&'a self, _dir: &'a ObjectPath, _depth: Depth) -> BoxStream<'a, Result<Entry>> {
        let written = self.broken.is_some_and(|operation| operation != "list") && self.entries.is_empty();
        let entries = if written { vec![file("test")] } else { self.entries.clone() };
        let error = (self.broken == Some("list")).then(|| Err(missing()));
        futures::stream::iter(entries.into_iter().map(Ok).chain(error)).boxed()
    }

    fn stat<'a>(&'a self, path: &'a ObjectPath) -> BoxFuture<'a, Result<ObjectInfo>> {
        let found = self.objects.contains(&path.as_str());
        let error = || StorageError::NotFound { path: path.to_string() };
        std::future::ready(found.then(ObjectInfo::default).ok_or_else(error)).boxed()
    }

    fn open<'a>(&'a self, _: &'a ObjectPath, _: Option<ByteRange>) -> BoxFuture<'a, Result<ObjectReader>> {
        let bytes = futures::stream::iter([Ok(Bytes::from_static(b"1"))]).boxed();
        let reader = std::sync::Mutex::new(Some(ObjectReader { length: 1, bytes }));
        let opened = self.try_to("open", ());
        async move { opened.await.map(|()| reader.lock().unwrap().take().unwrap()) }.boxed()
    }

    fn source<'a>(
        &'a self,
        _: &'a ObjectPath,
        _: Option<ObjectInfo>,
    ) -> BoxFuture<'a, Result<Arc<dyn Source>>> {
        unsupported("source")
    }

    fn put<'a>(&'a self, _: &'a ObjectPath, _: &'a Payload) -> BoxFuture<'a, Result<()>> {
        self.try_to("put", ())
    }

    fn begin_large<'a>(
        &'a self,
        _: &'a ObjectPath,
        _: LargeSpec,
        _: bool,
    ) -> BoxFuture<'a, Result<Box<dyn LargeUpload>>> {
        unsupported("begin_large")
    }

    fn unfinished<'a>(&'a self, _: &'a ObjectPath) -> BoxFuture<'a, Result<Vec<Leftover>>> {
        unsupported("unfinished")
    }

    fn copy<'a>(&'a self, _: &'a ObjectPath, _: &'a ObjectPath) -> BoxFuture<'a, Result<()>> {
        unsupported("copy")
    }

    fn rename<'a>(&'a self, _: &'a ObjectPath, _: &'a ObjectPath) -> BoxFuture<'a, Result<()>> {
        unsupported("rename")
    }

    fn delete<'a>(&'a self, _: &'a ObjectPath) -> BoxFuture<'a, Result<()>> {
        self.try_to("remove", ())
    }

    fn delete_many<'a>(&'a self, _: &'a [ObjectPath]) -> BoxFuture<'a, Result<DeleteReport>> {
        unsupported("delete_many")
    }

    fn purge<'a>(&'a self, _: &'a ObjectPath) -> BoxFuture<'a, Result<u64>> {
        self.try_to("purge", 0)
    }

    fn about(&self) -> BoxFuture<'_, Result<Space>> {
        unsupported("about")
    }
}
