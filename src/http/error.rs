//! What can go wrong with a request, and the only mapping from that to a status code.
//!
//! Alertmanager writes whole error bodies into its log, so they are one short sentence without secrets. May
//! import: `auth` (why a caller was refused), `secret`. Must never: carry the text of an internal error to a client.

use super::reply::Reply;
use crate::auth::Failure;
use crate::secret::Redactor;
use hyper::StatusCode;
use hyper::header::{ALLOW, HeaderName, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use serde::Serialize;
use std::borrow::Cow;
use std::time::Duration;

/// One thing that is wrong with a well-formed request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FieldError {
    /// Where: a field's path in the body, or a query parameter's name.
    pub path: String,
    /// What, in one sentence.
    pub message: String,
}

/// The state of a rate limit that was hit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimit {
    /// Requests allowed per window.
    pub limit: u32,
    /// Requests left in it.
    pub remaining: u32,
    /// Until the window ends.
    pub reset: Duration,
}

/// Why a request is not answered with what it asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {}", .0.code, .0.message)]
pub struct ApiError(Box<Parts>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Parts {
    status: StatusCode,
    code: &'static str,
    message: String,
    retry_after: Option<Duration>,
    errors: Vec<FieldError>,
    allow: Option<String>,
    challenge: Option<&'static str>,
    rate: Option<RateLimit>,
}

#[derive(Serialize)]
struct ErrorBody<'a> {
    error: &'a str,
    code: &'a str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    errors: &'a [FieldError],
}

impl ApiError {
    fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self(Box::new(Parts {
            status,
            code,
            message: message.into(),
            retry_after: None,
            errors: Vec::new(),
            allow: None,
            challenge: None,
            rate: None,
        }))
    }

    fn with(mut self, set: impl FnOnce(&mut Parts)) -> Self {
        set(&mut self.0);
        self
    }

    /// 400 `malformed`: the request cannot be read.
    pub fn malformed(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "malformed", message)
    }

    /// 401 `unauthorized`, with the challenge that fits the door.
    pub fn unauthorized(failure: Failure, takes_passwords: bool) -> Self {
        let challenge = if takes_passwords {
            r#"Bearer realm="runbookd", Basic realm="runbookd", charset="UTF-8""#
        } else {
            r#"Bearer realm="runbookd""#
        };
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", failure.sentence())
            .with(|error| error.challenge = Some(challenge))
    }

    /// 401 `unauthorized` to somebody who signs in.
    pub fn wrong_password(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", message)
            .with(|error| error.challenge = Some(r#"Bearer realm="runbookd""#))
    }

    /// 403 `forbidden`.
    pub fn forbidden(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", message)
    }

    /// 404 `not_found`; `what` does not exist.
    pub fn not_found(what: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", format!("{what} does not exist"))
    }

    /// 404 `not_found`, in a sentence of its own.
    pub fn absent(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", message)
    }

    /// 405 `method_not_allowed`; `allow` is the header's value.
    pub fn method_not_allowed(allow: String) -> Self {
        let message = "this path does not take this method";
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message)
            .with(|error| error.allow = Some(allow))
    }

    /// 408 `request_timeout`: the body did not arrive in time.
    pub fn request_timeout() -> Self {
        Self::new(StatusCode::REQUEST_TIMEOUT, "request_timeout", "the body did not arrive in time")
    }

    /// 409 with a code of its own: the state does not allow it.
    pub fn conflict(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, code, message)
    }

    /// 413 `too_large`: too many bytes, or too many alerts.
    pub fn too_large(message: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", message)
    }

    /// 414 `uri_too_long`.
    pub fn uri_too_long(limit: usize) -> Self {
        let message = format!("the request target is longer than {limit} bytes");
        Self::new(StatusCode::URI_TOO_LONG, "uri_too_long", message)
    }

    /// 415 `unsupported_media_type`.
    pub fn unsupported_media_type(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", message)
    }

    /// 422 `invalid`: well-formed, but these things are wrong with it.
    pub fn invalid(errors: Vec<FieldError>) -> Self {
        let message = match errors.as_slice() {
            [one] if one.path.is_empty() => one.message.clone(),
            [one] => format!("{}: {}", one.path, one.message),
            all => format!("{} things are wrong with the request", all.len()),
        };
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", message).with(|error| error.errors = errors)
    }

    /// 422 for one field.
    pub fn invalid_field(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self::invalid(vec![FieldError { path: path.into(), message: message.into() }])
    }

    /// 429 `rate_limited`. Never on the webhook.
    pub fn rate_limited(rate: RateLimit) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, "rate_limited", "too many requests").with(|error| {
            error.rate = Some(rate);
            error.retry_after = Some(rate.reset);
        })
    }

    /// 429 `too_many_streams`: the caller, or all together, hold as many streams of events as may be.
    pub fn too_many_streams(limit: u32) -> Self {
        let rate = RateLimit { limit, remaining: 0, reset: Duration::from_secs(5) };
        Self::new(StatusCode::TOO_MANY_REQUESTS, "too_many_streams", "too many streams of events are open")
            .with(|error| {
                error.rate = Some(rate);
                error.retry_after = Some(rate.reset);
            })
    }

    /// 431 `headers_too_large`.
    pub fn headers_too_large(limit: usize) -> Self {
        let message = format!("the header fields have more than {limit} bytes");
        Self::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "headers_too_large", message)
    }

    /// 500 `internal`: our fault. What happened is in the log under the request's id, not in the answer.
    pub fn internal() -> Self {
        let message = "an internal error; the log has more under this X-Request-Id";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", message)
    }

    /// 503 with a code of its own; the same request may succeed after `retry_after`.
    pub fn unavailable(code: &'static str, message: impl Into<String>, retry_after: Duration) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, code, message)
            .with(|error| error.retry_after = Some(retry_after))
    }

    /// 503 `overloaded`.
    pub fn overloaded(message: &'static str) -> Self {
        Self::unavailable("overloaded", message, Duration::from_secs(1))
    }

    /// 503 `too_many_connections`: the connection is one over the cap.
    pub fn too_many_connections() -> Self {
        Self::unavailable("too_many_connections", "too many connections", Duration::from_secs(1))
    }

    /// The status code.
    pub fn status(&self) -> u16 {
        self.0.status.as_u16()
    }

    /// The stable code.
    pub fn code(&self) -> &'static str {
        self.0.code
    }

    /// The sentence for people.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The same without any secret in its words, which may repeat what the caller sent or a file holds.
    #[must_use]
    pub fn without(self, redactor: &Redactor) -> Self {
        self.with(|error| {
            let said = error.errors.iter_mut().flat_map(|error| [&mut error.path, &mut error.message]);
            for text in said.chain([&mut error.message]) {
                if let Cow::Owned(clean) = redactor.text(text) {
                    *text = clean;
                }
            }
        })
    }

    /// The answer.
    pub fn into_reply(self) -> Reply {
        let body = ErrorBody { error: &self.0.message, code: self.0.code, errors: &self.0.errors };
        let mut reply = Reply::json(&body).status(self.0.status.as_u16());
        if let Some(after) = self.0.retry_after {
            // Rounded up: a client that comes back too early is refused again.
            reply = reply.number(RETRY_AFTER, seconds_up(after));
        }
        if let Some(rate) = self.0.rate {
            reply = reply
                .number(HeaderName::from_static("x-ratelimit-limit"), u64::from(rate.limit))
                .number(HeaderName::from_static("x-ratelimit-remaining"), u64::from(rate.remaining))
                .number(HeaderName::from_static("x-ratelimit-reset"), seconds_up(rate.reset));
        }
        if let Some(allow) = self.0.allow.as_deref().and_then(|allow| HeaderValue::from_str(allow).ok()) {
            reply = reply.header(ALLOW, allow);
        }
        if let Some(challenge) = self.0.challenge {
            reply = reply.header(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
        reply
    }
}

fn seconds_up(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(error: ApiError, status: u16, body: &str, header: Option<(&str, &str)>) {
        let reply = error.into_reply();
        assert_eq!(reply.status_code(), status);
        assert_eq!(reply.body_bytes().as_deref(), Some(body.as_bytes()));
        if let Some((name, value)) = header {
            assert_eq!(reply.header_value(name), Some(value), "{name}");
        }
    }

    #[test]
    fn every_error_has_a_sentence_a_code_and_its_headers() {
        check(
            ApiError::malformed("the body is no JSON"),
            400,
            r#"{"error":"the body is no JSON","code":"malformed"}"#,
            None,
        );
        check(
            ApiError::unauthorized(Failure::Missing, false),
            401,
            r#"{"error":"a credential is required","code":"unauthorized"}"#,
            Some(("www-authenticate", r#"Bearer realm="runbookd""#)),
        );
        check(
            ApiError::method_not_allowed("GET, HEAD".into()),
            405,
            r#"{"error":"this path does not take this method","code":"method_not_allowed"}"#,
            Some(("allow", "GET, HEAD")),
        );
        check(
            ApiError::invalid_field("limit", "must be 1 to 500"),
            422,
            r#"{"error":"limit: must be 1 to 500","code":"invalid","errors":[{"path":"limit","message":"must be 1 to 500"}]}"#,
            None,
        );
        check(
            ApiError::unavailable("queue_full", "the queue is full", Duration::from_millis(1500)),
            503,
            r#"{"error":"the queue is full","code":"queue_full"}"#,
            Some(("retry-after", "2")),
        );
        let rate = RateLimit { limit: 60, remaining: 0, reset: Duration::from_secs(7) };
        check(
            ApiError::rate_limited(rate),
            429,
            r#"{"error":"too many requests","code":"rate_limited"}"#,
            Some(("x-ratelimit-reset", "7")),
        );
    }
}
