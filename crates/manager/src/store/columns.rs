//! Between columns and types: identifiers and enumerations as text, times as Unix milliseconds, lists as JSON.

use std::fmt::Display;
use std::str::FromStr;

use chrono::{DateTime, Utc};
use rusqlite::Row;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::StoreError;

/// A time as it is stored.
pub fn millis(time: DateTime<Utc>) -> i64 {
    time.timestamp_millis()
}

/// A value as JSON text.
///
/// # Errors
/// The value cannot be serialised: a map whose keys are no text.
pub fn json_text<T: Serialize>(value: &T) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|e| StoreError::Corrupt {
        column: "(new value)".into(),
        value: String::new(),
        reason: e.to_string(),
    })
}

/// Reads a text column through `FromStr`: identifiers, types, statuses, tags.
///
/// # Errors
/// No such column, or its text is not of that type.
pub fn get_text<T>(row: &Row<'_>, column: &str) -> Result<T, StoreError>
where
    T: FromStr,
    T::Err: Display,
{
    let text: String = row.get(column)?;
    text.parse().map_err(|e: T::Err| corrupt(column, &text, &e))
}

/// Reads an identifier; the same as [`get_text`], named for what it is mostly used for.
///
/// # Errors
/// See [`get_text`].
pub fn get_id<T>(row: &Row<'_>, column: &str) -> Result<T, StoreError>
where
    T: FromStr,
    T::Err: Display,
{
    get_text(row, column)
}

/// Reads a JSON column.
///
/// # Errors
/// No such column, or its text is not that JSON.
pub fn get_json<T: DeserializeOwned>(row: &Row<'_>, column: &str) -> Result<T, StoreError> {
    let text: String = row.get(column)?;
    serde_json::from_str(&text).map_err(|e| corrupt(column, &text, &e))
}

/// Reads a time.
///
/// # Errors
/// No such column, `NULL`, or out of range.
pub fn get_time(row: &Row<'_>, column: &str) -> Result<DateTime<Utc>, StoreError> {
    time(column, row.get(column)?)
}

/// Reads a time that may be `NULL`.
///
/// # Errors
/// No such column, or out of range.
pub fn get_optional_time(row: &Row<'_>, column: &str) -> Result<Option<DateTime<Utc>>, StoreError> {
    let stored: Option<i64> = row.get(column)?;
    stored.map(|ms| time(column, ms)).transpose()
}

fn time(column: &str, ms: i64) -> Result<DateTime<Utc>, StoreError> {
    DateTime::from_timestamp_millis(ms).ok_or_else(|| corrupt(column, &ms.to_string(), &"not a time"))
}

fn corrupt(column: &str, value: &str, reason: &dyn Display) -> StoreError {
    StoreError::Corrupt { column: column.to_owned(), value: value.to_owned(), reason: reason.to_string() }
}
