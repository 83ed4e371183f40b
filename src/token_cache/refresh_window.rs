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
///   the clock) and at most 10 seconds (a slow call that is on its way).
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
    /// `0.05..=0.95` are taken as those.
    #[must_use]
    pub fn first(mut self, parts: RangeInclusive<f64>) -> Self {
        self.first = parts;
        self
    }

    /// From which part of the lifetime to which each later renewal is drawn. Default is `0.75..=0.85`. Bounds outside of
    /// `0.05..=0.95` are taken as those.
    #[must_use]
    pub fn later(mut self, parts: RangeInclusive<f64>) -> Self {
        self.later = parts;
        self
    }

    /// The windows of a token with this lifetime. `jitter` is from 0 to 1.
    pub(crate) fn of(&self, lifetime: Duration, is_first: bool, jitter: f64) -> Windows {
        let parts = if is_first { &self.first } else { &self.later };
        let [start, end] = [*parts.start(), *parts.end()].map(|part| part.clamp(EARLIEST, LATEST));
        let usable = lifetime.saturating_sub(leeway(lifetime));
        let fresh = lifetime.mul_f64(start + (end - start) * jitter);
        Windows {
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

fn leeway(lifetime: Duration) -> Duration {
    lifetime.mul_f64(LEEWAY).clamp(MIN_LEEWAY, MAX_LEEWAY)
}

/// How long a token is fresh, can be used, and lives by the server's word, from the moment at which the request for it was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Windows {
    pub(crate) fresh: Duration,
    pub(crate) usable: Duration,
    pub(crate) lifetime: Duration,
}

impl Windows {
    /// The same, but fresh for as long as the server wants, if it said so. Zero would be a renewal without end.
    pub(crate) fn renewed_in(self, refresh_in: Option<Duration>) -> Self {
        match refresh_in {
            Some(fresh) if !fresh.is_zero() => Self {
                fresh: fresh.min(self.usable),
                ..self
            },
            _ => self,
        }
    }
}

#[cfg(test)]
mod tests {
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
            let expected = Windows {
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
}
