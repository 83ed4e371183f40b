//! A value that every thread reads without a lock, and its generation.
//!
//! 1. One thread writes at a time: the caller holds a lock.
//! 2. The generation changes whenever the value does, after it. So a thread that sees a generation also sees its value or a later one,
//!    and a copy of the value is current while the generation stays the same.

use std::sync::{Arc, atomic::Ordering};

use super::sync::{ArcSwapOption, AtomicU64, Guard};

pub(crate) struct Published<T> {
    generation: AtomicU64,
    value: ArcSwapOption<T>,
}

impl<T> Published<T> {
    pub(crate) fn empty() -> Self {
        Self {
            generation: AtomicU64::new(0),
            value: ArcSwapOption::empty(),
        }
    }

    /// Returns the generation of the current value.
    #[inline]
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Returns the current value without counting a reference to it, because all threads would write to one cache line.
    #[inline]
    pub(crate) fn load(&self) -> Guard<Option<Arc<T>>> {
        self.value.load()
    }

    pub(crate) fn load_full(&self) -> Option<Arc<T>> {
        self.value.load_full()
    }

    pub(crate) fn publish(&self, value: Option<Arc<T>>, generation: u64) {
        // In this order, because of rule 2.
        self.value.store(value);
        self.generation.store(generation, Ordering::Release);
    }
}
