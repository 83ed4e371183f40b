//! JSON responses and OAuth error responses.

use std::time::Duration;

use bytes::Bytes;
use http::{
    HeaderValue, Response, StatusCode,
    header::{CACHE_CONTROL, CONTENT_TYPE, PRAGMA, WWW_AUTHENTICATE},
};
use serde_json::{Value, json};

/// An OAuth error response (RFC 6749 §5.2).
#[derive(Debug)]
pub(super) struct OAuthError {
    status: StatusCode,
    code: &'static str,
    description: &'static str,
    challenge: bool,
}

impl OAuthError {
    pub(super) fn new(code: &'static str, description: &'static str) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            code,
            description,
            challenge: false,
        }
    }

    pub(super) fn invalid_request(description: &'static str) -> Self {
        Self::new("invalid_request", description)
    }

    pub(super) fn invalid_grant(description: &'static str) -> Self {
        Self::new("invalid_grant", description)
    }

    /// "If the client attempted to authenticate via the `Authorization` request header field, the
    /// authorization server MUST respond with an HTTP 401 … and include the `WWW-Authenticate` response
    /// header field" (RFC 6749 §5.2). The other methods have no authentication scheme to name in a challenge.
    pub(super) fn invalid_client(by_header: bool, description: &'static str) -> Self {
        Self {
            status: StatusCode::UNAUTHORIZED,
            code: "invalid_client",
            description,
            challenge: by_header,
        }
    }

    pub(super) fn into_response(self) -> Response<Bytes> {
        let body = json!({ "error": self.code, "error_description": self.description });
        let mut response = json_response(self.status, &body);
        if self.challenge {
            let challenge = HeaderValue::from_static("Basic realm=\"authorization server\"");
            response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
        }
        response
    }
}

pub(super) fn json_response(status: StatusCode, body: &Value) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from(body.to_string()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(PRAGMA, HeaderValue::from_static("no-cache"));
    response
}

pub(super) fn empty_response(status: StatusCode) -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = status;
    response
}

/// Rounds up, so that a client that waits this long has always waited long enough.
pub(super) fn seconds_rounded_up(duration: Duration) -> u64 {
    duration
        .as_secs()
        .saturating_add(u64::from(duration.subsec_nanos() > 0))
}
