//! An entry of the cache: one token request and the token that it brings.
//!
//! 1. `state` is locked for a few instructions at a time: never across an await, nor while code of the user runs, to which
//!    subscribers of `tracing` and wakers belong. It may be taken while a shard of [`super::entries`] is locked, never the other way
//!    round.
//! 2. `current` is what callers read without the lock; it is written under the lock. See [`super::published`].

mod get;
mod land;

use std::{
    num::NonZeroU64,
    sync::{
        Arc, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::sync::watch;

use super::{
    failure::Failure,
    fetch_task::{FetchTask, PatientWaiter},
    grant::Grant,
    keep_warm::KeepWarm,
    published::Published,
    refusals::Refusals,
    registry,
    settings::Settings,
    state::{self, Condition, Held},
};
use crate::{
    base::{
        clock::Moment,
        sync::{Mutex, MutexGuard},
    },
    error::TokenError,
    message::TokenRequest,
};

pub(crate) struct Entry {
    id: NonZeroU64,
    request: TokenRequest,
    settings: Arc<Settings>,
    current: Published<Held>,
    state: Mutex<State>,
    changes: OnceLock<watch::Sender<u64>>,
    is_used: AtomicBool,
}

struct State {
    generations: u64,
    has_renewed: bool,
    was_refused: bool,
    grant: Grant,
    /// Boxed, since it is rare, and an entry is to be small.
    failure: Option<Box<Failure>>,
    refusals: Refusals,
    flight: Option<FetchTask>,
    next_fetch_at: Option<Moment>,
    keep_warm: Option<KeepWarm>,
}

/// What a caller gets at once.
pub(super) enum Lookup {
    Token(Arc<Held>),
    Wait(PatientWaiter),
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
            current: Published::empty(),
            state: Mutex::new(State::new(request.clone())),
            request,
            changes: OnceLock::new(),
            is_used: AtomicBool::new(false),
        })
    }

    pub(crate) fn id(&self) -> NonZeroU64 {
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
        self.current.generation()
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
                self.nudge(now);
                Some(look(held))
            }
            Condition::Expired | Condition::Failed(_) | Condition::Empty => None,
        }
    }

    /// Starts a renewal if it is time for one.
    pub(super) fn nudge(self: &Arc<Self>, now: Moment) {
        // Whoever has the lock is starting the renewal, or has just done so.
        if let Ok(mut state) = self.state.try_lock() {
            self.renew_if_due(&mut state, now);
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

    /// Whether what this knows must not be forgotten while the cache lives.
    pub(super) fn is_precious(&self) -> bool {
        let state = self.lock();
        state.flight.is_some() || state.grant.is_precious()
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
            .get_or_init(|| watch::channel(self.generation()).0);
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
