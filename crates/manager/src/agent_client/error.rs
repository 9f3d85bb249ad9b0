//! Errors of calls to agents, with the host in each.

use std::error::Error;

use common::http_client::ClientError;
use http::StatusCode;

/// A call to one host that brought no good answer.
#[derive(Debug, thiserror::Error)]
#[error("{host}{}", attempts_text(*attempts))]
pub struct HostError {
    /// Address of the host.
    pub host: String,
    /// How often it was tried.
    pub attempts: u32,
    /// What the last attempt brought.
    #[source]
    pub source: ClientError,
}

fn attempts_text(attempts: u32) -> String {
    if attempts > 1 { format!(": giving up after {attempts} attempts") } else { String::new() }
}

impl HostError {
    /// An error of the only attempt.
    pub fn new(host: &str, source: ClientError) -> Self {
        Self { host: host.to_owned(), attempts: 1, source }
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
        let tries = attempts_text(self.attempts);
        let cause = common::error::chain(&self.source);
        if tries.is_empty() { cause } else { format!("{}: {cause}", &tries[2..]) }
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
    fn hosts_come_first_and_tries_are_told() {
        let api = |message: &str| {
            ClientError::Api(ApiError {
                status: StatusCode::BAD_GATEWAY,
                message: message.into(),
                details: String::new(),
                trace_id: String::new(),
            })
        };
        let one = HostError::new("192.0.2.11", api("bad"));
        let ten = HostError { host: "192.0.2.12".into(), attempts: 10, source: api("worse") };
        assert_eq!(
            join_hosts([&one, &ten]),
            "192.0.2.11: bad; 192.0.2.12: giving up after 10 attempts: worse"
        );
        assert_eq!(ten.reason(), "giving up after 10 attempts: worse");
    }
}
