//! `DeviceAuthorizationResponse`: the codes of a device login (RFC 8628 §3.2).

use std::{fmt, sync::Arc, time::Duration};

use serde_json::Value;
use tokio::time::Instant;

use super::{PollingTimes, TokenRequest, accessors::answer_accessors};
use crate::{error::Answer, secret::DeviceCode};

/// The successful response of a device authorization endpoint
/// ([RFC 8628 §3.2](https://www.rfc-editor.org/rfc/rfc8628#section-3.2)).
///
/// Show the user the [`verification_uri`](Self::verification_uri) and the [`user_code`](Self::user_code), then wait for the decision. Both
/// texts contain no control character and nothing invisible, so they are safe to print on a terminal.
///
/// | you have | wait with | then |
/// |---|---|---|
/// | a [`TokenCache`](crate::TokenCache) | `cache.source(response.token_request())` and [`TokenSource::wait_for_user`](crate::TokenSource::wait_for_user) | the source gives tokens, and renews them with the refresh token |
/// | a [`TokenEndpoint`](crate::TokenEndpoint) | [`wait_for_user`](Self::wait_for_user) | you have the [`TokenResponse`](crate::TokenResponse) |
///
/// Cloning is cheap.
///
/// # Security
///
/// `Debug` shows the status, the verification URI and the times. It shows no code and no header. Whoever sees the user code can approve
/// the request, and then the device acts for them ([RFC 8628 §5.4](https://www.rfc-editor.org/rfc/rfc8628#section-5.4)).
///
/// # Examples
///
/// See [`DeviceAuthorizationEndpoint`](crate::DeviceAuthorizationEndpoint).
#[derive(Clone)]
pub struct DeviceAuthorizationResponse(Arc<Inner>);

struct Inner {
    fields: DeviceFields,
    received_at: Instant,
    json: Value,
    answer: Answer,
}

/// The members of a successful response.
#[derive(Debug)]
pub(crate) struct DeviceFields {
    pub(crate) device_code: DeviceCode,
    pub(crate) user_code: Box<str>,
    pub(crate) verification_uri: Box<str>,
    pub(crate) verification_uri_complete: Option<Box<str>>,
    pub(crate) times: PollingTimes,
}

impl DeviceAuthorizationResponse {
    pub(crate) fn new(fields: DeviceFields, received_at: Instant, answer: Answer) -> Self {
        Self(Arc::new(Inner {
            fields,
            received_at,
            json: answer.json().cloned().unwrap_or_default(),
            answer,
        }))
    }

    /// Returns the code that the user enters at the [`verification_uri`](Self::verification_uri).
    #[must_use]
    pub fn user_code(&self) -> &str {
        &self.0.fields.user_code
    }

    /// Returns the URI where the user enters the code. It begins with `https://` or `http://`.
    ///
    /// Servers that follow an early draft call it `verification_url`. A URI without a scheme gets `https://`.
    #[must_use]
    pub fn verification_uri(&self) -> &str {
        &self.0.fields.verification_uri
    }

    /// Returns a URI that contains the user code, for a QR code or to open in a browser
    /// ([RFC 8628 §3.3.1](https://www.rfc-editor.org/rfc/rfc8628#section-3.3.1)). It begins with `https://` or `http://`.
    ///
    /// Show the user code beside it: the user compares it with the one that the server shows. `None` if the server sent no URI that can
    /// be used.
    #[must_use]
    pub fn verification_uri_complete(&self) -> Option<&str> {
        self.0.fields.verification_uri_complete.as_deref()
    }

    /// Returns the code with which the device asks for its token.
    ///
    /// You need it only to store it. [`token_request`](Self::token_request) contains it.
    #[must_use]
    pub fn device_code(&self) -> &DeviceCode {
        &self.0.fields.device_code
    }

    /// Returns how long both codes are valid, counted from when the server generated the response.
    ///
    /// `None` if the server sent no usable `expires_in`, which RFC 8628 requires. Waiting for the user then ends after 30 minutes.
    #[must_use]
    pub fn expires_in(&self) -> Option<Duration> {
        self.0.fields.times.expires_in
    }

    /// Returns the minimum time between two polls.
    ///
    /// | `interval` in the response | time |
    /// |---|---|
    /// | `10`, `"10"`, `2.5` | as the server sent it, but at least one second |
    /// | absent, `null`, 0, negative, a time, a string that is not a number, anything else | five seconds |
    /// | not shorter than `expires_in`, such as milliseconds instead of seconds | five seconds |
    #[must_use]
    pub fn interval(&self) -> Duration {
        self.0.fields.times.interval
    }

    /// Returns the request for the token: the device code, with the interval and the time in which the user has to decide.
    ///
    /// Add to it what your server needs in token requests, for example a [`resource`](TokenRequest::resource). Make a source of it
    /// ([`TokenCache::source`](crate::TokenCache::source)), or pass it to [`TokenPolling::new`](crate::TokenPolling::new).
    ///
    /// If you use the ID token, add [`id_token_checks`](TokenRequest::id_token_checks): this request has none.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_oauth2_client::{DeviceAuthorizationResponse, TokenCache, TokenError, TokenSource};
    ///
    /// async fn sign_in(
    ///     tokens: &TokenCache,
    ///     device: &DeviceAuthorizationResponse,
    /// ) -> Result<TokenSource, TokenError> {
    ///     println!("open {} and enter {}", device.verification_uri(), device.user_code());
    ///     let source = tokens.source(device.token_request());
    ///     source.wait_for_user().await?;
    ///     Ok(source)
    /// }
    /// ```
    #[must_use]
    pub fn token_request(&self) -> TokenRequest {
        let terms = self.0.fields.times.terms(self.0.received_at);
        TokenRequest::device_code(self.device_code()).with_polling_terms(terms)
    }
}

answer_accessors!(
    DeviceAuthorizationResponse,
    "It contains the device code: keep it out of logs."
);

impl fmt::Debug for DeviceAuthorizationResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeviceAuthorizationResponse")
            .field("status", &self.status())
            .field("verification_uri", &self.verification_uri())
            .field("expires_in", &self.expires_in())
            .field("interval", &self.interval())
            .finish_non_exhaustive()
    }
}
