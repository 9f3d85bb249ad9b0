//! Pings of Alternator, Scylla's DynamoDB port (spec manager.md 5.5, 6.2).

use std::net::IpAddr;
use std::sync::OnceLock;

use common::api::agent::NodeInfo;
use common::http_client::Transport;
use http::StatusCode;
use serde::Deserialize;

use crate::agent_client::{TransportError, host_address, network};

/// A table that every node has, and one row of it.
const SCAN: &str = r#"{"TableName":".scylla.alternator.system_schema.tables","Limit":1}"#;

/// Messages with which Alternator refuses a login.
const UNAUTHORISED: [&str; 2] = ["User not found", "The security token included in the request is invalid."];

/// Bytes of an answer that are read at most.
const ANSWER_LIMIT: usize = 64 * 1024;

/// Outcome of a request that was answered, or not.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// As it should.
    Good,
    /// The login was refused.
    Unauthorised,
    /// Anything else, in words.
    Bad(String),
}

/// Where a node serves Alternator; `None` when it does not.
pub(super) fn url(node: IpAddr, info: &NodeInfo) -> Option<String> {
    let port = |text: &str| text.parse::<u16>().ok().filter(|p| *p != 0);
    let (scheme, port) = match (port(&info.alternator_https_port), port(&info.alternator_port)) {
        (Some(port), _) => ("https", port),
        (None, Some(port)) => ("http", port),
        (None, None) => return None,
    };
    let host = host_address(&info.alternator_address).filter(|ip| !ip.is_unspecified()).unwrap_or(node);
    let host = if host.is_ipv6() { format!("[{host}]") } else { host.to_string() };
    Some(format!("{scheme}://{host}:{port}/"))
}

/// Sends pings; makes its connections when the first one is sent.
#[derive(Default)]
pub(super) struct Pinger {
    client: OnceLock<reqwest::Client>,
}

impl Pinger {
    /// Asks for a row without a login; where logins are enforced, only whether the port answers.
    pub(super) async fn ping(&self, url: &str, enforced: bool) -> Answer {
        let client = match self.client() {
            Ok(client) => client,
            Err(error) => return Answer::Bad(common::error::chain(&error)),
        };
        let request = if enforced {
            client.get(url)
        } else {
            client
                .post(url)
                .header("content-type", "application/x-amz-json-1.0")
                .header("x-amz-target", "DynamoDB_20120810.Scan")
                .body(SCAN)
        };
        match request.send().await {
            Ok(answer) => judge(answer).await,
            Err(error) => Answer::Bad(common::error::chain(&error.without_url())),
        }
    }

    fn client(&self) -> Result<&reqwest::Client, TransportError> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        // The same kind of connection as to agents: TLS without verification, HTTP/1.1, no proxy.
        match network(None)? {
            Transport::Network(client) => Ok(self.client.get_or_init(|| client)),
            Transport::InProcess(_) => Ok(self.client.get_or_init(reqwest::Client::new)),
        }
    }
}

async fn judge(mut answer: reqwest::Response) -> Answer {
    let status = answer.status();
    if status == StatusCode::OK {
        return Answer::Good;
    }
    let mut body = Vec::new();
    while let Ok(Some(piece)) = answer.chunk().await {
        body.extend_from_slice(&piece);
        if body.len() > ANSWER_LIMIT {
            break;
        }
    }
    let message = message(&body);
    if status == StatusCode::UNAUTHORIZED || UNAUTHORISED.iter().any(|m| message.contains(m)) {
        return Answer::Unauthorised;
    }
    Answer::Bad(format!("HTTP {} {message}", status.as_u16()).trim_end().to_owned())
}

fn message(body: &[u8]) -> String {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Error {
        #[serde(alias = "Message")]
        message: String,
    }
    serde_json::from_slice::<Error>(body).unwrap_or_default().message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let node = "192.0.2.1".parse().unwrap();
        for (address, port, https, expected) in [
            ("", "", "", None),
            ("", "0", "0", None),
            ("", "8000", "", Some("http://192.0.2.1:8000/")),
            ("0.0.0.0", "8000", "0", Some("http://192.0.2.1:8000/")),
            ("192.0.2.9", "8000", "8043", Some("https://192.0.2.9:8043/")),
        ] {
            let info = NodeInfo {
                alternator_address: address.into(),
                alternator_port: port.into(),
                alternator_https_port: https.into(),
                ..NodeInfo::default()
            };
            assert_eq!(url(node, &info).as_deref(), expected);
        }
    }

    #[tokio::test]
    async fn answers_are_told_apart() {
        for (status, body, expected) in [
            (200, r#"{"Items":[]}"#, Answer::Good),
            (400, r#"{"__type":"x","message":"User not found"}"#, Answer::Unauthorised),
            (401, "", Answer::Unauthorised),
            (400, r#"{"Message":"busy"}"#, Answer::Bad("HTTP 400 busy".into())),
            (503, "", Answer::Bad("HTTP 503".into())),
        ] {
            let answer = http::Response::builder().status(status).body(body).unwrap();
            assert_eq!(judge(answer.into()).await, expected, "{status} {body}");
        }
    }

    #[tokio::test]
    async fn without_enforcement_a_scan_is_sent_and_with_it_only_a_get() {
        use axum::extract::Request;
        use axum::response::IntoResponse;
        use tokio_util::sync::CancellationToken;

        let handler = |request: Request| async move {
            let (head, body) = request.into_parts();
            assert!(head.headers.get("authorization").is_none(), "nobody logs in");
            let body = axum::body::to_bytes(body, 1024).await.unwrap();
            if head.method == "GET" {
                return "healthy: here".into_response();
            }
            let target = head.headers.get("x-amz-target").and_then(|t| t.to_str().ok());
            assert_eq!((target, &*body), (Some("DynamoDB_20120810.Scan"), SCAN.as_bytes()));
            (StatusCode::BAD_REQUEST, r#"{"__type":"x","message":"User not found"}"#).into_response()
        };
        let router = axum::Router::new().fallback(handler);
        let server = common::listener::Server::bind("http", "127.0.0.1:0", None, router).await.unwrap();
        let url = format!("http://{}/", server.local_addr().unwrap());
        let stop = CancellationToken::new();
        let asks = async {
            let pinger = Pinger::default();
            assert_eq!(pinger.ping(&url, true).await, Answer::Good);
            assert_eq!(pinger.ping(&url, false).await, Answer::Unauthorised);
            stop.cancel();
        };
        tokio::join!(server.serve(stop.clone(), std::time::Duration::from_secs(5)), asks).0.unwrap();
        let Answer::Bad(cause) = Pinger::default().ping(&url, false).await else { panic!("it is gone") };
        assert!(cause.contains("refused"), "{cause}");
    }
}
