//! `PerServer`: a value for each of a bounded number of servers.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// The maximum number of servers. If there are more, the server whose value is the oldest is forgotten.
pub(crate) const MAX: usize = 1024;

/// The latest value of each server.
pub(crate) struct PerServer<K, V>(Mutex<Known<K, V>>);

struct Known<K, V> {
    values: HashMap<K, Stored<V>>,
    stored: u64,
}

struct Stored<V> {
    value: V,
    /// How many values were stored before.
    number: u64,
}

impl<K: Clone + Eq + Hash, V: Clone> PerServer<K, V> {
    pub(crate) fn get(&self, server: &K) -> Option<V> {
        let known = self.lock();
        Some(known.values.get(server)?.value.clone())
    }

    pub(crate) fn set(&self, server: K, value: V) {
        self.lock().set(server, value);
    }

    /// Returns the value of a server, which is a new one if there is none.
    pub(crate) fn get_or_insert_with(&self, server: K, value: impl FnOnce() -> V) -> V {
        let mut known = self.lock();
        if let Some(stored) = known.values.get(&server) {
            return stored.value.clone();
        }
        let value = value();
        known.set(server, value.clone());
        value
    }

    fn lock(&self) -> MutexGuard<'_, Known<K, V>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Clone + Eq + Hash, V> Known<K, V> {
    fn set(&mut self, server: K, value: V) {
        let known = self;
        known.stored += 1;
        let number = known.stored;
        known.values.insert(server, Stored { value, number });
        if known.values.len() > MAX {
            let oldest = known.values.iter().min_by_key(|(_, stored)| stored.number);
            if let Some(oldest) = oldest.map(|(server, _)| server.clone()) {
                known.values.remove(&oldest);
            }
        }
    }
}

impl<K, V> Default for PerServer<K, V> {
    fn default() -> Self {
        Self(Mutex::new(Known {
            values: HashMap::new(),
            stored: 0,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn oldest_value_is_dropped_at_the_limit() {
        let values = PerServer::default();
        for server in 0..=MAX {
            values.set(server, ());
        }
        assert_eq!(values.lock().values.len(), MAX);
        assert_eq!(values.get(&0), None);
        assert_eq!(values.get(&1), Some(()));
        assert_eq!(values.get(&MAX), Some(()));
    }
}
