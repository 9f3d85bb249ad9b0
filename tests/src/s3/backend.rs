//! The S3 operations: each checks what AWS checks, then changes the store in one step.

mod lists;
mod multipart;

use std::sync::Arc;
use std::time::SystemTime;

use futures::TryStreamExt;
use http_body::Frame;
use http_body_util::StreamBody;
use s3s::dto::*;
use s3s::{Body, S3, S3Request, S3Response, S3Result, s3_error};

use super::blob::Blob;
use super::checksum::{Claims, Received, checksums_of, md5_hex, receive};
use super::store::{Attributes, Store, StoredObject, check_write, matches_etag, precondition, strong};
use super::uploads::Upload;

/// Most keys in one `DeleteObjects` (AWS).
const MAX_DELETE: usize = 1000;
/// Largest source of `CopyObject` (AWS: 5 GiB).
const MAX_COPY: u64 = 5 * 1024 * 1024 * 1024;

/// Implements the protocol over a [`Store`].
pub(super) struct Backend {
    pub(super) store: Arc<Store>,
}

fn attributes(
    content_type: Option<String>,
    storage_class: Option<StorageClass>,
    encryption: Option<ServerSideEncryption>,
    metadata: Option<Metadata>,
) -> Attributes {
    Attributes {
        content_type,
        storage_class: storage_class.map(|class| class.as_str().to_owned()),
        encryption: encryption.map(|encryption| encryption.as_str().to_owned()),
        metadata,
    }
}

fn ok<T>(output: T) -> S3Result<S3Response<T>> {
    Ok(S3Response::new(output))
}

fn encryption_of(attributes: &Attributes) -> Option<ServerSideEncryption> {
    attributes.encryption.clone().map(ServerSideEncryption::from)
}

impl Backend {
    fn kept_checksums(&self, sums: Checksum) -> Checksum {
        if self.store.quirks.forgets_checksums { Checksum::default() } else { sums }
    }

    async fn receive(&self, body: Option<StreamingBlob>, claims: Claims) -> S3Result<Received> {
        receive(body, claims, &self.store.storage, !self.store.quirks.opaque_etags).await
    }

    fn source(&self, source: &CopySource) -> S3Result<(String, Arc<StoredObject>)> {
        let CopySource::Bucket { bucket, key, .. } = source else {
            return Err(s3_error!(NotImplemented, "access points are not implemented"));
        };
        Ok((format!("{bucket}/{key}"), self.store.get(bucket, key)?))
    }

    fn open_upload<T>(
        &self,
        bucket: &str,
        key: &str,
        id: &str,
        work: impl FnOnce(&mut Upload) -> S3Result<T>,
    ) -> S3Result<T> {
        self.store.with(bucket, |bucket| {
            let upload = bucket.uploads.get_mut(&(key.to_owned(), id.to_owned()));
            work(upload.ok_or_else(multipart::no_such_upload)?)
        })
    }
}

/// Conditions of a read: 412 when a demanded state does not hold, 304 when the caller already has it.
fn check_read(
    object: &StoredObject,
    if_match: Option<&ETagCondition>,
    if_none_match: Option<&ETagCondition>,
) -> S3Result<()> {
    if if_match.is_some_and(|condition| !matches_etag(condition, object)) {
        return Err(precondition("If-Match"));
    }
    if if_none_match.is_some_and(|condition| matches_etag(condition, object)) {
        return Err(s3_error!(NotModified, "Not Modified"));
    }
    Ok(())
}

fn check_copy_source(
    object: &StoredObject,
    if_match: Option<&ETagCondition>,
    if_none_match: Option<&ETagCondition>,
) -> S3Result<()> {
    let fails = if_match.is_some_and(|condition| !matches_etag(condition, object))
        || if_none_match.is_some_and(|condition| matches_etag(condition, object));
    if fails { Err(precondition("x-amz-copy-source-if-match")) } else { Ok(()) }
}

fn stream_of(blob: &Blob, range: std::ops::Range<u64>) -> StreamingBlob {
    let frames = blob.stream(range).map_ok(Frame::data);
    StreamingBlob::from(Body::http_body_unsync(StreamBody::new(frames)))
}

#[async_trait::async_trait]
impl S3 for Backend {
    async fn list_buckets(&self, _: S3Request<ListBucketsInput>) -> S3Result<S3Response<ListBucketsOutput>> {
        let bucket = |name| Bucket {
            name: Some(name),
            creation_date: Some(Timestamp::default()),
            ..Bucket::default()
        };
        let buckets = self.store.bucket_names().into_iter().map(bucket).collect();
        ok(ListBucketsOutput { buckets: Some(buckets), ..ListBucketsOutput::default() })
    }

    async fn create_bucket(
        &self,
        req: S3Request<CreateBucketInput>,
    ) -> S3Result<S3Response<CreateBucketOutput>> {
        self.store.create_bucket(&req.input.bucket)?;
        ok(CreateBucketOutput { location: Some(format!("/{}", req.input.bucket)) })
    }

    async fn delete_bucket(
        &self,
        req: S3Request<DeleteBucketInput>,
    ) -> S3Result<S3Response<DeleteBucketOutput>> {
        self.store.delete_bucket(&req.input.bucket)?;
        ok(DeleteBucketOutput::default())
    }

    async fn head_bucket(&self, req: S3Request<HeadBucketInput>) -> S3Result<S3Response<HeadBucketOutput>> {
        self.store.with(&req.input.bucket, |_| Ok(()))?;
        ok(HeadBucketOutput::default())
    }

    async fn get_bucket_location(
        &self,
        req: S3Request<GetBucketLocationInput>,
    ) -> S3Result<S3Response<GetBucketLocationOutput>> {
        self.store.with(&req.input.bucket, |_| Ok(()))?;
        ok(GetBucketLocationOutput::default())
    }

    async fn get_bucket_versioning(
        &self,
        req: S3Request<GetBucketVersioningInput>,
    ) -> S3Result<S3Response<GetBucketVersioningOutput>> {
        self.store.with(&req.input.bucket, |_| Ok(()))?;
        ok(GetBucketVersioningOutput::default())
    }

    async fn list_objects_v2(
        &self,
        req: S3Request<ListObjectsV2Input>,
    ) -> S3Result<S3Response<ListObjectsV2Output>> {
        lists::list_objects_v2(self, req).await
    }

    async fn list_objects(
        &self,
        req: S3Request<ListObjectsInput>,
    ) -> S3Result<S3Response<ListObjectsOutput>> {
        lists::list_objects(self, req).await
    }

    async fn put_object(&self, req: S3Request<PutObjectInput>) -> S3Result<S3Response<PutObjectOutput>> {
        let mut input = req.input;
        let check = |bucket: &mut super::store::Bucket, key: &str| {
            check_write(bucket.objects.get(key), input.if_match.as_ref(), input.if_none_match.as_ref())
        };
        self.store.with(&input.bucket, |bucket| check(bucket, &input.key))?;
        let claims = Claims {
            length: input.content_length,
            md5: input.content_md5.take(),
            checksums: checksums_of!(input),
            ..Claims::default()
        };
        let received =
            self.receive(input.body.take(), claims.with_trailers(&req.headers, req.trailing_headers)).await?;
        let object = StoredObject {
            etag: hex::encode(received.md5),
            blob: received.blob,
            modified: SystemTime::now(),
            checksums: self.kept_checksums(received.checksums),
            attributes: attributes(
                input.content_type.take(),
                input.storage_class.take(),
                input.server_side_encryption.take(),
                input.metadata.take(),
            ),
        };
        let (etag, sums, encryption) =
            (strong(&object.etag), object.checksums.clone(), encryption_of(&object.attributes));
        self.store.with(&input.bucket, |bucket| {
            check(bucket, &input.key)?;
            bucket.objects.insert(input.key.clone(), Arc::new(object));
            Ok(())
        })?;
        ok(PutObjectOutput {
            e_tag: Some(etag),
            checksum_crc32: sums.checksum_crc32,
            checksum_crc32c: sums.checksum_crc32c,
            checksum_crc64nvme: sums.checksum_crc64nvme,
            checksum_sha1: sums.checksum_sha1,
            checksum_sha256: sums.checksum_sha256,
            server_side_encryption: encryption,
            ..PutObjectOutput::default()
        })
    }

    async fn get_object(&self, req: S3Request<GetObjectInput>) -> S3Result<S3Response<GetObjectOutput>> {
        let input = req.input;
        let object = self.store.get(&input.bucket, &input.key)?;
        check_read(&object, input.if_match.as_ref(), input.if_none_match.as_ref())?;
        let size = object.blob.size();
        let range = input.range.map(|range| range.check(size)).transpose()?;
        let content_range =
            range.as_ref().map(|range| format!("bytes {}-{}/{size}", range.start, range.end - 1));
        let whole = range.is_none();
        let range = range.unwrap_or(0..size);
        // A checksum is of the whole object, so it would be wrong beside a range.
        let sums = if input.checksum_mode.is_some() && whole {
            object.checksums.clone()
        } else {
            Checksum::default()
        };
        ok(GetObjectOutput {
            content_length: Some((range.end - range.start).cast_signed()),
            body: Some(stream_of(&object.blob, range)),
            content_range,
            accept_ranges: Some("bytes".into()),
            e_tag: Some(strong(&object.etag)),
            last_modified: Some(object.modified.into()),
            content_type: object.attributes.content_type.clone(),
            metadata: object.attributes.metadata.clone(),
            storage_class: object.attributes.storage_class.clone().map(StorageClass::from),
            server_side_encryption: encryption_of(&object.attributes),
            checksum_crc32: sums.checksum_crc32,
            checksum_crc32c: sums.checksum_crc32c,
            checksum_crc64nvme: sums.checksum_crc64nvme,
            checksum_sha1: sums.checksum_sha1,
            checksum_sha256: sums.checksum_sha256,
            checksum_type: sums.checksum_type,
            ..GetObjectOutput::default()
        })
    }

    async fn head_object(&self, req: S3Request<HeadObjectInput>) -> S3Result<S3Response<HeadObjectOutput>> {
        let input = req.input;
        let object = self.store.get(&input.bucket, &input.key)?;
        check_read(&object, input.if_match.as_ref(), input.if_none_match.as_ref())?;
        let sums = if input.checksum_mode.is_some() { object.checksums.clone() } else { Checksum::default() };
        ok(HeadObjectOutput {
            content_length: Some(object.blob.size().cast_signed()),
            accept_ranges: Some("bytes".into()),
            e_tag: Some(strong(&object.etag)),
            last_modified: Some(object.modified.into()),
            content_type: object.attributes.content_type.clone(),
            metadata: object.attributes.metadata.clone(),
            storage_class: object.attributes.storage_class.clone().map(StorageClass::from),
            server_side_encryption: encryption_of(&object.attributes),
            checksum_crc32: sums.checksum_crc32,
            checksum_crc32c: sums.checksum_crc32c,
            checksum_crc64nvme: sums.checksum_crc64nvme,
            checksum_sha1: sums.checksum_sha1,
            checksum_sha256: sums.checksum_sha256,
            checksum_type: sums.checksum_type,
            ..HeadObjectOutput::default()
        })
    }

    async fn delete_object(
        &self,
        req: S3Request<DeleteObjectInput>,
    ) -> S3Result<S3Response<DeleteObjectOutput>> {
        self.store.with(&req.input.bucket, |bucket| {
            bucket.objects.remove(&req.input.key);
            Ok(())
        })?;
        ok(DeleteObjectOutput::default())
    }

    async fn delete_objects(
        &self,
        req: S3Request<DeleteObjectsInput>,
    ) -> S3Result<S3Response<DeleteObjectsOutput>> {
        let has_digest = req.headers.contains_key("content-md5")
            || req.headers.keys().any(|name| name.as_str().starts_with("x-amz-checksum-"));
        if !has_digest {
            return Err(s3_error!(
                InvalidRequest,
                "Missing required header for this request: Content-MD5 OR x-amz-checksum-*"
            ));
        }
        let delete = req.input.delete;
        if delete.objects.is_empty() || delete.objects.len() > MAX_DELETE {
            return Err(s3_error!(
                MalformedXML,
                "The XML you provided was not well-formed or did not validate against our published schema"
            ));
        }
        self.store.with(&req.input.bucket, |bucket| {
            for object in &delete.objects {
                bucket.objects.remove(&object.key);
            }
            Ok(())
        })?;
        let quiet = delete.quiet.unwrap_or(false);
        let deleted =
            |object: ObjectIdentifier| DeletedObject { key: Some(object.key), ..DeletedObject::default() };
        let deleted = if quiet { None } else { Some(delete.objects.into_iter().map(deleted).collect()) };
        ok(DeleteObjectsOutput { deleted, ..DeleteObjectsOutput::default() })
    }

    async fn copy_object(&self, req: S3Request<CopyObjectInput>) -> S3Result<S3Response<CopyObjectOutput>> {
        let input = req.input;
        let (source_name, source) = self.source(&input.copy_source)?;
        check_copy_source(
            &source,
            input.copy_source_if_match.as_ref(),
            input.copy_source_if_none_match.as_ref(),
        )?;
        if source.blob.size() > MAX_COPY {
            return Err(s3_error!(
                InvalidRequest,
                "The specified copy source is larger than the maximum allowable size for a copy source: {MAX_COPY}"
            ));
        }
        let replace = input
            .metadata_directive
            .as_ref()
            .is_some_and(|directive| directive.as_str() == MetadataDirective::REPLACE);
        if source_name == format!("{}/{}", input.bucket, input.key)
            && !replace
            && input.storage_class.is_none()
        {
            return Err(s3_error!(
                InvalidRequest,
                "This copy request is illegal because it is trying to copy an object to itself without changing the object's metadata, storage class, website redirect location or encryption attributes."
            ));
        }
        let attributes = if replace {
            attributes(input.content_type, input.storage_class, input.server_side_encryption, input.metadata)
        } else {
            Attributes {
                storage_class: input.storage_class.map(|class| class.as_str().to_owned()),
                encryption: input.server_side_encryption.map(|encryption| encryption.as_str().to_owned()),
                ..source.attributes.clone()
            }
        };
        let object = StoredObject {
            etag: copied_etag(&source).await?,
            blob: source.blob.clone(),
            modified: SystemTime::now(),
            checksums: source.checksums.clone(),
            attributes,
        };
        let result = CopyObjectResult {
            e_tag: Some(strong(&object.etag)),
            last_modified: Some(object.modified.into()),
            ..CopyObjectResult::default()
        };
        self.store.with(&input.bucket, |bucket| {
            bucket.objects.insert(input.key.clone(), Arc::new(object));
            Ok(())
        })?;
        ok(CopyObjectOutput { copy_object_result: Some(result), ..CopyObjectOutput::default() })
    }

    async fn create_multipart_upload(
        &self,
        req: S3Request<CreateMultipartUploadInput>,
    ) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
        multipart::create_multipart_upload(self, req).await
    }

    async fn upload_part(&self, req: S3Request<UploadPartInput>) -> S3Result<S3Response<UploadPartOutput>> {
        multipart::upload_part(self, req).await
    }

    async fn upload_part_copy(
        &self,
        req: S3Request<UploadPartCopyInput>,
    ) -> S3Result<S3Response<UploadPartCopyOutput>> {
        multipart::upload_part_copy(self, req).await
    }

    async fn complete_multipart_upload(
        &self,
        req: S3Request<CompleteMultipartUploadInput>,
    ) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
        multipart::complete_multipart_upload(self, req).await
    }

    async fn abort_multipart_upload(
        &self,
        req: S3Request<AbortMultipartUploadInput>,
    ) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
        multipart::abort_multipart_upload(self, req).await
    }

    async fn list_parts(&self, req: S3Request<ListPartsInput>) -> S3Result<S3Response<ListPartsOutput>> {
        lists::list_parts(self, req).await
    }

    async fn list_multipart_uploads(
        &self,
        req: S3Request<ListMultipartUploadsInput>,
    ) -> S3Result<S3Response<ListMultipartUploadsOutput>> {
        lists::list_multipart_uploads(self, req).await
    }
}

/// A copy is written in one go, so its ETag is the plain MD5 also when the source came in parts.
async fn copied_etag(source: &Arc<StoredObject>) -> S3Result<String> {
    if !source.etag.contains('-') {
        return Ok(source.etag.clone());
    }
    let source = source.clone();
    let hash = tokio::task::spawn_blocking(move || source.blob.read().map(|bytes| md5_hex(&bytes)));
    hash.await.map_err(|e| s3_error!(e, InternalError))?.map_err(|e| s3_error!(e, InternalError))
}
