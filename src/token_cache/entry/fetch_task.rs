//! A fetch that is under way, and those who wait for it.

use std::{
    future::Future,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use pin_project_lite::pin_project;
use tokio::task::AbortHandle;

use super::FetchOutcome;
use crate::{
    base::{
        clock::{CLOCK_LAG, Moment},
        single_flight::{End, Flight, Waiter, pulse::Beat},
        timer::Sleep,
    },
    token_cache::{
        builder::Settings,
        fetch::{
            Reason,
            heartbeat::{LOOK, Watch},
            limit::{Started, Ticket},
        },
    },
};

/// A fetch that is under way.
pub(super) struct FetchTask {
    /// Identifies this fetch among all of its entry.
    pub(super) number: u64,
    pub(super) reason: Reason,
    /// How many fetches in a row were taken over before this one.
    pub(super) takeovers: u32,
    pub(super) overdue_at: Moment,
    pub(super) flight: Flight<FetchOutcome>,
    /// Set if the task ends when this is dropped.
    pub(super) abort: Option<AbortHandle>,
    /// What those have seen together who did not wait for long: callers with a limit of their own, and callers with a stale token.
    pub(super) watch: Watch,
}

/// The fetch that nobody drives, as an observer has seen it.
pub(crate) struct Silent {
    number: u64,
    beat: Beat,
}

impl FetchTask {
    /// Returns whether an outcome is no longer expected.
    pub(super) fn is_lost(&self, now: Moment) -> bool {
        let is_overdue = now.has_outlasted(self.overdue_at);
        self.flight.is_lost() || (is_overdue && self.flight.is_under_way())
    }

    pub(super) fn join(&self, now: Moment) -> FetchWaiter {
        FetchWaiter {
            waiter: self.flight.join(),
            fetch: Joined::UnderWay(Started {
                number: self.number,
                overdue_at: self.overdue_at,
            }),
            joined_at: now,
            takeovers: self.takeovers,
        }
    }

    /// Takes a look on behalf of a caller that does not wait any longer.
    pub(super) fn look(&mut self, now: Moment) {
        self.watch.look(self.flight.beat(), now);
    }

    /// Returns this fetch if earlier callers have seen that nobody drives it.
    pub(super) fn silent(&self) -> Option<Silent> {
        let beat = self.flight.beat();
        self.silent_if(beat, self.watch.is_silent(beat, self.takeovers))
    }

    /// Returns this renewal if callers with a stale token have seen that nobody drives it.
    pub(super) fn silent_renewal(&self) -> Option<Silent> {
        let beat = self.flight.beat();
        self.silent_if(beat, self.watch.is_silent_for_long(beat, self.takeovers))
    }

    fn silent_if(&self, beat: Beat, is_silent: bool) -> Option<Silent> {
        let number = self.number;
        (is_silent && self.flight.is_under_way()).then_some(Silent { number, beat })
    }

    /// Forgets what earlier callers have seen.
    pub(super) fn watch_again(&mut self, now: Moment) {
        self.watch = Watch::new(self.flight.beat(), now);
    }

    /// Returns whether this is the fetch that was silent, and it has been silent since.
    pub(super) fn is_still(&self, silent: &Silent) -> bool {
        self.number == silent.number
            && self.flight.beat() == silent.beat
            && self.flight.is_under_way()
    }

    /// Lets those who wait for this fetch look for another one. Wakes them, so no lock may be held.
    pub(super) fn give_up(self) {
        self.flight.give_up();
    }
}

impl Drop for FetchTask {
    /// Runs when the fetch has landed, was given up, or its entry is gone: nobody else will ask for the outcome.
    fn drop(&mut self) {
        if let Some(abort) = &self.abort {
            abort.abort();
        }
    }
}

/// Waits for a fetch.
pub(crate) struct FetchWaiter {
    waiter: Waiter<FetchOutcome>,
    fetch: Joined,
    /// When the wait for the fetch began: not while it was in the queue.
    pub(super) joined_at: Moment,
    takeovers: u32,
}

/// How often those who wait in the queue look whether a slot was left without notice. They may be very many.
const LOOK_IN_QUEUE: Duration = Duration::from_secs(1);

/// The fetch that somebody waits for.
enum Joined {
    UnderWay(Started),
    /// It is in the queue, or was when it was joined.
    Queued(Arc<Ticket>),
}

/// How the wait for a fetch ended.
pub(crate) enum Waited {
    Landed(FetchOutcome),
    /// The task of the fetch is gone, or the fetch is overdue.
    Lost,
    /// Somebody else gave up the fetch.
    GivenUp,
    /// Nobody drives the runtime of the fetch.
    Undriven(Silent),
}

impl FetchWaiter {
    pub(super) fn in_queue(waiter: Waiter<FetchOutcome>, ticket: Arc<Ticket>, now: Moment) -> Self {
        Self {
            waiter,
            fetch: Joined::Queued(ticket),
            joined_at: now,
            takeovers: 0,
        }
    }

    /// Waits until the fetch has left the queue.
    pub(crate) async fn until_started(&mut self, settings: &Settings) {
        if let Joined::UnderWay(_) = self.fetch {
            return;
        }
        let mut end = pin!(self.waiter.end());
        while self.started().is_none() && self.waiter.is_under_way() {
            settings.limit.dispatch(settings.clock.now());
            if self.started().is_none() {
                settings.runtime.timeout(LOOK_IN_QUEUE, end.as_mut()).await;
            }
        }
        self.joined_at = settings.clock.now();
    }

    /// Returns `None` while the fetch is in the queue, and if it was never started.
    fn started(&self) -> Option<Started> {
        match &self.fetch {
            Joined::UnderWay(started) => Some(*started),
            Joined::Queued(ticket) => ticket.started(),
        }
    }

    /// Waits until the fetch ends, is overdue, or turns out to be undriven. It must have left the queue.
    ///
    /// Without timers, it waits until the fetch ends. The fetch itself has a limit.
    pub(crate) fn wait<'a>(&'a self, settings: &'a Settings) -> impl Future<Output = Waited> + 'a {
        Wait {
            end: self.waiter.end(),
            next_look: self.next_look(settings, self.joined_at),
            watch: Watch::new(self.waiter.beat(), self.joined_at),
            waiter: self,
            settings,
        }
    }

    fn next_look(&self, settings: &Settings, now: Moment) -> Option<Sleep> {
        let until_overdue = now.until_outlasted(self.started()?.overdue_at) + CLOCK_LAG;
        settings.runtime.timer(LOOK.min(until_overdue))
    }
}

pin_project! {
    /// Written by hand because ten thousand callers may wait for one fetch, and an `async fn` is larger.
    struct Wait<'a, E> {
        #[pin]
        end: E,
        #[pin]
        next_look: Option<Sleep>,
        watch: Watch,
        waiter: &'a FetchWaiter,
        settings: &'a Settings,
    }
}

impl<E: Future<Output = End<FetchOutcome>>> Future for Wait<'_, E> {
    type Output = Waited;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Waited> {
        let mut this = self.project();
        match this.end.poll(cx) {
            Poll::Ready(End::Landed(outcome)) => return Poll::Ready(Waited::Landed(outcome)),
            Poll::Ready(End::Lost) => return Poll::Ready(Waited::Lost),
            Poll::Ready(End::GivenUp) => return Poll::Ready(Waited::GivenUp),
            Poll::Pending => {}
        }
        let waiter = *this.waiter;
        while let Some(timer) = this.next_look.as_mut().as_pin_mut() {
            ready!(timer.poll(cx));
            let now = this.settings.clock.now();
            let Some(Started { number, overdue_at }) = waiter.started() else {
                return Poll::Ready(Waited::Lost);
            };
            if now.has_outlasted(overdue_at) {
                return Poll::Ready(Waited::Lost);
            }
            let beat = waiter.waiter.beat();
            this.watch.look(beat, now);
            if this.watch.is_silent(beat, waiter.takeovers) {
                return Poll::Ready(Waited::Undriven(Silent { number, beat }));
            }
            this.next_look.set(waiter.next_look(this.settings, now));
        }
        Poll::Pending
    }
}
