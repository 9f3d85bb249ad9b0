//! Errors of the REST API: one JSON body for all of them (spec manager.md 2.1).
//!
//! Context is added from the inside out, like an error chain, but the marks `get resource: ` and
//! `malformed request: ` always stay in front, because clients look for them there.

use std::error::Error;
use std::fmt::Display;

use axum::Json;
use axum::response::{IntoResponse, Response};
use common::api::ErrorBody;
use http::StatusCode;

use super::trace;
use crate::scheduler::RunError;
use crate::store::StoreError;

/// What a handler returns instead of its reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiError {
    kind: Kind,
    message: String,
    details: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// 400, marked.
    Malformed,
    /// 400: the request is understood and refused.
    Invalid,
    /// 404, marked.
    NotFound,
    /// 404 without the mark: no such path.
    NoEndpoint,
    /// 405.
    Method,
    /// 409.
    Conflict,
    /// 500.
    Internal,
    /// 501.
    Unsupported,
}

impl ApiError {
    fn new(kind: Kind, message: impl Display) -> Self {
        Self { kind, message: message.to_string(), details: String::new() }
    }

    /// 400 `malformed request: <reason>`: body or parameter cannot be decoded.
    pub fn malformed(reason: impl Display) -> Self {
        Self::new(Kind::Malformed, reason)
    }

    /// 400: the request is refused, and the user can mend it.
    pub fn invalid(message: impl Display) -> Self {
        Self::new(Kind::Invalid, message)
    }

    /// 404 `get resource: <what>: not found`, e.g. `what` = `load cluster "prod"`.
    pub fn not_found(what: impl Display) -> Self {
        Self::new(Kind::NotFound, format_args!("{what}: not found"))
    }

    /// 404 for a path that does not exist.
    pub fn no_endpoint(path: &str) -> Self {
        Self::new(
            Kind::NoEndpoint,
            format_args!("find endpoint for path {path} - make sure api-url is correct"),
        )
    }

    /// 405.
    pub fn method_not_allowed(method: &http::Method, path: &str) -> Self {
        Self::new(Kind::Method, format_args!("method {method} is not allowed for path {path}"))
    }

    /// 409.
    pub fn conflict(message: impl Display) -> Self {
        Self::new(Kind::Conflict, message)
    }

    /// 500 with the whole chain of an error.
    pub fn internal(error: &(dyn Error + 'static)) -> Self {
        Self::new(Kind::Internal, common::error::chain(error))
    }

    /// 500 with a message.
    pub fn failed(message: impl Display) -> Self {
        Self::new(Kind::Internal, message)
    }

    /// 501: part of the original's API that this manager does not have.
    pub fn unsupported(message: impl Display) -> Self {
        Self::new(Kind::Unsupported, message)
    }

    /// Puts `context: ` in front of the message, behind the mark.
    #[must_use]
    pub fn context(mut self, context: impl Display) -> Self {
        self.message = format!("{context}: {}", self.message);
        self
    }

    /// Adds a hint of several lines.
    #[must_use]
    pub fn with_details(mut self, details: impl Into<String>) -> Self {
        self.details = details.into();
        self
    }

    /// Status of the answer.
    pub fn status(&self) -> StatusCode {
        match self.kind {
            Kind::Malformed | Kind::Invalid => StatusCode::BAD_REQUEST,
            Kind::NotFound | Kind::NoEndpoint => StatusCode::NOT_FOUND,
            Kind::Method => StatusCode::METHOD_NOT_ALLOWED,
            Kind::Conflict => StatusCode::CONFLICT,
            Kind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            Kind::Unsupported => StatusCode::NOT_IMPLEMENTED,
        }
    }

    /// The message as it is sent.
    pub fn message(&self) -> String {
        match self.kind {
            Kind::Malformed => format!("malformed request: {}", self.message),
            Kind::NotFound => format!("get resource: {}", self.message),
            Kind::Invalid
            | Kind::NoEndpoint
            | Kind::Method
            | Kind::Conflict
            | Kind::Internal
            | Kind::Unsupported => self.message.clone(),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let message = self.message();
        let logged = trace::LoggedError(message.clone());
        let status = self.status();
        let body = ErrorBody { message, details: self.details, trace_id: trace::current() };
        let mut response = (status, Json(body)).into_response();
        response.extensions_mut().insert(logged);
        response
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        Self::internal(&error)
    }
}

impl From<RunError> for ApiError {
    fn from(error: RunError) -> Self {
        use crate::scheduler::runner::RunErrorKind;
        let kind = match error.kind() {
            RunErrorKind::Invalid => Kind::Invalid,
            RunErrorKind::Failed | RunErrorKind::Permanent => Kind::Internal,
        };
        Self::new(kind, error.cause())
    }
}

/// Adds context to the error of a result.
pub trait Context<T> {
    /// See [`ApiError::context`].
    ///
    /// # Errors
    /// The same error with more to say.
    fn context(self, context: impl Display) -> Result<T, ApiError>;
}

impl<T, E: Into<ApiError>> Context<T> for Result<T, E> {
    fn context(self, context: impl Display) -> Result<T, ApiError> {
        self.map_err(|e| e.into().context(context))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_stay_in_front_of_context() {
        for (error, status, message) in [
            (
                ApiError::malformed("x").context("evaluate properties"),
                400,
                "malformed request: evaluate properties: x",
            ),
            (ApiError::not_found("load cluster \"a\""), 404, "get resource: load cluster \"a\": not found"),
            (ApiError::invalid("x").context("create cluster"), 400, "create cluster: x"),
            (ApiError::no_endpoint("/x"), 404, "find endpoint for path /x - make sure api-url is correct"),
            (StoreError::Closed.into(), 500, "database work was cut short"),
        ] {
            assert_eq!((error.status().as_u16(), error.message().as_str()), (status, message));
        }
    }
}
