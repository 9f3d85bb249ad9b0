//! Request parts, decoded as leniently as the original does, refused as JSON.

use std::borrow::Cow;

use axum::body::Bytes;
use axum::extract::rejection::PathRejection;
use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use http::request::Parts;
use percent_encoding::percent_decode_str;
use serde::de::value::{Error, MapDeserializer};
use serde::de::{DeserializeOwned, Deserializer, IntoDeserializer, Visitor};

use super::error::ApiError;

/// A JSON body whatever its content type says, also on `GET`; an empty one counts as `{}`.
pub struct JsonBody<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for JsonBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let bytes = Bytes::from_request(request, state).await.map_err(ApiError::malformed)?;
        let text: &[u8] = if bytes.is_empty() { b"{}" } else { &bytes };
        serde_json::from_slice(text).map(Self).map_err(ApiError::malformed)
    }
}

/// Query parameters. Booleans are read as the original reads them; a parameter without a value counts as absent.
pub struct QueryParams<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for QueryParams<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ApiError> {
        parse_query(parts.uri.query().unwrap_or_default()).map(Self).map_err(ApiError::malformed)
    }
}

/// Path parameters.
pub struct PathParams<T>(pub T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for PathParams<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let refused = |e: PathRejection| ApiError::malformed(e.body_text());
        Path::from_request_parts(parts, state).await.map(|Path(value)| Self(value)).map_err(refused)
    }
}

fn parse_query<T: DeserializeOwned>(query: &str) -> Result<T, Error> {
    let decode = |text: &str| percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned();
    let pairs = query.split('&').filter_map(|pair| {
        let (key, value) = pair.split_once('=')?;
        (!value.is_empty()).then(|| (decode(key), QueryValue { key: decode(key), text: decode(value) }))
    });
    T::deserialize(MapDeserializer::new(pairs))
}

/// One value of a query; knows its key for the message.
struct QueryValue {
    key: String,
    text: String,
}

impl QueryValue {
    fn wrong<E: serde::de::Error>(&self, wanted: &str) -> E {
        E::custom(format_args!("{} is not a valid {wanted}: {:?}", self.key, self.text))
    }
}

impl<'de> IntoDeserializer<'de, Error> for QueryValue {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

macro_rules! integers {
    ($($method:ident => $visit:ident: $ty:ty,)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            match self.text.parse::<$ty>() {
                Ok(number) => visitor.$visit(number),
                Err(_) => Err(self.wrong("integer")),
            }
        }
    )*};
}

impl<'de> Deserializer<'de> for QueryValue {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match Cow::<str>::from(self.text) {
            Cow::Owned(text) => visitor.visit_string(text),
            Cow::Borrowed(text) => visitor.visit_str(text),
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.text.as_str() {
            "1" | "t" | "T" | "TRUE" | "true" | "True" => visitor.visit_bool(true),
            "0" | "f" | "F" | "FALSE" | "false" | "False" => visitor.visit_bool(false),
            _ => Err(self.wrong("boolean")),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    integers! {
        deserialize_i64 => visit_i64: i64,
        deserialize_u64 => visit_u64: u64,
        deserialize_u32 => visit_u32: u32,
    }

    serde::forward_to_deserialize_any! {
        i8 i16 i32 i128 u8 u16 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct map struct enum identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use common::api::manager::{DeleteClusterQuery, HistoryQuery, TaskListQuery};

    use super::*;

    #[test]
    fn booleans_are_read_as_the_original_reads_them() {
        for (text, expected) in [("1", true), ("t", true), ("True", true), ("0", false), ("FALSE", false)] {
            let query: DeleteClusterQuery = parse_query(&format!("cql_creds={text}&x=y")).unwrap();
            assert_eq!(query.cql_creds, Some(expected), "{text}");
        }
        let refused = parse_query::<DeleteClusterQuery>("cql_creds=yes").unwrap_err();
        assert_eq!(refused.to_string(), "cql_creds is not a valid boolean: \"yes\"");
    }

    #[test]
    fn values_are_decoded_and_empty_ones_are_absent() {
        let query: TaskListQuery = parse_query("type=a%2Cb+c&status=&all=1&").unwrap();
        assert_eq!(query.task_type.as_deref(), Some("a,b c"));
        assert_eq!((query.status, query.all), (None, Some(true)));
        assert_eq!(parse_query::<HistoryQuery>("limit=-1").unwrap().limit, Some(-1));
        let refused = parse_query::<HistoryQuery>("limit=ten").unwrap_err();
        assert_eq!(refused.to_string(), "limit is not a valid integer: \"ten\"");
        assert!(parse_query::<HistoryQuery>("").unwrap().limit.is_none());
    }
}
