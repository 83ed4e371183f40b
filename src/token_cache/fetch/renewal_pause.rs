//! The pause after a failed renewal while the old token is still usable. Pure.

use std::time::Duration;

use crate::base::back_off;

/// How many renewals the shortened pauses fit into the rest of a token's life, including the first one.
const ATTEMPTS: u32 = 6;

/// Shortened pauses are at least this long, plus up to a quarter of it.
const LEAST: Duration = Duration::from_secs(1);

/// Returns the pause after `failures` failed renewals in a row, while the token remains usable for `left`.
///
/// It is `usual`, or shorter if `usual` would leave too few attempts: those that remain share the rest of the life evenly. After the
/// last of them, the next attempt follows when the token expires. `jitter` is from 0 to 1.
pub(crate) fn renewal_pause(
    usual: Duration,
    left: Duration,
    failures: u32,
    jitter: f64,
) -> Duration {
    let fitting = match ATTEMPTS.saturating_sub(failures) {
        0 => left,
        remaining => back_off::jittered(left / (remaining + 1), jitter),
    };
    usual.min(fitting.max(LEAST.mul_f64(1.0 + jitter / 4.0)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn pauses_fit_into_the_rest_of_the_life() {
        for (usual, left, failures, jitter, expected) in [
            // The rest of the life is long: the usual pause leaves enough attempts.
            (1.0, 45.0, 1, 1.0, 1.0),
            (2.0, 600.0, 2, 0.5, 2.0),
            (16.0, 600.0, 5, 1.0, 16.0),
            (60.0, 600.0, 9, 1.0, 60.0),
            // It is short: the remaining attempts share it.
            (2.0, 9.0, 2, 1.0, 1.8),
            (8.0, 9.0, 4, 1.0, 3.0),
            (16.0, 9.0, 5, 1.0, 4.5),
            (16.0, 9.0, 5, 0.0, 2.25),
            // After the sixth, the next attempt follows when the token expires.
            (32.0, 9.0, 6, 0.0, 9.0),
            (60.0, 45.0, 20, 1.0, 45.0),
            // Never more than one a second.
            (4.0, 0.5, 3, 0.0, 1.0),
            (4.0, 0.5, 3, 1.0, 1.25),
            (32.0, 0.001, 6, 0.0, 1.0),
        ] {
            let [usual, left, expected] = [usual, left, expected].map(Duration::from_secs_f64);
            let pause = renewal_pause(usual, left, failures, jitter);
            assert_eq!(pause, expected, "{usual:?} {left:?} {failures} {jitter}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn pause_is_never_longer_than_usual_and_never_shorter_than_a_second_unless_the_usual_one_is(
            usual in 0..120_000_u64,
            left in 0..4_000_000_u64,
            failures in 1..40_u32,
            jitter in 0.0..1.0,
        ) {
            let [usual, left] = [usual, left].map(Duration::from_millis);
            let pause = renewal_pause(usual, left, failures, jitter);
            prop_assert!(pause <= usual);
            prop_assert!(pause >= usual.min(LEAST));
            // It does not outlast the life by more than a little.
            prop_assert!(pause <= left.max(LEAST + LEAST / 4));
        }

        /// Whatever the back-off asks for: an outage costs six attempts where the pauses are shortened, and none outlasts the life.
        #[test]
        fn six_attempts_fit_if_there_is_a_second_for_each_and_no_more_than_six_are_squeezed_in(
            life in 8_000..30_000_u64,
            usual in 30_000..120_000_u64,
            jitters in prop::collection::vec(0.0..1.0, 20),
        ) {
            let [life, usual] = [life, usual].map(Duration::from_millis);
            let mut now = Duration::ZERO;
            let mut attempts = 0;
            for jitter in jitters {
                attempts += 1;
                now += renewal_pause(usual, life - now, attempts, jitter);
                if now >= life {
                    break;
                }
            }
            prop_assert_eq!(attempts, ATTEMPTS);
            prop_assert!(now >= life && now <= life + LEAST * 2);
        }
    }
}
