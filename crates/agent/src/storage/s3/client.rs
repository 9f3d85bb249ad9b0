//! Builds the SDK's client from the configuration: endpoint, region, credentials, checksums.
//!
//! The SDK's own retries are off: ours are per request, know the rate limit, and tell throttling from failure.

use aws_config::BehaviorVersion;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_runtime::env_config::file::{EnvConfigFileKind, EnvConfigFiles};
use aws_sdk_s3::Client;
use aws_sdk_s3::config::{
    Builder, Region, RequestChecksumCalculation, ResponseChecksumValidation, StalledStreamProtectionConfig,
};
use aws_smithy_runtime_api::client::http::SharedHttpClient;

use super::http::StorageHttp;
use crate::config::S3Config;
use crate::storage::{Result, StorageError};

/// What requests to one region need.
#[derive(Clone)]
pub(super) struct Regional {
    pub client: Client,
    pub region: String,
    /// `None` for anonymous requests.
    pub credentials: Option<SharedCredentialsProvider>,
}

/// A client for `region`. `direct` reaches metadata services, which never go through a proxy.
pub(super) async fn build(
    config: &S3Config,
    region: &str,
    http: StorageHttp,
    direct: StorageHttp,
) -> Result<Regional> {
    let builder = Builder::new()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new(region.to_owned()))
        .force_path_style(config.force_path_style)
        .accelerate(config.use_accelerate_endpoint)
        .disable_s3_express_session_auth(true)
        .http_client(SharedHttpClient::new(http))
        .retry_config(RetryConfig::disabled())
        // Silence on a connection is bounded below the SDK, see `connect`.
        .timeout_config(TimeoutConfig::disabled())
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
        // The default of the SDK, trailers in signed chunks, is refused by Ceph and Garage.
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired);
    let builder = match &config.endpoint {
        Some(endpoint) => builder.endpoint_url(endpoint),
        None => builder,
    };
    let credentials = credentials(config, region, direct).await?;
    let builder = match &credentials {
        Some(provider) => builder.credentials_provider(provider.clone()),
        None => builder.allow_no_auth(),
    };
    Ok(Regional { client: Client::from_conf(builder.build()), region: region.to_owned(), credentials })
}

/// Where credentials come from; `None` for anonymous requests.
async fn credentials(
    config: &S3Config,
    region: &str,
    direct: StorageHttp,
) -> Result<Option<SharedCredentialsProvider>> {
    let (id, secret) = (&config.access_key_id, &config.secret_access_key);
    if !id.is_empty() && !secret.is_empty() {
        let token = (!config.session_token.is_empty()).then(|| config.session_token.expose().to_owned());
        let fixed = Credentials::new(id.expose(), secret.expose(), token, None, "scylla-manager-agent.yaml");
        return Ok(Some(SharedCredentialsProvider::new(fixed)));
    }
    if !config.env_auth {
        if id.is_empty() && secret.is_empty() {
            return Ok(None);
        }
        let missing = if id.is_empty() { "access_key_id" } else { "secret_access_key" };
        return Err(StorageError::Credentials { reason: format!("s3.{missing} is not set") });
    }
    let mut loader = aws_config::defaults(BehaviorVersion::latest())
        .region(aws_config::Region::new(region.to_owned()))
        .http_client(SharedHttpClient::new(direct));
    if let Some(profile) = &config.profile {
        loader = loader.profile_name(profile);
    }
    if let Some(file) = &config.shared_credentials_file {
        let files = EnvConfigFiles::builder()
            .with_file(EnvConfigFileKind::Credentials, file)
            .include_default_config_file(true)
            .build();
        loader = loader.profile_files(files);
    }
    let found = loader.load().await;
    found.credentials_provider().map(Some).ok_or_else(|| StorageError::Credentials {
        reason: "the environment offers no source of credentials".into(),
    })
}
