//! A bucket as the checks see it: every object with its size and CRC-32, and the bodies of manifests.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context;
use bytes::Bytes;

use super::keys::{self, Key};
use super::manifest::Manifest;
use crate::s3::Store;

/// Size and checksum of one object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ObjectFact {
    /// Bytes.
    pub size: u64,
    /// CRC-32, zlib polynomial.
    pub crc32: u32,
}

/// A table of one node, as keys and manifests name it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct StoredTable {
    /// Datacenter of the node.
    pub dc: String,
    /// Host ID of the node.
    pub node: String,
    /// `<keyspace>.<table>`.
    pub table: String,
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

    /// Tables that have a file here, whatever backup it belongs to.
    #[must_use]
    pub fn stored_tables(&self) -> BTreeSet<StoredTable> {
        let table = |key: &str| {
            let Some(Key::Sst(found)) = keys::parse(key) else { return None };
            let parts: Vec<&str> = found.directory.split('/').collect();
            let part = |name: &str| {
                let at = parts.iter().step_by(2).position(|part| *part == name)?;
                parts.get(at * 2 + 1).map(|part| (*part).to_owned())
            };
            Some((part("dc")?, part("node")?, part("keyspace")?, part("table")?))
        };
        let stored =
            |(dc, node, keyspace, table)| StoredTable { dc, node, table: format!("{keyspace}.{table}") };
        self.objects.keys().filter_map(|key| table(key)).map(stored).collect()
    }

    /// Tables that the published manifests of a tag list.
    ///
    /// # Errors
    /// A manifest cannot be read.
    pub fn listed_tables(&self, tag: &str) -> anyhow::Result<BTreeSet<StoredTable>> {
        let mut listed = BTreeSet::new();
        for (key, body) in &self.manifests {
            let Some(Key::Manifest(of)) = keys::parse(key).filter(|_| key.contains(tag)) else { continue };
            if of.temporary {
                continue;
            }
            let manifest = Manifest::read(body).with_context(|| format!("read {key}"))?;
            listed.extend(manifest.index.iter().map(|entry| StoredTable {
                dc: of.dc.clone(),
                node: of.node.clone(),
                table: format!("{}.{}", entry.keyspace, entry.table),
            }));
        }
        Ok(listed)
    }

    /// Keys that start with `prefix`.
    pub fn keys_below<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = &'a str> {
        self.objects
            .range(prefix.to_owned()..)
            .map(|(key, _)| key.as_str())
            .take_while(move |key| key.starts_with(prefix))
    }
}
