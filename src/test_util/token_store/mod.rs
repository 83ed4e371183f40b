//! A suite of tests that every engine of a token store has to pass.

mod entries;
mod leases;
mod names;
mod waiting;

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
    leases::lease_has_one_owner(one, other).await?;
    leases::look_of_the_owner_extends_its_lease(one, other).await?;
    leases::lease_is_taken_by_one_of_many(one, other).await?;
    names::names_are_independent(one).await?;
    names::similar_names_are_different(one).await?;
    leases::lease_ends_by_itself(one, other).await?;
    leases::lost_holder_is_remembered_until_something_is_stored(one, other).await?;
    leases::ended_lease_is_not_taken_again(one, other).await?;
    leases::only_the_owner_renews(one, other).await?;
    leases::only_the_owner_releases(one, other).await?;
    entries::entry_is_found_by_others(one, other).await?;
    entries::entry_holds_any_bytes(one, other).await?;
    entries::entry_ends(one).await?;
    entries::known_entry_is_not_found_again(one, other).await?;
    leases::fences_grow(one, other).await?;
    entries::late_put_does_not_replace_a_newer_entry(one, other).await?;
    entries::late_put_leaves_the_lease_of_another(one, other).await?;
    entries::newest_of_many_entries_stays(one, other).await?;
    names::many_names_are_served_at_once(one, other).await?;
    leases::repeated_operations_do_no_harm(one).await?;
    entries::only_the_named_entry_is_removed(one, other).await?;
    leases::pause_keeps_everybody_from_the_lease(one, other).await?;
    waiting::waiters_are_woken(one, other).await?;
    waiting::waiters_do_not_spin(one, other).await?;
    let dropped = waiting::dropped_operations_do_no_harm(one, other);
    let dropped = time::timeout(LIMIT, dropped).await;
    assert!(
        dropped.is_ok(),
        "an operation blocks others if it is dropped"
    );
    dropped??;
    leases::long_times_are_accepted(one).await
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
            if done.is_none()
                && let Poll::Ready(output) = future.as_mut().poll(cx)
            {
                *done = Some(output);
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
    // The lease has just been granted, unless it is a short one.
    let at_least = at_most.saturating_sub(LIMIT).max(Duration::from_nanos(1));
    let is_held = matches!(found, Found::Held { fence, rest } if *fence == by && *rest <= at_most && *rest >= at_least);
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
