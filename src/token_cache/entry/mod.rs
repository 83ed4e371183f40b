//! An entry of the cache: one token request and its token.
//!
//! 1. `current` is read without the lock, and written under the lock; see [`Published`].
//! 2. `state` is locked for a few instructions at a time: never across an await, and never while foreign code runs, such as a
//!    subscriber of `tracing` or a waker.
//! 3. `state` may be locked while a shard of [`super::entries`] is locked, never the other way round. The locks of
//!    [`super::fetch::limit`] and [`super::fetch::spent`] may be taken while `state` is locked, never the other way round.

mod accepted;
mod end;
mod fetch_task;
mod kept_warm;
mod land;
mod look_up;
mod queue;
mod refuse;
mod start;

use std::{
    num::NonZeroU64,
    sync::{
        Arc, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::sync::watch;

pub use self::refuse::Invalidation;
use self::{accepted::AcceptedAt, fetch_task::FetchTask, queue::Queued, refuse::RefusalHistory};
pub(crate) use self::{
    accepted::{News, SentTo},
    fetch_task::{FetchWaiter, Waited},
    look_up::{FetchOutcome, Lookup},
};
use super::{
    builder::Settings,
    entries,
    events::Whose,
    fetch::{grant::GrantState, sharing::Known},
    keep_warm::KeepWarm,
    pauses::{FailedFetch, Polling},
    state::{self, CachedToken, Condition},
};
use crate::{
    base::{
        clock::Moment,
        published::Published,
        sync::{Mutex, MutexGuard},
    },
    error::{CalledEndpoint, TokenError},
    message::{TokenMark, TokenRequest},
};

/// The fields before `state` are read by every call and seldom written. They share one pair of cache lines, so that a call in a large
/// cache waits for memory once.
#[repr(C, align(128))]
pub(crate) struct Entry {
    id: NonZeroU64,
    request: TokenRequest,
    settings: Arc<Settings>,
    current: Published<CachedToken>,
    accepted: AcceptedAt,
    changes: OnceLock<watch::Sender<u64>>,
    /// Whether somebody looked this entry up recently.
    is_used: AtomicBool,
    /// Whether the cache no longer finds this entry.
    is_evicted: AtomicBool,
    state: OwnLines<Mutex<EntryState>>,
}

/// Separates what one thread at a time writes from what every thread reads.
#[repr(align(128))]
struct OwnLines<T>(T);

struct EntryState {
    /// The number of the last fetch.
    fetches: u64,
    /// The number of the newest fetch that returned a refresh token, or could have.
    newest_grant: u64,
    /// The number of the last token; see [`Published`].
    generations: u64,
    has_had_token: bool,
    /// Whether there is no token because the last one was dropped.
    was_refused: bool,
    /// The token that was dropped last.
    dropped: Option<TokenMark>,
    grant: GrantState,
    /// Boxed because it is rare, and an entry should be small.
    failure: Option<Box<FailedFetch>>,
    /// Boxed because refusals are rare.
    history: Option<Box<RefusalHistory>>,
    fetch: Option<Box<FetchTask>>,
    /// Set while a fetch waits to be started. Boxed because it is rare.
    queued: Option<Box<Queued>>,
    next_fetch_at: Option<Moment>,
    /// What is known of the store that the fleet shares.
    known: Known,
    keep_warm: Option<KeepWarm>,
}

impl Entry {
    pub(super) fn new(request: TokenRequest, settings: Arc<Settings>) -> Arc<Self> {
        entries::register(|id| Self {
            id,
            settings,
            current: Published::empty(),
            accepted: AcceptedAt::default(),
            changes: OnceLock::new(),
            is_used: AtomicBool::new(false),
            is_evicted: AtomicBool::new(false),
            state: OwnLines(Mutex::new(EntryState::new(request.clone()))),
            request,
        })
    }

    pub(crate) fn id(&self) -> NonZeroU64 {
        self.id
    }

    pub(super) fn request(&self) -> &TokenRequest {
        &self.request
    }

    /// Returns whose token this is, for an event. `called` is what the endpoint has noted.
    fn whose<'a>(&'a self, called: Option<&'a CalledEndpoint>) -> Whose<'a> {
        Whose::new(&self.request, called)
    }

    /// Says in an error whose token it is about, unless the error says it. `called` is what the endpoint has noted.
    pub(super) fn say_whose(
        &self,
        error: TokenError,
        called: Option<&CalledEndpoint>,
    ) -> TokenError {
        error.about(|| {
            let cached = self.current.load();
            let of_token = || cached.as_ref()?.called.as_deref();
            self.request.about(called.or_else(of_token))
        })
    }

    pub(super) fn settings(&self) -> &Arc<Settings> {
        &self.settings
    }

    #[inline]
    pub(crate) fn now(&self) -> Moment {
        self.settings.clock.now()
    }

    /// Returns the generation of the current token. A copy with the same generation is current.
    #[inline]
    pub(crate) fn generation(&self) -> u64 {
        self.current.generation()
    }

    /// Looks at the token if it is usable now, and starts its renewal if that is due.
    ///
    /// The pointer to the token is not cloned, because all threads would write to one reference count.
    pub(crate) fn usable<T>(
        self: &Arc<Self>,
        look: impl FnOnce(&Arc<CachedToken>) -> T,
    ) -> Option<T> {
        let now = self.now();
        let cached = self.current.load();
        match state::classify(cached.as_ref(), None, now) {
            Condition::Fresh(cached) => Some(look(cached)),
            Condition::Stale(cached) => {
                self.try_renew_if_due(now);
                Some(look(cached))
            }
            Condition::Expired | Condition::Failed(_) | Condition::Empty => None,
        }
    }

    /// Returns the token if it is usable now. Never starts a fetch.
    pub(super) fn peek(&self) -> Option<Arc<CachedToken>> {
        let now = self.now();
        let cached = self.current.load_full();
        cached.filter(|cached| !now.has_reached(cached.expires_at))
    }

    /// Returns the current token, usable or not, and the last failure.
    pub(super) fn inspect(&self) -> (Option<Arc<CachedToken>>, Option<FailedFetch>) {
        let state = self.lock();
        (self.current.load_full(), state.failure.as_deref().cloned())
    }

    fn current_mark(&self) -> Option<TokenMark> {
        let current = self.current.load();
        current.as_ref().map(|current| current.token.mark())
    }

    /// Returns whether the next fetch polls for the decision of a user.
    pub(super) fn is_polled(&self) -> bool {
        self.lock().grant.is_polled()
    }

    /// Returns how often the server asked to be polled with the credential of this entry.
    pub(super) fn polling(&self) -> Option<Polling> {
        self.lock().failure.as_deref()?.polling()
    }

    /// Takes over how often to poll the server from an entry that was evicted.
    pub(super) fn keep_polling(&self, polling: Polling) {
        let failure = FailedFetch::while_polling(polling, self.now());
        self.lock().failure = Some(Box::new(failure));
    }

    /// Notes that somebody looked this entry up.
    pub(super) fn mark_used(&self) {
        // It is read first because everybody who uses this entry would otherwise write to it.
        if !self.is_used.load(Ordering::Relaxed) {
            self.is_used.store(true, Ordering::Relaxed);
        }
    }

    /// Returns whether somebody looked this entry up since the last call.
    pub(super) fn take_used(&self) -> bool {
        self.is_used.swap(false, Ordering::Relaxed)
    }

    /// Returns a watcher for the generation of each token.
    pub(super) fn subscribe(&self) -> watch::Receiver<u64> {
        // Nothing can be published between the read of the generation and the first receiver.
        let _state = self.lock();
        let changes = self
            .changes
            .get_or_init(|| watch::channel(self.generation()).0);
        changes.subscribe()
    }

    /// Wakes the watchers to look again, without the lock.
    fn wake_watchers(&self) {
        if let Some(changes) = self.changes.get() {
            changes.send_replace(self.generation());
        }
    }

    /// Nothing panics while the lock is held, so a poisoned lock is sound.
    fn lock(&self) -> MutexGuard<'_, EntryState> {
        self.state.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl EntryState {
    fn new(request: TokenRequest) -> Self {
        Self {
            fetches: 0,
            newest_grant: 0,
            generations: 0,
            has_had_token: false,
            was_refused: false,
            dropped: None,
            grant: GrantState::new(request),
            failure: None,
            history: None,
            fetch: None,
            queued: None,
            next_fetch_at: None,
            known: Known::default(),
            keep_warm: None,
        }
    }

    fn next_fetch_number(&mut self) -> u64 {
        self.fetches += 1;
        self.fetches
    }

    fn next_generation(&mut self) -> u64 {
        self.generations += 1;
        self.generations
    }
}
