//! Whether the task that drives a flight is polled.
//!
//! 1. The number is zero until the first poll. Afterwards it is odd during a poll and even between two polls, and no value returns.
//! 2. A driver that is polled regularly therefore shows a new number regularly. One that shows the same even number for long is not
//!    polled: nobody drives its runtime. One that shows the same odd number is in the middle of a poll, however long that takes.
//! 3. A flight can be *grounded* while the number is zero, and then its driver never starts. Grounding and the first poll exclude each
//!    other, so grounding proves that the driver has done nothing and will do nothing.

use std::sync::{Arc, atomic::Ordering};

use super::Shared;
use crate::base::sync::AtomicU64;

const NEVER_POLLED: u64 = 0;
const GROUNDED: u64 = u64::MAX - 1;

pub(super) struct Counter(AtomicU64);

impl Counter {
    pub(super) fn new() -> Self {
        Self(AtomicU64::new(NEVER_POLLED))
    }

    pub(super) fn now(&self) -> Beat {
        Beat(self.0.load(Ordering::Relaxed))
    }

    pub(super) fn ground(&self) -> bool {
        self.exchange(GROUNDED)
    }

    fn exchange(&self, first: u64) -> bool {
        let exchanged =
            self.0
                .compare_exchange(NEVER_POLLED, first, Ordering::AcqRel, Ordering::Acquire);
        exchanged.is_ok()
    }
}

/// What a pulse showed at some moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Beat(u64);

impl Beat {
    /// Returns whether the driver was in the middle of a poll.
    pub(crate) fn is_within_a_poll(self) -> bool {
        self.0 % 2 == 1
    }
}

/// The driver's side of a pulse.
pub(crate) struct Pulse<T>(pub(super) Arc<Shared<T>>);

impl<T> Pulse<T> {
    /// Notes that a poll begins. Returns `false` if the flight was grounded: the driver must not start.
    pub(crate) fn begin_poll(&self) -> bool {
        let counter = &self.0.counter;
        match counter.0.load(Ordering::Relaxed) {
            NEVER_POLLED => counter.exchange(1),
            GROUNDED => false,
            _ => {
                counter.0.fetch_add(1, Ordering::Relaxed);
                true
            }
        }
    }

    /// Notes that a poll has ended.
    pub(crate) fn end_poll(&self) {
        self.0.counter.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::super::Flight;

    #[test]
    fn number_changes_with_each_poll_and_is_odd_during_a_poll() {
        let (flight, landing) = Flight::<()>::new();
        let pulse = landing.pulse();
        let mut seen = vec![flight.beat()];
        for _ in 0..3 {
            assert!(pulse.begin_poll());
            assert!(flight.beat().is_within_a_poll());
            pulse.end_poll();
            assert!(!flight.beat().is_within_a_poll());
            assert!(!seen.contains(&flight.beat()));
            seen.push(flight.beat());
        }
        assert!(!flight.ground(), "the driver has started");
    }

    #[test]
    fn grounded_flight_never_starts() {
        let (flight, landing) = Flight::<()>::new();
        assert!(flight.ground());
        assert!(!flight.ground(), "only one caller grounds it");
        let pulse = landing.pulse();
        assert!(!pulse.begin_poll());
        assert!(!pulse.begin_poll());
    }
}
