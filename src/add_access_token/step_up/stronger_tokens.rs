//! The stronger tokens of a layer: at most one in use for each token request, and one that is being fetched.
//!
//! 1. A request uses the stronger token as soon as there is one. While it is being fetched, requests go on with the token so far, unless
//!    that is no longer usable.
//! 2. A stronger token that cannot be fetched is given up, and requests go on with the token so far. A transient failure does not end the
//!    use of one that was fetched before.
//! 3. An entry of the cache may be looked up while the lock is held, never the other way round.

use std::sync::{
    Arc, PoisonError,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use http::response::Parts;

use super::{StepUp, demand::Demand, slots::Slots};
use crate::{
    base::sync::{ArcSwapOption, Mutex, MutexGuard},
    error::TokenError,
    message::{Challenge, TokenRequest},
    token_cache::{SentToken, TokenCache, TokenSource},
};

/// How many unused tokens that are still held are remembered, to drop them later. The cache evicts any others.
const MAX_UNUSED: usize = 16;

/// The stronger tokens of a layer. All its clones and services share them.
pub(crate) struct StrongerTokens {
    settings: StepUp,
    /// Where the tokens of the layer come from. `None` if it has a fixed token.
    cache: Option<TokenCache>,
    /// The source of the layer, if it has one.
    source: Option<TokenSource>,
    /// Those of the source of the layer, so that most requests need no lock.
    of_layer: ArcSwapOption<SlotOfLayer>,
    slots: Mutex<Slots>,
    /// Whether there is a slot, so that a request that names its own token needs no lock before an API demands a stronger one.
    ///
    /// It is set once, because a slot is removed only to make room for another. So no order is needed: whoever knows that a response was
    /// answered sees it set, and what is in the slots is read under the lock.
    has_slots: AtomicBool,
}

struct SlotOfLayer {
    in_use: Option<TokenSource>,
    wanted: Option<TokenSource>,
}

impl StrongerTokens {
    pub(crate) fn new(
        settings: StepUp,
        cache: Option<TokenCache>,
        source: Option<TokenSource>,
    ) -> Self {
        Self {
            settings,
            cache,
            source,
            of_layer: ArcSwapOption::empty(),
            slots: Mutex::default(),
            has_slots: AtomicBool::new(false),
        }
    }

    /// Returns the source that replaces the source of the layer for a request.
    pub(crate) fn in_place_of_layer_source(&self) -> Option<TokenSource> {
        let [in_use, wanted] = {
            // A replaced token is dropped only if nobody holds its source.
            let slot = self.of_layer.load();
            let slot = slot.as_deref()?;
            [slot.in_use.clone(), slot.wanted.clone()]
        };
        self.choose(self.source.as_ref()?, in_use, wanted)
    }

    /// Returns the source that replaces this one for a request.
    pub(crate) fn in_place_of(&self, base: &TokenSource) -> Option<TokenSource> {
        if !self.has_slots.load(Relaxed) {
            return None;
        }
        let cache = self.cache.as_ref()?;
        let request = base.request().filter(|_| cache.is_of(base))?;
        let slot = self.lock().by_base.get(request).cloned()?;
        let [in_use, wanted] = [slot.in_use, slot.wanted].map(|it| self.source_of(it?));
        self.choose(base, in_use, wanted)
    }

    fn choose(
        &self,
        base: &TokenSource,
        in_use: Option<TokenSource>,
        wanted: Option<TokenSource>,
    ) -> Option<TokenSource> {
        let Some(wanted) = wanted else {
            return in_use;
        };
        if wanted.is_usable() {
            if let (Some(base), Some(request)) = (base.request(), wanted.request()) {
                self.use_wanted(base, request);
            }
            return Some(wanted);
        }
        // No request waits while there is a usable token.
        match in_use.as_ref().unwrap_or(base).is_usable() {
            true => in_use,
            false => Some(wanted),
        }
    }

    /// Returns what the function of the user makes of a response. It is called without a lock.
    pub(super) fn asked_by_user(
        &self,
        head: &Parts,
        challenges: &[Challenge],
        sent: &SentToken,
    ) -> Option<TokenRequest> {
        let token_request_for = self.settings.token_request_for.as_ref()?;
        let sent = self.cache.as_ref()?.sender_of(sent)?;
        let current = {
            let slots = self.lock();
            let base = slots.base_of(sent.request()?);
            slots.strongest(&base).unwrap_or(&base).clone()
        };
        let asked = token_request_for(head, challenges, &current)?;
        // Neither may be sent a second time.
        let is_spent = |request: &TokenRequest| request.carries_one_time_credential();
        (!is_spent(&current) && !is_spent(&asked)).then_some(asked)
    }

    /// Returns the source of a token that meets the demand and is stronger than the one that was sent.
    pub(super) fn answer(
        &self,
        demand: Option<&Demand>,
        asked: Option<TokenRequest>,
        sent: &SentToken,
    ) -> Option<TokenSource> {
        let sent = self.cache.as_ref()?.sender_of(sent)?;
        let (sent_request, now) = (sent.request()?, sent.now()?);
        let granted = sent.granted_scope();
        let mut slots = self.lock();
        let base = slots.base_of(sent_request);
        let current = slots.strongest(&base).unwrap_or(&base);
        let allowed = self.settings.allowed_scope.as_ref();
        let granted = granted.as_ref().map(|it| it.as_str());
        let wanted = match asked {
            Some(asked) => asked,
            None => demand?.met_by(&base, current, granted, allowed),
        };
        if wanted == *sent_request {
            // The token was requested with all of this.
            return None;
        }
        if wanted == *current {
            drop(slots);
            return self.source_of(wanted);
        }
        let wanted = wanted.stepped_up_from(base.clone());
        let evicted = match self.is_of_layer(&base) {
            true => None,
            false => slots.make_room_for(&base),
        };
        slots.unused.retain(|unused| *unused != wanted);
        let slot = slots.by_base.entry(base.clone()).or_default();
        self.has_slots.store(true, Relaxed);
        let may_start = slot.pace.start_round(now, self.settings.max_rounds);
        let replaced = match may_start {
            true => slot.wanted.replace(wanted.clone()),
            false => None,
        };
        self.show(&base, &slots);
        drop(slots);
        let evicted = evicted
            .into_iter()
            .flat_map(|slot| [slot.in_use, slot.wanted]);
        self.forget(evicted.chain([replaced]).flatten());
        if !may_start {
            return None;
        }
        let source = self.source_of(wanted);
        tracing::debug!(
            target: TARGET,
            scope = source.as_ref().and_then(|it| it.request()?.get_scope()),
            "an API demands a stronger access token; fetching one",
        );
        source
    }

    /// Starts the fetch of a stronger token that no request waits for.
    pub(crate) fn start(&self, source: &TokenSource) {
        match source.start_fetch() {
            None => {}
            Some(Ok(())) => self.note_fetched(source),
            Some(Err(error)) => drop(self.note_failed(source, &error)),
        }
    }

    /// Notes that there is a token of this source. If it is the wanted one, later requests use it.
    pub(crate) fn note_fetched(&self, source: &TokenSource) {
        if let Some(request) = source.request()
            && let Some(base) = request.weaker()
        {
            self.use_wanted(base, request);
        }
    }

    fn use_wanted(&self, base: &TokenRequest, request: &TokenRequest) {
        let mut slots = self.lock();
        let Some(slot) = slots.by_base.get_mut(base) else {
            return;
        };
        let Some(wanted) = slot.wanted.take_if(|wanted| wanted == request) else {
            return;
        };
        slot.pace.note_success();
        let replaced = slot.in_use.replace(wanted);
        self.show(base, &slots);
        drop(slots);
        self.forget(replaced);
    }

    /// Notes that the token of this source could not be fetched. If it is a stronger one, returns the source to use instead.
    pub(crate) fn note_failed(
        &self,
        source: &TokenSource,
        error: &TokenError,
    ) -> Option<TokenSource> {
        let (request, now) = (source.request()?, source.now()?);
        let mut slots = self.lock();
        let base = slots.base_of(request);
        if base == *request {
            return None;
        }
        let mut weaker = None;
        let mut given_up = None;
        if let Some(slot) = slots.by_base.get_mut(&base) {
            let is_it = |stronger: &mut TokenRequest| stronger == request;
            given_up = slot.wanted.take_if(is_it);
            if given_up.is_none() && !error.is_transient() {
                given_up = slot.in_use.take_if(is_it);
            }
            if given_up.is_some() {
                slot.pace.note_failure(now, error.retry_after());
            }
            weaker = slot.in_use.clone().filter(|in_use| in_use != request);
        }
        let is_given_up = given_up.is_some();
        if slots.unused.len() < MAX_UNUSED {
            // Until the next round, the cache remembers the failure.
            slots.unused.extend(given_up);
        }
        self.show(&base, &slots);
        drop(slots);
        if is_given_up {
            tracing::debug!(
                target: TARGET,
                error = %error,
                "failed to fetch a stronger access token; going on with the weaker one",
            );
        }
        self.source_of(weaker.unwrap_or(base))
    }

    /// Drops the tokens of these requests, and of earlier ones that were still held.
    fn forget(&self, requests: impl IntoIterator<Item = TokenRequest>) {
        let mut unused = std::mem::take(&mut self.lock().unused);
        unused.extend(requests);
        unused.retain(|request| {
            let cache = self.cache.as_ref();
            cache.is_some_and(|cache| !cache.forget(request))
        });
        unused.truncate(MAX_UNUSED);
        if !unused.is_empty() {
            self.lock().unused.append(&mut unused);
        }
    }

    /// Lets requests with the source of the layer see the change of its slot.
    fn show(&self, base: &TokenRequest, slots: &Slots) {
        if !self.is_of_layer(base) {
            return;
        }
        let slot = slots.by_base.get(base).map(|slot| {
            let [in_use, wanted] = [&slot.in_use, &slot.wanted];
            Arc::new(SlotOfLayer {
                in_use: in_use.clone().and_then(|it| self.source_of(it)),
                wanted: wanted.clone().and_then(|it| self.source_of(it)),
            })
        });
        self.of_layer.store(slot);
    }

    fn is_of_layer(&self, base: &TokenRequest) -> bool {
        let source = self.source.as_ref();
        source.is_some_and(|source| source.request() == Some(base))
    }

    fn source_of(&self, request: TokenRequest) -> Option<TokenSource> {
        Some(self.cache.as_ref()?.source(request))
    }

    /// Nothing panics while the lock is held, so a poisoned lock is sound.
    fn lock(&self) -> MutexGuard<'_, Slots> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const TARGET: &str = "tower_oauth2_client::add_access_token";

#[cfg(test)]
mod tests {
    use std::{future::ready, sync::mpsc, thread, time::Duration};

    use tower::service_fn;

    use super::*;
    use crate::error::BoxError;

    #[test]
    fn no_lock_is_taken_before_an_api_has_demanded_a_stronger_token() {
        let endpoint = service_fn(|_: TokenRequest| ready(Err(BoxError::from("not called"))));
        let cache = TokenCache::new(endpoint);
        let source = cache.source(TokenRequest::client_credentials());
        let tokens = Arc::new(StrongerTokens::new(StepUp::new(), Some(cache), None));
        let _locked = tokens.lock();
        let (done, is_done) = mpsc::channel();
        let of_thread = tokens.clone();
        thread::spawn(move || done.send(of_thread.in_place_of(&source).is_none()));
        let found_nothing = is_done.recv_timeout(Duration::from_secs(20));
        assert_eq!(found_nothing, Ok(true));
    }
}
