//! The task that fetches a token, as those see it who wait for its outcome.
//!
//! 1. The fetch runs on a task of its own: a caller that is dropped changes nothing for the others.
//! 2. A fetch is *lost* if its task is gone without an outcome (its runtime has ended), or if it is overdue (its runtime is alive, but
//!    nobody drives it). Then a waiter may start another. If a lost fetch still brings a token, those who still wait for it get that
//!    token; the entry takes in only the answer to a one-time credential.
//! 3. A panic of the endpoint is an outcome; otherwise every waiter would start the fetch again.

use std::{sync::Arc, time::Duration};

use tokio::{runtime::Handle, task::AbortHandle, time};

use super::state::Held;
use crate::{
    base::{
        clock::Moment,
        single_flight::{Flight, Waiter},
    },
    error::TokenError,
};

/// What a fetch came to.
pub(super) type Outcome = Result<Arc<Held>, TokenError>;

/// A fetch that is under way.
pub(super) struct FetchTask {
    number: u64,
    overdue_at: Moment,
    flight: Flight<Outcome>,
    /// Set if the task is to end when nobody wants its outcome.
    task: Option<AbortHandle>,
}

impl FetchTask {
    pub(super) fn new(
        number: u64,
        overdue_at: Moment,
        flight: Flight<Outcome>,
        task: Option<AbortHandle>,
    ) -> Self {
        Self {
            number,
            overdue_at,
            flight,
            task,
        }
    }

    /// Identifies this fetch among all of its entry.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// Returns whether no outcome is to be expected any longer.
    pub(super) fn is_lost(&self, now: Moment) -> bool {
        let is_overdue = now.has_outlasted(self.overdue_at);
        self.flight.is_lost() || (is_overdue && self.flight.is_under_way())
    }

    pub(super) fn join(&self, now: Moment) -> PatientWaiter {
        PatientWaiter {
            waiter: self.flight.join(),
            patience: now.until_outlasted(self.overdue_at) + GRAIN,
        }
    }
}

impl Drop for FetchTask {
    /// Runs when the fetch has landed, was given up, or its entry is gone: nobody else will ask for the outcome.
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

/// Waits for a fetch until it is overdue.
pub(super) struct PatientWaiter {
    waiter: Waiter<Outcome>,
    patience: Duration,
}

/// The coarse clock lags behind timers by at most this much.
const GRAIN: Duration = Duration::from_millis(10);

impl PatientWaiter {
    /// Returns the outcome, or `None` if the fetch was lost.
    pub(super) async fn outcome(self) -> Option<Outcome> {
        let outcome = self.waiter.outcome();
        match Handle::try_current() {
            Ok(_) => time::timeout(self.patience, outcome).await.ok()?,
            // There is no timer here; the fetch itself has a limit.
            Err(_) => outcome.await,
        }
    }
}
