//! The place of an entry in the queue of fetches that wait until fewer are under way; see [`fetch::limit`].
//!
//! The flight of the fetch exists from the start, so that whoever waits in the queue gets its outcome.
//!
//! [`fetch::limit`]: crate::token_cache::fetch::limit

use std::sync::{Arc, Weak};

use tokio::runtime::Handle;

use super::{
    Entry, EntryState, FetchOutcome, fetch_task::FetchWaiter, look_up::Unlocked, start::Launch,
};
use crate::{
    base::{
        clock::Moment,
        single_flight::{Flight, Landing},
    },
    message::TokenRequest,
    token_cache::{
        fetch::{
            Reason,
            limit::{Place, Slot, Started, Ticket},
        },
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
    pub(super) fn join_queued(&mut self, reason: Reason, now: Moment) -> Option<FetchWaiter> {
        let queued = self.queued.as_mut()?;
        let ticket = queued.ticket()?;
        let wanted = Wanted::from(reason);
        if queued.wanted < wanted {
            queued.wanted = wanted;
            ticket.promote();
        }
        Some(FetchWaiter::in_queue(queued.flight.join(), ticket, now))
    }

    /// Takes the fetch out of the queue. Drop the place without the lock: that wakes those who wait.
    ///
    /// Returns `None` if the fetch is not in the queue, or is being started by somebody else.
    pub(super) fn leave_queue(&mut self) -> Option<(Box<Queued>, Place)> {
        let place = self.queued.as_ref()?.ticket()?.leave()?;
        Some((self.queued.take()?, place))
    }
}

impl Entry {
    /// Takes a place in the queue.
    pub(super) fn queue(
        self: &Arc<Self>,
        state: &mut EntryState,
        now: Moment,
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
        FetchWaiter::in_queue(waiter, ticket, now)
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
        if queued.ticket().is_none() {
            return;
        }
        let Some(reason) = self.reason_of_queued(&state, queued.wanted, now) else {
            return;
        };
        let Ok(request) = self.next_request(&mut state, now) else {
            return;
        };
        let launch = self.prepare_queued(&mut state, now, reason, request, slot, (queued, landing));
        drop(state);
        self.launch(launch, runtime);
    }

    /// Starts the fetch that is in the queue at once, because another fetch waits for it.
    pub(super) fn start_out_of_turn(
        self: &Arc<Self>,
        state: &mut EntryState,
        now: Moment,
        reason: Reason,
    ) -> Result<(), Unlocked> {
        // Without a next request, those in the queue soon find out.
        let Ok(request) = state.grant.next_request() else {
            return Ok(());
        };
        let Some((queued, place)) = state.leave_queue() else {
            return Ok(());
        };
        let slot = self.settings.limit.enter_at_once();
        let queued = (queued, place.landing);
        let launch = self.prepare_queued(state, now, reason, request, slot, queued);
        Err(Unlocked::Launch(Box::new(launch), place.runtime))
    }

    /// Makes the fetch that was in the queue the current one. Launch it without the lock.
    pub(super) fn prepare_queued(
        self: &Arc<Self>,
        state: &mut EntryState,
        now: Moment,
        reason: Reason,
        request: TokenRequest,
        slot: Slot,
        (queued, landing): (Box<Queued>, Landing<FetchOutcome>),
    ) -> Launch {
        let ticket = queued.ticket();
        let plan = self.plan(state, now, reason);
        let flight = (queued.flight, landing);
        let (fetch, launch) = self.prepare(plan, request, flight, slot, now);
        if let Some(ticket) = ticket {
            let (number, overdue_at) = (fetch.number, fetch.overdue_at);
            ticket.note_started(Started { number, overdue_at });
        }
        state.fetch = Some(fetch);
        launch
    }

    /// Spawns the task of a fetch that is already the current one of this entry.
    pub(super) fn launch(self: &Arc<Self>, launch: Launch, runtime: &Handle) {
        let number = launch.number();
        let task = launch.spawn(runtime);
        let mut state = self.lock();
        if state.grant.is_one_time() {
            return;
        }
        match state.fetch.as_mut().filter(|fetch| fetch.number == number) {
            Some(fetch) => fetch.abort = Some(task),
            // It has landed, or it was given up in the meantime.
            None => task.abort(),
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
