//! The current token of an entry, which every thread reads without a lock.
//!
//! 1. One thread writes at a time: the one that holds the lock of the entry.
//! 2. The generation changes whenever the token does, after it. So whoever sees a generation sees its token or a later one, and a copy
//!    of a token is the current one while its generation stands.

use std::sync::{Arc, atomic::Ordering};

use crate::base::sync::{ArcSwapOption, AtomicU64, Guard};

pub(super) struct Published<T> {
    generation: OwnLine<AtomicU64>,
    value: ArcSwapOption<T>,
}

/// Separates what every thread reads from what one of them writes.
#[repr(align(128))]
struct OwnLine<T>(T);

impl<T> Published<T> {
    pub(super) fn empty() -> Self {
        Self {
            generation: OwnLine(AtomicU64::new(0)),
            value: ArcSwapOption::empty(),
        }
    }

    /// Returns which value is current.
    #[inline]
    pub(super) fn generation(&self) -> u64 {
        self.generation.0.load(Ordering::Acquire)
    }

    /// Returns the current value without cloning its `Arc`: all threads would write to the reference count.
    #[inline]
    pub(super) fn load(&self) -> Guard<Option<Arc<T>>> {
        self.value.load()
    }

    pub(super) fn load_full(&self) -> Option<Arc<T>> {
        self.value.load_full()
    }

    pub(super) fn publish(&self, value: Option<Arc<T>>, generation: u64) {
        // In this order, because of rule 2.
        self.value.store(value);
        self.generation.0.store(generation, Ordering::Release);
    }
}
