//! Names: they do not disturb each other.

use std::{future::Future, pin::Pin};

use bytes::Bytes;

use super::{Case, LONG, all, assert_entry, leased};
use crate::{
    error::BoxError,
    token_store::{EntryName, Found, LeaseOwner, TokenStore},
};

pub(super) async fn names_are_independent(one: &dyn TokenStore) -> Result<(), BoxError> {
    let (case, another) = (Case::new(one, one), Case::new(one, one));
    let fence = case.a_leases(None, LONG).await?;
    another.a_leases(None, LONG).await?;
    case.a_puts(fence, "entry").await?;
    let found = another.b_looks(None, LONG).await?;
    assert!(matches!(found, Found::Held { .. }), "{found:?}");
    Ok(())
}

/// Names are digests, so each letter counts, and upper case is not lower case.
pub(super) async fn similar_names_are_different(one: &dyn TokenStore) -> Result<(), BoxError> {
    let base = LeaseOwner::random();
    let base = base.as_str();
    let mut fences = Vec::new();
    for name in [
        base.to_owned(),
        format!("{base}a"),
        format!("{base}A"),
        format!("{base}-"),
        format!("{base}_"),
        format!("{base}aa"),
    ] {
        let (name, owner) = (EntryName::new(name), LeaseOwner::random());
        let found = one.look(&name, None, &owner, LONG).await?;
        let fence = leased(&found, false);
        let entry = Bytes::copy_from_slice(name.as_str().as_bytes());
        one.put(&name, &owner, fence, entry, LONG).await?;
        fences.push((name, fence));
    }
    for (name, fence) in fences {
        let found = one.look(&name, None, &LeaseOwner::random(), LONG).await?;
        assert_entry(&found, name.as_str().as_bytes(), fence);
    }
    Ok(())
}

pub(super) async fn many_names_are_served_at_once(
    one: &dyn TokenStore,
    other: &dyn TokenStore,
) -> Result<(), BoxError> {
    type Served<'a> = Pin<Box<dyn Future<Output = Result<(), BoxError>> + Send + 'a>>;

    let names = (0..200).map(|index| {
        let (name, owner) = (
            EntryName::new(LeaseOwner::random().as_str()),
            LeaseOwner::random(),
        );
        let (store, reader) = if index % 2 == 0 {
            (one, other)
        } else {
            (other, one)
        };
        Box::pin(async move {
            let fence = leased(&store.look(&name, None, &owner, LONG).await?, false);
            let entry = Bytes::copy_from_slice(name.as_str().as_bytes());
            store.put(&name, &owner, fence, entry, LONG).await?;
            let found = reader.look(&name, None, &owner, LONG).await?;
            assert_entry(&found, name.as_str().as_bytes(), fence);
            Ok(())
        }) as Served<'_>
    });
    all(names.collect()).await.into_iter().collect()
}
