//! Finds an entry: by its request within one cache, or by its number within the process.
//!
//! Both tables are split into shards, so that a lookup rarely waits for another, and no call moves all entries when a table grows.
//!
//! A cache has a greatest number of entries. It counts all shards together, because keys are not spread evenly: a full shard beside
//! others with room would evict entries that are in use.
//!
//! When the cache is full, a new entry takes the place of idle ones. The entries of a shard form a queue. An entry that was used since
//! it was last at the front goes to the back again. One that a [`TokenSource`](crate::TokenSource) holds is never evicted, nor one whose
//! fetch is under way. What must outlive an entry is in [`super::fetch::spent`].

use std::{
    collections::{HashMap, VecDeque, hash_map},
    hash::{BuildHasher, BuildHasherDefault, Hash, Hasher, RandomState},
    num::NonZeroU64,
    sync::{
        Arc, LazyLock, PoisonError, Weak,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use super::{builder::Settings, entry::Entry};
use crate::{
    base::{
        clock::Moment,
        sync::{Mutex, MutexGuard},
    },
    message::TokenRequest,
};

pub(super) const MAX_SHARDS: usize = 64;
pub(super) const MIN_PER_SHARD: usize = 16;

/// How many entries a new one looks at to make room. If none of them is idle, the cache exceeds its limit by one for now.
///
/// A new entry evicts all idle ones among them until the limit is kept again, so that an earlier excess goes away.
const MAX_EVICTION_ATTEMPTS: usize = 8;

/// The entries of one cache.
pub(super) struct Entries {
    /// Random, so that nobody who chooses requests can make their hashes collide.
    hash_seed: RandomState,
    shards: Box<[Mutex<Shard>]>,
    max: usize,
    len: AtomicUsize,
}

#[derive(Default)]
struct Shard {
    entries: HashMap<RequestKey, Arc<Entry>, BuildHasherDefault<Prehashed>>,
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

    /// Returns the greatest number of entries.
    pub(super) fn max(&self) -> usize {
        self.max
    }

    /// Returns the entry of a request, and makes one if there is none.
    pub(super) fn get(&self, request: TokenRequest, settings: &Arc<Settings>) -> Arc<Entry> {
        let key = RequestKey::new(&self.hash_seed, request);
        // Dropped after the lock.
        let _evicted;
        let mut shard = lock(&self.shards[self.shard_of(&key)]);
        if let Some(entry) = shard.entries.get(&key) {
            entry.mark_used();
            return entry.clone();
        }
        _evicted = self.make_room(&mut shard, settings);
        let entry = Entry::new(key.request.clone(), settings.clone());
        recall_polling(&entry, settings);
        shard.entries.insert(key.clone(), entry.clone());
        shard.queue.push_back(key);
        self.len.fetch_add(1, Ordering::Relaxed);
        entry
    }

    /// Returns the entry of a request, if there is one.
    pub(super) fn find(&self, request: &TokenRequest) -> Option<Arc<Entry>> {
        let key = RequestKey::new(&self.hash_seed, request.clone());
        let shard = lock(&self.shards[self.shard_of(&key)]);
        shard.entries.get(&key).cloned()
    }

    fn shard_of(&self, key: &RequestKey) -> usize {
        // The table within the shard uses the low bits.
        (key.hash >> 32) as usize % self.shards.len()
    }

    /// Evicts idle entries of this shard until there is room for one more. If all shards together are full, hardly one is empty.
    fn make_room(&self, shard: &mut Shard, settings: &Settings) -> Vec<Arc<Entry>> {
        let now = settings.clock.now();
        let mut evicted = Vec::new();
        for _ in 0..MAX_EVICTION_ATTEMPTS.min(shard.queue.len()) {
            if !self.is_full() {
                break;
            }
            if let Some(entry) = shard.take_first_if_idle(now) {
                self.len.fetch_sub(1, Ordering::Relaxed);
                note_polling(&entry, settings, now);
                evicted.push(entry);
            }
        }
        evicted
    }

    fn is_full(&self) -> bool {
        self.len.load(Ordering::Relaxed) >= self.max
    }

    /// Removes the entry of a request, unless somebody holds it or its fetch is under way. Returns whether it is gone.
    pub(super) fn remove_if_idle(&self, request: &TokenRequest, now: Moment) -> bool {
        let key = RequestKey::new(&self.hash_seed, request.clone());
        // Dropped after the lock.
        let _removed;
        let mut shard = lock(&self.shards[self.shard_of(&key)]);
        let Some(entry) = shard.entries.get(&key) else {
            return true;
        };
        if !entry.try_evict(now) {
            return false;
        }
        _removed = shard.entries.remove(&key);
        shard.queue.retain(|other| *other != key);
        self.len.fetch_sub(1, Ordering::Relaxed);
        true
    }

    /// Returns all entries at this time.
    pub(super) fn all(&self) -> Vec<Arc<Entry>> {
        let shards = self.shards.iter().map(lock);
        shards
            .flat_map(|shard| shard.entries.values().cloned().collect::<Vec<_>>())
            .collect()
    }
}

impl Shard {
    fn take_first_if_idle(&mut self, now: Moment) -> Option<Arc<Entry>> {
        let key = self.queue.pop_front()?;
        if let hash_map::Entry::Occupied(entry) = self.entries.entry(key.clone()) {
            let is_held = Arc::strong_count(entry.get()) > 1;
            if !is_held && !entry.get().take_used() && entry.get().try_evict(now) {
                return Some(entry.remove());
            }
        }
        self.queue.push_back(key);
        None
    }
}

/// Notes how often the server asked to be polled with the credential of an evicted entry.
fn note_polling(entry: &Entry, settings: &Settings, now: Moment) {
    if let Some(polling) = entry.polling()
        && entry.request().has_known_one_time_credential()
    {
        let digest = settings.spent.digest(entry.request());
        settings.spent.note_polling(digest, polling, now);
    }
}

/// Restores what [`note_polling`] noted, before anybody uses the new entry.
fn recall_polling(entry: &Entry, settings: &Settings) {
    let request = entry.request();
    if request.carries_one_time_credential() && request.has_known_one_time_credential() {
        let digest = settings.spent.digest(request);
        if let Some(polling) = settings.spent.polling(digest, entry.now()) {
            entry.keep_polling(polling);
        }
    }
}

/// Nothing panics while a shard is locked, so a poisoned lock is sound.
fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The whole request, compared by structure, with its hash.
///
/// The hash is computed once. It selects the shard, and the place in the table of the shard.
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

/// Returns the hash that a [`RequestKey`] contains.
#[derive(Default)]
pub(super) struct Prehashed(u64);

impl Hasher for Prehashed {
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

type NumberedEntries = HashMap<NonZeroU64, Weak<Entry>>;

/// All entries of the process by their numbers.
///
/// A response that is on its way names the entry of its token by this number. A counted pointer would be written by each request, and
/// all threads would wait for one cache line; this table is read only when an API refuses a token.
///
/// Its locks are not those of [`base::sync`](crate::base::sync), because the model checks cannot replace the locks of a static.
static BY_ID: LazyLock<[std::sync::Mutex<NumberedEntries>; MAX_SHARDS]> =
    LazyLock::new(|| std::array::from_fn(|_| std::sync::Mutex::default()));

static REGISTERED: AtomicU64 = AtomicU64::new(0);

/// Gives an entry its number, and makes it available to [`find_by_id`].
pub(super) fn register(entry: impl FnOnce(NonZeroU64) -> Entry) -> Arc<Entry> {
    let id = NonZeroU64::MIN.saturating_add(REGISTERED.fetch_add(1, Ordering::Relaxed));
    let entry = Arc::new(entry(id));
    lock_by_id(id).insert(id, Arc::downgrade(&entry));
    entry
}

pub(super) fn unregister(id: NonZeroU64) {
    lock_by_id(id).remove(&id);
}

pub(super) fn find_by_id(id: NonZeroU64) -> Option<Arc<Entry>> {
    lock_by_id(id).get(&id)?.upgrade()
}

fn lock_by_id(id: NonZeroU64) -> std::sync::MutexGuard<'static, NumberedEntries> {
    let shard = &BY_ID[id.get() as usize % MAX_SHARDS];
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use tower::service_fn;

    use super::*;
    use crate::{BoxError, TokenCache, TokenRequest, TokenResponse, error::TokenError};

    fn is_registered(id: NonZeroU64) -> bool {
        lock_by_id(id).contains_key(&id)
    }

    #[test]
    fn entry_is_unregistered_when_it_is_evicted_or_its_cache_is_dropped() {
        let endpoint = service_fn(|_: TokenRequest| async {
            Err::<TokenResponse, BoxError>(TokenError::request("not asked").into())
        });
        let cache = TokenCache::builder(endpoint).max_entries(1).build();
        let id_of = |tenant| {
            let request = TokenRequest::client_credentials().parameter("tenant", tenant);
            cache.source(request).entry().map(|entry| entry.id())
        };
        let blue = id_of("blue").unwrap();
        assert!(is_registered(blue) && find_by_id(blue).is_some());
        let red = id_of("red").unwrap();
        assert!(!is_registered(blue) && is_registered(red));
        drop(cache);
        assert!(!is_registered(red));
    }
}
