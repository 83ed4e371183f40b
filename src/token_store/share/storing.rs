//! Puts a token into the store, in a task of its own: what ends a fetch does not end it.

use std::{any::Any, sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::{
    runtime::Handle,
    sync::oneshot,
    time::{self, Instant},
};

use super::{
    ShareTokens,
    cache_key::CacheKey,
    decide::{NOT_SHARED, time_to_live},
    events,
    lease::{Lease, beside},
};
use crate::{
    base::{
        clock::{Clock, Moment, tokio_now, wall_now},
        panic::catch_panic,
    },
    error::{BoxError, OwnError},
    message::{TokenRequest, TokenResponse},
    secret::RefreshToken,
    token_store::{EntryName, Fence, Found, Opened, Put, StoredEntry, StoredToken},
};

/// A token on its way to the store.
pub(super) struct Storing {
    pub(super) share: Arc<ShareTokens>,
    pub(super) name: EntryName,
    pub(super) key: CacheKey,
    /// The request that the key was made of.
    pub(super) named: TokenRequest,
    pub(super) response: TokenResponse,
    /// Whether others can send the access token.
    pub(super) is_sendable: bool,
    pub(super) lifetime: Duration,
    pub(super) refresh_token: Option<NewRefreshToken>,
    pub(super) sent: Moment,
    pub(super) clock: Clock,
    /// A shutdown waits until this is dropped.
    pub(super) guard: Option<Arc<dyn Any + Send + Sync>>,
}

/// A refresh token that nobody else knows.
pub(super) struct NewRefreshToken {
    pub(super) token: RefreshToken,
    /// The refresh token that was sent for it.
    pub(super) sent: Option<RefreshToken>,
    pub(super) keep_for: Duration,
    pub(super) is_spent: Arc<dyn Fn(&RefreshToken) -> bool + Send + Sync>,
}

/// The lease under which a token is stored.
pub(super) struct HeldLease {
    pub(super) lease: Lease,
    pub(super) fence: Fence,
    /// When the first answer arrived that the lease is held.
    pub(super) known_at: Moment,
}

/// What became of a token.
pub(super) struct Stored {
    pub(super) put: Put,
    pub(super) fence: Fence,
}

impl Storing {
    /// The pause between two attempts.
    pub(super) const PAUSE: Duration = Duration::from_millis(250);
    const GIVE_UP_AFTER: Duration = Duration::from_secs(10 * 60);
    const REPORTED_AFTER: Duration = Duration::from_secs(5);
    const SHUTDOWN_WAITS: Duration = Duration::from_secs(20);
    /// How long computing the cache key may take. It may ask a vault.
    const KEY_LIMIT: Duration = Duration::from_secs(5);

    /// Stores the token. Without a lease, takes one. Returns what became of it, unless that takes until the deadline.
    pub(super) async fn begin(self, lease: Option<HeldLease>, deadline: Instant) -> Option<Stored> {
        let runtime = Handle::try_current().ok()?;
        let (told, result) = oneshot::channel();
        runtime.spawn(self.run(lease, told));
        time::timeout_at(deadline, result).await.ok()?.ok()
    }

    /// Tells the result, or drops `told` if it has failed or takes long.
    async fn run(mut self, mut held: Option<HeldLease>, told: oneshot::Sender<Stored>) {
        if let Some(held) = held.as_mut().filter(|_| self.refresh_token.is_some()) {
            held.lease.begin_spending();
        }
        let is_shared = match &held {
            Some(held) => beside(self.is_shared(), held.lease.keep_renewed()).await,
            None => self.is_shared().await,
        };
        let begun = tokio_now();
        let (mut told, mut is_reported) = (Some(told), false);
        for attempt in 0.. {
            match self.attempt(&mut held, is_shared).await {
                Attempt::Ended(stored) => {
                    if let (Some(told), Some(stored)) = (told, stored) {
                        // Nobody may wait any longer.
                        let _ = told.send(stored);
                    }
                    return;
                }
                // The others can fetch a token of their own.
                Attempt::Failed if self.refresh_token.is_none() => return,
                Attempt::Failed => {}
            }
            if attempt == 1 {
                told = None;
            }
            let trying = tokio_now() - begun;
            // Without the lease, another instance is mostly only a little faster.
            let is_failing = (attempt > 0 && held.is_some()) || trying > Self::REPORTED_AFTER;
            if is_failing && !std::mem::replace(&mut is_reported, true) {
                events::refresh_token_is_not_stored();
            }
            if trying > Self::SHUTDOWN_WAITS {
                self.guard = None;
            }
            if trying > Self::GIVE_UP_AFTER {
                return events::refresh_token_is_given_up();
            }
            time::sleep(Self::PAUSE).await;
            if let Some(held) = &held {
                // Nobody else may send the old refresh token meanwhile.
                let _ = held.lease.renew().await;
            }
        }
    }

    async fn attempt(&self, held: &mut Option<HeldLease>, is_shared: bool) -> Attempt {
        if held.is_none() {
            let is_spent = self
                .refresh_token
                .as_ref()
                .is_some_and(NewRefreshToken::is_spent);
            if is_spent {
                return Attempt::Ended(None);
            }
            match self.take_lease().await {
                Taken::Lease(taken) => *held = Some(taken),
                Taken::Newer => return Attempt::Ended(None),
                Taken::Failed => return Attempt::Failed,
            }
        }
        let Some(lease) = held else {
            return Attempt::Failed;
        };
        let Some((entry, ttl)) = self.entry(lease, is_shared) else {
            if let Some(held) = held.take() {
                held.lease.release(Duration::ZERO).await;
            }
            return Attempt::Ended(None);
        };
        let fence = lease.fence;
        match lease.lease.put(fence, entry, ttl).await {
            Err(_) => Attempt::Failed,
            Ok(Put::Superseded) if self.refresh_token.is_some() => {
                match self.is_replaced_by_its_end(fence).await {
                    Ok(true) => {
                        *held = None;
                        Attempt::Failed
                    }
                    Ok(false) => {
                        let put = Put::Superseded;
                        Attempt::Ended(Some(Stored { put, fence }))
                    }
                    Err(_) => Attempt::Failed,
                }
            }
            Ok(put) => Attempt::Ended(Some(Stored { put, fence })),
        }
    }

    /// Takes the lease, unless the token of another instance is newer.
    async fn take_lease(&self) -> Taken {
        if self.refresh_token.is_none() && self.share.engine.admit().is_err() {
            return Taken::Failed;
        }
        let mut newer_than = None;
        let mut lease = self.share.lease_of(&self.name);
        for _ in 0..3 {
            match lease.look(newer_than, Duration::MAX).await {
                Ok(Found::Leased { fence, .. }) => {
                    if self.refresh_token.is_some() {
                        lease.begin_spending();
                    }
                    return Taken::Lease(HeldLease {
                        lease,
                        fence,
                        known_at: self.clock.now(),
                    });
                }
                Ok(Found::Entry { entry, fence, age }) => {
                    let is_newer = age < self.clock.now().time_since(self.sent);
                    match self.is_its_end(&entry, fence) {
                        _ if !is_newer => {}
                        Some(true) => {}
                        // The refresh token in it may be newer, or lost.
                        None if self.refresh_token.is_some() => return Taken::Failed,
                        Some(false) | None => return Taken::Newer,
                    }
                    newer_than = Some(fence);
                }
                Ok(Found::Held { .. } | Found::Paused { .. }) | Err(_) => return Taken::Failed,
            }
        }
        Taken::Failed
    }

    async fn is_replaced_by_its_end(&self, fence: Fence) -> Result<bool, BoxError> {
        let mut lease = self.share.lease_of(&self.name);
        match lease.look(Some(fence), Duration::MAX).await? {
            Found::Entry { entry, fence, .. } => self
                .is_its_end(&entry, fence)
                .ok_or_else(|| OwnError::new("the newer entry is not readable").into()),
            _ => Ok(false),
        }
    }

    /// Returns whether an entry only says that the refresh token which was sent for this one is no longer accepted.
    fn is_its_end(&self, entry: &[u8], fence: Fence) -> Option<bool> {
        let sent = self.refresh_token.as_ref()?.sent.as_ref();
        let Opened::Entry(opened) = self.share.keys.open(&self.key.entry, fence, entry) else {
            return None;
        };
        Some(match StoredEntry::decode(&opened, None)? {
            StoredEntry::Ended(ended) => Some(&ended.refresh_token) == sent,
            StoredEntry::Token(_) | StoredEntry::NotShared(_) => false,
        })
    }

    /// Returns whether the access token is what the cache key names. A certificate, or the text of a provider, may have changed since.
    async fn is_shared(&self) -> bool {
        let key = catch_panic(time::timeout(Self::KEY_LIMIT, self.share.key(&self.named)));
        self.is_sendable && matches!(key.await, Some(Ok(Ok(key))) if key == self.key)
    }

    /// Returns the encrypted entry and how long to keep it. `None` if it would be of no use to others.
    fn entry(&self, held: &HeldLease, is_shared: bool) -> Option<(Bytes, Duration)> {
        let seal = |entry: &[u8]| {
            self.share
                .keys
                .seal(&self.key.entry, held.fence, entry)
                .ok()
        };
        if !is_shared && self.refresh_token.is_none() {
            let is_marked = !self.is_sendable && !self.key.is_of_sign_in();
            let mark = StoredEntry::not_shared(&self.key.token);
            return is_marked.then_some((seal(&mark)?, NOT_SHARED));
        }
        let now = self.clock.now();
        let age = now.time_since(self.sent);
        let keep_for = self.refresh_token.as_ref().map(|new| new.keep_for);
        let ttl = time_to_live(self.lifetime, age, keep_for)?;
        let stored = StoredToken {
            response: self.response.clone(),
            key: is_shared.then_some(self.key.token),
            age_at_lease: held.known_at.time_since(self.sent),
            lease_when_sent: self.sent.time_since(held.known_at),
            age_when_stored: age,
            stored_at: now.wall_time(now).unwrap_or_else(wall_now),
        };
        Some((seal(&stored.encode())?, ttl))
    }
}

enum Attempt {
    /// Nothing is left to do.
    Ended(Option<Stored>),
    Failed,
}

enum Taken {
    Lease(HeldLease),
    /// Another instance has stored a token that was requested later.
    Newer,
    Failed,
}

impl NewRefreshToken {
    /// Whether this instance has used it meanwhile, so that the server has replaced it.
    fn is_spent(&self) -> bool {
        (self.is_spent)(&self.token)
    }
}
