//! The entries of a cache, of which there is a greatest number.
//!
//! They lie in shards, so that a lookup rarely waits for another and no call moves all of them when a table grows. The bound is
//! on all shards together: keys are not spread evenly, and a full shard among others that have room would give up entries in use.
//!
//! Beyond the bound, a new entry takes the place of idle ones: the entries of a shard stand in a queue, and one that was used
//! since it was last at the front goes to the back once more. One that a [`TokenSource`](crate::TokenSource) holds is never given
//! up.

use std::{
    collections::{HashMap, VecDeque, hash_map},
    hash::{BuildHasher, BuildHasherDefault, Hash, Hasher, RandomState},
    num::NonZeroU64,
    sync::{
        Arc, LazyLock, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use super::{builder::Settings, entry::Entry};
use crate::message::TokenRequest;

const MAX_SHARDS: usize = 64;
const MIN_PER_SHARD: usize = 16;

/// So many entries are looked at to make room for a new one; if none of them is idle, there is one more than the bound for now.
///
/// All idle ones among them go until the bound is kept, so that what was too many is caught up with.
const MAX_EVICTION_ATTEMPTS: usize = 8;

pub(super) struct Entries {
    hash_seed: RandomState,
    shards: Box<[Mutex<Shard>]>,
    max: usize,
    len: AtomicUsize,
}

#[derive(Default)]
struct Shard {
    entries: HashMap<RequestKey, Arc<Entry>, BuildPrehashed>,
    queue: VecDeque<RequestKey>,
}

impl Entries {
    pub(super) fn new(max: usize) -> Self {
        let shards = (max / MIN_PER_SHARD).clamp(1, MAX_SHARDS);
        Self {
            hash_seed: RandomState::new(),
            shards: (0..shards).map(|_| Mutex::default()).collect(),
            max: max.max(1),
            len: AtomicUsize::new(0),
        }
    }

    /// The entry of a request, made if there is none.
    pub(super) fn get(&self, request: TokenRequest, settings: &Arc<Settings>) -> Arc<Entry> {
        if !request.extensions().is_empty() {
            // They are not compared, so this entry, which only says so, must not be found by others.
            return Entry::new(request, settings.clone());
        }
        let key = RequestKey::new(&self.hash_seed, request);
        // The table in the shard goes by the low bits.
        let index = (key.hash() >> 32) as usize % self.shards.len();
        // Dropped after the lock.
        let _idle;
        let mut shard = lock(&self.shards[index]);
        if let Some(entry) = shard.entries.get(&key) {
            entry.mark_used();
            return entry.clone();
        }
        _idle = self.make_room(&mut shard);
        let entry = Entry::new(key.clone().into_request(), settings.clone());
        shard.entries.insert(key.clone(), entry.clone());
        shard.queue.push_back(key);
        self.len.fetch_add(1, Ordering::Relaxed);
        entry
    }

    /// Takes out idle entries until there is room for one more. The shard at hand will do: when all are full, hardly one is empty.
    fn make_room(&self, shard: &mut Shard) -> Vec<Arc<Entry>> {
        let mut idle = Vec::new();
        for _ in 0..MAX_EVICTION_ATTEMPTS.min(shard.queue.len()) {
            if !self.is_full() {
                break;
            }
            if let Some(entry) = shard.take_first_if_idle() {
                self.len.fetch_sub(1, Ordering::Relaxed);
                idle.push(entry);
            }
        }
        idle
    }

    fn is_full(&self) -> bool {
        self.len.load(Ordering::Relaxed) >= self.max
    }

    /// All of them, as they are now.
    pub(super) fn all(&self) -> Vec<Arc<Entry>> {
        let shards = self.shards.iter().map(lock);
        shards
            .flat_map(|shard| shard.entries.values().cloned().collect::<Vec<_>>())
            .collect()
    }
}

impl Shard {
    fn take_first_if_idle(&mut self) -> Option<Arc<Entry>> {
        let key = self.queue.pop_front()?;
        if let hash_map::Entry::Occupied(entry) = self.entries.entry(key.clone()) {
            let is_idle = Arc::strong_count(entry.get()) == 1
                && !entry.get().take_used()
                && !entry.get().is_precious();
            if is_idle {
                return Some(entry.remove());
            }
        }
        self.queue.push_back(key);
        None
    }
}

/// Nothing panics while a shard is locked, so a poisoned one is sound.
fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A request with its hash, which is made once and serves to choose the shard and the place in it.
#[derive(Clone)]
struct RequestKey {
    hash: u64,
    request: TokenRequest,
}

impl RequestKey {
    fn new(hash_seed: &RandomState, request: TokenRequest) -> Self {
        Self {
            hash: hash_seed.hash_one(&request),
            request,
        }
    }

    fn hash(&self) -> u64 {
        self.hash
    }

    fn into_request(self) -> TokenRequest {
        self.request
    }
}

impl PartialEq for RequestKey {
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash && self.request == other.request
    }
}

impl Eq for RequestKey {}

impl Hash for RequestKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

/// Takes the hash that a [`RequestKey`] has already.
#[derive(Default)]
struct PrehashedHasher(u64);

type BuildPrehashed = BuildHasherDefault<PrehashedHasher>;

impl Hasher for PrehashedHasher {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

// Finds an entry by a number.
//
// A response that is on its way names the token it bears by two numbers. A counted pointer would be written by every
// request, and all threads would wait for one cache line; this table is read on a refusal alone. It lies in shards, so that no call
// moves all of it when it grows.

const ID_SHARDS: usize = 64;

type IdShard = Mutex<HashMap<NonZeroU64, Weak<Entry>>>;

static BY_ID: LazyLock<[IdShard; ID_SHARDS]> =
    LazyLock::new(|| std::array::from_fn(|_| Mutex::default()));

static REGISTERED: AtomicU64 = AtomicU64::new(0);

pub(super) fn register(entry: impl FnOnce(NonZeroU64) -> Entry) -> Arc<Entry> {
    let id = NonZeroU64::MIN.saturating_add(REGISTERED.fetch_add(1, Ordering::Relaxed));
    let entry = Arc::new(entry(id));
    lock_id(id).insert(id, Arc::downgrade(&entry));
    entry
}

pub(super) fn unregister(id: NonZeroU64) {
    lock_id(id).remove(&id);
}

pub(super) fn find_by_id(id: NonZeroU64) -> Option<Arc<Entry>> {
    lock_id(id).get(&id)?.upgrade()
}

fn lock_id(id: NonZeroU64) -> MutexGuard<'static, HashMap<NonZeroU64, Weak<Entry>>> {
    let shard = &BY_ID[id.get() as usize % ID_SHARDS];
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use tower::service_fn;

    use super::*;
    use crate::{BoxError, TokenCache, TokenRequest, TokenResponse, error::TokenError};

    /// Whether there is a place for an entry, dead or alive.
    fn has_place(id: NonZeroU64) -> bool {
        lock_id(id).contains_key(&id)
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
        assert!(has_place(blue) && find_by_id(blue).is_some());
        let red = id_of("red").unwrap();
        assert!(!has_place(blue) && has_place(red));
        drop(cache);
        assert!(!has_place(red));
    }
}
