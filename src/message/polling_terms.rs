//! How often and for how long a request may be polled.

use std::time::Duration;

use tokio::time::Instant;

/// What a response says about polling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PollingTimes {
    /// How long the user has to decide, if the server says so.
    pub(crate) expires_in: Option<Duration>,
    /// The shortest time between two polls.
    pub(crate) interval: Duration,
}

impl PollingTimes {
    /// How long a user has to decide if the server does not say it. Most servers have 5 to 30 minutes.
    pub(crate) const DEFAULT_LIFETIME: Duration = Duration::from_secs(30 * 60);

    /// Returns the terms of a response that was received at this time.
    pub(crate) fn terms(self, received_at: Instant) -> PollingTerms {
        PollingTerms {
            interval: Some(self.interval),
            validity: Some(Validity {
                begins_at: received_at,
                lifetime: self.expires_in.unwrap_or(Self::DEFAULT_LIFETIME),
            }),
        }
    }
}

/// How often and for how long a request may be polled, as far as it is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct PollingTerms {
    pub(crate) interval: Option<Duration>,
    pub(crate) validity: Option<Validity>,
}

impl PollingTerms {
    /// Returns how long to wait before the first poll: one interval after the response.
    ///
    /// The user needs longer than that, and some servers answer a poll right after the response with `slow_down`. If it is not known when
    /// the response was received, the first poll is due at once.
    pub(crate) fn until_first_poll(&self, interval: Duration, now: Instant) -> Duration {
        self.validity.map_or(Duration::ZERO, |validity| {
            interval.saturating_sub(validity.passed(now))
        })
    }

    /// Returns how much time the user has left, if that is known.
    pub(crate) fn left(&self, now: Instant) -> Option<Duration> {
        let validity = self.validity?;
        Some(validity.lifetime.saturating_sub(validity.passed(now)))
    }
}

/// The time in which a user has to decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Validity {
    begins_at: Instant,
    lifetime: Duration,
}

impl Validity {
    fn passed(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.begins_at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::tokio_now;

    #[test]
    fn time_that_has_passed_since_the_response_counts() {
        let secs = Duration::from_secs;
        let begin = tokio_now();
        let terms = |expires_in| {
            let times = PollingTimes {
                expires_in,
                interval: secs(5),
            };
            times.terms(begin)
        };
        for (expires_in, passed, until_first_poll, left) in [
            (Some(60), 0, 5, 60),
            (Some(60), 4, 1, 56),
            (Some(60), 5, 0, 55),
            (Some(60), 60, 0, 0),
            (Some(60), 6000, 0, 0),
            (None, 10, 0, 1790),
        ] {
            let terms = terms(expires_in.map(secs));
            let now = begin + secs(passed);
            let found = (terms.until_first_poll(secs(5), now), terms.left(now));
            let expected = (secs(until_first_poll), Some(secs(left)));
            assert_eq!(found, expected, "{expires_in:?} {passed}");
        }
        let unknown = PollingTerms::default();
        assert_eq!(unknown.until_first_poll(secs(5), begin), Duration::ZERO);
        assert_eq!(unknown.left(begin), None);
    }
}
