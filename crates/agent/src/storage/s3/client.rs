//! Builds the SDK's client from the configuration: endpoint, region, checksums.
//!
//! The SDK's own retries are off: ours are per request, know the rate limit, and tell throttling from failure.

use aws_config::BehaviorVersion;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::{
    Builder, Region, RequestChecksumCalculation, ResponseChecksumValidation, StalledStreamProtectionConfig,
};
use aws_smithy_runtime_api::client::http::SharedHttpClient;

use super::http::StorageHttp;
use crate::config::S3Config;

/// What requests to one region need.
#[derive(Clone)]
pub(super) struct Regional {
    pub client: Client,
    pub region: String,
    /// `None` for anonymous requests.
    pub credentials: Option<SharedCredentialsProvider>,
}

/// A client for `region`.
pub(super) fn build(
    config: &S3Config,
    region: &str,
    http: StorageHttp,
    credentials: Option<SharedCredentialsProvider>,
) -> Regional {
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
    let builder = match &credentials {
        Some(provider) => builder.credentials_provider(provider.clone()),
        None => builder.allow_no_auth(),
    };
    Regional { client: Client::from_conf(builder.build()), region: region.to_owned(), credentials }
}
