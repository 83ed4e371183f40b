//! Single flight: many wait for one outcome.
//!
//! 1. A flight ends exactly once: it lands with an outcome, it is lost because the driver dropped its [`Landing`], or somebody else
//!    gives it up. What comes later does nothing.
//! 2. A waiter gets the end of the flight that it joined, even if it joined after the end.
//! 3. No waiter misses the end: the driver sets the outcome before it notifies, and a waiter creates its notification before it looks
//!    at the outcome. tokio guarantees that `notify_waiters` reaches every notification that exists when it is called.
//! 4. Waiters are independent of each other: one that is dropped changes nothing for the others or for the driver.
//! 5. A waiter costs a reference count and no allocation, because ten thousand callers may wait for one fetch.
//!
//! The driver may be a task that owns the [`Landing`]. In [`driven`], the waiters themselves are the driver. [`pulse`] tells the waiters
//! of a task whether that task is polled.

pub(crate) mod driven;
pub(crate) mod pulse;

use std::sync::{Arc, Weak};

use self::pulse::{Beat, Counter, Pulse};
use crate::base::sync::{Notify, OnceLock};

/// A handle to something under way that others can join.
pub(crate) struct Flight<T>(Arc<Shared<T>>);

struct Shared<T> {
    /// Empty while the flight is under way.
    end: OnceLock<End<T>>,
    ended: Notify,
    counter: Counter,
}

/// How a flight ended.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum End<T> {
    Landed(T),
    /// The driver is gone, without an outcome.
    Lost,
    /// Nobody waits for the driver any longer.
    GivenUp,
}

impl<T> Flight<T> {
    /// Creates a flight and the landing with which its driver ends it.
    pub(crate) fn new() -> (Self, Landing<T>) {
        let shared = Arc::new(Shared {
            end: OnceLock::new(),
            ended: Notify::new(),
            counter: Counter::new(),
        });
        (Self(shared.clone()), Landing(shared))
    }

    /// Returns a waiter for the end of this flight.
    pub(crate) fn join(&self) -> Waiter<T> {
        Waiter(self.0.clone())
    }

    /// Returns an observer of this flight.
    pub(crate) fn observe(&self) -> Observer<T> {
        Observer(Arc::downgrade(&self.0))
    }

    /// Returns whether the flight has neither landed nor been lost yet.
    pub(crate) fn is_under_way(&self) -> bool {
        self.0.end.get().is_none()
    }

    /// Returns whether the flight has ended without an outcome.
    pub(crate) fn is_lost(&self) -> bool {
        matches!(self.0.end.get(), Some(End::Lost | End::GivenUp))
    }

    /// Ends the flight for its waiters, without the driver.
    pub(crate) fn give_up(&self) {
        self.0.finish(End::GivenUp);
    }

    /// Returns what the pulse of the driver shows now.
    pub(crate) fn beat(&self) -> Beat {
        self.0.counter.now()
    }

    /// Keeps the driver from starting. Returns `false` if it has started already.
    pub(crate) fn ground(&self) -> bool {
        self.0.counter.ground()
    }
}

impl<T> Shared<T> {
    fn finish(&self, end: End<T>) {
        if self.end.set(end).is_ok() {
            self.ended.notify_waiters();
        }
    }
}

/// The driver's side of a flight. Dropping it without an outcome loses the flight.
pub(crate) struct Landing<T>(Arc<Shared<T>>);

impl<T> Landing<T> {
    /// Ends the flight with an outcome.
    pub(crate) fn land(self, outcome: T) {
        self.0.finish(End::Landed(outcome));
    }

    /// Returns the pulse that the driver keeps.
    pub(crate) fn pulse(&self) -> Pulse<T> {
        Pulse(self.0.clone())
    }
}

impl<T> Drop for Landing<T> {
    fn drop(&mut self) {
        // Does nothing after `land`, since a flight ends once.
        self.0.finish(End::Lost);
    }
}

/// Waits for the end of a flight.
pub(crate) struct Waiter<T>(Arc<Shared<T>>);

impl<T> Waiter<T> {
    /// Returns whether the flight has not ended yet.
    pub(crate) fn is_under_way(&self) -> bool {
        self.0.end.get().is_none()
    }
}

/// Sees whether a flight is under way, without keeping its outcome.
pub(crate) struct Observer<T>(Weak<Shared<T>>);

impl<T> Observer<T> {
    /// Returns what the pulse of the driver shows now, or `None` if the flight has ended.
    pub(crate) fn beat(&self) -> Option<Beat> {
        let shared = self.0.upgrade()?;
        let is_under_way = shared.end.get().is_none();
        is_under_way.then(|| shared.counter.now())
    }
}

impl<T: Clone> Waiter<T> {
    /// Returns what the pulse of the driver shows now.
    pub(crate) fn beat(&self) -> Beat {
        self.0.counter.now()
    }

    /// Waits until the flight ends.
    pub(crate) async fn end(&self) -> End<T> {
        let ended = self.0.ended.notified();
        if self.0.end.get().is_none() {
            ended.await;
        }
        // The end is set before waiters are notified.
        self.0.end.get().cloned().unwrap_or(End::Lost)
    }
}
