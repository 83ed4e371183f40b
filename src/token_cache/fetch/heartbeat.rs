//! The heartbeat of a fetch, and when its silence means that nobody drives the runtime of the fetch.
//!
//! A runtime can stop without ending: a blocking caller left `block_on`, or a thread of it is blocked. Its tasks are then alive, but not
//! polled. A slow server looks different: the task of the fetch still beats.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    task::Poll,
    time::Duration,
};

use crate::base::{
    clock::{CLOCK_LAG, Moment},
    single_flight::pulse::{Beat, Pulse},
    timer,
};

/// How often the task of a fetch is polled at least.
const BEAT: Duration = Duration::from_millis(250);

/// How often a waiter looks for the beat. At least one beat lies between two looks.
pub(crate) const LOOK: Duration = Duration::from_millis(500);

/// Runs a fetch, and polls it regularly even while it waits for the server. Does nothing if the flight was grounded.
pub(crate) async fn beating<T>(pulse: Pulse<T>, fetch: impl Future<Output = ()>) {
    let (mut fetch, mut next_beat) = (pin!(fetch), pin!(None));
    poll_fn(|cx| {
        if !pulse.begin_poll() {
            return Poll::Ready(());
        }
        let polled = fetch.as_mut().poll(cx);
        if polled.is_pending() {
            if next_beat.is_none() {
                next_beat.set(Some(timer::sleep_here(BEAT)));
            }
            while next_beat
                .as_mut()
                .as_pin_mut()
                .is_some_and(|timer| timer.poll(cx).is_ready())
            {
                next_beat.set(Some(timer::sleep_here(BEAT)));
            }
        }
        pulse.end_poll();
        polled
    })
    .await;
}

/// Decides from several looks whether nobody drives a fetch. Pure: the beat and the time are arguments.
///
/// An observer may have been suspended or blocked itself, perhaps together with the fetch. So time alone tells nothing: the beat must
/// stand still from one look to the next, each at least [`LOOK`] after the one before. A fetch that shares its runtime with the
/// observer beats at least once between two looks, whatever stopped both of them.
pub(crate) struct Watch {
    beat: Beat,
    last_look: Moment,
    silent_looks: u32,
}

impl Watch {
    pub(crate) fn new(beat: Beat, now: Moment) -> Self {
        Self {
            beat,
            last_look: now,
            silent_looks: 0,
        }
    }

    /// Takes in a look.
    pub(crate) fn look(&mut self, beat: Beat, now: Moment) {
        if beat != self.beat {
            *self = Self::new(beat, now);
        }
        // The coarse clock lags behind the timer that ended, by more or less than at the last look.
        if now.has_outlasted(self.last_look.after(LOOK - CLOCK_LAG * 2)) {
            self.last_look = now;
            self.silent_looks = self.silent_looks.saturating_add(1);
        }
    }

    /// Returns whether nobody drives the fetch, after this many takeovers before it.
    pub(crate) fn is_silent(&self, beat: Beat, takeovers: u32) -> bool {
        self.has_silent_looks(beat, silent_looks_needed(takeovers))
    }

    /// Like [`is_silent`](Self::is_silent), but for looks of callers that do not wait.
    ///
    /// No timer has ended between them, so a runtime that is only busy looks the same for some time. There is no hurry.
    pub(crate) fn is_silent_for_long(&self, beat: Beat, takeovers: u32) -> bool {
        self.has_silent_looks(beat, silent_looks_needed(takeovers) * 4)
    }

    fn has_silent_looks(&self, beat: Beat, needed: u32) -> bool {
        // Whatever blocks the thread in the middle of a poll would block the next thread too.
        beat == self.beat && !beat.is_within_a_poll() && self.silent_looks >= needed
    }
}

/// Two, which is about a second. If fetches are taken over again and again, it doubles, up to half a minute.
fn silent_looks_needed(takeovers: u32) -> u32 {
    SILENT_LOOKS << takeovers.saturating_sub(QUICK_TAKEOVERS).min(5)
}

const SILENT_LOOKS: u32 = 2;
const QUICK_TAKEOVERS: u32 = 4;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::single_flight::{Flight, Landing};

    fn moment(millis: u64) -> Moment {
        let time = Duration::from_secs(1000) + Duration::from_millis(millis);
        Moment::new(time, time)
    }

    fn poll<T>(landing: &Landing<T>) {
        assert!(landing.pulse().begin_poll());
        landing.pulse().end_poll();
    }

    impl Watch {
        fn look_and_tell(&mut self, beat: Beat, now: Moment, takeovers: u32) -> bool {
            self.look(beat, now);
            self.is_silent(beat, takeovers)
        }
    }

    #[test]
    fn two_silent_looks_mean_that_nobody_drives_the_fetch() {
        let (flight, landing) = Flight::<()>::new();
        let mut watch = Watch::new(flight.beat(), moment(0));
        for (millis, expected) in [(1, false), (490, false), (700, false), (971, true)] {
            let is_silent = watch.look_and_tell(flight.beat(), moment(millis), 0);
            assert_eq!(is_silent, expected, "{millis}");
        }
        poll(&landing);
        assert!(!watch.is_silent(flight.beat(), 0));
    }

    #[test]
    fn a_long_absence_of_the_observer_counts_as_one_look() {
        let (flight, landing) = Flight::<()>::new();
        poll(&landing);
        let mut watch = Watch::new(flight.beat(), moment(0));
        assert!(!watch.look_and_tell(flight.beat(), moment(3_600_000), 0));
        // The fetch was suspended together with the observer, and goes on a little later.
        poll(&landing);
        assert!(!watch.look_and_tell(flight.beat(), moment(3_600_500), 0));
        assert!(!watch.look_and_tell(flight.beat(), moment(3_601_000), 0));
        assert!(watch.look_and_tell(flight.beat(), moment(3_601_500), 0));
    }

    #[test]
    fn a_fetch_in_the_middle_of_a_poll_is_driven() {
        let (flight, landing) = Flight::<()>::new();
        assert!(landing.pulse().begin_poll());
        let mut watch = Watch::new(flight.beat(), moment(0));
        for seconds in 1..100 {
            assert!(!watch.look_and_tell(flight.beat(), moment(1000 * seconds), 0));
        }
    }

    #[test]
    fn repeated_takeovers_wait_longer_and_longer() {
        for (takeovers, looks) in [(0, 2), (4, 2), (5, 4), (6, 8), (9, 64), (1000, 64)] {
            let (flight, _landing) = Flight::<()>::new();
            let mut watch = Watch::new(flight.beat(), moment(0));
            let silent =
                |look: &u64| watch.look_and_tell(flight.beat(), moment(500 * look), takeovers);
            assert_eq!((1..1000).find(silent), Some(looks), "{takeovers}");
        }
    }
}
