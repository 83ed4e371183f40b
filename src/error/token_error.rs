//! `TokenError`: why a token request failed.

use std::{
    borrow::Cow, error::Error, fmt, future::Future, ops::Deref, pin::Pin, sync::Arc, time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use serde_json::Value;

use super::{
    Answer, BoxError, ErrorCode, ErrorResponse, PrintableChain,
    about::{About, Remarks},
};
use crate::base::{Quoted, clock::Moment};

/// Why a token request failed.
///
/// Cloning is cheap: all callers that waited for one fetch share its error.
///
/// `{error}` prints what failed and what to do. `{error:#}` also prints the sources, on the same line and without repeating a text: they
/// say which host could not be reached, and why. Use it for logs:
///
/// ```
/// # use tower_oauth2_client::{NotSent, TokenError, TokenErrorKind};
/// # let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
/// # let error = TokenError::builder(TokenErrorKind::Service).source(refused).build();
/// assert_eq!(format!("{error}"), "the request to the token endpoint failed");
/// assert_eq!(format!("{error:#}"), "the request to the token endpoint failed: connection refused");
/// ```
///
/// # Security
///
/// `Display` and `Debug` never show the client's secrets, a token or the response body. From the request they show the host of the
/// endpoint, the id of the client and the [label](crate::TokenRequest::label). From the response they show the status, the
/// error code and its description, or the error in the server's own words, escaped and truncated. If the server repeats a secret of the
/// request there, it is replaced by `[redacted]`, also with the escapes of a form, of JSON or of HTML, and in base64. A text of fewer than
/// four characters, and an ordinary word such as `secret`, is not recognized as a secret.
///
/// `Debug`, `{:#}` and the events of a cache also show the chain of sources, except for the error of a provider or a signer, which may
/// contain the secret. [`raw`](Self::raw) and [`json`](Self::json) return the response body, which may contain secrets: keep it out of
/// logs.
///
/// # Examples
///
/// ```
/// use tower_oauth2_client::{ErrorCode, TokenError};
///
/// fn must_sign_in_again(error: &TokenError) -> bool {
///     error.error_response().is_some_and(|error| *error.code() == ErrorCode::INVALID_GRANT)
/// }
/// ```
///
/// Build an error to test code that handles one: see [`builder`](Self::builder).
#[derive(Clone)]
pub struct TokenError(pub(super) Arc<Attributed>);

/// What failed, and whose request it was.
///
/// Requests can share a failure, for example of the metadata, although each is about the token of somebody else.
pub(super) struct Attributed {
    pub(super) inner: Arc<Inner>,
    pub(super) about: Option<Box<About>>,
}

impl Deref for Attributed {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.inner
    }
}

impl From<Inner> for TokenError {
    fn from(inner: Inner) -> Self {
        let inner = Arc::new(inner);
        Self(Arc::new(Attributed { inner, about: None }))
    }
}

pub(super) struct Inner {
    pub(super) kind: TokenErrorKind,
    pub(super) message: Cow<'static, str>,
    pub(super) source: Option<BoxError>,
    pub(super) answer: Option<Answer>,
    pub(super) error_response: Option<ErrorResponse>,
    /// The error in the server's own words, if it is no OAuth error.
    pub(super) words: Option<Box<str>>,
    /// Whether the response is a success that is empty, cut off or a page.
    pub(super) is_incomplete: bool,
    pub(super) retry_after: Option<Duration>,
    pub(super) provided: Option<Box<dyn Rotates>>,
    pub(super) demands_nonce: bool,
    /// Whether something failed before the token request was sent.
    pub(super) is_before_sending: bool,
}

/// The kind of a failure, and who caused it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TokenErrorKind {
    /// The caller's fault: the request is invalid. Nothing was sent; the message says what to change.
    Request,
    /// The caller's fault: a provider failed to return a secret, assertion or token. Nothing was sent.
    Credential,
    /// The network's fault: the inner HTTP service failed before a response arrived.
    Service,
    /// The network's fault: the request timed out.
    Timeout,
    /// The network's fault: the server returned a success status, but the response was cut off.
    Body,
    /// The server's fault: it returned a success status, with a response larger than the limit.
    BodyTooLarge,
    /// The server refused the request with an OAuth error: see [`TokenError::error_response`].
    ErrorResponse,
    /// The server returned an error status without an OAuth error.
    ///
    /// For example: a redirect, a proxy's error page, an empty or incomplete response.
    UnexpectedStatus,
    /// The server returned a success status without a valid token; or metadata that do not belong to the issuer or the API.
    InvalidResponse,
    /// The server issued a token of a type that this crate cannot send.
    ///
    /// For an unknown type, see [`TokenEndpoint::token_type`](crate::TokenEndpoint::token_type).
    UnsupportedTokenType,
    /// The caller's fault: no tokio runtime is available to fetch a token on.
    ///
    /// There is none, it has ended, it was built without timers, or nobody drives it. The message says which.
    NoRuntime,
    /// The caller's fault: the token cache was shut down, and fetches no tokens any longer.
    ShutDown,
    /// The user must sign in again.
    ///
    /// The code, device code or refresh token that a source depends on is no longer valid. Or the user refused a device login, or did not
    /// decide in time: [`TokenError::error_response`] says which.
    SignInRequired,
}

/// The kind of the error, whether to retry, and the server's response.
impl TokenError {
    /// Returns the kind of failure.
    #[must_use]
    pub fn kind(&self) -> TokenErrorKind {
        self.0.kind
    }

    /// Returns whether the same request may succeed later, because the network or the server failed transiently.
    ///
    /// It is `true` for these responses:
    ///
    /// 1. any 5xx except 501 and 505, 408, 425 and 429; but of an OAuth error whose code is final, only 429 and 503;
    /// 2. a success whose body was cut off, is empty, or is a page of a gateway;
    /// 3. the errors `temporarily_unavailable` and `server_error`, whatever the status.
    ///
    /// It is `false` for `authorization_pending` and `slow_down`, although a later request may succeed: the user decides when. A
    /// [`TokenSource`](crate::TokenSource) polls by itself; see [`TokenSource::wait_for_user`](crate::TokenSource::wait_for_user).
    ///
    /// `true` does not mean that a second attempt is safe; see [`may_have_been_processed`](Self::may_have_been_processed).
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self.kind() {
            TokenErrorKind::Credential
            | TokenErrorKind::NoRuntime
            | TokenErrorKind::Service
            | TokenErrorKind::Timeout
            | TokenErrorKind::Body => true,
            // The proof of the next attempt will contain the nonce.
            TokenErrorKind::ErrorResponse if self.demands_nonce() => true,
            TokenErrorKind::ErrorResponse | TokenErrorKind::UnexpectedStatus => {
                let code = self.error_response().map(ErrorResponse::code);
                self.status()
                    .is_some_and(|status| is_transient(status, code))
            }
            // A gateway answers in place of the server, or has lost a part of its answer.
            TokenErrorKind::InvalidResponse => self.0.is_incomplete,
            TokenErrorKind::Request
            | TokenErrorKind::BodyTooLarge
            | TokenErrorKind::ShutDown
            | TokenErrorKind::SignInRequired
            | TokenErrorKind::UnsupportedTokenType => false,
        }
    }

    /// Returns whether the server may have processed the request.
    ///
    /// If so, a one-time credential (a code, a refresh token, a device code) may already be used up.
    ///
    /// It is `false` only with proof: nothing was sent (which includes metadata failures), or the server rejected the request with
    /// 429, with 503, or with a demand for another DPoP nonce. An inner service that could not connect proves it by returning
    /// [`NotSent`](crate::NotSent).
    #[must_use]
    pub fn may_have_been_processed(&self) -> bool {
        match self.kind() {
            _ if self.0.is_before_sending => false,
            TokenErrorKind::Request
            | TokenErrorKind::Credential
            | TokenErrorKind::NoRuntime
            | TokenErrorKind::ShutDown => false,
            TokenErrorKind::Service | TokenErrorKind::Timeout => {
                !self.source().is_some_and(super::is_not_sent)
            }
            TokenErrorKind::ErrorResponse if self.demands_nonce() => false,
            _ => !matches!(
                self.status(),
                Some(StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE)
            ),
        }
    }

    /// Returns the status of the HTTP response, if there was one.
    #[must_use]
    pub fn status(&self) -> Option<StatusCode> {
        self.said().map(|answer| answer.status)
    }

    /// Returns the OAuth error in the response, whatever its status.
    ///
    /// `None` if the server describes the problem in another form; see [`own_words`](Self::own_words).
    #[must_use]
    pub fn error_response(&self) -> Option<&ErrorResponse> {
        let own = self.0.error_response.as_ref();
        own.or_else(|| self.cause()?.error_response())
    }

    /// Returns what the server said in its own words, if its response is JSON but no OAuth error: codes and messages in other members.
    ///
    /// Like [`error_response`](Self::error_response), it contains no secret of the request, and it may contain anything else. `Display` shows
    /// it escaped and truncated. For a response that is not JSON, such as a page of a gateway, see [`raw`](Self::raw).
    ///
    /// # Examples
    ///
    /// What the server said, in any error:
    ///
    /// ```
    /// use std::error::Error;
    /// use tower_oauth2_client::TokenError;
    ///
    /// fn what_the_server_said(error: &(dyn Error + 'static)) -> Option<String> {
    ///     let error = TokenError::find_in_chain(error)?;
    ///     match error.error_response() {
    ///         Some(response) => Some(response.to_string()), // or its `code` and `description`
    ///         None => error.own_words().map(str::to_owned),
    ///     }
    /// }
    /// # use tower::{ServiceExt, service_fn};
    /// # use tower_oauth2_client::{BoxError, ClientAuthentication, TokenEndpoint, TokenRequest};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// # let http = service_fn(|_: http::Request<http_body_util::Full<bytes::Bytes>>| async {
    /// #     let body = r#"{"errorCode":"E0000021","errorSummary":"Bad request."}"#;
    /// #     let mut response = http::Response::new(http_body_util::Full::<bytes::Bytes>::from(body));
    /// #     *response.status_mut() = http::StatusCode::BAD_REQUEST;
    /// #     Ok::<_, BoxError>(response)
    /// # });
    /// # let endpoint = TokenEndpoint::new(http, "https://as.example/token", ClientAuthentication::none("c"));
    /// # let error = endpoint.oneshot(TokenRequest::refresh_token("r")).await.unwrap_err();
    /// # assert_eq!(what_the_server_said(&error).as_deref(), Some("E0000021 (Bad request.)"));
    /// # }
    /// ```
    #[must_use]
    pub fn own_words(&self) -> Option<&str> {
        let own = self.0.words.as_deref();
        own.or_else(|| self.cause()?.own_words())
    }

    /// Returns how long the server asked the client to wait.
    ///
    /// This is `Retry-After`, in seconds or as a date
    /// ([RFC 9110 §10.2.3](https://www.rfc-editor.org/rfc/rfc9110#section-10.2.3)). It is not clamped. An invalid value is `None`.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// Returns a member of the JSON object in the response.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.json()?.get(name)
    }

    /// Returns the response body as JSON, or `None` if it is not JSON. The first call parses it.
    #[must_use]
    pub fn json(&self) -> Option<&Value> {
        self.said()?.json()
    }

    /// Returns the response body, if it was received completely.
    #[must_use]
    pub fn raw(&self) -> Option<&Bytes> {
        let whole = self.said().filter(|answer| answer.is_whole);
        whole.map(|answer| &answer.raw)
    }

    /// Returns the headers of the HTTP response, if there was one.
    #[must_use]
    pub fn headers(&self) -> Option<&HeaderMap> {
        self.said().map(|answer| &answer.headers)
    }

    /// Whether the server demands a proof with the nonce in its response.
    ///
    /// If so, it did not process the request (RFC 9449 §8).
    pub(crate) fn demands_nonce(&self) -> bool {
        self.0.demands_nonce
    }

    /// Attaches the texts that providers returned for the request.
    pub(crate) fn with_provided(mut self, provided: Option<Box<dyn Rotates>>) -> Self {
        if let Some(inner) = self.inner_mut() {
            inner.provided = provided;
        }
        self
    }

    /// Returns what failed, to change it, unless it is shared.
    pub(super) fn inner_mut(&mut self) -> Option<&mut Inner> {
        Arc::get_mut(&mut Arc::get_mut(&mut self.0)?.inner)
    }

    /// Returns the texts that providers returned for the request, if there are any.
    pub(crate) fn provided(&self) -> Option<&dyn Rotates> {
        self.0.provided.as_deref()
    }

    /// The server's response to this request, or to the request whose error is the source.
    fn said(&self) -> Option<&Answer> {
        self.0.answer.as_ref().or_else(|| self.cause()?.said())
    }

    pub(super) fn cause(&self) -> Option<&Self> {
        self.source()?.downcast_ref()
    }

    /// Finds the token error in an error's chain of sources.
    ///
    /// It reaches everything that the error says: its [kind](Self::kind), the [status](Self::status), the [headers](Self::headers) and the
    /// [body](Self::raw) of the last response, and [whose token](#whose-token-and-which-host) it is about. It looks through these:
    ///
    /// * the boxes of tower's layers, over a cache and under it, and those of `Buffer`;
    /// * a gRPC status of tonic, and an error of reqwest-middleware;
    /// * `io::Error`, an `Arc<dyn Error + Send + Sync>`, and a shared or boxed `TokenError`.
    ///
    /// An error of your own is looked through if its `source` returns what it wraps. One that is transparent, such as
    /// `#[error(transparent)]` of the crate `thiserror`, hides it: match its variant first.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_oauth2_client::{BoxError, TokenError, TokenErrorKind};
    ///
    /// fn secret_is_wrong(error: &BoxError) -> bool {
    ///     TokenError::find_in_chain(&**error)
    ///         .is_some_and(|error| error.kind() == TokenErrorKind::ErrorResponse)
    /// }
    /// ```
    #[must_use]
    pub fn find_in_chain<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a Self> {
        super::chain(error).find_map(|error| error.downcast_ref())
    }
}

/// The texts that providers returned for a request. They may have been rotated since.
pub(crate) trait Rotates: Send + Sync {
    /// Asks the providers again, unless that is paused. Returns whether a text has changed.
    fn has_changed(&self, now: Moment) -> Pin<Box<dyn Future<Output = bool> + Send + '_>>;

    /// Notes whether the attempt that was made because a text had changed was accepted.
    fn note_second_attempt(&self, is_accepted: bool, now: Moment);
}

/// The client certificate of the connection of a request, in the extensions of its response.
#[derive(Clone)]
#[cfg_attr(not(feature = "rustls"), allow(dead_code))]
pub(crate) struct Presented(pub(crate) Arc<dyn Rotates>);

/// Whether a response with this status and error is a transient failure of the server.
///
/// An error code that the RFCs define as final is final, unless the status is one that gateways use to shed load.
fn is_transient(status: StatusCode, code: Option<&ErrorCode>) -> bool {
    let sheds_load = matches!(
        status,
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE
    );
    match code {
        Some(&(ErrorCode::TEMPORARILY_UNAVAILABLE | ErrorCode::SERVER_ERROR)) => true,
        // The caller polls for a device code or an auth_req_id, and sets the pace (RFC 8628 section 3.5).
        Some(&(ErrorCode::AUTHORIZATION_PENDING | ErrorCode::SLOW_DOWN)) => false,
        Some(code) if code.is_standard() => sheds_load,
        _ => {
            sheds_load
                || matches!(
                    status,
                    StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY
                )
                // Gateways have statuses of their own, such as 520 to 530 (RFC 9110 section 15: treat them as 500).
                || (status.is_server_error()
                    && !matches!(
                        status,
                        StatusCode::NOT_IMPLEMENTED | StatusCode::HTTP_VERSION_NOT_SUPPORTED
                    ))
        }
    }
}

/// Prints the error, and with `{:#}` also its sources.
impl fmt::Display for TokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if f.alternate() {
            return PrintableChain(self).fmt(f);
        }
        f.write_str(&self.0.message)?;
        if let Some(error) = self.error_response() {
            write!(f, ": {error}")?;
        } else if let Some(words) = &self.0.words {
            write!(f, ": {}", Quoted(words))?;
        }
        let remarks = Remarks {
            status: self.status().map(|status| status.as_u16()),
            about: self.0.about.as_deref(),
        };
        remarks.fmt(f)
    }
}

impl fmt::Debug for TokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenError")
            .field("kind", &self.kind())
            .field("message", &self.0.message)
            .field("status", &self.status())
            .field("error_response", &self.error_response())
            .field("words", &self.0.words.as_deref().map(Quoted))
            .field("host", &self.host().map(Quoted))
            .field("client_id", &self.client_id().map(Quoted))
            .field("label", &self.label().map(Quoted))
            .field("source", &self.source().map(PrintableChain))
            .finish_non_exhaustive()
    }
}

impl Error for TokenError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}

/// Lets generic code inspect a [`BoxError`] and a `TokenError` in the same way.
impl AsRef<dyn Error + Send + Sync> for TokenError {
    fn as_ref(&self) -> &(dyn Error + Send + Sync + 'static) {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_and_code_decide_whether_an_error_is_transient() {
        for (status, code, expected) in [
            (500, None, true),
            (501, None, false),
            (505, None, false),
            (507, None, true),
            (520, None, true),
            (530, None, true),
            (599, None, true),
            (425, None, true),
            (499, None, false),
            (520, Some("invalid_client"), false),
            (502, None, true),
            (503, None, true),
            (504, None, true),
            (429, None, true),
            (408, None, true),
            (400, None, false),
            (404, None, false),
            (302, None, false),
            (400, Some("temporarily_unavailable"), true),
            (400, Some("server_error"), true),
            (400, Some("invalid_client"), false),
            (500, Some("invalid_grant"), false),
            (503, Some("invalid_request"), true),
            (429, Some("access_denied"), true),
            (400, Some("slow_down"), false),
            (429, Some("slow_down"), false),
            (503, Some("authorization_pending"), false),
            (400, Some("scope_invalid"), false),
            (500, Some("oops"), true),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            let code = code.map(ErrorCode::from);
            assert_eq!(
                is_transient(status, code.as_ref()),
                expected,
                "{status} {code:?}"
            );
        }
    }

    #[test]
    fn token_error_is_one_word_wide_and_can_cross_threads() {
        fn is_sendable<T: Send + Sync + 'static>() {}
        is_sendable::<TokenError>();
        assert_eq!(size_of::<TokenError>(), size_of::<usize>());
    }
}
