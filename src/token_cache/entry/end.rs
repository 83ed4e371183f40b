//! How an entry ends: the cache evicts it, the user retires it, or the cache is shut down.

use std::sync::{Arc, Weak, atomic::Ordering};

use super::Entry;
use crate::{base::clock::Moment, token_cache::entries};

impl Entry {
    /// Returns whether the cache may forget this entry without losing the response to a fetch.
    fn may_be_evicted(&self, now: Moment) -> bool {
        let state = self.lock();
        let fetch = state.fetch.as_ref();
        fetch.is_none_or(|fetch| fetch.is_lost(now))
    }

    /// Returns whether the cache may forget this entry because nobody holds it, and marks it as forgotten then.
    ///
    /// The caller owns the one handle that the cache has. An index may make another at any time with [`upgrade`](Self::upgrade), so the
    /// mark is set first, and both look at what the other has done.
    pub(crate) fn try_evict(self: &Arc<Self>, now: Moment) -> bool {
        if Arc::strong_count(self) > 1 || !self.may_be_evicted(now) {
            return false;
        }
        self.is_evicted.store(true, Ordering::SeqCst);
        let is_idle = Arc::strong_count(self) == 1;
        if !is_idle {
            self.is_evicted.store(false, Ordering::SeqCst);
        }
        is_idle
    }

    /// Returns the entry if the cache still has it.
    pub(crate) fn upgrade(entry: &Weak<Self>) -> Option<Arc<Self>> {
        let entry = entry.upgrade()?;
        (!entry.is_evicted.load(Ordering::SeqCst)).then_some(entry)
    }

    /// Returns whether the cache of this entry was shut down.
    pub(crate) fn is_shut_down(&self) -> bool {
        self.settings.shutdown.check().is_err()
    }

    /// Drops the token, cancels its fetch, and keeps it warm no longer.
    pub(crate) fn retire(&self) {
        let keep_warm = self.lock().keep_warm.take();
        drop(keep_warm);
        self.clear();
    }

    /// Ends everything that runs in the background, except a fetch that may have sent a one-time credential.
    pub(crate) fn shut_down(&self) {
        let mut state = self.lock();
        let _keep_warm = state.keep_warm.take();
        let is_one_time = state.grant.is_one_time();
        let cancelled = state
            .fetch
            .take_if(|fetch| fetch.flight.ground() || !is_one_time);
        let place = state.leave_queue();
        drop(state);
        drop(place);
        if let Some(fetch) = cancelled {
            fetch.give_up();
        }
        self.wake_watchers();
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        entries::unregister(self.id);
    }
}
