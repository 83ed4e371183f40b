//! One fetch through the store: look, then take what is there, wait for it, or fetch as the holder of the lease.
//!
//! 1. Each look costs one round trip, and never returns an entry that this fetch has seen before.
//! 2. Only the holder of the lease sends a refresh token: the one in the newest entry that its cache has not had, or otherwise its own.
//! 3. Without the store, a refresh token is not sent. Everything else is.

use std::{
    future::pending,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::time::{self, Instant};

use super::{
    Fetch, ShareTokens,
    ask::{Ask, Obtained},
    cache_key::CacheKey,
    decide::{ENDED, EntryFacts, Route, Use, look_at_most, lost_holder, patience, use_of},
    events,
    lease::{Lease, beside},
    storing::{HeldLease, Storing},
};
use crate::{
    authorization_server::token_endpoint::refusal::sign_in_required,
    base::clock::{Moment, tokio_now, wall_now},
    dpop::DpopKey,
    error::{BoxError, ErrorCode, TokenError, TokenErrorBuilder, TokenErrorKind},
    message::{TokenRequest, TokenResponse},
    secret::RefreshToken,
    token_store::{EndedSignIn, EntryName, Fence, Found, Opened, StoredEntry},
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

/// What an entry contained.
pub(super) enum Content {
    Token(Box<Obtained>, Use),
    /// Nothing of use.
    Unreadable,
    /// Only a refresh token.
    RefreshToken(RefreshToken),
    /// The tokens of this request cannot be shared.
    NotShared,
    /// It has a refresh token that is newer than that of this instance, and cannot be read or is not accepted.
    Unusable(Box<TokenError>),
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

    pub(super) fn read(
        &self,
        entry: &[u8],
        fence: Fence,
        lease_age: Duration,
        now: Moment,
    ) -> Content {
        let opened = match self.share.keys.open(&self.key.entry, fence, entry) {
            Opened::Entry(opened) => opened,
            Opened::OtherVersion => return self.of_another_key("it has another version"),
            Opened::UnknownKey => {
                return self.of_another_key("it is encrypted with another key");
            }
            Opened::Corrupt => return self.damaged(fence),
        };
        let Some(stored) = StoredEntry::decode(&opened, self.dpop) else {
            return self.damaged(fence);
        };
        self.share.is_unreadable.store(false, Ordering::Relaxed);
        let stored = match stored {
            StoredEntry::Token(stored) => stored,
            StoredEntry::Ended(ended) => return self.ended(ended, lease_age),
            StoredEntry::NotShared(key) if key == self.key.token && !self.key.is_of_sign_in() => {
                return Content::NotShared;
            }
            StoredEntry::NotShared(_) => return Content::Unreadable,
        };
        let age = stored.age(lease_age, now.wall_time(now).unwrap_or_else(wall_now));
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

    /// The refresh token of this instance may be newer, for example because the store has lost its data meanwhile.
    fn ended(&self, ended: EndedSignIn, age: Duration) -> Content {
        let own = self.request.known("refresh_token");
        let is_own = own == Some(ended.refresh_token.expose_secret());
        let known = self.ask.known.fence().unwrap_or(Fence::new(0));
        let is_newer = ended.known_since > known;
        if ended.key == self.key.token && age < ENDED && (is_own || is_newer) {
            Content::unusable(sign_in_required(refused_elsewhere()))
        } else if is_newer {
            Content::RefreshToken(ended.refresh_token)
        } else {
            Content::Unreadable
        }
    }

    fn of_another_key(&self, why: &str) -> Content {
        self.share.note_unreadable(why);
        match self.route {
            Route::RefreshToken => Content::unusable(of_another_key()),
            Route::Helped | Route::OwnResult => Content::Unreadable,
        }
    }

    fn damaged(&self, fence: Fence) -> Content {
        self.share.note_unreadable("it is damaged");
        let share = self.share;
        match self.route {
            Route::RefreshToken if !share.has_long_been_damaged(&self.name, fence) => {
                Content::unusable(damaged())
            }
            _ => Content::Unreadable,
        }
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

impl Content {
    fn unusable(error: TokenError) -> Self {
        Self::Unusable(Box::new(error))
    }

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

/// An error before anything was sent. Trying again at once would not help.
fn transient(message: &'static str) -> TokenErrorBuilder {
    TokenError::builder(TokenErrorKind::Service)
        .message(message)
        .retry_after(Duration::from_secs(1))
        .before_sending()
}

fn paused(rest: Duration) -> TokenError {
    let message = "the authorization server told another instance of this service to wait, or has failed there; all instances wait before one \
                   of them tries again";
    transient(message).retry_after(rest).build()
}

fn store_needed(error: BoxError) -> TokenError {
    let message = "the token store is not available; it is required for refresh tokens, so that only one instance sends them";
    transient(message).source(error).build()
}

fn held_for_long() -> TokenError {
    transient(
        "timed out waiting for another instance of this service that is using the refresh token",
    )
    .build()
}

fn of_another_key() -> TokenError {
    let message = "the refresh token in the token store is encrypted with a key that this instance does not have, or by another version of \
                   this crate; give this instance the other key with `StoreKeys::opens`";
    transient(message).build()
}

fn refused_elsewhere() -> TokenError {
    let message = "the authorization server refused the refresh token when another instance of this service sent it";
    TokenError::builder(TokenErrorKind::ErrorResponse)
        .message(message)
        .error_response(ErrorCode::INVALID_GRANT)
        .before_sending()
        .build()
}

fn damaged() -> TokenError {
    let message = "the refresh token in the token store is damaged; an instance that has it will replace it, and after an hour this instance \
                   sends its own";
    transient(message).build()
}
