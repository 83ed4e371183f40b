//! How often tokens are replaced that were refused soon after they were issued. Pure.

use std::time::Duration;

use crate::base::{back_off::doubled, clock::Moment};

/// How often the tokens of an entry were refused of late, each in the first half of its life.
///
/// An API that refuses every token (a wrong audience) must not make everybody else's token new with each of its calls. So
/// two refusals in a row renew at once; after that one in a pause does, and the pause doubles.
#[derive(Default)]
pub(crate) struct Refusals {
    streak: u32,
    last: Option<Moment>,
    pause_until: Option<Moment>,
}

const FREE_REFUSALS: u32 = 2;
const FIRST_REFUSAL_PAUSE: Duration = Duration::from_secs(5);
const MAX_REFUSAL_PAUSE: Duration = Duration::from_secs(300);
/// After so long without a refusal, the next one is the first again.
const QUIET: Duration = Duration::from_secs(60);

impl Refusals {
    /// Notes that the token that is held was refused; says whether it is to be dropped.
    pub(crate) fn note(&mut self, now: Moment) -> bool {
        let pause = self.pause();
        let quiet = QUIET.max(pause.saturating_mul(2));
        if self
            .last
            .is_none_or(|last| now.has_reached(last.after(quiet)))
        {
            *self = Self::default();
        }
        self.last = Some(now);
        if self
            .pause_until
            .is_some_and(|until| !now.has_reached(until))
        {
            return false;
        }
        self.streak = self.streak.saturating_add(1);
        if self.streak >= FREE_REFUSALS {
            self.pause_until = Some(now.after(self.pause()));
        }
        true
    }

    /// The pause after the last of the refusals that were counted.
    fn pause(&self) -> Duration {
        match self.streak.checked_sub(FREE_REFUSALS) {
            Some(doublings) => doubled(FIRST_REFUSAL_PAUSE, doublings, MAX_REFUSAL_PAUSE),
            None => Duration::ZERO,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// However often tokens are refused, two are dropped at once and the third no sooner than the first pause later; and
        /// none is kept for longer than the longest pause.
        #[test]
        fn tokens_are_dropped_seldom_and_kept_for_a_while_only(
            steps in prop::collection::vec(prop_oneof![0..2_000_u64, 0..100_000_u64, 0..700_000_u64], 1..400),
        ) {
            let mut refusals = Refusals::default();
            let mut now = Duration::ZERO;
            let mut dropped = Vec::new();
            for step in steps {
                now += Duration::from_millis(step);
                if refusals.note(Moment::new(now, now)) {
                    dropped.push(now);
                } else {
                    let last = dropped.last().copied();
                    prop_assert!(last.is_some_and(|last| now - last < MAX_REFUSAL_PAUSE), "{last:?} {now:?}");
                }
            }
            for three in dropped.windows(3) {
                prop_assert!(three[2] - three[0] >= FIRST_REFUSAL_PAUSE, "{dropped:?}");
            }
        }
    }
}
