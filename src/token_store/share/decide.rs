//! The decisions of sharing. Pure.

use std::time::Duration;

use http::StatusCode;

use crate::{
    base::back_off,
    error::{ErrorCode, ErrorResponse, TokenError},
};

/// What a cache wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// A token for callers that wait, because the cache has no usable one.
    Token,
    /// A token that lives longer than the one that the cache has. Nobody waits.
    Renewal,
    /// A token that was issued after the cache asked.
    NewToken,
}

/// How a request may be shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// The store helps. Without it, each instance fetches its own token.
    Helped,
    /// A refresh token, which only the holder of the lease may spend.
    RefreshToken,
    /// A code or a device code, which one instance has. Its result is stored for the others.
    OwnResult,
}

/// `sent` is the name of the credential that the request may send only once.
pub(super) fn route(sent: Option<&str>) -> Route {
    match sent {
        None => Route::Helped,
        Some("refresh_token") => Route::RefreshToken,
        Some(_) => Route::OwnResult,
    }
}

/// An entry, as far as it matters whether it is used.
#[derive(Clone, Copy, Debug)]
pub(super) struct EntryFacts {
    pub(super) age: Duration,
    pub(super) lifetime: Duration,
    /// When the server wants the token to be renewed.
    pub(super) refresh_in: Option<Duration>,
    /// Whether it is the very token that was dropped here.
    pub(super) is_dropped: bool,
    /// How long ago this instance began to look for a token.
    pub(super) waited: Duration,
}

/// What to do with an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    Adopt,
    /// Fetch another one, and use this one if that fails.
    Fallback,
    Skip,
}

/// Past this part of its life, a token is about to be renewed.
const RENEWED: f64 = 0.85;
/// Past this part of its life, a token is not worth taking.
const WORTHLESS: f64 = 0.9;

pub(super) fn use_of(entry: EntryFacts, wanted: Wanted) -> Use {
    let EntryFacts { age, lifetime, .. } = entry;
    let renewed = lifetime.mul_f64(RENEWED);
    let renewed = entry.refresh_in.map_or(renewed, |time| renewed.min(time));
    let is_good = match wanted {
        Wanted::Token => age < lifetime.mul_f64(WORTHLESS),
        Wanted::Renewal => age < renewed,
        Wanted::NewToken => age < entry.waited && age < lifetime.mul_f64(WORTHLESS),
    };
    if entry.is_dropped {
        Use::Skip
    } else if is_good {
        Use::Adopt
    } else if wanted == Wanted::Token && age < lifetime {
        Use::Fallback
    } else {
        Use::Skip
    }
}

const LONGEST_PAUSE: Duration = Duration::from_secs(60);
const LONGEST_ASKED_PAUSE: Duration = Duration::from_secs(300);

/// How long nobody in the fleet asks the server again after this failure.
///
/// Only what the server said counts. A connection error, a timeout or a refused client may be the fault of one instance.
pub(super) fn shared_pause(error: &TokenError, failures: u32, will_retry: bool) -> Duration {
    let Some(status) = error.status() else {
        return Duration::ZERO;
    };
    let code = error.error_response().map(ErrorResponse::code);
    let concerns_client = status == StatusCode::UNAUTHORIZED
        || code.is_some_and(|code| {
            [ErrorCode::INVALID_CLIENT, ErrorCode::UNAUTHORIZED_CLIENT].contains(code)
        });
    if concerns_client {
        return Duration::ZERO;
    }
    let asked = error.retry_after().unwrap_or_default();
    let is_ill = status == StatusCode::TOO_MANY_REQUESTS
        || (status.is_server_error()
            && status != StatusCode::NOT_IMPLEMENTED
            && status != StatusCode::HTTP_VERSION_NOT_SUPPORTED);
    if !asked.is_zero() {
        asked.min(LONGEST_ASKED_PAUSE)
    } else if is_ill && !will_retry {
        back_off::doubled(Duration::from_secs(1), failures, LONGEST_PAUSE)
    } else {
        Duration::ZERO
    }
}

/// How long to wait for the holder of a lease before going on without it.
///
/// `rest` is how long the fetch may take. What is left of it is for a request of one's own. `jitter` is from 0 to 1: those who wait together must
/// not go together.
pub(super) fn patience(rest: Duration, jitter: f64) -> Duration {
    rest.mul_f64(0.5 + 0.25 * jitter)
}

/// How long a look may take, including its repetition. A slow store must leave time for the request.
pub(super) fn look_at_most(fetch: Duration) -> Duration {
    fetch / 4
}

/// How long an operation may take. A lease must not end because one of them was slow.
pub(super) fn operation_limit(limit: Duration, lease: Duration) -> Duration {
    limit.min(lease / 8)
}

/// How long the next holder waits for a refresh token that the last one may still be storing.
///
/// `limit` is that of an operation, `pause` that between two attempts to store, and `rest` how long the fetch may take.
pub(super) fn lost_holder(limit: Duration, pause: Duration, rest: Duration) -> Duration {
    const MARGIN: Duration = Duration::from_millis(750);

    (limit * 2 + pause + MARGIN).min(rest / 4)
}

/// Returns whether the server has said that it does not accept this refresh token any longer.
pub(super) fn ends_sign_in(error: &TokenError) -> bool {
    let is_of_client = error
        .status()
        .is_some_and(|status| status.is_client_error());
    let code = error.error_response().map(ErrorResponse::code);
    is_of_client && code == Some(&ErrorCode::INVALID_GRANT)
}

/// A damaged entry of a sign-in is not replaced for so long. An instance that still has the refresh token replaces it meanwhile. After that, it
/// is lost.
pub(super) const DAMAGED: Duration = Duration::from_secs(3600);

/// How long the fleet knows that a sign-in has ended. After that, an instance asks the server again.
pub(super) const ENDED: Duration = Duration::from_secs(3600);

/// How long the fleet knows that the tokens of a request cannot be shared.
pub(super) const NOT_SHARED: Duration = Duration::from_secs(60);

/// How long an entry is kept. `None` if it is of no use to others.
pub(super) fn time_to_live(
    lifetime: Duration,
    age: Duration,
    refresh_token: Option<Duration>,
) -> Option<Duration> {
    let rest = lifetime.saturating_sub(age);
    match refresh_token {
        Some(least) => Some(rest.max(least)),
        None => Some(rest).filter(|rest| !rest.is_zero()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::TokenErrorKind;

    fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    #[test]
    fn routes() {
        for (sent, expected) in [
            (None, Route::Helped),
            (Some("refresh_token"), Route::RefreshToken),
            (Some("code"), Route::OwnResult),
            (Some("device_code"), Route::OwnResult),
            (Some("auth_req_id"), Route::OwnResult),
        ] {
            assert_eq!(route(sent), expected, "{sent:?}");
        }
    }

    #[test]
    fn uses_of_an_entry() {
        use Use::{Adopt, Fallback, Skip};
        use Wanted::{NewToken, Renewal, Token};
        let entry = EntryFacts {
            age: secs(0),
            lifetime: secs(100),
            refresh_in: None,
            is_dropped: false,
            waited: Duration::ZERO,
        };
        for (wanted, age, expected) in [
            (Token, 0, Adopt),
            (Token, 89, Adopt),
            (Token, 90, Fallback),
            (Token, 99, Fallback),
            (Token, 100, Skip),
            (Token, 1000, Skip),
            (Renewal, 0, Adopt),
            (Renewal, 84, Adopt),
            (Renewal, 85, Skip),
            (Renewal, 99, Skip),
            // It may have been issued before somebody asked for a new one.
            (NewToken, 0, Skip),
        ] {
            let age = secs(age);
            assert_eq!(
                use_of(EntryFacts { age, ..entry }, wanted),
                expected,
                "{wanted:?} {age:?}"
            );
            let dropped = EntryFacts {
                age,
                is_dropped: true,
                ..entry
            };
            assert_eq!(use_of(dropped, wanted), Skip, "{wanted:?} {age:?} dropped");
        }
        // Its request must have been sent after this instance began.
        for (waited, age, expected) in [(5, 4, Adopt), (5, 5, Skip), (5, 6, Skip), (95, 90, Skip)] {
            let waited = EntryFacts {
                waited: secs(waited),
                age: secs(age),
                ..entry
            };
            assert_eq!(use_of(waited, NewToken), expected, "{waited:?}");
        }
        let short = EntryFacts {
            lifetime: Duration::ZERO,
            ..entry
        };
        assert_eq!(use_of(short, Token), Skip);
        for (refresh_in, age, expected) in [
            (50, 49, Adopt),
            (50, 50, Skip),
            (99, 86, Skip),
            (0, 0, Skip),
        ] {
            let entry = EntryFacts {
                age: secs(age),
                refresh_in: Some(secs(refresh_in)),
                ..entry
            };
            assert_eq!(use_of(entry, Renewal), expected, "{refresh_in} {age}");
            assert_eq!(use_of(entry, Token), Adopt, "{refresh_in} {age}");
        }
    }

    #[test]
    fn only_the_server_makes_a_fleet_pause() {
        let status = |status: u16| {
            TokenError::builder(TokenErrorKind::UnexpectedStatus).status(status.try_into().unwrap())
        };
        let code = |code: ErrorCode| {
            TokenError::builder(TokenErrorKind::ErrorResponse).error_response(code)
        };
        let kind = TokenError::builder;
        for (name, error, failures, expected) in [
            ("503", status(503), 0, 1),
            ("503 again", status(503), 3, 8),
            ("503 for long", status(503), 100, 60),
            ("500", status(500), 0, 1),
            ("501", status(501), 0, 0),
            ("505", status(505), 0, 0),
            ("429", status(429), 0, 1),
            ("Retry-After", status(503).retry_after(secs(30)), 0, 30),
            (
                "Retry-After of a day",
                status(503).retry_after(secs(86_400)),
                0,
                300,
            ),
            (
                "Retry-After of a 400",
                status(400).retry_after(secs(7)),
                0,
                7,
            ),
            (
                "Retry-After of nothing",
                status(400).retry_after(secs(0)),
                0,
                0,
            ),
            ("404", status(404), 0, 0),
            ("408", status(408), 0, 0),
            ("invalid_client", code(ErrorCode::INVALID_CLIENT), 5, 0),
            (
                "invalid_client with Retry-After",
                code(ErrorCode::INVALID_CLIENT)
                    .status(StatusCode::BAD_REQUEST)
                    .retry_after(secs(300)),
                0,
                0,
            ),
            ("401", status(401).retry_after(secs(300)), 0, 0),
            ("invalid_grant", code(ErrorCode::INVALID_GRANT), 5, 0),
            ("connection", kind(TokenErrorKind::Service), 5, 0),
            ("timeout", kind(TokenErrorKind::Timeout), 5, 0),
            ("credential", kind(TokenErrorKind::Credential), 5, 0),
            ("garbage", kind(TokenErrorKind::InvalidResponse), 5, 0),
        ] {
            let error = error.build();
            assert_eq!(
                shared_pause(&error, failures, false),
                secs(expected),
                "{name}"
            );
            let with_retry = shared_pause(&error, failures, true);
            let asked = match expected {
                0 => Duration::ZERO,
                _ => error.retry_after().unwrap_or_default().min(secs(300)),
            };
            assert_eq!(with_retry, asked, "{name}");
        }
    }

    #[test]
    fn limits_fit_each_other() {
        let millis = Duration::from_millis;
        for (limit, lease, expected) in [
            (500, 10_000, 500),
            (500, 1_000, 125),
            (5_000, 10_000, 1_250),
        ] {
            assert_eq!(
                operation_limit(millis(limit), millis(lease)),
                millis(expected)
            );
        }
        for (limit, rest, expected) in [
            (500, 30_000, 2_000),
            (5_000, 60_000, 11_000),
            (500, 2_000, 500),
        ] {
            assert_eq!(
                lost_holder(millis(limit), millis(250), millis(rest)),
                millis(expected)
            );
        }
    }

    #[test]
    fn only_the_server_ends_a_sign_in() {
        let grant = || {
            TokenError::builder(TokenErrorKind::ErrorResponse)
                .error_response(ErrorCode::INVALID_GRANT)
        };
        for (error, expected) in [
            (grant().status(StatusCode::BAD_REQUEST), true),
            (grant().status(StatusCode::UNAUTHORIZED), true),
            (grant().status(StatusCode::INTERNAL_SERVER_ERROR), false),
            (TokenError::builder(TokenErrorKind::SignInRequired), false),
            (
                TokenError::builder(TokenErrorKind::ErrorResponse)
                    .error_response(ErrorCode::INVALID_CLIENT)
                    .status(StatusCode::UNAUTHORIZED),
                false,
            ),
        ] {
            assert_eq!(ends_sign_in(&error.build()), expected);
        }
    }

    #[test]
    fn patience_leaves_time_for_a_request_of_ones_own() {
        assert_eq!(patience(secs(30), 0.0), secs(15));
        assert_eq!(patience(secs(30), 1.0), Duration::from_millis(22_500));
    }

    #[test]
    fn entries_live_as_long_as_they_are_useful() {
        for (lifetime, age, refresh_token, expected) in [
            (100, 1, None, Some(99)),
            (100, 100, None, None),
            (0, 0, None, None),
            (100, 1, Some(1000), Some(1000)),
            (0, 5, Some(1000), Some(1000)),
            (5000, 1, Some(1000), Some(4999)),
        ] {
            let found = time_to_live(secs(lifetime), secs(age), refresh_token.map(secs));
            assert_eq!(found, expected.map(secs), "{lifetime} {age}");
        }
    }
}
