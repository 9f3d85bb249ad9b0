//! HTTP towards whoever gives credentials: metadata of machine and container directly, STS through the proxy.
//!
//! Unlike requests to the store these have the time limits that the SDK asks for: outside a cloud the address of the
//! machine's metadata answers nothing at all, and whoever waits there for long takes a backup with him.

use std::net::IpAddr;
use std::time::Duration;

use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;

use super::http::StorageHttp;

/// Limit where the SDK asks for none.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

/// Client for the sources of credentials.
#[derive(Clone, Debug)]
pub(super) struct CredentialsHttp {
    proxied: StorageHttp,
    direct: StorageHttp,
}

impl CredentialsHttp {
    /// `direct` knows no proxy.
    pub(super) fn new(proxied: StorageHttp, direct: StorageHttp) -> Self {
        Self { proxied, direct }
    }
}

impl HttpClient for CredentialsHttp {
    fn http_connector(&self, settings: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        let limit = match (settings.connect_timeout(), settings.read_timeout()) {
            (None, None) => DEFAULT_TIMEOUT,
            (connect, read) => connect.unwrap_or_default() + read.unwrap_or(DEFAULT_TIMEOUT),
        };
        SharedHttpConnector::new(Limited { http: self.clone(), limit })
    }
}

#[derive(Debug)]
struct Limited {
    http: CredentialsHttp,
    /// Until the head of the answer.
    limit: Duration,
}

impl HttpConnector for Limited {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let uri = request.uri().parse::<http::Uri>();
        let near = uri.is_ok_and(|uri| uri.host().is_some_and(is_on_this_machine));
        let http = if near { &self.http.direct } else { &self.http.proxied };
        let (answer, limit) = (http.call(request), self.limit);
        HttpConnectorFuture::new(async move {
            match tokio::time::timeout(limit, answer).await {
                Ok(answer) => answer,
                Err(_) => Err(ConnectorError::timeout(format!("no answer within {limit:?}").into())),
            }
        })
    }
}

/// Loopback, and the addresses that the clouds keep for metadata.
fn is_on_this_machine(host: &str) -> bool {
    match host.trim_start_matches('[').trim_end_matches(']').parse() {
        Ok(IpAddr::V4(ip)) => ip.is_loopback() || ip.is_link_local(),
        // fd00:ec2::254 and fd00:ec2::23
        Ok(IpAddr::V6(ip)) => ip.is_loopback() || ip.segments()[..2] == [0xfd00, 0xec2],
        Err(_) => host.eq_ignore_ascii_case("localhost"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_is_asked_without_a_proxy_and_sts_with_it() {
        for (host, near) in [
            ("169.254.169.254", true),
            ("169.254.170.2", true),
            ("127.0.0.1", true),
            ("localhost", true),
            ("[fd00:ec2::254]", true),
            ("[::1]", true),
            ("sts.eu-west-1.amazonaws.com", false),
            ("10.0.0.1", false),
            ("[fd00::1]", false),
        ] {
            assert_eq!(is_on_this_machine(host), near, "{host}");
        }
    }
}
