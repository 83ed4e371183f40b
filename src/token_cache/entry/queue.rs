//! The place of an entry in the queue of fetches that wait until fewer are under way; see [`fetch_limit`].
//!
//! The flight of the fetch exists from the start, so that whoever waits in the queue gets its outcome.
//!
//! [`fetch_limit`]: crate::token_cache::fetch_limit

use std::sync::{Arc, Weak};

use tokio::runtime::Handle;

use super::{Entry, EntryState, FetchOutcome, fetch_task::FetchWaiter};
use crate::{
    base::{
        clock::Moment,
        single_flight::{Flight, Landing},
    },
    token_cache::{
        fetch::Reason,
        fetch_limit::{Place, Slot, Started, Ticket},
        state::{self, Condition},
    },
};

/// A fetch that waits in the queue.
pub(super) struct Queued {
    number: u64,
    flight: Flight<FetchOutcome>,
    wanted: Wanted,
    ticket: HeldBy,
}

/// What the fetch in the queue is for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Wanted {
    /// The renewal of a stale token. Nobody waits for it.
    Renewal,
    /// A token, because there is no usable one.
    Token,
    /// Another token, even if the current one is usable.
    NewToken,
}

/// Who keeps the place.
enum HeldBy {
    Entry(Arc<Ticket>),
    Callers(Weak<Ticket>),
}

impl Queued {
    /// Returns `None` if the last caller has left the queue.
    fn ticket(&self) -> Option<Arc<Ticket>> {
        match &self.ticket {
            HeldBy::Entry(ticket) => Some(ticket.clone()),
            HeldBy::Callers(ticket) => ticket.upgrade(),
        }
    }
}

impl From<Reason> for Wanted {
    fn from(reason: Reason) -> Self {
        match reason {
            Reason::Stale => Self::Renewal,
            Reason::First | Reason::Expired | Reason::Refused => Self::Token,
            Reason::Asked => Self::NewToken,
        }
    }
}

impl EntryState {
    /// Joins the fetch that waits in the queue, if there is one.
    pub(super) fn join_queued(&mut self, reason: Reason) -> Option<FetchWaiter> {
        let queued = self.queued.as_mut()?;
        let ticket = queued.ticket()?;
        let wanted = Wanted::from(reason);
        if queued.wanted < wanted {
            queued.wanted = wanted;
            ticket.promote();
        }
        Some(FetchWaiter::in_queue(queued.flight.join(), ticket))
    }

    /// Leaves the queue, because the fetch cannot wait. Drop the place without the lock: that wakes those who wait.
    pub(super) fn leave_queue(&mut self) -> Option<Place> {
        let queued = self.queued.take()?;
        queued.ticket()?.leave()
    }
}

impl Entry {
    /// Takes a place in the queue.
    pub(super) fn queue(
        self: &Arc<Self>,
        state: &mut EntryState,
        reason: Reason,
        runtime: &Handle,
    ) -> FetchWaiter {
        let (flight, landing) = Flight::new();
        let waiter = flight.join();
        let wanted = Wanted::from(reason);
        let is_renewal = wanted == Wanted::Renewal;
        let (entry, runtime) = (Arc::downgrade(self), runtime.clone());
        let limit = &self.settings.limit;
        let ticket = limit.queue(entry, runtime, landing, is_renewal);
        state.queued = Some(Box::new(Queued {
            number: ticket.number,
            flight,
            wanted,
            ticket: if is_renewal {
                HeldBy::Entry(ticket.clone())
            } else {
                HeldBy::Callers(Arc::downgrade(&ticket))
            },
        }));
        FetchWaiter::in_queue(waiter, ticket)
    }

    /// Starts the fetch that has come to the front of the queue, if it is still needed.
    ///
    /// Otherwise the landing is dropped, and those who wait look again. It is dropped without the lock, and so is the future of the task
    /// if the runtime has shut down: both wake those who wait.
    pub(crate) fn start_queued(
        self: &Arc<Self>,
        number: u64,
        slot: Slot,
        runtime: &Handle,
        landing: Landing<FetchOutcome>,
    ) {
        let now = self.now();
        let mut state = self.lock();
        let Some(queued) = state.queued.take_if(|queued| queued.number == number) else {
            return;
        };
        let Some(ticket) = queued.ticket() else {
            return;
        };
        let Some(reason) = self.reason_of_queued(&state, queued.wanted, now) else {
            return;
        };
        let Ok(request) = self.next_request(&mut state, now) else {
            return;
        };
        let plan = self.plan(&mut state, now, reason);
        let flight = (queued.flight, landing);
        let (fetch, launch) = self.prepare(plan, request, flight, slot, now);
        let (number, overdue_at) = (fetch.number, fetch.overdue_at);
        ticket.note_started(Started { number, overdue_at });
        state.fetch = Some(fetch);
        let may_be_cancelled = !state.grant.is_one_time();
        drop(state);
        let task = launch.spawn(runtime);
        if may_be_cancelled {
            let mut state = self.lock();
            match state.fetch.as_mut().filter(|fetch| fetch.number == number) {
                Some(fetch) => fetch.abort = Some(task),
                // It has landed, or it was given up in the meantime.
                None => task.abort(),
            }
        }
    }

    /// Returns why to fetch now, or `None` if there is no longer a need.
    fn reason_of_queued(&self, state: &EntryState, wanted: Wanted, now: Moment) -> Option<Reason> {
        let is_under_way = state
            .fetch
            .as_ref()
            .is_some_and(|fetch| !fetch.is_lost(now));
        if is_under_way {
            return None;
        }
        let failure = state.failure.as_deref();
        if wanted == Wanted::NewToken {
            let is_told_to_wait = failure.is_some_and(|failure| failure.server_asked_to_wait(now));
            return (!is_told_to_wait).then_some(Reason::Asked);
        }
        let is_for_callers = wanted == Wanted::Token;
        let cached = self.current.load();
        match state::classify(cached.as_ref(), failure, now) {
            Condition::Stale(_) if !is_for_callers => {
                let is_pausing = failure.is_some_and(|failure| failure.is_pausing(now));
                (!is_pausing).then_some(Reason::Stale)
            }
            Condition::Expired if is_for_callers => Some(Reason::Expired),
            Condition::Empty if is_for_callers && state.was_refused => Some(Reason::Refused),
            Condition::Empty if is_for_callers => Some(Reason::First),
            _ => None,
        }
    }
}
