//! One fetch at a time, whose outcome everybody shares.
//!
//! 1. The fetch runs on a task of its own: a caller that goes away changes nothing for the others.
//! 2. Every waiter gets the outcome of the fetch that it joined.
//! 3. A flight whose task is gone without an outcome (its runtime has ended), or which is overdue (its runtime is alive, but nobody
//!    drives it), is *lost*; a waiter may start another. What a lost one brings after all is for those who still wait for it, except the
//!    answer to a one-time credential, which is taken in.
//! 4. A panic of the endpoint is an outcome, else every waiter would start it again.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::{runtime::Handle, sync::watch, task::AbortHandle, time};

use super::{entry::Entry, state::Held};
use crate::{clock::Moment, token_endpoint::error::TokenError};

/// What a fetch came to.
pub(super) type Outcome = Result<Arc<Held>, TokenError>;

/// A fetch that is under way.
pub(super) struct Flight {
    number: u64,
    overdue_at: Moment,
    outcome: watch::Receiver<Option<Outcome>>,
    /// The task, if it is to end when nobody wants its outcome.
    task: Option<AbortHandle>,
}

impl Flight {
    pub(super) fn new(
        number: u64,
        overdue_at: Moment,
        outcome: watch::Receiver<Option<Outcome>>,
        task: Option<AbortHandle>,
    ) -> Self {
        Self {
            number,
            overdue_at,
            outcome,
            task,
        }
    }

    /// Names this flight among all of its entry.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// Whether no outcome is to be expected of it.
    pub(super) fn is_lost(&self, now: Moment) -> bool {
        let is_gone = self.outcome.has_changed().is_err();
        (is_gone || now.has_outlasted(self.overdue_at)) && self.outcome.borrow().is_none()
    }

    pub(super) fn join(&self, now: Moment) -> Waiter {
        Waiter {
            outcome: self.outcome.clone(),
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
    outcome: watch::Receiver<Option<Outcome>>,
    patience: Duration,
}

/// The coarse clock lags behind timers by so much at most.
const GRAIN: Duration = Duration::from_millis(10);

impl Waiter {
    /// The outcome, or `None` if the flight was lost.
    pub(super) async fn outcome(mut self) -> Option<Outcome> {
        let landed = self.outcome.wait_for(Option::is_some);
        let landed = match Handle::try_current() {
            Ok(_) => time::timeout(self.patience, landed).await.ok()?,
            // Nothing here could keep the time; the fetch itself has a limit.
            Err(_) => landed.await,
        };
        landed.ok()?.clone()
    }
}

/// The side of the fetch: lands the flight exactly once.
pub(super) struct Landing {
    entry: Weak<Entry>,
    outcome: watch::Sender<Option<Outcome>>,
}

impl Landing {
    pub(super) fn new(entry: &Arc<Entry>) -> (Self, watch::Receiver<Option<Outcome>>) {
        let (sender, receiver) = watch::channel(None);
        let landing = Self {
            entry: Arc::downgrade(entry),
            outcome: sender,
        };
        (landing, receiver)
    }

    /// Tells the entry something on the way.
    pub(super) fn tell(&self, tell: impl FnOnce(&Entry)) {
        if let Some(entry) = self.entry.upgrade() {
            tell(&entry);
        }
    }

    /// Tells the entry first and the waiters then, so that none of them finds the entry as it was.
    pub(super) fn land(&self, land: impl FnOnce(&Entry) -> Outcome) {
        if let Some(entry) = self.entry.upgrade() {
            let outcome = land(&entry);
            self.outcome.send_replace(Some(outcome));
        }
    }
}
