//! Looks up the token of an entry under the lock, and joins or starts its fetch.
//!
//! 1. A fetch runs on a task of its own: dropping a caller changes nothing for the others.
//! 2. A fetch is *lost* if its task is gone without an outcome (its runtime has ended), or if it is overdue (its runtime is alive, but
//!    nobody drives it). Then a waiter may start another. If a lost fetch still returns a token, those who still wait for it get that
//!    token; the entry keeps it only if the fetch spent a one-time credential.
//! 3. A panic of the endpoint is an outcome; otherwise every waiter would start the fetch again.

use std::{sync::Arc, time::Duration};

use tokio::{runtime::Handle, task::AbortHandle, time};

use super::{Entry, EntryState};
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

/// What a caller gets at once.
pub(crate) enum Lookup {
    Token(Arc<CachedToken>),
    Wait(FetchWaiter),
    Failed(TokenError),
}

/// What all waiters of a fetch get.
pub(crate) type FetchOutcome = Result<Arc<CachedToken>, TokenError>;

/// After this many lost fetches in a row, the runtime is to blame.
const MAX_LOST_FETCHES: usize = 16;

/// A fetch is overdue when it exceeds its limit by this much.
const GRACE: Duration = Duration::from_secs(5);

/// The coarse clock lags behind timers by at most this much.
pub(crate) const CLOCK_LAG: Duration = Duration::from_millis(10);

impl Entry {
    /// Returns the token, and waits for it if there is no usable one.
    pub(crate) async fn token(self: Arc<Self>) -> FetchOutcome {
        self.wait_for(Self::look_up).await
    }

    /// Fetches a new token even if the current one is usable, except during a pause that the server asked for.
    pub(crate) async fn renew(self: Arc<Self>) -> FetchOutcome {
        self.wait_for(Self::look_up_new).await
    }

    async fn wait_for(self: &Arc<Self>, look_up: fn(&Arc<Self>) -> Lookup) -> FetchOutcome {
        for _ in 0..MAX_LOST_FETCHES {
            match look_up(self) {
                Lookup::Token(cached) => return Ok(cached),
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

    pub(crate) fn look_up(self: &Arc<Self>) -> Lookup {
        let now = self.now();
        let mut state = self.lock();
        let cached = self.current.load_full();
        let reason = match state::classify(cached.as_ref(), state.failure.as_deref(), now) {
            Condition::Fresh(cached) => return Lookup::Token(cached.clone()),
            Condition::Stale(cached) => {
                let cached = cached.clone();
                self.renew_if_due(&mut state, now);
                return Lookup::Token(cached);
            }
            Condition::Failed(failure) => return Lookup::Failed(failure.error.clone()),
            Condition::Expired => Reason::Expired,
            Condition::Empty if state.was_refused => Reason::Refused,
            Condition::Empty => Reason::First,
        };
        self.join_or_start(&mut state, now, reason)
    }

    fn look_up_new(self: &Arc<Self>) -> Lookup {
        let now = self.now();
        let mut state = self.lock();
        match state.failure.as_deref() {
            Some(failure) if failure.server_asked_to_wait(now) => {
                Lookup::Failed(failure.error.clone())
            }
            _ => self.join_or_start(&mut state, now, Reason::Asked),
        }
    }

    /// Starts the renewal of a stale token.
    ///
    /// It classifies the token again because a renewal may have landed before the caller got the lock. It ignores a missing runtime,
    /// which does no harm while the token is usable.
    pub(super) fn renew_if_due(self: &Arc<Self>, state: &mut EntryState, now: Moment) {
        let cached = self.current.load();
        let is_stale = matches!(
            state::classify(cached.as_ref(), None, now),
            Condition::Stale(_)
        );
        let is_pausing = state
            .failure
            .as_ref()
            .is_some_and(|failure| failure.is_pausing(now));
        if is_stale && !is_pausing {
            self.join_or_start(state, now, Reason::Stale);
        }
    }

    fn join_or_start(
        self: &Arc<Self>,
        state: &mut EntryState,
        now: Moment,
        reason: Reason,
    ) -> Lookup {
        if let Some(fetch) = state.fetch.as_ref().filter(|fetch| !fetch.is_lost(now)) {
            return Lookup::Wait(fetch.join(now));
        }
        match self.start(state, now, reason) {
            Ok(fetch) => Lookup::Wait(state.fetch.insert(fetch).join(now)),
            Err(error) => Lookup::Failed(error),
        }
    }

    /// Starts a fetch on the runtime of the caller.
    fn start(
        self: &Arc<Self>,
        state: &mut EntryState,
        now: Moment,
        reason: Reason,
    ) -> Result<FetchTask, TokenError> {
        let runtime = Handle::try_current().map_err(|_| fetch::no_runtime())?;
        let request = match state.grant.next_request() {
            Ok(request) => request,
            Err(end) => {
                // So that `TokenCache::status` shows why there is no token.
                let previous = state.failure.as_deref();
                let failure = FailedFetch::after(previous, end.clone(), now, 0.0, None);
                state.failure = Some(Box::new(failure));
                return Err(end);
            }
        };
        let is_one_time = state.grant.is_one_time();
        let plan = FetchPlan {
            number: state.next_fetch_number(),
            reason,
            delay: state
                .next_fetch_at
                .map_or(Duration::ZERO, |at| now.until(at)),
            may_retry: state.failure.is_none()
                && matches!(reason, Reason::First | Reason::Expired | Reason::Refused),
            owner: is_one_time.then(|| self.request.clone()),
        };
        let number = plan.number;
        // The fetch has this limit, and so has the call of `on_refresh_token` after it.
        let limit = self.settings.fetch_timeout.saturating_mul(2);
        let overdue_at = now.after(plan.delay.saturating_add(limit).saturating_add(GRACE));
        let (flight, landing) = Flight::new();
        let (settings, entry) = (self.settings.clone(), Arc::downgrade(self));
        let task = runtime.spawn(fetch::run(settings, entry, request, plan, landing));
        Ok(FetchTask {
            number,
            overdue_at,
            flight,
            // A one-time credential gets only one response, so a fetch that spends one is never cancelled.
            abort: (!is_one_time).then(|| task.abort_handle()),
        })
    }
}

/// A fetch that is under way.
pub(super) struct FetchTask {
    number: u64,
    overdue_at: Moment,
    flight: Flight<FetchOutcome>,
    /// Set if the task ends when this is dropped.
    abort: Option<AbortHandle>,
}

impl FetchTask {
    /// Identifies this fetch among all of its entry.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// Returns whether an outcome is no longer expected.
    pub(super) fn is_lost(&self, now: Moment) -> bool {
        let is_overdue = now.has_outlasted(self.overdue_at);
        self.flight.is_lost() || (is_overdue && self.flight.is_under_way())
    }

    fn join(&self, now: Moment) -> FetchWaiter {
        FetchWaiter {
            waiter: self.flight.join(),
            patience: now.until_outlasted(self.overdue_at) + CLOCK_LAG,
        }
    }
}

impl Drop for FetchTask {
    /// Runs when the fetch has landed, was cancelled, or its entry is gone: nobody else will ask for the outcome.
    fn drop(&mut self) {
        if let Some(abort) = &self.abort {
            abort.abort();
        }
    }
}

/// Waits for a fetch until it is overdue.
pub(crate) struct FetchWaiter {
    waiter: Waiter<FetchOutcome>,
    patience: Duration,
}

impl FetchWaiter {
    /// Returns the outcome, or `None` if the fetch was lost.
    pub(crate) async fn outcome(self) -> Option<FetchOutcome> {
        let outcome = self.waiter.outcome();
        match Handle::try_current() {
            Ok(_) => time::timeout(self.patience, outcome).await.ok()?,
            // There is no timer outside of a runtime; the fetch itself has a limit.
            Err(_) => outcome.await,
        }
    }
}
