//! Engines with one fault each.
#![allow(clippy::disallowed_methods, reason = "tests measure tokio's clock")]

use std::{
    collections::{HashMap, HashSet},
    future::Future,
    pin::Pin,
    sync::{Mutex, OnceLock},
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    sync::Semaphore,
    task,
    time::{self, Instant},
};
use tower_oauth2_client::{
    BoxError,
    token_store::{
        EntryName, Fence, Found, LeaseOwner, MemoryTokenStore, Put, StoreFuture, TokenStore,
    },
};

macro_rules! faults {
    ($($name:ident),* $(,)?) => {
        #[derive(Clone, Copy, Debug, PartialEq)]
        pub(crate) enum Fault {
            None,
            $($name,)*
        }

        impl Fault {
            pub(crate) const ALL: &[Self] = &[$(Self::$name),*];
        }
    };
}

faults! {
    // Names
    NamesCollide,
    CaseIsIgnored,
    // look
    EverybodyGetsTheLease,
    OwnerGetsAnotherFence,
    LookDoesNotExtend,
    LookShortensNothing,
    RestIsTooShort,
    LostHolderIsNeverTold,
    LostHolderIsAlwaysTold,
    KnownEntryIsReturned,
    EntryIsNeverReturned,
    EntryIsHiddenDuringALease,
    EntryIsHiddenDuringAPause,
    AgeIsZero,
    AgeIsThatOfTheFirstEntry,
    FencesStartAgain,
    FencesBeginAtOne,
    DroppedLookBlocks,
    // renew
    EverybodyRenews,
    NobodyRenews,
    EndedLeaseIsRenewed,
    RenewalLastsNoLonger,
    // release
    EverybodyReleases,
    NobodyReleases,
    PauseIsIgnored,
    LateReleasePauses,
    ReleaseRemovesTheEntry,
    // put
    OlderEntryReplacesNewer,
    LateEntryIsNotStored,
    EntryNeverEnds,
    LargeEntryIsCut,
    EntryIsTorn,
    PutLeavesTheLease,
    PutEndsEveryLease,
    PutIsAlwaysStored,
    RepeatedPutIsSuperseded,
    // remove
    AnyEntryIsRemoved,
    NothingIsRemoved,
    RemoveSaysAlwaysYes,
    RemoveForgetsTheFence,
    RemoveEndsTheLease,
    // wait
    WaitersSleep,
    WaitersIgnoreTheirLimit,
    WaitersMissAnEarlierEnd,
    WaitersIgnoreTheFence,
    WaitersSpin,
}

/// An engine with one fault.
pub(crate) struct Faulty {
    inner: MemoryTokenStore,
    fault: Fault,
    seen: Mutex<Seen>,
    first_fence: OnceLock<u64>,
    free: Semaphore,
}

#[derive(Default)]
struct Seen {
    leases: HashMap<EntryName, Lease>,
    paused: HashSet<EntryName>,
    first_put: HashMap<EntryName, Instant>,
    put: HashSet<(EntryName, Fence)>,
    removals: HashMap<EntryName, usize>,
}

#[derive(Clone)]
struct Lease {
    owner: LeaseOwner,
    fence: Fence,
    end: Option<Instant>,
}

/// Greater than each fence of the suite.
const FUTURE: Fence = Fence::new((1 << 52) + (1 << 51));

impl Faulty {
    pub(crate) fn new(fault: Fault) -> Self {
        Self {
            inner: MemoryTokenStore::new(),
            fault,
            seen: Mutex::default(),
            first_fence: OnceLock::new(),
            free: Semaphore::new(1),
        }
    }

    fn is(&self, fault: Fault) -> bool {
        self.fault == fault
    }

    fn name(&self, name: &EntryName) -> EntryName {
        match self.fault {
            Fault::NamesCollide => EntryName::new("name"),
            Fault::CaseIsIgnored => EntryName::new(name.as_str().to_lowercase()),
            Fault::RemoveForgetsTheFence => {
                let removals = self.seen.lock().unwrap().removals.get(name).copied();
                EntryName::new(format!("{} {removals:?}", name.as_str()))
            }
            _ => name.clone(),
        }
    }

    fn lease(&self, name: &EntryName) -> Option<Lease> {
        let lease = self.seen.lock().unwrap().leases.get(name).cloned();
        lease.filter(|lease| lease.end.is_none_or(|end| Instant::now() < end))
    }

    fn is_holder(&self, name: &EntryName, owner: &LeaseOwner) -> bool {
        self.lease(name).is_some_and(|lease| lease.owner == *owner)
    }

    async fn end_lease(&self, name: &EntryName) -> Result<(), BoxError> {
        let lease = self.seen.lock().unwrap().leases.remove(name);
        match lease {
            Some(lease) => self.inner.release(name, &lease.owner, Duration::ZERO).await,
            None => Ok(()),
        }
    }

    async fn fence_of_entry(&self, name: &EntryName) -> Result<Option<Fence>, BoxError> {
        let nobody = LeaseOwner::random();
        let found = self.inner.look(name, None, &nobody, Duration::MAX).await?;
        self.inner.release(name, &nobody, Duration::ZERO).await?;
        Ok(match found {
            Found::Entry { fence, .. } => Some(fence),
            _ => None,
        })
    }

    /// What the caller calls a fence.
    fn shown(&self, fence: Fence) -> Fence {
        match self.fault {
            Fault::FencesBeginAtOne => {
                let first = self.first_fence.get_or_init(|| fence.get());
                Fence::new(1 + fence.get() - first)
            }
            _ => fence,
        }
    }

    /// What the engine calls it.
    fn meant(&self, fence: Fence) -> Fence {
        match self.first_fence.get() {
            Some(first) => Fence::new(fence.get() + first - 1),
            None => fence,
        }
    }

    async fn found(
        &self,
        name: &EntryName,
        newer_than: Option<Fence>,
        owner: &LeaseOwner,
        lease_for: Duration,
    ) -> Result<Found, BoxError> {
        let newer_than = newer_than.filter(|_| !self.is(Fault::KnownEntryIsReturned));
        let before = self.lease(name).filter(|lease| lease.owner == *owner);
        let lease_for = match (self.fault, &before) {
            (Fault::LookDoesNotExtend, Some(lease)) => lease
                .end
                .map_or(lease_for, |end| lease_for.min(end - Instant::now())),
            (Fault::LookShortensNothing, Some(lease)) => lease
                .end
                .map_or(lease_for, |end| lease_for.max(end - Instant::now())),
            _ => lease_for,
        };
        if before.is_some() && self.is(Fault::OwnerGetsAnotherFence) {
            self.end_lease(name).await?;
        }
        let found = self.inner.look(name, newer_than, owner, lease_for).await?;
        let mut seen = self.seen.lock().unwrap();
        if let Found::Leased { fence, .. } = found {
            let lease = Lease {
                owner: owner.clone(),
                fence,
                end: Instant::now().checked_add(lease_for),
            };
            seen.leases.insert(name.clone(), lease);
            seen.paused.remove(name);
        }
        Ok(match (self.fault, found) {
            (Fault::EverybodyGetsTheLease, Found::Held { fence, .. }) => Found::Leased {
                fence,
                after_lost_holder: false,
            },
            (Fault::RestIsTooShort, Found::Held { fence, .. }) => Found::Held {
                fence,
                rest: Duration::from_millis(1),
            },
            (Fault::EntryIsNeverReturned, Found::Entry { fence, .. }) => Found::Held {
                fence,
                rest: lease_for,
            },
            (Fault::EntryIsHiddenDuringALease, Found::Entry { fence, .. })
                if seen.leases.contains_key(name) =>
            {
                Found::Held {
                    fence,
                    rest: lease_for,
                }
            }
            (Fault::EntryIsHiddenDuringAPause, Found::Entry { .. })
                if seen.paused.contains(name) =>
            {
                Found::Paused { rest: lease_for }
            }
            (Fault::AgeIsZero, Found::Entry { entry, fence, .. }) => Found::Entry {
                entry,
                fence,
                age: Duration::ZERO,
            },
            (Fault::AgeIsThatOfTheFirstEntry, Found::Entry { entry, fence, .. }) => Found::Entry {
                entry,
                fence,
                age: seen.first_put[name].elapsed(),
            },
            (
                Fault::FencesStartAgain,
                Found::Leased {
                    after_lost_holder, ..
                },
            ) => Found::Leased {
                fence: Fence::new(1),
                after_lost_holder,
            },
            (Fault::LostHolderIsNeverTold, Found::Leased { fence, .. }) => Found::Leased {
                fence,
                after_lost_holder: false,
            },
            (Fault::LostHolderIsAlwaysTold, Found::Leased { fence, .. }) => Found::Leased {
                fence,
                after_lost_holder: true,
            },
            (_, found) => found,
        })
    }
}

impl TokenStore for Faulty {
    fn look<'a>(
        &'a self,
        name: &'a EntryName,
        newer_than: Option<Fence>,
        owner: &'a LeaseOwner,
        lease_for: Duration,
    ) -> StoreFuture<'a, Found> {
        Box::pin(async move {
            let name = &self.name(name);
            if self.is(Fault::DroppedLookBlocks) {
                self.free.acquire().await?.forget();
                task::yield_now().await;
            }
            let newer_than = newer_than.map(|fence| self.meant(fence));
            let found = self.found(name, newer_than, owner, lease_for).await?;
            self.free.add_permits(1);
            Ok(match found {
                Found::Entry { entry, fence, age } => Found::Entry {
                    entry,
                    fence: self.shown(fence),
                    age,
                },
                Found::Leased {
                    fence,
                    after_lost_holder,
                } => Found::Leased {
                    fence: self.shown(fence),
                    after_lost_holder,
                },
                Found::Held { fence, rest } => Found::Held {
                    fence: self.shown(fence),
                    rest,
                },
                found => found,
            })
        })
    }

    fn renew<'a>(
        &'a self,
        name: &'a EntryName,
        owner: &'a LeaseOwner,
        lease_for: Duration,
    ) -> StoreFuture<'a, bool> {
        Box::pin(async move {
            let name = &self.name(name);
            let lease = self.lease(name).filter(|lease| lease.owner == *owner);
            let renewed_for = match (self.fault, lease.and_then(|lease| lease.end)) {
                (Fault::RenewalLastsNoLonger, Some(end)) => lease_for.min(end - Instant::now()),
                _ => lease_for,
            };
            let is_held = self.inner.renew(name, owner, renewed_for).await?;
            if is_held && let Some(lease) = self.seen.lock().unwrap().leases.get_mut(name) {
                lease.end = Instant::now().checked_add(renewed_for);
            }
            Ok(match self.fault {
                Fault::EverybodyRenews => true,
                Fault::NobodyRenews => false,
                Fault::EndedLeaseIsRenewed if !is_held => {
                    let found = self.inner.look(name, None, owner, lease_for).await?;
                    matches!(found, Found::Leased { .. })
                }
                _ => is_held,
            })
        })
    }

    fn release<'a>(
        &'a self,
        name: &'a EntryName,
        owner: &'a LeaseOwner,
        pause: Duration,
    ) -> StoreFuture<'a, ()> {
        Box::pin(async move {
            let name = &self.name(name);
            let is_holder = self.is_holder(name, owner);
            if is_holder {
                let mut seen = self.seen.lock().unwrap();
                seen.leases.remove(name);
                if !pause.is_zero() {
                    seen.paused.insert(name.clone());
                }
            }
            match self.fault {
                Fault::PauseIsIgnored => self.inner.release(name, owner, Duration::ZERO).await,
                Fault::EverybodyReleases => self.end_lease(name).await,
                Fault::NobodyReleases => Ok(()),
                Fault::LateReleasePauses if !is_holder && !pause.is_zero() => {
                    self.inner.look(name, Some(FUTURE), owner, pause).await?;
                    self.inner.release(name, owner, pause).await
                }
                Fault::ReleaseRemovesTheEntry if is_holder => {
                    if let Some(fence) = self.fence_of_entry(name).await? {
                        self.inner.remove(name, fence).await?;
                    }
                    self.inner.release(name, owner, pause).await
                }
                _ => self.inner.release(name, owner, pause).await,
            }
        })
    }

    fn put<'a>(
        &'a self,
        name: &'a EntryName,
        owner: &'a LeaseOwner,
        fence: Fence,
        entry: Bytes,
        ttl: Duration,
    ) -> StoreFuture<'a, Put> {
        Box::pin(async move {
            let (name, fence) = (&self.name(name), self.meant(fence));
            let is_holder = self.is_holder(name, owner);
            let is_repeated = {
                let mut seen = self.seen.lock().unwrap();
                seen.first_put
                    .entry(name.clone())
                    .or_insert_with(Instant::now);
                !seen.put.insert((name.clone(), fence))
            };
            let other = LeaseOwner::random();
            let mut put = (owner, fence, entry, ttl);
            match self.fault {
                Fault::PutLeavesTheLease => put.0 = &other,
                Fault::PutEndsEveryLease => self.end_lease(name).await?,
                Fault::OlderEntryReplacesNewer => {
                    let newer = self.fence_of_entry(name).await?;
                    put.1 = newer.map_or(fence, |newer| fence.max(newer));
                }
                Fault::LateEntryIsNotStored if !is_holder => return Ok(Put::Superseded),
                Fault::EntryNeverEnds => put.3 = Duration::from_secs(3600),
                Fault::LargeEntryIsCut => put.2.truncate(65_535),
                Fault::EntryIsTorn => {
                    let half = put.2.slice(..put.2.len() / 2);
                    self.inner.put(name, &other, fence, half, ttl).await?;
                    task::yield_now().await;
                }
                _ => {}
            }
            if is_holder && !self.is(Fault::PutLeavesTheLease) {
                self.seen.lock().unwrap().leases.remove(name);
            }
            let (owner, fence, entry, ttl) = put;
            let stored = self.inner.put(name, owner, fence, entry, ttl).await?;
            Ok(match self.fault {
                Fault::PutIsAlwaysStored => Put::Stored,
                Fault::RepeatedPutIsSuperseded if is_repeated => Put::Superseded,
                _ => stored,
            })
        })
    }

    fn remove<'a>(&'a self, name: &'a EntryName, fence: Fence) -> StoreFuture<'a, bool> {
        Box::pin(async move {
            let (given, name, fence) = (name, &self.name(name), self.meant(fence));
            let fence = match self.fault {
                Fault::NothingIsRemoved => return Ok(false),
                Fault::AnyEntryIsRemoved => self.fence_of_entry(name).await?.unwrap_or(fence),
                _ => fence,
            };
            let is_removed = self.inner.remove(name, fence).await?;
            if is_removed {
                let mut seen = self.seen.lock().unwrap();
                *seen.removals.entry(given.clone()).or_default() += 1;
            }
            if is_removed && self.is(Fault::RemoveEndsTheLease) {
                self.end_lease(name).await?;
            }
            Ok(is_removed || self.is(Fault::RemoveSaysAlwaysYes))
        })
    }

    fn wait<'a>(
        &'a self,
        name: &'a EntryName,
        lease: Fence,
        at_most: Duration,
    ) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        Box::pin(async move {
            let (name, lease) = (&self.name(name), self.meant(lease));
            let held = self.lease(name).map(|held| held.fence);
            match self.fault {
                Fault::WaitersSleep => time::sleep(at_most).await,
                Fault::WaitersSpin => task::yield_now().await,
                Fault::WaitersIgnoreTheirLimit => {
                    let hour = Duration::from_secs(3600);
                    self.inner.wait(name, lease, hour).await;
                }
                Fault::WaitersMissAnEarlierEnd if held.is_none() => time::sleep(at_most).await,
                Fault::WaitersIgnoreTheFence => {
                    let lease = held.unwrap_or(lease);
                    self.inner.wait(name, lease, at_most).await;
                }
                _ => self.inner.wait(name, lease, at_most).await,
            }
        })
    }
}
