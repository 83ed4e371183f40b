//! Waiting for the end of a lease.

use std::{future::Future, pin::Pin, time::Duration};

use tokio::time;

use super::{Case, LIMIT, LONG, SHORT, all};
use crate::{
    error::BoxError,
    token_store::{Fence, TokenStore},
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
