//! `TokenErrorBuilder`: builds a `TokenError` without a server.

use std::{borrow::Cow, fmt, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header::RETRY_AFTER};
use serde_json::{Map, Value};

use super::{
    Answer, BoxError, ErrorCode, ErrorResponse, TokenError, TokenErrorKind, about::About,
    chain::ProviderError, token_error::Inner,
};
use crate::{
    base::{ForeignText, clock},
    error,
};

/// Builds a [`TokenError`] without a server.
#[must_use = "a builder does nothing until `build` is called"]
pub struct TokenErrorBuilder {
    kind: TokenErrorKind,
    message: Option<Cow<'static, str>>,
    status: Option<StatusCode>,
    headers: HeaderMap,
    error_response: Option<ErrorResponse>,
    own_words: Option<Box<str>>,
    parameters: Map<String, Value>,
    retry_after: Option<Duration>,
    source: Option<BoxError>,
    is_before_sending: bool,
    pub(super) about: About,
}

impl TokenError {
    /// Builds an error without a server, in a test or in a layer between a cache and an endpoint.
    ///
    /// It behaves like the error of an endpoint: its kind, status, error code and source decide whether it
    /// [is transient](Self::is_transient) and whether the server [may have processed](Self::may_have_been_processed) the request.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use http::StatusCode;
    /// use tower_oauth2_client::{ErrorCode, ErrorResponse, TokenError, TokenErrorKind};
    ///
    /// let outage = TokenError::builder(TokenErrorKind::UnexpectedStatus)
    ///     .status(StatusCode::SERVICE_UNAVAILABLE)
    ///     .retry_after(Duration::from_secs(30))
    ///     .build();
    /// assert!(outage.is_transient());
    /// assert_eq!(outage.retry_after(), Some(Duration::from_secs(30)));
    ///
    /// let refused = ErrorResponse::builder(ErrorCode::INVALID_GRANT).description("token revoked").build();
    /// let refusal = TokenError::builder(TokenErrorKind::ErrorResponse)
    ///     .message("the tenant has ended its contract")
    ///     .error_response(refused)
    ///     .build();
    /// assert!(!refusal.is_transient());
    /// assert_eq!(
    ///     refusal.to_string(),
    ///     "the tenant has ended its contract: invalid_grant (token revoked) [status 400]",
    /// );
    /// ```
    pub fn builder(kind: TokenErrorKind) -> TokenErrorBuilder {
        TokenErrorBuilder {
            kind,
            message: None,
            status: None,
            headers: HeaderMap::new(),
            error_response: None,
            own_words: None,
            parameters: Map::new(),
            retry_after: None,
            source: None,
            is_before_sending: false,
            about: About::default(),
        }
    }
}

impl TokenErrorBuilder {
    /// Sets the message, which `Display` prints, escaped and truncated. It must not contain a secret. Default depends on the kind.
    pub fn message(mut self, message: impl Into<Cow<'static, str>>) -> Self {
        self.message = Some(message.into());
        self
    }

    /// Sets the status of the response.
    ///
    /// Default is 400 for [`ErrorResponse`](TokenErrorKind::ErrorResponse), 500 for
    /// [`UnexpectedStatus`](TokenErrorKind::UnexpectedStatus), 200 for a response that is no token
    /// ([`Body`](TokenErrorKind::Body), [`BodyTooLarge`](TokenErrorKind::BodyTooLarge),
    /// [`InvalidResponse`](TokenErrorKind::InvalidResponse), [`UnsupportedTokenType`](TokenErrorKind::UnsupportedTokenType)), and otherwise
    /// no response: then the error has no headers and no body either.
    pub fn status(mut self, status: StatusCode) -> Self {
        self.status = Some(status);
        self
    }

    /// Sets the headers of the response. Default is none.
    pub fn headers(mut self, headers: HeaderMap) -> Self {
        self.headers = headers;
        self
    }

    /// Sets the OAuth error in the response: an [`ErrorResponse`], or only its [`ErrorCode`]. Default is none.
    pub fn error_response(mut self, error_response: impl Into<ErrorResponse>) -> Self {
        self.error_response = Some(error_response.into());
        self
    }

    /// Sets what the server said in its [own words](TokenError::own_words), in place of an OAuth error. Default is none.
    pub fn own_words(mut self, own_words: impl Into<Box<str>>) -> Self {
        self.own_words = Some(own_words.into());
        self
    }

    /// Adds a member to the JSON object in the response. The members of the [`error_response`](Self::error_response) take precedence.
    pub fn parameter(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.parameters.insert(name.into(), value.into());
        self
    }

    /// Sets how long the server asked the client to wait, rounded up to whole seconds. Default is what the header `Retry-After` says.
    pub fn retry_after(mut self, retry_after: Duration) -> Self {
        self.retry_after = Some(retry_after);
        self
    }

    /// Sets the error that caused this one. Default is none.
    ///
    /// Wrap it in [`NotSent`](crate::NotSent) if the request was never sent.
    ///
    /// # Security
    ///
    /// `Debug`, `{:#}` and the events of a cache print the source, except for that of the kind [`Credential`](TokenErrorKind::Credential), which
    /// may contain a secret.
    pub fn source(mut self, source: impl Into<BoxError>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Notes that something failed before the token request was sent, so that the server cannot have processed it.
    ///
    /// Default is that the kind, the status and the source decide; see
    /// [`may_have_been_processed`](TokenError::may_have_been_processed).
    pub fn before_sending(mut self) -> Self {
        self.is_before_sending = true;
        self
    }

    /// Builds the error, with a JSON body that contains the error response and the parameters.
    pub fn build(self) -> TokenError {
        let Self {
            kind,
            message,
            status,
            mut headers,
            error_response,
            own_words,
            parameters,
            retry_after,
            source,
            is_before_sending,
            about,
        } = self;
        if let Some(time) = retry_after {
            let seconds = time
                .as_secs()
                .saturating_add(u64::from(time.subsec_nanos() > 0));
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        let message = match message {
            Some(message) => Cow::Owned(ForeignText(&message).to_string()),
            None => default_message(kind).into(),
        };
        let retry_after = error::retry_after(&headers, clock::wall_now());
        let status = status.or_else(|| default_status(kind));
        let code = error_response.as_ref().map(ErrorResponse::code);
        let demands_nonce = status.is_some_and(|status| is_demand(status, &headers, code));
        let raw = body(parameters, error_response.as_ref());
        let answer = status.map(|status| match kind {
            TokenErrorKind::Body | TokenErrorKind::BodyTooLarge => {
                Answer::without_body(status, headers)
            }
            _ => Answer::new(status, headers, raw),
        });
        let error = TokenError::from(Inner {
            source: source.map(|source| printable_source(kind, source)),
            answer,
            words: own_words.filter(|_| error_response.is_none()),
            error_response,
            retry_after,
            is_before_sending,
            demands_nonce,
            ..TokenError::inner(kind, message)
        });
        match about.is_empty() {
            true => error,
            false => error.about(|| about),
        }
    }
}

/// Hides the error of a provider or a signer, as the error of an endpoint does.
fn printable_source(kind: TokenErrorKind, source: BoxError) -> BoxError {
    match kind {
        TokenErrorKind::Credential if !source.is::<TokenError>() => ProviderError(source).into(),
        _ => source,
    }
}

/// Whether the server demands a proof with the nonce in its response (RFC 9449 §8).
fn is_demand(status: StatusCode, headers: &HeaderMap, code: Option<&ErrorCode>) -> bool {
    matches!(status, StatusCode::BAD_REQUEST | StatusCode::UNAUTHORIZED)
        && headers.contains_key("dpop-nonce")
        && code.is_none_or(|code| *code == ErrorCode::USE_DPOP_NONCE)
}

fn body(mut members: Map<String, Value>, error: Option<&ErrorResponse>) -> Bytes {
    if let Some(error) = error {
        members.insert("error".into(), error.code().as_str().into());
        for (name, text) in [
            ("error_description", error.description()),
            ("error_uri", error.uri()),
        ] {
            if let Some(text) = text {
                members.insert(name.into(), text.into());
            }
        }
    }
    match members.is_empty() {
        true => Bytes::new(),
        false => Value::Object(members).to_string().into(),
    }
}

fn default_status(kind: TokenErrorKind) -> Option<StatusCode> {
    match kind {
        TokenErrorKind::ErrorResponse => Some(StatusCode::BAD_REQUEST),
        TokenErrorKind::UnexpectedStatus => Some(StatusCode::INTERNAL_SERVER_ERROR),
        TokenErrorKind::Body
        | TokenErrorKind::BodyTooLarge
        | TokenErrorKind::InvalidResponse
        | TokenErrorKind::UnsupportedTokenType => Some(StatusCode::OK),
        TokenErrorKind::Request
        | TokenErrorKind::Credential
        | TokenErrorKind::Service
        | TokenErrorKind::Timeout
        | TokenErrorKind::NoRuntime
        | TokenErrorKind::ShutDown
        | TokenErrorKind::SignInRequired => None,
    }
}

fn default_message(kind: TokenErrorKind) -> &'static str {
    match kind {
        TokenErrorKind::Request => "the token request is invalid",
        TokenErrorKind::Credential => {
            "failed to get a secret, assertion or token from its provider"
        }
        TokenErrorKind::Service => "the request to the token endpoint failed",
        TokenErrorKind::Timeout => "the token endpoint did not respond in time",
        TokenErrorKind::Body => "the response of the token endpoint broke off",
        TokenErrorKind::BodyTooLarge => "the response of the token endpoint is too large",
        TokenErrorKind::ErrorResponse => "the token endpoint refused the request",
        TokenErrorKind::UnexpectedStatus => "the token endpoint failed without giving a reason",
        TokenErrorKind::InvalidResponse => "the token endpoint returned no valid access token",
        TokenErrorKind::UnsupportedTokenType => {
            "the token endpoint issued a token of a type that cannot be sent"
        }
        TokenErrorKind::NoRuntime => "fetching an access token needs a tokio runtime",
        TokenErrorKind::ShutDown => "the token cache was shut down",
        TokenErrorKind::SignInRequired => "the user must sign in again",
    }
}

impl fmt::Debug for TokenErrorBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenErrorBuilder")
            .field("kind", &self.kind)
            .finish_non_exhaustive()
    }
}
