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
//! 6. A fetch for which another fetch waits does not wait for a slot: the other one might hold the last.

use std::{
    cell::Cell,
    collections::{BTreeMap, HashMap},
    future::{Future, poll_fn},
    pin::pin,
    sync::{
        Arc, OnceLock, PoisonError, Weak,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::runtime::Handle;

use super::{
    entry::{Entry, FetchOutcome},
    heartbeat::{LOOK, Watch},
};
use crate::base::{
    clock::Moment,
    single_flight::{Landing, Waiter},
    sync::{Mutex, MutexGuard, thread_local},
};

/// The fetches of a cache that are under way, and the entries that wait to start one.
pub(crate) struct FetchLimit {
    max: usize,
    state: Mutex<LimitState>,
    /// How many entries wait. It is only a hint.
    waiting: AtomicUsize,
}

#[derive(Default)]
struct LimitState {
    /// The number of the last slot or place.
    last_number: u64,
    slots: HashMap<u64, Option<Observed>>,
    /// Until then, nobody looks whether the fetches are driven.
    look_at: Option<Moment>,
    for_callers: BTreeMap<u64, Place>,
    renewals: BTreeMap<u64, Place>,
    is_turn_of_renewals: bool,
}

/// A fetch under way, as those see it who wait for its slot.
struct Observed {
    fetch: Waiter<FetchOutcome>,
    overdue_at: Moment,
    watch: Watch,
}

/// An entry that waits to start a fetch.
pub(super) struct Place {
    entry: Weak<Entry>,
    runtime: Handle,
    pub(super) landing: Landing<FetchOutcome>,
}

impl FetchLimit {
    pub(super) fn new(max: usize) -> Arc<Self> {
        Arc::new(Self {
            max: max.max(1),
            state: Mutex::default(),
            waiting: AtomicUsize::new(0),
        })
    }

    /// Returns a slot for a new fetch, unless all are taken or somebody waits for one.
    pub(super) fn enter(self: &Arc<Self>) -> Option<Slot> {
        let mut state = self.lock();
        let is_free = state.slots.len() < self.max && state.is_nobody_waiting();
        is_free.then(|| self.add_slot(&mut state))
    }

    /// Returns a slot for a new fetch that cannot wait for one.
    pub(super) fn enter_at_once(self: &Arc<Self>) -> Slot {
        self.add_slot(&mut self.lock())
    }

    fn add_slot(self: &Arc<Self>, state: &mut LimitState) -> Slot {
        let number = state.next_number();
        state.slots.insert(number, None);
        Slot {
            limit: self.clone(),
            number,
        }
    }

    /// Takes a place in the queue.
    pub(super) fn queue(
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
        while self.waiting.load(Ordering::Relaxed) > 0 {
            // Dropped after the lock.
            let _over;
            let mut state = self.lock();
            _over = state.forget_lost(now);
            if state.slots.len() >= self.max {
                return;
            }
            let Some((number, place)) = state.take_next() else {
                return;
            };
            self.note_waiting(&state);
            let slot = self.add_slot(&mut state);
            drop(state);
            if let Some(entry) = place.entry.upgrade() {
                entry.start_queued(number, slot, &place.runtime, place.landing);
            }
        }
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
        self.waiting.store(waiting, Ordering::Relaxed);
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

    /// Frees the slots of fetches from which no outcome is expected.
    fn forget_lost(&mut self, now: Moment) -> Vec<Observed> {
        if !self
            .look_at
            .is_none_or(|look_at| now.has_outlasted(look_at))
        {
            return Vec::new();
        }
        self.look_at = Some(now.after(LOOK));
        let lost = |observed: &mut Option<Observed>| {
            observed
                .as_mut()
                .is_some_and(|observed| observed.is_lost(now))
        };
        let mut forgotten = Vec::new();
        self.slots.retain(|_, observed| {
            let is_lost = lost(observed);
            if is_lost {
                forgotten.extend(observed.take());
            }
            !is_lost
        });
        forgotten
    }
}

impl Observed {
    fn is_lost(&mut self, now: Moment) -> bool {
        !self.fetch.is_under_way()
            || now.has_outlasted(self.overdue_at)
            || self.watch.look(self.fetch.beat(), now, 0)
    }
}

/// The right of a fetch to be under way.
pub(super) struct Slot {
    limit: Arc<FetchLimit>,
    number: u64,
}

impl Slot {
    /// Lets those who wait for the slot observe its fetch.
    pub(super) fn observe(&self, fetch: Waiter<FetchOutcome>, overdue_at: Moment, now: Moment) {
        let watch = Watch::new(fetch.beat(), now);
        let observed = Observed {
            fetch,
            overdue_at,
            watch,
        };
        self.limit.lock().slots.insert(self.number, Some(observed));
    }

    /// Runs the fetch that holds this slot, and then starts what waits for it.
    pub(super) async fn run(self, fetch: impl Future<Output = ()>, now: impl FnOnce() -> Moment) {
        within_a_fetch(fetch).await;
        let limit = self.limit.clone();
        drop(self);
        limit.dispatch(now());
    }
}

impl Drop for Slot {
    /// Does not start the next fetch: a lock may be held, and a runtime may be shutting down. Those who wait look again soon.
    fn drop(&mut self) {
        let observed = self.limit.lock().slots.remove(&self.number);
        drop(observed);
    }
}

/// A place in the queue. It is given up when this is dropped.
pub(crate) struct Ticket {
    limit: Arc<FetchLimit>,
    pub(super) number: u64,
    started: OnceLock<Started>,
}

/// The fetch that was started for a ticket.
#[derive(Clone, Copy)]
pub(super) struct Started {
    /// Identifies the fetch among all of its entry.
    pub(super) number: u64,
    pub(super) overdue_at: Moment,
}

impl Ticket {
    pub(super) fn started(&self) -> Option<Started> {
        self.started.get().copied()
    }

    pub(super) fn note_started(&self, started: Started) {
        // A place is left once.
        let _ = self.started.set(started);
    }

    /// Notes that callers wait for a renewal. It keeps its number, so it comes before those that came later.
    pub(super) fn promote(&self) {
        let mut state = self.limit.lock();
        if let Some(place) = state.renewals.remove(&self.number) {
            state.for_callers.insert(self.number, place);
        }
    }

    /// Leaves the queue, to start the fetch now.
    pub(super) fn leave(&self) -> Option<Place> {
        self.limit.take(self.number)
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let place = self.limit.take(self.number);
        drop(place);
    }
}

thread_local! {
    static IS_WITHIN_A_FETCH: Cell<bool> = const { Cell::new(false) };
}

/// Returns whether the current task runs a fetch, of any cache, which waits for what is called now.
pub(super) fn is_within_a_fetch() -> bool {
    IS_WITHIN_A_FETCH.with(Cell::get)
}

async fn within_a_fetch<F: Future>(fetch: F) -> F::Output {
    let mut fetch = pin!(fetch);
    poll_fn(|cx| {
        let _restored = Restored(IS_WITHIN_A_FETCH.with(|is_within| is_within.replace(true)));
        fetch.as_mut().poll(cx)
    })
    .await
}

/// Restores the flag even if the fetch panics.
struct Restored(bool);

impl Drop for Restored {
    fn drop(&mut self) {
        IS_WITHIN_A_FETCH.with(|is_within| is_within.set(self.0));
    }
}
