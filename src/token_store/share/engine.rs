//! `Engine`: a token store with a limit for each operation, which is left alone while it is slow.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use tokio::time;

use super::{
    circuit::{Change, Circuit, Outcome},
    events,
};
use crate::{
    base::clock::tokio_now,
    error::{BoxError, OwnError},
    token_store::{EntryName, Fence, Found, LeaseOwner, Put, StoreFuture, TokenStore},
};

/// Only looks are left out while the engine is slow. What follows a look is worth a try, because a token would be lost.
#[derive(Clone)]
pub(super) struct Engine {
    store: Arc<dyn TokenStore>,
    /// The lock is never held across an await.
    circuit: Arc<Mutex<Circuit>>,
    pub(super) limit: Duration,
}

impl Engine {
    pub(super) fn new(store: Arc<dyn TokenStore>) -> Self {
        Self {
            store,
            circuit: Arc::default(),
            limit: Duration::from_millis(500),
        }
    }

    /// Returns an error if the engine was slow and is left alone.
    pub(super) fn admit(&self) -> Result<(), BoxError> {
        match self.lock().enter(tokio_now(), self.limit) {
            true => Ok(()),
            false => {
                let why = "the token store was slow, and is not asked for a while";
                Err(OwnError::new(why).into())
            }
        }
    }

    pub(super) async fn look(
        &self,
        (name, newer_than, owner, lease): (&EntryName, Option<Fence>, &LeaseOwner, Duration),
        at_most: Duration,
    ) -> Result<Found, BoxError> {
        let look = || self.store.look(name, newer_than, owner, lease);
        let outcome = |found: &Found| match found {
            Found::Leased { .. } => Outcome::Wrote,
            Found::Entry { .. } | Found::Held { .. } | Found::Paused { .. } => Outcome::Read,
        };
        self.run(look, at_most, outcome).await
    }

    pub(super) async fn renew(
        &self,
        name: &EntryName,
        owner: &LeaseOwner,
        lease: Duration,
    ) -> Result<bool, BoxError> {
        let renew = || self.store.renew(name, owner, lease);
        let outcome = |is_held: &bool| match is_held {
            true => Outcome::Wrote,
            false => Outcome::Read,
        };
        self.run(renew, Duration::MAX, outcome).await
    }

    pub(super) async fn release(
        &self,
        name: &EntryName,
        owner: &LeaseOwner,
        pause: Duration,
    ) -> Result<(), BoxError> {
        let release = || self.store.release(name, owner, pause);
        // If the lease is not held, nothing is written.
        self.run(release, Duration::MAX, |()| Outcome::Read).await
    }

    pub(super) async fn put(
        &self,
        (name, owner, fence): (&EntryName, &LeaseOwner, Fence),
        entry: Bytes,
        ttl: Duration,
    ) -> Result<Put, BoxError> {
        let put = || self.store.put(name, owner, fence, entry.clone(), ttl);
        let outcome = |put: &Put| match put {
            Put::Stored => Outcome::Wrote,
            Put::Superseded => Outcome::Read,
        };
        self.run(put, Duration::MAX, outcome).await
    }

    pub(super) async fn remove(&self, name: &EntryName, fence: Fence) -> Result<bool, BoxError> {
        let remove = || self.store.remove(name, fence);
        self.run(remove, Duration::MAX, |_| Outcome::Read).await
    }

    pub(super) async fn wait(&self, name: &EntryName, lease: Fence, at_most: Duration) {
        let wait = self.store.wait(name, lease, at_most);
        // The store should end the wait itself.
        let _ = time::timeout(at_most.saturating_add(self.limit), wait).await;
    }

    async fn run<'a, T>(
        &self,
        operation: impl Fn() -> StoreFuture<'a, T>,
        at_most: Duration,
        outcome: impl FnOnce(&T) -> Outcome,
    ) -> Result<T, BoxError> {
        let limit = self.limit.min(at_most);
        let first = tokio_now();
        let (result, took, now) = loop {
            let begun = tokio_now();
            let result = match time::timeout(limit, operation()).await {
                Ok(result) => result,
                Err(_) => {
                    let why = format!("the token store did not answer within {limit:?}");
                    Err(OwnError::new(why).into())
                }
            };
            let now = tokio_now();
            let took = now - begun;
            let has_time = (now - first).saturating_add(limit) <= at_most;
            let is_worth_repeating = || has_time && self.lock().is_in_grace(now, took);
            if result.is_ok() || !is_worth_repeating() {
                break (result, took, now);
            }
        };
        let outcome = match &result {
            Ok(value) => outcome(value),
            Err(_) => Outcome::Failed { took },
        };
        let change = self.lock().note(now, outcome);
        match (change, &result) {
            (Change::Failed, Err(error)) => events::failed(error),
            (Change::Recovered, _) => events::recovered(),
            _ => {}
        }
        result
    }

    fn lock(&self) -> MutexGuard<'_, Circuit> {
        self.circuit.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").finish_non_exhaustive()
    }
}
