//! When a call to an agent is made again (spec manager.md 5.1, "Request policy").

use std::future::Future;
use std::time::Duration;

use common::http_client::ClientError;
use common::retry::{Backoff, Transient};

use super::{HostError, Patience, Settings};

/// Which failures of a call may be answered by making it again on the same host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RetryOn {
    /// No answer, or a 5xx other than 501: for calls that may be repeated at will.
    Transient,
    /// No answer, or one that blames the moment (502, 503, 504): where any other one is final. A host that stays
    /// silent is asked twice.
    Unavailable,
    /// Only when the request cannot have arrived: for calls that start something.
    NotSent,
    /// Nothing: pings.
    Nothing,
}

/// What a call may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct CallOptions {
    pub timeout: Duration,
    pub retry: RetryOn,
}

impl CallOptions {
    pub(super) fn new(timeout: Duration) -> Self {
        Self { timeout, retry: RetryOn::Transient }
    }

    pub(super) fn timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    pub(super) fn retry(self, retry: RetryOn) -> Self {
        Self { retry, ..self }
    }
}

/// Retries against one fixed host.
#[derive(Clone, Copy, Debug)]
pub(super) struct Policy {
    backoff: Backoff,
    /// Limits are doubled after a timeout up to this; `None` leaves them.
    max_timeout: Option<Duration>,
}

impl Policy {
    pub(super) fn new(settings: &Settings, patience: Patience) -> Self {
        match patience {
            Patience::Background => {
                Self { backoff: settings.backoff, max_timeout: Some(settings.max_timeout) }
            }
            Patience::Interactive => Self { backoff: settings.interactive_backoff, max_timeout: None },
        }
    }

    /// Calls `attempt` with its time limit until it succeeds or must not be made again.
    pub(super) async fn run<T, F>(
        &self,
        host: &str,
        options: CallOptions,
        mut attempt: impl FnMut(Duration) -> F,
    ) -> Result<T, HostError>
    where
        F: Future<Output = Result<T, ClientError>>,
    {
        let mut timeout = options.timeout;
        let mut attempts = 1;
        loop {
            let source = match attempt(timeout).await {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            if attempts > self.backoff.max_retries || !may_repeat(&source, options.retry, attempts) {
                return Err(HostError { host: host.into(), attempts, asked_before: Box::default(), source });
            }
            if matches!(source, ClientError::Timeout { .. })
                && let Some(most) = self.max_timeout
            {
                timeout = (timeout * 2).min(most).max(timeout);
            }
            let wait = self.backoff.jittered(attempts - 1, &mut rand::rng());
            tracing::debug!(host, attempts, ?wait, error = %common::error::Chain(&source), "Call is made again");
            tokio::time::sleep(source.retry_after().unwrap_or(wait).max(wait)).await;
            attempts += 1;
        }
    }
}

/// Whether a call that was made `attempts` times is made once more.
fn may_repeat(error: &ClientError, retry: RetryOn, attempts: u32) -> bool {
    match retry {
        RetryOn::Transient => error.is_transient() && !is_final(error),
        RetryOn::Unavailable => match (error, error.status()) {
            (ClientError::Timeout { .. }, _) => attempts == 1,
            (_, Some(status)) => matches!(status.as_u16(), 502..=504),
            (_, None) => error.is_transient(),
        },
        RetryOn::NotSent => never_arrived(error),
        RetryOn::Nothing => false,
    }
}

/// Answers of an object store that no repetition changes: agents pass them on with status 500. The numbers stand in
/// for a code where there is none, in answers to HEAD.
const HOPELESS: [&str; 14] = [
    "401",
    "403",
    "AccessDenied",
    "AccountProblem",
    "AllAccessDisabled",
    "AuthorizationHeaderMalformed",
    "ExpiredToken",
    "InvalidAccessKeyId",
    "InvalidToken",
    "NoSuchBucket",
    "PermanentRedirect",
    "QuotaExceeded",
    "RequestTimeTooSkewed",
    "SignatureDoesNotMatch",
];

/// Scylla's words for a full disk: the wait for space is an operator's, not ours.
const DISK_FULL: &str = "No space left on device";

/// Whether a 5xx says something that a repetition does not change. An original agent refuses even a call that its
/// rules forbid with status 500 (spec agent.md 2.2).
fn is_final(error: &ClientError) -> bool {
    let ClientError::Api(api) = error else { return false };
    let text = api.message.as_str();
    text == "permission denied" || text.contains(DISK_FULL) || is_refused_by_store(text)
}

/// Whether an agent's text passes on a refusal of the object store that concerns every request to the same place.
pub fn is_refused_by_store(text: &str) -> bool {
    HOPELESS.iter().any(|code| text.contains(&format!("(code:{code})")))
}

/// Whether the connection was never made, so that the other side knows nothing of the request.
pub(super) fn never_arrived(error: &ClientError) -> bool {
    let ClientError::Connect { source, .. } = error else { return false };
    if let Some(error) = source.downcast_ref::<reqwest::Error>() {
        return error.is_connect();
    }
    source.downcast_ref::<std::io::Error>().is_some_and(|e| e.kind() == std::io::ErrorKind::ConnectionRefused)
}

/// Whether another host may have the answer: no answer, 401, 403, or a 5xx other than 501.
pub(super) fn may_ask_another(error: &ClientError) -> bool {
    let refused = error.status().is_some_and(|s| s.as_u16() == 401 || s.as_u16() == 403);
    refused || error.is_transient()
}

#[cfg(test)]
mod tests {
    use common::api::ApiError;
    use http::{Method, StatusCode};
    use tokio::time::Instant;

    use super::super::tests::settings;
    use super::*;

    fn api(status: u16, message: &str) -> ClientError {
        ClientError::Api(ApiError {
            status: StatusCode::from_u16(status).unwrap(),
            message: message.into(),
            details: String::new(),
            trace_id: String::new(),
        })
    }

    fn timeout(limit: Duration) -> ClientError {
        ClientError::Timeout { method: Method::GET, url: "u".into(), timeout: limit }
    }

    fn refused() -> ClientError {
        let source = Box::new(std::io::Error::from(std::io::ErrorKind::ConnectionRefused));
        ClientError::Connect { method: Method::GET, url: "u".into(), source }
    }

    #[tokio::test(start_paused = true)]
    async fn background_calls_double_their_limit_and_give_up_after_ten_attempts() {
        let mut limits = Vec::new();
        let policy = Policy::new(&settings(), Patience::Background);
        let begin = Instant::now();
        let outcome: Result<(), _> = policy
            .run("h", CallOptions::new(Duration::from_secs(30)), |limit| {
                limits.push(limit.as_secs());
                async move { Err(timeout(limit)) }
            })
            .await;
        assert_eq!(limits, [30, 60, 120, 240, 480, 960, 1920, 3600, 3600, 3600]);
        let error = outcome.unwrap_err();
        assert!(error.to_string().contains("giving up after 10 attempts"), "{error}");
        // 1 + 2 + 4 + 8 + 16 + 4 x 30 seconds, give or take 20 percent.
        assert!((120..=182).contains(&begin.elapsed().as_secs()), "{:?}", begin.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn interactive_calls_are_made_twice_with_the_same_limit() {
        let mut limits = Vec::new();
        let policy = Policy::new(&settings(), Patience::Interactive);
        let outcome: Result<(), _> = policy
            .run("h", CallOptions::new(Duration::from_secs(30)), |limit| {
                limits.push(limit.as_secs());
                async move { Err(timeout(limit)) }
            })
            .await;
        assert!(outcome.is_err());
        assert_eq!(limits, [30, 30]);
    }

    #[test]
    fn what_may_be_repeated() {
        use RetryOn::{NotSent, Nothing, Transient, Unavailable};
        for (error, repeated) in [
            (api(500, "boom"), &[Transient][..]),
            (api(502, ""), &[Transient, Unavailable]),
            (api(503, "operation list"), &[Transient, Unavailable]),
            (api(504, ""), &[Transient, Unavailable]),
            (api(505, ""), &[Transient]),
            (api(501, ""), &[]),
            (api(404, ""), &[]),
            (api(401, ""), &[]),
            (api(500, "permission denied"), &[]),
            (api(500, "ListObjectsV2 b/backup: Access Denied (code:AccessDenied) status 403"), &[]),
            (api(500, "HeadObject b/backup/x: 403 (code:403) status 403"), &[]),
            (api(500, "filesystem error: link failed: No space left on device"), &[]),
            (api(500, "ListObjectsV2 b/backup: oops (code:InternalError) status 500"), &[Transient]),
            (timeout(Duration::ZERO), &[Transient, Unavailable]),
            (refused(), &[Transient, Unavailable, NotSent]),
        ] {
            for retry in [Transient, Unavailable, NotSent, Nothing] {
                assert_eq!(may_repeat(&error, retry, 1), repeated.contains(&retry), "{error} {retry:?}");
            }
        }
        assert!(
            !may_repeat(&timeout(Duration::ZERO), Unavailable, 2),
            "silence is enough when it is repeated"
        );
        for (error, another) in [(api(401, ""), true), (api(403, ""), true), (api(404, ""), false)] {
            assert_eq!(may_ask_another(&error), another, "{error}");
        }
    }
}
