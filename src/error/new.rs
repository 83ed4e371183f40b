//! The constructors of `TokenError`: one for each way to fail.

use std::{borrow::Cow, time::Duration};

use http::StatusCode;

use super::{TokenError, TokenErrorKind, chain::ProviderError, token_error::Inner};
use crate::error::{self, Answer, BoxError, ErrorCode, ErrorResponse, NotSent, OwnError};

/// The message about an endpoint (`token endpoint`) that redirects.
pub(crate) fn redirects(endpoint: &str) -> String {
    format!(
        "the {endpoint} responded with a redirect, which is not followed because that could send secrets to another server; \
         check the URI of the {endpoint}"
    )
}

impl TokenError {
    pub(super) fn inner(kind: TokenErrorKind, message: impl Into<Cow<'static, str>>) -> Inner {
        Inner {
            kind,
            message: message.into(),
            source: None,
            answer: None,
            error_response: None,
            words: None,
            is_incomplete: false,
            retry_after: None,
            provided: None,
            demands_nonce: false,
            is_before_sending: false,
        }
    }

    /// An error without a server response.
    pub(crate) fn new(
        kind: TokenErrorKind,
        message: impl Into<Cow<'static, str>>,
        source: Option<BoxError>,
    ) -> Self {
        Inner {
            source,
            ..Self::inner(kind, message)
        }
        .into()
    }

    pub(crate) fn request(message: impl Into<Cow<'static, str>>) -> Self {
        Self::inner(TokenErrorKind::Request, message).into()
    }

    pub(crate) fn credential(source: BoxError) -> Self {
        let message = "failed to get a secret, assertion or token from its provider";
        Self::of_provider(message, source)
    }

    /// A provider or a signer failed with `source`. An error of this crate becomes part of the message.
    pub(crate) fn of_provider(message: &'static str, source: BoxError) -> Self {
        let (message, source) = match source.downcast::<OwnError>() {
            Ok(own) => (format!("{message}: {own}").into(), None),
            Err(source) if source.is::<Self>() => (Cow::Borrowed(message), Some(source)),
            Err(source) => (message.into(), Some(ProviderError(source).into())),
        };
        Self::new(TokenErrorKind::Credential, message, source)
    }

    /// The inner service failed to become ready, so it never saw the request.
    pub(crate) fn not_ready(endpoint: &str, source: BoxError) -> Self {
        Self::service(endpoint, NotSent::new(source).into())
    }

    /// The inner service failed before a response of `endpoint` (`token endpoint`) began.
    pub(crate) fn service(endpoint: &str, source: BoxError) -> Self {
        let (kind, message) = if error::is_followed_redirect(&*source) {
            (TokenErrorKind::UnexpectedStatus, redirects(endpoint))
        } else if error::is_timeout(&*source) {
            let message = format!("the {endpoint} did not respond in time");
            (TokenErrorKind::Timeout, message)
        } else {
            let message = format!("the request to the {endpoint} failed");
            (TokenErrorKind::Service, message)
        };
        Inner {
            source: Some(source),
            ..Self::inner(kind, message)
        }
        .into()
    }

    /// The response started, but reading its body failed with `source`.
    pub(crate) fn body(
        kind: TokenErrorKind,
        message: impl Into<Cow<'static, str>>,
        source: BoxError,
        answer: Answer,
        retry_after: Option<Duration>,
    ) -> Self {
        Inner {
            source: Some(source),
            answer: Some(answer),
            retry_after,
            ..Self::inner(kind, message)
        }
        .into()
    }

    /// The user did not decide in time. The server need not have said so: the last thing that it said was `last`.
    pub(crate) fn expired_token(last: Option<Self>) -> Self {
        let message = "the user has to sign in again: the time to decide has ended";
        Inner {
            source: last.map(Into::into),
            error_response: Some(ErrorCode::EXPIRED_TOKEN.into()),
            ..Self::inner(TokenErrorKind::SignInRequired, message)
        }
        .into()
    }

    /// Fetching the issuer's metadata failed.
    pub(crate) fn metadata(
        kind: TokenErrorKind,
        message: impl Into<Cow<'static, str>>,
        source: Option<BoxError>,
        answer: Option<Answer>,
        retry_after: Option<Duration>,
    ) -> Self {
        Inner {
            source,
            answer,
            retry_after,
            is_before_sending: true,
            ..Self::inner(kind, message)
        }
        .into()
    }

    /// Marks the error as a server's demand for a DPoP proof with the nonce in its response.
    pub(crate) fn demanding_nonce(mut self, demands_nonce: bool) -> Self {
        if let Some(inner) = self.inner_mut() {
            inner.demands_nonce = demands_nonce;
        }
        self
    }

    /// Adds what the server says in its own words, and whether its response is an incomplete success.
    pub(crate) fn saying(mut self, words: Option<String>, is_incomplete: bool) -> Self {
        if let Some(inner) = self.inner_mut() {
            inner.words = words.map(Into::into);
            inner.is_incomplete = is_incomplete;
        }
        self
    }

    /// Masks the secrets of the request in what the server says. `mask` returns `None` for a text without any.
    pub(crate) fn masking(mut self, mask: impl Fn(&str) -> Option<String>) -> Self {
        if let Some(inner) = self.inner_mut() {
            if let Some(error) = &mut inner.error_response {
                error.mask(&mask);
            }
            if let Some(masked) = inner.words.as_deref().and_then(&mask) {
                inner.words = Some(masked.into());
            }
        }
        self
    }

    /// Adds what to check to the message, if the server does not accept the client.
    pub(crate) fn if_client_refused(mut self, what_to_check: &str) -> Self {
        let is_refused = match &self.0.error_response {
            Some(error) => *error.code() == ErrorCode::INVALID_CLIENT,
            None => {
                let status = self.0.answer.as_ref().map(|answer| answer.status);
                status == Some(StatusCode::UNAUTHORIZED)
            }
        };
        if let Some(inner) = self.inner_mut().filter(|_| is_refused) {
            inner.message = format!("{}; check {what_to_check}", inner.message).into();
        }
        self
    }

    /// Whether the error shows anything that the server wrote.
    pub(crate) fn quotes_the_server(&self) -> bool {
        self.0.error_response.is_some() || self.0.words.is_some()
    }

    /// The server's response is not a token.
    pub(crate) fn answer(
        kind: TokenErrorKind,
        message: impl Into<Cow<'static, str>>,
        answer: Answer,
        error_response: Option<ErrorResponse>,
        retry_after: Option<Duration>,
    ) -> Self {
        Inner {
            answer: Some(answer),
            error_response,
            retry_after,
            ..Self::inner(kind, message)
        }
        .into()
    }
}
