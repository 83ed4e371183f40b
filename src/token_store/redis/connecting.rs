//! When to connect, and when a silent connection is replaced. Pure: the time is an argument.

use std::time::Duration;

use tokio::{sync::watch, time::Instant};

/// How long nobody tries again after a failure. Operations get the same error meanwhile.
const PAUSE: Duration = Duration::from_millis(100);

/// Attempts to connect, one at a time.
#[derive(Debug)]
pub(super) struct Connecting<T> {
    /// How many attempts there have been.
    number: u64,
    attempt: Option<Attempt<T>>,
}

#[derive(Debug)]
struct Attempt<T> {
    begun: Instant,
    failed: Option<Instant>,
    outcome: watch::Receiver<Option<T>>,
}

pub(super) enum Next<T> {
    /// Somebody else connects, or has just failed to.
    Wait(watch::Receiver<Option<T>>),
    /// The caller makes the attempt with this number.
    Connect(u64, watch::Sender<Option<T>>),
}

impl<T> Connecting<T> {
    /// `limit` is how long an attempt may take. One that takes longer is on a runtime that nobody drives.
    pub(super) fn next(&mut self, now: Instant, limit: Duration) -> Next<T> {
        let current = self
            .attempt
            .as_ref()
            .filter(|attempt| match attempt.failed {
                Some(failed) => now - failed < PAUSE,
                // Without its sender, the attempt was dropped together with its runtime.
                None => now - attempt.begun <= limit && attempt.outcome.has_changed().is_ok(),
            });
        if let Some(attempt) = current {
            return Next::Wait(attempt.outcome.clone());
        }
        self.number += 1;
        let (sender, outcome) = watch::channel(None);
        self.attempt = Some(Attempt {
            begun: now,
            failed: None,
            outcome,
        });
        Next::Connect(self.number, sender)
    }

    /// Notes that an attempt has ended. Returns whether it is the last one that was begun.
    pub(super) fn note(&mut self, now: Instant, number: u64, is_connected: bool) -> bool {
        if number != self.number {
            return false;
        }
        match &mut self.attempt {
            Some(attempt) if !is_connected => attempt.failed = Some(now),
            // The outcome would keep the connection open.
            attempt => *attempt = None,
        }
        true
    }
}

impl<T> Default for Connecting<T> {
    fn default() -> Self {
        Self {
            number: 0,
            attempt: None,
        }
    }
}

/// Operations that got no answer, one after the other.
#[derive(Debug)]
pub(super) struct Silences {
    count: u32,
    last: Option<Instant>,
    /// How many of them replace the connection. It doubles: more connections do not help a server that is overloaded.
    most: u32,
}

impl Silences {
    const FIRST: u32 = 3;
    const MOST: u32 = 48;

    /// Notes that an operation got no answer. Returns whether the connection is to be replaced.
    ///
    /// Operations that ran at the same time count as one: a server that pauses for a moment silences all of them.
    pub(super) fn note(&mut self, begun: Instant, now: Instant) -> bool {
        if self.last.is_some_and(|last| begun < last) {
            return false;
        }
        self.last = Some(now);
        self.count += 1;
        let is_lost = self.count >= self.most;
        if is_lost {
            self.count = 0;
            self.most = (self.most * 2).min(Self::MOST);
        }
        is_lost
    }

    pub(super) fn end(&mut self) {
        *self = Self::default();
    }
}

impl Default for Silences {
    fn default() -> Self {
        Self {
            count: 0,
            last: None,
            most: Self::FIRST,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::tokio_now;

    const LIMIT: Duration = Duration::from_secs(10);

    fn connects(next: Next<u32>) -> Option<(u64, watch::Sender<Option<u32>>)> {
        match next {
            Next::Connect(number, sender) => Some((number, sender)),
            Next::Wait(_) => None,
        }
    }

    #[test]
    fn attempt_is_shared_until_it_ends() {
        let (start, mut connecting) = (tokio_now(), Connecting::default());
        let (number, sender) = connects(connecting.next(start, LIMIT)).unwrap();
        let Next::Wait(outcome) = connecting.next(start + LIMIT, LIMIT) else {
            panic!("an attempt is under way");
        };
        assert!(connecting.note(start + LIMIT, number, true));
        sender.send(Some(1)).unwrap();
        assert_eq!(*outcome.borrow(), Some(1));
        assert!(connects(connecting.next(start + LIMIT, LIMIT)).is_some());
    }

    #[test]
    fn failure_is_shared_for_a_moment() {
        let (start, mut connecting) = (tokio_now(), Connecting::default());
        let (number, sender) = connects(connecting.next(start, LIMIT)).unwrap();
        connecting.note(start, number, false);
        sender.send(Some(1)).unwrap();
        drop(sender);
        for (after, expected) in [(0, false), (99, false), (100, true)] {
            let now = start + Duration::from_millis(after);
            let next = connects(connecting.next(now, LIMIT));
            assert_eq!(next.is_some(), expected, "{after}");
        }
    }

    #[test]
    fn attempt_of_a_dead_or_idle_runtime_is_repeated() {
        let (start, mut connecting) = (tokio_now(), Connecting::default());
        drop(connects(connecting.next(start, LIMIT)).unwrap());
        let (idle, _sender) = connects(connecting.next(start, LIMIT)).unwrap();
        let later = start + LIMIT + Duration::from_millis(1);
        let (number, _sender) = connects(connecting.next(later, LIMIT)).unwrap();
        assert!(!connecting.note(later, idle, false), "it is too late");
        assert!(connects(connecting.next(later, LIMIT)).is_none());
        assert!(connecting.note(later, number, true));
    }

    #[test]
    fn connection_is_replaced_after_silences_in_a_row() {
        let (start, mut silences) = (tokio_now(), Silences::default());
        let at = |millis| start + Duration::from_millis(millis);
        // Begun, ended, whether the connection is replaced.
        for (begun, ended, expected) in [
            (0, 250, false),
            (1, 251, false),
            (249, 499, false),
            (250, 500, false),
            (499, 749, false),
            (500, 750, true),
            // The next connection.
            (600, 850, false),
            (800, 1050, false),
            (1050, 1300, false),
            (1300, 1550, false),
            (1550, 1800, false),
            (1800, 2050, false),
            (2050, 2300, true),
        ] {
            assert_eq!(silences.note(at(begun), at(ended)), expected, "{begun}");
        }
        silences.end();
        assert!(!silences.note(at(0), at(1)) && !silences.note(at(1), at(2)));
        assert!(silences.note(at(2), at(3)), "it begins again");
    }
}
