//! Cloud metadata: which machine this is, and which region it is in (spec agent.md 2.3, 1.3 `s3.region`).
//!
//! All clouds are asked at once and the first answer wins. Failures are remembered too, for five minutes,
//! so that a call outside a cloud does not wait each time.

use std::time::Duration;

use common::api::agent::CloudMetadata;
use common::http_client::{Call, ClientError, HttpClient, Transport};
use futures::future::{BoxFuture, FutureExt, select_ok};
use http::{HeaderName, HeaderValue, Method};
use serde::Deserialize;
use tokio::sync::Mutex;
use tokio::time::Instant;

/// Limit for each cloud's answer.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);
/// Limit for each request for the region, which start-up waits for.
const REGION_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a failure is remembered.
const FAILURE_TTL: Duration = Duration::from_secs(300);
/// Lifetime of a session token for AWS metadata, in seconds.
const AWS_TOKEN_TTL: &str = "21600";

/// Address of the clouds' metadata on each of their machines.
const LINK_LOCAL: &str = "http://169.254.169.254";
/// The same of AWS, where only IPv6 is used.
const AWS_IPV6: &str = "http://[fd00:ec2::254]";

/// Where the metadata services are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetadataEndpoints {
    /// AWS; `None` where `AWS_EC2_METADATA_DISABLED` is set.
    pub aws: Option<String>,
    /// Google.
    pub gcp: String,
    /// Azure.
    pub azure: String,
}

impl Default for MetadataEndpoints {
    fn default() -> Self {
        let link_local = || LINK_LOCAL.to_owned();
        Self { aws: Some(link_local()), gcp: link_local(), azure: link_local() }
    }
}

impl MetadataEndpoints {
    /// The real services; that of AWS is elsewhere or nowhere when the environment says so. `env` reads a variable. The
    /// names are those that every program of AWS goes by, and the search for credentials too.
    pub fn from_env(env: impl Fn(&str) -> Option<String>) -> Self {
        let is = |name: &str, value: &str| env(name).is_some_and(|v| v.eq_ignore_ascii_case(value));
        let aws = match env("AWS_EC2_METADATA_SERVICE_ENDPOINT") {
            _ if is("AWS_EC2_METADATA_DISABLED", "true") => None,
            Some(endpoint) => Some(endpoint.trim_end_matches('/').to_owned()),
            None if is("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE", "IPv6") => Some(AWS_IPV6.to_owned()),
            None => Some(LINK_LOCAL.to_owned()),
        };
        Self { aws, ..Self::default() }
    }
}

/// What is remembered of the last probe.
enum Known {
    Nothing,
    Machine(CloudMetadata),
    /// Outside a cloud, as it seemed at this time.
    Failed(Instant),
}

/// Asks the metadata services.
pub struct Cloud {
    endpoints: MetadataEndpoints,
    client: HttpClient,
    // Held over the probe on purpose: later callers wait for the first one's answer.
    known: Mutex<Known>,
}

impl Cloud {
    /// A client that goes over `transport`, which must not use a proxy.
    pub fn new(endpoints: MetadataEndpoints, transport: Transport) -> Self {
        Self { endpoints, client: HttpClient::new(transport), known: Mutex::new(Known::Nothing) }
    }

    /// Cloud and machine type; both empty outside a cloud. Never fails.
    pub async fn metadata(&self) -> CloudMetadata {
        let mut known = self.known.lock().await;
        match &*known {
            Known::Machine(machine) => return machine.clone(),
            Known::Failed(when) if when.elapsed() < FAILURE_TTL => return CloudMetadata::default(),
            Known::Failed(_) | Known::Nothing => {}
        }
        let probes: Vec<BoxFuture<'_, Result<CloudMetadata, ClientError>>> = self.probes();
        match tokio::time::timeout(PROBE_TIMEOUT, select_ok(probes)).await {
            Ok(Ok((machine, _))) => {
                *known = Known::Machine(machine.clone());
                machine
            }
            Ok(Err(_)) | Err(_) => {
                tracing::debug!("No cloud metadata service answers");
                *known = Known::Failed(Instant::now());
                CloudMetadata::default()
            }
        }
    }

    /// The AWS region of this machine.
    pub async fn aws_region(&self) -> Option<String> {
        let identity = self.aws_identity(REGION_TIMEOUT).await.ok()??;
        Some(identity.region).filter(|r| !r.is_empty())
    }

    /// Name of the role that is attached to this machine at AWS.
    pub async fn aws_role(&self) -> Option<String> {
        let base = self.endpoints.aws.as_ref()?;
        let url = format!("{base}/latest/meta-data/iam/security-credentials/");
        let token = self.aws_token(base, REGION_TIMEOUT).await;
        let text = self.aws_get(url, token.as_deref(), REGION_TIMEOUT).await.ok()?;
        let text = String::from_utf8_lossy(&text);
        text.lines().next().map(str::trim).filter(|role| !role.is_empty()).map(str::to_owned)
    }

    fn probes(&self) -> Vec<BoxFuture<'_, Result<CloudMetadata, ClientError>>> {
        let mut probes = vec![self.probe_gcp().boxed(), self.probe_azure().boxed()];
        if self.endpoints.aws.is_some() {
            probes.push(self.probe_aws().boxed());
        }
        probes
    }

    async fn probe_aws(&self) -> Result<CloudMetadata, ClientError> {
        let identity = self.aws_identity(PROBE_TIMEOUT).await?.unwrap_or_default();
        machine("aws", &identity.instance_type)
    }

    async fn probe_gcp(&self) -> Result<CloudMetadata, ClientError> {
        let url = format!("{}/computeMetadata/v1/instance/machine-type", self.endpoints.gcp);
        let text = self.get(url, &[("metadata-flavor", "Google")], PROBE_TIMEOUT).await?;
        // projects/<number>/machineTypes/<type>
        let text = String::from_utf8_lossy(&text);
        machine("gcp", text.trim().rsplit('/').next().unwrap_or_default())
    }

    async fn probe_azure(&self) -> Result<CloudMetadata, ClientError> {
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Instance {
            compute: Compute,
        }
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Compute {
            #[serde(rename = "vmSize")]
            vm_size: String,
        }
        let url = format!("{}/metadata/instance?api-version=2023-07-01", self.endpoints.azure);
        let text = self.get(url, &[("metadata", "true")], PROBE_TIMEOUT).await?;
        let instance: Instance = serde_json::from_slice(&text).unwrap_or_default();
        machine("azure", &instance.compute.vm_size)
    }

    /// The identity document, with a session token where the service gives one (IMDSv2, else v1).
    async fn aws_identity(&self, timeout: Duration) -> Result<Option<AwsIdentity>, ClientError> {
        let Some(base) = &self.endpoints.aws else { return Ok(None) };
        let token = self.aws_token(base, timeout).await;
        let url = format!("{base}/latest/dynamic/instance-identity/document");
        let text = self.aws_get(url, token.as_deref(), timeout).await?;
        Ok(serde_json::from_slice(&text).ok())
    }

    /// A session token; none from a service that knows version 1 only.
    async fn aws_token(&self, base: &str, timeout: Duration) -> Option<String> {
        let mut ask = Call::new(Method::PUT, format!("{base}/latest/api/token")).timeout(timeout);
        let ttl = HeaderName::from_static("x-aws-ec2-metadata-token-ttl-seconds");
        ask.headers.insert(ttl, HeaderValue::from_static(AWS_TOKEN_TTL));
        let (_, body) = self.client.send(ask).await.ok()?;
        std::str::from_utf8(&body).ok().filter(|token| !token.is_empty()).map(str::to_owned)
    }

    async fn aws_get(
        &self,
        url: String,
        token: Option<&str>,
        timeout: Duration,
    ) -> Result<bytes::Bytes, ClientError> {
        let header = token.map(|token| ("x-aws-ec2-metadata-token", token));
        self.get(url, header.as_slice(), timeout).await
    }

    async fn get(
        &self,
        url: String,
        headers: &[(&'static str, &str)],
        timeout: Duration,
    ) -> Result<bytes::Bytes, ClientError> {
        let mut call = Call::new(Method::GET, url).timeout(timeout);
        for (name, value) in headers {
            if let Ok(value) = HeaderValue::from_str(value) {
                call.headers.insert(*name, value);
            }
        }
        Ok(self.client.send(call).await?.1)
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct AwsIdentity {
    instance_type: String,
    region: String,
}

/// An answer without a machine type is no answer.
fn machine(provider: &str, instance_type: &str) -> Result<CloudMetadata, ClientError> {
    if instance_type.is_empty() {
        let reason = "no machine type in the answer".to_owned();
        return Err(ClientError::Request { method: Method::GET, url: provider.to_owned(), reason });
    }
    Ok(CloudMetadata { cloud_provider: provider.to_owned(), instance_type: instance_type.to_owned() })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use axum::Router;
    use axum::routing::{get, put};
    use http::{HeaderMap, StatusCode};

    use super::*;

    /// Endpoints with a host name per cloud, and a transport into `routers` by that name.
    fn cloud(routers: &[(&'static str, Router)]) -> Cloud {
        let routers: Vec<(&str, Router)> = routers.to_vec();
        let lookup = move |uri: &http::Uri| {
            routers.iter().find(|(host, _)| uri.host() == Some(host)).map(|(_, router)| router.clone())
        };
        let endpoints = MetadataEndpoints {
            aws: Some("http://aws".into()),
            gcp: "http://gcp".into(),
            azure: "http://azure".into(),
        };
        Cloud::new(endpoints, Transport::InProcess(Arc::new(lookup)))
    }

    fn aws_v2() -> Router {
        async fn document(headers: HeaderMap) -> (StatusCode, &'static str) {
            match headers.get("x-aws-ec2-metadata-token") {
                Some(token) if token == "tok" => {
                    (StatusCode::OK, r#"{"instanceType":"i4i.xlarge","region":"eu-west-1"}"#)
                }
                _ => (StatusCode::UNAUTHORIZED, ""),
            }
        }
        Router::new()
            .route("/latest/api/token", put(|| async { "tok" }))
            .route("/latest/dynamic/instance-identity/document", get(document))
    }

    #[tokio::test]
    async fn each_cloud_is_recognised() {
        let aws_v1 = Router::new().route(
            "/latest/dynamic/instance-identity/document",
            get(|| async { r#"{"instanceType":"m5.large","region":"us-east-2"}"# }),
        );
        let gcp = Router::new().route(
            "/computeMetadata/v1/instance/machine-type",
            get(|headers: HeaderMap| async move {
                assert_eq!(headers["metadata-flavor"], "Google");
                "projects/1/machineTypes/n2-standard-4"
            }),
        );
        let azure = Router::new()
            .route("/metadata/instance", get(|| async { r#"{"compute":{"vmSize":"Standard_L8s_v3"}}"# }));
        for (host, router, provider, instance_type) in [
            ("aws", aws_v2(), "aws", "i4i.xlarge"),
            ("aws", aws_v1, "aws", "m5.large"),
            ("gcp", gcp, "gcp", "n2-standard-4"),
            ("azure", azure, "azure", "Standard_L8s_v3"),
        ] {
            let found = cloud(&[(host, router)]).metadata().await;
            assert_eq!(
                (found.cloud_provider.as_str(), found.instance_type.as_str()),
                (provider, instance_type)
            );
        }
    }

    #[tokio::test]
    async fn the_region_comes_from_the_identity_document() {
        assert_eq!(cloud(&[("aws", aws_v2())]).aws_region().await.as_deref(), Some("eu-west-1"));
        assert_eq!(cloud(&[]).aws_region().await, None);
        let mut disabled = cloud(&[("aws", aws_v2())]);
        disabled.endpoints.aws = None;
        assert_eq!(disabled.aws_region().await, None);
        assert_eq!(disabled.metadata().await, CloudMetadata::default());
    }

    #[tokio::test]
    async fn the_role_is_the_first_line_of_its_listing() {
        let listing = get(|headers: HeaderMap| async move {
            assert_eq!(headers["x-aws-ec2-metadata-token"], "tok");
            "backup-role\n"
        });
        let with_role = aws_v2().route("/latest/meta-data/iam/security-credentials/", listing);
        assert_eq!(cloud(&[("aws", with_role)]).aws_role().await.as_deref(), Some("backup-role"));
        assert_eq!(cloud(&[("aws", aws_v2())]).aws_role().await, None);
    }

    #[test]
    fn the_environment_says_where_aws_metadata_is() {
        for (vars, aws) in [
            (&[][..], Some(LINK_LOCAL)),
            (&[("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://127.0.0.1:1/")], Some("http://127.0.0.1:1")),
            (&[("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE", "ipv6")], Some(AWS_IPV6)),
            (&[("AWS_EC2_METADATA_DISABLED", "TRUE")], None),
        ] {
            let env = |name: &str| vars.iter().find(|v| v.0 == name).map(|v| v.1.to_owned());
            assert_eq!(MetadataEndpoints::from_env(env).aws.as_deref(), aws, "{vars:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn failures_are_remembered_for_five_minutes_and_a_machine_for_good() {
        let calls = Arc::new(AtomicUsize::new(0));
        let counted = calls.clone();
        let gcp = Router::new().route(
            "/computeMetadata/v1/instance/machine-type",
            get(move || async move {
                // The first answer never comes.
                if counted.fetch_add(1, Ordering::SeqCst) == 0 {
                    std::future::pending::<()>().await;
                }
                "projects/1/machineTypes/n2"
            }),
        );
        let cloud = cloud(&[("gcp", gcp)]);
        let start = Instant::now();
        assert_eq!(cloud.metadata().await, CloudMetadata::default());
        assert_eq!(start.elapsed(), PROBE_TIMEOUT);
        assert_eq!(cloud.metadata().await, CloudMetadata::default());
        assert_eq!(calls.load(Ordering::SeqCst), 1);
        tokio::time::advance(FAILURE_TTL).await;
        for _ in 0..2 {
            assert_eq!(cloud.metadata().await.instance_type, "n2");
        }
        assert_eq!(calls.load(Ordering::SeqCst), 2);
    }
}
