//! Listings of objects, parts and unfinished uploads, page by page.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE as BASE64;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use s3s::dto::*;
use s3s::{S3Request, S3Response, S3Result, s3_error};

use super::{Backend, ok};
use crate::s3::listing::{Entry, ListQuery, MAX_PAGE, Page};
use crate::s3::store::{StoredObject, strong};
use crate::s3::uploads::UploadedPart;

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

pub(super) async fn list_objects_v2(
    backend: &Backend,
    req: S3Request<ListObjectsV2Input>,
) -> S3Result<S3Response<ListObjectsV2Output>> {
    let input = req.input;
    let limit = page_limit(input.max_keys)?;
    let after = match &input.continuation_token {
        Some(token) => {
            let bytes = BASE64.decode(token).ok().and_then(|bytes| String::from_utf8(bytes).ok());
            bytes.ok_or_else(|| s3_error!(InvalidArgument, "The continuation token provided is incorrect"))?
        }
        None => input.start_after.clone().unwrap_or_default(),
    };
    let query = ListQuery {
        prefix: input.prefix.as_deref().unwrap_or_default(),
        delimiter: input.delimiter.as_deref().unwrap_or_default(),
        after: &after,
        limit,
    };
    let page = backend.store.list(&input.bucket, &query)?;
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

pub(super) async fn list_objects(
    backend: &Backend,
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
    let page = backend.store.list(&input.bucket, &query)?;
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

pub(super) async fn list_parts(
    backend: &Backend,
    req: S3Request<ListPartsInput>,
) -> S3Result<S3Response<ListPartsOutput>> {
    let input = req.input;
    let limit = page_limit(input.max_parts)?;
    let after = input.part_number_marker.unwrap_or(0);
    let (parts, truncated, algorithm) =
        backend.open_upload(&input.bucket, &input.key, &input.upload_id, |upload| {
            let mut rest = upload.parts.range(after + 1..).peekable();
            let parts: Vec<_> =
                rest.by_ref().take(limit).map(|(number, part)| (*number, part.clone())).collect();
            Ok((parts, rest.peek().is_some(), upload.algorithm.clone()))
        })?;
    let next = parts.last().map(|(number, _)| *number);
    let answer = |(number, part): (i32, UploadedPart)| {
        let sums = backend.kept_checksums(part.checksums.clone());
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
            .filter(|_| !backend.store.quirks.forgets_checksums)
            .map(ChecksumAlgorithm::from),
        parts: Some(parts.into_iter().map(answer).collect()),
        ..ListPartsOutput::default()
    })
}

pub(super) async fn list_multipart_uploads(
    backend: &Backend,
    req: S3Request<ListMultipartUploadsInput>,
) -> S3Result<S3Response<ListMultipartUploadsOutput>> {
    let input = req.input;
    if input.delimiter.is_some() {
        return Err(s3_error!(NotImplemented, "ListMultipartUploads with a delimiter is not implemented"));
    }
    let limit = page_limit(input.max_uploads)?;
    let prefix = input.prefix.clone().unwrap_or_default();
    let (key_marker, id_marker) =
        (input.key_marker.clone().unwrap_or_default(), input.upload_id_marker.clone().unwrap_or_default());
    // Without an upload ID the marker means "after every upload of that key".
    let behind = |key: &str, id: &str| {
        if key == key_marker {
            !id_marker.is_empty() && id > id_marker.as_str()
        } else {
            key > key_marker.as_str()
        }
    };
    let encoding = input.encoding_type.as_ref();
    let (uploads, truncated, next) = backend.store.with(&input.bucket, |bucket| {
        let all = bucket.uploads.iter();
        let mut rest = all.filter(|((key, id), _)| key.starts_with(&prefix) && behind(key, id)).peekable();
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
