//! What the holder of a lease does: fetch, renew the lease meanwhile, then store the token or release the lease.

use std::time::Duration;

use super::{
    ask::Obtained,
    decide::{ENDED_KEPT, Route, shared_pause},
    lease::beside,
    session::Session,
    storing::{HeldLease, Storing},
};
use crate::{
    base::clock::tokio_now,
    error::{TokenError, TokenErrorKind},
    message::{AccessToken, TokenResponse},
    secret::RefreshToken,
    token_store::{EndedSignIn, Fence, Found, Put},
};

impl Session<'_> {
    /// Fetches a token under the lease. `newest` is the refresh token of the store, if it differs from that of the cache.
    pub(super) async fn fetch_as_holder(
        &self,
        mut held: HeldLease,
        newest: Option<RefreshToken>,
    ) -> Obtained {
        if self.route == Route::RefreshToken {
            // It may have been shut down while it waited.
            if let Err(error) = (self.ask.check_shutdown)() {
                return self.failed(error);
            }
            held.lease.begin_spending();
        }
        let request = match newest.clone() {
            Some(newest) => self.request.continued_by(newest),
            None => self.request.clone(),
        };
        let spent = match self.route {
            Route::RefreshToken => request.known("refresh_token").map(RefreshToken::new),
            Route::Helped | Route::OwnResult => None,
        };
        let sent = self.now();
        let renewing = async {
            self.remove_refused().await;
            held.lease.keep().await;
        };
        let result = beside((self.fetch)(request), renewing).await;
        // The cache continues with its own refresh token if the response has none.
        let result = match newest {
            Some(newest) => result.map(|response| response.or_refresh_token(newest)),
            None => result,
        };
        let fetched = Obtained {
            fence: Some(held.fence),
            ..Obtained::fetched(sent, result)
        };
        match &fetched.result {
            Ok(response) => {
                // It stays in use if the response has none (RFC 6749 §6).
                let response = match spent {
                    Some(spent) => response.or_refresh_token(spent),
                    None => response.clone(),
                };
                let (_, newer) = self.store(Some(held), &fetched, response).await;
                newer.unwrap_or(fetched)
            }
            Err(error) => {
                self.end_lease(held, spent, error).await;
                fetched
            }
        }
    }

    /// `spent` is the refresh token that was sent.
    async fn end_lease(
        &self,
        mut held: HeldLease,
        spent: Option<RefreshToken>,
        error: &TokenError,
    ) {
        let ended = spent.filter(|_| {
            let judged = (self.ask.judge)(error.clone());
            judged.kind() == TokenErrorKind::SignInRequired
        });
        if let Some(refresh_token) = ended {
            let key = self.key.token;
            let ended = EndedSignIn { key, refresh_token }.encode();
            let keys = &self.share.keys;
            if let Ok(entry) = keys.seal(&self.key.entry, held.fence, &ended)
                && held.lease.put(held.fence, entry, ENDED_KEPT).await.is_ok()
            {
                return;
            }
        }
        let pause = shared_pause(error, self.ask.failures, self.ask.will_retry);
        let may_be_spent = self.route == Route::RefreshToken && error.may_have_been_processed();
        // The server may still be at it, so the next one has to wait.
        if !pause.is_zero() || !may_be_spent {
            held.lease.release(pause).await;
        }
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
        let sent = self.now();
        let result = (self.fetch)(self.request.clone()).await;
        let fetched = Obtained::fetched(sent, result);
        let Ok(response) = &fetched.result else {
            return fetched;
        };
        let response = response.clone();
        let (fence, newer) = self.store(None, &fetched, response).await;
        newer.unwrap_or(Obtained { fence, ..fetched })
    }

    /// Stores a token, which also ends the lease. Without a lease, takes one.
    ///
    /// Returns the fence under which it was stored, and a newer token, if another instance has stored one.
    async fn store(
        &self,
        held: Option<HeldLease>,
        fetched: &Obtained,
        response: TokenResponse,
    ) -> (Option<Fence>, Option<Obtained>) {
        let has_refresh_token = self.route != Route::Helped && response.refresh_token().is_some();
        let may_share = self.may_share(response.access_token()).await;
        let storing = Storing {
            share: self.share.clone(),
            name: self.name.clone(),
            for_request: may_share.then_some(self.key.token),
            key: self.key.clone(),
            lifetime: self.lifetime(&response),
            keep: has_refresh_token.then_some(self.share.keep_refresh_tokens),
            response,
            sent: fetched.sent,
            clock: self.ask.clock.clone(),
            guard: self.ask.guard.clone(),
        };
        // Nobody waits for a store that was slow.
        let is_waited_for = held.is_some() || self.route == Route::OwnResult;
        let deadline = match is_waited_for {
            true => self.ask.deadline,
            false => tokio_now(),
        };
        match storing.begin(held, deadline).await {
            None => (None, None),
            Some(stored) => match stored.put {
                Put::Stored => (Some(stored.fence), None),
                Put::Superseded => (Some(stored.fence), self.newer_than(stored.fence).await),
            },
        }
    }

    /// Returns whether an access token is of use to others: it can be sent, and is what the cache key names.
    async fn may_share(&self, token: &AccessToken) -> bool {
        let is_bound_as_named = token
            .binding()
            .is_none_or(|binding| Some(&binding.key) == self.dpop);
        // A certificate, or the text of a provider, may have changed since the request was sent.
        let key = self.share.key(self.named).await;
        token.sendable().is_some() && is_bound_as_named && key.is_ok_and(|key| key == self.key)
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
