//! Engines of a token store follow the rules of `TokenStore`, and the suite notices those that do not.

use std::{collections::HashMap, future::Future, pin::Pin, sync::Mutex, time::Duration};

use bytes::Bytes;
use tower_oauth2_client::{
    BoxError,
    test_util::token_store::suite,
    token_store::{
        EntryName, Fence, Found, LeaseOwner, MemoryTokenStore, Put, StoreFuture, TokenStore,
    },
};

#[tokio::test]
async fn memory_follows_the_rules() -> Result<(), BoxError> {
    let store = MemoryTokenStore::new();
    suite(&store, &store.clone()).await
}

#[tokio::test(start_paused = true)]
async fn memory_follows_the_rules_on_a_paused_clock() -> Result<(), BoxError> {
    let store = MemoryTokenStore::new();
    suite(&store, &store.clone()).await
}

#[tokio::test(start_paused = true)]
async fn memory_forgets_what_has_ended() -> Result<(), BoxError> {
    let (store, second) = (MemoryTokenStore::new(), Duration::from_secs(1));
    for round in 0..20 {
        for index in 0..1000 {
            let (name, owner) = (
                EntryName::new(format!("{round}-{index}")),
                LeaseOwner::random(),
            );
            store.look(&name, None, &owner, second).await?;
        }
        tokio::time::advance(2 * Duration::from_secs(3600)).await;
    }
    let shown = format!("{store:?}");
    let mut numbers = shown
        .split(|c: char| !c.is_ascii_digit())
        .filter_map(|part| part.parse().ok());
    let names: usize = numbers.next().unwrap();
    assert!(names < 5000, "{names}");
    Ok(())
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    None,
    EverybodyGetsTheLease,
    KnownEntryIsReturned,
    EntryIsNeverReturned,
    FencesStartAgain,
    EverybodyRenews,
    NobodyRenews,
    EverybodyReleases,
    PauseIsIgnored,
    OlderEntryReplacesNewer,
    PutLeavesTheLease,
    PutEndsEveryLease,
    AnyEntryIsRemoved,
    NothingIsRemoved,
    WaitersSleep,
    WaitersIgnoreTheirLimit,
}

/// An engine with one fault.
struct Faulty {
    inner: MemoryTokenStore,
    fault: Fault,
    holders: Mutex<HashMap<EntryName, LeaseOwner>>,
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
            let newer_than = newer_than.filter(|_| self.fault != Fault::KnownEntryIsReturned);
            let found = self.inner.look(name, newer_than, owner, lease_for).await?;
            if let Found::Leased { .. } = found {
                let mut holders = self.holders.lock().unwrap();
                holders.insert(name.clone(), owner.clone());
            }
            Ok(match (self.fault, found) {
                (Fault::EverybodyGetsTheLease, Found::Held { fence, .. }) => Found::Leased {
                    fence,
                    after_lost_holder: false,
                },
                (Fault::EntryIsNeverReturned, Found::Entry { fence, .. }) => Found::Held {
                    fence,
                    rest: lease_for,
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
                (_, found) => found,
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
            let is_held = self.inner.renew(name, owner, lease_for).await?;
            Ok(match self.fault {
                Fault::EverybodyRenews => true,
                Fault::NobodyRenews => false,
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
            let pause = match self.fault {
                Fault::PauseIsIgnored => Duration::ZERO,
                _ => pause,
            };
            if self.fault == Fault::EverybodyReleases {
                self.end_lease(name).await?;
            }
            self.inner.release(name, owner, pause).await
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
            let other = LeaseOwner::random();
            match self.fault {
                Fault::PutLeavesTheLease => self.inner.put(name, &other, fence, entry, ttl).await,
                Fault::PutEndsEveryLease => {
                    self.end_lease(name).await?;
                    self.inner.put(name, owner, fence, entry, ttl).await
                }
                Fault::OlderEntryReplacesNewer => {
                    let found = self.inner.look(name, None, owner, ttl).await?;
                    let fence = match found {
                        Found::Entry { fence: newer, .. } => fence.max(newer),
                        _ => fence,
                    };
                    self.inner.put(name, owner, fence, entry, ttl).await
                }
                _ => self.inner.put(name, owner, fence, entry, ttl).await,
            }
        })
    }

    fn remove<'a>(&'a self, name: &'a EntryName, fence: Fence) -> StoreFuture<'a, bool> {
        Box::pin(async move {
            match self.fault {
                Fault::NothingIsRemoved => Ok(false),
                Fault::AnyEntryIsRemoved => {
                    let owner = LeaseOwner::random();
                    let found = self.inner.look(name, None, &owner, Duration::ZERO).await?;
                    let fence = match found {
                        Found::Entry { fence, .. } => fence,
                        _ => fence,
                    };
                    self.inner.remove(name, fence).await
                }
                _ => self.inner.remove(name, fence).await,
            }
        })
    }

    fn wait<'a>(
        &'a self,
        name: &'a EntryName,
        lease: Fence,
        at_most: Duration,
    ) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        Box::pin(async move {
            match self.fault {
                Fault::WaitersSleep => tokio::time::sleep(at_most).await,
                Fault::WaitersIgnoreTheirLimit => {
                    self.inner
                        .wait(name, lease, Duration::from_secs(3600))
                        .await;
                }
                _ => self.inner.wait(name, lease, at_most).await,
            }
        })
    }
}

impl Faulty {
    async fn end_lease(&self, name: &EntryName) -> Result<(), BoxError> {
        let holder = self.holders.lock().unwrap().remove(name);
        match holder {
            Some(holder) => self.inner.release(name, &holder, Duration::ZERO).await,
            None => Ok(()),
        }
    }
}

async fn passes(fault: Fault) -> bool {
    let faulty = Faulty {
        inner: MemoryTokenStore::new(),
        fault,
        holders: Mutex::default(),
    };
    let task = tokio::spawn(async move { suite(&faulty, &faulty).await });
    match task.await {
        Ok(result) => result.is_ok(),
        Err(error) => !error.is_panic(),
    }
}

#[tokio::test(start_paused = true)]
async fn suite_notices_every_fault() {
    assert!(passes(Fault::None).await);
    for fault in [
        Fault::EverybodyGetsTheLease,
        Fault::KnownEntryIsReturned,
        Fault::EntryIsNeverReturned,
        Fault::FencesStartAgain,
        Fault::EverybodyRenews,
        Fault::NobodyRenews,
        Fault::EverybodyReleases,
        Fault::PauseIsIgnored,
        Fault::OlderEntryReplacesNewer,
        Fault::PutLeavesTheLease,
        Fault::PutEndsEveryLease,
        Fault::AnyEntryIsRemoved,
        Fault::NothingIsRemoved,
        Fault::WaitersSleep,
        Fault::WaitersIgnoreTheirLimit,
    ] {
        assert!(!passes(fault).await, "{fault:?} is not noticed");
    }
}
