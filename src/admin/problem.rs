//! Errors as RFC 9457 problem details. Everything that the endpoint refuses is answered in this form.

use std::fmt;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::{ALLOW, RETRY_AFTER, WWW_AUTHENTICATE};
use actix_web::{HttpResponse, ResponseError};
use serde_json::{Map, Value, json};

use super::views::RecipeFinding;

/// Why a request was refused, in words that say what to do instead.
#[derive(Debug, Clone)]
pub struct AdminError {
    kind: Kind,
    detail: String,
    /// Members of the problem beside those of the RFC.
    /// Boxed: an error is returned by value everywhere.
    extras: Box<Map<String, Value>>,
    retry_after: Option<Duration>,
    allow: Option<String>,
    challenge: Option<&'static str>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Invalid,
    Unauthorized,
    Forbidden,
    NotFound,
    MethodNotAllowed,
    Timeout,
    Conflict,
    Gone,
    TooLarge,
    UnsupportedType,
    TooMany,
    InvalidRecipe,
    Partner,
    Internal,
    Overloaded,
    Unavailable,
    Full,
}

impl Kind {
    /// Status, the last word of `type`, title.
    fn parts(self) -> (StatusCode, &'static str, &'static str) {
        match self {
            Self::Invalid => (StatusCode::BAD_REQUEST, "invalid", "The request is not valid"),
            Self::Unauthorized => (StatusCode::UNAUTHORIZED, "unauthorized", "A valid token is needed"),
            Self::Forbidden => (StatusCode::FORBIDDEN, "forbidden", "This is not allowed to the caller"),
            Self::TooMany => (StatusCode::TOO_MANY_REQUESTS, "too-many", "Too many requests"),
            Self::NotFound => (StatusCode::NOT_FOUND, "not-found", "There is no such thing here"),
            Self::MethodNotAllowed => {
                (StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", "The method is not allowed here")
            }
            Self::Timeout => (StatusCode::REQUEST_TIMEOUT, "timeout", "The request came too slowly"),
            Self::Conflict => (StatusCode::CONFLICT, "conflict", "The request conflicts with what is there"),
            Self::Gone => (StatusCode::GONE, "gone", "It is not here any more"),
            Self::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "too-large", "The body is too large"),
            Self::UnsupportedType => {
                (StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported-type", "The content type is not supported")
            }
            Self::InvalidRecipe => (StatusCode::UNPROCESSABLE_ENTITY, "invalid-recipe", "The recipe is not valid"),
            Self::Partner => (StatusCode::UNPROCESSABLE_ENTITY, "partner-refused", "The partner refused it"),
            Self::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "internal", "The node failed"),
            Self::Overloaded => (StatusCode::SERVICE_UNAVAILABLE, "overloaded", "The node is overloaded"),
            Self::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, "unavailable", "The node can't do this now"),
            Self::Full => (StatusCode::INSUFFICIENT_STORAGE, "full", "There is no room left"),
        }
    }
}

impl AdminError {
    /// 400: the request has to be changed.
    pub fn invalid(detail: impl Into<String>) -> Self {
        Self::new(Kind::Invalid, detail)
    }
    /// 401. `given`: there was a token, and it is not valid.
    pub fn unauthorized(detail: impl Into<String>, given: bool) -> Self {
        let challenge = if given { r#"Bearer realm="hms", error="invalid_token""# } else { r#"Bearer realm="hms""# };
        Self { challenge: Some(challenge), ..Self::new(Kind::Unauthorized, detail) }
    }
    /// 403: the caller is known, and may not.
    pub fn forbidden(detail: impl Into<String>) -> Self {
        Self::new(Kind::Forbidden, detail)
    }
    /// 429 with `Retry-After`.
    pub fn too_many(detail: impl Into<String>, retry_after: Duration) -> Self {
        Self { retry_after: Some(retry_after), ..Self::new(Kind::TooMany, detail) }
    }
    /// 404
    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::new(Kind::NotFound, detail)
    }
    /// 405. `allow` is the list for the header.
    pub fn method_not_allowed(method: &str, allow: &str) -> Self {
        let detail = format!("{method} is not possible here: use {allow}");
        Self { allow: Some(allow.to_owned()), ..Self::new(Kind::MethodNotAllowed, detail) }
    }
    /// 408: the publisher was too slow.
    pub fn timeout(detail: impl Into<String>) -> Self {
        Self::new(Kind::Timeout, detail)
    }
    /// 409: the request is well formed, but not in this state of things.
    pub fn conflict(detail: impl Into<String>) -> Self {
        Self::new(Kind::Conflict, detail)
    }
    /// 410: it was here. The detail says where it is.
    pub fn gone(detail: impl Into<String>) -> Self {
        Self::new(Kind::Gone, detail)
    }
    /// 413
    pub fn too_large(detail: impl Into<String>) -> Self {
        Self::new(Kind::TooLarge, detail)
    }
    /// 415: the detail names the supported ones.
    pub fn unsupported_type(detail: impl Into<String>) -> Self {
        Self::new(Kind::UnsupportedType, detail)
    }
    /// 422: every finding in the recipe's text.
    pub fn recipe(findings: &[RecipeFinding]) -> Self {
        let detail = match findings {
            [one] => format!("line {}, column {}: {}", one.line, one.column, one.message),
            many => format!("{} errors: see `errors`", many.len()),
        };
        Self::new(Kind::InvalidRecipe, detail).with("errors", json!(findings))
    }
    /// 422: the request was carried out, and the partner said no, in these words.
    pub fn partner(detail: impl Into<String>) -> Self {
        Self::new(Kind::Partner, detail)
    }
    /// 500: a bug of ours.
    pub fn internal(detail: impl Into<String>) -> Self {
        Self::new(Kind::Internal, detail)
    }
    /// 503 with `Retry-After`: the same request goes through when the load has gone.
    pub fn overloaded(detail: impl Into<String>, retry_after: Duration) -> Self {
        Self { retry_after: Some(retry_after), ..Self::new(Kind::Overloaded, detail) }
    }
    /// 503: something has to be mended first.
    pub fn unavailable(detail: impl Into<String>) -> Self {
        Self::new(Kind::Unavailable, detail)
    }
    /// 507
    pub fn full(detail: impl Into<String>) -> Self {
        Self::new(Kind::Full, detail)
    }

    /// Adds a member to the problem, for programs.
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.extras.insert(name.to_owned(), value.into());
        self
    }

    fn new(kind: Kind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into(), extras: Box::default(), retry_after: None, allow: None, challenge: None }
    }
}

impl fmt::Display for AdminError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

impl std::error::Error for AdminError {}

impl ResponseError for AdminError {
    fn status_code(&self) -> StatusCode {
        self.kind.parts().0
    }

    fn error_response(&self) -> HttpResponse {
        let (status, name, title) = self.kind.parts();
        let mut problem = self.extras.clone();
        problem.insert("type".to_owned(), format!("urn:hms-sync:problem:{name}").into());
        problem.insert("title".to_owned(), title.into());
        problem.insert("status".to_owned(), status.as_u16().into());
        problem.insert("detail".to_owned(), self.detail.clone().into());
        let mut response = HttpResponse::build(status);
        if let Some(allow) = &self.allow {
            response.insert_header((ALLOW, allow.as_str()));
        }
        if let Some(challenge) = self.challenge {
            response.insert_header((WWW_AUTHENTICATE, challenge));
        }
        if let Some(after) = self.retry_after {
            response.insert_header((RETRY_AFTER, after.as_secs().max(1)));
        }
        response.content_type("application/problem+json").body(Value::Object(*problem).to_string())
    }
}
