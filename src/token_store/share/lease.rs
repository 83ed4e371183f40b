//! A lease that is held: it is renewed, ended with an entry, or released.

use std::{
    future::{Future, pending, poll_fn},
    pin::pin,
    time::Duration,
};

use bytes::Bytes;
use tokio::{runtime::Handle, time};

use super::{
    engine::{Engine, Patience},
    events,
};
use crate::{
    error::BoxError,
    token_store::{EntryName, Fence, LeaseOwner, Put},
};

/// A lease that is held.
pub(super) struct Lease<'a> {
    pub(super) engine: &'a Engine,
    pub(super) name: &'a EntryName,
    pub(super) owner: &'a LeaseOwner,
    pub(super) is_released_on_drop: bool,
}

impl Lease<'_> {
    /// Renews the lease until this is dropped, or the lease is lost.
    pub(super) async fn keep(&self, lease: Duration) {
        loop {
            time::sleep(lease / 3).await;
            if let Ok(false) = self.engine.renew(self.name, self.owner, lease).await {
                // What is sent is sent. The fence keeps it from replacing anything newer.
                pending::<()>().await;
            }
        }
    }

    pub(super) async fn put(
        &self,
        patience: Patience,
        fence: Fence,
        entry: Bytes,
        ttl: Duration,
    ) -> Result<Put, BoxError> {
        let lease = (self.name, self.owner, fence);
        self.engine.put(patience, lease, entry, ttl).await
    }

    /// Stores a new refresh token: at once, or otherwise in the background. Nobody else knows it.
    pub(super) async fn put_surely(
        &self,
        fence: Fence,
        entry: Bytes,
        ttl: Duration,
    ) -> Option<Put> {
        for pause in [Duration::ZERO, Duration::from_millis(100)] {
            time::sleep(pause).await;
            let put = self.put(Patience::Needed, fence, entry.clone(), ttl);
            if let Ok(put) = put.await {
                return Some(put);
            }
        }
        events::refresh_token_is_not_stored();
        if let Ok(runtime) = Handle::try_current() {
            let (engine, name, owner) =
                (self.engine.clone(), self.name.clone(), self.owner.clone());
            runtime.spawn(async move {
                for attempt in 0..ATTEMPTS_IN_BACKGROUND {
                    time::sleep(Duration::from_millis(250) * attempt.min(20)).await;
                    let put =
                        engine.put(Patience::Needed, (&name, &owner, fence), entry.clone(), ttl);
                    if put.await.is_ok() {
                        return;
                    }
                }
            });
        }
        None
    }

    /// The lease has ended in the store as well.
    pub(super) fn end(mut self) {
        self.is_released_on_drop = false;
    }
}

/// About ten minutes.
const ATTEMPTS_IN_BACKGROUND: u32 = 130;

impl Drop for Lease<'_> {
    /// Runs when the fetch is cancelled.
    fn drop(&mut self) {
        if !self.is_released_on_drop {
            return;
        }
        if let Ok(runtime) = Handle::try_current() {
            let (engine, name, owner) =
                (self.engine.clone(), self.name.clone(), self.owner.clone());
            runtime.spawn(async move {
                let _ = engine.release(&name, &owner, Duration::ZERO).await;
            });
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
