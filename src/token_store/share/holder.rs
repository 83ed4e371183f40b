//! What the holder of a lease does: fetch, renew the lease meanwhile, then store the token or release the lease.

use std::time::Duration;

use bytes::Bytes;

use super::{
    ask::Obtained,
    decide::{Route, shared_pause, time_to_live},
    lease::{Lease, beside},
    session::Session,
};
use crate::{
    base::clock::wall_now,
    message::{AccessToken, TokenResponse},
    secret::RefreshToken,
    token_store::{Fence, Found, Put, StoredToken},
};

impl Session<'_> {
    /// Fetches a token under the lease with this fence. `newest` is the refresh token of the store, if it differs from that of the cache.
    pub(super) async fn fetch_as_holder(
        &self,
        mut lease: Lease<'_>,
        fence: Fence,
        newest: Option<RefreshToken>,
    ) -> Obtained {
        if self.route == Route::RefreshToken {
            lease.outlives_this();
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
            lease.keep().await;
        };
        let result = beside((self.fetch)(request), renewing).await;
        // The cache continues with its own refresh token if the response has none.
        let result = match newest {
            Some(newest) => result.map(|response| response.or_refresh_token(newest)),
            None => result,
        };
        let fetched = Obtained {
            fence: Some(fence),
            ..Obtained::fetched(sent, result)
        };
        let superseded = match &fetched.result {
            Ok(response) => self.store(lease, fence, &fetched, response, spent).await,
            Err(error) => {
                let pause = shared_pause(error, self.ask.failures, self.ask.will_retry);
                let may_be_spent =
                    self.route == Route::RefreshToken && error.may_have_been_processed();
                // The server may still be at it, so the next one has to wait.
                if !pause.is_zero() || !may_be_spent {
                    lease.release(pause).await;
                }
                None
            }
        };
        superseded.unwrap_or(fetched)
    }

    /// A token that was refused here would be refused elsewhere. An entry with a refresh token stays.
    async fn remove_refused(&self) {
        if let Some(fence) = self.ask.known.fence() {
            if self.ask.was_refused && self.route == Route::Helped {
                let _ = self.share.engine.remove(&self.name, fence).await;
            }
        }
    }

    /// Fetches without a lease, and stores the result for the others.
    pub(super) async fn share_own_result(&self) -> Obtained {
        let fetched = self.alone().await;
        let Ok(response) = &fetched.result else {
            return fetched;
        };
        let Some((lease, fence)) = self.lease_for_result().await else {
            return fetched;
        };
        self.store(lease, fence, &fetched, response, None).await;
        Obtained {
            fence: Some(fence),
            ..fetched
        }
    }

    async fn lease_for_result(&self) -> Option<(Lease<'_>, Fence)> {
        let mut newer_than = None;
        let mut lease = self.lease();
        for _ in 0..3 {
            match lease.look(newer_than).await {
                Ok(Found::Leased { fence, .. }) => return Some((lease, fence)),
                Ok(Found::Entry { fence, .. }) => newer_than = Some(fence),
                Ok(Found::Held { .. } | Found::Paused { .. }) | Err(_) => return None,
            }
        }
        None
    }

    /// Stores a token, which also ends the lease. Returns a newer one, if another instance has stored it.
    ///
    /// `spent` is the refresh token that was sent. It stays in use if the response has none (RFC 6749 §6).
    async fn store(
        &self,
        lease: Lease<'_>,
        fence: Fence,
        fetched: &Obtained,
        response: &TokenResponse,
        spent: Option<RefreshToken>,
    ) -> Option<Obtained> {
        let response = match spent {
            Some(spent) => response.or_refresh_token(spent),
            None => response.clone(),
        };
        let has_refresh_token = self.route != Route::Helped && response.refresh_token().is_some();
        let Some((entry, ttl)) = self.entry(fetched, response, has_refresh_token) else {
            lease.release(Duration::ZERO).await;
            return None;
        };
        let put = match has_refresh_token {
            true => lease.put_surely(fence, entry, ttl).await,
            false => lease.put(fence, entry, ttl).await,
        };
        match put {
            Some(Put::Superseded) => self.newer_than(fence).await,
            Some(Put::Stored) | None => None,
        }
    }

    /// Returns the encrypted entry and how long to keep it. `None` if it would be of no use to others.
    fn entry(
        &self,
        fetched: &Obtained,
        response: TokenResponse,
        has_refresh_token: bool,
    ) -> Option<(Bytes, Duration)> {
        let is_shared = self.may_share(response.access_token());
        if !is_shared && !has_refresh_token {
            return None;
        }
        let now = self.now();
        let age = now.time_since(fetched.sent);
        let keep = has_refresh_token.then_some(self.share.keep_refresh_tokens);
        let ttl = time_to_live(self.lifetime(&response), age, keep)?;
        let stored = StoredToken {
            response,
            key: is_shared.then_some(self.key.token),
            age_when_stored: age,
            stored_at: now.wall_time(now).unwrap_or_else(wall_now),
        };
        let sealed = self.share.keys.seal(&self.key.entry, &stored.encode());
        Some((sealed.ok()?, ttl))
    }

    /// Returns whether an access token is of use to others: it can be sent, and is bound to the keys that the cache key names.
    fn may_share(&self, token: &AccessToken) -> bool {
        let is_bound_as_named = token
            .binding()
            .is_none_or(|binding| Some(&binding.key) == self.dpop);
        // The certificate may have changed since.
        token.sendable().is_some() && is_bound_as_named && self.share.text() == self.text
    }

    async fn newer_than(&self, fence: Fence) -> Option<Obtained> {
        let now = self.now();
        match self.lease().look(Some(fence)).await {
            Ok(Found::Entry { entry, fence, age }) => self.read(&entry, fence, age, now).adopted(),
            _ => None,
        }
    }
}
