//! The primitives that the checked files use, on top of loom.
//!
//! What is assumed of the real ones:
//!
//! 1. `OnceLock`: `set` releases and `get` acquires. The value of one of two concurrent calls of `set` is set; the other fails.
//! 2. `Notify` of tokio: `notify_waiters` reaches each `Notified` that was created before, whether it was polled or not. `notified`
//!    acquires what an earlier `notify_waiters` released, if it sees that call. Wakers are called without a lock.
//! 3. `ArcSwapOption`: `store` releases and `load` acquires.

use std::{
    collections::BTreeMap,
    future::Future,
    mem,
    pin::Pin,
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll, Waker},
};

use loom::sync::atomic::{AtomicBool, AtomicUsize};
pub(crate) use loom::sync::{Mutex, MutexGuard, atomic::AtomicU64};

/// Only `is_set` is visible to loom, which runs all threads of a model on one.
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
        self.is_set.store(true, Ordering::Release);
        Ok(())
    }

    pub(crate) fn get(&self) -> Option<&T> {
        let is_set = self.is_set.load(Ordering::Acquire);
        self.value.get().filter(|_| is_set)
    }
}

pub(crate) struct Notify {
    /// How often `notify_waiters` was called. Written under the lock only.
    calls: AtomicUsize,
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    admitted: u64,
    wakers: BTreeMap<u64, Option<Waker>>,
}

impl Notify {
    pub(crate) fn new() -> Self {
        Self {
            calls: AtomicUsize::new(0),
            waiting: Mutex::new(Waiting::default()),
        }
    }

    pub(crate) fn notified(&self) -> Notified<'_> {
        Notified {
            notify: self,
            calls: self.calls.load(Ordering::Acquire),
            state: State::New,
        }
    }

    pub(crate) fn notify_waiters(&self) {
        let wakers = {
            let mut waiting = self.waiting.lock().unwrap();
            self.calls.fetch_add(1, Ordering::AcqRel);
            mem::take(&mut waiting.wakers)
        };
        for waker in wakers.into_values().flatten() {
            waker.wake();
        }
    }
}

pub(crate) struct Notified<'a> {
    notify: &'a Notify,
    calls: usize,
    state: State,
}

#[derive(Clone, Copy)]
enum State {
    New,
    Waiting(u64),
    Done,
}

impl Notified<'_> {
    pub(crate) fn enable(self: Pin<&mut Self>) -> bool {
        self.get_mut().look(None)
    }

    /// Returns whether it has been notified. Otherwise it keeps the waker.
    fn look(&mut self, waker: Option<&Waker>) -> bool {
        let mut waiting = self.notify.waiting.lock().unwrap();
        // Only this thread and others under the lock write it, so this is no stale value.
        let is_notified = self.notify.calls.load(Ordering::Acquire) != self.calls;
        match (self.state, is_notified) {
            (State::Done, _) => return true,
            (_, true) => {
                self.state = State::Done;
                return true;
            }
            (State::New, false) => {
                waiting.admitted += 1;
                self.state = State::Waiting(waiting.admitted);
            }
            (State::Waiting(_), false) => {}
        }
        if let State::Waiting(number) = self.state {
            waiting.wakers.insert(number, waker.cloned());
        }
        false
    }
}

impl Future for Notified<'_> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.get_mut().look(Some(cx.waker())) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }
}

impl Drop for Notified<'_> {
    fn drop(&mut self) {
        if let State::Waiting(number) = self.state {
            let waker = self.notify.waiting.lock().unwrap().wakers.remove(&number);
            drop(waker);
        }
    }
}

/// Values that were ever stored are kept, and loom sees the index of the current one.
pub(crate) struct ArcSwapOption<T> {
    values: std::sync::Mutex<Vec<Option<Arc<T>>>>,
    current: AtomicUsize,
}

pub(crate) type Guard<T> = Box<T>;

impl<T> ArcSwapOption<T> {
    pub(crate) fn empty() -> Self {
        Self {
            values: std::sync::Mutex::new(vec![None]),
            current: AtomicUsize::new(0),
        }
    }

    pub(crate) fn store(&self, value: Option<Arc<T>>) {
        let index = {
            let mut values = self.values.lock().unwrap();
            values.push(value);
            values.len() - 1
        };
        self.current.swap(index, Ordering::AcqRel);
    }

    pub(crate) fn load(&self) -> Guard<Option<Arc<T>>> {
        Box::new(self.load_full())
    }

    pub(crate) fn load_full(&self) -> Option<Arc<T>> {
        let index = self.current.load(Ordering::Acquire);
        self.values.lock().unwrap()[index].clone()
    }
}
