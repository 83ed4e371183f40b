//! Failures that the authorization server simulates on request.

use std::{fmt, io, time::Duration};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Response, StatusCode,
    header::{CACHE_CONTROL, CONTENT_TYPE, LOCATION, RETRY_AFTER},
};

use super::{answer, body::ResponseBody};

/// A failure that an [`AuthorizationServer`](super::AuthorizationServer) simulates.
///
/// The constructor chooses what goes wrong; the setters change the details.
///
/// A request that fails is *not* processed, so a code or a refresh token in it remains usable. There are two exceptions:
///
/// - [`delay`](Self::delay), [`truncate_body`](Self::truncate_body) and [`stall_body`](Self::stall_body) process the
///   request and return (part of) the real response.
/// - [`after_processing`](Self::after_processing) processes the request before it fails.
///
/// ```
/// use std::time::Duration;
///
/// use tower_oauth2_client::test_util::{AuthorizationServer, Failure};
///
/// let server = AuthorizationServer::new();
///
/// // Overloaded for two requests, then healthy again.
/// server.fail_next_n(2, Failure::status(503).retry_after(Duration::from_secs(2)));
///
/// // Somebody changed the secret. This lasts until `recover` is called.
/// server.fail_until_told(Failure::oauth("invalid_client"));
/// server.recover();
///
/// // The code is redeemed, but the response is lost.
/// server.fail_next(Failure::drop_connection().after_processing());
///
/// // Network failures: a truncated response, a response that stalls halfway, and no response at all.
/// server.fail_next(Failure::truncate_body(20));
/// server.fail_next(Failure::stall_body(20));
/// server.fail_next(Failure::stall().delayed(Duration::from_millis(10)));
///
/// // A response without a token.
/// server.fail_next(Failure::garbage());
/// server.fail_next(Failure::status(502).content_type("text/html").body("<h1>Bad Gateway</h1>"));
/// server.fail_next(Failure::redirect("https://elsewhere.test/token"));
///
/// // Token requests succeed, but revocation fails.
/// server.fail_next(Failure::status(500).at("/revoke"));
/// ```
#[derive(Clone)]
pub struct Failure {
    path: String,
    delay: Duration,
    processing: Processing,
    shows_answer: bool,
    status: Option<StatusCode>,
    headers: HeaderMap,
    body: Option<Bytes>,
    ending: Ending,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Processing {
    Never,
    AfterDelay,
    BeforeDelay,
}

#[derive(Clone, Copy, Debug)]
enum Ending {
    Answer,
    Drop,
    Stall,
    TruncateBody(usize),
    StallBody(usize),
}

impl Failure {
    /// Answers with this status and an empty body.
    ///
    /// If the number is not an HTTP status (below 100 or above 999), the status is 500.
    #[must_use]
    pub fn status(status: u16) -> Self {
        Self::new(Ending::Answer).with_status(status)
    }

    /// Answers with an OAuth error response (RFC 6749 §5.2), such as `invalid_grant`.
    ///
    /// The status is 401 for `invalid_client` and 400 for everything else. [`with_status`](Self::with_status) changes it.
    #[must_use]
    pub fn oauth(code: &str) -> Self {
        let status = if code == "invalid_client" { 401 } else { 400 };
        let body = serde_json::json!({ "error": code }).to_string();
        let mut failure = Self::status(status)
            .content_type("application/json")
            .body(body);
        failure
            .headers
            .insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        failure
    }

    /// Answers as usual after a delay. The request is processed after the delay.
    ///
    /// The delay is counted by tokio's clock, so it takes no real time while that clock is paused.
    #[must_use]
    pub fn delay(delay: Duration) -> Self {
        Self::with_answer(Ending::Answer).delayed(delay)
    }

    /// Closes the connection without a response.
    ///
    /// In process, this is an [`io::Error`] of kind [`ConnectionReset`](io::ErrorKind::ConnectionReset).
    #[must_use]
    pub fn drop_connection() -> Self {
        Self::new(Ending::Drop)
    }

    /// Answers as usual, but closes the connection after `bytes` bytes of the body.
    ///
    /// The last byte is never sent, however large the number is, so the body is never complete.
    #[must_use]
    pub fn truncate_body(bytes: usize) -> Self {
        Self::with_answer(Ending::TruncateBody(bytes))
    }

    /// Receives the request and never answers. The connection stays open.
    #[must_use]
    pub fn stall() -> Self {
        Self::new(Ending::Stall)
    }

    /// Answers as usual, but sends nothing more after `bytes` bytes of the body. The connection stays open.
    ///
    /// The last byte is never sent, however large the number is.
    #[must_use]
    pub fn stall_body(bytes: usize) -> Self {
        Self::with_answer(Ending::StallBody(bytes))
    }

    /// Answers with status 200 and a body that claims to be JSON but is neither JSON nor UTF-8.
    #[must_use]
    pub fn garbage() -> Self {
        Self::status(200)
            .content_type("application/json")
            .body(Bytes::from_static(b"\x00\xff\xfe{\"access_token\"<html>]"))
    }

    /// Answers with a redirect to `location`. The status is 307, which asks the client to send the body again.
    #[must_use]
    pub fn redirect(location: impl fmt::Display) -> Self {
        let mut failure = Self::status(307);
        if let Ok(value) = HeaderValue::try_from(location.to_string()) {
            failure.headers.insert(LOCATION, value);
        }
        failure
    }

    pub(super) fn exactly(response: Response<Bytes>) -> Self {
        let (parts, body) = response.into_parts();
        Self {
            status: Some(parts.status),
            headers: parts.headers,
            body: Some(body),
            ..Self::new(Ending::Answer)
        }
    }

    pub(super) fn is_at(&self, path: &str) -> bool {
        self.path == path
    }

    pub(super) fn is_at_same_path(&self, other: &Self) -> bool {
        self.path == other.path
    }

    fn new(ending: Ending) -> Self {
        Self {
            path: "/token".to_owned(),
            delay: Duration::ZERO,
            processing: Processing::Never,
            shows_answer: false,
            status: None,
            headers: HeaderMap::new(),
            body: None,
            ending,
        }
    }

    fn with_answer(ending: Ending) -> Self {
        Self {
            processing: Processing::AfterDelay,
            shows_answer: true,
            ..Self::new(ending)
        }
    }

    /// Sets the path that fails. Default is `/token`.
    #[must_use]
    pub fn at(mut self, path: impl Into<String>) -> Self {
        self.path = path.into();
        self
    }

    /// Sets a delay before the failure. Default is none.
    #[must_use]
    pub fn delayed(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// Processes the request first, before any delay, and only then fails.
    ///
    /// A client cannot tell this failure from one that happens before processing: the code is used up or the refresh
    /// token is replaced, but the response is lost.
    #[must_use]
    pub fn after_processing(mut self) -> Self {
        self.processing = Processing::BeforeDelay;
        self
    }

    /// Sets the status of the response. Default is the one that the constructor chose.
    ///
    /// If the number is not an HTTP status (below 100 or above 999), the status is 500.
    #[must_use]
    pub fn with_status(mut self, status: u16) -> Self {
        self.status =
            Some(StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR));
        self
    }

    /// Sets the body of the response. Default is the one that the constructor chose.
    #[must_use]
    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = Some(body.into());
        self
    }

    /// Sets the `Content-Type` of the response. Default is the one that the constructor chose.
    ///
    /// A value that is not valid in a header is ignored.
    #[must_use]
    pub fn content_type(self, content_type: &str) -> Self {
        match HeaderValue::try_from(content_type) {
            Ok(value) => self.header(CONTENT_TYPE, value),
            Err(_) => self,
        }
    }

    /// Sets a `Retry-After` header in whole seconds, rounded up. Default is none.
    #[must_use]
    pub fn retry_after(self, delay: Duration) -> Self {
        self.header(
            RETRY_AFTER,
            HeaderValue::from(answer::seconds_rounded_up(delay)),
        )
    }

    /// Sets a header of the response, replacing any header of that name. Default is the headers that the constructor chose.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    pub(super) async fn play(
        self,
        process: impl FnOnce() -> Response<Bytes> + Send,
    ) -> io::Result<Response<ResponseBody>> {
        let processed = match self.processing {
            Processing::BeforeDelay => Ok(process()),
            Processing::AfterDelay | Processing::Never => Err(process),
        };
        if !self.delay.is_zero() {
            tokio::time::sleep(self.delay).await;
        }
        let processed = match processed {
            Ok(response) => Some(response),
            Err(process) if self.processing == Processing::AfterDelay => Some(process()),
            Err(_) => None,
        };
        let mut response = processed.filter(|_| self.shows_answer).unwrap_or_default();
        if let Some(status) = self.status {
            *response.status_mut() = status;
        }
        for name in self.headers.keys() {
            response.headers_mut().remove(name);
        }
        for (name, value) in &self.headers {
            response.headers_mut().append(name.clone(), value.clone());
        }
        if let Some(body) = self.body {
            *response.body_mut() = body;
        }
        match self.ending {
            Ending::Answer => Ok(response.map(ResponseBody::whole)),
            Ending::TruncateBody(at) => Ok(response.map(|body| ResponseBody::truncated(body, at))),
            Ending::StallBody(at) => Ok(response.map(|body| ResponseBody::stalled(body, at))),
            Ending::Stall => std::future::pending().await,
            Ending::Drop => Err(io::Error::new(
                io::ErrorKind::ConnectionReset,
                "the authorization server dropped the connection, as instructed",
            )),
        }
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Failure")
            .field("path", &self.path)
            .field("delay", &self.delay)
            .field("processing", &self.processing)
            .field("status", &self.status)
            .field("ending", &self.ending)
            .finish_non_exhaustive()
    }
}
