//! `BackchannelAuthenticationResponse`: the server has asked the user (CIBA §7.3).

use std::{fmt, sync::Arc, time::Duration};

use serde_json::Value;
use tokio::time::Instant;

use super::{PollingTimes, TokenRequest, accessors::answer_accessors};
use crate::{error::Answer, secret::AuthReqId};

/// The successful response of a backchannel authentication endpoint: the server asks the user
/// ([OpenID Connect CIBA §7.3](https://openid.net/specs/openid-client-initiated-backchannel-authentication-core-1_0.html#successful_authentication_request_acknowdlegment)).
///
/// Wait for the decision of the user:
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
/// `Debug` shows the status and the times. It shows neither the ID nor a header.
///
/// # Examples
///
/// See [`BackchannelAuthenticationEndpoint`](crate::BackchannelAuthenticationEndpoint).
#[derive(Clone)]
pub struct BackchannelAuthenticationResponse(Arc<Inner>);

struct Inner {
    auth_req_id: AuthReqId,
    times: PollingTimes,
    received_at: Instant,
    json: Value,
    answer: Answer,
}

impl BackchannelAuthenticationResponse {
    pub(crate) fn new(
        auth_req_id: AuthReqId,
        times: PollingTimes,
        received_at: Instant,
        answer: Answer,
    ) -> Self {
        Self(Arc::new(Inner {
            auth_req_id,
            times,
            received_at,
            json: answer.json().cloned().unwrap_or_default(),
            answer,
        }))
    }

    /// Returns the ID with which the client asks for its token.
    ///
    /// You need it only to store it. [`token_request`](Self::token_request) contains it.
    #[must_use]
    pub fn auth_req_id(&self) -> &AuthReqId {
        &self.0.auth_req_id
    }

    /// Returns how long the user has to decide, counted from when the server generated the response.
    ///
    /// `None` if the server sent no usable `expires_in`, which CIBA requires. Waiting for the user then ends after 30 minutes.
    #[must_use]
    pub fn expires_in(&self) -> Option<Duration> {
        self.0.times.expires_in
    }

    /// Returns the minimum time between two polls. It is read as that of a
    /// [`DeviceAuthorizationResponse`](crate::DeviceAuthorizationResponse::interval).
    #[must_use]
    pub fn interval(&self) -> Duration {
        self.0.times.interval
    }

    /// Returns the request for the token: the ID, with the interval and the time in which the user has to decide.
    ///
    /// Make a source of it ([`TokenCache::source`](crate::TokenCache::source)), or pass it to
    /// [`TokenPolling::new`](crate::TokenPolling::new).
    ///
    /// If you use the ID token, add [`id_token_checks`](TokenRequest::id_token_checks): this request has none.
    #[must_use]
    pub fn token_request(&self) -> TokenRequest {
        let terms = self.0.times.terms(self.0.received_at);
        TokenRequest::ciba(self.auth_req_id()).with_polling_terms(terms)
    }
}

answer_accessors!(
    BackchannelAuthenticationResponse,
    "It contains the ID: keep it out of logs."
);

impl fmt::Debug for BackchannelAuthenticationResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BackchannelAuthenticationResponse")
            .field("status", &self.status())
            .field("expires_in", &self.expires_in())
            .field("interval", &self.interval())
            .finish_non_exhaustive()
    }
}
