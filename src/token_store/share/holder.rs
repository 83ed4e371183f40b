//! What the holder of a lease does: fetch, renew the lease meanwhile, then store the token or release the lease.

use std::time::Duration;

use super::{
    ask::Obtained,
    decide::{Route, ends_sign_in, shared_pause},
    lease::beside,
    session::{SeenRefreshToken, Session},
    storing::{HeldLease, NewRefreshToken, Storing},
};
use crate::{
    base::clock::tokio_now,
    error::TokenError,
    message::{AccessToken, TokenResponse},
    secret::RefreshToken,
    token_store::{EndedSignIn, Fence, Found, Put},
};

impl Session<'_> {
    /// Fetches a token under the lease. `newest` is the refresh token of the store, if it differs from that of the cache.
    pub(super) async fn fetch_as_holder(
        &self,
        mut held: HeldLease,
        newest: Option<SeenRefreshToken>,
    ) -> Obtained {
        if self.route == Route::RefreshToken {
            // It may have been shut down while it waited.
            if let Err(error) = (self.ask.check_shutdown)() {
                return self.failed(error);
            }
            held.lease.begin_spending();
        }
        let request = match newest.clone() {
            Some(newest) => self.request.continued_by(newest.token),
            None => self.request.clone(),
        };
        let sent = match self.route {
            Route::RefreshToken => request.known("refresh_token").map(RefreshToken::new),
            Route::Helped | Route::OwnResult => None,
        };
        let begun = self.now();
        let renewing = async {
            self.remove_refused().await;
            held.lease.keep_renewed().await;
        };
        let result = beside((self.fetch)(request), renewing).await;
        // The cache continues with its own refresh token if the response has none.
        let result = match newest.clone() {
            Some(newest) => result.map(|response| response.or_refresh_token(newest.token)),
            None => result,
        };
        let fetched = Obtained {
            fence: Some(held.fence),
            ..Obtained::fetched(begun, result)
        };
        match &fetched.result {
            Ok(response) => {
                // It stays in use if the response has none (RFC 6749 §6).
                let response = match sent.clone() {
                    Some(sent) => response.or_refresh_token(sent),
                    None => response.clone(),
                };
                let stored = self.store(Some(held), &fetched, response, sent).await;
                stored.newer.unwrap_or(fetched)
            }
            Err(error) => {
                let known_since = match &newest {
                    Some(newest) => Some(newest.fence),
                    None => self.ask.known.fence(),
                };
                let ended = sent.map(|refresh_token| EndedSignIn {
                    key: self.key.token,
                    refresh_token,
                    known_since: known_since.unwrap_or(Fence::new(0)),
                });
                self.end_lease(held, ended, error).await;
                fetched
            }
        }
    }

    /// `ended` is what to store if the server no longer accepts the refresh token.
    async fn end_lease(&self, mut held: HeldLease, ended: Option<EndedSignIn>, error: &TokenError) {
        if let Some(ended) = ended.filter(|_| ends_sign_in(error))
            && self.is_newest(&mut held, ended.known_since).await
        {
            let (keys, keep_for) = (&self.share.keys, self.share.keep_refresh_tokens);
            let sealed = keys.seal(&self.key.entry, held.fence, &ended.encode());
            if let Ok(entry) = sealed
                && held.lease.put(held.fence, entry, keep_for).await.is_ok()
            {
                return;
            }
        }
        let pause = shared_pause(error, self.ask.failures, self.ask.will_retry);
        let may_be_spent = self.route == Route::RefreshToken && error.may_have_been_processed();
        // The server may still be processing the request, so the next holder has to wait.
        if !pause.is_zero() || !may_be_spent {
            held.lease.release(pause).await;
        }
    }

    /// Returns whether no newer refresh token has been stored during the request. The last holder may have been late.
    async fn is_newest(&self, held: &mut HeldLease, known: Fence) -> bool {
        let found = held.lease.look(Some(known), Duration::MAX).await;
        matches!(found, Ok(Found::Leased { fence, .. }) if fence == held.fence)
    }

    /// A token that was refused here would be refused elsewhere. An entry with a refresh token stays.
    async fn remove_refused(&self) {
        if let Some(fence) = self.ask.known.fence()
            && self.ask.was_refused
            && self.route == Route::Helped
        {
            let _ = self.share.engine.remove(&self.name, fence).await;
        }
    }

    /// Fetches without a lease, and stores the result for the others.
    pub(super) async fn alone(&self) -> Obtained {
        let fetched = self.alone_for_itself().await;
        let Ok(response) = &fetched.result else {
            return fetched;
        };
        let response = response.clone();
        let stored = self.store(None, &fetched, response, None).await;
        let fence = stored.fence;
        stored.newer.unwrap_or(Obtained { fence, ..fetched })
    }

    pub(super) async fn alone_for_itself(&self) -> Obtained {
        let sent = self.now();
        Obtained::fetched(sent, (self.fetch)(self.request.clone()).await)
    }

    /// Stores a token, which also ends the lease. Without a lease, takes one.
    ///
    /// `sent` is the refresh token that was sent.
    async fn store(
        &self,
        held: Option<HeldLease>,
        fetched: &Obtained,
        response: TokenResponse,
        sent: Option<RefreshToken>,
    ) -> Outcome {
        let refresh_token = match (self.route, response.refresh_token()) {
            (Route::RefreshToken | Route::OwnResult, Some(token)) => Some(NewRefreshToken {
                token: token.clone(),
                sent,
                keep_for: self.share.keep_refresh_tokens,
                is_spent: self.ask.is_spent.clone(),
            }),
            _ => None,
        };
        // If the store was slow, the caller does not wait for it.
        let is_waited_for = held.is_some() || self.route == Route::OwnResult;
        let deadline = match is_waited_for {
            true => self.ask.deadline,
            false => tokio_now(),
        };
        let storing = Storing {
            share: self.share.clone(),
            name: self.name.clone(),
            key: self.key.clone(),
            named: self.named.clone(),
            is_sendable: self.is_sendable(response.access_token()),
            lifetime: self.lifetime(&response),
            response,
            refresh_token,
            sent: fetched.sent,
            clock: self.ask.clock.clone(),
            guard: self.ask.guard.clone(),
        };
        let stored = storing.begin(held, deadline).await;
        let fence = stored.as_ref().map(|stored| stored.fence);
        let newer = match stored {
            Some(stored) if stored.put == Put::Superseded => self.newer_than(stored.fence).await,
            _ => None,
        };
        Outcome { fence, newer }
    }

    /// Returns whether others can send an access token: its type is known, and it is bound to no other key than the cache key names.
    fn is_sendable(&self, token: &AccessToken) -> bool {
        let binding = token.binding();
        token.sendable().is_some() && binding.is_none_or(|binding| Some(&binding.key) == self.dpop)
    }

    async fn newer_than(&self, fence: Fence) -> Option<Obtained> {
        let now = self.now();
        let mut lease = self.share.lease_of(&self.name);
        match lease.look(Some(fence), Duration::MAX).await {
            Ok(Found::Entry { entry, fence, age }) => self.read(&entry, fence, age, now).adopted(),
            _ => None,
        }
    }
}

/// What became of a token that was to be stored.
struct Outcome {
    /// The fence under which it was stored.
    fence: Option<Fence>,
    /// The token of another instance, if that is newer.
    newer: Option<Obtained>,
}
