//! Puts a token into the store, in a task of its own: what ends a fetch does not end it.

use std::{any::Any, sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::{
    runtime::Handle,
    sync::oneshot,
    time::{self, Instant},
};

use super::{ShareTokens, cache_key::CacheKey, decide::time_to_live, events, lease::Lease};
use crate::{
    base::clock::{Clock, Moment, tokio_now, wall_now},
    message::TokenResponse,
    token_store::{EntryName, Fence, Found, Put, StoredToken, TokenKey},
};

/// A token on its way to the store.
pub(super) struct Storing {
    pub(super) share: Arc<ShareTokens>,
    pub(super) name: EntryName,
    pub(super) key: CacheKey,
    /// For which request the access token is, if others may use it.
    pub(super) for_request: Option<TokenKey>,
    pub(super) response: TokenResponse,
    pub(super) lifetime: Duration,
    /// How long to keep the refresh token, if there is one. Nobody else knows it.
    pub(super) keep: Option<Duration>,
    pub(super) sent: Moment,
    pub(super) clock: Clock,
    /// A shutdown waits until this is dropped.
    pub(super) guard: Option<Arc<dyn Any + Send + Sync>>,
}

/// The lease under which a token is stored.
pub(super) struct HeldLease {
    pub(super) lease: Lease,
    pub(super) fence: Fence,
    /// When the answer arrived that the lease is held.
    pub(super) known_at: Moment,
}

impl Storing {
    /// The next holder of the lease waits for longer than this and two operations: see [`ShareTokens::lost_holder`].
    pub(super) const PAUSE: Duration = Duration::from_millis(250);
    const GIVE_UP_AFTER: Duration = Duration::from_secs(10 * 60);
    const SHUTDOWN_WAITS: Duration = Duration::from_secs(20);

    /// Stores the token. Without a lease, takes one. Returns what became of it, unless that takes until the deadline.
    pub(super) async fn begin(self, lease: Option<HeldLease>, deadline: Instant) -> Option<Stored> {
        let runtime = Handle::try_current().ok()?;
        let (told, result) = oneshot::channel();
        runtime.spawn(self.run(lease, told));
        time::timeout_at(deadline, result).await.ok()?.ok()
    }

    /// Tells the result, or drops `told` if it has failed or takes long.
    async fn run(mut self, mut held: Option<HeldLease>, told: oneshot::Sender<Stored>) {
        let begun = tokio_now();
        let mut told = Some(told);
        for attempt in 0.. {
            if held.is_none() {
                held = self.take_lease().await;
            }
            if let Some(held) = &mut held {
                let Some((entry, ttl)) = self.entry(held) else {
                    return;
                };
                if self.keep.is_some() {
                    held.lease.begin_spending();
                }
                let fence = held.fence;
                if let Ok(put) = held.lease.put(fence, entry, ttl).await {
                    if let Some(told) = told {
                        // Nobody may wait any longer.
                        let _ = told.send(Stored { put, fence });
                    }
                    return;
                }
            }
            // The others can fetch a token of their own.
            if self.keep.is_none() {
                return;
            }
            if attempt == 1 {
                events::refresh_token_is_not_stored();
                told = None;
            }
            let trying = tokio_now() - begun;
            if trying > Self::SHUTDOWN_WAITS {
                self.guard = None;
            }
            if trying > Self::GIVE_UP_AFTER {
                return;
            }
            time::sleep(Self::PAUSE).await;
            if let Some(held) = &held {
                // Nobody else may send the old refresh token meanwhile.
                let _ = held.lease.renew().await;
            }
        }
    }

    async fn take_lease(&self) -> Option<HeldLease> {
        if self.keep.is_none() {
            self.share.engine.admit().ok()?;
        }
        let mut newer_than = None;
        let mut lease = self.share.lease_of(&self.name);
        for _ in 0..3 {
            match lease.look(newer_than, Duration::MAX).await {
                Ok(Found::Leased { fence, .. }) => {
                    let known_at = self.clock.now();
                    return Some(HeldLease {
                        lease,
                        fence,
                        known_at,
                    });
                }
                Ok(Found::Entry { fence, .. }) => newer_than = Some(fence),
                Ok(Found::Held { .. } | Found::Paused { .. }) | Err(_) => return None,
            }
        }
        None
    }

    /// Returns the encrypted entry and how long to keep it. `None` if it would be of no use to others.
    fn entry(&self, lease: &HeldLease) -> Option<(Bytes, Duration)> {
        if self.for_request.is_none() && self.keep.is_none() {
            return None;
        }
        let now = self.clock.now();
        let age = now.time_since(self.sent);
        let ttl = time_to_live(self.lifetime, age, self.keep)?;
        let stored = StoredToken {
            response: self.response.clone(),
            key: self.for_request,
            age_at_lease: lease.known_at.time_since(self.sent),
            lease_when_sent: self.sent.time_since(lease.known_at),
            age_when_stored: age,
            stored_at: now.wall_time(now).unwrap_or_else(wall_now),
        };
        let keys = &self.share.keys;
        let sealed = keys.seal(&self.key.entry, lease.fence, &stored.encode());
        Some((sealed.ok()?, ttl))
    }
}

/// What became of a token.
pub(super) struct Stored {
    pub(super) put: Put,
    pub(super) fence: Fence,
}
