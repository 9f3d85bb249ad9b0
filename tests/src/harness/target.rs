//! The object store of a scenario: our own server, or one named by the environment.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, ensure};
use aws_sdk_s3::Client;
use aws_sdk_s3::config::{BehaviorVersion, Region, RequestChecksumCalculation};
use aws_sdk_s3::error::SdkError;
use aws_sdk_s3::types::{Delete, ObjectIdentifier};
use bytes::Bytes;
use tokio::sync::OwnedMutexGuard;

use crate::invariants::BucketContents;
use crate::s3::{Counters, Faults, S3Relay, S3Server};

/// How agents are told to treat a server of which nothing else is known.
pub const DEFAULT_PROVIDER: &str = "Minio";

/// A server that runs already, e.g. Ceph RGW.
#[derive(Clone, Debug)]
pub struct ExternalS3 {
    /// Base URL.
    pub endpoint: String,
    /// Access key ID.
    pub access_key: String,
    /// Secret access key.
    pub secret_key: String,
    /// A bucket that may be emptied; scenarios append `-<number>`, and make what is missing.
    pub bucket: String,
    /// Its name among the providers of the agent's configuration.
    pub provider: String,
}

impl ExternalS3 {
    /// The server of `TEST_S3_ENDPOINT`, `TEST_S3_ACCESS_KEY`, `TEST_S3_SECRET_KEY`, `TEST_S3_BUCKET`; `None` unless all
    /// are set. `TEST_S3_PROVIDER` may say what it is.
    #[must_use]
    pub fn from_environment() -> Option<Self> {
        let get = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        Some(Self {
            endpoint: get("TEST_S3_ENDPOINT")?,
            access_key: get("TEST_S3_ACCESS_KEY")?,
            secret_key: get("TEST_S3_SECRET_KEY")?,
            bucket: get("TEST_S3_BUCKET")?,
            provider: get("TEST_S3_PROVIDER").unwrap_or_else(|| DEFAULT_PROVIDER.to_owned()),
        })
    }

    /// A client for looking into the bucket.
    #[must_use]
    pub fn client(&self) -> Client {
        let keys =
            aws_credential_types::Credentials::new(&self.access_key, &self.secret_key, None, None, "testbed");
        let timeouts = aws_sdk_s3::config::timeout::TimeoutConfig::builder()
            .operation_timeout(Duration::from_secs(60))
            .build();
        let config = aws_sdk_s3::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("us-east-1"))
            .endpoint_url(&self.endpoint)
            .force_path_style(true)
            .credentials_provider(keys)
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .timeout_config(timeouts)
            .http_client(aws_smithy_http_client::Builder::new().build_http())
            .build();
        Client::from_conf(config)
    }

    /// A bucket that nobody else in this process uses, made if need be, and empty: scenarios run side by side.
    ///
    /// # Errors
    /// The server does not answer or refuses.
    pub async fn own_bucket(&self) -> anyhow::Result<String> {
        static NEXT: AtomicUsize = AtomicUsize::new(1);
        let bucket = format!("{}-{}", self.bucket, NEXT.fetch_add(1, Ordering::Relaxed));
        if let Err(error) = self.client().create_bucket().bucket(&bucket).send().await {
            let error = error.into_service_error();
            if !error.is_bucket_already_owned_by_you() {
                return Err(error).with_context(|| format!("create the external bucket {bucket}"));
            }
        }
        self.empty(&bucket).await?;
        Ok(bucket)
    }

    /// A bucket of that name for as long as the claim is held: scenarios that run side by side may want the same one.
    /// What somebody else has put into such a bucket is not touched.
    ///
    /// # Errors
    /// The server does not answer or refuses, or the bucket was there before and is not empty.
    pub async fn claim_bucket(&self, bucket: &str) -> anyhow::Result<BucketClaim> {
        static MADE: Mutex<BTreeMap<String, Arc<tokio::sync::Mutex<bool>>>> = Mutex::new(BTreeMap::new());
        let claim =
            MADE.lock().unwrap_or_else(PoisonError::into_inner).entry(bucket.to_owned()).or_default().clone();
        let mut claim = claim.lock_owned().await;
        if *claim {
            self.empty(bucket).await?;
            return Ok(BucketClaim(claim));
        }
        let client = self.client();
        match client
            .list_objects_v2()
            .bucket(bucket)
            .max_keys(1)
            .send()
            .await
            .map_err(SdkError::into_service_error)
        {
            Ok(found) => ensure!(
                found.contents().is_empty(),
                "the bucket {bucket} of {} is not empty, and not of this process: delete it, or choose another server",
                self.endpoint
            ),
            Err(error) if error.is_no_such_bucket() => {
                let made = client.create_bucket().bucket(bucket).send().await;
                made.with_context(|| format!("create the external bucket {bucket}"))?;
            }
            Err(error) => return Err(error).with_context(|| format!("list the external bucket {bucket}")),
        }
        *claim = true;
        Ok(BucketClaim(claim))
    }

    /// Deletes every object and every open upload of a bucket, so that a scenario starts from nothing.
    ///
    /// # Errors
    /// The server does not answer or refuses.
    pub async fn empty(&self, bucket: &str) -> anyhow::Result<()> {
        let client = self.client();
        let mut pages = client.list_objects_v2().bucket(bucket).into_paginator().send();
        while let Some(page) = pages.next().await {
            let page = page.with_context(|| format!("list the external bucket {bucket}"))?;
            let keys = page.contents().iter().filter_map(|object| object.key());
            let objects: Vec<_> =
                keys.map(|key| ObjectIdentifier::builder().key(key).build()).collect::<Result<_, _>>()?;
            if objects.is_empty() {
                continue;
            }
            let delete = Delete::builder().set_objects(Some(objects)).quiet(true).build()?;
            let deleted = client.delete_objects().bucket(bucket).delete(delete).send().await;
            let deleted = deleted.with_context(|| format!("empty the external bucket {bucket}"))?;
            ensure!(deleted.errors().is_empty(), "{bucket} cannot be emptied: {:?}", deleted.errors());
        }
        let uploads = client.list_multipart_uploads().bucket(bucket).send().await.context("list uploads")?;
        for upload in uploads.uploads() {
            client
                .abort_multipart_upload()
                .bucket(bucket)
                .set_key(upload.key.clone())
                .set_upload_id(upload.upload_id.clone())
                .send()
                .await
                .context("abort an upload")?;
        }
        Ok(())
    }
}

/// A bucket that nobody else in this process uses until this is dropped.
pub struct BucketClaim(#[expect(dead_code, reason = "held, not read")] OwnedMutexGuard<bool>);

/// Where backups go.
pub enum S3Target {
    /// Our own server in this process.
    Own(S3Server),
    /// A server outside, as it is.
    External(ExternalS3),
    /// A server outside, behind our fault layer.
    Relayed(ExternalS3, S3Relay),
}

impl S3Target {
    /// Base URL.
    #[must_use]
    pub fn endpoint(&self) -> String {
        match self {
            Self::Own(server) => server.endpoint(),
            Self::External(external) => external.endpoint.clone(),
            Self::Relayed(_, relay) => relay.endpoint(),
        }
    }

    /// What agents are told it is.
    #[must_use]
    pub fn provider(&self) -> &str {
        match self {
            Self::Own(_) => DEFAULT_PROVIDER,
            Self::External(external) | Self::Relayed(external, _) => &external.provider,
        }
    }

    /// Access key ID and secret.
    #[must_use]
    pub fn keys(&self) -> (String, String) {
        match self {
            Self::Own(server) => {
                (server.credentials.access_key.clone(), server.credentials.secret_key.clone())
            }
            Self::External(external) | Self::Relayed(external, _) => {
                (external.access_key.clone(), external.secret_key.clone())
            }
        }
    }

    /// Rules that make requests fail.
    ///
    /// # Panics
    /// Nothing of ours stands before the server.
    #[must_use]
    pub fn faults(&self) -> &Faults {
        match self {
            Self::Own(server) => &server.faults,
            Self::Relayed(_, relay) => &relay.faults,
            Self::External(external) => panic!("no request to {} can be made to fail", external.endpoint),
        }
    }

    /// What was asked for.
    ///
    /// # Panics
    /// Nothing of ours stands before the server.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        match self {
            Self::Own(server) => &server.counters,
            Self::Relayed(_, relay) => &relay.counters,
            Self::External(external) => panic!("requests to {} are not counted", external.endpoint),
        }
    }

    /// Everything in a bucket.
    ///
    /// # Errors
    /// The external server does not answer.
    pub async fn contents(&self, bucket: &str) -> anyhow::Result<BucketContents> {
        match self {
            Self::Own(server) => BucketContents::of_store(&server.store, bucket),
            Self::External(external) | Self::Relayed(external, _) => {
                BucketContents::of_client(&external.client(), bucket).await
            }
        }
    }

    /// The body of one object; `None` when there is none.
    ///
    /// # Errors
    /// The external server does not answer.
    pub async fn object(&self, bucket: &str, key: &str) -> anyhow::Result<Option<Bytes>> {
        match self {
            Self::Own(server) => {
                Ok(server.store.object(bucket, key).map(|object| object.blob.read()).transpose()?)
            }
            Self::External(external) | Self::Relayed(external, _) => {
                match external.client().get_object().bucket(bucket).key(key).send().await {
                    Ok(reply) => Ok(Some(reply.body.collect().await?.into_bytes())),
                    Err(error) => match error.into_service_error() {
                        error if error.is_no_such_key() => Ok(None),
                        error => Err(error).with_context(|| format!("get {key}")),
                    },
                }
            }
        }
    }
}
