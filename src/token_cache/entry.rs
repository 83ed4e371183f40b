//! An entry of the cache: one token request and the token that it brings.
//!
//! 1. `state` is locked for a few instructions at a time: never across an await, nor while code of the user runs, to which the
//!    subscribers of `tracing` belong.
//! 2. `current` is what callers read without the lock; it is written under the lock.
//! 3. `generation` changes whenever `current` does, after it. A copy of a token is good while its generation stands.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;
use tokio::{runtime::Handle, sync::watch};

use super::{
    error, events,
    failure::Failure,
    fetch::{self, Fetched, Plan},
    grant::Grant,
    keep_warm::KeepWarm,
    refusals::Refusals,
    registry,
    settings::Settings,
    single_flight::{Flight, Landing, Outcome, Waiter},
    state::{self, Condition, Held, Reason},
};
use crate::{
    clock::Moment, token_endpoint::error::TokenError, token_request::TokenRequest,
    token_response::TokenResponse,
};

/// At most one fetch a second goes out, except to replace a token that was refused, which has a rule of its own.
const SPACING: Duration = Duration::from_secs(1);

/// After so many flights in a row were lost, the runtime is to blame.
const MAX_LOST: usize = 3;

pub(crate) struct Entry {
    id: u64,
    request: TokenRequest,
    settings: Arc<Settings>,
    generation: OwnLine<AtomicU64>,
    current: ArcSwapOption<Held>,
    state: Mutex<State>,
    changes: OnceLock<watch::Sender<u64>>,
    is_used: AtomicBool,
}

/// Keeps what every thread reads apart from what one of them writes.
#[repr(align(128))]
struct OwnLine<T>(T);

struct State {
    generations: u64,
    has_renewed: bool,
    was_refused: bool,
    grant: Grant,
    /// Boxed, since it is rare, and an entry is to be small.
    failure: Option<Box<Failure>>,
    refusals: Refusals,
    flight: Option<Flight>,
    next_fetch_at: Option<Moment>,
    keep_warm: Option<KeepWarm>,
}

/// What a caller gets at once.
pub(super) enum Lookup {
    Token(Arc<Held>),
    Wait(Waiter),
    Failed(TokenError),
}

/// What became of a token that was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Invalidation {
    /// It is gone; the next caller fetches another.
    Dropped,
    /// It had been replaced already.
    Replaced,
    /// It stays, since tokens were refused too often of late.
    Kept,
}

/// To read what there is.
impl Entry {
    pub(super) fn new(request: TokenRequest, settings: Arc<Settings>) -> Arc<Self> {
        registry::register(|id| Self {
            id,
            settings,
            generation: OwnLine(AtomicU64::new(0)),
            current: ArcSwapOption::empty(),
            state: Mutex::new(State::new(request.clone())),
            request,
            changes: OnceLock::new(),
            is_used: AtomicBool::new(false),
        })
    }

    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    pub(super) fn request(&self) -> &TokenRequest {
        &self.request
    }

    #[inline]
    pub(crate) fn now(&self) -> Moment {
        self.settings.clock.now()
    }

    /// Which token is current. A copy with the same generation is the current one.
    #[inline]
    pub(crate) fn generation(&self) -> u64 {
        self.generation.0.load(Ordering::Acquire)
    }

    /// Looks at the token, if there is one that can be used now; a renewal is started if it is time for one.
    ///
    /// The pointer to it is not cloned, since all threads would count on one cache line.
    pub(crate) fn usable<T>(self: &Arc<Self>, look: impl FnOnce(&Arc<Held>) -> T) -> Option<T> {
        let now = self.now();
        let held = self.current.load();
        match state::classify(held.as_ref(), None, now) {
            Condition::Fresh(held) => Some(look(held)),
            Condition::Stale(held) => {
                // Whoever has the lock is starting the renewal, or has just done so.
                if let Ok(mut state) = self.state.try_lock() {
                    self.renew_if_due(&mut state, now);
                }
                Some(look(held))
            }
            Condition::Expired | Condition::Failed(_) | Condition::Empty => None,
        }
    }

    /// The token, if there is one that can be used now. It starts nothing.
    pub(super) fn peek(&self) -> Option<Arc<Held>> {
        let now = self.now();
        let held = self.current.load_full();
        held.filter(|held| !now.has_reached(held.expires_at))
    }

    /// The token that is held, whether it can be used or not, and the last failure.
    pub(super) fn inspect(&self) -> (Option<Arc<Held>>, Option<Failure>) {
        let state = self.lock();
        (self.current.load_full(), state.failure.as_deref().cloned())
    }

    /// Notes that somebody looked this entry up.
    pub(super) fn mark_used(&self) {
        // Read first: all who use the same entry would else write to it.
        if !self.is_used.load(Ordering::Relaxed) {
            self.is_used.store(true, Ordering::Relaxed);
        }
    }

    /// Whether somebody looked this entry up since the last call.
    pub(super) fn take_used(&self) -> bool {
        self.is_used.swap(false, Ordering::Relaxed)
    }

    /// Tells the generation of each new token.
    pub(super) fn subscribe(&self) -> watch::Receiver<u64> {
        // So that no generation is published between the look at it and the first receiver.
        let _state = self.lock();
        let changes = self
            .changes
            .get_or_init(|| watch::Sender::new(self.generation()));
        changes.subscribe()
    }

    /// Keeps the token warm for as long as this entry and the runtime live.
    pub(super) fn keep_warm(self: &Arc<Self>) -> Result<(), TokenError> {
        let mut state = self.lock();
        if !state.keep_warm.as_ref().is_some_and(KeepWarm::is_going) {
            state.keep_warm = Some(KeepWarm::start(self)?);
        }
        Ok(())
    }

    /// How long until there is something to do: a token to renew, or a pause after a failure that is over.
    pub(super) fn until_due(&self) -> Duration {
        let now = self.now();
        let state = self.lock();
        let held = self.current.load();
        match state::classify(held.as_ref(), state.failure.as_deref(), now) {
            Condition::Fresh(held) => now.until(held.stale_at),
            Condition::Failed(failure) => failure.remaining(now),
            _ => match &state.failure {
                Some(failure) => failure.remaining(now),
                None => Duration::ZERO,
            },
        }
    }
}

/// To get what there is not.
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

    /// A new token, even if the one that is held is good.
    pub(crate) async fn renew(self: Arc<Self>) -> Outcome {
        for _ in 0..MAX_LOST {
            let waiter = self.join_or_start(&mut self.lock(), self.now(), Reason::Asked)?;
            if let Some(outcome) = waiter.outcome().await {
                return outcome;
            }
        }
        Err(error::no_runtime())
    }

    pub(super) fn look_up(self: &Arc<Self>) -> Lookup {
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
    fn renew_if_due(self: &Arc<Self>, state: &mut State, now: Moment) {
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
    ) -> Result<Waiter, TokenError> {
        if let Some(flight) = state.flight.as_ref().filter(|flight| !flight.is_lost()) {
            return Ok(flight.join());
        }
        let request = state.grant.next()?;
        let runtime = Handle::try_current().map_err(|_| error::no_runtime())?;
        let plan = Plan {
            reason,
            delay: state
                .next_fetch_at
                .map_or(Duration::ZERO, |at| now.until(at)),
            may_retry: state.failure.is_none()
                && matches!(reason, Reason::First | Reason::Expired | Reason::Refused),
            owner: state.grant.is_one_time().then(|| self.request.clone()),
        };
        let is_precious = state.grant.is_one_time();
        let (landing, waiter) = Landing::new(self);
        let task = runtime.spawn(fetch::run(self.settings.clone(), request, plan, landing));
        // The answer to a one-time credential is the only one: such a fetch is not cancelled with the last handle.
        let abort = (!is_precious).then(|| task.abort_handle());
        Ok(state.flight.insert(Flight::new(waiter, abort)).join())
    }
}

/// To take in what came.
impl Entry {
    /// Takes in what a fetch came to.
    pub(super) fn land(&self, fetched: Fetched, reason: Reason) -> Outcome {
        let outcome = match fetched.result {
            Ok(response) => self.hold(fetched.sent, reason, &response),
            Err(error) => Err(error),
        };
        outcome.map_err(|error| self.note_failure(reason, error))
    }

    fn hold(&self, sent: Moment, reason: Reason, response: &TokenResponse) -> Outcome {
        let token = response.access_token();
        let mut state = self.lock();
        state.grant.succeeded(response);
        let authorization = token
            .authorization()
            .ok_or_else(|| error::unsupported_token_type(token.token_type()))?
            .clone();
        let lifetime = response
            .expires_in()
            .unwrap_or(self.settings.default_lifetime);
        let windows = self
            .settings
            .refresh_window
            .of(lifetime, !state.has_renewed, fastrand::f64())
            .renewed_in(response.refresh_in());
        let stale_at = state::stale_at(sent, windows, self.current.load().as_deref(), token);
        state.has_renewed = true;
        state.was_refused = false;
        state.failure = None;
        state.flight = None;
        state.next_fetch_at = Some(sent.after(SPACING));
        let held = Arc::new(Held {
            generation: state.next_generation(),
            token: token.clone(),
            authorization,
            stale_at,
            expires_at: sent.after(windows.usable),
            ends_at: sent.after(windows.lifetime),
        });
        self.publish(Some(held.clone()), held.generation);
        drop(state);
        events::fetched(&self.request, reason, windows);
        Ok(held)
    }

    /// Remembers a failed fetch. A token that is held stays what it is.
    pub(super) fn note_failure(&self, reason: Reason, error: TokenError) -> TokenError {
        let now = self.now();
        let mut state = self.lock();
        let error = state.grant.failed(error);
        let failure = Failure::after(
            state.failure.as_deref(),
            error.clone(),
            now,
            fastrand::f64(),
        );
        let (failures, pause) = (failure.streak, failure.pause);
        state.flight = None;
        state.failure = Some(Box::new(failure));
        state.next_fetch_at = Some(now.after(SPACING));
        drop(state);
        events::failed(&self.request, reason, &error, failures, pause);
        error
    }

    /// Drops the token if it is the one that was refused. See [`Refusals`] for when it is kept all the same.
    pub(crate) fn invalidate(&self, is_refused: impl FnOnce(&Held) -> bool) -> Invalidation {
        let now = self.now();
        let mut state = self.lock();
        let invalidation = if !self.current.load().as_deref().is_some_and(is_refused) {
            Invalidation::Replaced
        } else if !state.refusals.note(now) {
            Invalidation::Kept
        } else {
            self.forget(&mut state);
            Invalidation::Dropped
        };
        drop(state);
        events::refused(&self.request, invalidation);
        invalidation
    }

    /// Drops the token, whatever it is.
    pub(super) fn clear(&self) {
        self.forget(&mut self.lock());
    }

    fn forget(&self, state: &mut State) {
        state.next_fetch_at = None;
        state.was_refused = true;
        let generation = state.next_generation();
        self.publish(None, generation);
    }

    /// The order matters: who sees the new generation must see the new token.
    fn publish(&self, held: Option<Arc<Held>>, generation: u64) {
        let is_token = held.is_some();
        self.current.store(held);
        self.generation.0.store(generation, Ordering::Release);
        if let Some(changes) = self.changes.get().filter(|_| is_token) {
            changes.send_replace(generation);
        }
    }

    /// Nothing panics while the lock is held, so a poisoned one is sound.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn new(request: TokenRequest) -> Self {
        Self {
            generations: 0,
            has_renewed: false,
            was_refused: false,
            grant: Grant::new(request),
            failure: None,
            refusals: Refusals::default(),
            flight: None,
            next_fetch_at: None,
            keep_warm: None,
        }
    }

    fn next_generation(&mut self) -> u64 {
        self.generations += 1;
        self.generations
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        registry::unregister(self.id);
    }
}
