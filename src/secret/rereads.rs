//! How often a provider is asked a second time because a server refused its text. Pure, except for its lock.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use crate::base::{back_off, clock::Moment};

/// The second readings of one provider, shared by the clones of its credential, so that many tokens cannot lock one account.
///
/// The lock is behind a trait object, because clippy would otherwise warn everybody who uses a request as the key of a map. Requests are
/// not compared by it.
#[derive(Clone)]
pub(crate) struct SharedRereads(Arc<dyn Count + Send + Sync>);

trait Count {
    fn are_paused(&self, now: Moment) -> bool;
    fn note(&self, is_success: bool, now: Moment);
}

impl SharedRereads {
    pub(crate) fn are_paused(&self, now: Moment) -> bool {
        self.0.are_paused(now)
    }

    pub(crate) fn note(&self, is_success: bool, now: Moment) {
        self.0.note(is_success, now);
    }
}

impl Default for SharedRereads {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Rereads::default())))
    }
}

/// Nothing panics while the lock is held, so a poisoned lock is sound.
impl Count for Mutex<Rereads> {
    fn are_paused(&self, now: Moment) -> bool {
        let rereads = self.lock().unwrap_or_else(PoisonError::into_inner);
        rereads.are_paused(now)
    }

    fn note(&self, is_success: bool, now: Moment) {
        let mut rereads = self.lock().unwrap_or_else(PoisonError::into_inner);
        rereads.note(is_success, now);
    }
}

/// Counts the second readings in a row that did not help: the text was the same, or the server refused the new one as well.
///
/// Servers lock accounts after some wrong secrets. So after two such readings the provider is asked once per attempt for a while, as
/// usual. The pauses double.
#[derive(Default)]
struct Rereads {
    streak: u32,
    last: Option<Moment>,
}

const FREE_REREADS: u32 = 2;
const FIRST_PAUSE: Duration = Duration::from_secs(60);
const MAX_PAUSE: Duration = Duration::from_secs(60 * 60);

impl Rereads {
    fn are_paused(&self, now: Moment) -> bool {
        let pause = self.pause();
        self.last
            .is_some_and(|last| !pause.is_zero() && !now.has_reached(last.after(pause)))
    }

    fn note(&mut self, is_success: bool, now: Moment) {
        // After a long time in which no text was refused, the next refusal counts as the first.
        let quiet = self.pause().max(FIRST_PAUSE).saturating_mul(2);
        let is_new = |last: Moment| now.has_reached(last.after(quiet));
        if is_success || self.last.is_some_and(is_new) {
            *self = Self::default();
        }
        if !is_success {
            self.streak = self.streak.saturating_add(1);
            self.last = Some(now);
        }
    }

    /// Returns the pause after the last reading.
    fn pause(&self) -> Duration {
        match self.streak.checked_sub(FREE_REREADS) {
            Some(doublings) => back_off::doubled(FIRST_PAUSE, doublings, MAX_PAUSE),
            None => Duration::ZERO,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(seconds: u64) -> Moment {
        let time = Duration::from_secs(1000 + seconds);
        Moment::new(time, time)
    }

    #[test]
    fn two_readings_without_success_pause_the_third() {
        let mut rereads = Rereads::default();
        for (seconds, is_paused) in [
            (0, false),
            (1, false),
            (2, true),
            (60, true),
            (61, false), // the third
            (62, true),
            (180, true),
            (181, false), // the fourth
            (420, true),
            (421, false),
        ] {
            assert_eq!(rereads.are_paused(at(seconds)), is_paused, "{seconds}");
            if !is_paused {
                rereads.note(false, at(seconds));
            }
        }
        rereads.note(true, at(430));
        assert!(!rereads.are_paused(at(430)));
    }

    #[test]
    fn a_refusal_after_a_quiet_time_counts_as_the_first() {
        let mut rereads = Rereads::default();
        for seconds in [0, 1, 1000, 1001] {
            assert!(!rereads.are_paused(at(seconds)), "{seconds}");
            rereads.note(false, at(seconds));
        }
        assert!(rereads.are_paused(at(1002)));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// However often a server refuses: two readings at once, and then no three within a minute, and none waits for over an hour.
        #[test]
        fn readings_without_success_are_rare(steps in prop::collection::vec(0..5_000_u64, 1..300)) {
            let mut rereads = Rereads::default();
            let mut now = 0;
            let mut read = Vec::new();
            for step in steps {
                now += step;
                if rereads.are_paused(at(now)) {
                    prop_assert!(read.last().is_some_and(|last| now - last < MAX_PAUSE.as_secs()));
                } else {
                    rereads.note(false, at(now));
                    read.push(now);
                }
            }
            for three in read.windows(3) {
                prop_assert!(three[2] - three[0] >= FIRST_PAUSE.as_secs(), "{read:?}");
            }
        }
    }
}
