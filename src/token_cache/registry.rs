//! Finds an entry by a number.
//!
//! A response that is on its way names the token it bears by two numbers. A counted pointer would be written by every
//! request, and all threads would wait for one cache line; this table is read on a refusal alone. It lies in shards, so that no call
//! moves all of it when it grows.

use std::{
    collections::HashMap,
    num::NonZeroU64,
    sync::{
        Arc, LazyLock, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
};

use super::entry::Entry;

const SHARDS: usize = 64;

type Shard = Mutex<HashMap<NonZeroU64, Weak<Entry>>>;

static ENTRIES: LazyLock<[Shard; SHARDS]> =
    LazyLock::new(|| std::array::from_fn(|_| Mutex::default()));

static REGISTERED: AtomicU64 = AtomicU64::new(0);

pub(super) fn register(entry: impl FnOnce(NonZeroU64) -> Entry) -> Arc<Entry> {
    let id = NonZeroU64::MIN.saturating_add(REGISTERED.fetch_add(1, Ordering::Relaxed));
    let entry = Arc::new(entry(id));
    lock(id).insert(id, Arc::downgrade(&entry));
    entry
}

pub(super) fn unregister(id: NonZeroU64) {
    lock(id).remove(&id);
}

pub(super) fn find(id: NonZeroU64) -> Option<Arc<Entry>> {
    lock(id).get(&id)?.upgrade()
}

fn lock(id: NonZeroU64) -> MutexGuard<'static, HashMap<NonZeroU64, Weak<Entry>>> {
    let shard = &ENTRIES[id.get() as usize % SHARDS];
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use tower::service_fn;

    use super::*;
    use crate::{BoxError, TokenCache, TokenRequest, TokenResponse, error::TokenError};

    /// Whether there is a place for an entry, dead or alive.
    fn has_place(id: NonZeroU64) -> bool {
        lock(id).contains_key(&id)
    }

    #[test]
    fn the_place_of_an_entry_goes_with_it() {
        let endpoint = service_fn(|_: TokenRequest| async {
            Err::<TokenResponse, BoxError>(TokenError::request("not asked").into())
        });
        let cache = TokenCache::builder(endpoint).max_entries(1).build();
        let id_of = |tenant| {
            let request = TokenRequest::client_credentials().parameter("tenant", tenant);
            cache.source(request).entry().map(|entry| entry.id())
        };
        let blue = id_of("blue").unwrap();
        assert!(has_place(blue) && find(blue).is_some());
        let red = id_of("red").unwrap();
        assert!(!has_place(blue) && has_place(red));
        drop(cache);
        assert!(!has_place(red));
    }
}
