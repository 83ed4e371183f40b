//! How long to pause after failures. Pure.

use std::time::Duration;

/// A pause that starts at `first` and doubles `doublings` times, up to `max`.
pub(crate) fn doubled(first: Duration, doublings: u32, max: Duration) -> Duration {
    first
        .saturating_mul(2_u32.saturating_pow(doublings))
        .min(max)
}

/// A point in the upper half of `pause`. `jitter` is from 0 to 1.
///
/// Random pauses keep clients that failed together from returning together.
pub(crate) fn jittered(pause: Duration, jitter: f64) -> Duration {
    pause.mul_f64(0.5 + jitter / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pause_doubles_up_to_its_maximum() {
        let [first, max] = [1, 60].map(Duration::from_secs);
        for (doublings, expected) in [(0, 1), (1, 2), (5, 32), (6, 60), (40, 60), (u32::MAX, 60)] {
            let pause = doubled(first, doublings, max);
            assert_eq!(pause, Duration::from_secs(expected), "{doublings}");
        }
    }

    #[test]
    fn jitter_stays_in_the_upper_half() {
        let pause = Duration::from_secs(10);
        for (jitter, expected) in [(0.0, 5.0), (0.5, 7.5), (1.0, 10.0)] {
            assert_eq!(jittered(pause, jitter), Duration::from_secs_f64(expected));
        }
    }
}
