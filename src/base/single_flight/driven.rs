//! A flight that its waiters drive: it needs no task and no runtime.
//!
//! 1. Whichever waiter is polled polls the future. So it goes on when the waiter that began it is dropped or is no longer polled.
//! 2. The future is dropped with the last waiter, and as soon as it is ready. If it panics, the flight is lost.
//! 3. At most one waiter polls the future at a time: the one that has taken the turn. No waiter blocks another: one that finds the turn
//!    taken waits for a notification, and all locks are held for a few instructions only, never while foreign code runs.
//! 4. The waker of the future notifies all waiters, since each of them may never be polled again. If it is called while the turn is
//!    taken, they are notified when the turn ends: earlier they would find it taken, and the waiter that had it may be dropped before
//!    its next poll.
//! 5. A waiter creates its notification before it tries to take the turn, and looks at the end of the flight after it. So whatever the
//!    holder of the turn does next (end the turn, land, be lost) is either seen by that look or notifies the waiter.
//! 6. A waiter polls the future at most once per poll of its own, unless another thread calls the waker meanwhile. So other
//!    tasks get to run when the future wakes itself in order to yield.

use std::{
    future::{Future, poll_fn},
    mem,
    pin::{Pin, pin},
    sync::{Arc, PoisonError},
    task::{Context, Poll, Wake, Waker},
};

use super::{End, Flight, Landing, Shared};
use crate::base::sync::{Mutex, MutexGuard};

/// A future that is polled by those who wait for its output.
pub(crate) struct Driven<T> {
    /// Empty while a waiter polls the future, and after the end.
    work: Mutex<Option<Work<T>>>,
    calls: Arc<Calls<T>>,
}

struct Work<T> {
    future: Pin<Box<dyn Future<Output = T> + Send>>,
    landing: Landing<T>,
}

/// The waker of the future. It does not own the future, which could otherwise keep itself alive.
struct Calls<T> {
    turn: Mutex<Turn>,
    shared: Arc<Shared<T>>,
}

/// Whether a waiter polls the future right now.
#[derive(PartialEq)]
enum Turn {
    Free,
    /// It stays taken after the end of the flight.
    Taken,
    /// Taken, and the waiters are to be notified at its end, because the waker of the future has been called.
    Called,
}

impl<T: Clone + Send + Sync + 'static> Driven<T> {
    pub(crate) fn new(future: impl Future<Output = T> + Send + 'static) -> Arc<Self> {
        let (flight, landing) = Flight::new();
        let future = Box::pin(future);
        Arc::new(Self {
            work: Mutex::new(Some(Work { future, landing })),
            calls: Arc::new(Calls {
                turn: Mutex::new(Turn::Free),
                shared: flight.0,
            }),
        })
    }

    /// Drives the future and returns its output, or `None` if it panicked.
    pub(crate) async fn outcome(self: Arc<Self>) -> Option<T> {
        let shared = &self.calls.shared;
        loop {
            let mut notified = pin!(shared.ended.notified());
            if shared.end.get().is_none() {
                self.poll();
            }
            match shared.end.get() {
                Some(End::Landed(outcome)) => return Some(outcome.clone()),
                Some(End::Lost | End::GivenUp) => return None,
                None => {}
            }
            if notified.as_mut().enable() {
                yield_now().await;
            } else {
                notified.await;
            }
        }
    }

    /// Polls the future, unless another waiter does so right now.
    fn poll(&self) {
        if !self.calls.take_turn() {
            return;
        }
        // Taken out, so that a panic of the future drops it and loses the flight.
        let work = lock(&self.work).take();
        let Some(Work {
            mut future,
            landing,
        }) = work
        else {
            return;
        };
        let waker = Waker::from(self.calls.clone());
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(outcome) => {
                drop(future);
                landing.land(outcome);
            }
            Poll::Pending => {
                // Before the turn ends, so that the next one finds it.
                *lock(&self.work) = Some(Work { future, landing });
                self.calls.end_turn();
            }
        }
    }
}

impl<T> Calls<T> {
    /// Returns whether the turn was free.
    fn take_turn(&self) -> bool {
        let mut turn = lock(&self.turn);
        let is_free = *turn == Turn::Free;
        if is_free {
            *turn = Turn::Taken;
        }
        is_free
    }

    fn end_turn(&self) {
        let turn = mem::replace(&mut *lock(&self.turn), Turn::Free);
        if turn == Turn::Called {
            self.shared.ended.notify_waiters();
        }
    }
}

impl<T: Send + Sync + 'static> Wake for Calls<T> {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let is_free = {
            let mut turn = lock(&self.turn);
            let is_free = *turn == Turn::Free;
            if !is_free {
                *turn = Turn::Called;
            }
            is_free
        };
        if is_free {
            self.shared.ended.notify_waiters();
        }
    }
}

/// No code that is ours panics while it holds a lock, so a poisoned one is sound.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Needs no runtime, unlike that of tokio.
async fn yield_now() {
    let mut has_yielded = false;
    poll_fn(|cx| {
        if mem::replace(&mut has_yielded, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

#[cfg(test)]
mod tests {
    use std::{
        panic::{AssertUnwindSafe, catch_unwind},
        sync::atomic::{AtomicBool, Ordering},
        thread,
    };

    use tokio::sync::oneshot;
    use tokio_test::{assert_pending, assert_ready_eq, task};

    use super::*;

    type Outcome = Result<u8, oneshot::error::RecvError>;

    fn driven() -> (oneshot::Sender<u8>, Arc<Driven<Outcome>>) {
        let (end, ended) = oneshot::channel();
        (end, Driven::new(ended))
    }

    #[test]
    fn any_waiter_drives_the_future() {
        let (end, driven) = driven();
        let mut first = task::spawn(driven.clone().outcome());
        let mut second = task::spawn(driven.clone().outcome());
        let mut third = task::spawn(driven.outcome());
        assert_pending!(first.poll());
        assert_pending!(second.poll());
        assert_pending!(third.poll());
        end.send(7).unwrap();
        drop(first);

        // The second waiter is alive, but it is not polled.
        assert!(second.is_woken() && third.is_woken());
        assert_ready_eq!(third.poll(), Some(Ok(7)));
        assert_ready_eq!(second.poll(), Some(Ok(7)));
    }

    #[test]
    fn a_waiter_that_joins_after_the_end_gets_the_outcome() {
        let (end, driven) = driven();
        end.send(7).unwrap();
        let mut first = task::spawn(driven.clone().outcome());
        assert_ready_eq!(first.poll(), Some(Ok(7)));
        let mut second = task::spawn(driven.outcome());
        assert_ready_eq!(second.poll(), Some(Ok(7)));
    }

    #[test]
    fn the_future_is_dropped_with_the_last_waiter() {
        let (end, driven) = driven();
        let mut first = task::spawn(driven.clone().outcome());
        let second = driven.outcome();
        assert_pending!(first.poll());
        drop(first);
        assert!(!end.is_closed());
        drop(second);
        assert!(end.is_closed());
    }

    #[test]
    fn a_panic_of_the_future_loses_the_flight() {
        let panics = Arc::new(AtomicBool::new(false));
        let driven = Driven::new(poll_fn({
            let panics = panics.clone();
            move |_| -> Poll<()> {
                assert!(!panics.load(Ordering::Relaxed), "told to");
                Poll::Pending
            }
        }));
        let mut first = task::spawn(driven.clone().outcome());
        let mut second = task::spawn(driven.clone().outcome());
        assert_pending!(first.poll());
        assert_pending!(second.poll());

        panics.store(true, Ordering::Relaxed);
        let mut third = task::spawn(driven.outcome());
        assert!(catch_unwind(AssertUnwindSafe(|| third.poll())).is_err());
        assert!(first.is_woken() && second.is_woken());
        assert_ready_eq!(first.poll(), None);
        assert_ready_eq!(second.poll(), None);
    }

    #[test]
    fn a_waiter_that_finds_the_turn_taken_is_woken_only_if_the_waker_was_called() {
        for calls in [true, false] {
            // The future polls a second waiter of its own while the first one polls it.
            let second = Arc::new(std::sync::Mutex::new(None));
            let inner = second.clone();
            let driven = Driven::new(poll_fn(move |cx| -> Poll<()> {
                if calls {
                    cx.waker().wake_by_ref();
                }
                let mut second = inner.lock().unwrap();
                let second: &mut task::Spawn<Pin<Box<dyn Future<Output = _> + Send>>> =
                    second.as_mut().unwrap();
                assert_pending!(second.poll());
                Poll::Pending
            }));
            let waiter: Pin<Box<dyn Future<Output = Option<()>> + Send>> =
                Box::pin(driven.clone().outcome());
            *second.lock().unwrap() = Some(task::spawn(waiter));
            let mut first = task::spawn(driven.outcome());
            assert_pending!(first.poll());

            // Otherwise two waiters would wake each other forever.
            assert_eq!(second.lock().unwrap().as_ref().unwrap().is_woken(), calls);
            assert_eq!(first.is_woken(), calls);
            // Breaks the reference cycle that this test made.
            second.lock().unwrap().take();
        }
    }

    #[test]
    fn a_future_that_wakes_itself_is_polled_once_per_poll_of_the_waiter() {
        let mut polls = 0;
        let driven = Driven::new(poll_fn(move |cx| {
            polls += 1;
            cx.waker().wake_by_ref();
            if polls < 3 {
                Poll::Pending
            } else {
                Poll::Ready(polls)
            }
        }));
        let mut waiter = task::spawn(driven.outcome());
        for _ in 0..2 {
            assert_pending!(waiter.poll());
            assert!(waiter.is_woken());
        }
        assert_ready_eq!(waiter.poll(), Some(3));
    }

    #[test]
    fn waiters_on_many_threads_get_one_outcome() {
        for _ in 0..1000 {
            let (end, driven) = driven();
            thread::scope(|scope| {
                for _ in 0..4 {
                    let waiter = driven.clone().outcome();
                    scope.spawn(move || assert_eq!(block_on(waiter), Some(Ok(7))));
                }
                end.send(7).unwrap();
            });
        }
    }

    fn block_on<F: Future>(waiter: F) -> F::Output {
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        runtime.unwrap().block_on(waiter)
    }
}
