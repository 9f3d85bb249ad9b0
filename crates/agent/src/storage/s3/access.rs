//! As whom this node speaks to the store, for an operator who debugs access. Never secrets.

use std::time::{Duration, SystemTime};

use aws_config::BehaviorVersion;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{Region, SharedCredentialsProvider};

use super::S3Store;
use super::credentials::CredentialSource;
use super::errors;
use crate::storage::Result;

/// Limit for the question who we are; a node may reach S3 and nothing else.
const IDENTITY_TIMEOUT: Duration = Duration::from_secs(5);

/// Credentials as far as they may be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    /// Where they come from.
    pub source: CredentialSource,
    /// The public half of the key pair.
    pub access_key_id: String,
    /// They come with a session token.
    pub temporary: bool,
    /// When they end.
    pub expires: Option<SystemTime>,
}

impl S3Store {
    /// The credentials that requests are signed with; `None` where they are anonymous.
    ///
    /// # Errors
    /// There are none, or their source fails.
    pub async fn access(&self) -> Result<Option<Access>> {
        let Some(chain) = self.credentials()? else { return Ok(None) };
        let found = chain.find().await.map_err(|error| errors::credentials(&error))?;
        Ok(Some(Access {
            source: found.source,
            access_key_id: found.credentials.access_key_id().to_owned(),
            temporary: found.credentials.session_token().is_some(),
            expires: found.credentials.expiry(),
        }))
    }

    /// The ARN that these credentials stand for. AWS tells that to everybody who has some.
    ///
    /// # Errors
    /// No answer from STS, as a text.
    pub async fn caller(&self) -> std::result::Result<String, String> {
        let chain =
            self.credentials().map_err(|e| common::error::chain(&e))?.ok_or("requests are anonymous")?;
        let http = self.0.credentials_http.clone()?;
        let limits = TimeoutConfig::builder().operation_timeout(IDENTITY_TIMEOUT).build();
        let config = aws_config::defaults(BehaviorVersion::latest())
            .region(Region::new(self.0.config.effective_region().to_owned()))
            .http_client(http)
            .credentials_provider(SharedCredentialsProvider::new(chain))
            .timeout_config(limits)
            .retry_config(RetryConfig::disabled())
            .load();
        let client = aws_sdk_sts::Client::new(&Box::pin(config).await);
        let answer = Box::pin(client.get_caller_identity().send()).await;
        let answer = answer.map_err(|error| common::error::chain(&error))?;
        answer.arn.ok_or_else(|| "the answer names nobody".to_owned())
    }
}
