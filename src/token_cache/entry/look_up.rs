//! To get a token that is not there: look up, wait, start a fetch.

use std::{sync::Arc, time::Duration};

use tokio::{runtime::Handle, task::AbortHandle, time};

use super::{Entry, EntryState, Lookup};
use crate::{
    base::{
        clock::Moment,
        single_flight::{Flight, Waiter},
    },
    error::TokenError,
    token_cache::{
        fetch::{self, FetchPlan, Reason},
        pauses::FailedFetch,
        state::{self, CachedToken, Condition},
    },
};

/// After so many flights in a row were lost, the runtime is to blame.
const MAX_LOST_FETCHES: usize = 16;

/// A fetch is overdue when it has taken so much longer than it may.
const GRACE: Duration = Duration::from_secs(5);

impl Entry {
    /// The token, waiting for it if need be.
    pub(crate) async fn token(self: Arc<Self>) -> Outcome {
        for _ in 0..MAX_LOST_FETCHES {
            match self.look_up() {
                Lookup::Token(held) => return Ok(held),
                Lookup::Failed(error) => return Err(error),
                Lookup::Wait(waiter) => {
                    if let Some(outcome) = waiter.outcome().await {
                        return outcome;
                    }
                }
            }
        }
        Err(fetch::no_runtime())
    }

    /// A new token, even if the one that is held is good; not while the server wants to be left alone.
    pub(crate) async fn renew(self: Arc<Self>) -> Outcome {
        for _ in 0..MAX_LOST_FETCHES {
            let waiter = {
                let now = self.now();
                let mut state = self.lock();
                if let Some(failure) = state.failure.as_deref().filter(|f| f.is_forbidden(now)) {
                    return Err(failure.error.clone());
                }
                self.join_or_start(&mut state, now, Reason::Asked)?
            };
            if let Some(outcome) = waiter.outcome().await {
                return outcome;
            }
        }
        Err(fetch::no_runtime())
    }

    pub(crate) fn look_up(self: &Arc<Self>) -> Lookup {
        let now = self.now();
        let mut state = self.lock();
        let held = self.current.load_full();
        let reason = match state::classify(held.as_ref(), state.failure.as_deref(), now) {
            Condition::Fresh(held) => return Lookup::Token(held.clone()),
            Condition::Stale(held) => {
                let held = held.clone();
                self.renew_if_due(&mut state, now);
                return Lookup::Token(held);
            }
            Condition::Failed(failure) => return Lookup::Failed(failure.error.clone()),
            Condition::Expired => Reason::Expired,
            Condition::Empty if state.was_refused => Reason::Refused,
            Condition::Empty => Reason::First,
        };
        match self.join_or_start(&mut state, now, reason) {
            Ok(waiter) => Lookup::Wait(waiter),
            Err(error) => Lookup::Failed(error),
        }
    }

    /// Starts the renewal of a token that is stale, as seen under the lock: a renewal may have landed since the caller looked.
    /// That there is no runtime to run it on is no harm while the token is good.
    pub(super) fn renew_if_due(self: &Arc<Self>, state: &mut EntryState, now: Moment) {
        let held = self.current.load();
        let is_stale = matches!(
            state::classify(held.as_ref(), None, now),
            Condition::Stale(_)
        );
        let is_pausing = state
            .failure
            .as_ref()
            .is_some_and(|failure| failure.is_pausing(now));
        if is_stale && !is_pausing {
            let _ = self.join_or_start(state, now, Reason::Stale);
        }
    }

    fn join_or_start(
        self: &Arc<Self>,
        state: &mut EntryState,
        now: Moment,
        reason: Reason,
    ) -> Result<FetchWaiter, TokenError> {
        if let Some(flight) = state.flight.as_ref().filter(|flight| !flight.is_lost(now)) {
            return Ok(flight.join(now));
        }
        let runtime = Handle::try_current().map_err(|_| fetch::no_runtime())?;
        let request = match state.grant.next() {
            Ok(request) => request,
            Err(end) => {
                // So that it is seen from outside why there is no token.
                let failure =
                    FailedFetch::after(state.failure.as_deref(), end.clone(), now, 0.0, None);
                state.failure = Some(Box::new(failure));
                return Err(end);
            }
        };
        let is_precious = state.grant.is_one_time();
        let plan = FetchPlan {
            number: state.next_generation(),
            reason,
            delay: state
                .next_fetch_at
                .map_or(Duration::ZERO, |at| now.until(at)),
            may_retry: state.failure.is_none()
                && matches!(reason, Reason::First | Reason::Expired | Reason::Refused),
            owner: is_precious.then(|| self.request.clone()),
        };
        // The fetch and, after it, the owner of a refresh token have as much time each.
        let limit = self.settings.fetch_timeout.saturating_mul(2);
        let overdue_at = now.after(plan.delay.saturating_add(limit).saturating_add(GRACE));
        let number = plan.number;
        let (flight, landing) = Flight::new();
        let (settings, entry) = (self.settings.clone(), Arc::downgrade(self));
        let task = runtime.spawn(fetch::run(settings, entry, request, plan, landing));
        // The answer to a one-time credential is the only one: such a fetch is not cancelled with the last handle.
        let abort = (!is_precious).then(|| task.abort_handle());
        let flight = FetchTask::new(number, overdue_at, flight, abort);
        Ok(state.flight.insert(flight).join(now))
    }
}

// The task that fetches a token, as those see it who wait for its outcome.
//
// 1. The fetch runs on a task of its own: a caller that is dropped changes nothing for the others.
// 2. A fetch is *lost* if its task is gone without an outcome (its runtime has ended), or if it is overdue (its runtime is alive, but
//    nobody drives it). Then a waiter may start another. If a lost fetch still brings a token, those who still wait for it get that
//    token; the entry takes in only the answer to a one-time credential.
// 3. A panic of the endpoint is an outcome; otherwise every waiter would start the fetch again.

/// What a fetch came to.
pub(crate) type Outcome = Result<Arc<CachedToken>, TokenError>;

/// A fetch that is under way.
pub(crate) struct FetchTask {
    number: u64,
    overdue_at: Moment,
    flight: Flight<Outcome>,
    /// Set if the task is to end when nobody wants its outcome.
    task: Option<AbortHandle>,
}

impl FetchTask {
    pub(crate) fn new(
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
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// Returns whether no outcome is to be expected any longer.
    pub(crate) fn is_lost(&self, now: Moment) -> bool {
        let is_overdue = now.has_outlasted(self.overdue_at);
        self.flight.is_lost() || (is_overdue && self.flight.is_under_way())
    }

    pub(crate) fn join(&self, now: Moment) -> FetchWaiter {
        FetchWaiter {
            waiter: self.flight.join(),
            patience: now.until_outlasted(self.overdue_at) + CLOCK_LAG,
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
pub(crate) struct FetchWaiter {
    waiter: Waiter<Outcome>,
    patience: Duration,
}

/// The coarse clock lags behind timers by at most this much.
const CLOCK_LAG: Duration = Duration::from_millis(10);

impl FetchWaiter {
    /// Returns the outcome, or `None` if the fetch was lost.
    pub(crate) async fn outcome(self) -> Option<Outcome> {
        let outcome = self.waiter.outcome();
        match Handle::try_current() {
            Ok(_) => time::timeout(self.patience, outcome).await.ok()?,
            // There is no timer here; the fetch itself has a limit.
            Err(_) => outcome.await,
        }
    }
}
