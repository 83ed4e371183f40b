//! When a token is renewed, as parts of its own lifetime.

use std::{ops::RangeInclusive, time::Duration};

/// When a token is renewed before it expires, as parts of its own lifetime.
///
/// A token is *fresh* until a point that is drawn anew for each token out of a range; from there to its end it is *stale*:
/// still served, while a renewal runs. Parts of the lifetime, not a fixed margin: no margin can then exceed a lifetime.
///
/// # Defaults
///
/// * The first renewal is drawn from 0.4 to 0.9 of the lifetime. Instances that started together (a deployment) would else
///   renew together for ever.
/// * Later renewals are drawn from 0.75 to 0.85: what the first has spread stays spread, and few requests are spent.
/// * A token ends a little before the server says so: a twentieth of its lifetime, at least 10 milliseconds (the grain of
///   the clock) and at most 10 seconds (a slow call that is on its way). One that lives no longer than those 10 milliseconds goes
///   to those who waited for it, and to nobody after them.
///
/// # What they mean for a fleet
///
/// Simulated (`cargo bench --bench fleet`) with 10,000 instances that start in the same moment, over an hour with tokens of five
/// minutes: from the second lifetime
/// on, the busiest ten seconds see 1.7 times the mean rate of token requests, at 1.25 requests a lifetime and instance. Without the
/// wide first range all of them would come at once, 25 times the mean, for ever.
///
/// A server that is down is bridged for as long as a token has left when its renewal is due: of a token of five minutes that is 35 to
/// 65 seconds (the leeway counted), of one of an hour 9 to 15 minutes, and for the very first one 6 at least. Where an authorization
/// server may be down for longer, ask it for longer tokens, or renew earlier: around 0.7 instead of 0.8 it is 1.4 requests a lifetime
/// instead of 1.25. While it is down, instances try again after pauses that grow from one second to one minute and
/// are drawn by chance, so that it is not met by all of them when it is back.
///
/// # How often at most
///
/// With these, at most two fetches succeed in one lifetime, however often callers ask. So it is with any bounds from 0.5 on;
/// below, it is one fetch for each such part.
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

/// The end of a token comes so much before the server's word.
const LEEWAY: f64 = 0.05;
const MIN_LEEWAY: Duration = Duration::from_millis(10);
const MAX_LEEWAY: Duration = Duration::from_secs(10);

/// No renewal is planned earlier than this part, so that a token is always fresh for a while.
const EARLIEST: f64 = 0.05;
/// Nor later than this one: the rest is the leeway.
const LATEST: f64 = 1.0 - LEEWAY;

impl RefreshWindow {
    /// The defaults.
    #[must_use]
    pub fn new() -> Self {
        Self {
            first: 0.4..=0.9,
            later: 0.75..=0.85,
        }
    }

    /// From which part of the lifetime to which the first renewal is drawn. Default is `0.4..=0.9`. Bounds outside of
    /// `0.05..=0.95` are taken as those, and NaN as the lower one.
    #[must_use]
    pub fn first(mut self, parts: RangeInclusive<f64>) -> Self {
        self.first = parts;
        self
    }

    /// From which part of the lifetime to which each later renewal is drawn. Default is `0.75..=0.85`. Bounds outside of
    /// `0.05..=0.95` are taken as those, and NaN as the lower one.
    #[must_use]
    pub fn later(mut self, parts: RangeInclusive<f64>) -> Self {
        self.later = parts;
        self
    }

    /// The windows of a token with this lifetime. `jitter` is from 0 to 1.
    pub(crate) fn of(&self, lifetime: Duration, is_first: bool, jitter: f64) -> Lifespan {
        let parts = if is_first { &self.first } else { &self.later };
        let [start, end] = [*parts.start(), *parts.end()].map(sensible);
        let usable = lifetime.saturating_sub(leeway(lifetime));
        let fresh = lifetime.mul_f64(start + (end - start) * jitter);
        Lifespan {
            fresh: fresh.min(usable),
            usable,
            lifetime,
        }
    }
}

impl Default for RefreshWindow {
    fn default() -> Self {
        Self::new()
    }
}

/// The nearest part that makes sense; what is no number is near to none of them.
fn sensible(part: f64) -> f64 {
    if part.is_nan() {
        return EARLIEST;
    }
    part.clamp(EARLIEST, LATEST)
}

fn leeway(lifetime: Duration) -> Duration {
    lifetime.mul_f64(LEEWAY).clamp(MIN_LEEWAY, MAX_LEEWAY)
}

/// How long a token is fresh, can be used, and lives by the server's word, from the moment at which the request for it was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lifespan {
    pub(crate) fresh: Duration,
    pub(crate) usable: Duration,
    pub(crate) lifetime: Duration,
}

impl Lifespan {
    /// The same, but fresh for as long as the server wants, if it said so; at least for half of its use, since a token that is
    /// stale at once would be renewed without end.
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
    fn the_windows_of_typical_lifetimes() {
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
            let windows = window.of(lifetime, is_first, jitter);
            let expected = Lifespan {
                lifetime,
                fresh: Duration::from_secs_f64(fresh),
                usable: Duration::from_secs_f64(usable),
            };
            assert_eq!(windows, expected, "{lifetime:?} {is_first} {jitter}");
        }
    }

    #[test]
    fn bounds_that_make_no_sense_are_taken_as_the_nearest_that_do() {
        let lifetime = Duration::from_secs(100);
        let window = RefreshWindow::new().first(-1.0..=7.0);
        assert_eq!(window.of(lifetime, true, 0.0).fresh, Duration::from_secs(5));
        assert_eq!(
            window.of(lifetime, true, 1.0).fresh,
            Duration::from_secs(95)
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// A token whose lifetime is above the least leeway is fresh for a while, and always stale before it is over; one
        /// below goes to those who waited for it, and is over then.
        #[test]
        fn a_token_is_fresh_then_stale_then_over(
            lifetime in lifetimes(),
            bounds in [ANY, ANY, ANY, ANY],
            is_first: bool,
            jitter in 0.0..1.0,
        ) {
            let window = RefreshWindow::new().first(bounds[0]..=bounds[1]).later(bounds[2]..=bounds[3]);
            let Lifespan { fresh, usable, .. } = window.of(lifetime, is_first, jitter);
            prop_assert!(fresh <= usable, "{fresh:?} {usable:?}");
            prop_assert_eq!(fresh.is_zero(), lifetime <= MIN_LEEWAY);
            prop_assert_eq!(usable.is_zero(), lifetime <= MIN_LEEWAY);
            let leeway = lifetime - usable;
            prop_assert!(leeway >= MIN_LEEWAY.min(lifetime) && leeway <= MAX_LEEWAY, "{leeway:?}");
        }

        /// In any order of the bounds, the point lies between them, as far as they make sense.
        #[test]
        fn the_stale_point_lies_between_the_bounds(
            seconds in 1.0..315_360_000.0,
            [a, b] in [-2.0..3.0, -2.0..3.0],
            jitter in 0.0..1.0,
        ) {
            let lifetime = Duration::from_secs_f64(seconds);
            let window = RefreshWindow::new().later(a..=b);
            let Lifespan { fresh, usable, .. } = window.of(lifetime, false, jitter);
            let part = |part: f64| lifetime.mul_f64(part.clamp(EARLIEST, LATEST)).min(usable);
            let grain = Duration::from_micros(1);
            prop_assert!(fresh + grain >= part(a.min(b)), "{fresh:?}");
            prop_assert!(fresh <= part(a.max(b)) + grain, "{fresh:?}");
        }

        #[test]
        fn a_servers_word_does_not_make_a_token_fresh_beyond_its_end(
            lifetime in lifetimes(),
            refresh_in in prop::option::of(lifetimes()),
            jitter in 0.0..1.0,
        ) {
            let planned = RefreshWindow::new().of(lifetime, true, jitter);
            let windows = planned.renewed_in(refresh_in);
            prop_assert!(windows.fresh <= windows.usable);
            prop_assert_eq!(windows.usable, planned.usable);
            prop_assert_eq!(windows.fresh.is_zero(), lifetime <= MIN_LEEWAY);
        }
    }

    /// From none to ten years, as an answer says it, and all that a setter of the cache takes.
    fn lifetimes() -> impl Strategy<Value = Duration> {
        prop_oneof![
            (0..=30_000_000_u64).prop_map(Duration::from_nanos),
            (0..=60_000_u64).prop_map(Duration::from_millis),
            (0.0..=315_360_000.0).prop_map(Duration::from_secs_f64),
            any::<Duration>(),
        ]
    }
}
