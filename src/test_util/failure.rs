//! What can go wrong at the authorization server, on command.

use std::{fmt, io, time::Duration};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Response, StatusCode, Uri,
    header::{CACHE_CONTROL, CONTENT_TYPE, LOCATION, RETRY_AFTER},
};

use super::{answer, body::ResponseBody};

/// A failure that an [`AuthorizationServer`](super::AuthorizationServer) is told to show.
///
/// A constructor says what goes wrong, the setters change details. A request that meets a failure is
/// *not* carried out, so that a code or a refresh token stays usable, except by [`delay`](Self::delay),
/// [`truncate_body`](Self::truncate_body) and [`stall_body`](Self::stall_body), whose answer is the real
/// one, and where [`after_processing`](Self::after_processing) says so.
///
/// ```
/// use std::time::Duration;
///
/// use tower_oauth2_client::test_util::{AuthorizationServer, Failure};
///
/// let server = AuthorizationServer::new();
///
/// // Overloaded twice, then well again.
/// server.fail_next_n(2, Failure::status(503).retry_after(Duration::from_secs(2)));
///
/// // Somebody changed the secret; until told otherwise.
/// server.fail_until_told(Failure::oauth("invalid_client"));
/// server.recover();
///
/// // The code was redeemed, and then the answer was lost.
/// server.fail_next(Failure::drop_connection().after_processing());
///
/// // The network at its worst: a cut answer, half an answer and silence, silence alone.
/// server.fail_next(Failure::truncate_body(20));
/// server.fail_next(Failure::stall_body(20));
/// server.fail_next(Failure::stall().delayed(Duration::from_millis(10)));
///
/// // Something else than a token.
/// server.fail_next(Failure::garbage());
/// server.fail_next(Failure::status(502).content_type("text/html").body("<h1>Bad Gateway</h1>"));
/// server.fail_next(Failure::redirect(&http::Uri::from_static("https://elsewhere.test/token")));
///
/// // The token works; its revocation does not.
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
    /// A number that is no HTTP status (below 100 or above 999) is answered as 500.
    #[must_use]
    pub fn status(status: u16) -> Self {
        Self::new(Ending::Answer).with_status(status)
    }

    /// Answers with an error response of OAuth (RFC 6749 §5.2), such as `invalid_grant`.
    ///
    /// The status is 400, for `invalid_client` 401; [`with_status`](Self::with_status) changes it.
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

    /// Answers as usual, only later. The request is carried out after the delay.
    ///
    /// The delay is one of the tokio clock: on paused time it takes no time.
    #[must_use]
    pub fn delay(delay: Duration) -> Self {
        Self::with_answer(Ending::Answer).delayed(delay)
    }

    /// Closes the connection without an answer.
    ///
    /// In process this is an [`io::Error`] of the kind
    /// [`ConnectionReset`](io::ErrorKind::ConnectionReset).
    #[must_use]
    pub fn drop_connection() -> Self {
        Self::new(Ending::Drop)
    }

    /// Answers as usual, but breaks off after `bytes` bytes of the body.
    ///
    /// The last byte is never sent, however large the number: the body is never complete.
    #[must_use]
    pub fn truncate_body(bytes: usize) -> Self {
        Self::with_answer(Ending::TruncateBody(bytes))
    }

    /// Takes the request and never answers, with the connection left open.
    #[must_use]
    pub fn stall() -> Self {
        Self::new(Ending::Stall)
    }

    /// Answers as usual, but falls silent after `bytes` bytes of the body, with the connection left open.
    ///
    /// The last byte is never sent, however large the number.
    #[must_use]
    pub fn stall_body(bytes: usize) -> Self {
        Self::with_answer(Ending::StallBody(bytes))
    }

    /// Answers 200 with a body that says it is JSON and is neither JSON nor UTF-8.
    #[must_use]
    pub fn garbage() -> Self {
        Self::status(200)
            .content_type("application/json")
            .body(Bytes::from_static(b"\x00\xff\xfe{\"access_token\"<html>]"))
    }

    /// Answers with a redirect (307, which asks the client to send the body again) to `location`.
    #[must_use]
    pub fn redirect(location: &Uri) -> Self {
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

    pub(super) fn is_same_place(&self, other: &Self) -> bool {
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

    /// The path at which it fails. Default is `/token`.
    #[must_use]
    pub fn at(mut self, path: impl Into<String>) -> Self {
        self.path = path.into();
        self
    }

    /// Waits before it fails. Default is not at all.
    #[must_use]
    pub fn delayed(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// Carries the request out first, before any delay, and only then fails.
    ///
    /// This is the failure that a client cannot tell from one that came before: the code is used up, the
    /// refresh token replaced, and the answer lost.
    #[must_use]
    pub fn after_processing(mut self) -> Self {
        self.processing = Processing::BeforeDelay;
        self
    }

    /// The status of the answer. Default is what the constructor says.
    ///
    /// A number that is no HTTP status (below 100 or above 999) is answered as 500.
    #[must_use]
    pub fn with_status(mut self, status: u16) -> Self {
        self.status =
            Some(StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR));
        self
    }

    /// The body of the answer. Default is what the constructor says.
    #[must_use]
    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = Some(body.into());
        self
    }

    /// The `Content-Type` of the answer. Default is what the constructor says.
    ///
    /// A value that cannot stand in a header is left out.
    #[must_use]
    pub fn content_type(self, content_type: &str) -> Self {
        match HeaderValue::try_from(content_type) {
            Ok(value) => self.header(CONTENT_TYPE, value),
            Err(_) => self,
        }
    }

    /// A `Retry-After` header in whole seconds, rounded up. Default is none.
    #[must_use]
    pub fn retry_after(self, delay: Duration) -> Self {
        self.header(RETRY_AFTER, HeaderValue::from(answer::seconds_up(delay)))
    }

    /// A header of the answer, in place of any of that name. Default is what the constructor says.
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
                "the authorization server dropped the connection, as it was told",
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
