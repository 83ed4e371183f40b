//! A lease: it is taken, renewed, and released.

use std::{
    future::{Future, pending, poll_fn},
    pin::pin,
    time::Duration,
};

use bytes::Bytes;
use tokio::{runtime::Handle, time};

use super::engine::Engine;
use crate::{
    error::BoxError,
    token_store::{EntryName, Fence, Found, LeaseOwner, Put},
};

/// A lease that is held, or perhaps held. It is released when it is dropped, unless a refresh token may be on its way.
pub(super) struct Lease {
    engine: Engine,
    name: EntryName,
    owner: LeaseOwner,
    length: Duration,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    NotHeld,
    /// Also if no answer has arrived.
    MaybeHeld,
    /// A refresh token is on its way, which nobody else may send. The lease ends with an entry, or by itself.
    Spending,
}

impl Lease {
    pub(super) fn new(engine: &Engine, name: &EntryName, length: Duration) -> Self {
        Self {
            engine: engine.clone(),
            name: name.clone(),
            owner: LeaseOwner::random(),
            length,
            state: State::NotHeld,
        }
    }

    /// Returns an entry that is new enough, or otherwise takes the lease. It takes no longer than `at_most`.
    pub(super) async fn look(
        &mut self,
        newer_than: Option<Fence>,
        at_most: Duration,
    ) -> Result<Found, BoxError> {
        let before = std::mem::replace(&mut self.state, State::MaybeHeld);
        let look = (&self.name, newer_than, &self.owner, self.length);
        let found = self.engine.look(look, at_most).await?;
        self.state = match found {
            Found::Leased { .. } => State::MaybeHeld,
            Found::Entry { .. } => before,
            Found::Held { .. } | Found::Paused { .. } => State::NotHeld,
        };
        Ok(found)
    }

    /// Renews the lease until this is dropped, or the lease is lost.
    pub(super) async fn keep_renewed(&self) {
        loop {
            time::sleep(self.length / 3).await;
            if let Ok(false) = self.renew().await {
                // The request cannot be taken back. Its fence keeps the token from replacing a newer one.
                pending::<()>().await;
            }
        }
    }

    pub(super) async fn renew(&self) -> Result<bool, BoxError> {
        let renew = self.engine.renew(&self.name, &self.owner, self.length);
        renew.await
    }

    pub(super) fn begin_spending(&mut self) {
        self.state = State::Spending;
    }

    pub(super) async fn release(mut self, pause: Duration) {
        self.state = State::MaybeHeld;
        let release = self.engine.release(&self.name, &self.owner, pause);
        if release.await.is_ok() {
            self.state = State::NotHeld;
        }
    }

    /// Stores an entry, which also ends the lease.
    pub(super) async fn put(
        &mut self,
        fence: Fence,
        entry: Bytes,
        ttl: Duration,
    ) -> Result<Put, BoxError> {
        let lease = (&self.name, &self.owner, fence);
        let put = self.engine.put(lease, entry, ttl).await?;
        self.state = State::NotHeld;
        Ok(put)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if self.state != State::MaybeHeld {
            return;
        }
        if let Ok(runtime) = Handle::try_current() {
            let (engine, name, owner) =
                (self.engine.clone(), self.name.clone(), self.owner.clone());
            runtime.spawn(async move {
                for pause in RELEASE_PAUSES {
                    time::sleep(pause).await;
                    if engine.release(&name, &owner, Duration::ZERO).await.is_ok() {
                        return;
                    }
                }
            });
        }
    }
}

const RELEASE_PAUSES: [Duration; 3] = [
    Duration::ZERO,
    Duration::from_millis(500),
    Duration::from_secs(2),
];

/// Polls `other` until `future` is ready. `other` is polled first, so that it begins even if `future` is ready at once.
pub(super) async fn beside<T>(
    future: impl Future<Output = T>,
    other: impl Future<Output = ()>,
) -> T {
    let (mut future, mut other) = (pin!(future), pin!(other));
    let mut is_over = false;
    poll_fn(|cx| {
        is_over = is_over || other.as_mut().poll(cx).is_ready();
        future.as_mut().poll(cx)
    })
    .await
}
