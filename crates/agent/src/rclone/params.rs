//! Parameters of engine calls: one flat map from form, query and JSON body, later ones winning (spec agent.md 2.4).
//!
//! The original's clients leave zero values out and send numbers and booleans as texts, so readers are lenient
//! about absence and about the type, but never guess.

use std::time::Duration;

use axum::body::Body;
use futures::StreamExt;
use http::{HeaderMap, header};
use percent_encoding::percent_decode_str;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::error::CallError;

/// Bytes of a body that are read; longer ones are cut there and then fail to parse.
const BODY_LIMIT: usize = 1 << 20;

/// Limit for the arrival of such a body.
const BODY_TIMEOUT: Duration = Duration::from_secs(60);

/// Merged parameters.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Params(Map<String, Value>);

/// A request whose parameters cannot be read, with those merged before.
#[derive(Debug)]
pub struct BadParams {
    /// What was merged so far; `None` where the body's type is not understood.
    pub merged: Option<Params>,
    /// What is wrong.
    pub error: CallError,
}

/// What the body of a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyUse {
    /// Parameters, if its type says so.
    Parameters,
    /// The content of a file, whatever its type says: clients label it as they like, and a JSON file is no parameter.
    Content,
}

/// How the body takes part.
enum BodyKind {
    Form,
    Json,
    Other,
}

impl Params {
    /// Reads the parameters of a request. The body is consumed only if it is a form or JSON.
    ///
    /// # Errors
    /// A content type or body that cannot be parsed.
    pub async fn read(
        headers: &HeaderMap,
        query: &str,
        body: &mut Body,
        body_use: BodyUse,
    ) -> Result<Self, BadParams> {
        let kind = match (body_kind(headers).map_err(|error| BadParams { merged: None, error })?, body_use) {
            (_, BodyUse::Content) => BodyKind::Other,
            (kind, BodyUse::Parameters) => kind,
        };
        let mut params = Self::default();
        if let BodyKind::Form = kind {
            let bytes = read_limited(body).await.map_err(|e| params.clone().bad(e))?;
            params.merge_form(&String::from_utf8_lossy(&bytes));
        }
        params.merge_form(query);
        if let BodyKind::Json = kind {
            let bytes = read_limited(body).await.map_err(|e| params.clone().bad(e))?;
            if let Err(reason) = params.merge_json(&bytes) {
                return Err(params.bad(format!("read input JSON: {reason}")));
            }
        }
        Ok(params)
    }

    fn bad(self, reason: String) -> BadParams {
        BadParams { merged: Some(self), error: CallError::BadRequest(reason) }
    }

    fn merge_form(&mut self, text: &str) {
        for pair in text.split('&').filter(|p| !p.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            self.0.insert(decode_form(key), Value::String(decode_form(value)));
        }
    }

    fn merge_json(&mut self, bytes: &[u8]) -> Result<(), String> {
        // Only the first value counts; whatever follows it is ignored, as by the original.
        let mut values = serde_json::Deserializer::from_slice(bytes).into_iter::<Value>();
        match values.next() {
            None | Some(Ok(Value::Null)) => Ok(()),
            Some(Ok(Value::Object(map))) => {
                self.0.extend(map);
                Ok(())
            }
            Some(Ok(_)) => Err("expected an object".into()),
            Some(Err(error)) => Err(error.to_string()),
        }
    }

    /// The merged map, for error answers.
    pub fn as_value(&self) -> Value {
        Value::Object(self.0.clone())
    }

    fn get(&self, key: &str) -> Option<&Value> {
        self.0.get(key).filter(|v| !v.is_null())
    }

    /// A text; absent is `""`, because clients leave empty texts out.
    ///
    /// # Errors
    /// Not a text.
    pub fn text(&self, key: &str) -> Result<&str, CallError> {
        match self.get(key) {
            None => Ok(""),
            Some(Value::String(text)) => Ok(text),
            Some(other) => Err(invalid(key, "a string", other)),
        }
    }

    /// A text that must be there.
    ///
    /// # Errors
    /// Absent, or not a text.
    pub fn required_text(&self, key: &'static str) -> Result<&str, CallError> {
        if self.get(key).is_none() {
            return Err(CallError::MissingKey(key));
        }
        self.text(key)
    }

    /// A whole number; a fraction is cut off unless it is in a text.
    ///
    /// # Errors
    /// Not a number.
    pub fn integer(&self, key: &str) -> Result<Option<i64>, CallError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let bad = || invalid(key, "an integer", value);
        match value {
            Value::Number(n) => match (n.as_i64(), n.as_f64()) {
                (Some(whole), _) => Ok(Some(whole)),
                (None, Some(float)) if float.abs() < 9.2e18 => Ok(Some(float as i64)),
                _ => Err(bad()),
            },
            Value::String(text) => text.parse().map(Some).map_err(|_| bad()),
            _ => Err(bad()),
        }
    }

    /// A number that is not negative, such as a job ID or seconds to wait; absent is 0.
    ///
    /// # Errors
    /// Not a number, or negative.
    pub fn natural(&self, key: &str) -> Result<u64, CallError> {
        let number = self.integer(key)?.unwrap_or(0);
        u64::try_from(number).map_err(|_| invalid(key, "zero or more", &number.into()))
    }

    /// A boolean; absent is false.
    ///
    /// # Errors
    /// Not a boolean.
    pub fn flag(&self, key: &str) -> Result<bool, CallError> {
        let Some(value) = self.get(key) else { return Ok(false) };
        match value {
            Value::Bool(flag) => Ok(*flag),
            Value::Number(n) => Ok(n.as_f64() != Some(0.0)),
            Value::String(text) => match text.as_str() {
                "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
                "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
                _ => Err(invalid(key, "a boolean", value)),
            },
            _ => Err(invalid(key, "a boolean", value)),
        }
    }

    /// A structure, as an object or as its JSON text; absent is the default.
    ///
    /// # Errors
    /// Another shape.
    pub fn structure<T: DeserializeOwned + Default>(&self, key: &str) -> Result<T, CallError> {
        let parsed = match self.get(key) {
            None => return Ok(T::default()),
            Some(Value::String(text)) if text.is_empty() => return Ok(T::default()),
            Some(Value::String(text)) => serde_json::from_str(text),
            Some(value) => serde_json::from_value(value.clone()),
        };
        parsed.map_err(|e| CallError::BadRequest(format!("invalid value of key {key:?}: {e}")))
    }
}

fn invalid(key: &str, expected: &str, found: &Value) -> CallError {
    let mut found = found.to_string();
    if found.len() > 100 {
        found.truncate(found.floor_char_boundary(100));
        found.push_str("...");
    }
    CallError::BadRequest(format!("invalid value of key {key:?}: expecting {expected}, found {found}"))
}

fn body_kind(headers: &HeaderMap) -> Result<BodyKind, CallError> {
    let Some(value) = headers.get(header::CONTENT_TYPE) else { return Ok(BodyKind::Other) };
    let text = value.to_str().unwrap_or("?");
    if text.is_empty() {
        return Ok(BodyKind::Other);
    }
    let bad = || CallError::BadRequest(format!("failed to parse Content-Type {text:?}"));
    let (media, parameters) = text.split_once(';').unwrap_or((text, ""));
    let token = |s: &str| {
        !s.is_empty() && s.bytes().all(|b| b.is_ascii_graphic() && !b"()<>@,;:\\\"/[]?=".contains(&b))
    };
    let media = media.trim().to_ascii_lowercase();
    let well_formed = media.split_once('/').map_or(token(&media), |(kind, sub)| token(kind) && token(sub));
    let parameters_fine = parameters
        .split(';')
        .map(str::trim)
        .filter(|p| !p.is_empty())
        .all(|p| p.split_once('=').is_some_and(|(name, value)| token(name.trim()) && !value.is_empty()));
    if !well_formed || !parameters_fine {
        return Err(bad());
    }
    Ok(match media.as_str() {
        "application/x-www-form-urlencoded" => BodyKind::Form,
        "application/json" => BodyKind::Json,
        _ => BodyKind::Other,
    })
}

async fn read_limited(body: &mut Body) -> Result<Vec<u8>, String> {
    tokio::time::timeout(BODY_TIMEOUT, read_to_limit(body))
        .await
        .map_err(|_| format!("the body was not complete within {BODY_TIMEOUT:?}"))?
}

async fn read_to_limit(body: &mut Body) -> Result<Vec<u8>, String> {
    let mut stream = std::mem::replace(body, Body::empty()).into_data_stream();
    let mut bytes = Vec::new();
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.map_err(|e| format!("read body: {e}"))?;
        let room = BODY_LIMIT - bytes.len();
        bytes.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if bytes.len() == BODY_LIMIT {
            break;
        }
    }
    Ok(bytes)
}

fn decode_form(text: &str) -> String {
    percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    async fn read(content_type: &str, query: &str, body: &str) -> Result<Params, BadParams> {
        let mut headers = HeaderMap::new();
        if !content_type.is_empty() {
            headers.insert(header::CONTENT_TYPE, content_type.parse().unwrap());
        }
        Params::read(&headers, query, &mut Body::from(body.to_owned()), BodyUse::Parameters).await
    }

    #[tokio::test]
    async fn sources_are_merged_and_later_ones_win() {
        let json = "application/json";
        let form = "application/x-www-form-urlencoded";
        for (kind, query, body, expected) in [
            ("", "a=1&b=x%20y+z", "", json!({"a":"1","b":"x y z"})),
            ("", "a=1&a=2", "", json!({"a":"2"})),
            ("", "a", "{\"b\":1}", json!({"a":""})),
            (json, "a=1&b=2", "{\"b\":3}", json!({"a":"1","b":3})),
            ("application/json; charset=utf-8", "", "{\"b\":3}", json!({"b":3})),
            ("APPLICATION/JSON", "", "{\"b\":3}", json!({"b":3})),
            (json, "a=1", "", json!({"a":"1"})),
            (json, "a=1", "  ", json!({"a":"1"})),
            (json, "a=1", "null", json!({"a":"1"})),
            (json, "", "{\"b\":3} trailing", json!({"b":3})),
            (form, "a=2", "a=1&c=%41", json!({"a":"2","c":"A"})),
            ("application/octet-stream", "a=2", "a=1", json!({"a":"2"})),
        ] {
            let params = read(kind, query, body).await.unwrap();
            assert_eq!(params.as_value(), expected, "{kind} {query} {body}");
        }
    }

    #[tokio::test]
    async fn bad_requests_tell_what_was_merged() {
        let long = format!("{{\"a\":\"{}\"}}", "x".repeat(BODY_LIMIT));
        for (kind, query, body, merged, message) in [
            ("application/json", "a=1", "{\"b\":", Some(json!({"a":"1"})), "read input JSON: "),
            ("application/json", "", "[1]", Some(json!({})), "read input JSON: expected an object"),
            ("application/json", "", &long, Some(json!({})), "read input JSON: "),
            ("application//json", "a=1", "", None, "Content-Type"),
            ("text/plain; charset", "", "", None, "Content-Type"),
        ] {
            let bad = read(kind, query, body).await.unwrap_err();
            assert_eq!(bad.merged.map(|p| p.as_value()), merged, "{kind} {body:.20}");
            assert!(bad.error.to_string().contains(message), "{}", bad.error);
            assert_eq!(bad.error.status(), 400);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_falls_silent_is_refused() {
        let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, "application/json".parse().unwrap())]);
        let silent = futures::stream::pending::<std::io::Result<bytes::Bytes>>();
        let mut body = Body::from_stream(silent);
        let bad = Params::read(&headers, "", &mut body, BodyUse::Parameters).await.unwrap_err();
        assert_eq!(bad.error.status(), 400);
        assert!(bad.error.to_string().contains("not complete within 60s"), "{}", bad.error);
    }

    #[tokio::test]
    async fn values_are_read_leniently_but_not_guessed() {
        let body = json!({
            "i": 5, "f": 5.7, "neg": -3.9, "si": "7", "sf": "5.0", "sp": " 5", "se": "", "t": "x", "n": null,
            "b": true, "b1": "1", "bn": 2, "b0": 0, "bs": "yes", "o": {"recurse": true},
            "os": "{\"recurse\":true}", "l": ["a", "b"], "ls": "[\"a\"]", "bad": [1]
        });
        let p = read("application/json", "", &body.to_string()).await.unwrap();
        for (key, expected) in [
            ("i", Some(Some(5))),
            ("f", Some(Some(5))),
            ("neg", Some(Some(-3))),
            ("si", Some(Some(7))),
            ("absent", Some(None)),
            ("n", Some(None)),
            ("sf", None),
            ("sp", None),
            ("se", None),
            ("t", None),
            ("b", None),
        ] {
            assert_eq!(p.integer(key).ok(), expected, "{key}");
        }
        for (key, expected) in [
            ("b", Some(true)),
            ("b1", Some(true)),
            ("bn", Some(true)),
            ("b0", Some(false)),
            ("absent", Some(false)),
            ("bs", None),
            ("se", None),
        ] {
            assert_eq!(p.flag(key).ok(), expected, "{key}");
        }
        assert_eq!(p.text("t").unwrap(), "x");
        assert_eq!(p.text("absent").unwrap(), "");
        assert_eq!(p.text("i").unwrap_err().status(), 400);
        let missing = p.required_text("fs").unwrap_err();
        assert_eq!(
            (missing.status().as_u16(), missing.to_string().as_str()),
            (400, r#"Didn't find key "fs" in input"#)
        );
        assert_eq!(p.natural("neg").unwrap_err().status(), 400);
        for key in ["o", "os"] {
            assert!(p.structure::<common::api::agent::ListOptions>(key).unwrap().recurse, "{key}");
        }
        assert_eq!(p.structure::<Vec<String>>("l").unwrap(), ["a", "b"]);
        assert_eq!(p.structure::<Vec<String>>("ls").unwrap(), ["a"]);
        assert!(p.structure::<Vec<String>>("absent").unwrap().is_empty());
        assert!(p.structure::<Vec<String>>("bad").is_err());
    }
}
