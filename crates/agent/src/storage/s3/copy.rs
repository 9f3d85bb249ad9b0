//! Copies inside the service; the bytes never pass through here.

use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};
use futures::{StreamExt as _, TryStreamExt as _};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use super::sse::{with_attributes, with_key};
use super::{S3Store, object};
use crate::storage::{LargeSpec, ObjectPath, Result, StorageError};

/// Largest part of a copy; S3 allows 5 GiB, smaller ones run in parallel.
const COPY_PART: u64 = 512 << 20;
/// Parts copied at once.
const COPY_PARALLEL: usize = 4;

/// Everything but unreserved characters and slashes, as the header wants it.
const SOURCE: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'`')
    .add(b'{')
    .add(b'}')
    .add(b'+')
    .add(b'&')
    .add(b'=')
    .add(b'@')
    .add(b':')
    .add(b';')
    .add(b',')
    .add(b'$')
    .add(b'!')
    .add(b'\'')
    .add(b'(')
    .add(b')')
    .add(b'*')
    .add(b'[')
    .add(b']')
    .add(b'\\')
    .add(b'^')
    .add(b'|');

/// Copies an object; from the configured size on in parts.
pub(super) async fn copy(store: &S3Store, from: &ObjectPath, to: &ObjectPath) -> Result<()> {
    let info = store.head(from).await?;
    if info.size >= store.0.config.copy_cutoff {
        in_parts(store, from, to, info.size).await
    } else {
        whole(store, from, to).await
    }
}

fn source(path: &ObjectPath) -> String {
    utf8_percent_encode(path.as_str(), SOURCE).to_string()
}

/// Sets the customer's key of the source.
macro_rules! with_source_key {
    ($store:expr, $request:expr) => {{
        let customer = $store.0.encryption.customer.clone();
        let (algorithm, key, md5) =
            customer.map_or((None, None, None), |(a, k, m)| (Some(a), Some(k), Some(m)));
        $request
            .set_copy_source_sse_customer_algorithm(algorithm)
            .set_copy_source_sse_customer_key(key)
            .set_copy_source_sse_customer_key_md5(md5)
    }};
}

async fn whole(store: &S3Store, from: &ObjectPath, to: &ObjectPath) -> Result<()> {
    let (bucket, key) = object(to)?;
    store
        .0
        .pacer
        .run(|| async {
            let client = store.client(bucket).await?;
            let request = client.copy_object().bucket(bucket).key(key).copy_source(source(from));
            let request = with_source_key!(store, with_attributes!(store, request));
            request.send().await.map(drop).map_err(|e| missing_source(store.error("CopyObject", to, e), from))
        })
        .await
}

/// A missing source is reported under the name of the target.
fn missing_source(error: StorageError, from: &ObjectPath) -> StorageError {
    match error {
        StorageError::NotFound { .. } => StorageError::NotFound { path: from.to_string() },
        other => other,
    }
}

async fn in_parts(store: &S3Store, from: &ObjectPath, to: &ObjectPath, size: u64) -> Result<()> {
    let (bucket, key) = object(to)?;
    let client = store.client(bucket).await?;
    let id = store
        .0
        .pacer
        .run(|| async {
            let request = client.create_multipart_upload().bucket(bucket).key(key);
            let answer = with_attributes!(store, request).send().await;
            let answer = answer.map_err(|e| store.error("CreateMultipartUpload", to, e))?;
            answer.upload_id.ok_or_else(|| StorageError::Corrupted {
                path: to.to_string(),
                detail: "the store started an upload without an ID".into(),
            })
        })
        .await?;
    let copied = copy_parts(store, from, to, size, &id).await;
    let completed = match copied {
        Ok(parts) => complete(store, to, &id, parts).await,
        Err(error) => Err(error),
    };
    if completed.is_err() {
        let request = client.abort_multipart_upload().bucket(bucket).key(key).upload_id(&id);
        if let Err(error) = request.send().await {
            let error = common::error::chain(&store.error("AbortMultipartUpload", to, error));
            tracing::warn!(path = %to, error, "parts of a copy stay in the bucket");
        }
    }
    completed
}

async fn copy_parts(
    store: &S3Store,
    from: &ObjectPath,
    to: &ObjectPath,
    size: u64,
    id: &str,
) -> Result<Vec<CompletedPart>> {
    // 10,000 parts of 512 MiB are the largest object there is.
    let spec = LargeSpec { size, part_size: COPY_PART };
    let copies = (0..spec.parts()).map(|index| copy_part(store, from, to, spec, index, id));
    futures::stream::iter(copies).buffered(COPY_PARALLEL).try_collect().await
}

async fn copy_part(
    store: &S3Store,
    from: &ObjectPath,
    to: &ObjectPath,
    spec: LargeSpec,
    index: u32,
    id: &str,
) -> Result<CompletedPart> {
    let (bucket, key) = object(to)?;
    let range = spec.range(index);
    let number = i32::try_from(index).unwrap_or(i32::MAX - 1) + 1;
    store
        .0
        .pacer
        .run(|| async {
            let client = store.client(bucket).await?;
            let request = client
                .upload_part_copy()
                .bucket(bucket)
                .key(key)
                .upload_id(id)
                .part_number(number)
                .copy_source(source(from))
                .copy_source_range(format!("bytes={}-{}", range.offset, range.offset + range.length - 1));
            let answer = with_source_key!(store, with_key!(store, request)).send().await;
            let answer = answer.map_err(|e| missing_source(store.error("UploadPartCopy", to, e), from))?;
            let etag = answer.copy_part_result.and_then(|r| r.e_tag);
            Ok(CompletedPart::builder().part_number(number).set_e_tag(etag).build())
        })
        .await
}

async fn complete(store: &S3Store, to: &ObjectPath, id: &str, parts: Vec<CompletedPart>) -> Result<()> {
    let (bucket, key) = object(to)?;
    store
        .0
        .pacer
        .run(|| async {
            let client = store.client(bucket).await?;
            let upload = CompletedMultipartUpload::builder().set_parts(Some(parts.clone())).build();
            let request = client
                .complete_multipart_upload()
                .bucket(bucket)
                .key(key)
                .upload_id(id)
                .multipart_upload(upload);
            let answer = with_key!(store, request).send().await;
            answer.map(drop).map_err(|e| store.error("CompleteMultipartUpload", to, e))
        })
        .await
}
