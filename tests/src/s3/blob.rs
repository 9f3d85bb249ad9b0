//! Where object bodies are kept: in memory, in one file each, or nowhere.
//!
//! A body is a list of pieces so that completing a multipart upload or copying an object moves no bytes.

use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{Bytes, BytesMut};
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};
use tokio::io::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt, BufWriter};
use tokio_util::io::ReaderStream;

/// Block in which files are written and read, bytes.
const BLOCK: usize = 256 * 1024;

/// Where new bodies go.
#[derive(Clone, Debug)]
pub enum Storage {
    /// In memory; for tests.
    Memory,
    /// One file per body in this directory, removed with its object; for the demo and large tests.
    Disk(PathBuf),
    /// Bodies up to this many bytes stay in memory, larger ones are counted, hashed with CRC-32 and forgotten; for
    /// benchmarks of the sender. Reading a forgotten body is an error.
    Discard {
        /// Largest body that is kept, bytes.
        keep_up_to: u64,
    },
}

/// An immutable body with its size and CRC-32 (zlib polynomial).
#[derive(Clone, Debug, Default)]
pub struct Blob {
    pieces: Vec<Piece>,
    size: u64,
    crc: crc32fast::Hasher,
}

#[derive(Clone, Debug)]
enum Piece {
    Memory(Bytes),
    File(Arc<BodyFile>, u64),
    Discarded(u64),
}

impl Piece {
    fn size(&self) -> u64 {
        match self {
            Self::Memory(bytes) => bytes.len() as u64,
            Self::File(_, size) | Self::Discarded(size) => *size,
        }
    }
}

/// A file that goes away with its last user.
#[derive(Debug)]
struct BodyFile(PathBuf);

impl Drop for BodyFile {
    fn drop(&mut self) {
        // The directory may be gone already: nothing is left to do then.
        let _ = std::fs::remove_file(&self.0);
    }
}

impl From<Bytes> for Blob {
    fn from(bytes: Bytes) -> Self {
        let mut crc = crc32fast::Hasher::new();
        crc.update(&bytes);
        Self { size: bytes.len() as u64, pieces: vec![Piece::Memory(bytes)], crc }
    }
}

impl Blob {
    /// Size in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// CRC-32 of the whole body, as a `Digest.crc32` file holds it.
    #[must_use]
    pub fn crc32(&self) -> u32 {
        self.crc.clone().finalize()
    }

    /// Puts bodies one after the other without copying them.
    #[must_use]
    pub fn join<'a>(parts: impl IntoIterator<Item = &'a Blob>) -> Self {
        let mut joined = Self::default();
        for part in parts {
            joined.pieces.extend(part.pieces.iter().cloned());
            joined.size += part.size;
            joined.crc.combine(&part.crc);
        }
        joined
    }

    /// Reads the whole body, blocking.
    ///
    /// # Errors
    /// The body was discarded, or its file cannot be read.
    pub fn read(&self) -> io::Result<Bytes> {
        let mut all = BytesMut::with_capacity(usize::try_from(self.size).map_err(io::Error::other)?);
        for piece in &self.pieces {
            match piece {
                Piece::Memory(bytes) => all.extend_from_slice(bytes),
                Piece::File(file, _) => all.extend_from_slice(&std::fs::read(&file.0)?),
                Piece::Discarded(_) => return Err(discarded()),
            }
        }
        Ok(all.freeze())
    }

    /// Copies a range of the body into one of its own, for `UploadPartCopy`. Blocking.
    ///
    /// # Errors
    /// The body was discarded, or its file cannot be read.
    pub fn slice(&self, range: Range<u64>) -> io::Result<Blob> {
        let mut all = Vec::new();
        for (piece, within) in self.overlapping(&range) {
            match piece {
                Piece::Memory(bytes) => all.extend_from_slice(&bytes[to_usize(&within)?]),
                Piece::File(file, _) => {
                    let mut file = std::fs::File::open(&file.0)?;
                    file.seek(SeekFrom::Start(within.start))?;
                    file.take(within.end - within.start).read_to_end(&mut all)?;
                }
                Piece::Discarded(_) => return Err(discarded()),
            }
        }
        Ok(Blob::from(Bytes::from(all)))
    }

    /// Streams a range of the body.
    pub fn stream(&self, range: Range<u64>) -> BoxStream<'static, io::Result<Bytes>> {
        let pieces: Vec<_> =
            self.overlapping(&range).map(|(piece, within)| (piece.clone(), within)).collect();
        stream::iter(pieces).then(|(piece, within)| piece_stream(piece, within)).try_flatten().boxed()
    }

    fn overlapping<'a>(&'a self, range: &Range<u64>) -> impl Iterator<Item = (&'a Piece, Range<u64>)> + 'a {
        let range = range.clone();
        let mut offset = 0;
        self.pieces.iter().filter_map(move |piece| {
            let start = offset;
            offset += piece.size();
            let within = range.start.clamp(start, offset) - start..range.end.clamp(start, offset) - start;
            (!within.is_empty()).then_some((piece, within))
        })
    }
}

async fn piece_stream(piece: Piece, within: Range<u64>) -> io::Result<BoxStream<'static, io::Result<Bytes>>> {
    match piece {
        Piece::Memory(bytes) => {
            let slice = bytes.slice(to_usize(&within)?);
            Ok(stream::once(async move { Ok(slice) }).boxed())
        }
        Piece::File(body, _) => {
            let mut file = tokio::fs::File::open(&body.0).await?;
            file.seek(SeekFrom::Start(within.start)).await?;
            let reader = ReaderStream::with_capacity(file.take(within.end - within.start), BLOCK);
            // The file must outlive the reader even if the object is deleted meanwhile.
            Ok(reader
                .inspect(move |_| {
                    let _ = &body;
                })
                .boxed())
        }
        Piece::Discarded(_) => Err(discarded()),
    }
}

fn to_usize(range: &Range<u64>) -> io::Result<Range<usize>> {
    let to = |n: u64| usize::try_from(n).map_err(io::Error::other);
    Ok(to(range.start)?..to(range.end)?)
}

fn discarded() -> io::Error {
    io::Error::other(
        "the body was discarded on arrival; start the server with Storage::Memory or Storage::Disk to read it back",
    )
}

/// Takes a body in, chunk by chunk.
pub(super) struct BlobWriter {
    sink: Sink,
    size: u64,
    crc: crc32fast::Hasher,
}

enum Sink {
    Memory(BytesMut),
    File(Arc<BodyFile>, BufWriter<tokio::fs::File>),
    Discard { kept: BytesMut, keep_up_to: u64 },
}

impl BlobWriter {
    /// Opens a body; `size` is a hint in bytes.
    pub(super) async fn open(storage: &Storage, size: u64) -> io::Result<Self> {
        let reserve = usize::try_from(size).unwrap_or(0).min(64 * 1024 * 1024);
        let sink = match storage {
            Storage::Memory => Sink::Memory(BytesMut::with_capacity(reserve)),
            Storage::Disk(dir) => {
                let body = BodyFile(next_path(dir));
                let file = tokio::fs::File::create_new(&body.0).await?;
                Sink::File(Arc::new(body), BufWriter::with_capacity(BLOCK, file))
            }
            Storage::Discard { keep_up_to } => {
                Sink::Discard { kept: BytesMut::new(), keep_up_to: *keep_up_to }
            }
        };
        Ok(Self { sink, size: 0, crc: crc32fast::Hasher::new() })
    }

    pub(super) async fn write(&mut self, chunk: &[u8]) -> io::Result<()> {
        self.size += chunk.len() as u64;
        self.crc.update(chunk);
        match &mut self.sink {
            Sink::Memory(kept) => kept.extend_from_slice(chunk),
            Sink::File(_, file) => file.write_all(chunk).await?,
            Sink::Discard { kept, keep_up_to } if self.size <= *keep_up_to => kept.extend_from_slice(chunk),
            Sink::Discard { kept, .. } => *kept = BytesMut::new(),
        }
        Ok(())
    }

    pub(super) async fn finish(self) -> io::Result<Blob> {
        let piece = match self.sink {
            Sink::Memory(kept) => Piece::Memory(kept.freeze()),
            Sink::File(body, mut file) => {
                file.flush().await?;
                Piece::File(body, self.size)
            }
            Sink::Discard { kept, keep_up_to } if self.size <= keep_up_to => Piece::Memory(kept.freeze()),
            Sink::Discard { .. } => Piece::Discarded(self.size),
        };
        Ok(Blob { pieces: vec![piece], size: self.size, crc: self.crc })
    }
}

/// A name not used before by any server of this process in `dir`.
fn next_path(dir: &Path) -> PathBuf {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    dir.join(format!("body-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)))
}
