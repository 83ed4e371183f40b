//! Shares tokens among the instances of a service, through an engine such as Redis.
//!
//! A [`TokenStore`] is the engine. It holds one *entry* and one *lease* for each name. It sees only opaque names and encrypted entries, so it
//! never sees a secret.
//!
//! `RedisTokenStore` (feature `redis`) is an engine over Redis or Valkey. [`MemoryTokenStore`] is one for tests and for a single process.

mod entry;
mod key;
mod memory;
mod names;
#[cfg(feature = "redis")]
mod redis;
mod sealed;
pub(crate) mod share;
mod slot;

use std::{future::Future, pin::Pin, time::Duration};

use bytes::Bytes;

#[cfg(feature = "redis")]
#[cfg_attr(docsrs, doc(cfg(feature = "redis")))]
pub use self::redis::{RedisClient, RedisTokenStore};
use self::{
    entry::{EndedSignIn, StoredEntry, StoredToken, TokenKey},
    sealed::{Opened, VERSION},
};
pub use self::{
    key::{InvalidStoreKey, StoreKey},
    memory::MemoryTokenStore,
    names::{EntryName, Fence, LeaseOwner},
    sealed::StoreKeys,
    share::{IssuedBy, ShareTokens},
};
use crate::error::BoxError;

/// The future of an operation of a [`TokenStore`].
pub type StoreFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, BoxError>> + Send + 'a>>;

/// An engine that holds encrypted tokens for all instances of a service.
///
/// For each name there is at most one *entry*, and at most one *lease*. Whoever holds the lease fetches a token and puts it. All others wait
/// until the entry is there. A *fence* is a number that grows with each lease of a name. It travels with the entry, so that a late holder
/// cannot replace a newer entry.
///
/// # Implementing an engine
///
/// Each operation is **atomic**: no other operation on the same name sees a part of it. One connection serves many names at the same time.
/// `test_util::token_store::suite` (feature `test-util`) checks an engine.
///
/// * **An engine is a help, never a dependency.** If it fails, the caller fetches a token without it. So return an error soon, within a
///   few hundred milliseconds, instead of waiting or retrying.
/// * **The caller may be dropped at any time**, and a reply may be lost after the operation was carried out. Operations with the same
///   [`LeaseOwner`] may therefore be repeated.
/// * **All times are measured by one clock**, that of the engine. The clocks of the instances differ, so no argument and no result is a time of day.
/// * Entries may vanish at any time. A vanished entry costs one token request, or a sign-in if it has a refresh token. A lease that vanishes
///   early can cost more: see [`renew`](Self::renew).
/// * For an hour after the end of the last lease of a name, the engine remembers that a holder was lost, and the greatest fence.
/// * Any duration may be passed, also `Duration::MAX`. One that is too long for the engine means: as long as it can.
/// * Times are rounded so that nothing ends early, and no entry looks younger than it is: leases, rests and ages up.
/// * All operations go to the primary. A replica would return what has been replaced.
/// * Names have up to 64 bytes. Entries are a little longer than the response of the server: mostly 1 to 10 kB, at most about a megabyte.
/// * An error must not contain secrets, such as the password of the engine: it is logged.
///
/// # Fences
///
/// A fence must be greater than each earlier fence of the same name, even if the engine has lost its data. A counter alone starts again
/// at one. So [`look`](Self::look) returns the greatest of: the last known fence plus one, `newer_than` plus one, and the time of the
/// engine in microseconds since 1970. It is less than 2⁵³. So a fence also says when its lease was granted.
///
/// What remains: an engine that loses its data **and** whose clock is set back can give a fence that is less than an older one. Then an
/// instance that fetched before the loss, and stores its token after it, replaces a newer token. If the newer one no longer works, the API
/// refuses it, and it is fetched again.
///
/// # Examples
///
/// One instance fetches, and the other one waits for its token:
///
/// ```
/// use std::{sync::Arc, time::Duration};
///
/// use tower_oauth2_client::{
///     BoxError,
///     token_store::{EntryName, Found, LeaseOwner, MemoryTokenStore, TokenStore},
/// };
///
/// async fn entry(store: &dyn TokenStore, name: &EntryName) -> Result<bytes::Bytes, BoxError> {
///     let (owner, lease) = (LeaseOwner::random(), Duration::from_secs(10));
///     loop {
///         match store.look(name, None, &owner, lease).await? {
///             Found::Entry { entry, .. } => return Ok(entry),
///             Found::Leased { fence, .. } => {
///                 let entry = bytes::Bytes::from("fetched and encrypted");
///                 store.put(name, &owner, fence, entry, Duration::from_secs(3600)).await?;
///             }
///             Found::Held { fence, rest } => store.wait(name, fence, rest).await,
///             found => return Err(format!("{found:?}").into()),
///         }
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), BoxError> {
/// let store: Arc<dyn TokenStore> = Arc::new(MemoryTokenStore::new());
/// let name = EntryName::new("n4bQgYhMfWWaL-qgxVrQFaO_TxsrC4Is");
/// let (one, other) = tokio::join!(entry(&*store, &name), entry(&*store, &name));
/// assert_eq!(one?, other?);
/// # Ok(())
/// # }
/// ```
pub trait TokenStore: Send + Sync + 'static {
    /// Returns the entry, or else takes the lease, in **one** round trip.
    ///
    /// * An entry whose fence is greater than `newer_than` is returned, even while somebody holds the lease. With `None`, any entry is returned. This
    ///   must work if the engine is full or read-only.
    /// * Otherwise, if nobody else holds the lease, `owner` gets it for `lease_for`. An owner that already holds it keeps its fence, and holds
    ///   it for `lease_for` from now; `newer_than` then does not count for the fence.
    /// * Otherwise, the result says how long the lease or the pause lasts.
    ///
    /// A caller that has an entry, which is old or was refused by an API, passes its fence. So it never gets that entry again.
    ///
    /// # Wrong answers
    ///
    /// An entry that is not newer costs a second call. An entry that is returned after it was [removed](Self::remove) can be a token that is
    /// refused. A lease although there is an entry, or although another owner holds it, leads to a second token request. If the server revokes the last
    /// token with each new one, instances then disturb each other. If both spend the same refresh token, the server can revoke everything.
    /// "Held" although nobody holds the lease delays callers until that time is over.
    ///
    /// # Errors
    ///
    /// Returns an error if the engine does not answer, or not in time. The lease may have been taken.
    fn look<'a>(
        &'a self,
        name: &'a EntryName,
        newer_than: Option<Fence>,
        owner: &'a LeaseOwner,
        lease_for: Duration,
    ) -> StoreFuture<'a, Found>;

    /// Lets a lease last for `lease_for` from now, even if that is shorter than before. Returns whether `owner` holds it.
    ///
    /// It is not taken again if it has ended.
    ///
    /// # Wrong answers
    ///
    /// `true` although the lease is lost lets another one send the same refresh token, while the holder believes that nobody does. `false`
    /// although it is held does the same a little later, because the holder does not renew the lease again.
    ///
    /// # Errors
    ///
    /// Returns an error if the engine does not answer, or not in time. The lease may have been extended.
    fn renew<'a>(
        &'a self,
        name: &'a EntryName,
        owner: &'a LeaseOwner,
        lease_for: Duration,
    ) -> StoreFuture<'a, bool>;

    /// Ends a lease without an entry, if `owner` holds it, and wakes those who wait. Otherwise, does nothing.
    ///
    /// With a `pause` that is not zero, nobody gets the lease until the pause is over, and [`look`](Self::look) returns
    /// [`Found::Paused`]. An entry that is there stays, and is returned as before.
    ///
    /// # Wrong answers
    ///
    /// Releasing the lease of another owner lets two instances fetch at the same time. Not releasing delays the next fetch until the
    /// lease ends by itself.
    ///
    /// # Errors
    ///
    /// Returns an error if the engine does not answer, or not in time. The lease then ends by itself.
    fn release<'a>(
        &'a self,
        name: &'a EntryName,
        owner: &'a LeaseOwner,
        pause: Duration,
    ) -> StoreFuture<'a, ()>;

    /// Stores an entry for at most `ttl`, unless a newer one exists, and wakes those who wait for this name.
    ///
    /// * An entry with the same fence is replaced, because the operation may be repeated. If that one was [removed](Self::remove), the entry is
    ///   not stored.
    /// * The lease ends if `owner` holds it, even if the entry is not stored. The lease of another owner and a pause stay.
    /// * An entry of an owner that has lost its lease is stored unless a newer one exists: the token is good, and others can use it.
    /// * If the entry is stored, that a holder was lost is forgotten. The next fence is greater than this one.
    /// * The fence of a stored entry is remembered until its `ttl` is over, even if the entry is removed.
    ///
    /// # Wrong answers
    ///
    /// [`Put::Stored`] although the entry is not there costs one token request. Storing an entry over a newer one hands out a token that the
    /// server may have revoked, until an API refuses it. With refresh tokens, the newest one is lost, and a user has to sign in again.
    ///
    /// # Errors
    ///
    /// Returns an error if the engine is full, read-only, does not answer, or not in time. The entry may have been stored.
    fn put<'a>(
        &'a self,
        name: &'a EntryName,
        owner: &'a LeaseOwner,
        fence: Fence,
        entry: Bytes,
        ttl: Duration,
    ) -> StoreFuture<'a, Put>;

    /// Removes the entry if it has this fence. Returns whether it was there.
    ///
    /// # Wrong answers
    ///
    /// Removing another entry costs one token request. Leaving the entry gives other instances a token that is refused.
    ///
    /// # Errors
    ///
    /// Returns an error if the engine does not answer, or not in time. The entry may have been removed.
    fn remove<'a>(&'a self, name: &'a EntryName, fence: Fence) -> StoreFuture<'a, bool>;

    /// Waits until the lease with this fence has ended, at most for `at_most`.
    ///
    /// It may return at any time, also when the engine fails: the caller looks again. Before it waits for a message, it must check that the
    /// lease is still held. Otherwise, it misses a lease that ended between [`look`](Self::look) and now. A lease that ends by itself need
    /// not wake: the caller waits no longer than the rest that [`Found::Held`] contains.
    ///
    /// # Wrong answers
    ///
    /// Returning early costs a round trip; always returning at once makes each waiter poll without a pause, so a failing engine waits for a while
    /// before it returns. Returning late delays the caller, but not beyond `at_most`.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the wait and leaves nothing behind.
    fn wait<'a>(
        &'a self,
        name: &'a EntryName,
        lease: Fence,
        at_most: Duration,
    ) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>>;
}

/// What [`TokenStore::look`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Found {
    /// There is an entry that is new enough.
    Entry {
        /// The encrypted entry.
        entry: Bytes,
        /// The fence of the lease under which it was stored.
        fence: Fence,
        /// How long ago the lease under which it was stored was granted, by the clock of the engine.
        ///
        /// It does not count from the time of storing: what arrives late would look young. The fence says when the lease was granted.
        ///
        /// If it is too small, an expired token can be sent. If it is too large, a token is renewed early. So an engine whose clock was set
        /// back since reports the whole `ttl` of the entry.
        age: Duration,
    },
    /// There is no such entry, and the caller now holds the lease.
    Leased {
        /// The fence of the lease.
        fence: Fence,
        /// Whether a lease ended by itself since something was stored, so its holder may have crashed during its token request.
        ///
        /// An owner that looks again is told the same, and so is the next one if this one releases the lease without an entry.
        ///
        /// A refresh token may have been spent, and its successor may still be on its way to the store, so the caller looks again a little
        /// later. If this is wrongly `false`, the spent one can be sent again. If it is wrongly `true`, the caller waits for two seconds in vain.
        after_lost_holder: bool,
    },
    /// There is no such entry, and another owner holds the lease.
    Held {
        /// The fence of its lease.
        fence: Fence,
        /// How long the lease lasts, unless it is renewed.
        rest: Duration,
    },
    /// There is no such entry, and the last holder asked for a pause.
    Paused {
        /// How long the pause lasts.
        rest: Duration,
    },
}

/// What [`TokenStore::put`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Put {
    /// The entry was stored.
    Stored,
    /// The entry was not stored, because a newer one exists, or one with the same fence was removed.
    Superseded,
}
