//! How long the cache pauses after failed fetches. Pure.

use std::time::Duration;

use http::{HeaderMap, StatusCode};

use crate::{
    authorization_server::polling::{PollingInterval, is_pending},
    base::clock::Moment,
    error::{
        Answer, ErrorCode, ErrorResponse, TokenError, TokenErrorKind, obeying_retry_after,
        pause_after,
    },
    token_cache::fetch::renewal_pause::renewal_pause,
};

/// How often the server wants to be polled, and when it may be polled next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Polling {
    interval: PollingInterval,
    retry_at: Moment,
}

/// The last fetch of an entry, which failed, and the pause before the next one.
#[derive(Clone)]
pub(crate) struct FailedFetch {
    pub(crate) error: TokenError,
    /// How many fetches failed in a row.
    pub(crate) streak: u32,
    pub(crate) pause: Duration,
    /// Set once the server has asked to be polled.
    polling_interval: Option<PollingInterval>,
    is_pause_by_server: bool,
    retry_at: Moment,
    /// When the first of these failures in a row happened.
    since: Moment,
    at: Moment,
}

impl FailedFetch {
    /// Returns the failure that follows `previous`.
    pub(crate) fn after(previous: Option<&Self>, error: TokenError, when: When) -> Self {
        let When {
            now, jitter, left, ..
        } = when;
        let is_pending = is_pending(&error);
        let known = previous.and_then(|previous| previous.polling_interval);
        let polling_interval = match (known, when.polling_interval) {
            // Nothing is polled any longer.
            _ if error.kind() == TokenErrorKind::SignInRequired => None,
            (Some(known), Some(least)) => Some(known.max(least)),
            (None, None) if is_pending => Some(PollingInterval::DEFAULT),
            (known, least) => known.or(least),
        };
        let polling_interval = polling_interval.map(|interval| interval.after(&error));
        let streak = match previous {
            // The server is well.
            _ if is_pending => 0,
            Some(previous) => previous.streak.saturating_add(1),
            None => 1,
        };
        let pause = match polling_interval {
            Some(interval) => interval.pause(&error, streak, jitter),
            None => {
                let usual = pause_after(&error, streak, jitter);
                match !left.is_zero() && may_be_shortened(&error) {
                    true => renewal_pause(usual, left, streak, jitter),
                    false => usual,
                }
            }
        };
        let pause = obeying_retry_after(pause, &error);
        let has_asked = has_asked_to_wait(&error);
        Self {
            error,
            streak,
            pause,
            polling_interval,
            is_pause_by_server: has_asked || polling_interval.is_some(),
            retry_at: now.after(pause),
            since: previous
                .filter(|previous| previous.streak > 0)
                .map_or(now, |previous| previous.since),
            at: now,
        }
    }

    /// Returns the failure of a source that another one over the same request has polled before.
    pub(super) fn while_polling(polling: Polling, now: Moment) -> Self {
        Self {
            error: authorization_pending(),
            streak: 0,
            pause: now.until_outlasted(polling.retry_at),
            polling_interval: Some(polling.interval),
            is_pause_by_server: true,
            retry_at: polling.retry_at,
            since: now,
            at: now,
        }
    }

    /// Returns how often to poll the server, if it asked to be polled.
    pub(super) fn polling(&self) -> Option<Polling> {
        self.polling_interval.map(|interval| Polling {
            interval,
            retry_at: self.retry_at,
        })
    }

    /// Returns the time since the first failure in a row, or `None` if the server only waits for the user.
    pub(crate) fn failing_for(&self, now: Moment) -> Option<Duration> {
        (self.streak > 0).then(|| now.time_since(self.since))
    }

    /// Returns whether this failure happened before another one.
    pub(crate) fn is_before(&self, other: &Self) -> bool {
        !self.at.has_outlasted(other.at)
    }

    /// Returns whether the pause has not ended yet.
    ///
    /// A pause between two polls ends by the monotonic clock alone: after a step of the wall clock, the server would be asked too soon.
    pub(crate) fn is_pausing(&self, now: Moment) -> bool {
        match self.polling_interval {
            Some(_) => !now.has_outlasted(self.retry_at),
            None => !now.has_reached(self.retry_at),
        }
    }

    /// Returns the rest of the pause.
    pub(crate) fn remaining(&self, now: Moment) -> Duration {
        match self.polling_interval {
            Some(_) => now.until_outlasted(self.retry_at),
            None => now.until(self.retry_at),
        }
    }

    /// Returns whether the server itself asked for the pause.
    pub(crate) fn is_pause_by_server(&self) -> bool {
        self.is_pause_by_server
    }

    /// Returns whether the server asked for the pause, and it has not ended yet.
    pub(crate) fn server_asked_to_wait(&self, now: Moment) -> bool {
        self.is_pause_by_server && self.is_pausing(now)
    }
}

/// When a fetch failed, and what else decides how long to pause.
#[derive(Clone, Copy)]
pub(crate) struct When {
    pub(crate) now: Moment,
    /// From 0 to 1.
    pub(crate) jitter: f64,
    /// How long the current token remains usable; zero if there is none.
    pub(crate) left: Duration,
    /// The shortest pause between two polls, if the fetch polled for the decision of a user.
    pub(crate) polling_interval: Option<PollingInterval>,
}

impl When {
    /// The moment at which it was clear that no fetch can succeed any longer.
    pub(crate) fn ended(now: Moment) -> Self {
        Self {
            now,
            jitter: 0.0,
            left: Duration::ZERO,
            polling_interval: None,
        }
    }
}

/// Returns whether the pause after a failed renewal may be shortened to fit into the rest of the token's life.
fn may_be_shortened(error: &TokenError) -> bool {
    error.is_transient()
        && error.status() != Some(StatusCode::TOO_MANY_REQUESTS)
        && !has_asked_to_wait(error)
}

fn has_asked_to_wait(error: &TokenError) -> bool {
    error.retry_after().is_some_and(|asked| !asked.is_zero())
}

fn authorization_pending() -> TokenError {
    let response = ErrorResponse {
        code: ErrorCode::AUTHORIZATION_PENDING,
        description: None,
        uri: None,
    };
    TokenError::answer(
        TokenErrorKind::ErrorResponse,
        "the user has not decided yet: authorization_pending",
        Answer::without_body(StatusCode::BAD_REQUEST, HeaderMap::new()),
        Some(response),
        None,
    )
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;

    const FIRST_PAUSE: Duration = Duration::from_secs(1);
    const MAX_PAUSE: Duration = Duration::from_secs(60);
    const MAX_RETRY_AFTER: Duration = Duration::from_secs(300);

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// It lasts from half a second to five minutes, at least as long as the server asks up to that, and ends exactly on time.
        #[test]
        fn pause_after_a_failure_is_bounded_and_obeys_the_server(
            failures in prop::collection::vec((any::<bool>(), prop::option::of(0..1_000_000_u64), 0.0..1.0), 1..40),
        ) {
            let mut now = Moment::new(Duration::from_secs(7), Duration::from_secs(70));
            let mut last: Option<FailedFetch> = None;
            for (streak, (is_terminal, retry_after, jitter)) in (1..).zip(failures) {
                let error = error(is_terminal, retry_after);
                let failure = FailedFetch::after(last.as_ref(), error, when(now, jitter));
                let pause = failure.pause;
                prop_assert_eq!(failure.streak, streak);
                prop_assert!(pause >= FIRST_PAUSE / 2 && pause <= MAX_RETRY_AFTER, "{pause:?}");
                match retry_after.map(Duration::from_secs) {
                    Some(asked) => prop_assert!(pause >= asked.min(MAX_RETRY_AFTER), "{pause:?}"),
                    None => prop_assert!(pause <= MAX_PAUSE, "{pause:?}"),
                }
                prop_assert_eq!(failure.remaining(now), pause);
                prop_assert!(failure.is_pausing(now.after(pause - Duration::from_nanos(1))));
                now = now.after(pause);
                prop_assert!(!failure.is_pausing(now));
                last = Some(failure);
            }
        }
    }

    /// A step of the wall clock does not make the server's wait shorter. Devices without a battery set their clock after they have booted.
    #[test]
    fn a_step_of_the_wall_clock_does_not_shorten_the_pause_between_two_polls() {
        let secs = Duration::from_secs;
        let now = Moment::new(secs(7), secs(70));
        let failure = FailedFetch::after(
            None,
            coded(ErrorCode::AUTHORIZATION_PENDING),
            when(now, 0.0),
        );
        for wall in [0, 70, 71, 70_000_000] {
            let later = Moment::new(secs(7 + 4), secs(wall));
            assert!(failure.is_pausing(later), "{wall}");
            assert!(failure.server_asked_to_wait(later), "{wall}");
            assert_eq!(failure.remaining(later), secs(1), "{wall}");
            let again = FailedFetch::while_polling(failure.polling().unwrap(), later);
            assert_eq!(again.pause, secs(1), "{wall}");
            assert_eq!(again.remaining(later), secs(1), "{wall}");
            assert!(
                !failure.is_pausing(Moment::new(secs(12), secs(wall))),
                "{wall}"
            );
        }
    }

    #[test]
    fn retry_after_zero_does_not_ask_for_a_pause() {
        let now = Moment::new(Duration::from_secs(7), Duration::from_secs(70));
        for (retry_after, expected) in [(None, false), (Some(0), false), (Some(1), true)] {
            let failure = FailedFetch::after(None, error(false, retry_after), when(now, 0.0));
            assert_eq!(
                failure.server_asked_to_wait(now),
                expected,
                "{retry_after:?}"
            );
        }
    }

    /// Two polls are at least the interval apart, and the server itself has asked for that.
    #[test]
    fn polling_pauses_are_those_that_the_server_asked_for() {
        let now = Moment::new(Duration::from_secs(7), Duration::from_secs(70));
        let [pending, slow_down] = [ErrorCode::AUTHORIZATION_PENDING, ErrorCode::SLOW_DOWN];
        let code = |code: &ErrorCode| coded(code.clone());
        let kind = |kind| TokenError::new(kind, "failed", None);
        let default = Some(PollingInterval::DEFAULT.as_duration().as_secs_f64());
        for (name, steps) in [
            (
                "without an interval of the server's or the user's",
                &[
                    (code(&pending), None, 5.0, 0),
                    (code(&slow_down), None, 10.0, 0),
                    (code(&pending), None, 10.0, 0),
                    (code(&slow_down), None, 15.0, 0),
                ][..],
            ),
            (
                "with an interval",
                &[
                    (code(&pending), Some(2.0), 2.0, 0),
                    (code(&slow_down), Some(2.0), 7.0, 0),
                    // The interval of the server stays, even if the user wants a shorter one.
                    (code(&pending), Some(2.0), 7.0, 0),
                    (code(&pending), Some(8.0), 8.0, 0),
                ],
            ),
            (
                "with an interval below the least one",
                &[(code(&pending), Some(0.1), 1.0, 0)],
            ),
            (
                "a failure in between counts, and a server that waits for the user is well",
                &[
                    (error(false, None), default, 5.0, 1),
                    (error(false, None), default, 5.0, 2),
                    (code(&pending), default, 5.0, 0),
                    (error(false, None), default, 5.0, 1),
                ],
            ),
            (
                "after failed connections, less often",
                &[
                    (kind(TokenErrorKind::Service), default, 10.0, 1),
                    (kind(TokenErrorKind::Timeout), default, 20.0, 2),
                    (code(&pending), default, 5.0, 0),
                ],
            ),
            (
                "an interval that is longer than every other pause is not shortened by failed connections",
                &[(kind(TokenErrorKind::Timeout), Some(100.0), 100.0, 1)],
            ),
        ] {
            let mut last: Option<FailedFetch> = None;
            for (step, (error, interval, pause, streak)) in steps.iter().enumerate() {
                let when = When {
                    polling_interval: interval
                        .map(Duration::from_secs_f64)
                        .map(PollingInterval::new),
                    ..when(now, 1.0)
                };
                let failure = FailedFetch::after(last.as_ref(), error.clone(), when);
                let found = (failure.pause.as_secs_f64(), failure.streak);
                assert_eq!(found, (*pause, *streak), "{name}: {step}");
                assert!(failure.is_pause_by_server(), "{name}: {step}");
                assert!(failure.server_asked_to_wait(now), "{name}: {step}");
                let polling = failure.polling().unwrap();
                assert_eq!(polling.retry_at, now.after(failure.pause));
                let failing = (*streak > 0).then_some(Duration::ZERO);
                assert_eq!(failure.failing_for(now), failing, "{name}: {step}");
                last = Some(failure);
            }
        }
    }

    #[test]
    fn polling_goes_on_at_the_same_pace_after_an_eviction_and_ends_with_the_source() {
        let now = Moment::new(Duration::from_secs(7), Duration::from_secs(70));
        let slow_down = coded(ErrorCode::SLOW_DOWN);
        let first = FailedFetch::after(None, slow_down, when(now, 0.0));
        let later = now.after(Duration::from_secs(4));
        let second = FailedFetch::while_polling(first.polling().unwrap(), later);
        assert_eq!(second.polling(), first.polling());
        assert_eq!(second.remaining(later), Duration::from_secs(6));
        assert!(second.server_asked_to_wait(later));
        assert!(second.is_pause_by_server());
        assert_eq!(second.failing_for(later), None);

        let ended = TokenError::new(TokenErrorKind::SignInRequired, "ended", None);
        let ended = FailedFetch::after(Some(&second), ended, When::ended(later));
        assert_eq!(ended.polling(), None);
        assert!(!ended.is_pause_by_server());
    }

    /// A failed renewal is repeated while the token lives, unless it was refused for good or the server asked to wait.
    #[test]
    fn pause_is_shortened_only_after_a_transient_failure_without_a_wish_of_the_server() {
        let now = Moment::new(Duration::from_secs(7), Duration::from_secs(70));
        let too_many = |retry_after: Option<u64>| {
            TokenError::answer(
                TokenErrorKind::UnexpectedStatus,
                "too many",
                Answer::without_body(StatusCode::TOO_MANY_REQUESTS, HeaderMap::new()),
                None,
                retry_after.map(Duration::from_secs),
            )
        };
        for (name, error, left, expected) in [
            ("transient", error(false, None), 9, 3.0),
            ("transient, without a token", error(false, None), 0, 8.0),
            ("asked for nothing", error(false, Some(0)), 9, 3.0),
            ("final", error(true, None), 9, 40.0),
            ("asked to wait", error(false, Some(3)), 9, 8.0),
            ("asked to wait for long", error(false, Some(30)), 9, 30.0),
            ("429", too_many(None), 9, 8.0),
        ] {
            let mut last: Option<FailedFetch> = None;
            for _ in 0..4 {
                let when = When {
                    left: Duration::from_secs(left),
                    ..when(now, 1.0)
                };
                last = Some(FailedFetch::after(last.as_ref(), error.clone(), when));
            }
            let pause = last.unwrap().pause.as_secs_f64();
            assert!((pause - expected).abs() < 1e-6, "{name}: {pause}");
        }
    }

    #[test]
    fn failures_know_since_when_they_last_and_which_came_first() {
        let moment = |secs| Moment::new(Duration::from_secs(secs), Duration::from_secs(secs));
        let fail = |last: Option<&FailedFetch>, error, at| {
            FailedFetch::after(last, error, when(moment(at), 0.0))
        };
        let first = fail(None, error(false, None), 10);
        let second = fail(Some(&first), error(false, None), 15);
        let now = moment(20);
        assert_eq!(second.failing_for(now), Some(Duration::from_secs(10)));
        assert!(first.is_before(&second) && !second.is_before(&first));

        // Work on this host is timed by the monotonic clock, even if the wall clock is set back.
        let set_back = Moment::new(Duration::from_secs(16), Duration::from_secs(9));
        let later = FailedFetch::after(Some(&second), error(false, None), when(set_back, 0.0));
        assert!(first.is_before(&later) && second.is_before(&later));

        // The server was well in between.
        let pending = coded(ErrorCode::AUTHORIZATION_PENDING);
        let pending = fail(Some(&second), pending, 16);
        let third = fail(Some(&pending), error(false, None), 17);
        assert_eq!(third.failing_for(now), Some(Duration::from_secs(3)));
    }

    /// A pause is over when the host wakes up after it was suspended.
    #[test]
    fn pause_ends_when_either_clock_reaches_its_end() {
        let moment = |monotonic, wall| {
            Moment::new(Duration::from_secs(monotonic), Duration::from_secs(wall))
        };
        let failure = FailedFetch::after(None, error(false, Some(30)), when(moment(10, 10), 0.0));
        for (now, expected) in [
            (moment(39, 39), true),
            (moment(40, 39), false),
            (moment(11, 40), false),
        ] {
            assert_eq!(failure.is_pausing(now), expected, "{now:?}");
            assert_eq!(failure.server_asked_to_wait(now), expected, "{now:?}");
        }
    }

    fn coded(code: ErrorCode) -> TokenError {
        let response = ErrorResponse {
            code,
            description: None,
            uri: None,
        };
        TokenError::answer(
            TokenErrorKind::ErrorResponse,
            "refused",
            Answer::without_body(StatusCode::BAD_REQUEST, HeaderMap::new()),
            Some(response),
            None,
        )
    }

    fn when(now: Moment, jitter: f64) -> When {
        When {
            jitter,
            ..When::ended(now)
        }
    }

    fn error(is_terminal: bool, retry_after: Option<u64>) -> TokenError {
        let status = match is_terminal {
            true => StatusCode::BAD_REQUEST,
            false => StatusCode::SERVICE_UNAVAILABLE,
        };
        TokenError::answer(
            TokenErrorKind::UnexpectedStatus,
            "refused",
            Answer::new(status, HeaderMap::new(), Bytes::new()),
            None,
            retry_after.map(Duration::from_secs),
        )
    }
}
