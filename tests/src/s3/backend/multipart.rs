//! Objects in parts.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use s3s::dto::*;
use s3s::{S3Request, S3Response, S3Result, s3_error};

use super::{Backend, attributes, check_copy_source, ok};
use crate::s3::checksum::{Claims, checksums_of};
use crate::s3::store::{StoredObject, check_write, strong};
use crate::s3::uploads::{MAX_PART_NUMBER, Upload, UploadedPart};

pub(super) fn no_such_upload() -> s3s::S3Error {
    s3_error!(
        NoSuchUpload,
        "The specified upload does not exist. The upload ID may be invalid, or the upload may have been aborted or completed."
    )
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

pub(super) async fn create_multipart_upload(
    backend: &Backend,
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
    backend.store.with(&input.bucket, |bucket| {
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

pub(super) async fn upload_part(
    backend: &Backend,
    req: S3Request<UploadPartInput>,
) -> S3Result<S3Response<UploadPartOutput>> {
    let input = req.input;
    let number = part_number(input.part_number)?;
    backend.open_upload(&input.bucket, &input.key, &input.upload_id, |_| Ok(()))?;
    let claims = Claims {
        length: input.content_length,
        md5: input.content_md5.clone(),
        checksums: checksums_of!(input),
        ..Claims::default()
    };
    let received =
        backend.receive(input.body, claims.with_trailers(&req.headers, req.trailing_headers)).await?;
    let part = UploadedPart {
        blob: received.blob,
        md5: received.md5,
        checksums: received.checksums,
        modified: SystemTime::now(),
    };
    let (etag, sums) = (part.etag(), backend.kept_checksums(part.checksums.clone()));
    backend.open_upload(&input.bucket, &input.key, &input.upload_id, |upload| {
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

pub(super) async fn upload_part_copy(
    backend: &Backend,
    req: S3Request<UploadPartCopyInput>,
) -> S3Result<S3Response<UploadPartCopyOutput>> {
    let input = req.input;
    let number = part_number(input.part_number)?;
    let (_, source) = backend.source(&input.copy_source)?;
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
            range.ok_or_else(|| {
                s3_error!(
                    InvalidArgument,
                    "The x-amz-copy-source-range value must be of the form bytes=first-last within the source"
                )
            })?
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
    backend.open_upload(&input.bucket, &input.key, &input.upload_id, |upload| {
        upload.parts.insert(number, part);
        Ok(())
    })?;
    ok(UploadPartCopyOutput { copy_part_result: Some(result), ..UploadPartCopyOutput::default() })
}

pub(super) async fn complete_multipart_upload(
    backend: &Backend,
    req: S3Request<CompleteMultipartUploadInput>,
) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
    let input = req.input;
    let listed = input.multipart_upload.and_then(|upload| upload.parts).unwrap_or_default();
    let assembled = backend.store.with(&input.bucket, |bucket| {
        let id = (input.key.clone(), input.upload_id.clone());
        check_write(bucket.objects.get(&input.key), input.if_match.as_ref(), input.if_none_match.as_ref())?;
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
        assembled.checksums = backend.kept_checksums(assembled.checksums);
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
    let etag = if backend.store.quirks.empty_complete_etag { String::new() } else { assembled.etag };
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

pub(super) async fn abort_multipart_upload(
    backend: &Backend,
    req: S3Request<AbortMultipartUploadInput>,
) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
    backend.store.with(&req.input.bucket, |bucket| {
        let id = (req.input.key.clone(), req.input.upload_id.clone());
        bucket.uploads.remove(&id).map(|_| ()).ok_or_else(no_such_upload)
    })?;
    ok(AbortMultipartUploadOutput::default())
}
