//! Looks up the token of an entry under the lock, and joins, starts or takes over its fetch.
//!
//! 1. A fetch runs on a task of its own: dropping a caller changes nothing for the others.
//! 2. A fetch is *lost* if its task is gone without an outcome (its runtime has ended), or if it is overdue. Then a waiter may start
//!    another. If a lost fetch still returns a token, those who still wait for it get that token; the entry keeps it only if the fetch
//!    spent a one-time credential.
//! 3. A fetch is *undriven* if its task is alive, but nobody polls it: see [`heartbeat`]. Whoever notices takes it over: the old fetch is
//!    cancelled and given up, and a new one starts. If the fetch spends a one-time credential, it is taken over only if its task was never
//!    polled, since the credential may be on its way otherwise.
//! 4. A panic of the endpoint is an outcome; otherwise every waiter would start the fetch again.
//! 5. The runtime for a new fetch is looked for without the lock, because a panic hook may run.
//!
//! [`heartbeat`]: crate::token_cache::fetch::heartbeat

use std::sync::Arc;

use tokio::runtime::Handle;

use super::{
    Entry, EntryState,
    fetch_task::{FetchWaiter, Silent, Waited},
    start::Launch,
};
use crate::{
    base::clock::Moment,
    error::{TokenError, TokenErrorKind::Timeout},
    token_cache::{
        events,
        fetch::{Reason, nesting, runtime},
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

/// What is to be done without the lock before a lookup can go on.
pub(super) enum Unlocked {
    FindRuntime,
    TakeOver(Silent),
    Launch(Box<Launch>, Handle),
}

/// The runtime for a new fetch, once it has been looked for.
type Found<'a> = Option<&'a Result<Handle, TokenError>>;

/// After this many lost fetches in a row, the runtime is to blame.
const MAX_LOST_FETCHES: u32 = 16;

impl Entry {
    /// Returns the token, and waits for it if there is no usable one.
    pub(crate) async fn token(self: Arc<Self>) -> FetchOutcome {
        self.wait_for(Self::look_up).await
    }

    /// Fetches a new token even if the current one is usable, except during a pause that the server asked for.
    pub(crate) async fn renew(self: Arc<Self>) -> FetchOutcome {
        self.wait_for(Self::look_up_new).await
    }

    /// Waits for one fetch after another until one of them lands.
    ///
    /// Joins at least two, but no more after twice the limit of a fetch.
    async fn wait_for(self: &Arc<Self>, look_up: fn(&Arc<Self>) -> Lookup) -> FetchOutcome {
        let mut begun = None;
        let (mut joined, mut lost) = (0_u32, 0_u32);
        loop {
            let waiter = match look_up(self) {
                Lookup::Token(cached) => return Ok(cached),
                Lookup::Failed(error) => return Err(error),
                Lookup::Wait(waiter) => waiter,
            };
            let mut waiting = Waiting::new(self, waiter);
            waiting.waiter.until_started(&self.settings).await;
            let begun = *begun.get_or_insert(waiting.waiter.joined_at);
            let waited = waiting.waiter.wait(&self.settings).await;
            waiting.is_over = true;
            let why: fn() -> TokenError = match waited {
                Waited::Landed(outcome) => return outcome,
                Waited::Lost => {
                    lost += 1;
                    runtime::no_runtime
                }
                Waited::GivenUp => interrupted,
                Waited::Undriven(silent) => {
                    self.take_over(&silent);
                    runtime::not_driven
                }
            };
            joined = joined.saturating_add(1);
            let patience = self.settings.longest_fetch().saturating_mul(2);
            let is_over = joined > 1 && self.now().has_outlasted(begun.after(patience));
            if is_over || lost == MAX_LOST_FETCHES {
                return Err(self.say_whose(why(), None));
            }
        }
    }

    pub(crate) fn look_up(self: &Arc<Self>) -> Lookup {
        self.repeat_with_runtime(Self::try_look_up)
    }

    fn look_up_new(self: &Arc<Self>) -> Lookup {
        self.repeat_with_runtime(Self::try_look_up_new)
    }

    fn repeat_with_runtime(
        self: &Arc<Self>,
        look_up: fn(&Arc<Self>, Found<'_>) -> Result<Lookup, Unlocked>,
    ) -> Lookup {
        let mut runtime = None;
        loop {
            match look_up(self, runtime.as_ref()) {
                Ok(lookup) => {
                    self.settings.limit.dispatch(self.now());
                    return match lookup {
                        Lookup::Failed(error) => Lookup::Failed(self.say_whose(error, None)),
                        lookup => lookup,
                    };
                }
                Err(Unlocked::FindRuntime) => runtime = Some(self.settings.runtime.get()),
                Err(Unlocked::TakeOver(silent)) => self.take_over(&silent),
                Err(Unlocked::Launch(launch, runtime)) => self.launch(*launch, &runtime),
            }
        }
    }

    fn try_look_up(self: &Arc<Self>, runtime: Found<'_>) -> Result<Lookup, Unlocked> {
        let now = self.now();
        let mut state = self.lock();
        let cached = self.current.load_full();
        let reason = match state::classify(cached.as_ref(), state.failure.as_deref(), now) {
            Condition::Fresh(cached) => return Ok(Lookup::Token(cached.clone())),
            Condition::Stale(cached) => {
                let cached = cached.clone();
                self.renew_if_due(&mut state, now, runtime)?;
                return Ok(Lookup::Token(cached));
            }
            Condition::Failed(failure) => return Ok(Lookup::Failed(failure.error.clone())),
            Condition::Expired => Reason::Expired,
            Condition::Empty if state.was_refused => Reason::Refused,
            Condition::Empty => Reason::First,
        };
        self.join_or_start(&mut state, now, reason, runtime)
    }

    fn try_look_up_new(self: &Arc<Self>, runtime: Found<'_>) -> Result<Lookup, Unlocked> {
        let now = self.now();
        let mut state = self.lock();
        match state.failure.as_deref() {
            Some(failure) if failure.server_asked_to_wait(now) => {
                Ok(Lookup::Failed(failure.error.clone()))
            }
            _ => self.join_or_start(&mut state, now, Reason::Asked, runtime),
        }
    }

    /// Starts a renewal if it is due and nobody holds the lock.
    pub(crate) fn try_renew_if_due(self: &Arc<Self>, now: Moment) {
        let renew = |runtime: Found<'_>| match self.state.0.try_lock() {
            Ok(mut state) => self.renew_if_due(&mut state, now, runtime),
            // Whoever holds the lock is starting the renewal, or has just done so.
            Err(_) => Ok(()),
        };
        match renew(None) {
            Ok(()) => {}
            Err(Unlocked::FindRuntime) => {
                if let Some(runtime) = self.settings.runtime.get_again() {
                    let _ = renew(Some(&Ok(runtime)));
                }
            }
            Err(Unlocked::TakeOver(silent)) => self.take_over(&silent),
            Err(Unlocked::Launch(launch, runtime)) => self.launch(*launch, &runtime),
        }
        self.settings.limit.dispatch(now);
    }

    /// Starts the renewal of a stale token.
    ///
    /// It classifies the token again because a renewal may have landed before the caller got the lock. It ignores a missing runtime,
    /// which does no harm while the token is usable.
    fn renew_if_due(
        self: &Arc<Self>,
        state: &mut EntryState,
        now: Moment,
        runtime: Found<'_>,
    ) -> Result<(), Unlocked> {
        let cached = self.current.load();
        let is_stale = matches!(
            state::classify(cached.as_ref(), None, now),
            Condition::Stale(_)
        );
        let is_pausing = state
            .failure
            .as_ref()
            .is_some_and(|failure| failure.is_pausing(now));
        if !is_stale || is_pausing {
            return Ok(());
        }
        match state.fetch.as_mut().filter(|fetch| !fetch.is_lost(now)) {
            Some(fetch) => {
                fetch.look(now);
                fetch
                    .silent_renewal()
                    .map_or(Ok(()), |it| Err(Unlocked::TakeOver(it)))
            }
            None => self
                .join_or_start(state, now, Reason::Stale, runtime)
                .map(drop),
        }
    }

    fn join_or_start(
        self: &Arc<Self>,
        state: &mut EntryState,
        now: Moment,
        reason: Reason,
        runtime: Found<'_>,
    ) -> Result<Lookup, Unlocked> {
        if let Some(fetch) = state.fetch.as_ref().filter(|fetch| !fetch.is_lost(now)) {
            return match fetch.silent() {
                Some(silent) => Err(Unlocked::TakeOver(silent)),
                None => Ok(Lookup::Wait(fetch.join(now))),
            };
        }
        // Nobody waits for a renewal.
        let is_nested = reason != Reason::Stale && nesting::is_within_a_fetch();
        if is_nested {
            self.start_out_of_turn(state, now, reason)?;
        }
        if let Some(waiter) = state.join_queued(reason, now) {
            return Ok(Lookup::Wait(waiter));
        }
        if let Err(error) = self.settings.shutdown.check() {
            return Ok(Lookup::Failed(error));
        }
        let runtime = match runtime {
            None => return Err(Unlocked::FindRuntime),
            Some(Err(error)) => return Ok(Lookup::Failed(error.clone())),
            Some(Ok(runtime)) => runtime,
        };
        let request = match self.next_request(state, now) {
            Ok(request) => request,
            Err(end) => return Ok(Lookup::Failed(end)),
        };
        let slot = match is_nested {
            true => Some(self.settings.limit.enter_at_once()),
            false => self.settings.limit.enter(),
        };
        Ok(Lookup::Wait(match slot {
            Some(slot) => {
                let fetch = self.start(state, now, reason, request, slot, runtime);
                state.fetch.insert(fetch).join(now)
            }
            None => self.queue(state, now, reason, runtime),
        }))
    }

    /// Starts another fetch in place of one that nobody drives, unless that has spent a one-time credential.
    pub(crate) fn take_over(self: &Arc<Self>, silent: &Silent) {
        let runtime = self.settings.runtime.get_again();
        let now = self.now();
        let mut state = self.lock();
        let is_one_time = state.grant.is_one_time();
        let Some(mut undriven) = state.fetch.take_if(|fetch| fetch.is_still(silent)) else {
            // It has landed, somebody else was faster, or it beats again.
            return;
        };
        let Some(runtime) = runtime.filter(|_| undriven.flight.ground() || !is_one_time) else {
            undriven.watch_again(now);
            state.fetch = Some(undriven);
            return;
        };
        if let Ok(request) = self.next_request(&mut state, now) {
            let slot = self.settings.limit.enter_at_once();
            let mut fetch = self.start(&mut state, now, undriven.reason, request, slot, &runtime);
            fetch.takeovers = undriven.takeovers.saturating_add(1);
            state.fetch = Some(fetch);
        }
        drop(state);
        events::taken_over(&self.request);
        undriven.give_up();
    }
}

/// A caller that waits for a fetch.
struct Waiting<'a> {
    entry: &'a Entry,
    waiter: FetchWaiter,
    is_over: bool,
}

impl<'a> Waiting<'a> {
    fn new(entry: &'a Entry, waiter: FetchWaiter) -> Self {
        Self {
            entry,
            waiter,
            is_over: false,
        }
    }
}

impl Drop for Waiting<'_> {
    /// Tells later callers what this one has seen: none of them may wait for long enough to notice that nobody drives the fetch.
    fn drop(&mut self) {
        let now = self.entry.now();
        if self.is_over || now == self.waiter.joined_at {
            return;
        }
        if let Some(fetch) = &mut self.entry.lock().fetch {
            fetch.look(now);
        }
    }
}

fn interrupted() -> TokenError {
    let message = "every fetch of the access token was cancelled before it ended, because all tokens were invalidated again and again";
    TokenError::new(Timeout, message, None)
}
