//! When the engine of a token store is asked, and when it is left alone. Pure: the time is an argument.

use std::time::Duration;

use tokio::time::Instant;

use crate::base::back_off;

/// How long a slow engine is left alone at first. It doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// A failure that took longer than this is slow. A fast one delays nobody, so the engine is asked again at once.
const SLOW: Duration = Duration::from_millis(50);

/// After so long without a failure, reading is proof enough that the engine works: most instances rarely write.
const QUIET: Duration = Duration::from_secs(60);

/// How long an engine that has never answered may take, because a connection has to be opened. A deploy would otherwise stampede.
const GRACE: Duration = Duration::from_secs(2);

/// What is known of an engine.
#[derive(Debug, Default)]
pub(super) struct Circuit {
    slow_failures: u32,
    paused_until: Option<Instant>,
    /// When the next look may run: at the end of the pause, or when the one that tries now should have ended.
    retry_at: Option<Instant>,
    /// When the last failure was, since the log has said that the engine fails.
    failing: Option<Instant>,
    has_answered: bool,
    grace_ends_at: Option<Instant>,
}

/// What the log has to say after an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    None,
    Failed,
    Recovered,
}

/// What an operation has shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Failed {
        took: Duration,
    },
    /// An engine that is full or read-only can still read.
    Read,
    Wrote,
}

impl Circuit {
    /// Returns whether a look may run now. After a pause, one look tries for the others.
    pub(super) fn enter(&mut self, now: Instant, limit: Duration) -> bool {
        match self.retry_at {
            None => true,
            Some(retry_at) if now < retry_at => false,
            Some(_) => {
                self.retry_at = Some(now + limit);
                true
            }
        }
    }

    /// Returns whether a failure is to be expected still, and the operation repeated.
    pub(super) fn is_in_grace(&mut self, now: Instant, took: Duration) -> bool {
        let ends_at = *self.grace_ends_at.get_or_insert(now - took + GRACE);
        !self.has_answered && took > SLOW && now < ends_at
    }

    pub(super) fn note(&mut self, now: Instant, outcome: Outcome) -> Change {
        match outcome {
            Outcome::Failed { took } => {
                // What began before the last pause ended tells nothing new.
                let is_known = self.paused_until.is_some_and(|end| now - took < end);
                if took > SLOW && !is_known {
                    let pause = back_off::doubled(FIRST_PAUSE, self.slow_failures, LONGEST_PAUSE);
                    self.slow_failures = self.slow_failures.saturating_add(1);
                    self.paused_until = Some(now + pause);
                    self.retry_at = self.paused_until;
                }
                match self.failing.replace(now) {
                    Some(_) => Change::None,
                    None => Change::Failed,
                }
            }
            Outcome::Read | Outcome::Wrote => {
                self.has_answered = true;
                self.slow_failures = 0;
                (self.paused_until, self.retry_at) = (None, None);
                let works =
                    |failed: &mut Instant| outcome == Outcome::Wrote || now - *failed > QUIET;
                match self.failing.take_if(works) {
                    Some(_) => Change::Recovered,
                    None => Change::None,
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Outcome::*, *};
    use crate::base::clock::tokio_now;

    const LIMIT: Duration = Duration::from_millis(500);
    const TIMED_OUT: Outcome = Failed { took: LIMIT };
    const REFUSED: Outcome = Failed {
        took: Duration::from_millis(1),
    };

    #[test]
    fn slow_engine_is_asked_once_after_each_pause() {
        let start = tokio_now();
        let mut circuit = Circuit::default();
        let mut now = start;
        for expected in [250, 500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000] {
            let pause = Duration::from_millis(expected);
            now += LIMIT;
            circuit.note(now, TIMED_OUT);
            for early in [Duration::ZERO, pause / 2, pause - Duration::from_millis(1)] {
                assert!(!circuit.enter(now + early, LIMIT), "{pause:?} {early:?}");
            }
            now += pause;
            assert!(circuit.enter(now, LIMIT), "{pause:?}");
            // Everybody else waits for what this one finds.
            assert!(!circuit.enter(now + LIMIT / 2, LIMIT));
        }
        circuit.note(now, Read);
        assert!(circuit.enter(now, LIMIT) && circuit.enter(now, LIMIT));
        circuit.note(now, TIMED_OUT);
        assert!(
            circuit.enter(now + FIRST_PAUSE, LIMIT),
            "pauses start again"
        );
    }

    #[test]
    fn failures_of_operations_that_began_before_the_end_of_a_pause_count_once() {
        let now = tokio_now();
        let mut circuit = Circuit::default();
        circuit.note(now, TIMED_OUT);
        let end = now + FIRST_PAUSE;
        for before in [250, 200, 100, 1] {
            circuit.note(end - Duration::from_millis(before) + LIMIT, TIMED_OUT);
        }
        assert!(!circuit.enter(end - Duration::from_millis(1), LIMIT));
        assert!(circuit.enter(end, LIMIT));
        // It is asked after the pause, and answers sooner than the limit: with an error.
        let took = Duration::from_millis(100);
        circuit.note(end + took, Failed { took });
        assert!(!circuit.enter(end + took + FIRST_PAUSE, LIMIT));
        assert!(circuit.enter(end + took + FIRST_PAUSE * 2, LIMIT));
    }

    #[test]
    fn engine_that_fails_fast_is_asked_each_time() {
        let now = tokio_now();
        let mut circuit = Circuit::default();
        for _ in 0..5 {
            assert!(circuit.enter(now, LIMIT));
            circuit.note(now, REFUSED);
        }
    }

    #[test]
    fn engine_that_has_never_answered_gets_some_time_once() {
        let start = tokio_now();
        let mut circuit = Circuit::default();
        assert!(
            !circuit.is_in_grace(start, Duration::from_millis(1)),
            "refused"
        );
        for (after, expected) in [
            (500, true),
            (1000, true),
            (1900, true),
            (2100, false),
            (9000, false),
        ] {
            let now = start + Duration::from_millis(after);
            assert_eq!(circuit.is_in_grace(now, LIMIT), expected, "{after}");
        }
        let mut circuit = Circuit::default();
        circuit.note(start, Read);
        assert!(!circuit.is_in_grace(start + LIMIT, LIMIT));
    }

    #[test]
    fn each_change_is_told_once() {
        let now = tokio_now();
        let mut circuit = Circuit::default();
        for (step, (outcome, expected)) in [
            (Wrote, Change::None),
            (Read, Change::None),
            (REFUSED, Change::Failed),
            (TIMED_OUT, Change::None),
            // A full engine still reads.
            (Read, Change::None),
            (REFUSED, Change::None),
            (Read, Change::None),
            (Wrote, Change::Recovered),
            (Wrote, Change::None),
            (TIMED_OUT, Change::Failed),
            (Read, Change::None),
        ]
        .into_iter()
        .enumerate()
        {
            assert_eq!(circuit.note(now, outcome), expected, "step {step}");
        }
        let second = Duration::from_secs(1);
        assert_eq!(circuit.note(now + QUIET, Read), Change::None);
        let later = now + QUIET + second;
        assert_eq!(circuit.note(later, Read), Change::Recovered);
        assert_eq!(circuit.note(later, Read), Change::None);
    }
}
