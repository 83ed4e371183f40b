//! What the holder of a lease does: fetch, renew the lease meanwhile, then store the token or release the lease.

use std::time::Duration;

use bytes::Bytes;

use super::{
    ask::Obtained,
    decide::{Route, shared_pause, time_to_live},
    engine::Patience,
    lease::{Lease, beside},
    session::Session,
};
use crate::{
    base::clock::wall_now,
    message::TokenResponse,
    secret::RefreshToken,
    token_store::{Fence, Found, Put, StoredToken},
};

impl Session<'_> {
    /// Fetches a token under the lease with this fence. `newest` is the refresh token of the store, if it differs from that of the cache.
    pub(super) async fn fetch_as_holder(
        &self,
        fence: Fence,
        newest: Option<RefreshToken>,
    ) -> Obtained {
        let lease = Lease {
            engine: &self.share.engine,
            name: &self.name,
            owner: &self.owner,
            // Nobody else may send a refresh token while it may be on its way. The lease ends by itself.
            is_released_on_drop: self.route != Route::RefreshToken,
        };
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
            lease.keep(self.share.lease).await;
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
            Ok(response) => self.store(&lease, fence, &fetched, response, spent).await,
            Err(error) => {
                let pause = shared_pause(error, self.ask.failures, self.ask.will_retry);
                let _ = lease.engine.release(lease.name, lease.owner, pause).await;
                None
            }
        };
        lease.end();
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
        let Some(fence) = self.lease_for_result().await else {
            return fetched;
        };
        let lease = Lease {
            engine: &self.share.engine,
            name: &self.name,
            owner: &self.owner,
            is_released_on_drop: true,
        };
        self.store(&lease, fence, &fetched, response, None).await;
        lease.end();
        Obtained {
            fence: Some(fence),
            ..fetched
        }
    }

    async fn lease_for_result(&self) -> Option<Fence> {
        let mut newer_than = None;
        for _ in 0..3 {
            let engine = &self.share.engine;
            let look = engine.look(&self.name, newer_than, &self.owner, self.share.lease);
            match look.await {
                Ok(Found::Leased { fence, .. }) => return Some(fence),
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
        lease: &Lease<'_>,
        fence: Fence,
        fetched: &Obtained,
        response: &TokenResponse,
        spent: Option<RefreshToken>,
    ) -> Option<Obtained> {
        let response = match spent {
            Some(spent) => response.or_refresh_token(spent),
            None => response.clone(),
        };
        let Some((entry, ttl)) = self.entry(fetched, &response) else {
            let _ = lease
                .engine
                .release(lease.name, lease.owner, Duration::ZERO)
                .await;
            return None;
        };
        let is_needed = self.route != Route::Helped && response.refresh_token().is_some();
        let put = match is_needed {
            true => lease.put_surely(fence, entry, ttl).await,
            false => lease.put(Patience::Caller, fence, entry, ttl).await.ok(),
        };
        match put {
            Some(Put::Superseded) => self.newer_than(fence).await,
            Some(Put::Stored) => None,
            // Others need not wait. Only a new refresh token keeps them from sending the old one, until it is stored.
            None if !is_needed => {
                let _ = lease
                    .engine
                    .release(lease.name, lease.owner, Duration::ZERO)
                    .await;
                None
            }
            None => None,
        }
    }

    /// Returns the encrypted entry and how long to keep it. `None` if the token is of no use to others.
    fn entry(&self, fetched: &Obtained, response: &TokenResponse) -> Option<(Bytes, Duration)> {
        let token = response.access_token();
        token.sendable()?;
        if token
            .binding()
            .is_some_and(|binding| Some(&binding.key) != self.dpop)
        {
            return None;
        }
        let now = self.now();
        let age = now.time_since(fetched.sent);
        let keep = self.share.keep_refresh_tokens;
        let keep =
            (self.route != Route::Helped && response.refresh_token().is_some()).then_some(keep);
        let ttl = time_to_live(self.lifetime(response), age, keep)?;
        let stored = StoredToken {
            response: response.clone(),
            age_when_stored: age,
            stored_at: now.wall_time(now).unwrap_or_else(wall_now),
        };
        let sealed = self.share.keys.seal(&self.key, &stored.encode());
        Some((sealed.ok()?, ttl))
    }

    async fn newer_than(&self, fence: Fence) -> Option<Obtained> {
        let now = self.now();
        let engine = &self.share.engine;
        let look = engine.look(&self.name, Some(fence), &self.owner, self.share.lease);
        match look.await {
            Ok(Found::Entry { entry, fence, age }) => {
                self.read(&entry, fence, age, now, true).adopted()
            }
            Ok(Found::Leased { .. }) => {
                let _ = engine
                    .release(&self.name, &self.owner, Duration::ZERO)
                    .await;
                None
            }
            Ok(Found::Held { .. } | Found::Paused { .. }) | Err(_) => None,
        }
    }
}
