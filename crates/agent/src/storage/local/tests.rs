//! Local files in a temporary directory.

use std::os::unix::fs::symlink;

use bytes::Bytes;
use futures::TryStreamExt as _;

use super::*;

fn path(text: &str) -> ObjectPath {
    ObjectPath::parse(text).unwrap()
}

fn store() -> (tempfile::TempDir, LocalStore) {
    let dir = tempfile::tempdir().unwrap();
    let store = LocalStore::data(dir.path());
    (dir, store)
}

async fn names(store: &LocalStore, dir: &str, depth: Depth) -> Vec<String> {
    let dir = path(dir);
    let entries: Vec<Entry> = store.list(&dir, depth).try_collect().await.unwrap();
    entries
        .into_iter()
        .map(|e| format!("{}{}", e.path, if e.kind == EntryKind::File { "" } else { "/" }))
        .collect()
}

use super::super::EntryKind;

fn payload(bytes: &'static [u8]) -> Payload {
    Payload::new(Bytes::from_static(bytes), Hashes::default())
}

#[tokio::test]
async fn listings_are_sorted_and_skip_what_is_no_file() {
    let (dir, store) = store();
    std::fs::create_dir_all(dir.path().join("ks/b/c")).unwrap();
    for file in ["ks/z", "ks/a", "ks/b/2", "ks/b/1", "ks/b/c/x", "ks/.partial_0_1"] {
        std::fs::write(dir.path().join(file), file).unwrap();
    }
    symlink("a", dir.path().join("ks/link")).unwrap();
    symlink("b", dir.path().join("ks/dirlink")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        dir.path().join("ks/fifo"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RWXU,
        0,
    )
    .unwrap();
    assert_eq!(names(&store, "ks", Depth::One).await, ["a", "b/", "z"]);
    assert_eq!(names(&store, "ks", Depth::All).await, ["a", "b/", "z", "b/1", "b/2", "b/c/", "b/c/x"]);
    for (bad, fifo) in [("ks/link", false), ("ks/dirlink/1", false), ("ks/fifo", true)] {
        let error = store.open(&path(bad), None).await.unwrap_err();
        assert!(
            matches!(error, StorageError::NotAFile { .. } | StorageError::NotFound { .. }),
            "{bad}: {error}"
        );
        assert!(!fifo || matches!(store.stat(&path(bad)).await, Err(StorageError::NotAFile { .. })));
    }
    let missing = path("nope");
    let error = store.list(&missing, Depth::One).try_collect::<Vec<_>>().await.unwrap_err();
    assert!(matches!(error, StorageError::DirectoryNotFound { .. }));
    let file = path("ks/a");
    let error = store.list(&file, Depth::One).try_collect::<Vec<_>>().await.unwrap_err();
    assert!(matches!(error, StorageError::NotADirectory { .. }));
}

#[tokio::test]
async fn a_long_listing_arrives_whole_and_can_be_dropped_early() {
    let (dir, store) = store();
    std::fs::create_dir(dir.path().join("d")).unwrap();
    for i in 0..3000 {
        std::fs::write(dir.path().join(format!("d/{i:05}")), "").unwrap();
    }
    assert_eq!(names(&store, "d", Depth::All).await.len(), 3000);
    let d = path("d");
    let mut stream = store.list(&d, Depth::One);
    assert!(stream.try_next().await.unwrap().is_some());
    drop(stream);
}

#[tokio::test]
async fn files_are_put_read_copied_renamed_and_deleted() {
    let (dir, store) = store();
    store.put(&path("bucket/a/b/file"), &payload(b"hello")).await.unwrap();
    let info = store.stat(&path("bucket/a/b/file")).await.unwrap();
    assert_eq!(info.size, 5);
    store.put(&path("bucket/a/b/file"), &payload(b"hello world")).await.unwrap();
    let range = ByteRange { offset: 6, length: 100 };
    let reader = store.open(&path("bucket/a/b/file"), Some(range)).await.unwrap();
    assert_eq!(reader.length, 5);
    let text: Vec<Bytes> = reader.bytes.try_collect().await.unwrap();
    assert_eq!(text.concat(), b"world");
    store.copy(&path("bucket/a/b/file"), &path("bucket/c/copy")).await.unwrap();
    store.rename(&path("bucket/c/copy"), &path("bucket/d/moved")).await.unwrap();
    assert_eq!(std::fs::read(dir.path().join("bucket/d/moved")).unwrap(), b"hello world");
    let all = [path("bucket/d/moved"), path("bucket/none"), path("bucket/x/none")];
    assert_eq!(store.delete_many(&all).await.unwrap(), DeleteReport { deleted: 1, failed: vec![] });
    assert!(store.delete(&path("bucket/d/moved")).await.unwrap_err().is_not_found());
    assert!(matches!(store.delete_many(&[path("bucket/a")]).await, Err(StorageError::NotAFile { .. })));
    assert!(store.rename(&path("bucket/none"), &path("bucket/y")).await.unwrap_err().is_not_found());
    assert_eq!(store.purge(&path("bucket")).await.unwrap(), 1);
    assert!(store.purge(&path("bucket")).await.unwrap_err().is_not_found());
    assert!(store.about().await.unwrap().total > 0);
}

#[tokio::test]
async fn purge_removes_links_but_not_what_they_point_to() {
    let (dir, store) = store();
    std::fs::create_dir_all(dir.path().join("a/b")).unwrap();
    std::fs::write(dir.path().join("precious"), "x").unwrap();
    symlink(dir.path(), dir.path().join("a/b/up")).unwrap();
    store.purge(&path("a")).await.unwrap();
    assert!(dir.path().join("precious").exists() && !dir.path().join("a").exists());
    assert!(store.purge(&ObjectPath::ROOT).await.is_err());
}

#[tokio::test]
async fn a_large_file_appears_whole_or_not_at_all() {
    let (dir, store) = store();
    let target = path("b/large");
    let spec = LargeSpec { size: 7, part_size: 3 };
    let upload = store.begin_large(&target, spec, true).await.unwrap();
    for index in [2, 0, 1] {
        let part = payload([b"abc".as_slice(), b"def", b"g"][index as usize]);
        upload.put_part(index, &part).await.unwrap();
        assert!(!dir.path().join("b/large").exists());
    }
    upload.finish(0).await.unwrap();
    assert_eq!(std::fs::read(dir.path().join("b/large")).unwrap(), b"abcdefg");
    let upload = store.begin_large(&target, spec, true).await.unwrap();
    upload.put_part(0, &payload(b"xyz")).await.unwrap();
    upload.abort().await;
    assert_eq!(std::fs::read(dir.path().join("b/large")).unwrap(), b"abcdefg");
    assert_eq!(std::fs::read_dir(dir.path().join("b")).unwrap().count(), 1);
}

#[tokio::test]
async fn a_source_is_read_in_ranges_with_checksums() {
    let (dir, store) = store();
    std::fs::write(dir.path().join("f"), vec![7; 3 << 20]).unwrap();
    let source = store.source(&path("f"), None).await.unwrap();
    assert_eq!(source.size(), 3 << 20);
    let pool = super::super::buffer::BufferPool::new(8 << 20);
    let range = ByteRange { offset: 1 << 20, length: 2 << 20 };
    let part = source.read(range, Hashes { sha256: true }, pool.take(2 << 20).await).await.unwrap();
    assert_eq!(part.crc32, crc32fast::hash(&vec![7; 2 << 20]));
    assert!(part.sha256.is_some());
    let range = ByteRange { offset: 2 << 20, length: 2 << 20 };
    let error = source.read(range, Hashes::default(), pool.take(2 << 20).await).await.unwrap_err();
    assert!(matches!(error, StorageError::Changed { .. }));
}
