//! To take in what came: a token, a failure, a refusal.

use std::{sync::Arc, time::Duration};

use super::{Entry, Invalidation, State};
use crate::{
    base::clock::Moment,
    error::TokenError,
    message::{AccessToken, TokenResponse},
    token_cache::{
        error, events,
        failure::Failure,
        fetch::{Fetched, Plan},
        fetch_task::Outcome,
        refresh_window::Windows,
        state::{self, Held},
    },
};

/// At most one fetch a second goes out, except to replace a token that was refused, which has a rule of its own.
const SPACING: Duration = Duration::from_secs(1);

impl Entry {
    /// Takes in what a fetch came to.
    pub(in crate::token_cache) fn land(&self, plan: &Plan, fetched: Fetched) -> Outcome {
        let held = fetched.result.and_then(|response| {
            let windows = self.windows(&response);
            // A token that never had a use goes once to those who waited; one that had, and came too late, to nobody.
            let is_over = self.now().has_reached(fetched.sent.after(windows.usable));
            if is_over && !windows.usable.is_zero() {
                return Err(error::arrived_over());
            }
            let held = self.hold(plan, fetched.sent, windows, response.access_token())?;
            events::fetched(&self.request, plan.reason, windows);
            Ok(held)
        });
        held.map_err(|error| self.note_failure(plan, error))
    }

    fn windows(&self, response: &TokenResponse) -> Windows {
        let settings = &self.settings;
        let lifetime = response.expires_in().unwrap_or(settings.default_lifetime);
        let is_first = !self.lock().has_renewed;
        settings
            .refresh_window
            .of(lifetime, is_first, fastrand::f64())
            .renewed_in(response.refresh_in())
    }

    fn hold(&self, plan: &Plan, sent: Moment, windows: Windows, token: &AccessToken) -> Outcome {
        let authorization = token
            .sendable()
            .ok_or_else(|| error::unsupported_token_type(token.token_type()))?
            .clone();
        let now = self.now();
        let mut state = self.lock();
        let before = self.current.load();
        let held = Arc::new(Held {
            generation: state.next_generation(),
            token: token.clone(),
            authorization,
            stale_at: state::stale_at(sent, windows, before.as_deref(), token),
            expires_at: sent.after(windows.usable),
            ends_at: sent.after(windows.lifetime),
            settled_at: sent.after(windows.lifetime / 2),
        });
        if !state.end_flight(plan) && !state.grant.is_one_time() {
            // It was given up in the meantime, so it is for those who still wait for it.
            return Ok(held);
        }
        state.has_renewed = true;
        state.was_refused = false;
        state.failure = None;
        state.next_fetch_at = Some(sent.after(SPACING));
        let is_before_good = before
            .as_ref()
            .is_some_and(|held| !now.has_reached(held.expires_at));
        if is_before_good && now.has_reached(held.expires_at) {
            // A token without a use does not displace one that can be used.
            return Ok(held);
        }
        self.current.publish(Some(held.clone()), held.generation);
        drop(state);
        if let Some(changes) = self.changes.get() {
            changes.send_replace(held.generation);
        }
        Ok(held)
    }

    /// Takes in the refresh token of an answer before anything else is done with it.
    pub(in crate::token_cache) fn note_refresh_token(&self, response: &TokenResponse) {
        self.lock().grant.succeeded(response);
    }

    /// Remembers a failed fetch. A token that is held stays what it is.
    fn note_failure(&self, plan: &Plan, error: TokenError) -> TokenError {
        let now = self.now();
        let mut state = self.lock();
        if !state.end_flight(plan) {
            // Another fetch has taken its place, which will say how it stands.
            return error;
        }
        let error = state.grant.failed(error);
        let failure = Failure::after(
            state.failure.as_deref(),
            error.clone(),
            now,
            fastrand::f64(),
            self.request.polling_interval_override(),
        );
        let (failures, pause) = (failure.streak, failure.pause);
        state.failure = Some(Box::new(failure));
        state.next_fetch_at = Some(now.after(SPACING));
        drop(state);
        events::failed(&self.request, plan.reason, &error, failures, pause);
        error
    }

    /// Drops the token if it is the one that was refused. See [`Refusals`](crate::token_cache::refusals::Refusals) for when it is
    /// kept all the same.
    pub(crate) fn invalidate(&self, is_refused: impl FnOnce(&Held) -> bool) -> Invalidation {
        let now = self.now();
        let mut state = self.lock();
        let refused = self.current.load_full().filter(|held| is_refused(held));
        let invalidation = match refused {
            None => Invalidation::Replaced,
            // A token that served for a while was good, so this says nothing of the next one.
            Some(held) if !now.has_reached(held.settled_at) && !state.refusals.note(now) => {
                Invalidation::Kept
            }
            Some(_) => {
                self.forget(&mut state);
                Invalidation::Dropped
            }
        };
        drop(state);
        events::refused(&self.request, invalidation);
        invalidation
    }

    /// Drops the token, whatever it is, and what a fetch under way would bring; but not one that sends what can be sent once, for
    /// the next fetch would send it again. A failure is forgotten too, since its cause may be what has changed; but not the word of the
    /// server, how long to leave it alone.
    pub(in crate::token_cache) fn clear(&self) {
        let mut state = self.lock();
        state.failure.take_if(|failure| !failure.is_asked_for());
        if !state.grant.is_one_time() {
            state.flight = None;
        }
        self.forget(&mut state);
    }

    fn forget(&self, state: &mut State) {
        state.next_fetch_at = None;
        state.was_refused |= self.current.load().is_some();
        let generation = state.next_generation();
        self.current.publish(None, generation);
    }
}

impl State {
    /// Notes that a flight has landed; says whether it is the one that was waited for.
    fn end_flight(&mut self, plan: &Plan) -> bool {
        let ended = self.flight.take_if(|flight| flight.number() == plan.number);
        ended.is_some()
    }
}
