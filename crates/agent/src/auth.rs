//! Bearer token (spec agent.md 2.1): compared in constant time, each failure costs one second.

use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode, header};

use crate::config::Secret;

/// Wait before a refusal, so that guessing is slow.
const PENALTY: Duration = Duration::from_secs(1);
/// The refusal; the original writes `code`, not `status`.
const REFUSAL: &str = r#"{"message":"unauthorized","code":401}"#;

/// The token that callers must show.
pub struct Auth {
    token: Secret,
}

impl Auth {
    /// Accepts `token` and nothing else; an empty token accepts nobody.
    pub fn new(token: Secret) -> Self {
        Self { token }
    }

    /// Checks the headers of a request.
    ///
    /// # Errors
    /// The complete answer, after its delay.
    pub async fn check(&self, headers: &HeaderMap) -> Result<(), Response> {
        if self.accepts(headers) {
            return Ok(());
        }
        tokio::time::sleep(PENALTY).await;
        let headers = [(header::CONTENT_TYPE, "text/plain; charset=utf-8")];
        Err((StatusCode::UNAUTHORIZED, headers, Body::from(REFUSAL)).into_response())
    }

    fn accepts(&self, headers: &HeaderMap) -> bool {
        let shown = headers.get(header::AUTHORIZATION).map(http::HeaderValue::as_bytes);
        let token = shown.and_then(bearer).unwrap_or_default();
        !self.token.is_empty() && constant_time_eq(token, self.token.expose().as_bytes())
    }
}

/// The token of `Bearer <token>`; the scheme's case does not matter.
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then_some(token)
}

/// Takes the same time wherever the first difference is; only the length can be learnt.
fn constant_time_eq(a: &[u8], b: &[u8]) -> bool {
    let difference = a.iter().zip(b).fold(0, |acc, (x, y)| acc | std::hint::black_box(x ^ y));
    a.len() == b.len() && std::hint::black_box(difference) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn tokens_are_compared_and_refusals_take_a_second() {
        let auth = Auth::new(Secret::new("s3cret"));
        for (value, good) in [
            (Some("Bearer s3cret"), true),
            (Some("bearer s3cret"), true),
            (Some("BEARER s3cret"), true),
            (Some("Bearer s3creT"), false),
            (Some("Bearer s3cret "), false),
            (Some("Bearer s3cre"), false),
            (Some("Bearer "), false),
            (Some("Basic s3cret"), false),
            (Some("s3cret"), false),
            (Some(""), false),
            (None, false),
        ] {
            let headers: HeaderMap =
                value.iter().map(|v| (header::AUTHORIZATION, v.parse().unwrap())).collect();
            let start = tokio::time::Instant::now();
            let outcome = auth.check(&headers).await;
            assert_eq!(outcome.is_ok(), good, "{value:?}");
            assert_eq!(start.elapsed(), if good { Duration::ZERO } else { PENALTY }, "{value:?}");
            let Err(refusal) = outcome else { continue };
            assert_eq!(refusal.status(), 401);
            assert_eq!(refusal.headers()[header::CONTENT_TYPE], "text/plain; charset=utf-8");
            let body = axum::body::to_bytes(refusal.into_body(), 1000).await.unwrap();
            assert_eq!(body, REFUSAL);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_token_nobody_gets_in() {
        let headers = HeaderMap::from_iter([(header::AUTHORIZATION, "Bearer ".parse().unwrap())]);
        assert!(Auth::new(Secret::default()).check(&headers).await.is_err());
    }
}
