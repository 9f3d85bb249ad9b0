//! Errors of calls to agents, with the host in each.

use std::error::Error;
use std::net::IpAddr;

use common::http_client::ClientError;
use http::StatusCode;

use super::policy::never_arrived;

/// A call to one host that brought no good answer.
#[derive(Debug, thiserror::Error)]
#[error("{host}{}", self.note().map(|note| format!(": {note}")).unwrap_or_default())]
pub struct HostError {
    /// Address of the host.
    pub host: Box<str>,
    /// How often it was tried.
    pub attempts: u32,
    /// Other hosts that were asked before and did no better.
    pub asked_before: Box<[IpAddr]>,
    /// What the last attempt brought.
    #[source]
    pub source: ClientError,
}

impl HostError {
    /// An error of the only attempt.
    pub fn new(host: &str, source: ClientError) -> Self {
        Self { host: host.into(), attempts: 1, asked_before: Box::default(), source }
    }

    /// Status of an error answer; `None` when there was no answer.
    pub fn status(&self) -> Option<StatusCode> {
        self.source.status()
    }

    /// Whether the host says that the thing does not exist.
    pub fn is_not_found(&self) -> bool {
        self.source.is_not_found()
    }

    /// Whether there was no answer in time.
    pub fn is_timeout(&self) -> bool {
        matches!(self.source, ClientError::Timeout { .. })
    }

    /// Message of an error answer; empty when there was no answer.
    pub fn answer(&self) -> &str {
        match &self.source {
            ClientError::Api(error) => &error.message,
            ClientError::Connect { .. }
            | ClientError::Timeout { .. }
            | ClientError::Body { .. }
            | ClientError::Decode { .. }
            | ClientError::Request { .. } => "",
        }
    }

    /// What went wrong without the host in front, for a place that names the host itself.
    pub fn reason(&self) -> String {
        let cause = common::error::chain(&self.source);
        self.note().map_or_else(|| cause.clone(), |note| format!("{note}: {cause}"))
    }

    /// What an operator should look at, and how often it was tried; `None` if the cause says it all.
    fn note(&self) -> Option<String> {
        let tries = (self.attempts > 1).then(|| format!("giving up after {} attempts", self.attempts));
        let others = (!self.asked_before.is_empty()).then(|| {
            let hosts: Vec<String> = self.asked_before.iter().map(IpAddr::to_string).collect();
            format!("as on {}", hosts.join(" and "))
        });
        let look = if never_arrived(&self.source) {
            Some("agent not reachable, is scylla-manager-agent running there and its port open?")
        } else if self.status() == Some(StatusCode::UNAUTHORIZED) {
            Some(
                "the agent refuses the auth token of this cluster, compare it with the agent's configuration",
            )
        } else {
            None
        };
        let notes: Vec<String> = tries.into_iter().chain(others).chain(look.map(str::to_owned)).collect();
        (!notes.is_empty()).then(|| notes.join(", "))
    }
}

/// Failures of several hosts as one text: `192.0.2.11: <reason>; 192.0.2.12: <reason>`. `sctool` breaks the line
/// before each host.
pub fn join_hosts<'a, E: Error + 'static>(errors: impl IntoIterator<Item = &'a E>) -> String {
    errors.into_iter().map(|e| common::error::chain(e)).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use common::api::ApiError;

    use super::*;

    #[test]
    fn hosts_come_first_with_tries_and_what_to_look_at() {
        let answer = |status, message: &str| {
            ClientError::Api(ApiError {
                status,
                message: message.into(),
                details: String::new(),
                trace_id: String::new(),
            })
        };
        let api = |message: &str| answer(StatusCode::BAD_GATEWAY, message);
        let one = HostError::new("192.0.2.11", api("bad"));
        let ten = HostError {
            host: "192.0.2.12".into(),
            attempts: 10,
            asked_before: [].into(),
            source: api("worse"),
        };
        assert_eq!(
            join_hosts([&one, &ten]),
            "192.0.2.11: bad; 192.0.2.12: giving up after 10 attempts: worse"
        );
        assert_eq!(ten.reason(), "giving up after 10 attempts: worse");

        let refused = HostError::new("192.0.2.13", answer(StatusCode::UNAUTHORIZED, "unauthorized"));
        assert_eq!(
            refused.reason(),
            "the agent refuses the auth token of this cluster, compare it with the agent's configuration: unauthorized"
        );
        let source = Box::new(std::io::Error::from(std::io::ErrorKind::ConnectionRefused));
        let silent = ClientError::Connect { method: http::Method::GET, url: "u".into(), source };
        let asked_before = [IpAddr::from([192, 0, 2, 15])].into();
        let silent = HostError { host: "192.0.2.14".into(), attempts: 2, asked_before, source: silent };
        assert_eq!(
            join_hosts([&silent]),
            "192.0.2.14: giving up after 2 attempts, as on 192.0.2.15, agent not reachable, is scylla-manager-agent \
             running there and its port open?: GET u: connection refused"
        );
    }
}
