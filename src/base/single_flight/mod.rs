//! Single flight: many wait for one outcome.
//!
//! 1. A flight ends exactly once: it lands with an outcome, or it is lost because the driver dropped its [`Landing`].
//! 2. A waiter gets the end of the flight that it joined, even if it joined after the end.
//! 3. No waiter misses the end: the driver sets the outcome before it notifies, and a waiter creates its notification before it looks
//!    at the outcome. tokio guarantees that `notify_waiters` reaches every notification that exists when it is called.
//! 4. Waiters are independent of each other: one that is dropped changes nothing for the others or for the driver.
//! 5. A waiter costs a reference count and no allocation, because ten thousand callers may wait for one fetch.
//!
//! The driver may be a task that owns the [`Landing`]. In [`driven`], the waiters themselves are the driver.

pub(crate) mod driven;

use std::sync::Arc;

use crate::base::sync::{Notify, OnceLock};

/// A handle to something under way that others can join.
pub(crate) struct Flight<T>(Arc<Shared<T>>);

struct Shared<T> {
    /// Empty while the flight is under way, `None` if it was lost.
    end: OnceLock<Option<T>>,
    ended: Notify,
}

impl<T> Flight<T> {
    /// Creates a flight and the landing with which its driver ends it.
    pub(crate) fn new() -> (Self, Landing<T>) {
        let shared = Arc::new(Shared {
            end: OnceLock::new(),
            ended: Notify::new(),
        });
        (Self(shared.clone()), Landing(shared))
    }

    /// Returns a waiter for the end of this flight.
    pub(crate) fn join(&self) -> Waiter<T> {
        Waiter(self.0.clone())
    }

    /// Returns whether the flight has neither landed nor been lost yet.
    pub(crate) fn is_under_way(&self) -> bool {
        self.0.end.get().is_none()
    }

    /// Returns whether the flight has ended without an outcome.
    pub(crate) fn is_lost(&self) -> bool {
        matches!(self.0.end.get(), Some(None))
    }
}

impl<T> Shared<T> {
    fn finish(&self, outcome: Option<T>) {
        if self.end.set(outcome).is_ok() {
            self.ended.notify_waiters();
        }
    }
}

/// The driver's side of a flight. Dropping it without an outcome loses the flight.
pub(crate) struct Landing<T>(Arc<Shared<T>>);

impl<T> Landing<T> {
    /// Ends the flight with an outcome.
    pub(crate) fn land(self, outcome: T) {
        self.0.finish(Some(outcome));
    }
}

impl<T> Drop for Landing<T> {
    fn drop(&mut self) {
        // Does nothing after `land`, since a flight ends once.
        self.0.finish(None);
    }
}

/// Waits for the end of a flight.
pub(crate) struct Waiter<T>(Arc<Shared<T>>);

impl<T: Clone> Waiter<T> {
    /// Returns the outcome, or `None` if the flight was lost.
    pub(crate) async fn outcome(self) -> Option<T> {
        let ended = self.0.ended.notified();
        if self.0.end.get().is_none() {
            ended.await;
        }
        self.0.end.get()?.clone()
    }
}
