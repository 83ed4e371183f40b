//! To get a token that is not there: look up, wait, start a fetch.

use std::{sync::Arc, time::Duration};

use tokio::runtime::Handle;

use super::{Entry, Lookup, State};
use crate::{
    base::{clock::Moment, single_flight::Flight},
    error::TokenError,
    token_cache::{
        error,
        failure::Failure,
        fetch::{self, Plan},
        fetch_task::{FetchTask, Outcome, PatientWaiter},
        state::{self, Condition, Reason},
    },
};

/// After so many flights in a row were lost, the runtime is to blame.
const MAX_LOST: usize = 16;

/// A fetch is overdue when it has taken so much longer than it may.
const GRACE: Duration = Duration::from_secs(5);

impl Entry {
    /// The token, waiting for it if need be.
    pub(crate) async fn token(self: Arc<Self>) -> Outcome {
        for _ in 0..MAX_LOST {
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
        Err(error::no_runtime())
    }

    /// A new token, even if the one that is held is good; not while the server wants to be left alone.
    pub(crate) async fn renew(self: Arc<Self>) -> Outcome {
        for _ in 0..MAX_LOST {
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
        Err(error::no_runtime())
    }

    pub(in crate::token_cache) fn look_up(self: &Arc<Self>) -> Lookup {
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
    pub(super) fn renew_if_due(self: &Arc<Self>, state: &mut State, now: Moment) {
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
        state: &mut State,
        now: Moment,
        reason: Reason,
    ) -> Result<PatientWaiter, TokenError> {
        if let Some(flight) = state.flight.as_ref().filter(|flight| !flight.is_lost(now)) {
            return Ok(flight.join(now));
        }
        let runtime = Handle::try_current().map_err(|_| error::no_runtime())?;
        let request = match state.grant.next() {
            Ok(request) => request,
            Err(end) => {
                // So that it is seen from outside why there is no token.
                let failure = Failure::after(state.failure.as_deref(), end.clone(), now, 0.0, None);
                state.failure = Some(Box::new(failure));
                return Err(end);
            }
        };
        let is_precious = state.grant.is_one_time();
        let plan = Plan {
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
