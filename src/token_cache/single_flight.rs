//! One fetch at a time, whose outcome everybody shares.
//!
//! 1. The fetch runs on a task of its own: a caller that goes away changes nothing for the others.
//! 2. Every waiter gets the outcome of the fetch that it joined.
//! 3. A flight whose task is gone without an outcome (its runtime has ended), or which is overdue (its runtime is alive, but nobody
//!    drives it), is *lost*; a waiter may start another. What a lost one brings after all is for those who still wait for it, except the
//!    answer to a one-time credential, which is taken in.
//! 4. A panic of the endpoint is an outcome, else every waiter would start it again.

use std::{
    pin::pin,
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{runtime::Handle, sync::Notify, task::AbortHandle, time};

use super::{entry::Entry, state::Held};
use crate::{base::clock::Moment, error::TokenError};

/// What a fetch came to.
pub(super) type Outcome = Result<Arc<Held>, TokenError>;

/// What the fetch and those who wait for it share. Many may wait, so there is little of it.
#[derive(Default)]
struct Shared {
    outcome: OnceLock<Outcome>,
    /// Whether the fetch has ended, with an outcome or without.
    is_over: AtomicBool,
    ended: Notify,
}

impl Shared {
    /// The outcome, or `None` if there will be none; and none of both while the fetch is under way.
    fn end(&self) -> Option<Option<Outcome>> {
        // In this order: what ended with an outcome has one before it is over.
        let is_over = self.is_over.load(Ordering::Acquire);
        let outcome = self.outcome.get().cloned();
        (is_over || outcome.is_some()).then_some(outcome)
    }
}

/// A fetch that is under way.
pub(super) struct Flight {
    number: u64,
    overdue_at: Moment,
    shared: Arc<Shared>,
    /// The task, if it is to end when nobody wants its outcome.
    task: Option<AbortHandle>,
}

impl Flight {
    pub(super) fn new(
        number: u64,
        overdue_at: Moment,
        ticket: Ticket,
        task: Option<AbortHandle>,
    ) -> Self {
        Self {
            number,
            overdue_at,
            shared: ticket.0,
            task,
        }
    }

    /// Names this flight among all of its entry.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// Whether no outcome is to be expected of it.
    pub(super) fn is_lost(&self, now: Moment) -> bool {
        match self.shared.end() {
            Some(outcome) => outcome.is_none(),
            None => now.has_outlasted(self.overdue_at),
        }
    }

    pub(super) fn join(&self, now: Moment) -> Waiter {
        Waiter {
            shared: self.shared.clone(),
            patience: now.until_outlasted(self.overdue_at) + GRAIN,
        }
    }
}

impl Drop for Flight {
    /// A flight is dropped when it has landed, or with its entry: nobody wants its outcome then.
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

/// Waits for the outcome of a flight.
pub(super) struct Waiter {
    shared: Arc<Shared>,
    patience: Duration,
}

/// The coarse clock lags behind timers by so much at most.
const GRAIN: Duration = Duration::from_millis(10);

impl Waiter {
    /// The outcome, or `None` if the flight was lost.
    pub(super) async fn outcome(self) -> Option<Outcome> {
        let mut ended = pin!(self.shared.ended.notified());
        // Before the look at it, so that an end in between is not missed.
        ended.as_mut().enable();
        if let Some(outcome) = self.shared.end() {
            return outcome;
        }
        match Handle::try_current() {
            Ok(_) => time::timeout(self.patience, ended).await.ok()?,
            // Nothing here could keep the time; the fetch itself has a limit.
            Err(_) => ended.await,
        }
        self.shared.end()?
    }
}

/// What those who wait get their part of.
pub(super) struct Ticket(Arc<Shared>);

/// The side of the fetch: lands the flight exactly once.
pub(super) struct Landing {
    entry: Weak<Entry>,
    shared: Arc<Shared>,
}

impl Landing {
    pub(super) fn new(entry: &Arc<Entry>) -> (Self, Ticket) {
        let shared = Arc::<Shared>::default();
        let landing = Self {
            entry: Arc::downgrade(entry),
            shared: shared.clone(),
        };
        (landing, Ticket(shared))
    }

    /// Tells the entry something on the way.
    pub(super) fn tell(&self, tell: impl FnOnce(&Entry)) {
        if let Some(entry) = self.entry.upgrade() {
            tell(&entry);
        }
    }

    /// Tells the entry first and the waiters then, so that none of them finds the entry as it was.
    pub(super) fn land(self, land: impl FnOnce(&Entry) -> Outcome) {
        if let Some(entry) = self.entry.upgrade() {
            let outcome = land(&entry);
            // It is empty, for nobody else sets it.
            let _ = self.shared.outcome.set(outcome);
        }
    }
}

impl Drop for Landing {
    /// The end of the fetch, be it that its task was dropped with its runtime.
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::Release);
        self.shared.ended.notify_waiters();
    }
}
