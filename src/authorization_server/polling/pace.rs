//! How often the token endpoint is polled while a user decides, and when that ends. Pure.

use std::time::Duration;

use crate::{
    authorization_server::token_endpoint::refusal::{self, OneTime, code},
    base::back_off,
    error::{
        ErrorCode, MAX_PAUSE, TokenError,
        TokenErrorKind::{self, NoRuntime},
        pause_after,
    },
    message::TokenRequest,
};

/// The shortest pause between two polls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PollingInterval(Duration);

impl PollingInterval {
    /// "If no value is provided, clients MUST use 5 as the default" (RFC 8628 §3.2).
    pub(crate) const DEFAULT: Self = Self(Duration::from_secs(5));

    const MIN: Duration = Duration::from_secs(1);

    /// What each `slow_down` adds (RFC 8628 §3.5).
    const SLOW_DOWN: Duration = Duration::from_secs(5);

    pub(crate) fn new(interval: Duration) -> Self {
        Self(interval.max(Self::MIN))
    }

    /// Returns the interval that a request asks for.
    pub(crate) fn of(request: &TokenRequest) -> Self {
        let interval = request.polling_terms().interval;
        interval.map_or(Self::DEFAULT, Self::new)
    }

    /// Returns the longer one of two intervals.
    pub(crate) fn max(self, other: Self) -> Self {
        Self(self.0.max(other.0))
    }

    pub(crate) fn as_duration(self) -> Duration {
        self.0
    }

    /// Returns the interval after this error.
    ///
    /// "the interval MUST be increased by 5 seconds for this and all subsequent requests" (RFC 8628 §3.5).
    pub(crate) fn after(self, error: &TokenError) -> Self {
        match code(error) {
            Some(&ErrorCode::SLOW_DOWN) => Self(self.0.saturating_add(Self::SLOW_DOWN)),
            _ => self,
        }
    }

    /// Returns the pause before the next poll, if the last one failed with this error. `failures` counts the failures in a row, without
    /// the answers that the user has not decided. `jitter` is from 0 to 1.
    ///
    /// "On encountering a connection timeout, clients MUST unilaterally reduce their polling frequency before retrying" (RFC 8628 §3.5).
    pub(crate) fn pause(self, error: &TokenError, failures: u32, jitter: f64) -> Duration {
        if is_pending(error) {
            return self.0;
        }
        let is_connection_error = matches!(
            error.kind(),
            TokenErrorKind::Service | TokenErrorKind::Timeout
        );
        let least = match is_connection_error {
            true => back_off::doubled(self.0, failures, MAX_PAUSE).max(self.0),
            false => self.0,
        };
        pause_after(error, failures, jitter).max(least)
    }
}

/// Returns whether the server says that the user has not decided yet.
pub(crate) fn is_pending(error: &TokenError) -> bool {
    matches!(
        code(error),
        Some(&(ErrorCode::AUTHORIZATION_PENDING | ErrorCode::SLOW_DOWN))
    )
}

/// Returns whether to poll again after this error.
pub(crate) fn goes_on_after(error: &TokenError) -> bool {
    is_pending(error) || (error.is_transient() && error.kind() != NoRuntime)
}

/// Returns the error with which polling ends, if it ends with this one.
///
/// It is `SignInRequired` if the server ended the request of the user, and otherwise the error itself.
pub(crate) fn end(error: &TokenError) -> Option<TokenError> {
    if goes_on_after(error) {
        return None;
    }
    Some(match OneTime::Polled.ends_with(error, |_| false) {
        true => refusal::sign_in_required(error.clone()),
        false => error.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authorization_server::token_endpoint::refusal::tests::error;

    #[test]
    fn polling_ends_with_every_error_that_waiting_does_not_mend() {
        let ended = Some(TokenErrorKind::SignInRequired);
        for (status, code, expected) in [
            (400, "authorization_pending", None),
            (400, "slow_down", None),
            // Some servers use these statuses (RFC 8628 has 400).
            (403, "authorization_pending", None),
            (428, "authorization_pending", None),
            (429, "slow_down", None),
            (200, "authorization_pending", None),
            (400, "access_denied", ended),
            (400, "expired_token", ended),
            (200, "expired_token", ended),
            (400, "invalid_grant", ended),
            (400, "authorization_declined", ended),
            (400, "invalid_request", ended),
            (401, "invalid_client", Some(TokenErrorKind::ErrorResponse)),
            (
                400,
                "unauthorized_client",
                Some(TokenErrorKind::ErrorResponse),
            ),
            (401, "", Some(TokenErrorKind::UnexpectedStatus)),
            (404, "", Some(TokenErrorKind::UnexpectedStatus)),
            (302, "", Some(TokenErrorKind::UnexpectedStatus)),
            (429, "", None),
            (429, "too_many_requests", None),
            (500, "", None),
            (502, "", None),
            (503, "access_denied", None),
            (400, "temporarily_unavailable", None),
        ] {
            let found = end(&error(status, code)).map(|end| end.kind());
            assert_eq!(found, expected, "{status} {code}");
        }
        for (kind, goes_on) in [
            (TokenErrorKind::Service, true),
            (TokenErrorKind::Timeout, true),
            (TokenErrorKind::Body, true),
            (TokenErrorKind::Credential, true),
            (TokenErrorKind::NoRuntime, false),
            (TokenErrorKind::Request, false),
            (TokenErrorKind::InvalidResponse, false),
            (TokenErrorKind::BodyTooLarge, false),
            (TokenErrorKind::UnsupportedTokenType, false),
            (TokenErrorKind::ShutDown, false),
            (TokenErrorKind::SignInRequired, false),
        ] {
            let error = TokenError::builder(kind).build();
            assert_eq!(end(&error).is_none(), goes_on, "{kind:?}");
        }
    }

    #[test]
    fn interval_is_at_least_a_second_and_grows_with_each_slow_down() {
        let secs = Duration::from_secs;
        let slow_down = error(400, "slow_down");
        for (interval, expected) in [
            (Duration::ZERO, secs(6)),
            (Duration::from_millis(999), secs(6)),
            (secs(2), secs(7)),
            (secs(3600), secs(3605)),
            (Duration::MAX, Duration::MAX),
        ] {
            let interval = PollingInterval::new(interval).after(&slow_down);
            assert_eq!(interval.as_duration(), expected);
            assert_eq!(interval.pause(&slow_down, 0, 1.0), expected);
            for other in [error(400, "authorization_pending"), error(503, "")] {
                assert_eq!(interval.after(&other), interval);
                assert!(interval.pause(&other, 1, 0.0) >= expected);
            }
        }
    }

    #[test]
    fn no_failure_shortens_the_pause_below_the_interval() {
        let connection = TokenError::builder(TokenErrorKind::Service).build();
        let unavailable = error(503, "");
        let interval = PollingInterval::new(Duration::from_secs(8));
        for (error, pauses) in [
            (&connection, [16, 32, 60, 60, 60, 60, 60]),
            // The usual pause grows beyond the interval.
            (&unavailable, [8, 8, 8, 8, 16, 32, 60]),
        ] {
            for (failures, expected) in (1..).zip(pauses) {
                let pause = interval.pause(error, failures, 1.0);
                assert_eq!(pause, Duration::from_secs(expected), "{failures}");
            }
        }
    }
}
