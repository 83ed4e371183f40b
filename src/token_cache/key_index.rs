//! Finds the entry of a key of the user's, without its request.
//!
//! 1. The index never keeps an entry: it has weak pointers, and the cache evicts entries as if there were no index.
//! 2. It is limited in number like the cache. A key that it has lost is found again through its request, which takes longer.
//! 3. A pointer whose entry is gone still holds the memory of that entry. So each new key looks at the two oldest keys, and removes those
//!    whose entry is gone. That removes them as fast as the cache evicts entries, and no call has to look at all keys.
//! 4. A request may be made while its key is forgotten. It may be the old one, so its entry is not noted then: see [`KeyIndex::epoch`].

use std::{
    borrow::Borrow,
    collections::{HashMap, VecDeque},
    hash::{BuildHasher, BuildHasherDefault, Hash, RandomState},
    mem,
    sync::{Arc, PoisonError, Weak},
};

use super::{
    entries::{MAX_SHARDS, MIN_PER_SHARD, Prehashed},
    entry::Entry,
};
use crate::base::sync::{Mutex, MutexGuard};

/// How many old keys a new one looks at.
const LOOKS: usize = 2;

pub(super) struct KeyIndex<K> {
    /// Random, so that nobody who chooses keys can make their hashes collide.
    hash_seed: RandomState,
    shards: Box<[Mutex<Shard<K>>]>,
    max_per_shard: usize,
}

/// The keys of a shard by their hashes. Two keys with the same hash take turns, which happens by a chance of one in 2^64.
struct Shard<K> {
    slots: HashMap<u64, Slot<K>, BuildHasherDefault<Prehashed>>,
    /// The hashes in `slots`, each once.
    queue: VecDeque<u64>,
    /// How often keys of this shard were forgotten.
    epoch: u64,
}

struct Slot<K> {
    key: K,
    entry: Weak<Entry>,
}

impl<K> KeyIndex<K> {
    /// Creates an index for about `max` keys. They are not spread evenly, so each shard has room for some more.
    pub(super) fn new(max: usize) -> Self {
        let shards = (max / MIN_PER_SHARD).clamp(1, MAX_SHARDS);
        let share = max.max(1).div_ceil(shards);
        Self {
            hash_seed: RandomState::new(),
            shards: (0..shards).map(|_| Mutex::default()).collect(),
            max_per_shard: share.saturating_add(share / 8),
        }
    }

    pub(super) fn hash<Q: Hash + ?Sized>(&self, key: &Q) -> u64 {
        self.hash_seed.hash_one(key)
    }

    /// Returns the entry of a key, if it is known and the cache still has it.
    pub(super) fn find<Q>(&self, hash: u64, key: &Q) -> Option<Arc<Entry>>
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
    {
        let shard = self.lock(hash);
        let slot = shard.slots.get(&hash)?;
        let entry = match slot.key.borrow() == key {
            true => Entry::upgrade(&slot.entry),
            false => None,
        };
        drop(shard);
        entry
    }

    /// Returns a number that changes when the key of this hash is forgotten. Read it before you make the request of the key.
    pub(super) fn epoch(&self, hash: u64) -> u64 {
        self.lock(hash).epoch
    }

    /// Notes the entry of a key, unless the key was forgotten since this epoch.
    pub(super) fn insert(&self, hash: u64, epoch: u64, key: K, entry: &Arc<Entry>) {
        let slot = Slot {
            key,
            entry: Arc::downgrade(entry),
        };
        let mut shard = self.lock(hash);
        if shard.epoch != epoch {
            drop(shard);
            return;
        }
        // A key that is replaced needs no room.
        let max = match shard.slots.contains_key(&hash) {
            true => usize::MAX,
            false => self.max_per_shard,
        };
        let removed = shard.make_room(max);
        let replaced = shard.slots.insert(hash, slot);
        if replaced.is_none() {
            shard.queue.push_back(hash);
        }
        drop(shard);
        // After the lock, because to drop a key is foreign code.
        drop((removed, replaced));
    }

    /// Forgets a key. Returns its entry, if the key was known.
    pub(super) fn remove<Q>(&self, key: &Q) -> Option<Weak<Entry>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let hash = self.hash(key);
        let mut shard = self.lock(hash);
        shard.epoch += 1;
        let removed = match shard.slots.get(&hash) {
            Some(slot) if slot.key.borrow() == key => shard.slots.remove(&hash),
            _ => None,
        };
        if removed.is_some() {
            shard.queue.retain(|other| *other != hash);
        }
        drop(shard);
        removed.map(|slot| slot.entry)
    }

    /// Forgets all keys.
    pub(super) fn clear(&self) {
        for shard in &self.shards {
            let mut shard = lock(shard);
            shard.epoch += 1;
            let keys = (mem::take(&mut shard.slots), mem::take(&mut shard.queue));
            drop(shard);
            drop(keys);
        }
    }

    fn lock(&self, hash: u64) -> MutexGuard<'_, Shard<K>> {
        // The table within the shard uses the low bits.
        lock(&self.shards[(hash >> 32) as usize % self.shards.len()])
    }
}

impl<K> Shard<K> {
    /// Removes the oldest keys whose entries are gone, and one more if the shard is full.
    fn make_room(&mut self, max: usize) -> [Option<Slot<K>>; LOOKS] {
        [(); LOOKS].map(|()| {
            let oldest = self.queue.pop_front()?;
            let slot = self.slots.get(&oldest)?;
            if slot.entry.strong_count() == 0 || self.slots.len() >= max {
                return self.slots.remove(&oldest);
            }
            self.queue.push_back(oldest);
            None
        })
    }
}

impl<K> Default for Shard<K> {
    fn default() -> Self {
        Self {
            slots: HashMap::default(),
            queue: VecDeque::new(),
            epoch: 0,
        }
    }
}

/// A key that panics while it is compared changes nothing, so a poisoned lock is sound.
fn lock<K>(shard: &Mutex<Shard<K>>) -> MutexGuard<'_, Shard<K>> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use tower::service_fn;

    use super::*;
    use crate::{BoxError, TokenCache, TokenRequest, TokenResponse, error::TokenError};

    fn cache(max_entries: usize) -> TokenCache {
        let endpoint = service_fn(|_: TokenRequest| async {
            Err::<TokenResponse, BoxError>(TokenError::request("not asked").into())
        });
        TokenCache::builder(endpoint)
            .max_entries(max_entries)
            .build()
    }

    fn entry(cache: &TokenCache, tenant: u32) -> Arc<Entry> {
        let request = TokenRequest::client_credentials().parameter("tenant", tenant.to_string());
        cache.source(request).entry().unwrap().clone()
    }

    fn len<K>(index: &KeyIndex<K>) -> usize {
        let shards = index.shards.iter().map(lock);
        shards
            .map(|shard| {
                assert_eq!(shard.slots.len(), shard.queue.len());
                assert!(
                    shard
                        .queue
                        .iter()
                        .all(|hash| shard.slots.contains_key(hash))
                );
                shard.slots.len()
            })
            .sum()
    }

    fn insert(index: &KeyIndex<u32>, key: u32, entry: &Arc<Entry>) {
        let hash = index.hash(&key);
        index.insert(hash, index.epoch(hash), key, entry);
    }

    #[test]
    fn number_of_keys_is_limited_even_if_one_entry_has_them_all() {
        for max in [1, 2, 15, 100, 1_000, 5_000] {
            let (index, cache) = (KeyIndex::new(max), cache(10));
            let entry = entry(&cache, 0);
            for key in 0..10 * max as u32 {
                insert(&index, key, &entry);
                assert!(index.find(index.hash(&key), &key).is_some());
            }
            let len = len(&index);
            assert!(
                (max / 2..=max + max / 8 + MAX_SHARDS).contains(&len),
                "{len} of {max}"
            );
        }
    }

    /// Between the decision of the cache to evict an entry and its end, somebody may look it up.
    #[test]
    fn entry_that_the_cache_evicts_is_not_found_and_one_that_is_found_is_not_evicted() {
        let index = KeyIndex::new(100);
        let entry = {
            let cache = cache(1);
            entry(&cache, 0)
        };
        insert(&index, 7, &entry);
        let now = entry.now();
        let found = index.find(index.hash(&7), &7).unwrap();
        assert!(!entry.try_evict(now), "it is held");
        drop(found);
        assert!(entry.try_evict(now));
        assert!(index.find(index.hash(&7), &7).is_none());
    }

    /// While the cache evicts entries, the memory of those that are gone is not held for long.
    #[test]
    fn keys_of_evicted_entries_go_as_fast_as_new_ones_come() {
        let (index, cache) = (KeyIndex::new(10_000), cache(100));
        for key in 0..20_000 {
            insert(&index, key, &entry(&cache, key));
            if key % 1_000 == 0 {
                assert!(len(&index) <= 600, "{} at {key}", len(&index));
            }
        }
    }

    #[test]
    fn forgotten_and_replaced_keys_leave_nothing_behind() {
        let (index, cache) = (KeyIndex::new(100), cache(100));
        let entries = [entry(&cache, 0), entry(&cache, 1)];
        for _ in 0..1_000 {
            for entry in &entries {
                insert(&index, 7, entry);
                let found = index.find(index.hash(&7), &7).unwrap();
                assert!(Arc::ptr_eq(&found, entry));
            }
            assert_eq!(len(&index), 1);
            assert!(index.remove(&7).is_some() && index.remove(&7).is_none());
            assert_eq!(len(&index), 0);
        }
        insert(&index, 7, &entries[0]);
        index.clear();
        assert_eq!(len(&index), 0);
    }

    /// The request may have been made before the change for which the key was forgotten.
    #[test]
    fn an_entry_is_not_noted_if_its_key_was_forgotten_in_the_meantime() {
        let (index, cache) = (KeyIndex::new(100), cache(100));
        let (entry, hash) = (entry(&cache, 0), index.hash(&7));
        let forget: [fn(&KeyIndex<u32>); 2] = [|index| drop(index.remove(&7)), KeyIndex::clear];
        for forget in forget {
            let epoch = index.epoch(hash);
            forget(&index);
            index.insert(hash, epoch, 7, &entry);
            assert!(index.find(hash, &7).is_none());
            insert(&index, 7, &entry);
            assert!(index.find(hash, &7).is_some());
        }
    }

    #[test]
    fn another_key_with_the_same_hash_is_not_found() {
        let (index, cache) = (KeyIndex::new(100), cache(100));
        let entries = [entry(&cache, 0), entry(&cache, 1)];
        index.insert(1, 0, 10, &entries[0]);
        assert!(index.find(1, &11).is_none());
        index.insert(1, 0, 11, &entries[1]);
        assert!(Arc::ptr_eq(&index.find(1, &11).unwrap(), &entries[1]));
        assert!(index.find(1, &10).is_none());
    }
}
