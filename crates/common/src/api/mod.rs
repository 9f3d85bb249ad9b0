//! Wire contracts: a call is a type, and router and client are both written against it.

pub mod agent;
pub mod manager;

use http::{Method, StatusCode};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};

/// One call of an HTTP API.
///
/// `PATH` is a template such as `/cluster/{cluster_id}/tasks`; the client fills the braces in order,
/// percent-encoded, and axum routes on the same text.
pub trait Endpoint {
    /// HTTP method.
    const METHOD: Method;
    /// Path template below the API's base.
    const PATH: &'static str;
    /// Query parameters; `()` for none. Fields that are `None` are left out.
    type Query: Serialize + DeserializeOwned;
    /// JSON body of the request; `()` for none.
    type Body: Serialize + DeserializeOwned;
    /// JSON body of the reply; `()` for an empty one.
    type Reply: Serialize + DeserializeOwned;
}

/// Error body of the manager (spec manager.md 2.1).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ErrorBody {
    /// Cause chain, outermost first.
    pub message: String,
    /// Hint of several lines; may be empty.
    pub details: String,
    /// Finds the request in the logs.
    pub trace_id: String,
}

/// An answer that is an error, from either daemon or from Scylla behind the agent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    /// HTTP status, or the status that the body claims when that is an error status.
    pub status: StatusCode,
    /// What went wrong.
    pub message: String,
    /// Hint of several lines; may be empty.
    pub details: String,
    /// Finds the request in the logs; may be empty.
    pub trace_id: String,
}

impl ApiError {
    /// Reads any of the error bodies of agent, Scylla and manager; falls back to the HTTP status.
    pub fn from_body(status: StatusCode, body: &[u8]) -> Self {
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Any {
            message: String,
            details: String,
            trace_id: String,
            status: u16,
            code: u16,
        }
        let any: Any = serde_json::from_slice(body).unwrap_or_default();
        let claimed = [any.status, any.code].into_iter().find(|s| *s >= 400).unwrap_or(0);
        let text = String::from_utf8_lossy(&body[..body.len().min(500)]).trim().to_owned();
        let message = match (any.message.is_empty(), text.is_empty()) {
            (false, _) => any.message,
            (true, false) => format!("HTTP {status}: {text}"),
            (true, true) => format!("HTTP {status}"),
        };
        Self {
            status: StatusCode::from_u16(claimed).unwrap_or(status),
            message,
            details: any.details,
            trace_id: any.trace_id,
        }
    }
}

/// Reads `null` as the default value; the original's encoder writes `null` for empty lists and maps.
pub fn null_as_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Option::<T>::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// Timestamps where `0001-01-01T00:00:00Z`, `null`, `""` and an absent field all mean "not set".
///
/// Written as RFC 3339 in UTC with milliseconds, or `null`.
pub mod optional_time {
    use chrono::{DateTime, Datelike, SecondsFormat, Utc};
    use serde::{Deserialize, Deserializer, Serializer};

    /// Writes RFC 3339 or `null`.
    pub fn serialize<S: Serializer>(time: &Option<DateTime<Utc>>, serializer: S) -> Result<S::Ok, S::Error> {
        match time {
            Some(t) => serializer.serialize_str(&t.to_rfc3339_opts(SecondsFormat::AutoSi, true)),
            None => serializer.serialize_none(),
        }
    }

    /// Reads every spelling of "not set".
    pub fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<DateTime<Utc>>, D::Error> {
        let Some(text) = Option::<String>::deserialize(deserializer)? else { return Ok(None) };
        if text.is_empty() {
            return Ok(None);
        }
        let time = DateTime::parse_from_rfc3339(&text).map_err(serde::de::Error::custom)?.with_timezone(&Utc);
        Ok(if time.year() <= 1 { None } else { Some(time) })
    }
}

/// Like [`optional_time`], but "not set" is written as `0001-01-01T00:00:00Z`.
pub mod zero_time {
    use chrono::{DateTime, SecondsFormat, Utc};
    use serde::Serializer;

    pub use super::optional_time::deserialize;

    /// The zero time of the original's runtime.
    pub const ZERO: &str = "0001-01-01T00:00:00Z";

    /// Writes RFC 3339 or the zero time.
    pub fn serialize<S: Serializer>(time: &Option<DateTime<Utc>>, serializer: S) -> Result<S::Ok, S::Error> {
        match time {
            Some(t) => serializer.serialize_str(&t.to_rfc3339_opts(SecondsFormat::AutoSi, true)),
            None => serializer.serialize_str(ZERO),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_error_bodies_are_understood() {
        for (status, body, expected, message) in [
            (401, r#"{"message":"unauthorized","code":401}"#, 401, "unauthorized"),
            (
                500,
                r#"{"status":404,"message":"object not found","path":"x","input":{}}"#,
                404,
                "object not found",
            ),
            (500, r#"{"message":"boom","details":"","trace_id":""}"#, 500, "boom"),
            (502, "", 502, "HTTP 502 Bad Gateway"),
            (503, "busy", 503, "HTTP 503 Service Unavailable: busy"),
            (500, r#"{"message":"odd","code":0}"#, 500, "odd"),
        ] {
            let error = ApiError::from_body(StatusCode::from_u16(status).unwrap(), body.as_bytes());
            assert_eq!((error.status.as_u16(), error.message.as_str()), (expected, message), "{body}");
        }
    }
}
