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
    sync::{
        Arc, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use super::{
    entry::Entry,
    key::{HashAsIs, Key, Keyed},
    settings::Settings,
};
use crate::{
    base::sync::{Mutex, MutexGuard},
    message::TokenRequest,
};

const MAX_SHARDS: usize = 64;
const FEWEST_IN_A_SHARD: usize = 16;

/// So many entries are looked at to make room for a new one; if none of them is idle, there is one more than the bound for now.
///
/// All idle ones among them go until the bound is kept, so that what was too many is caught up with.
const LOOK_AT: usize = 8;

pub(super) struct Entries {
    keyed: Keyed,
    shards: Box<[Mutex<Shard>]>,
    max: usize,
    len: AtomicUsize,
}

#[derive(Default)]
struct Shard {
    entries: HashMap<Key, Arc<Entry>, HashAsIs>,
    queue: VecDeque<Key>,
}

impl Entries {
    pub(super) fn new(max: usize) -> Self {
        let shards = (max / FEWEST_IN_A_SHARD).clamp(1, MAX_SHARDS);
        Self {
            keyed: Keyed::new(),
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
        let key = Key::new(&self.keyed, request);
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
        for _ in 0..LOOK_AT.min(shard.queue.len()) {
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
