//! How often stronger tokens are requested for one source. Pure.

use std::time::Duration;

use crate::base::{back_off, clock::Moment};

const FIRST_PAUSE: Duration = Duration::from_secs(5);
const MAX_PAUSE: Duration = Duration::from_secs(300);
/// After this time without a round, the rounds before no longer count.
const QUIET: Duration = Duration::from_secs(600);

/// The rounds of one source. In each round another stronger token is requested.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pace {
    rounds: u32,
    failures: u32,
    last_round: Option<Moment>,
    next_at: Option<Moment>,
}

impl Pace {
    /// Starts a round, unless there is a pause. `max_rounds` rounds in a row need no pause.
    pub(crate) fn start_round(&mut self, now: Moment, max_rounds: u32) -> bool {
        if self
            .next_at
            .is_some_and(|next_at| !now.has_outlasted(next_at))
        {
            return false;
        }
        let quiet_from = self.last_round.map(|last| last.after(QUIET));
        if quiet_from.is_some_and(|quiet_from| now.has_outlasted(quiet_from)) {
            *self = Self::default();
        }
        self.rounds = self.rounds.saturating_add(1);
        self.last_round = Some(now);
        self.next_at = self.rounds.checked_sub(max_rounds).map(|more| {
            let pause = back_off::doubled(FIRST_PAUSE, more, MAX_PAUSE);
            now.after(pause)
        });
        true
    }

    /// Notes that the token of a round could not be fetched.
    pub(crate) fn note_failure(&mut self, now: Moment, retry_after: Option<Duration>) {
        let pause = back_off::doubled(FIRST_PAUSE, self.failures, MAX_PAUSE)
            .max(retry_after.unwrap_or_default().min(MAX_PAUSE));
        self.failures = self.failures.saturating_add(1);
        let next_at = now.after(pause);
        if self
            .next_at
            .is_none_or(|earlier| next_at.has_outlasted(earlier))
        {
            self.next_at = Some(next_at);
        }
    }

    /// Notes that the token of a round was fetched.
    pub(crate) fn note_success(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start() -> Moment {
        Moment::new(Duration::from_secs(7), Duration::from_secs(70))
    }

    fn seconds(seconds: u64) -> Moment {
        start().after(Duration::from_secs(seconds))
    }

    /// When rounds start, if one is demanded each second.
    fn rounds(max_rounds: u32, until: u64) -> Vec<u64> {
        let mut pace = Pace::default();
        (0..until)
            .filter(|second| pace.start_round(seconds(*second), max_rounds))
            .collect()
    }

    #[test]
    fn rounds_in_a_row_are_followed_by_pauses_that_double() {
        assert_eq!(rounds(3, 80), [0, 1, 2, 7, 17, 37, 77]);
        assert_eq!(rounds(1, 20), [0, 5, 15]);
        assert_eq!(rounds(3, 3600).len(), 19);
    }

    #[test]
    fn quiet_time_ends_the_row() {
        let mut pace = Pace::default();
        assert!(pace.start_round(seconds(0), 1));
        assert!(!pace.start_round(seconds(1), 1));
        assert!(pace.start_round(seconds(700), 1));
        assert!(!pace.start_round(seconds(704), 1));
        assert!(pace.start_round(seconds(705), 1));
    }

    #[test]
    fn each_failure_in_a_row_doubles_the_pause() {
        let mut pace = Pace::default();
        let mut now = 0;
        for (retry_after, expected) in [(None, 5), (Some(60), 60), (None, 20), (Some(9999), 300)] {
            assert!(pace.start_round(seconds(now), 10));
            pace.note_failure(seconds(now), retry_after.map(Duration::from_secs));
            assert!(!pace.start_round(seconds(now + expected - 1), 10));
            now += expected;
        }
        assert!(pace.start_round(seconds(now), 10));
        pace.note_success();
        pace.note_failure(seconds(now), None);
        assert!(pace.start_round(seconds(now + 5), 10));
    }
}
