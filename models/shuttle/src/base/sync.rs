//! The primitives that the checked files use, on top of shuttle.

use std::sync::atomic::Ordering;

pub(crate) use arc_swap::{ArcSwapOption, Guard};
use shuttle::sync::atomic::AtomicBool;
pub(crate) use shuttle::{
    sync::{Mutex, MutexGuard, atomic::AtomicU64},
    thread_local,
};
pub(crate) use tokio::sync::Notify;

/// Lets shuttle switch to another task at each call.
pub(crate) struct OnceLock<T> {
    value: std::sync::OnceLock<T>,
    is_set: AtomicBool,
}

impl<T> OnceLock<T> {
    pub(crate) fn new() -> Self {
        Self {
            value: std::sync::OnceLock::new(),
            is_set: AtomicBool::new(false),
        }
    }

    pub(crate) fn set(&self, value: T) -> Result<(), T> {
        self.value.set(value)?;
        self.is_set.store(true, Ordering::SeqCst);
        Ok(())
    }

    pub(crate) fn get_or_init(&self, init: impl FnOnce() -> T) -> &T {
        if self.get().is_none() {
            // `init` may switch to another task, so it does not run inside of the real lock.
            let _ = self.set(init());
        }
        let value = self.value.get();
        value.expect("it was just set, here or by another task")
    }

    pub(crate) fn get(&self) -> Option<&T> {
        let is_set = self.is_set.load(Ordering::SeqCst);
        self.value.get().filter(|_| is_set)
    }
}
