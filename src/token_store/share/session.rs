//! One fetch through the store: look, then take what is there, wait for it, or fetch as the holder of the lease.
//!
//! 1. Each look costs one round trip, and never returns an entry that this fetch has seen before.
//! 2. Only the holder of the lease sends a refresh token: the one in the newest entry that its cache has not had, or otherwise its own.
//! 3. Without the store, a refresh token is not sent. Everything else is.

use std::{future::pending, sync::Arc, time::Duration};

use tokio::time::{self, Instant};

use super::{
    Fetch, ShareTokens,
    ask::{Ask, Obtained},
    cache_key::CacheKey,
    decide::{Route, Use, look_at_most, lost_holder, patience},
    errors::{held_for_long, paused, store_needed},
    events,
    lease::{Lease, beside},
    reading::Content,
    storing::{HeldLease, Storing},
};
use crate::{
    base::clock::{Moment, tokio_now},
    dpop::DpopKey,
    error::{BoxError, TokenError},
    message::{TokenRequest, TokenResponse},
    secret::RefreshToken,
    token_store::{EntryName, Fence, Found},
};

pub(super) struct Session<'a> {
    pub(super) share: &'a Arc<ShareTokens>,
    pub(super) ask: Ask<'a>,
    pub(super) request: &'a TokenRequest,
    pub(super) fetch: &'a Fetch<'a>,
    pub(super) route: Route,
    pub(super) dpop: Option<&'a DpopKey>,
    pub(super) key: CacheKey,
    /// The request that the key was made of.
    pub(super) named: &'a TokenRequest,
    pub(super) name: EntryName,
    pub(super) begun: Moment,
}

/// What the entries contained that were not taken.
#[derive(Default)]
pub(super) struct Seen {
    refresh_token: Option<SeenRefreshToken>,
    /// A token that is about to expire, for the case that there is no other.
    fallback: Option<Obtained>,
}

/// A refresh token in an entry, and the fence of that.
#[derive(Clone)]
pub(super) struct SeenRefreshToken {
    pub(super) token: RefreshToken,
    pub(super) fence: Fence,
}

/// A wait that returns at once must not become a busy loop.
pub(super) const SHORTEST_WAIT: Duration = Duration::from_millis(20);

impl Session<'_> {
    pub(super) async fn run(&self) -> Obtained {
        let mut seen = Seen::default();
        let looking = time::timeout_at(self.ask.deadline, self.look_until_found(&mut seen));
        let found = looking.await.ok();
        let is_worse = |obtained: &Obtained| match &obtained.result {
            Ok(_) => false,
            Err(error) => error.is_transient(),
        };
        let fallback = seen.fallback.filter(|token| self.is_usable(token));
        match (found, fallback) {
            (Some(found), Some(fallback)) if is_worse(&found) => fallback,
            (Some(found), _) => found,
            (None, Some(fallback)) => fallback,
            // The fetch ends now.
            (None, None) => pending().await,
        }
    }

    async fn look_until_found(&self, seen: &mut Seen) -> Obtained {
        let rest = self.ask.deadline - tokio_now();
        let patience = tokio_now() + patience(rest, fastrand::f64());
        let mut newer_than = self.ask.known.fence();
        let mut lease = self.share.lease_of(&self.name);
        let mut has_waited_for_lost_holder = false;
        let mut held_since = None;
        loop {
            let (now, looked_at) = (self.now(), tokio_now());
            let found = match self.look(&mut lease, newer_than).await {
                Ok(found) => found,
                Err(error) => {
                    drop(lease);
                    return self.without_store(error).await;
                }
            };
            match found {
                Found::Entry { fence, .. } if newer_than.is_some_and(|known| fence <= known) => {
                    drop(lease);
                    let error = "the token store returned an entry that is not new".into();
                    return self.without_store(error).await;
                }
                Found::Entry { entry, fence, age } => {
                    newer_than = Some(fence);
                    match self.read(&entry, fence, age, now) {
                        Content::Token(token, Use::Adopt) => return *token,
                        Content::Token(token, use_) => seen.note(*token, use_, self.route),
                        Content::RefreshToken(token) => {
                            seen.refresh_token = Some(SeenRefreshToken { token, fence });
                        }
                        Content::NotShared => {
                            drop(lease);
                            return self.alone_for_itself().await;
                        }
                        Content::Unreadable => {}
                        Content::Unusable(error) => return self.failed(*error),
                    }
                }
                // The process may have been suspended meanwhile, so the lease may have ended.
                Found::Leased { .. } if tokio_now() - looked_at > self.share.lease / 2 => {}
                Found::Leased {
                    fence,
                    after_lost_holder: true,
                } if self.route == Route::RefreshToken && !has_waited_for_lost_holder => {
                    has_waited_for_lost_holder = true;
                    held_since = Some((fence, self.now()));
                    let limit = self.share.engine.limit;
                    let wait = lost_holder(limit, Storing::PAUSE, self.ask.deadline - tokio_now());
                    beside(time::sleep(wait), lease.keep_renewed()).await;
                }
                Found::Leased {
                    fence,
                    after_lost_holder,
                } => {
                    if after_lost_holder {
                        events::holder_was_lost();
                    }
                    let known = held_since.filter(|(known, _)| *known == fence);
                    let held = HeldLease {
                        lease,
                        fence,
                        known_at: known.map_or_else(|| self.now(), |(_, since)| since),
                    };
                    return self.fetch_as_holder(held, seen.refresh_token.take()).await;
                }
                Found::Held { fence, rest } => {
                    if !self.wait(fence, rest, patience).await {
                        return self.without_holder().await;
                    }
                }
                Found::Paused { rest } => return self.failed(paused(rest)),
            }
        }
    }

    /// A slow store is left alone, unless nothing can be done without it.
    async fn look(&self, lease: &mut Lease, newer_than: Option<Fence>) -> Result<Found, BoxError> {
        if self.route == Route::Helped {
            self.share.engine.admit()?;
        }
        lease.look(newer_than, look_at_most(self.ask.limit)).await
    }

    /// Waits for the holder of a lease. Returns whether to look again.
    async fn wait(&self, lease: Fence, rest: Duration, patience: Instant) -> bool {
        let begun = tokio_now();
        if begun >= patience {
            return false;
        }
        // Nobody wakes those who wait for a holder that has crashed.
        let at_most = rest.saturating_add(SHORTEST_WAIT).min(patience - begun);
        self.share.engine.wait(&self.name, lease, at_most).await;
        if tokio_now() - begun < SHORTEST_WAIT {
            time::sleep(SHORTEST_WAIT).await;
        }
        true
    }

    /// The store cannot be asked.
    async fn without_store(&self, error: BoxError) -> Obtained {
        match self.route {
            Route::RefreshToken => self.failed(store_needed(error)),
            Route::Helped | Route::OwnResult => self.alone().await,
        }
    }

    /// The holder of the lease takes very long.
    async fn without_holder(&self) -> Obtained {
        match self.route {
            Route::RefreshToken => self.failed(held_for_long()),
            Route::Helped | Route::OwnResult => self.alone().await,
        }
    }

    pub(super) fn lifetime(&self, response: &TokenResponse) -> Duration {
        let lifetime = response.expires_in().unwrap_or(self.ask.default_lifetime);
        lifetime.min(self.ask.max_lifetime)
    }

    fn is_usable(&self, token: &Obtained) -> bool {
        let Ok(response) = &token.result else {
            return false;
        };
        let age = token.age + self.now().time_since(token.sent);
        age < (self.ask.usable)(self.lifetime(response))
    }

    pub(super) fn now(&self) -> Moment {
        self.ask.clock.now()
    }

    pub(super) fn failed(&self, error: TokenError) -> Obtained {
        Obtained::failed(self.now(), error)
    }
}

impl Seen {
    fn note(&mut self, token: Obtained, use_: Use, route: Route) {
        if let (Route::RefreshToken, Ok(response)) = (route, &token.result)
            && let Some(refresh_token) = response.refresh_token()
        {
            self.refresh_token = token.fence.map(|fence| SeenRefreshToken {
                token: refresh_token.clone(),
                fence,
            });
        }
        if use_ == Use::Fallback {
            self.fallback = Some(token);
        }
    }
}
