//! What a command works with: the manager's API, the two output streams, the clock and the zone.

use std::fmt::Arguments;
use std::io::Write;
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use common::api::Endpoint;
use common::http_client::{Call, ClientError, HttpClient, decode, endpoint_call};
use reqwest::header::HeaderMap;
use serde::Serialize;
use serde_json::Value;

use crate::cli::shared::OutputFormat;
use crate::env::Env;
use crate::error::CliError;
use crate::render::View;

/// Time after which a slow command says why it takes so long.
const PATIENCE: Duration = Duration::from_secs(5);

/// Version of every JSON document that `-o json` prints.
const JSON_SCHEMA: u32 = 1;

/// Keys whose values never appear in a dump of the traffic.
const SECRETS: [&str; 5] =
    ["auth_token", "password", "alternator_secret_access_key", "ssl_user_key_file", "ssl_user_cert_file"];

/// One invocation of one command.
pub struct Ctx<'a> {
    pub env: &'a Env,
    pub view: View,
    http: HttpClient,
    base: String,
    out: &'a mut (dyn Write + Send),
    err: &'a mut (dyn Write + Send),
}

impl<'a> Ctx<'a> {
    pub fn new(
        env: &'a Env,
        http: HttpClient,
        base: String,
        out: &'a mut (dyn Write + Send),
        err: &'a mut (dyn Write + Send),
    ) -> Self {
        let view = View { tz: env.zone.tz, utf8: env.utf8_tables(), width: env.table_width() };
        Self { env, view, http, base, out, err }
    }

    pub fn now(&self) -> DateTime<Utc> {
        (self.env.now)()
    }

    /// Prints to stdout.
    pub fn print(&mut self, text: &str) -> Result<(), CliError> {
        Ok(self.out.write_all(text.as_bytes())?)
    }

    /// Makes what was printed visible now.
    pub fn flush(&mut self) -> Result<(), CliError> {
        Ok(self.out.flush()?)
    }

    /// Prints an error to stderr where the command goes on after it.
    pub fn print_error(&mut self, error: &CliError) -> Result<(), CliError> {
        Ok(crate::error::print(error, self.err)?)
    }

    /// Prints a line to stderr.
    pub fn note(&mut self, line: Arguments<'_>) -> Result<(), CliError> {
        writeln!(self.err, "{line}")?;
        Ok(self.err.flush()?)
    }

    /// Prints an error to stdout, where a walk over clusters goes on after it.
    pub fn print_error_inline(&mut self, error: &CliError) -> Result<(), CliError> {
        Ok(crate::error::print(error, self.out)?)
    }

    /// Prints either form of a result: text, or JSON with the schema version in it.
    pub fn show(
        &mut self,
        format: OutputFormat,
        text: impl FnOnce(&View) -> String,
        json: impl FnOnce() -> Value,
    ) -> Result<(), CliError> {
        match format {
            OutputFormat::Table => {
                let text = text(&self.view);
                self.print(&text)
            }
            OutputFormat::Json => {
                let text = json_document(json())?;
                self.print(&text)
            }
        }
    }

    /// Makes one typed call.
    pub async fn call<E: Endpoint>(&mut self, args: &[&str], query: &E::Query) -> Result<E::Reply, CliError> {
        let call = endpoint_call::<E>(&self.base, args, query, None)?;
        self.answer(call, None).await
    }

    /// Makes one typed call with a body of its own making; the wire form leaves out more than the type does.
    pub async fn call_with<E: Endpoint>(
        &mut self,
        args: &[&str],
        query: &E::Query,
        body: &Value,
    ) -> Result<E::Reply, CliError> {
        let call = endpoint_call::<E>(&self.base, args, query, None)?.json(json_bytes(body)?);
        self.answer(call, None).await
    }

    /// A call that may take long: after 5 s `notice` says why, once, on stderr.
    pub async fn call_slow<E: Endpoint>(
        &mut self,
        notice: &str,
        args: &[&str],
        query: &E::Query,
        body: Option<&Value>,
    ) -> Result<E::Reply, CliError> {
        let mut call = endpoint_call::<E>(&self.base, args, query, None)?;
        if let Some(body) = body {
            call = call.json(json_bytes(body)?);
        }
        self.answer(call, Some(notice)).await
    }

    /// Creates something; the reply is the ID at the end of the `Location` header.
    pub async fn create<E: Endpoint<Query = ()>>(
        &mut self,
        args: &[&str],
        body: &Value,
    ) -> Result<String, CliError> {
        let call = endpoint_call::<E>(&self.base, args, &(), None)?.json(json_bytes(body)?);
        let (headers, _) = self.send(call, None).await?;
        let location = headers.get("location").and_then(|value| value.to_str().ok()).unwrap_or_default();
        let id = location.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
        match uuid::Uuid::try_parse(id) {
            Ok(id) => Ok(id.to_string()),
            Err(_) => {
                Err(CliError::text(format!("the server's answer names no ID: Location is {location:?}")))
            }
        }
    }

    async fn answer<T: serde::de::DeserializeOwned>(
        &mut self,
        call: Call,
        notice: Option<&str>,
    ) -> Result<T, CliError> {
        let (method, url) = (call.method.clone(), call.url.clone());
        let (_, bytes) = self.send(call, notice).await?;
        Ok(decode(&method, &url, &bytes)?)
    }

    async fn send(&mut self, call: Call, notice: Option<&str>) -> Result<(HeaderMap, Bytes), CliError> {
        let dump = self.env.dumps_http();
        if dump {
            write!(self.err, "> {} {}\n{}", call.method, call.url, shown_body(&call.body))?;
        }
        let work = self.http.send(call);
        tokio::pin!(work);
        let result = match notice {
            None => work.await,
            Some(notice) => match tokio::time::timeout(PATIENCE, &mut work).await {
                Ok(result) => result,
                Err(_) => {
                    writeln!(self.err, "NOTICE: {notice}")?;
                    self.err.flush()?;
                    work.await
                }
            },
        };
        if dump {
            self.err.write_all(shown_answer(&result).as_bytes())?;
        }
        Ok(result?)
    }
}

fn shown_answer(result: &Result<(HeaderMap, Bytes), ClientError>) -> String {
    match result {
        Ok((headers, body)) => {
            let location = headers.get("location").and_then(|value| value.to_str().ok());
            let location = location.map(|text| format!(", Location: {text}")).unwrap_or_default();
            format!("< success{location}\n{}", shown_body(body))
        }
        Err(error) => format!("< {}\n", common::error::chain(error)),
    }
}

/// A body for the dump: secrets blanked, one line.
fn shown_body(body: &[u8]) -> String {
    if body.is_empty() {
        return String::new();
    }
    match serde_json::from_slice::<Value>(body) {
        Ok(mut value) => {
            blank_secrets(&mut value);
            format!("{value}\n")
        }
        Err(_) => format!("({} bytes that are not JSON)\n", body.len()),
    }
}

fn blank_secrets(value: &mut Value) {
    match value {
        Value::Object(map) => {
            for (key, inner) in map.iter_mut() {
                match SECRETS.contains(&key.as_str()) && inner.as_str() != Some("") {
                    true => *inner = Value::from("***"),
                    false => blank_secrets(inner),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(blank_secrets),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Serialises something that consists of plain data.
pub fn to_value(data: impl Serialize) -> Result<Value, CliError> {
    serde_json::to_value(data).map_err(|error| CliError::text(format!("encode JSON: {error}")))
}

fn json_bytes(body: &Value) -> Result<Vec<u8>, CliError> {
    serde_json::to_vec(body).map_err(|error| CliError::text(format!("encode JSON: {error}")))
}

fn json_document(result: Value) -> Result<String, CliError> {
    let mut document = serde_json::Map::from_iter([("schema".to_owned(), Value::from(JSON_SCHEMA))]);
    if let Value::Object(fields) = result {
        document.extend(fields);
    }
    let text = serde_json::to_string_pretty(&document);
    text.map(|text| text + "\n").map_err(|error| CliError::text(format!("encode JSON: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dumps_hide_secrets() {
        let body =
            br#"{"name":"prod","auth_token":"t","password":"p","nested":[{"password":"q"}],"username":"u"}"#;
        assert_eq!(
            shown_body(body),
            "{\"auth_token\":\"***\",\"name\":\"prod\",\"nested\":[{\"password\":\"***\"}],\"password\":\"***\",\"username\":\"u\"}\n"
        );
    }
}
