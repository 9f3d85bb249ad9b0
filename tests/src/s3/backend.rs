//! The S3 operations: each checks what AWS checks, then changes the store in one step.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE as BASE64;
use futures::TryStreamExt;
use http_body::Frame;
use http_body_util::StreamBody;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use s3s::dto::*;
use s3s::{Body, S3, S3Request, S3Response, S3Result, s3_error};

use super::blob::Blob;
use super::checksum::{Claims, Received, checksums_of, md5_hex, receive};
use super::listing::{Entry, ListQuery, MAX_PAGE, Page};
use super::store::{Attributes, Store, StoredObject, check_write, matches_etag, precondition, strong};
use super::uploads::{MAX_PART_NUMBER, Upload, UploadedPart};

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

fn no_such_upload() -> s3s::S3Error {
    s3_error!(
        NoSuchUpload,
        "The specified upload does not exist. The upload ID may be invalid, or the upload may have been aborted or completed."
    )
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

    fn part_number(number: i32) -> S3Result<i32> {
        if (1..=MAX_PART_NUMBER).contains(&number) {
            return Ok(number);
        }
        Err(s3_error!(
            InvalidArgument,
            "Part number must be an integer between 1 and {MAX_PART_NUMBER}, inclusive"
        ))
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
            work(upload.ok_or_else(no_such_upload)?)
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

/// Keys in XML cannot hold every character; a client that knows asks for percent encoding.
fn encode(text: &str, encoding: Option<&EncodingType>) -> String {
    const KEPT: &AsciiSet =
        &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'/').remove(b'*');
    if encoding.is_some_and(|encoding| encoding.as_str() == EncodingType::URL) {
        utf8_percent_encode(text, KEPT).to_string()
    } else {
        text.to_owned()
    }
}

fn contents(
    page: Page<Arc<StoredObject>>,
    encoding: Option<&EncodingType>,
) -> (Vec<Object>, Vec<CommonPrefix>) {
    let (mut objects, mut prefixes) = (Vec::new(), Vec::new());
    for entry in page.entries {
        match entry {
            Entry::CommonPrefix(prefix) => {
                prefixes.push(CommonPrefix { prefix: Some(encode(&prefix, encoding)) })
            }
            Entry::Key(key, object) => objects.push(Object {
                key: Some(encode(&key, encoding)),
                e_tag: Some(strong(&object.etag)),
                last_modified: Some(object.modified.into()),
                size: Some(object.blob.size().cast_signed()),
                storage_class: Some(
                    object.attributes.storage_class.clone().unwrap_or_else(|| "STANDARD".into()).into(),
                ),
                ..Object::default()
            }),
        }
    }
    (objects, prefixes)
}

fn page_limit(max_keys: Option<i32>) -> S3Result<usize> {
    let asked = max_keys.unwrap_or(1000);
    let asked = usize::try_from(asked).map_err(|_| {
        s3_error!(InvalidArgument, "Argument maxKeys must be an integer between 0 and 2147483647")
    })?;
    Ok(asked.min(MAX_PAGE))
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
        let input = req.input;
        let limit = page_limit(input.max_keys)?;
        let after = match &input.continuation_token {
            Some(token) => {
                let bytes = BASE64.decode(token).ok().and_then(|bytes| String::from_utf8(bytes).ok());
                bytes.ok_or_else(|| {
                    s3_error!(InvalidArgument, "The continuation token provided is incorrect")
                })?
            }
            None => input.start_after.clone().unwrap_or_default(),
        };
        let query = ListQuery {
            prefix: input.prefix.as_deref().unwrap_or_default(),
            delimiter: input.delimiter.as_deref().unwrap_or_default(),
            after: &after,
            limit,
        };
        let page = self.store.list(&input.bucket, &query)?;
        let next = page.next.as_ref().map(|key| BASE64.encode(key));
        let encoding = input.encoding_type.as_ref();
        let key_count = i32::try_from(page.entries.len()).unwrap_or(i32::MAX);
        let (objects, prefixes) = contents(page, encoding);
        ok(ListObjectsV2Output {
            name: Some(input.bucket),
            prefix: Some(encode(query.prefix, encoding)),
            delimiter: input.delimiter.as_deref().map(|delimiter| encode(delimiter, encoding)),
            max_keys: Some(i32::try_from(limit).unwrap_or(i32::MAX)),
            key_count: Some(key_count),
            is_truncated: Some(next.is_some()),
            next_continuation_token: next,
            continuation_token: input.continuation_token,
            start_after: input.start_after.as_deref().map(|key| encode(key, encoding)),
            contents: Some(objects),
            common_prefixes: Some(prefixes),
            encoding_type: input.encoding_type.clone(),
            ..ListObjectsV2Output::default()
        })
    }

    async fn list_objects(
        &self,
        req: S3Request<ListObjectsInput>,
    ) -> S3Result<S3Response<ListObjectsOutput>> {
        let input = req.input;
        let limit = page_limit(input.max_keys)?;
        let query = ListQuery {
            prefix: input.prefix.as_deref().unwrap_or_default(),
            delimiter: input.delimiter.as_deref().unwrap_or_default(),
            after: input.marker.as_deref().unwrap_or_default(),
            limit,
        };
        let page = self.store.list(&input.bucket, &query)?;
        let encoding = input.encoding_type.as_ref();
        let next = page.next.clone();
        let (objects, prefixes) = contents(page, encoding);
        ok(ListObjectsOutput {
            name: Some(input.bucket),
            prefix: Some(encode(query.prefix, encoding)),
            marker: Some(encode(query.after, encoding)),
            delimiter: input.delimiter.as_deref().map(|delimiter| encode(delimiter, encoding)),
            max_keys: Some(i32::try_from(limit).unwrap_or(i32::MAX)),
            is_truncated: Some(next.is_some()),
            // AWS answers it only together with a delimiter; without one the last key is the marker.
            next_marker: next.filter(|_| input.delimiter.is_some()).map(|key| encode(&key, encoding)),
            contents: Some(objects),
            common_prefixes: Some(prefixes),
            encoding_type: input.encoding_type.clone(),
            ..ListObjectsOutput::default()
        })
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
        let input = req.input;
        let id = uuid::Uuid::new_v4().simple().to_string();
        let upload = Upload {
            initiated: SystemTime::now(),
            algorithm: input.checksum_algorithm.as_ref().map(|algorithm| algorithm.as_str().to_owned()),
            checksum_type: input.checksum_type.as_ref().map(|kind| kind.as_str().to_owned()),
            attributes: attributes(
                input.content_type,
                input.storage_class,
                input.server_side_encryption,
                input.metadata,
            ),
            parts: BTreeMap::new(),
        };
        self.store.with(&input.bucket, |bucket| {
            bucket.uploads.insert((input.key.clone(), id.clone()), upload);
            Ok(())
        })?;
        ok(CreateMultipartUploadOutput {
            bucket: Some(input.bucket),
            key: Some(input.key),
            upload_id: Some(id),
            checksum_algorithm: input.checksum_algorithm,
            checksum_type: input.checksum_type,
            ..CreateMultipartUploadOutput::default()
        })
    }

    async fn upload_part(&self, req: S3Request<UploadPartInput>) -> S3Result<S3Response<UploadPartOutput>> {
        let input = req.input;
        let number = Self::part_number(input.part_number)?;
        self.open_upload(&input.bucket, &input.key, &input.upload_id, |_| Ok(()))?;
        let claims = Claims {
            length: input.content_length,
            md5: input.content_md5.clone(),
            checksums: checksums_of!(input),
            ..Claims::default()
        };
        let received =
            self.receive(input.body, claims.with_trailers(&req.headers, req.trailing_headers)).await?;
        let part = UploadedPart {
            blob: received.blob,
            md5: received.md5,
            checksums: received.checksums,
            modified: SystemTime::now(),
        };
        let (etag, sums) = (part.etag(), self.kept_checksums(part.checksums.clone()));
        self.open_upload(&input.bucket, &input.key, &input.upload_id, |upload| {
            upload.check_algorithm(&part.checksums)?;
            upload.parts.insert(number, part);
            Ok(())
        })?;
        ok(UploadPartOutput {
            e_tag: Some(strong(&etag)),
            checksum_crc32: sums.checksum_crc32,
            checksum_crc32c: sums.checksum_crc32c,
            checksum_crc64nvme: sums.checksum_crc64nvme,
            checksum_sha1: sums.checksum_sha1,
            checksum_sha256: sums.checksum_sha256,
            ..UploadPartOutput::default()
        })
    }

    async fn upload_part_copy(
        &self,
        req: S3Request<UploadPartCopyInput>,
    ) -> S3Result<S3Response<UploadPartCopyOutput>> {
        let input = req.input;
        let number = Self::part_number(input.part_number)?;
        let (_, source) = self.source(&input.copy_source)?;
        check_copy_source(
            &source,
            input.copy_source_if_match.as_ref(),
            input.copy_source_if_none_match.as_ref(),
        )?;
        let size = source.blob.size();
        let range = match &input.copy_source_range {
            None => 0..size,
            Some(text) => {
                let range = Range::parse(text).ok().and_then(|range| range.check(size).ok());
                range.ok_or_else(|| s3_error!(InvalidArgument, "The x-amz-copy-source-range value must be of the form bytes=first-last within the source"))?
            }
        };
        let copy = tokio::task::spawn_blocking(move || {
            let blob = source.blob.slice(range)?;
            let bytes = blob.read()?;
            Ok::<_, std::io::Error>((blob, bytes))
        });
        let (blob, bytes) =
            copy.await.map_err(|e| s3_error!(e, InternalError))?.map_err(|e| s3_error!(e, InternalError))?;
        let md5 = <md5::Md5 as md5::Digest>::digest(&bytes).into();
        let part = UploadedPart { blob, md5, checksums: Checksum::default(), modified: SystemTime::now() };
        let result = CopyPartResult {
            e_tag: Some(strong(&part.etag())),
            last_modified: Some(part.modified.into()),
            ..CopyPartResult::default()
        };
        self.open_upload(&input.bucket, &input.key, &input.upload_id, |upload| {
            upload.parts.insert(number, part);
            Ok(())
        })?;
        ok(UploadPartCopyOutput { copy_part_result: Some(result), ..UploadPartCopyOutput::default() })
    }

    async fn complete_multipart_upload(
        &self,
        req: S3Request<CompleteMultipartUploadInput>,
    ) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
        let input = req.input;
        let listed = input.multipart_upload.and_then(|upload| upload.parts).unwrap_or_default();
        let assembled = self.store.with(&input.bucket, |bucket| {
            let id = (input.key.clone(), input.upload_id.clone());
            check_write(
                bucket.objects.get(&input.key),
                input.if_match.as_ref(),
                input.if_none_match.as_ref(),
            )?;
            let upload = bucket.uploads.get(&id).ok_or_else(no_such_upload)?;
            let mut assembled = upload.assemble(&listed)?;
            if input.mpu_object_size.is_some_and(|size| size != assembled.blob.size().cast_signed()) {
                return Err(s3_error!(
                    InvalidRequest,
                    "The provided 'x-amz-mp-object-size' header does not match what was computed."
                ));
            }
            let claimed = input.checksum_crc32.as_ref();
            if claimed.is_some() && claimed != assembled.checksums.checksum_crc32.as_ref() {
                return Err(s3_error!(
                    BadDigest,
                    "The CRC32 you specified did not match the calculated checksum."
                ));
            }
            assembled.checksums = self.kept_checksums(assembled.checksums);
            let object = StoredObject {
                blob: assembled.blob.clone(),
                etag: assembled.etag.clone(),
                modified: SystemTime::now(),
                checksums: assembled.checksums.clone(),
                attributes: upload.attributes.clone(),
            };
            bucket.uploads.remove(&id);
            bucket.objects.insert(input.key.clone(), Arc::new(object));
            Ok(assembled)
        })?;
        let etag = if self.store.quirks.empty_complete_etag { String::new() } else { assembled.etag };
        ok(CompleteMultipartUploadOutput {
            location: Some(format!("/{}/{}", input.bucket, input.key)),
            bucket: Some(input.bucket),
            key: Some(input.key),
            e_tag: Some(ETag::Strong(etag)),
            checksum_crc32: assembled.checksums.checksum_crc32,
            checksum_type: assembled.checksums.checksum_type,
            ..CompleteMultipartUploadOutput::default()
        })
    }

    async fn abort_multipart_upload(
        &self,
        req: S3Request<AbortMultipartUploadInput>,
    ) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
        self.store.with(&req.input.bucket, |bucket| {
            let id = (req.input.key.clone(), req.input.upload_id.clone());
            bucket.uploads.remove(&id).map(|_| ()).ok_or_else(no_such_upload)
        })?;
        ok(AbortMultipartUploadOutput::default())
    }

    async fn list_parts(&self, req: S3Request<ListPartsInput>) -> S3Result<S3Response<ListPartsOutput>> {
        let input = req.input;
        let limit = page_limit(input.max_parts)?;
        let after = input.part_number_marker.unwrap_or(0);
        let (parts, truncated, algorithm) =
            self.open_upload(&input.bucket, &input.key, &input.upload_id, |upload| {
                let mut rest = upload.parts.range(after + 1..).peekable();
                let parts: Vec<_> =
                    rest.by_ref().take(limit).map(|(number, part)| (*number, part.clone())).collect();
                Ok((parts, rest.peek().is_some(), upload.algorithm.clone()))
            })?;
        let next = parts.last().map(|(number, _)| *number);
        let answer = |(number, part): (i32, UploadedPart)| {
            let sums = self.kept_checksums(part.checksums.clone());
            Part {
                part_number: Some(number),
                e_tag: Some(strong(&part.etag())),
                size: Some(part.blob.size().cast_signed()),
                last_modified: Some(part.modified.into()),
                checksum_crc32: sums.checksum_crc32,
                checksum_crc32c: sums.checksum_crc32c,
                checksum_crc64nvme: sums.checksum_crc64nvme,
                checksum_sha1: sums.checksum_sha1,
                checksum_sha256: sums.checksum_sha256,
            }
        };
        ok(ListPartsOutput {
            bucket: Some(input.bucket),
            key: Some(input.key),
            upload_id: Some(input.upload_id),
            part_number_marker: Some(after),
            next_part_number_marker: next,
            max_parts: Some(i32::try_from(limit).unwrap_or(i32::MAX)),
            is_truncated: Some(truncated),
            checksum_algorithm: algorithm
                .filter(|_| !self.store.quirks.forgets_checksums)
                .map(ChecksumAlgorithm::from),
            parts: Some(parts.into_iter().map(answer).collect()),
            ..ListPartsOutput::default()
        })
    }

    async fn list_multipart_uploads(
        &self,
        req: S3Request<ListMultipartUploadsInput>,
    ) -> S3Result<S3Response<ListMultipartUploadsOutput>> {
        let input = req.input;
        if input.delimiter.is_some() {
            return Err(s3_error!(
                NotImplemented,
                "ListMultipartUploads with a delimiter is not implemented"
            ));
        }
        let limit = page_limit(input.max_uploads)?;
        let prefix = input.prefix.clone().unwrap_or_default();
        let (key_marker, id_marker) = (
            input.key_marker.clone().unwrap_or_default(),
            input.upload_id_marker.clone().unwrap_or_default(),
        );
        // Without an upload ID the marker means "after every upload of that key".
        let behind = |key: &str, id: &str| {
            if key == key_marker {
                !id_marker.is_empty() && id > id_marker.as_str()
            } else {
                key > key_marker.as_str()
            }
        };
        let encoding = input.encoding_type.as_ref();
        let (uploads, truncated, next) = self.store.with(&input.bucket, |bucket| {
            let all = bucket.uploads.iter();
            let mut rest =
                all.filter(|((key, id), _)| key.starts_with(&prefix) && behind(key, id)).peekable();
            let mut uploads = Vec::new();
            let mut next = None;
            for ((key, id), upload) in rest.by_ref().take(limit) {
                next = Some((key.clone(), id.clone()));
                uploads.push(MultipartUpload {
                    key: Some(encode(key, encoding)),
                    upload_id: Some(id.clone()),
                    initiated: Some(upload.initiated.into()),
                    checksum_algorithm: upload.algorithm.clone().map(ChecksumAlgorithm::from),
                    ..MultipartUpload::default()
                });
            }
            Ok((uploads, rest.peek().is_some(), next))
        })?;
        let (next_key, next_id) = next.filter(|_| truncated).unzip();
        ok(ListMultipartUploadsOutput {
            bucket: Some(input.bucket),
            prefix: Some(encode(&prefix, encoding)),
            key_marker: Some(key_marker),
            upload_id_marker: Some(id_marker),
            max_uploads: Some(i32::try_from(limit).unwrap_or(i32::MAX)),
            is_truncated: Some(truncated),
            next_key_marker: next_key,
            next_upload_id_marker: next_id,
            uploads: Some(uploads),
            encoding_type: input.encoding_type,
            ..ListMultipartUploadsOutput::default()
        })
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
