//! Waiting for the end of a lease, and operations that nobody waits for.

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    task::Poll,
    time::Duration,
};

use bytes::Bytes;
use tokio::time;

use super::{Case, LIMIT, LONG, SHORT, all, assert_entry};
use crate::{
    base::clock::tokio_now,
    error::BoxError,
    token_store::{Fence, Found, Put, TokenStore},
};

pub(super) async fn waiters_are_woken(
    one: &dyn TokenStore,
    other: &dyn TokenStore,
) -> Result<(), BoxError> {
    // Nothing to wait for.
    let case = Case::new(one, other);
    returns_soon(
        other.wait(&case.name, Fence::new(1), LONG),
        "no lease is held",
    )
    .await;
    let fence = case.a_leases(None, LONG).await?;
    case.a_puts(fence, "entry").await?;
    returns_soon(other.wait(&case.name, fence, LONG), "the lease has ended").await;
    other.wait(&case.name, fence, Duration::ZERO).await;
    // Another lease is held.
    let next = case.b_leases(Some(fence), LONG).await?;
    returns_soon(one.wait(&case.name, fence, LONG), "its lease has ended").await;
    // The lease has become a pause.
    other.release(&case.name, &case.b, LONG).await?;
    returns_soon(one.wait(&case.name, next, LONG), "its lease has ended").await;

    for pause in [None, Some(Duration::ZERO), Some(LONG)] {
        let case = Case::new(one, other);
        let fence = case.a_leases(None, LONG).await?;
        // A lease that goes on does not keep a waiter beyond its limit.
        returns_soon(other.wait(&case.name, fence, SHORT), "its limit has passed").await;
        let ends = async {
            time::sleep(SHORT).await;
            match pause {
                None => case.a_puts(fence, "entry").await.map(drop),
                Some(pause) => one.release(&case.name, &case.a, pause).await,
            }
        };
        let waits = (0..10).map(|index| {
            let store = if index % 2 == 0 { one } else { other };
            let wait = store.wait(&case.name, fence, LONG);
            Box::pin(async move {
                returns_soon(wait, "the lease has ended").await;
                Ok(())
            }) as Pin<Box<dyn Future<Output = Result<(), BoxError>> + Send + '_>>
        });
        let mut both: Vec<_> = waits.collect();
        both.push(Box::pin(ends));
        all(both).await.into_iter().collect::<Result<(), _>>()?;
    }
    Ok(())
}

async fn returns_soon(wait: impl Future<Output = ()>, why: &str) {
    let ended = time::timeout(LIMIT, wait).await;
    assert!(ended.is_ok(), "`wait` does not return, although {why}");
}

/// A caller looks after each wait. If waits returned at once, it would look all the time.
pub(super) async fn waiters_do_not_spin(
    one: &dyn TokenStore,
    other: &dyn TokenStore,
) -> Result<(), BoxError> {
    let case = Case::new(one, other);
    let fence = case.a_leases(None, LONG).await?;
    let begun = tokio_now();
    for _ in 0..10 {
        other.wait(&case.name, fence, SHORT).await;
    }
    let waited = tokio_now() - begun;
    assert!(waited >= SHORT, "ten waits took {waited:?}");
    Ok(())
}

/// The caller of an operation is dropped. It may have been carried out or not. After that, the same owner repeats it.
pub(super) async fn dropped_operations_do_no_harm(
    one: &dyn TokenStore,
    other: &dyn TokenStore,
) -> Result<(), BoxError> {
    for polls in 0..6 {
        let case = Case::new(one, other);
        drop_after(polls, one.look(&case.name, None, &case.a, LONG)).await;
        let fence = case.a_leases(None, LONG).await?;
        drop_after(polls, other.wait(&case.name, fence, LONG)).await;
        drop_after(polls, one.renew(&case.name, &case.a, LONG)).await;
        assert!(one.renew(&case.name, &case.a, LONG).await?);
        let entry = Bytes::from_static(b"entry");
        drop_after(
            polls,
            one.put(&case.name, &case.a, fence, entry.clone(), LONG),
        )
        .await;
        let put = one.put(&case.name, &case.a, fence, entry, LONG).await?;
        assert_eq!(put, Put::Stored);
        assert_entry(&case.b_looks(None, LONG).await?, b"entry", fence);

        let next = case.a_leases(Some(fence), LONG).await?;
        let release = one.release(&case.name, &case.a, Duration::ZERO);
        drop_after(polls, release).await;
        one.release(&case.name, &case.a, Duration::ZERO).await?;
        assert!(case.b_leases(Some(fence), LONG).await? > next);
        drop_after(polls, one.remove(&case.name, fence)).await;
        one.remove(&case.name, fence).await?;
        let found = case.a_looks(None, LONG).await?;
        assert!(matches!(found, Found::Held { .. }), "{found:?}");
    }
    Ok(())
}

/// Polls a future some times, and lets others run in between.
async fn drop_after<T>(polls: usize, future: impl Future<Output = T>) {
    let mut future = pin!(future);
    for _ in 0..polls {
        let is_ready = poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx).is_ready()));
        if is_ready.await {
            return;
        }
        tokio::task::yield_now().await;
    }
}
