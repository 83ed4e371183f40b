//! Takes in the result of a fetch: a token, or a failure.

use std::{sync::Arc, time::Duration};

use super::{Entry, EntryState, FetchOutcome};
use crate::{
    authorization_server::polling::PollingInterval,
    base::clock::Moment,
    error::{CalledEndpoint, TokenError, TokenErrorKind::Timeout},
    message::TokenResponse,
    secret::RefreshToken,
    token_cache::{
        events,
        fetch::{FetchPlan, Fetched, sharing::Origin},
        header::unsupported_token_type,
        pauses::{FailedFetch, When},
        refresh_window::Lifespan,
        state::{self, CachedToken},
    },
};

/// At most one fetch a second is sent, except to replace a refused token, for which [`refusals`](crate::token_cache::refusals) has rules
/// of its own.
const MIN_FETCH_INTERVAL: Duration = Duration::from_secs(1);

impl Entry {
    /// Takes in the result of a fetch.
    pub(crate) fn land(&self, plan: &FetchPlan, fetched: Fetched) -> FetchOutcome {
        let is_superseded = fetched.is_superseded;
        let called = fetched.called;
        let is_provided = fetched.refresh_token.is_some();
        let landed = fetched.result.and_then(|response| {
            let origin = fetched.origin;
            let lifespan = self.lifespan(&response, origin);
            let has_expired = self.now().has_reached(fetched.sent.after(lifespan.usable));
            // A token that was never usable still goes to those who waited. One that was, and came too late, goes to nobody.
            if has_expired && !(lifespan.usable + lifespan.age).is_zero() {
                return Err(arrived_expired());
            }
            let cached = self.accept(
                plan,
                (fetched.sent, origin),
                lifespan,
                &response,
                called.clone(),
                is_provided,
            )?;
            let whose = self.whose(called.as_deref());
            match origin.is_from_store {
                true => events::shared(whose, plan.reason, lifespan),
                false => events::fetched(whose, plan.reason, lifespan),
            }
            Ok(cached)
        });
        landed.map_err(|error| {
            let error = self.say_whose(error, called.as_deref());
            self.note_failure(plan, error, is_superseded)
        })
    }

    fn lifespan(&self, response: &TokenResponse, origin: Origin) -> Lifespan {
        let settings = &self.settings;
        let mut state = self.lock();
        let lifetime = match (response.expires_in(), &mut state.history) {
            (Some(lifetime), _) => lifetime,
            (None, Some(history)) => history.lifetime.of_next_token(settings.default_lifetime),
            (None, None) => settings.default_lifetime,
        };
        let is_first = !state.has_had_token;
        drop(state);
        let lifetime = lifetime.min(settings.max_lifetime);
        let (window, jitter) = (&settings.refresh_window, fastrand::f64());
        let refresh_in = response.refresh_in();
        match origin.is_from_store {
            true => window.lifespan_of_shared(lifetime, refresh_in, origin.age, jitter),
            false => window
                .lifespan(lifetime, is_first, jitter)
                .renewed_in(refresh_in),
        }
    }

    fn accept(
        &self,
        plan: &FetchPlan,
        (sent, origin): (Moment, Origin),
        lifespan: Lifespan,
        response: &TokenResponse,
        called: Option<Arc<CalledEndpoint>>,
        is_provided: bool,
    ) -> FetchOutcome {
        let token = response.access_token();
        let authorization = token
            .sendable()
            .ok_or_else(|| unsupported_token_type(token.token_type()))?
            .clone();
        let kept = self.settings.keep.of(response, &self.request);
        let now = self.now();
        let mut state = self.lock();
        let previous = self.current.load();
        let is_last_of_grant = state.grant.is_one_time() && plan.number == state.newest_grant;
        let kept = match is_last_of_grant {
            // A provider may return the credential of another user.
            true => state.grant.keep(kept, is_provided),
            false => kept.map(Arc::new),
        };
        let cached = Arc::new(CachedToken {
            generation: state.next_generation(),
            token: token.clone(),
            authorization,
            stale_at: state::stale_at(sent, lifespan, previous.as_deref(), token),
            expires_at: sent.after(lifespan.usable),
            server_expires_at: sent.after(lifespan.lifetime),
            young_until: sent.after(lifespan.young()),
            sent,
            age_when_sent: lifespan.age,
            called,
            is_lifetime_guessed: response.expires_in().is_none(),
            clock: self.settings.clock.clone(),
            request: self.request.clone(),
            kept,
        });
        state.known.note(origin.fence);
        if !state.end_fetch(plan) && !is_last_of_grant {
            // Another fetch has taken its place, so only those who still wait for this one get the token.
            return Ok(cached);
        }
        state.has_had_token = true;
        state.was_refused = false;
        state.failure = None;
        let interval = MIN_FETCH_INTERVAL.saturating_sub(lifespan.age);
        state.next_fetch_at = Some(sent.after(interval));
        let is_previous_usable = previous
            .as_ref()
            .is_some_and(|previous| !now.has_reached(previous.expires_at));
        if is_previous_usable && now.has_reached(cached.expires_at) {
            // An unusable token does not displace a usable one.
            return Ok(cached);
        }
        self.accepted.clear();
        self.current
            .publish(Some(cached.clone()), cached.generation);
        drop(state);
        self.wake_watchers();
        Ok(cached)
    }

    /// Takes in the refresh token of a response before anything else is done with it.
    ///
    /// Returns `false` if a fetch that was sent later has already succeeded: then its refresh token stays.
    ///
    /// `sent` is the refresh token that was sent, if a provider returned it.
    pub(crate) fn note_refresh_token(
        &self,
        plan: &FetchPlan,
        response: &TokenResponse,
        sent: Option<RefreshToken>,
    ) -> bool {
        let mut state = self.lock();
        let is_newest = plan.number > state.newest_grant;
        if is_newest {
            state.newest_grant = plan.number;
            state.grant.succeeded(response, sent);
        }
        is_newest
    }

    /// Remembers a failed fetch. The current token stays.
    fn note_failure(&self, plan: &FetchPlan, error: TokenError, is_superseded: bool) -> TokenError {
        let now = self.now();
        let mut state = self.lock();
        if !state.end_fetch(plan) {
            // Another fetch has taken its place and decides what is remembered.
            return error;
        }
        let is_polled = state.grant.is_polled();
        let polling_interval = is_polled.then(|| PollingInterval::of(&self.request));
        if is_superseded {
            state.grant.superseded();
        }
        let error = state.grant.failed(error);
        let current = self.current.load();
        let when = When {
            now,
            jitter: fastrand::f64(),
            left: current
                .as_ref()
                .map_or(Duration::ZERO, |current| now.until(current.expires_at)),
            polling_interval,
        };
        let failure = FailedFetch::after(state.failure.as_deref(), error.clone(), when);
        let (failures, pause) = (failure.streak, failure.pause);
        state.failure = Some(Box::new(failure));
        state.next_fetch_at = Some(now.after(MIN_FETCH_INTERVAL));
        drop(state);
        events::failed(&self.request, plan.reason, &error, failures, pause);
        error
    }

    /// Drops the current token and cancels the fetch under way.
    ///
    /// It does not cancel a fetch that sends a one-time credential, because the next fetch would send that again. It forgets a failure,
    /// because its cause may have gone, but not a pause that the server asked for.
    pub(crate) fn clear(&self) {
        let mut state = self.lock();
        state
            .failure
            .take_if(|failure| !failure.is_pause_by_server());
        let given_up = match state.grant.is_one_time() {
            true => None,
            false => state.fetch.take(),
        };
        self.drop_token(&mut state);
        drop(state);
        if let Some(fetch) = given_up {
            fetch.give_up();
        }
        self.wake_watchers();
    }

    pub(super) fn drop_token(&self, state: &mut EntryState) {
        state.next_fetch_at = None;
        state.was_refused |= self.current.load().is_some();
        state.dropped = self.current_mark().or(state.dropped);
        let generation = state.next_generation();
        self.accepted.clear();
        self.current.publish(None, generation);
    }
}

impl EntryState {
    /// Notes that a fetch has landed. Returns whether it was still the current fetch of the entry.
    fn end_fetch(&mut self, plan: &FetchPlan) -> bool {
        let ended = self.fetch.take_if(|fetch| fetch.number == plan.number);
        ended.is_some()
    }
}

fn arrived_expired() -> TokenError {
    let message = "the access token expired before it arrived; the token endpoint is too slow for the lifetime of its tokens";
    TokenError::new(Timeout, message, None)
}
