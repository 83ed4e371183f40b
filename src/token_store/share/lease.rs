//! A lease: it is taken, renewed, ended with an entry, or released.

use std::{
    future::{Future, pending, poll_fn},
    pin::pin,
    time::Duration,
};

use bytes::Bytes;
use tokio::{runtime::Handle, sync::oneshot, time};

use super::{engine::Engine, events};
use crate::{
    base::clock::tokio_now,
    error::BoxError,
    token_store::{EntryName, Fence, Found, LeaseOwner, Put},
};

/// A lease that is held, or perhaps held.
pub(super) struct Lease<'a> {
    engine: &'a Engine,
    name: &'a EntryName,
    owner: LeaseOwner,
    length: Duration,
    /// Whether the lease may be held, and nothing speaks against releasing it.
    is_released_on_drop: bool,
}

impl<'a> Lease<'a> {
    pub(super) fn new(engine: &'a Engine, name: &'a EntryName, length: Duration) -> Self {
        Self {
            engine,
            name,
            owner: LeaseOwner::random(),
            length,
            is_released_on_drop: false,
        }
    }

    /// Returns an entry that is new enough, or otherwise takes the lease.
    pub(super) async fn look(&mut self, newer_than: Option<Fence>) -> Result<Found, BoxError> {
        self.engine.admit()?;
        // The lease may be taken although no answer arrives, or nobody waits for it any longer.
        let was_held = std::mem::replace(&mut self.is_released_on_drop, true);
        let look = self
            .engine
            .look(self.name, newer_than, &self.owner, self.length);
        let found = look.await?;
        self.is_released_on_drop = match found {
            Found::Leased { .. } => true,
            Found::Entry { .. } => was_held,
            Found::Held { .. } | Found::Paused { .. } => false,
        };
        Ok(found)
    }

    /// Renews the lease until this is dropped, or the lease is lost.
    pub(super) async fn keep(&self) {
        loop {
            time::sleep(self.length / 3).await;
            let renew = self.engine.renew(self.name, &self.owner, self.length);
            if let Ok(false) = renew.await {
                // What is sent is sent. The fence keeps it from replacing anything newer.
                pending::<()>().await;
            }
        }
    }

    /// Lets the lease end by itself, unless it is ended with an entry: a refresh token is on its way, which nobody else may send.
    pub(super) fn outlives_this(&mut self) {
        self.is_released_on_drop = false;
    }

    pub(super) async fn release(mut self, pause: Duration) {
        let release = self.engine.release(self.name, &self.owner, pause);
        // If this fails, it is done again.
        self.is_released_on_drop = release.await.is_err();
    }

    /// Stores an entry, which also ends the lease.
    pub(super) async fn put(mut self, fence: Fence, entry: Bytes, ttl: Duration) -> Option<Put> {
        let put = self
            .engine
            .put((self.name, &self.owner, fence), entry, ttl)
            .await;
        self.is_released_on_drop = put.is_err();
        put.ok()
    }

    /// Stores a new refresh token, which nobody else knows. Returns `None` if that has to be done in the background.
    ///
    /// It goes on if this is dropped.
    pub(super) async fn put_surely(
        mut self,
        fence: Fence,
        entry: Bytes,
        ttl: Duration,
    ) -> Option<Put> {
        self.outlives_this();
        let runtime = Handle::try_current().ok()?;
        let (told, result) = oneshot::channel();
        let put = PutSurely {
            engine: self.engine.clone(),
            name: self.name.clone(),
            owner: self.owner.clone(),
            length: self.length,
            fence,
            entry,
            ttl,
        };
        runtime.spawn(put.run(told));
        result.await.ok()
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        if !self.is_released_on_drop {
            return;
        }
        if let Ok(runtime) = Handle::try_current() {
            let (engine, name) = (self.engine.clone(), self.name.clone());
            let owner = self.owner.clone();
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

/// Stores a new refresh token, for as long as it takes.
struct PutSurely {
    engine: Engine,
    name: EntryName,
    owner: LeaseOwner,
    length: Duration,
    fence: Fence,
    entry: Bytes,
    ttl: Duration,
}

impl PutSurely {
    /// The next holder of the lease waits for longer than this and two operations: see `LOST_HOLDER`.
    const PAUSE: Duration = Duration::from_millis(250);
    const GIVE_UP_AFTER: Duration = Duration::from_secs(10 * 60);

    /// Tells the result, or drops `told` when it takes long.
    async fn run(self, told: oneshot::Sender<Put>) {
        let begun = tokio_now();
        let mut told = Some(told);
        for attempt in 0.. {
            let lease = (&self.name, &self.owner, self.fence);
            let put = self.engine.put(lease, self.entry.clone(), self.ttl);
            if let Ok(put) = put.await {
                if let Some(told) = told {
                    // Nobody may wait any longer.
                    let _ = told.send(put);
                }
                return;
            }
            if attempt == 1 {
                events::refresh_token_is_not_stored();
                told = None;
            }
            if tokio_now() - begun > Self::GIVE_UP_AFTER {
                return;
            }
            time::sleep(Self::PAUSE).await;
            // Nobody else may send the old refresh token meanwhile.
            let renew = self.engine.renew(&self.name, &self.owner, self.length);
            let _ = renew.await;
        }
    }
}

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
