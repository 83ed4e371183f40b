//! Limits how many fetches of a cache are under way. The others wait in a queue, in which each takes a place but no task.
//!
//! 1. A fetch under way holds a [`Slot`]. If none is free, its entry takes a place in the queue, at most one, whatever the number of
//!    its callers. The callers already wait for the outcome of the fetch, so that they get it even if its token cannot be cached.
//! 2. Those who have a place are served in order. Fetches that callers wait for and renewals of stale tokens, for which nobody waits,
//!    take turns, so that neither starves the other.
//! 3. A place belongs to the callers, who share its [`Ticket`]: it is given up when the last of them is dropped. The place of a renewal
//!    belongs to its entry.
//! 4. [`FetchLimit::dispatch`] starts what comes next. It runs whenever a fetch ends, and regularly on behalf of those who wait. It
//!    does not need them: a caller that is no longer polled keeps nobody from being served. No lock may be held when it is called.
//! 5. A fetch that is overdue, was given up or is not driven does not count, though its task still has the slot.
//! 6. A fetch for which another fetch waits does not wait for a slot; see [`nesting`].

use std::{
    collections::BTreeMap,
    future::Future,
    mem,
    sync::{
        Arc, OnceLock, PoisonError, Weak,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
};

use tokio::runtime::Handle;

use crate::base::{
    clock::Moment,
    single_flight::{Flight, Landing, Observer},
    sync::{AtomicU64, Mutex, MutexGuard},
};
use crate::token_cache::{
    entry::{Entry, FetchOutcome},
    fetch::{
        heartbeat::{LOOK, Watch},
        nesting,
    },
};

/// The fetches of a cache that are under way, and the entries that wait to start one.
pub(crate) struct FetchLimit {
    max: u64,
    /// How many slots are taken. It grows only under the lock.
    taken: AtomicU64,
    /// How many entries wait. It changes only under the lock.
    ///
    /// Whoever frees a slot looks at this afterwards, and whoever waits looks for a free slot after it has changed this, both in one order
    /// for all threads (`SeqCst`). So one of them sees the other, and starts the fetch.
    waiting: AtomicU64,
    state: Mutex<LimitState>,
}

#[derive(Default)]
struct LimitState {
    /// The number of the last place.
    last_number: u64,
    /// The fetches under way, and some that have ended.
    observed: Vec<Observed>,
    /// Until then, nobody looks whether the fetches are driven.
    look_at: Option<Moment>,
    for_callers: BTreeMap<u64, Place>,
    renewals: BTreeMap<u64, Place>,
    is_turn_of_renewals: bool,
}

/// A fetch under way, as those see it who wait for its slot.
struct Observed {
    is_taken: Arc<AtomicBool>,
    fetch: Observer<FetchOutcome>,
    overdue_at: Moment,
    watch: Watch,
}

/// An entry that waits to start a fetch.
pub(crate) struct Place {
    entry: Weak<Entry>,
    pub(crate) runtime: Handle,
    pub(crate) landing: Landing<FetchOutcome>,
}

impl FetchLimit {
    pub(crate) fn new(max: usize) -> Arc<Self> {
        Arc::new(Self {
            max: max.max(1) as u64,
            taken: AtomicU64::new(0),
            waiting: AtomicU64::new(0),
            state: Mutex::default(),
        })
    }

    /// Returns a slot for a new fetch, unless all are taken or somebody waits for one.
    pub(crate) fn enter(self: &Arc<Self>) -> Option<Slot> {
        let state = self.lock();
        let is_free = self.has_free_slot() && state.is_nobody_waiting();
        is_free.then(|| self.take_slot(&state))
    }

    /// Returns a slot for a new fetch that cannot wait for one.
    pub(crate) fn enter_at_once(self: &Arc<Self>) -> Slot {
        self.take_slot(&self.lock())
    }

    fn has_free_slot(&self) -> bool {
        self.taken.load(SeqCst) < self.max
    }

    fn take_slot(self: &Arc<Self>, _locked: &LimitState) -> Slot {
        self.taken.fetch_add(1, SeqCst);
        Slot {
            limit: self.clone(),
            is_taken: Arc::new(AtomicBool::new(true)),
        }
    }

    /// Counts a slot as free, once.
    fn free_slot(&self, is_taken: &AtomicBool) {
        if is_taken.swap(false, SeqCst) {
            self.taken.fetch_sub(1, SeqCst);
        }
    }

    /// Takes a place in the queue.
    pub(crate) fn queue(
        self: &Arc<Self>,
        entry: Weak<Entry>,
        runtime: Handle,
        landing: Landing<FetchOutcome>,
        is_renewal: bool,
    ) -> Arc<Ticket> {
        let place = Place {
            entry,
            runtime,
            landing,
        };
        let mut state = self.lock();
        let number = state.next_number();
        state.queue(is_renewal).insert(number, place);
        self.note_waiting(&state);
        Arc::new(Ticket {
            limit: self.clone(),
            number,
            started: OnceLock::new(),
        })
    }

    /// Starts the fetches of those who wait, as long as there are slots.
    pub(crate) fn dispatch(self: &Arc<Self>, now: Moment) {
        while self.waiting.load(SeqCst) > 0 {
            if !self.has_free_slot() {
                self.free_lost_slots(now);
            }
            let mut state = self.lock();
            if !self.has_free_slot() {
                return;
            }
            let Some((number, place)) = state.take_next() else {
                return;
            };
            self.note_waiting(&state);
            let slot = self.take_slot(&state);
            drop(state);
            if let Some(entry) = place.entry.upgrade() {
                entry.start_queued(number, slot, &place.runtime, place.landing);
            }
        }
    }

    /// Frees the slots of fetches from which no outcome is expected.
    fn free_lost_slots(&self, now: Moment) {
        let mut observed = {
            let mut state = self.lock();
            if !state.look_at.is_none_or(|at| now.has_outlasted(at)) {
                return;
            }
            state.look_at = Some(now.after(LOOK));
            mem::take(&mut state.observed)
        };
        observed.retain_mut(|observed| {
            if observed.is_lost(now) {
                self.free_slot(&observed.is_taken);
            }
            observed.is_taken.load(SeqCst)
        });
        self.lock().observed.append(&mut observed);
    }

    /// Takes a place out of the queue.
    fn take(&self, number: u64) -> Option<Place> {
        let mut state = self.lock();
        let place = state.for_callers.remove(&number);
        let place = place.or_else(|| state.renewals.remove(&number));
        self.note_waiting(&state);
        place
    }

    fn note_waiting(&self, state: &LimitState) {
        let waiting = state.for_callers.len() + state.renewals.len();
        self.waiting.store(waiting as u64, SeqCst);
    }

    /// Nothing panics while the state is locked, so a poisoned lock is sound.
    fn lock(&self) -> MutexGuard<'_, LimitState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LimitState {
    fn next_number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }

    fn queue(&mut self, is_renewal: bool) -> &mut BTreeMap<u64, Place> {
        if is_renewal {
            &mut self.renewals
        } else {
            &mut self.for_callers
        }
    }

    fn is_nobody_waiting(&self) -> bool {
        self.for_callers.is_empty() && self.renewals.is_empty()
    }

    fn take_next(&mut self) -> Option<(u64, Place)> {
        let is_renewal = self.is_turn_of_renewals;
        self.is_turn_of_renewals = !is_renewal;
        let next = self.queue(is_renewal).pop_first();
        next.or_else(|| self.queue(!is_renewal).pop_first())
    }

    fn forget_ended(&mut self) {
        self.observed
            .retain(|observed| observed.is_taken.load(SeqCst));
    }
}

impl Observed {
    fn is_lost(&mut self, now: Moment) -> bool {
        match self.fetch.beat() {
            Some(beat) => {
                self.watch.look(beat, now);
                now.has_outlasted(self.overdue_at) || self.watch.is_silent(beat, 0)
            }
            None => true,
        }
    }
}

/// The right of a fetch to be under way.
pub(crate) struct Slot {
    limit: Arc<FetchLimit>,
    is_taken: Arc<AtomicBool>,
}

impl Slot {
    /// Lets those who wait for the slot observe its fetch.
    pub(crate) fn observe(&self, flight: &Flight<FetchOutcome>, overdue_at: Moment, now: Moment) {
        let observed = Observed {
            is_taken: self.is_taken.clone(),
            fetch: flight.observe(),
            watch: Watch::new(flight.beat(), now),
            overdue_at,
        };
        let mut state = self.limit.lock();
        if state.observed.len() == state.observed.capacity() {
            // So it never holds many more than are under way.
            state.forget_ended();
        }
        state.observed.push(observed);
    }

    /// Runs the fetch that holds this slot, and then starts what waits for it.
    pub(crate) async fn run(self, fetch: impl Future<Output = ()>, now: impl FnOnce() -> Moment) {
        nesting::within_a_fetch(fetch).await;
        let limit = self.limit.clone();
        drop(self);
        limit.dispatch(now());
    }
}

impl Drop for Slot {
    /// Takes no lock and does not start the next fetch: locks may be held, and a runtime may be shutting down. Those who wait look again
    /// soon.
    fn drop(&mut self) {
        self.limit.free_slot(&self.is_taken);
    }
}

/// A place in the queue. It is given up when this is dropped.
pub(crate) struct Ticket {
    limit: Arc<FetchLimit>,
    pub(crate) number: u64,
    started: OnceLock<Started>,
}

/// The fetch that was started for a ticket.
#[derive(Clone, Copy)]
pub(crate) struct Started {
    /// Identifies the fetch among all of its entry.
    pub(crate) number: u64,
    pub(crate) overdue_at: Moment,
}

impl Ticket {
    pub(crate) fn started(&self) -> Option<Started> {
        self.started.get().copied()
    }

    pub(crate) fn note_started(&self, started: Started) {
        // A place is left once.
        let _ = self.started.set(started);
    }

    /// Notes that callers wait for a renewal. It keeps its number, so it comes before those that came later.
    pub(crate) fn promote(&self) {
        let mut state = self.limit.lock();
        if let Some(place) = state.renewals.remove(&self.number) {
            state.for_callers.insert(self.number, place);
        }
    }

    /// Leaves the queue, to start the fetch now.
    pub(crate) fn leave(&self) -> Option<Place> {
        self.limit.take(self.number)
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let place = self.limit.take(self.number);
        drop(place);
    }
}
