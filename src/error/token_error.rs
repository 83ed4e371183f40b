//! What can go wrong between a token request and its answer.

use std::{borrow::Cow, error::Error, fmt, future::Future, pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use serde_json::Value;

use super::{Answer, BoxError, ErrorCode, ErrorResponse};

/// Why there is no token.
///
/// Cloning is cheap: those who waited for one fetch share its error.
///
/// # Security
///
/// `Display` and `Debug` never show a secret of ours, a token or the body. Of what the server said they show the status and
/// the error with its description, escaped and cut: a server that repeats a secret there shows it. `Debug` shows the source, too,
/// but not that of the kind [`Credential`](TokenErrorKind::Credential). [`raw`](Self::raw) and [`json`](Self::json) are for the
/// caller: keep them out of logs.
///
/// # Examples
///
/// ```
/// use tower_oauth2_client::{ErrorCode, TokenError};
///
/// fn must_sign_in_again(error: &TokenError) -> bool {
///     error.error_response().is_some_and(|error| *error.code() == ErrorCode::InvalidGrant)
/// }
/// ```
#[derive(Clone)]
pub struct TokenError(pub(super) Arc<Inner>);

pub(super) struct Inner {
    pub(super) kind: TokenErrorKind,
    pub(super) message: Cow<'static, str>,
    pub(super) source: Option<BoxError>,
    pub(super) answer: Option<Answer>,
    pub(super) error_response: Option<ErrorResponse>,
    pub(super) retry_after: Option<Duration>,
    pub(super) secret: Option<Box<dyn Rotates>>,
    pub(super) demands_nonce: bool,
    /// Whether it is of what comes before the token request, so that this was not sent.
    pub(super) is_before_sending: bool,
}

/// Whose fault it is that there is no token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TokenErrorKind {
    /// The caller's: the request is wrong in itself. Nothing was sent; the message says what to change.
    Request,
    /// The caller's: a secret, assertion or token could not be obtained from its provider. Nothing was sent.
    Credential,
    /// The network's: the HTTP service below failed before an answer began.
    Service,
    /// The network's: time ran out.
    Timeout,
    /// The network's: the server said yes, and its answer broke off.
    Body,
    /// The server's: it said yes, with an answer larger than the limit.
    BodyTooLarge,
    /// The server said no, and why: see [`TokenError::error_response`].
    ErrorResponse,
    /// The server said no without an OAuth error: a redirect, a page of a proxy, an empty answer, one that broke off.
    UnexpectedStatus,
    /// The server said yes, but no token could be read from it; or its metadata are not those of the issuer.
    InvalidResponse,
    /// The server issued a token of a type that cannot be sent.
    UnsupportedTokenType,
    /// The caller's: there is no tokio runtime to fetch a token on.
    NoRuntime,
    /// The user's: the code, device code or refresh token that a source lives on has ended, and only a new sign-in brings another.
    SignInRequired,
}

/// What every error says: its kind, whether to try again, and what the server said.
impl TokenError {
    /// Whose fault it is.
    #[must_use]
    pub fn kind(&self) -> TokenErrorKind {
        self.0.kind
    }

    /// Whether the same request may succeed later: the network or the server had a bad moment. It does not say that a
    /// second attempt is safe; see [`may_have_been_processed`](Self::may_have_been_processed).
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self.kind() {
            TokenErrorKind::Credential
            | TokenErrorKind::NoRuntime
            | TokenErrorKind::Service
            | TokenErrorKind::Timeout
            | TokenErrorKind::Body => true,
            // The proof of the next attempt has the nonce.
            TokenErrorKind::ErrorResponse if self.demands_nonce() => true,
            TokenErrorKind::ErrorResponse | TokenErrorKind::UnexpectedStatus => {
                let code = self.error_response().map(ErrorResponse::code);
                self.status()
                    .is_some_and(|status| is_transient(status, code))
            }
            TokenErrorKind::Request
            | TokenErrorKind::BodyTooLarge
            | TokenErrorKind::InvalidResponse
            | TokenErrorKind::SignInRequired
            | TokenErrorKind::UnsupportedTokenType => false,
        }
    }

    /// Whether the server may have acted on the request, so that a credential which can be used once (a code, a refresh
    /// token, a device code) may be used up.
    ///
    /// `false` only with proof: nothing was sent (so it is of whatever befell the metadata of the issuer), or the server turned the
    /// request away with 429 or 503, or for a DPoP proof with another nonce. That no connection could be made is said by the service
    /// below, by [`NotSent`](crate::NotSent).
    #[must_use]
    pub fn may_have_been_processed(&self) -> bool {
        match self.kind() {
            _ if self.0.is_before_sending => false,
            TokenErrorKind::Request | TokenErrorKind::Credential | TokenErrorKind::NoRuntime => {
                false
            }
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

    /// The status of the HTTP response, if one came.
    #[must_use]
    pub fn status(&self) -> Option<StatusCode> {
        self.said().map(|answer| answer.status)
    }

    /// The error that the server named, with whatever status.
    #[must_use]
    pub fn error_response(&self) -> Option<&ErrorResponse> {
        let own = self.0.error_response.as_ref();
        own.or_else(|| self.cause()?.error_response())
    }

    /// How long the server asked to wait (`Retry-After`, in seconds or as a date:
    /// [RFC 9110 §10.2.3](https://www.rfc-editor.org/rfc/rfc9110#section-10.2.3)). It is not clamped; a value that cannot be
    /// read is `None`.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// Any member of the JSON object that the server answered with.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.json()?.get(name)
    }

    /// The JSON that the server answered with, parsed by the first call. `None` if there is none.
    #[must_use]
    pub fn json(&self) -> Option<&Value> {
        self.said()?.json()
    }

    /// The body of the answer, if one came whole.
    #[must_use]
    pub fn raw(&self) -> Option<&Bytes> {
        let whole = self.said().filter(|answer| answer.is_whole);
        whole.map(|answer| &answer.raw)
    }

    /// The headers of the answer, if one came.
    #[must_use]
    pub fn headers(&self) -> Option<&HeaderMap> {
        self.said().map(|answer| &answer.headers)
    }

    /// Whether the server wants a proof with the nonce that came along, and did not look at the rest (RFC 9449 §8).
    pub(crate) fn demands_nonce(&self) -> bool {
        self.0.demands_nonce
    }

    /// The same error, which knows with which secret the request was made.
    pub(crate) fn with_secret(mut self, secret: Option<Box<dyn Rotates>>) -> Self {
        if let Some(inner) = Arc::get_mut(&mut self.0) {
            inner.secret = secret;
        }
        self
    }

    /// Whether the server refused a secret that has been rotated since it was read. It asks the provider of the secret.
    pub(crate) async fn is_about_a_rotated_secret(&self) -> bool {
        let code = self.error_response().map(ErrorResponse::code);
        match &self.0.secret {
            Some(secret) if code == Some(&ErrorCode::InvalidClient) => secret.has_changed().await,
            _ => false,
        }
    }

    /// What the server said: to the request of this error, or to that of the error which caused it.
    fn said(&self) -> Option<&Answer> {
        self.0.answer.as_ref().or_else(|| self.cause()?.said())
    }

    fn cause(&self) -> Option<&Self> {
        self.source()?.downcast_ref()
    }

    /// Finds the token error in the chain of another error, for example of a stack with a timeout in it.
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

/// A secret that a request was made with, and that may have been rotated since.
pub(crate) trait Rotates: Send + Sync {
    /// Asks the provider of the secret again.
    fn has_changed(&self) -> Pin<Box<dyn Future<Output = bool> + Send + '_>>;
}

/// Whether an answer with this status and this error is a bad moment of the server.
///
/// A code that the RFCs define as final is believed, except beside the statuses by which a gateway sheds load.
fn is_transient(status: StatusCode, code: Option<&ErrorCode>) -> bool {
    let sheds_load = matches!(
        status,
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE
    );
    match code {
        Some(ErrorCode::TemporarilyUnavailable | ErrorCode::ServerError) => true,
        // The polling of a device code or an auth_req_id, whose pace the caller keeps (RFC 8628 section 3.5).
        Some(ErrorCode::AuthorizationPending | ErrorCode::SlowDown) => false,
        Some(ErrorCode::Other(_)) | None => {
            sheds_load
                || matches!(
                    status,
                    StatusCode::REQUEST_TIMEOUT
                        | StatusCode::TOO_EARLY
                        | StatusCode::INTERNAL_SERVER_ERROR
                        | StatusCode::BAD_GATEWAY
                        | StatusCode::GATEWAY_TIMEOUT
                )
        }
        Some(_) => sheds_load,
    }
}

impl fmt::Display for TokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)?;
        if let Some(error) = self.error_response() {
            write!(f, ": {error}")?;
        }
        match self.status() {
            Some(status) => write!(f, " [status {}]", status.as_u16()),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for TokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenError")
            .field("kind", &self.kind())
            .field("message", &self.0.message)
            .field("status", &self.status())
            .field("error_response", &self.error_response())
            // What a provider failed with is of others' making, and can hold the secret.
            .field(
                "source",
                &self
                    .0
                    .source
                    .as_ref()
                    .filter(|_| self.kind() != TokenErrorKind::Credential),
            )
            .finish_non_exhaustive()
    }
}

impl Error for TokenError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}

/// So that code which is generic over [`BoxError`] and this error can look into both.
impl AsRef<dyn Error + Send + Sync> for TokenError {
    fn as_ref(&self) -> &(dyn Error + Send + Sync + 'static) {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_answers_are_transient() {
        for (status, code, expected) in [
            (500, None, true),
            (501, None, false),
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
    fn it_is_one_word_wide_and_can_cross_threads() {
        fn is_sendable<T: Send + Sync + 'static>() {}
        is_sendable::<TokenError>();
        assert_eq!(size_of::<TokenError>(), size_of::<usize>());
    }
}
