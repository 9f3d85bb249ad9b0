//! The object store of a scenario: our own server, or one named by the environment.

use std::time::Duration;

use anyhow::Context;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::{BehaviorVersion, Region, RequestChecksumCalculation};

use crate::invariants::BucketContents;
use crate::s3::S3Server;

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
    /// A bucket that may be emptied.
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

    /// Deletes every object, so that a scenario starts from nothing.
    ///
    /// # Errors
    /// The server does not answer or refuses.
    pub async fn empty(&self) -> anyhow::Result<()> {
        let client = self.client();
        let mut pages = client.list_objects_v2().bucket(&self.bucket).into_paginator().send();
        while let Some(page) = pages.next().await {
            for key in
                page.context("list the external bucket")?.contents().iter().filter_map(|object| object.key())
            {
                client
                    .delete_object()
                    .bucket(&self.bucket)
                    .key(key)
                    .send()
                    .await
                    .context("empty the external bucket")?;
            }
        }
        Ok(())
    }
}

/// Where backups go.
pub enum S3Target {
    /// Our own server in this process.
    Own(S3Server),
    /// A server outside.
    External(ExternalS3),
}

impl S3Target {
    /// Base URL.
    #[must_use]
    pub fn endpoint(&self) -> String {
        match self {
            Self::Own(server) => server.endpoint(),
            Self::External(external) => external.endpoint.clone(),
        }
    }

    /// What agents are told it is.
    #[must_use]
    pub fn provider(&self) -> &str {
        match self {
            Self::Own(_) => DEFAULT_PROVIDER,
            Self::External(external) => &external.provider,
        }
    }

    /// Access key ID and secret.
    #[must_use]
    pub fn keys(&self) -> (String, String) {
        match self {
            Self::Own(server) => {
                (server.credentials.access_key.clone(), server.credentials.secret_key.clone())
            }
            Self::External(external) => (external.access_key.clone(), external.secret_key.clone()),
        }
    }

    /// Everything in a bucket.
    ///
    /// # Errors
    /// The external server does not answer.
    pub async fn contents(&self, bucket: &str) -> anyhow::Result<BucketContents> {
        match self {
            Self::Own(server) => BucketContents::of_store(&server.store, bucket),
            Self::External(external) => BucketContents::of_client(&external.client(), bucket).await,
        }
    }
}
