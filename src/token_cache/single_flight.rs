//! One fetch at a time, whose outcome everybody shares.
//!
//! 1. The fetch runs on a task of its own: a caller that goes away changes nothing for the others.
//! 2. Every waiter gets the outcome of the fetch that it joined.
//! 3. A flight whose task is gone without an outcome (its runtime has ended) is *lost*; a waiter may start another.
//! 4. A panic of the endpoint is an outcome, else every waiter would start it again.

use std::{
    future::{Future, poll_fn},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    sync::{Arc, Weak},
    task::Poll,
};

use tokio::{sync::watch, task::AbortHandle};

use super::{entry::Entry, state::Held};
use crate::token_endpoint::error::TokenError;

/// What a fetch came to.
pub(super) type Outcome = Result<Arc<Held>, TokenError>;

/// A fetch that is under way.
pub(super) struct Flight {
    outcome: watch::Receiver<Option<Outcome>>,
    /// The task, if it is to end when nobody wants its outcome.
    task: Option<AbortHandle>,
}

impl Flight {
    pub(super) fn new(waiter: Waiter, task: Option<AbortHandle>) -> Self {
        Self {
            outcome: waiter.0,
            task,
        }
    }

    /// Whether its task is gone without an outcome.
    pub(super) fn is_lost(&self) -> bool {
        self.outcome.has_changed().is_err() && self.outcome.borrow().is_none()
    }

    pub(super) fn join(&self) -> Waiter {
        Waiter(self.outcome.clone())
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
pub(super) struct Waiter(watch::Receiver<Option<Outcome>>);

impl Waiter {
    /// The outcome, or `None` if the flight was lost.
    pub(super) async fn outcome(mut self) -> Option<Outcome> {
        self.0.wait_for(Option::is_some).await.ok()?.clone()
    }
}

/// The side of the fetch: lands the flight exactly once.
pub(super) struct Landing {
    entry: Weak<Entry>,
    outcome: watch::Sender<Option<Outcome>>,
}

impl Landing {
    pub(super) fn new(entry: &Arc<Entry>) -> (Self, Waiter) {
        let (sender, receiver) = watch::channel(None);
        let landing = Self {
            entry: Arc::downgrade(entry),
            outcome: sender,
        };
        (landing, Waiter(receiver))
    }

    /// Tells the entry first and the waiters then, so that none of them finds the entry as it was.
    pub(super) fn land(&self, land: impl FnOnce(&Entry) -> Outcome) {
        if let Some(entry) = self.entry.upgrade() {
            let outcome = land(&entry);
            self.outcome.send_replace(Some(outcome));
        }
    }
}

/// The output of a future, or `None` if it panicked.
///
/// That a thread panics does not tell: a runtime that is torn down by a panic drops its tasks, and such a flight is lost.
pub(super) async fn catch_panic<F: Future>(future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    // It is not polled again after a panic.
    poll_fn(
        |cx| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
            Ok(poll) => poll.map(Some),
            Err(_) => Poll::Ready(None),
        },
    )
    .await
}
