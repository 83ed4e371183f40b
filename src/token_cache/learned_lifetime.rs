//! Learns how long tokens live at a server that does not say so. Pure.

use std::time::Duration;

/// The lifetime that refusals of accepted tokens have taught.
///
/// Two refusals in a row, after about the same time, teach it. Each later token that is not refused lengthens it a little, up to the
/// default lifetime: the cause of the refusals may have gone.
#[derive(Debug, Default)]
pub(crate) struct LearnedLifetime {
    learned: Option<Duration>,
    /// The age of the last token that was refused.
    last_age: Option<Duration>,
    /// Whether no token has used the learned lifetime yet.
    is_new: bool,
}

/// A shorter lifetime is never learned: the cache fetches at most one token a second.
const SHORTEST: Duration = Duration::from_secs(1);
/// A token that is not refused lengthens the learned lifetime by this part of it.
const GROWTH: u32 = 32;
/// Two ages are about the same if they differ by at most this part of the greater one, and a second, in which servers count.
const TOLERANCE: u32 = 8;
const GRAIN: Duration = Duration::from_secs(1);

impl LearnedLifetime {
    /// Notes that a token of this age was refused by an origin that had accepted it. Returns the lifetime, if this has taught one.
    pub(crate) fn note_refusal(&mut self, age: Duration) -> Option<Duration> {
        let last = self.last_age.replace(age)?;
        let (less, more) = (age.min(last), age.max(last));
        if more - less > more / TOLERANCE + GRAIN {
            return None;
        }
        self.learned = Some(less.max(SHORTEST));
        self.is_new = true;
        self.learned
    }

    /// Returns the lifetime of a new token.
    pub(crate) fn of_next_token(&mut self, default: Duration) -> Duration {
        if !std::mem::take(&mut self.is_new) {
            self.learned = self
                .learned
                .map(|learned| learned.saturating_add(learned / GROWTH));
        }
        self.learned = self.learned.filter(|learned| *learned < default);
        self.learned.unwrap_or(default)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DEFAULT: Duration = Duration::from_secs(300);

    #[test]
    fn two_refusals_after_about_the_same_time_teach_the_shorter_one() {
        let secs = Duration::from_secs_f64;
        for (ages, expected) in [
            (&[][..], 300.0),
            (&[2.0], 300.0),
            (&[2.0, 2.1], 2.0),
            (&[1.1, 2.0], 1.1),
            // An operator revokes a token twice in an hour.
            (&[30.0, 200.0], 300.0),
            (&[100.0, 113.0], 100.0),
            (&[100.0, 117.0], 300.0),
            (&[13.0, 16.0], 13.0),
            (&[13.0, 16.01], 300.0),
            (&[30.0, 100.0, 105.0], 100.0),
            (&[2.0, 2.0, 60.0], 2.0),
            (&[2.0, 2.0, 60.0, 61.0], 60.0),
            (&[0.1, 0.1], 1.0),
            (&[0.0, 0.0], 1.0),
            (&[299.0, 299.0], 299.0),
            (&[300.0, 300.0], 300.0),
            (&[900.0, 900.0], 300.0),
        ] {
            let mut lifetime = LearnedLifetime::default();
            for age in ages {
                lifetime.note_refusal(secs(*age));
            }
            assert_eq!(lifetime.of_next_token(DEFAULT), secs(expected), "{ages:?}");
        }
    }

    #[test]
    fn learned_lifetime_grows_to_the_default_while_no_token_is_refused() {
        let mut lifetime = LearnedLifetime::default();
        for _ in 0..2 {
            lifetime.note_refusal(Duration::from_secs(2));
        }
        let lifetimes: Vec<_> = (0..200).map(|_| lifetime.of_next_token(DEFAULT)).collect();
        assert_eq!(lifetimes[0], Duration::from_secs(2));
        assert!(lifetimes.is_sorted());
        let until_default = lifetimes.iter().position(|it| *it == DEFAULT).unwrap();
        assert!((150..180).contains(&until_default), "{until_default}");
        let took: Duration = lifetimes[..until_default].iter().sum();
        println!("{until_default} tokens, {took:?}");
    }

    #[test]
    fn one_refusal_after_the_known_time_ends_the_growth() {
        let mut lifetime = LearnedLifetime::default();
        for _ in 0..2 {
            lifetime.note_refusal(Duration::from_secs(2));
        }
        for _ in 0..10 {
            lifetime.of_next_token(DEFAULT);
        }
        assert!(lifetime.of_next_token(DEFAULT) > Duration::from_millis(2_700));
        lifetime.note_refusal(Duration::from_millis(2_100));
        assert_eq!(lifetime.of_next_token(DEFAULT), Duration::from_secs(2));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// It is never longer than the default, and never shorter than a second unless the default is.
        #[test]
        fn lifetime_stays_between_a_second_and_the_default(
            default in any::<Duration>(),
            steps in prop::collection::vec(prop::option::of(any::<Duration>()), 0..100),
        ) {
            let mut lifetime = LearnedLifetime::default();
            for step in steps {
                match step {
                    Some(age) => drop(lifetime.note_refusal(age)),
                    None => {
                        let next = lifetime.of_next_token(default);
                        prop_assert!(next <= default && next >= default.min(SHORTEST), "{next:?}");
                    }
                }
            }
        }

        /// A server whose tokens live for a fixed time has each refused only once in a while.
        #[test]
        fn refusals_become_rare(life in 1.5..200.0_f64, late in prop::collection::vec(0.0..0.1_f64, 400)) {
            let mut lifetime = LearnedLifetime::default();
            let mut refused = 0;
            for late in late {
                let planned = lifetime.of_next_token(DEFAULT).as_secs_f64() * 0.8;
                if planned > life {
                    refused += 1;
                    lifetime.note_refusal(Duration::from_secs_f64(life + late));
                }
            }
            prop_assert!(refused <= 2 + 400 / 5, "{refused}");
        }
    }
}
