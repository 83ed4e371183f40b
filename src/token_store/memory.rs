//! `MemoryTokenStore`: an engine in this process.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, UNIX_EPOCH},
};

use bytes::Bytes;
use tokio::{
    sync::Notify,
    time::{self, Instant},
};

use super::{EntryName, Fence, Found, LeaseOwner, Put, StoreFuture, TokenStore, slot::Slot};
use crate::base::clock::{Clock, tokio_now, wall_now};

/// A [`TokenStore`] in the memory of this process, for tests and for several caches in one process.
///
/// Clones share their entries. Entries that have ended are dropped. There is no other limit.
///
/// Time is tokio's clock, so a test can pause it. A test whose cache has another [clock](crate::token_cache::TokenCacheBuilder::clock) sets the
/// same one [here](Self::clock).
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use tower_oauth2_client::token_store::{
///     EntryName, Found, LeaseOwner, MemoryTokenStore, TokenStore,
/// };
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), tower_oauth2_client::BoxError> {
/// let store = MemoryTokenStore::new();
/// let (name, limit) = (EntryName::new("n4bQgYhMfWWaL-qgxVrQFaO_TxsrC4Is"), Duration::from_secs(10));
/// let (one, another) = (LeaseOwner::random(), LeaseOwner::random());
///
/// let Found::Leased { fence, .. } = store.look(&name, None, &one, limit).await? else {
///     panic!("nobody else holds the lease");
/// };
/// let found = store.look(&name, None, &another, limit).await?;
/// assert!(matches!(found, Found::Held { .. }));
///
/// store.put(&name, &one, fence, "encrypted".into(), Duration::from_secs(3600)).await?;
/// let found = store.look(&name, None, &another, limit).await?;
/// assert!(matches!(found, Found::Entry { entry, .. } if entry == "encrypted"));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct MemoryTokenStore(Arc<Inner>);

struct Inner {
    clock: Option<Clock>,
    start: Instant,
    /// When the store was created, since 1970.
    created: Duration,
    /// The lock is never held across an await.
    slots: Mutex<Slots>,
}

#[derive(Default)]
struct Slots {
    by_name: HashMap<EntryName, Named>,
    /// Slots are swept when there are this many.
    sweep_at: usize,
}

#[derive(Default)]
struct Named {
    slot: Slot,
    changed: Arc<Notify>,
}

impl MemoryTokenStore {
    /// Creates an empty store.
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(Inner {
            clock: None,
            start: tokio_now(),
            created: wall_now().duration_since(UNIX_EPOCH).unwrap_or_default(),
            slots: Mutex::default(),
        }))
    }

    /// Sets the clock that measures the age of entries and the length of leases, of an empty store. Default is tokio's clock.
    ///
    /// Entries that were there are dropped. Waiting takes time of tokio's clock.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_oauth2_client::{test_util::ManualClock, token_store::MemoryTokenStore};
    ///
    /// let clock = ManualClock::new();
    /// let store = MemoryTokenStore::new().clock(&clock);
    /// ```
    #[must_use]
    pub fn clock(self, clock: impl Into<Clock>) -> Self {
        let clock = clock.into();
        let now = clock.now();
        let created = now.wall_time(now).unwrap_or_else(wall_now);
        Self(Arc::new(Inner {
            clock: Some(clock),
            start: tokio_now(),
            created: created.duration_since(UNIX_EPOCH).unwrap_or_default(),
            slots: Mutex::default(),
        }))
    }

    fn now(&self) -> Duration {
        let Inner {
            clock,
            start,
            created,
            ..
        } = &*self.0;
        match clock {
            Some(clock) => {
                let now = clock.now();
                let time = now.wall_time(now).unwrap_or_else(wall_now);
                time.duration_since(UNIX_EPOCH).unwrap_or_default()
            }
            None => *created + (tokio_now() - *start),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Slots> {
        self.0.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<T>(&self, name: &EntryName, change: impl FnOnce(&mut Slot, Duration) -> T) -> T {
        let now = self.now();
        change(&mut self.lock().named(name, now).slot, now)
    }

    fn change_and_wake<T>(
        &self,
        name: &EntryName,
        change: impl FnOnce(&mut Slot, Duration) -> T,
    ) -> T {
        let now = self.now();
        let mut slots = self.lock();
        let named = slots.named(name, now);
        let result = change(&mut named.slot, now);
        named.changed.notify_waiters();
        result
    }
}

impl Slots {
    const LEAST_SWEPT: usize = 64;

    fn named(&mut self, name: &EntryName, now: Duration) -> &mut Named {
        if self.by_name.len() >= self.sweep_at.max(Self::LEAST_SWEPT) {
            // A waiter keeps its slot: otherwise, nobody could wake it.
            let is_used =
                |named: &Named| !named.slot.is_over(now) || Arc::strong_count(&named.changed) > 1;
            self.by_name.retain(|_, named| is_used(named));
            self.sweep_at = self.by_name.len() * 2;
        }
        self.by_name.entry(name.clone()).or_default()
    }
}

impl TokenStore for MemoryTokenStore {
    fn look<'a>(
        &'a self,
        name: &'a EntryName,
        newer_than: Option<Fence>,
        owner: &'a LeaseOwner,
        lease_for: Duration,
    ) -> StoreFuture<'a, Found> {
        Box::pin(async move {
            Ok(self.change(name, |slot, now| {
                slot.look(now, newer_than, owner, lease_for)
            }))
        })
    }

    fn renew<'a>(
        &'a self,
        name: &'a EntryName,
        owner: &'a LeaseOwner,
        lease_for: Duration,
    ) -> StoreFuture<'a, bool> {
        Box::pin(
            async move { Ok(self.change(name, |slot, now| slot.renew(now, owner, lease_for))) },
        )
    }

    fn release<'a>(
        &'a self,
        name: &'a EntryName,
        owner: &'a LeaseOwner,
        pause: Duration,
    ) -> StoreFuture<'a, ()> {
        Box::pin(async move {
            self.change_and_wake(name, |slot, now| slot.release(now, owner, pause));
            Ok(())
        })
    }

    fn put<'a>(
        &'a self,
        name: &'a EntryName,
        owner: &'a LeaseOwner,
        fence: Fence,
        entry: Bytes,
        ttl: Duration,
    ) -> StoreFuture<'a, Put> {
        Box::pin(async move {
            let put = |slot: &mut Slot, now| slot.put(now, owner, fence, entry, ttl);
            Ok(self.change_and_wake(name, put))
        })
    }

    fn remove<'a>(&'a self, name: &'a EntryName, fence: Fence) -> StoreFuture<'a, bool> {
        Box::pin(async move { Ok(self.change(name, |slot, now| slot.remove(now, fence))) })
    }

    fn wait<'a>(
        &'a self,
        name: &'a EntryName,
        lease: Fence,
        at_most: Duration,
    ) -> std::pin::Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        Box::pin(async move {
            let changed;
            let notified = {
                let now = self.now();
                let mut slots = self.lock();
                let named = slots.named(name, now);
                if !named.slot.is_held(now, lease) {
                    return;
                }
                changed = named.changed.clone();
                // Created under the lock, so it misses no change.
                changed.notified()
            };
            let _ = time::timeout(at_most, notified).await;
        })
    }
}

impl Default for MemoryTokenStore {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for MemoryTokenStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryTokenStore")
            .field("names", &self.lock().by_name.len())
            .finish_non_exhaustive()
    }
}
