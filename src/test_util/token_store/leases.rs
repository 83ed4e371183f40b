//! Leases, pauses and fences.

use std::time::Duration;

use bytes::Bytes;
use tokio::time;

use super::{Case, LONG, SHORT, all, assert_entry, assert_held, leased, until};
use crate::{
    error::BoxError,
    token_store::{Fence, Found, LeaseOwner, Put, TokenStore},
};

pub(super) async fn lease_has_one_owner(
    one: &dyn TokenStore,
    other: &dyn TokenStore,
) -> Result<(), BoxError> {
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

pub(super) async fn look_of_the_owner_extends_its_lease(
    one: &dyn TokenStore,
    other: &dyn TokenStore,
) -> Result<(), BoxError> {
    let case = Case::new(one, other);
    let fence = case.a_leases(None, SHORT).await?;
    assert_eq!(case.a_leases(None, LONG).await?, fence);
    time::sleep(SHORT).await;
    assert_held(&case.b_looks(None, LONG).await?, fence, LONG);
    // The last call counts, also if it shortens the lease.
    assert_eq!(case.a_leases(None, SHORT).await?, fence);
    leased(&case.b_takes_over(None).await?, true);
    Ok(())
}

pub(super) async fn lease_is_taken_by_one_of_many(
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

pub(super) async fn lease_ends_by_itself(
    one: &dyn TokenStore,
    other: &dyn TokenStore,
) -> Result<(), BoxError> {
    let case = Case::new(one, other);
    let fence = case.a_leases(None, SHORT).await?;
    let next = leased(&case.b_takes_over(None).await?, true);
    assert!(next > fence, "fences grow");
    assert_held(&case.a_looks(None, LONG).await?, next, LONG);
    Ok(())
}

pub(super) async fn lost_holder_is_remembered_until_something_is_stored(
    one: &dyn TokenStore,
    other: &dyn TokenStore,
) -> Result<(), BoxError> {
    let case = Case::new(one, other);
    case.a_leases(None, SHORT).await?;
    let next = leased(&case.b_takes_over(None).await?, true);
    // It asks again, and gives up.
    let again = leased(&case.b_looks(None, LONG).await?, true);
    assert_eq!(again, next, "the owner keeps its fence");
    other.release(&case.name, &case.b, Duration::ZERO).await?;
    let fence = leased(&case.a_looks(None, LONG).await?, true);
    case.a_puts(fence, "entry").await?;
    case.b_leases(Some(fence), LONG).await?;
    Ok(())
}

pub(super) async fn only_the_owner_renews(
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

/// Nobody has taken it over, and it has ended all the same.
pub(super) async fn ended_lease_is_not_taken_again(
    one: &dyn TokenStore,
    other: &dyn TokenStore,
) -> Result<(), BoxError> {
    let case = Case::new(one, other);
    case.a_leases(None, SHORT).await?;
    time::sleep(SHORT * 2).await;
    assert!(
        !one.renew(&case.name, &case.a, LONG).await?,
        "the lease has ended"
    );
    one.release(&case.name, &case.a, LONG).await?;
    leased(&case.b_looks(None, LONG).await?, true);
    Ok(())
}

pub(super) async fn only_the_owner_releases(
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

    case.b_puts(next, "entry").await?;
    case.a_leases(Some(next), LONG).await?;
    one.release(&case.name, &case.a, Duration::ZERO).await?;
    assert_entry(&case.b_looks(None, LONG).await?, b"entry", next);
    Ok(())
}

pub(super) async fn fences_grow(
    one: &dyn TokenStore,
    other: &dyn TokenStore,
) -> Result<(), BoxError> {
    let case = Case::new(one, other);
    // In 2020. An engine that has lost its data must not begin again at one.
    let mut last = Fence::new(1_577_836_800_000_000);
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
    // The fence of an entry counts as well, even after it was removed.
    let late = Fence::new(next.get() + 1_000_000);
    assert_eq!(case.a_puts(late, "entry").await?, Put::Stored);
    assert!(one.remove(&case.name, late).await?);
    let last = case.b_leases(None, LONG).await?;
    assert!(last > late, "{last:?} follows {late:?}");
    Ok(())
}

pub(super) async fn repeated_operations_do_no_harm(one: &dyn TokenStore) -> Result<(), BoxError> {
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

pub(super) async fn pause_keeps_everybody_from_the_lease(
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

    // The answer of an instance that lost its lease is late.
    case.b_puts(fence, "again").await?;
    let found = case.b_looks(Some(fence), LONG).await?;
    let is_paused = matches!(found, Found::Paused { .. });
    assert!(
        is_paused,
        "storing an entry does not end a pause: {found:?}"
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

pub(super) async fn long_times_are_accepted(one: &dyn TokenStore) -> Result<(), BoxError> {
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
