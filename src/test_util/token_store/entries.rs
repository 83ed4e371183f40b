//! Entries: what is stored, found, replaced and removed.

use std::{future::Future, pin::Pin};

use bytes::Bytes;
use tokio::time;

use super::{Case, LONG, SHORT, all, assert_entry, assert_held, leased, until};
use crate::{
    base::clock::tokio_now,
    error::BoxError,
    token_store::{Fence, Found, LeaseOwner, Put, TokenStore},
};

pub(super) async fn entry_is_found_by_others(
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
    time::sleep(SHORT * 3).await;
    let begun = tokio_now();
    let next = case.b_leases(Some(fence), LONG).await?;
    case.b_puts(next, "next").await?;
    let found = case.a_looks(None, LONG).await?;
    let most = tokio_now() - begun + SHORT;
    let is_new = matches!(found, Found::Entry { age, .. } if age <= most);
    assert!(is_new, "the age counts from the last lease: {found:?}");

    let case = Case::new(one, other);
    let fence = case.a_leases(None, LONG).await?;
    time::sleep(SHORT).await;
    case.a_puts(fence, "entry").await?;
    let found = case.b_looks(None, LONG).await?;
    let is_older = matches!(found, Found::Entry { age, .. } if age >= SHORT / 2);
    assert!(is_older, "the age counts from the lease: {found:?}");
    Ok(())
}

pub(super) async fn entry_holds_any_bytes(
    one: &dyn TokenStore,
    other: &dyn TokenStore,
) -> Result<(), BoxError> {
    let bytes: Vec<u8> = (0..1_000_000_u32).map(|index| index as u8).collect();
    for length in [0, 1, 256, 70_000, bytes.len()] {
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

pub(super) async fn entry_ends(one: &dyn TokenStore) -> Result<(), BoxError> {
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

pub(super) async fn known_entry_is_not_found_again(
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

pub(super) async fn late_put_does_not_replace_a_newer_entry(
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

pub(super) async fn late_put_leaves_the_lease_of_another(
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

pub(super) async fn only_the_named_entry_is_removed(
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
    let before = Fence::new(fence.get() - 1);
    assert_eq!(case.a_puts(before, "older").await?, Put::Superseded);
    let next = case.b_leases(None, LONG).await?;
    assert!(next > fence, "fences grow");
    assert_eq!(case.b_puts(next, "next").await?, Put::Stored);
    assert_entry(&case.a_looks(None, LONG).await?, b"next", next);
    // Somebody renews the entry that is removed.
    let renewal = case.a_leases(Some(next), LONG).await?;
    assert!(other.remove(&case.name, next).await?);
    assert_held(&case.b_looks(None, LONG).await?, renewal, LONG);
    assert!(one.renew(&case.name, &case.a, LONG).await?);
    Ok(())
}

/// Entries are stored and found at the same time. What is found is whole, and the newest one stays.
pub(super) async fn newest_of_many_entries_stays(
    one: &dyn TokenStore,
    other: &dyn TokenStore,
) -> Result<(), BoxError> {
    type Operation<'a> = Pin<Box<dyn Future<Output = Result<(), BoxError>> + Send + 'a>>;

    let case = Case::new(one, other);
    let first = case.a_leases(None, LONG).await?.get();
    let (case, owners) = (&case, [LeaseOwner::random(), LeaseOwner::random()]);
    let content = |fence: Fence| format!("{} ", fence.get()).repeat(100);
    let mut operations: Vec<Operation<'_>> = Vec::new();
    for index in 0..40 {
        // Neither the first nor the last one is the newest.
        let fence = Fence::new(first + (index * 7 + 3) % 40);
        let (store, owner) = match index % 2 {
            0 => (one, &owners[0]),
            _ => (other, &owners[1]),
        };
        operations.push(Box::pin(async move {
            let put = store.put(&case.name, owner, fence, content(fence).into(), LONG);
            put.await.map(drop)
        }));
        operations.push(Box::pin(async move {
            match store.look(&case.name, None, owner, LONG).await? {
                Found::Entry { entry, fence, .. } => {
                    assert_eq!(entry, content(fence), "the entry has this fence");
                }
                found => assert!(matches!(found, Found::Held { .. }), "{found:?}"),
            }
            Ok(())
        }));
    }
    all(operations)
        .await
        .into_iter()
        .collect::<Result<(), _>>()?;
    let newest = Fence::new(first + 39);
    let found = case.b_looks(None, LONG).await?;
    assert_entry(&found, content(newest).as_bytes(), newest);
    Ok(())
}
