//! A bucket as the checks see it: every object with its size and CRC-32, and the bodies of manifests.

use std::collections::BTreeMap;

use anyhow::Context;
use bytes::Bytes;

use crate::s3::Store;

/// Size and checksum of one object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ObjectFact {
    /// Bytes.
    pub size: u64,
    /// CRC-32, zlib polynomial.
    pub crc32: u32,
}

/// Everything in one bucket.
#[derive(Debug, Default)]
pub struct BucketContents {
    /// By key.
    pub objects: BTreeMap<String, ObjectFact>,
    /// Bodies below `backup/meta/`, by key.
    pub manifests: BTreeMap<String, Bytes>,
    /// Multipart uploads that are open.
    pub unfinished_uploads: usize,
}

/// Keys whose bodies are kept.
const META: &str = "backup/meta/";

impl BucketContents {
    /// Looks into our own server.
    ///
    /// # Errors
    /// A manifest's body was discarded.
    pub fn of_store(store: &Store, bucket: &str) -> anyhow::Result<Self> {
        let mut contents = Self { unfinished_uploads: store.unfinished_uploads(bucket), ..Self::default() };
        for (key, size, crc32) in store.objects(bucket) {
            if key.starts_with(META)
                && let Some(object) = store.object(bucket, &key)
            {
                let body = object.blob.read().with_context(|| format!("read {key}"))?;
                contents.manifests.insert(key.clone(), body);
            }
            contents.objects.insert(key, ObjectFact { size, crc32 });
        }
        Ok(contents)
    }

    /// Downloads every object of a bucket on any server; for buckets that hold little.
    ///
    /// # Errors
    /// The server does not answer or refuses.
    pub async fn of_client(client: &aws_sdk_s3::Client, bucket: &str) -> anyhow::Result<Self> {
        let mut contents = Self::default();
        let mut pages = client.list_objects_v2().bucket(bucket).into_paginator().send();
        while let Some(page) = pages.next().await {
            for object in page.context("list objects")?.contents() {
                let key = object.key().unwrap_or_default().to_owned();
                let reply = client.get_object().bucket(bucket).key(&key).send().await;
                let body = reply.with_context(|| format!("get {key}"))?.body.collect().await?.into_bytes();
                let fact = ObjectFact { size: body.len() as u64, crc32: crc32fast::hash(&body) };
                if key.starts_with(META) {
                    contents.manifests.insert(key.clone(), body);
                }
                contents.objects.insert(key, fact);
            }
        }
        let uploads = client.list_multipart_uploads().bucket(bucket).send().await.context("list uploads")?;
        contents.unfinished_uploads = uploads.uploads().len();
        Ok(contents)
    }

    /// Keys that start with `prefix`.
    pub fn keys_below<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = &'a str> {
        self.objects
            .range(prefix.to_owned()..)
            .map(|(key, _)| key.as_str())
            .take_while(move |key| key.starts_with(prefix))
    }
}
