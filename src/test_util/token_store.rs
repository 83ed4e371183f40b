//! A suite of tests that every engine of a token store has to pass.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    task::Poll,
    time::Duration,
};

use bytes::Bytes;
use tokio::time;

use crate::{
    base::clock::tokio_now,
    error::BoxError,
    token_store::{EntryName, Fence, Found, LeaseOwner, Put, TokenStore},
};

/// Longer than the suite runs.
const LONG: Duration = Duration::from_secs(600);
/// So short that the suite can wait until it has passed.
const SHORT: Duration = Duration::from_millis(150);
/// How long the suite waits for what must happen.
const LIMIT: Duration = Duration::from_secs(20);

/// Checks that an engine follows the rules of [`TokenStore`].
///
/// `one` and `other` are two handles to the same data, such as two connections. They can be the same handle. The names are random, so the
/// engine may have other entries, and the suite may run several times at once. It takes a few seconds of real time.
///
/// # Errors
///
/// Returns the first error of the engine.
///
/// # Panics
///
/// Panics if the engine breaks a rule, and says which.
///
/// # Examples
///
/// ```
/// use tower_oauth2_client::{test_util, token_store::MemoryTokenStore};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), tower_oauth2_client::BoxError> {
/// let store = MemoryTokenStore::new();
/// test_util::token_store::suite(&store, &store.clone()).await?;
/// # Ok(())
/// # }
/// ```
pub async fn suite(one: &dyn TokenStore, other: &dyn TokenStore) -> Result<(), BoxError> {
    lease_has_one_owner(one, other).await?;
    lease_is_taken_by_one_of_many(one, other).await?;
    names_are_independent(one).await?;
    lease_ends_by_itself(one, other).await?;
    only_the_owner_renews(one, other).await?;
    only_the_owner_releases(one, other).await?;
    entry_is_found_by_others(one, other).await?;
    entry_holds_any_bytes(one, other).await?;
    entry_ends(one).await?;
    known_entry_is_not_found_again(one, other).await?;
    fences_grow(one, other).await?;
    late_put_does_not_replace_a_newer_entry(one, other).await?;
    late_put_leaves_the_lease_of_another(one, other).await?;
    repeated_operations_do_no_harm(one).await?;
    only_the_named_entry_is_removed(one, other).await?;
    pause_keeps_everybody_from_the_lease(one, other).await?;
    waiters_are_woken(one, other).await?;
    long_times_are_accepted(one).await
}

struct Case<'a> {
    one: &'a dyn TokenStore,
    other: &'a dyn TokenStore,
    name: EntryName,
    a: LeaseOwner,
    b: LeaseOwner,
}

impl<'a> Case<'a> {
    fn new(one: &'a dyn TokenStore, other: &'a dyn TokenStore) -> Self {
        Self {
            one,
            other,
            name: EntryName::new(LeaseOwner::random().as_str()),
            a: LeaseOwner::random(),
            b: LeaseOwner::random(),
        }
    }

    async fn a_looks(&self, known: Option<Fence>, lease: Duration) -> Result<Found, BoxError> {
        self.one.look(&self.name, known, &self.a, lease).await
    }

    async fn b_looks(&self, known: Option<Fence>, lease: Duration) -> Result<Found, BoxError> {
        self.other.look(&self.name, known, &self.b, lease).await
    }

    async fn a_leases(&self, known: Option<Fence>, lease: Duration) -> Result<Fence, BoxError> {
        Ok(leased(&self.a_looks(known, lease).await?, false))
    }

    async fn b_leases(&self, known: Option<Fence>, lease: Duration) -> Result<Fence, BoxError> {
        Ok(leased(&self.b_looks(known, lease).await?, false))
    }

    /// Waits until the lease of `a` has ended, and takes it.
    async fn b_takes_over(&self, known: Option<Fence>) -> Result<Found, BoxError> {
        until(|| async {
            let found = self.b_looks(known, LONG).await?;
            Ok(Some(found).filter(|found| !matches!(found, Found::Held { .. })))
        })
        .await
    }

    async fn a_puts(&self, fence: Fence, entry: &'static str) -> Result<Put, BoxError> {
        let entry = Bytes::from_static(entry.as_bytes());
        let put = self.one.put(&self.name, &self.a, fence, entry, LONG);
        put.await
    }

    async fn b_puts(&self, fence: Fence, entry: &'static str) -> Result<Put, BoxError> {
        let entry = Bytes::from_static(entry.as_bytes());
        let put = self.other.put(&self.name, &self.b, fence, entry, LONG);
        put.await
    }
}

/// Repeats `attempt` until it returns something.
async fn until<T, F>(mut attempt: impl FnMut() -> F) -> Result<T, BoxError>
where
    F: Future<Output = Result<Option<T>, BoxError>>,
{
    let end = tokio_now() + LIMIT;
    loop {
        if let Some(done) = attempt().await? {
            return Ok(done);
        }
        assert!(
            tokio_now() < end,
            "a lease, an entry or a pause does not end"
        );
        time::sleep(SHORT / 10).await;
    }
}

/// Runs futures at the same time.
async fn all<T>(mut futures: Vec<Pin<Box<dyn Future<Output = T> + Send + '_>>>) -> Vec<T> {
    let mut done: Vec<Option<T>> = futures.iter().map(|_| None).collect();
    poll_fn(|cx| {
        for (future, done) in futures.iter_mut().zip(&mut done) {
            if done.is_none() {
                if let Poll::Ready(output) = future.as_mut().poll(cx) {
                    *done = Some(output);
                }
            }
        }
        match done.iter().all(Option::is_some) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    })
    .await;
    done.into_iter().flatten().collect()
}

#[track_caller]
fn leased(found: &Found, lost: bool) -> Fence {
    let lease = match found {
        Found::Leased {
            fence,
            after_lost_holder,
        } => Some((*fence, *after_lost_holder)),
        _ => None,
    };
    let expected = lease.filter(|(_, after_lost_holder)| *after_lost_holder == lost);
    assert!(
        expected.is_some(),
        "expected the lease, after_lost_holder: {lost}, and not {found:?}"
    );
    expected.map_or(Fence::new(0), |(fence, _)| fence)
}

#[track_caller]
fn assert_held(found: &Found, by: Fence, at_most: Duration) {
    let is_held = matches!(found, Found::Held { fence, rest } if *fence == by && *rest <= at_most && !rest.is_zero());
    assert!(
        is_held,
        "expected the lease {by:?} to be held, not {found:?}"
    );
}

#[track_caller]
fn assert_entry(found: &Found, expected: &[u8], expected_fence: Fence) {
    let is_entry = matches!(found, Found::Entry { entry, fence, age } if *entry == expected && *fence == expected_fence && *age < LIMIT);
    assert!(
        is_entry,
        "expected an entry with {expected_fence:?}, not {found:?}"
    );
}

async fn lease_has_one_owner(one: &dyn TokenStore, other: &dyn TokenStore) -> Result<(), BoxError> {
    let case = Case::new(one, other);
    let fence = case.a_leases(None, LONG).await?;
    assert_held(&case.b_looks(None, LONG).await?, fence, LONG);
    assert_held(&case.b_looks(Some(fence), LONG).await?, fence, LONG);
    assert_eq!(
        case.a_leases(None, LONG).await?,
        fence,
        "the owner keeps its fence"
    );
    Ok(())
}

async fn lease_is_taken_by_one_of_many(
    one: &dyn TokenStore,
    other: &dyn TokenStore,
) -> Result<(), BoxError> {
    let case = Case::new(one, other);
    let owners: Vec<_> = (0..50).map(|_| LeaseOwner::random()).collect();
    let looks = owners.iter().enumerate().map(|(index, owner)| {
        let store = if index % 2 == 0 { one } else { other };
        store.look(&case.name, None, owner, LONG)
    });
    let mut leases = 0;
    for found in all(looks.collect()).await {
        match found? {
            Found::Leased { .. } => leases += 1,
            found => assert!(matches!(found, Found::Held { .. }), "{found:?}"),
        }
    }
    assert_eq!(leases, 1, "one of many owners gets the lease");
    Ok(())
}

async fn names_are_independent(one: &dyn TokenStore) -> Result<(), BoxError> {
    let (case, another) = (Case::new(one, one), Case::new(one, one));
    let fence = case.a_leases(None, LONG).await?;
    another.a_leases(None, LONG).await?;
    case.a_puts(fence, "entry").await?;
    let found = another.b_looks(None, LONG).await?;
    assert!(matches!(found, Found::Held { .. }), "{found:?}");
    Ok(())
}

async fn lease_ends_by_itself(
    one: &dyn TokenStore,
    other: &dyn TokenStore,
) -> Result<(), BoxError> {
    let case = Case::new(one, other);
    let fence = case.a_leases(None, SHORT).await?;
    let next = leased(&case.b_takes_over(None).await?, true);
    assert!(next > fence, "fences grow");
    assert_held(&case.a_looks(None, LONG).await?, next, LONG);
    // That a holder was lost is said once.
    case.other
        .release(&case.name, &case.b, Duration::ZERO)
        .await?;
    case.a_leases(None, LONG).await?;
    Ok(())
}

async fn only_the_owner_renews(
    one: &dyn TokenStore,
    other: &dyn TokenStore,
) -> Result<(), BoxError> {
    let case = Case::new(one, other);
    assert!(
        !one.renew(&case.name, &case.a, LONG).await?,
        "there is no lease yet"
    );
    let fence = case.a_leases(None, LONG).await?;
    assert!(
        !other.renew(&case.name, &case.b, SHORT).await?,
        "another holds the lease"
    );
    assert!(
        one.renew(&case.name, &case.a, LONG * 2).await?,
        "the owner holds the lease"
    );
    let found = case.b_looks(None, LONG).await?;
    let is_extended = matches!(found, Found::Held { rest, .. } if rest > LONG);
    assert!(
        is_extended,
        "the lease lasts from the renewal on, not {found:?}"
    );

    assert!(one.renew(&case.name, &case.a, SHORT).await?);
    let next = leased(&case.b_takes_over(None).await?, true);
    assert!(
        !one.renew(&case.name, &case.a, LONG).await?,
        "the lease has been lost"
    );
    assert!(other.renew(&case.name, &case.b, LONG).await? && next > fence);
    Ok(())
}

async fn only_the_owner_releases(
    one: &dyn TokenStore,
    other: &dyn TokenStore,
) -> Result<(), BoxError> {
    let case = Case::new(one, other);
    let fence = case.a_leases(None, LONG).await?;
    other.release(&case.name, &case.b, Duration::ZERO).await?;
    other.release(&case.name, &case.b, LONG).await?;
    assert_held(&case.b_looks(None, LONG).await?, fence, LONG);
    one.release(&case.name, &case.a, Duration::ZERO).await?;
    assert!(
        !one.renew(&case.name, &case.a, LONG).await?,
        "the lease was released"
    );
    let next = case.b_leases(None, LONG).await?;
    one.release(&case.name, &case.a, Duration::ZERO).await?;
    assert_held(&case.a_looks(None, LONG).await?, next, LONG);
    assert!(next > fence, "fences grow");
    Ok(())
}

async fn entry_is_found_by_others(
    one: &dyn TokenStore,
    other: &dyn TokenStore,
) -> Result<(), BoxError> {
    let case = Case::new(one, other);
    let fence = case.a_leases(None, LONG).await?;
    assert_eq!(case.a_puts(fence, "entry").await?, Put::Stored);
    assert_entry(&case.b_looks(None, LONG).await?, b"entry", fence);
    assert_entry(&case.a_looks(None, LONG).await?, b"entry", fence);
    assert!(
        !one.renew(&case.name, &case.a, LONG).await?,
        "storing an entry ends the lease"
    );

    time::sleep(SHORT).await;
    let found = case.b_looks(None, LONG).await?;
    let is_older = matches!(found, Found::Entry { age, .. } if age >= SHORT / 2);
    assert!(is_older, "the age of an entry grows: {found:?}");
    Ok(())
}

async fn entry_holds_any_bytes(
    one: &dyn TokenStore,
    other: &dyn TokenStore,
) -> Result<(), BoxError> {
    let bytes: Vec<u8> = (0..100_000_u32).map(|index| index as u8).collect();
    for length in [0, 1, 256, bytes.len()] {
        let case = Case::new(one, other);
        let fence = case.a_leases(None, LONG).await?;
        let entry = Bytes::copy_from_slice(&bytes[..length]);
        one.put(&case.name, &case.a, fence, entry, LONG).await?;
        let found = case.b_looks(None, LONG).await?;
        let is_same = matches!(&found, Found::Entry { entry, .. } if entry[..] == bytes[..length]);
        assert!(is_same, "an entry of {length} bytes is returned unchanged");
    }
    Ok(())
}

async fn entry_ends(one: &dyn TokenStore) -> Result<(), BoxError> {
    let case = Case::new(one, one);
    let fence = case.a_leases(None, LONG).await?;
    one.put(&case.name, &case.a, fence, "entry".into(), SHORT)
        .await?;
    let next = until(|| async {
        let found = case.b_looks(None, LONG).await?;
        Ok(Some(found).filter(|found| !matches!(found, Found::Entry { .. })))
    });
    assert!(leased(&next.await?, false) > fence, "fences grow");
    Ok(())
}

async fn known_entry_is_not_found_again(
    one: &dyn TokenStore,
    other: &dyn TokenStore,
) -> Result<(), BoxError> {
    let case = Case::new(one, other);
    let fence = case.a_leases(None, LONG).await?;
    case.a_puts(fence, "entry").await?;
    let before = Fence::new(fence.get() - 1);
    assert_entry(&case.b_looks(Some(before), LONG).await?, b"entry", fence);
    let next = case.b_leases(Some(fence), LONG).await?;
    assert!(next > fence, "fences grow");
    // Others still get the entry while it is renewed.
    assert_entry(&case.a_looks(None, LONG).await?, b"entry", fence);
    assert_held(&case.a_looks(Some(fence), LONG).await?, next, LONG);
    case.b_puts(next, "next").await?;
    assert_entry(&case.a_looks(Some(fence), LONG).await?, b"next", next);
    assert_entry(&case.a_looks(None, LONG).await?, b"next", next);
    Ok(())
}

async fn fences_grow(one: &dyn TokenStore, other: &dyn TokenStore) -> Result<(), BoxError> {
    let case = Case::new(one, other);
    let mut last = Fence::new(0);
    for _ in 0..50 {
        let fence = case.a_leases(None, LONG).await?;
        assert!(fence > last, "{fence:?} follows {last:?}");
        one.release(&case.name, &case.a, Duration::ZERO).await?;
        last = fence;
    }
    // A caller knows a fence that the engine has lost.
    let known = Fence::new(1 << 52);
    let fence = case.b_leases(Some(known), LONG).await?;
    assert!(fence > known, "{fence:?} follows {known:?}");
    case.b_puts(fence, "entry").await?;
    let next = case.a_leases(Some(fence), LONG).await?;
    assert!(next > fence, "{next:?} follows {fence:?}");
    Ok(())
}

async fn late_put_does_not_replace_a_newer_entry(
    one: &dyn TokenStore,
    other: &dyn TokenStore,
) -> Result<(), BoxError> {
    let case = Case::new(one, other);
    let fence = case.a_leases(None, SHORT).await?;
    let next = leased(&case.b_takes_over(None).await?, true);
    assert_eq!(case.b_puts(next, "next").await?, Put::Stored);
    assert_eq!(case.a_puts(fence, "late").await?, Put::Superseded);
    assert_entry(&case.a_looks(None, LONG).await?, b"next", next);
    // The entry that is not stored still ends the lease of its owner.
    case.a_leases(Some(next), LONG).await?;
    assert_eq!(case.a_puts(fence, "late").await?, Put::Superseded);
    case.b_leases(Some(next), LONG).await?;
    Ok(())
}

async fn late_put_leaves_the_lease_of_another(
    one: &dyn TokenStore,
    other: &dyn TokenStore,
) -> Result<(), BoxError> {
    let case = Case::new(one, other);
    let fence = case.a_leases(None, SHORT).await?;
    let next = leased(&case.b_takes_over(None).await?, true);
    assert_eq!(case.a_puts(fence, "late").await?, Put::Stored);
    assert_entry(&case.b_looks(None, LONG).await?, b"late", fence);
    assert_held(&case.a_looks(Some(fence), LONG).await?, next, LONG);
    assert!(
        other.renew(&case.name, &case.b, LONG).await?,
        "the lease is held"
    );
    assert_eq!(case.b_puts(next, "next").await?, Put::Stored);
    assert_entry(&case.a_looks(None, LONG).await?, b"next", next);
    Ok(())
}

async fn repeated_operations_do_no_harm(one: &dyn TokenStore) -> Result<(), BoxError> {
    let case = Case::new(one, one);
    let fence = case.a_leases(None, LONG).await?;
    assert_eq!(case.a_leases(None, LONG).await?, fence);
    for _ in 0..2 {
        assert_eq!(case.a_puts(fence, "entry").await?, Put::Stored);
    }
    for _ in 0..2 {
        one.release(&case.name, &case.a, LONG).await?;
    }
    assert_entry(&case.b_looks(None, LONG).await?, b"entry", fence);
    case.b_leases(Some(fence), LONG).await?;
    Ok(())
}

async fn only_the_named_entry_is_removed(
    one: &dyn TokenStore,
    other: &dyn TokenStore,
) -> Result<(), BoxError> {
    let case = Case::new(one, other);
    assert!(
        !one.remove(&case.name, Fence::new(1)).await?,
        "there is no entry"
    );
    let fence = case.a_leases(None, LONG).await?;
    case.a_puts(fence, "entry").await?;
    for wrong in [fence.get() - 1, fence.get() + 1] {
        let removed = other.remove(&case.name, Fence::new(wrong)).await?;
        assert!(!removed, "the entry has another fence");
    }
    assert_entry(&case.b_looks(None, LONG).await?, b"entry", fence);
    assert!(
        other.remove(&case.name, fence).await?,
        "the entry was there"
    );
    assert!(!one.remove(&case.name, fence).await?, "the entry is gone");
    assert_eq!(
        case.a_puts(fence, "entry").await?,
        Put::Superseded,
        "a removed entry stays removed"
    );
    let next = case.b_leases(None, LONG).await?;
    assert!(next > fence, "fences grow");
    assert_eq!(case.b_puts(next, "next").await?, Put::Stored);
    assert_entry(&case.a_looks(None, LONG).await?, b"next", next);
    Ok(())
}

async fn pause_keeps_everybody_from_the_lease(
    one: &dyn TokenStore,
    other: &dyn TokenStore,
) -> Result<(), BoxError> {
    let case = Case::new(one, other);
    let fence = case.a_leases(None, LONG).await?;
    case.a_puts(fence, "entry").await?;
    case.a_leases(Some(fence), LONG).await?;
    one.release(&case.name, &case.a, LONG).await?;
    assert_entry(&case.b_looks(None, LONG).await?, b"entry", fence);
    for found in [
        case.b_looks(Some(fence), LONG).await?,
        case.a_looks(Some(fence), LONG).await?,
    ] {
        let is_paused = matches!(found, Found::Paused { rest } if rest <= LONG && !rest.is_zero());
        assert!(is_paused, "expected a pause, not {found:?}");
    }
    assert!(
        !one.renew(&case.name, &case.a, LONG).await?,
        "the lease was released"
    );

    let case = Case::new(one, other);
    case.a_leases(None, LONG).await?;
    one.release(&case.name, &case.a, SHORT).await?;
    let probe = until(|| async {
        let found = case.b_looks(None, LONG).await?;
        Ok(Some(found).filter(|found| !matches!(found, Found::Paused { .. })))
    });
    let fence = leased(&probe.await?, false);
    assert_held(&case.a_looks(None, LONG).await?, fence, LONG);
    Ok(())
}

async fn waiters_are_woken(one: &dyn TokenStore, other: &dyn TokenStore) -> Result<(), BoxError> {
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
        returns_soon(other.wait(&case.name, fence, SHORT), "its limit is over").await;
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

async fn long_times_are_accepted(one: &dyn TokenStore) -> Result<(), BoxError> {
    let case = Case::new(one, one);
    let fence = case.a_leases(None, Duration::MAX).await?;
    let entry = Bytes::from_static(b"entry");
    one.put(&case.name, &case.a, fence, entry, Duration::MAX)
        .await?;
    assert_entry(&case.b_looks(None, LONG).await?, b"entry", fence);
    case.b_leases(Some(fence), LONG).await?;
    one.release(&case.name, &case.b, Duration::MAX).await?;
    let found = case.a_looks(Some(fence), LONG).await?;
    assert!(matches!(found, Found::Paused { .. }), "{found:?}");
    Ok(())
}
