//! One fetch through the store: look, then take what is there, wait for it, or fetch as the holder of the lease.
//!
//! 1. Each look costs one round trip, and never returns an entry that this fetch has seen before.
//! 2. Only the holder of the lease sends a refresh token. It sends the one in the newest entry that it has seen, or otherwise its own, which
//!    is at least as new.
//! 3. Without the store, a refresh token is not sent. Everything else is.

use std::{sync::atomic::Ordering, time::Duration};

use tokio::time::{self, Instant};

use super::{
    Fetch, ShareTokens,
    ask::{Ask, Obtained},
    cache_key::CacheKey,
    decide::{EntryFacts, Route, Use, patience, use_of},
    events,
    lease::Lease,
};
use crate::{
    base::clock::{Moment, tokio_now, wall_now},
    dpop::DpopKey,
    error::{BoxError, TokenError, TokenErrorBuilder, TokenErrorKind},
    message::{TokenRequest, TokenResponse},
    secret::RefreshToken,
    token_store::{EntryName, Fence, Found, Opened, StoredToken},
};

pub(super) struct Session<'a> {
    pub(super) share: &'a ShareTokens,
    pub(super) ask: Ask<'a>,
    pub(super) request: &'a TokenRequest,
    pub(super) fetch: &'a Fetch<'a>,
    pub(super) route: Route,
    pub(super) dpop: Option<&'a DpopKey>,
    pub(super) key: CacheKey,
    /// The text that distinguishes instances, when the key was made.
    pub(super) text: String,
    pub(super) name: EntryName,
    pub(super) begun: Moment,
}

/// What the entries contained that were not taken.
#[derive(Default)]
pub(super) struct Seen {
    pub(super) refresh_token: Option<RefreshToken>,
    /// A token that is about to expire, for the case that there is no other.
    fallback: Option<Obtained>,
}

/// What an entry contained.
pub(super) enum Content {
    Token(Box<Obtained>, Use),
    Unreadable,
    /// It has a refresh token that only instances with another key can read.
    OfAnotherKey,
}

/// A wait that returns at once must not become a busy loop.
const SHORTEST_WAIT: Duration = Duration::from_millis(20);
/// How long the next holder waits for a refresh token that the last one may still be storing.
const LOST_HOLDER: Duration = Duration::from_secs(2);

impl Session<'_> {
    pub(super) async fn run(&self) -> Obtained {
        let mut seen = Seen::default();
        let obtained = self.look_until_found(&mut seen).await;
        match (&obtained.result, seen.fallback) {
            (Err(error), Some(fallback)) if error.is_transient() => fallback,
            _ => obtained,
        }
    }

    async fn look_until_found(&self, seen: &mut Seen) -> Obtained {
        let patience = tokio_now() + patience(self.ask.limit, fastrand::f64());
        let mut newer_than = self.ask.known.fence();
        let mut lease = self.lease();
        let mut has_waited_for_lost_holder = false;
        loop {
            let (now, looked_at) = (self.now(), tokio_now());
            let found = match lease.look(newer_than).await {
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
                        Content::Token(token, Use::Adopt) => {
                            return *token;
                        }
                        Content::Token(token, use_) => {
                            seen.note(*token, use_, self.route);
                        }
                        Content::Unreadable => {}
                        Content::OfAnotherKey => return self.failed(of_another_key()),
                    }
                }
                // If this process was suspended since, the lease may have ended.
                Found::Leased { .. } if tokio_now() - looked_at > self.share.lease / 2 => {}
                Found::Leased {
                    after_lost_holder: true,
                    ..
                } if self.route == Route::RefreshToken && !has_waited_for_lost_holder => {
                    has_waited_for_lost_holder = true;
                    time::sleep(LOST_HOLDER).await;
                }
                Found::Leased {
                    fence,
                    after_lost_holder,
                } => {
                    if after_lost_holder || has_waited_for_lost_holder {
                        events::holder_was_lost();
                    }
                    let newest = seen.refresh_token.take();
                    return self.fetch_as_holder(lease, fence, newest).await;
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

    pub(super) fn lease(&self) -> Lease<'_> {
        Lease::new(&self.share.engine, &self.name, self.share.lease)
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

    pub(super) fn read(
        &self,
        entry: &[u8],
        fence: Fence,
        in_store: Duration,
        now: Moment,
    ) -> Content {
        let opened = match self.share.keys.open(&self.key.entry, entry) {
            Opened::Entry(opened) => opened,
            other => {
                let (why, is_readable_elsewhere) = match other {
                    Opened::OtherVersion => ("it has another version", true),
                    Opened::UnknownKey => ("it is encrypted with another key", true),
                    _ => ("it is damaged", false),
                };
                self.share.note_unreadable(why);
                return match is_readable_elsewhere && self.route == Route::RefreshToken {
                    true => Content::OfAnotherKey,
                    false => Content::Unreadable,
                };
            }
        };
        let Some(stored) = StoredToken::decode(&opened, self.dpop) else {
            self.share.note_unreadable("it does not contain a token");
            return Content::Unreadable;
        };
        self.share.is_unreadable.store(false, Ordering::Relaxed);
        let age = stored.age(in_store, now.wall_time(now).unwrap_or_else(wall_now));
        let token = stored.response.access_token();
        let facts = EntryFacts {
            age,
            lifetime: self.lifetime(&stored.response),
            refresh_in: stored.response.refresh_in(),
            is_dropped: self.ask.dropped == Some(token.mark()),
            waited: now.time_since(self.begun),
        };
        let is_for_this = stored.key == Some(self.key.token) && token.sendable().is_some();
        let use_ = match is_for_this {
            true => use_of(facts, self.ask.wanted),
            false => Use::Skip,
        };
        let obtained = Obtained {
            result: Ok(stored.response),
            sent: now,
            age,
            fence: Some(fence),
            is_from_store: true,
        };
        Content::Token(Box::new(obtained), use_)
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

    pub(super) async fn alone(&self) -> Obtained {
        let sent = self.now();
        Obtained::fetched(sent, (self.fetch)(self.request.clone()).await)
    }

    pub(super) fn lifetime(&self, response: &TokenResponse) -> Duration {
        let lifetime = response.expires_in().unwrap_or(self.ask.default_lifetime);
        lifetime.min(self.ask.max_lifetime)
    }

    pub(super) fn now(&self) -> Moment {
        self.ask.clock.now()
    }

    fn failed(&self, error: TokenError) -> Obtained {
        Obtained::failed(self.now(), error)
    }
}

impl Content {
    /// The token, if it is to be taken.
    pub(super) fn adopted(self) -> Option<Obtained> {
        match self {
            Self::Token(token, Use::Adopt) => Some(*token),
            _ => None,
        }
    }
}

impl Seen {
    fn note(&mut self, token: Obtained, use_: Use, route: Route) {
        if let (Route::RefreshToken, Ok(response)) = (route, &token.result) {
            if let Some(refresh_token) = response.refresh_token() {
                self.refresh_token = Some(refresh_token.clone());
            }
        }
        if use_ == Use::Fallback {
            self.fallback = Some(token);
        }
    }
}

fn transient(message: &'static str) -> TokenErrorBuilder {
    TokenError::builder(TokenErrorKind::Service)
        .message(message)
        .before_sending()
}

fn paused(rest: Duration) -> TokenError {
    let message = "the authorization server is overloaded or ill, as it told another instance of this service; all instances wait";
    transient(message).retry_after(rest).build()
}

fn store_needed(error: BoxError) -> TokenError {
    let message = "the token store does not work, and without it several instances could spend the same refresh token";
    transient(message).source(error).build()
}

fn held_for_long() -> TokenError {
    transient(
        "another instance of this service has been spending the refresh token for a long time",
    )
    .build()
}

fn of_another_key() -> TokenError {
    let message = "the refresh token in the token store is encrypted with a key that this instance does not have, or by another version of \
                   this crate; give all instances both keys while you rotate them";
    transient(message).build()
}
