//! Requests for one object: HEAD, GET, PUT.

use std::time::SystemTime;

use aws_sdk_s3::operation::RequestId as _;
use aws_sdk_s3::types::{ChecksumMode, ServerSideEncryption};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures::future::BoxFuture;
use futures::{FutureExt as _, StreamExt as _};

use super::checksum::parse_crc32;
use super::direct::Upload;
use super::quirks::etag_md5;
use super::sse::with_key;
use super::{S3Store, errors, object};
use crate::storage::buffer::Buffer;
use crate::storage::{
    ByteRange, Hashes, ObjectInfo, ObjectPath, ObjectReader, Payload, Result, Source, StorageError,
};

/// Times that the body of a GET is taken up again where it broke off.
const BODY_RETRIES: u32 = 5;

pub(super) fn time(time: &aws_sdk_s3::primitives::DateTime) -> Option<DateTime<Utc>> {
    SystemTime::try_from(*time).ok().map(DateTime::from)
}

impl S3Store {
    /// One attempt to send a small object.
    pub(super) async fn put_object(&self, path: &ObjectPath, payload: &Payload) -> Result<()> {
        let headers = self.attribute_headers();
        let upload = Upload { operation: "PutObject", path, query: String::new(), headers, payload };
        self.send_payload(upload).await.map(drop)
    }

    /// Maps an error, and learns the region of a bucket that lives elsewhere.
    pub(super) fn error<E>(
        &self,
        operation: &'static str,
        path: &ObjectPath,
        error: aws_sdk_s3::error::SdkError<E>,
    ) -> StorageError
    where
        E: aws_sdk_s3::error::ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    {
        let bucket = path.bucket_and_key().0;
        let raw = error.raw_response();
        let moved = raw.is_some_and(|r| {
            matches!(r.status().as_u16(), 301 | 307 | 400)
                && self.moved(bucket, r.headers().get("x-amz-bucket-region"))
        });
        if let Some(id) = raw.and_then(|r| r.headers().request_id()) {
            tracing::debug!(operation, target = %path, request = id, "the store answered with an error");
        }
        if moved {
            return self.elsewhere(operation, path);
        }
        errors::map(operation, path.as_str(), error)
    }

    /// With the region known now, another try succeeds.
    pub(super) fn elsewhere(&self, operation: &'static str, path: &ObjectPath) -> StorageError {
        let source = "the bucket lives in another region".into();
        StorageError::Unreachable { operation, target: path.to_string(), source }
    }

    pub(super) async fn head(&self, path: &ObjectPath) -> Result<ObjectInfo> {
        let (bucket, key) = object(path)?;
        self.0
            .pacer
            .run(|| async {
                let client = self.client(bucket).await?;
                let mode = self.0.quirks.crc32.then_some(ChecksumMode::Enabled);
                let request = client.head_object().bucket(bucket).key(key).set_checksum_mode(mode);
                let head = with_key!(self, request).send().await;
                let head = head.map_err(|e| self.error("HeadObject", path, e))?;
                let kms = matches!(
                    head.server_side_encryption(),
                    Some(ServerSideEncryption::AwsKms | ServerSideEncryption::AwsKmsDsse)
                );
                let md5 = head.e_tag().filter(|_| self.0.quirks.etag_is_md5 && !kms).and_then(etag_md5);
                Ok(ObjectInfo {
                    size: u64::try_from(head.content_length().unwrap_or(0)).unwrap_or(0),
                    modified: head.last_modified().and_then(time),
                    md5,
                    crc32: head.checksum_crc32().and_then(parse_crc32),
                })
            })
            .await
    }

    /// Content of an object; a body that breaks off is taken up again where it ended.
    pub(super) async fn get(&self, path: &ObjectPath, range: Option<ByteRange>) -> Result<ObjectReader> {
        let first = self.0.pacer.run(|| self.get_once(path, range, None)).await?;
        let (length, etag) = (first.length, first.etag.clone());
        let offset = range.map_or(0, |r| r.offset);
        let state = Resumable {
            store: self.clone(),
            path: path.clone(),
            body: Some(first.body),
            rest: ByteRange { offset, length },
            etag,
            retries: 0,
        };
        let bytes = futures::stream::try_unfold(state, Resumable::next).boxed();
        Ok(ObjectReader { length, bytes })
    }

    async fn get_once(
        &self,
        path: &ObjectPath,
        range: Option<ByteRange>,
        etag: Option<&str>,
    ) -> Result<Opened> {
        let (bucket, key) = object(path)?;
        if range.is_some_and(|r| r.length == 0) {
            return Ok(Opened { length: 0, etag: None, body: aws_sdk_s3::primitives::ByteStream::default() });
        }
        let client = self.client(bucket).await?;
        let range = range.map(|r| format!("bytes={}-{}", r.offset, r.offset + r.length - 1));
        let request = client
            .get_object()
            .bucket(bucket)
            .key(key)
            .set_range(range)
            .set_if_match(etag.map(str::to_owned));
        let answer = with_key!(self, request).send().await.map_err(|e| self.error("GetObject", path, e))?;
        let length = u64::try_from(answer.content_length().unwrap_or(0)).unwrap_or(0);
        Ok(Opened { length, etag: answer.e_tag, body: answer.body })
    }
}

struct Opened {
    length: u64,
    etag: Option<String>,
    body: aws_sdk_s3::primitives::ByteStream,
}

struct Resumable {
    store: S3Store,
    path: ObjectPath,
    body: Option<aws_sdk_s3::primitives::ByteStream>,
    rest: ByteRange,
    etag: Option<String>,
    retries: u32,
}

impl Resumable {
    async fn next(mut self) -> Result<Option<(Bytes, Self)>> {
        loop {
            if self.rest.length == 0 {
                return Ok(None);
            }
            let Some(body) = &mut self.body else {
                let etag = self.etag.clone();
                let opened = self
                    .store
                    .0
                    .pacer
                    .run(|| self.store.get_once(&self.path, Some(self.rest), etag.as_deref()))
                    .await?;
                self.body = Some(opened.body);
                continue;
            };
            let cause = match body.next().await {
                Some(Ok(bytes)) if !bytes.is_empty() => {
                    let length = (bytes.len() as u64).min(self.rest.length);
                    self.store.0.limits.down.acquire(length).await;
                    self.rest =
                        ByteRange { offset: self.rest.offset + length, length: self.rest.length - length };
                    let bytes = bytes.slice(..usize::try_from(length).unwrap_or(bytes.len()));
                    return Ok(Some((bytes, self)));
                }
                Some(Ok(_)) => continue,
                Some(Err(error)) => common::error::chain(&error),
                None => "the body ended early".to_owned(),
            };
            if self.retries >= BODY_RETRIES {
                return Err(StorageError::Unreachable {
                    operation: "GetObject",
                    target: self.path.to_string(),
                    source: cause.into(),
                });
            }
            tracing::debug!(path = %self.path, cause, "the body of an object broke off and is taken up again");
            self.retries += 1;
            self.body = None;
        }
    }
}

/// An object that is read in ranges.
#[derive(Debug)]
pub(super) struct S3Source {
    store: S3Store,
    path: ObjectPath,
    info: ObjectInfo,
}

impl S3Source {
    pub(super) fn new(store: S3Store, path: ObjectPath, info: ObjectInfo) -> Self {
        Self { store, path, info }
    }
}

impl Source for S3Source {
    fn size(&self) -> u64 {
        self.info.size
    }

    fn info(&self) -> &ObjectInfo {
        &self.info
    }

    fn read<'a>(
        &'a self,
        range: ByteRange,
        hashes: Hashes,
        buffer: Buffer,
    ) -> BoxFuture<'a, Result<Payload>> {
        async move { Ok(Payload::new(self.read_bytes(range, buffer).await?, hashes)) }.boxed()
    }

    fn read_bytes<'a>(&'a self, range: ByteRange, mut buffer: Buffer) -> BoxFuture<'a, Result<Bytes>> {
        async move {
            let mut reader = self.store.get(&self.path, Some(range)).await?;
            let space = buffer.space(usize::try_from(range.length).unwrap_or(usize::MAX));
            let mut filled = 0;
            while let Some(bytes) = reader.bytes.next().await {
                let bytes = bytes?;
                let end = filled + bytes.len();
                let Some(room) = space.get_mut(filled..end) else { break };
                room.copy_from_slice(&bytes);
                filled = end;
            }
            if filled != space.len() {
                let detail = format!("{filled} bytes came instead of {}", space.len());
                return Err(StorageError::Corrupted { path: self.path.to_string(), detail });
            }
            Ok(buffer.freeze())
        }
        .boxed()
    }
}
