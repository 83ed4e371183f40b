//! When a token is renewed, as fractions of its own lifetime. Pure.

use std::{ops::RangeInclusive, time::Duration};

/// Decides when a token is renewed before it expires, as fractions of its own lifetime.
///
/// A token is *fresh* until a point that is chosen randomly for each token, within a range. From there until it expires it is
/// *stale*: still served, while a renewal runs. The range consists of fractions of the lifetime, not of fixed margins, because a
/// fixed margin can exceed a short lifetime.
///
/// # Defaults
///
/// * The first renewal is between 0.4 and 0.9 of the lifetime. Instances that started together (a deployment) would otherwise renew
///   together forever.
/// * Later renewals are between 0.75 and 0.85: the instances stay spread out, and few requests are sent.
/// * A token expires a little before the server says so. This leeway is a twentieth of the lifetime, at least 10 milliseconds (the
///   resolution of the clock) and at most 10 seconds (for a slow call that is on its way). A token that lives no longer than 10
///   milliseconds goes to the callers that waited for it, and to nobody after them.
///
/// # In a fleet
///
/// `cargo bench --bench fleet` simulates 10,000 instances that start at the same moment, over an hour with tokens of five minutes.
/// From the second lifetime on, the busiest ten seconds see 1.7 times the mean rate of token requests, at 1.25 requests per lifetime
/// and instance. Without the wide first range all of them would come at once: 25 times the mean, forever.
///
/// While a server is down, callers are served for as long as their token has left when its renewal is due. For a token of five
/// minutes that is 35 to 65 seconds (including the leeway), for one of an hour 9 to 15 minutes, and for the very first one at least
/// 6. If an authorization server may be down for longer, ask it for longer tokens, or renew earlier: around 0.7 instead of 0.8 takes
/// 1.4 requests per lifetime instead of 1.25. While the server is down, instances try again after pauses that grow from one second to
/// one minute and are partly random, so that not all of them meet it at the moment it is back.
///
/// # Rate limit
///
/// With the defaults, at most two fetches succeed in one lifetime, however often callers ask. The same holds for all bounds of 0.5 or
/// more. With a smaller bound, at most one fetch succeeds in each such fraction of the lifetime.
///
/// # Examples
///
/// ```
/// use tower_oauth2_client::RefreshWindow;
///
/// let early = RefreshWindow::new().first(0.3..=0.6).later(0.5..=0.6);
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct RefreshWindow {
    first: RangeInclusive<f64>,
    later: RangeInclusive<f64>,
}

/// A token expires this much before the server says so.
const LEEWAY: f64 = 0.05;
const MIN_LEEWAY: Duration = Duration::from_millis(10);
const MAX_LEEWAY: Duration = Duration::from_secs(10);

/// No renewal is planned earlier, so that each token is fresh for a while.
const EARLIEST: f64 = 0.05;
/// No renewal is planned later: the rest is the leeway.
const LATEST: f64 = 1.0 - LEEWAY;

impl RefreshWindow {
    /// Creates the default window.
    #[must_use]
    pub fn new() -> Self {
        Self {
            first: 0.4..=0.9,
            later: 0.75..=0.85,
        }
    }

    /// Sets the range of the first renewal, in fractions of the lifetime. Default is `0.4..=0.9`.
    ///
    /// Bounds outside of `0.05..=0.95` are moved to the nearest bound inside; NaN counts as 0.05.
    #[must_use]
    pub fn first(mut self, range: RangeInclusive<f64>) -> Self {
        self.first = range;
        self
    }

    /// Sets the range of each later renewal, in fractions of the lifetime. Default is `0.75..=0.85`.
    ///
    /// Bounds outside of `0.05..=0.95` are moved to the nearest bound inside; NaN counts as 0.05.
    #[must_use]
    pub fn later(mut self, range: RangeInclusive<f64>) -> Self {
        self.later = range;
        self
    }

    /// Returns the lifespan of a token with this lifetime. `jitter` is from 0 to 1.
    pub(crate) fn lifespan(&self, lifetime: Duration, is_first: bool, jitter: f64) -> Lifespan {
        let range = if is_first { &self.first } else { &self.later };
        let [start, end] = [*range.start(), *range.end()].map(clamped);
        let usable = usable(lifetime);
        let fresh = lifetime.mul_f64(start + (end - start) * jitter);
        Lifespan {
            fresh: fresh.min(usable),
            usable,
            lifetime,
            age: Duration::ZERO,
        }
    }

    /// Returns the lifespan of a token that another instance fetched, at this age.
    ///
    /// That instance renews it. The others are later, so that a fleet renews no more often than one process. Those whose turn
    /// comes find the new token, or one of them renews if that instance is gone.
    pub(crate) fn lifespan_of_shared(
        &self,
        lifetime: Duration,
        refresh_in: Option<Duration>,
        age: Duration,
        jitter: f64,
    ) -> Lifespan {
        let latest = self.lifespan(lifetime, false, 1.0).renewed_in(refresh_in);
        let Lifespan { fresh, usable, .. } = latest;
        let later = (usable - fresh).mul_f64(SHARED_FROM + (SHARED_TO - SHARED_FROM) * jitter);
        Lifespan {
            fresh: (fresh + later).saturating_sub(age),
            usable: usable.saturating_sub(age),
            lifetime: lifetime.saturating_sub(age),
            age,
        }
    }
}

/// Where in the time after the latest renewal others renew.
const SHARED_FROM: f64 = 0.2;
const SHARED_TO: f64 = 0.8;

impl Default for RefreshWindow {
    fn default() -> Self {
        Self::new()
    }
}

fn clamped(bound: f64) -> f64 {
    if bound.is_nan() {
        return EARLIEST;
    }
    bound.clamp(EARLIEST, LATEST)
}

/// Returns for how much of this lifetime a token is usable.
pub(crate) fn usable(lifetime: Duration) -> Duration {
    lifetime.saturating_sub(leeway(lifetime))
}

fn leeway(lifetime: Duration) -> Duration {
    lifetime.mul_f64(LEEWAY).clamp(MIN_LEEWAY, MAX_LEEWAY)
}

/// How long a token is fresh, is usable, and lives according to the server. All of them count from just before its request was sent, or
/// from when it was found in a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lifespan {
    pub(crate) fresh: Duration,
    pub(crate) usable: Duration,
    pub(crate) lifetime: Duration,
    /// How old the token already was.
    pub(crate) age: Duration,
}

impl Lifespan {
    /// How long the token is in the first half of its life.
    pub(crate) fn young(self) -> Duration {
        ((self.lifetime.saturating_add(self.age)) / 2).saturating_sub(self.age)
    }

    /// Sets `fresh` to what the server asks for, if it does.
    ///
    /// The token stays fresh for at least half of its use, because one that is stale at once would be renewed endlessly.
    pub(crate) fn renewed_in(self, refresh_in: Option<Duration>) -> Self {
        let fresh = refresh_in.map(|fresh| fresh.clamp(self.usable / 2, self.usable));
        Self {
            fresh: fresh.unwrap_or(self.fresh),
            ..self
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::{num::f64::ANY, prelude::*};

    use super::*;

    #[test]
    fn lifespans_of_typical_lifetimes() {
        let window = RefreshWindow::new();
        for (lifetime, is_first, jitter, fresh, usable) in [
            (3600.0, true, 0.0, 1440.0, 3590.0),
            (3600.0, true, 1.0, 3240.0, 3590.0),
            (3600.0, false, 0.0, 2700.0, 3590.0),
            (3600.0, false, 1.0, 3060.0, 3590.0),
            (60.0, false, 0.5, 48.0, 57.0),
            (1.0, false, 0.5, 0.8, 0.95),
            (0.1, false, 0.5, 0.08, 0.09),
            (0.01, false, 0.5, 0.0, 0.0),
            (0.0, true, 0.5, 0.0, 0.0),
        ] {
            let lifetime = Duration::from_secs_f64(lifetime);
            let lifespan = window.lifespan(lifetime, is_first, jitter);
            let expected = Lifespan {
                lifetime,
                age: Duration::ZERO,
                fresh: Duration::from_secs_f64(fresh),
                usable: Duration::from_secs_f64(usable),
            };
            assert_eq!(lifespan, expected, "{lifetime:?} {is_first} {jitter}");
        }
    }

    #[test]
    fn bounds_outside_of_the_valid_range_are_clamped() {
        let lifetime = Duration::from_secs(100);
        let window = RefreshWindow::new().first(-1.0..=7.0);
        assert_eq!(
            window.lifespan(lifetime, true, 0.0).fresh,
            Duration::from_secs(5)
        );
        assert_eq!(
            window.lifespan(lifetime, true, 1.0).fresh,
            Duration::from_secs(95)
        );
        for range in [f64::NAN..=f64::NAN, 0.0..=f64::NAN, f64::NAN..=0.05] {
            let window = RefreshWindow::new().later(range.clone());
            for jitter in [0.0, 1.0] {
                let fresh = window.lifespan(lifetime, false, jitter).fresh;
                assert_eq!(fresh, Duration::from_secs(5), "{range:?} {jitter}");
            }
        }
    }

    #[test]
    fn token_that_the_server_wants_renewed_early_stays_fresh_for_half_of_its_use() {
        let secs = Duration::from_secs;
        let planned = RefreshWindow::new().lifespan(secs(100), false, 0.5);
        for (refresh_in, expected) in [
            (None, secs(80)),
            (Some(0), Duration::from_millis(47_500)),
            (Some(47), Duration::from_millis(47_500)),
            (Some(48), secs(48)),
            (Some(95), secs(95)),
            (Some(96), secs(95)),
        ] {
            let lifespan = planned.renewed_in(refresh_in.map(secs));
            assert_eq!(lifespan.fresh, expected, "{refresh_in:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// A token that lives longer than the least leeway is fresh for a while, and never fresh after it expired. One that does not
        /// is never usable.
        #[test]
        fn token_is_fresh_then_stale_then_expired(
            lifetime in lifetimes(),
            bounds in [ANY, ANY, ANY, ANY],
            is_first: bool,
            jitter in 0.0..1.0,
        ) {
            let window = RefreshWindow::new().first(bounds[0]..=bounds[1]).later(bounds[2]..=bounds[3]);
            let Lifespan { fresh, usable, .. } = window.lifespan(lifetime, is_first, jitter);
            prop_assert!(fresh <= usable, "{fresh:?} {usable:?}");
            prop_assert_eq!(fresh.is_zero(), lifetime <= MIN_LEEWAY);
            prop_assert_eq!(usable.is_zero(), lifetime <= MIN_LEEWAY);
            let leeway = lifetime - usable;
            prop_assert!(leeway >= MIN_LEEWAY.min(lifetime) && leeway <= MAX_LEEWAY, "{leeway:?}");
        }

        /// Holds for both orders of the bounds, once they are clamped.
        #[test]
        fn stale_point_lies_between_the_bounds(
            seconds in 1.0..315_360_000.0,
            [a, b] in [-2.0..3.0, -2.0..3.0],
            jitter in 0.0..1.0,
        ) {
            let lifetime = Duration::from_secs_f64(seconds);
            let window = RefreshWindow::new().later(a..=b);
            let Lifespan { fresh, usable, .. } = window.lifespan(lifetime, false, jitter);
            let point = |bound: f64| lifetime.mul_f64(bound.clamp(EARLIEST, LATEST)).min(usable);
            let grain = Duration::from_micros(1);
            prop_assert!(fresh + grain >= point(a.min(b)), "{fresh:?}");
            prop_assert!(fresh <= point(a.max(b)) + grain, "{fresh:?}");
        }

        #[test]
        fn refresh_in_does_not_keep_a_token_fresh_after_it_expires(
            lifetime in lifetimes(),
            refresh_in in prop::option::of(lifetimes()),
            jitter in 0.0..1.0,
        ) {
            let planned = RefreshWindow::new().lifespan(lifetime, true, jitter);
            let lifespan = planned.renewed_in(refresh_in);
            prop_assert!(lifespan.fresh <= lifespan.usable);
            prop_assert_eq!(lifespan.usable, planned.usable);
            prop_assert_eq!(lifespan.fresh.is_zero(), lifetime <= MIN_LEEWAY);
        }
    }

    /// From zero to ten years, as a response may say, and everything that the setters of the cache accept.
    fn lifetimes() -> impl Strategy<Value = Duration> {
        prop_oneof![
            (0..=30_000_000_u64).prop_map(Duration::from_nanos),
            (0..=60_000_u64).prop_map(Duration::from_millis),
            (0.0..=315_360_000.0).prop_map(Duration::from_secs_f64),
            any::<Duration>(),
        ]
    }
}
