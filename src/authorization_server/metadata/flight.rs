//! One fetch that everybody who waits for it drives.
//!
//! 1. Whichever waiter is polled polls the fetch. So it goes on when the one who began it is dropped, panics, or is not polled
//!    any more, and it needs no task.
//! 2. It ends with the last waiter.
//! 3. No waiter blocks another: one that finds the fetch being polled goes back to sleep. If what woke it came while the fetch
//!    was being polled, it is woken once more after that.

use std::{
    collections::BTreeMap,
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, TryLockError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use super::ServerMetadata;
use crate::error::TokenError;

/// What a fetch came to.
pub(super) type Outcome = Result<Arc<ServerMetadata>, TokenError>;

pub(super) struct Flight {
    fetch: Mutex<Fetch>,
    waiters: Arc<Waiters>,
}

enum Fetch {
    Going(Pin<Box<dyn Future<Output = Outcome> + Send>>),
    Landed(Outcome),
}

impl Flight {
    /// `fetch` must not panic: those who wait would do so one after another.
    pub(super) fn new(fetch: impl Future<Output = Outcome> + Send + 'static) -> Arc<Self> {
        Arc::new(Self {
            fetch: Mutex::new(Fetch::Going(Box::pin(fetch))),
            waiters: Arc::default(),
        })
    }

    pub(super) fn join(self: Arc<Self>) -> Waiter {
        Waiter {
            number: self.waiters.admit(),
            flight: self,
        }
    }

    fn poll(&self) -> Poll<Outcome> {
        let polled = {
            let mut fetch = match self.fetch.try_lock() {
                Ok(fetch) => fetch,
                Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
                Err(TryLockError::WouldBlock) => return Poll::Pending,
            };
            let going = match &mut *fetch {
                Fetch::Landed(outcome) => return Poll::Ready(outcome.clone()),
                Fetch::Going(going) => going,
            };
            let waker = Waker::from(self.waiters.clone());
            // Whatever came before is seen by this poll, whatever comes later by the look at it after the lock.
            self.waiters.called.store(false, Ordering::SeqCst);
            let polled = going.as_mut().poll(&mut Context::from_waker(&waker));
            if let Poll::Ready(outcome) = &polled {
                *fetch = Fetch::Landed(outcome.clone());
            }
            polled
        };
        if polled.is_ready() || self.waiters.called.load(Ordering::SeqCst) {
            self.waiters.wake_all();
        }
        polled
    }
}

/// Waits for a flight, and drives it.
pub(super) struct Waiter {
    flight: Arc<Flight>,
    number: u64,
}

impl Future for Waiter {
    type Output = Outcome;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Outcome> {
        self.flight.waiters.set(self.number, cx.waker());
        self.flight.poll()
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        self.flight.waiters.dismiss(self.number);
    }
}

/// Who is to be woken when the fetch can go on: everybody, since each of them may never be polled again.
#[derive(Default)]
struct Waiters {
    inner: Mutex<Inner>,
    /// Whether the fetch has called since it was last polled.
    called: AtomicBool,
}

#[derive(Default)]
struct Inner {
    admitted: u64,
    wakers: BTreeMap<u64, Waker>,
}

impl Waiters {
    fn admit(&self) -> u64 {
        let mut inner = self.lock();
        inner.admitted += 1;
        inner.admitted
    }

    fn set(&self, number: u64, waker: &Waker) {
        let old = self.lock().wakers.insert(number, waker.clone());
        // The waker of another may do anything when it is dropped, so not under the lock.
        drop(old);
    }

    fn dismiss(&self, number: u64) {
        let old = self.lock().wakers.remove(&number);
        drop(old);
    }

    fn wake_all(&self) {
        let wakers = std::mem::take(&mut self.lock().wakers);
        for waker in wakers.into_values() {
            waker.wake();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wake for Waiters {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.called.store(true, Ordering::SeqCst);
        self.wake_all();
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::sync::oneshot;
    use tokio_test::{assert_pending, assert_ready, task};

    use super::*;

    fn failed() -> Outcome {
        Err(TokenError::request("told so"))
    }

    fn flight() -> (oneshot::Sender<()>, Arc<Flight>) {
        let (end, ended) = oneshot::channel();
        let flight = Flight::new(async {
            let _ = ended.await;
            failed()
        });
        (end, flight)
    }

    #[test]
    fn whoever_is_left_drives_the_fetch() {
        let (end, flight) = flight();
        let mut first = task::spawn(flight.clone().join());
        let mut second = task::spawn(flight.clone().join());
        let mut third = task::spawn(flight.join());
        assert_pending!(first.poll());
        assert_pending!(second.poll());
        assert_pending!(third.poll());
        end.send(()).unwrap();
        drop(first);

        // The second is alive, and nobody polls it.
        assert!(second.is_woken() && third.is_woken());
        assert!(assert_ready!(third.poll()).is_err());
        assert!(assert_ready!(second.poll()).is_err());
    }

    #[test]
    fn it_ends_with_the_last_waiter() {
        let (end, flight) = flight();
        let mut first = task::spawn(flight.clone().join());
        let second = flight.join();
        assert_pending!(first.poll());
        drop(first);
        assert!(!end.is_closed());
        drop(second);
        assert!(end.is_closed());
    }

    #[test]
    fn who_comes_while_another_polls_is_woken_if_the_fetch_called_meanwhile() {
        for calls in [true, false] {
            // The fetch polls a second waiter of its own while the first one polls it.
            let second = Arc::new(Mutex::new(None));
            let inner = second.clone();
            let flight = Flight::new(poll_fn(move |cx| {
                if calls {
                    cx.waker().wake_by_ref();
                }
                let mut second = inner.lock().unwrap();
                let second: &mut task::Spawn<Waiter> = second.as_mut().unwrap();
                assert_pending!(second.poll());
                Poll::Pending
            }));
            *second.lock().unwrap() = Some(task::spawn(flight.clone().join()));
            let mut first = task::spawn(flight.join());
            assert_pending!(first.poll());

            // Else two that wait would wake each other for ever.
            assert_eq!(second.lock().unwrap().as_ref().unwrap().is_woken(), calls);
            // The cycle that this test made.
            second.lock().unwrap().take();
        }
    }

    #[test]
    fn many_threads_get_one_outcome() {
        for _ in 0..100 {
            let (end, flight) = flight();
            std::thread::scope(|scope| {
                for _ in 0..4 {
                    let waiter = flight.clone().join();
                    scope.spawn(move || assert!(block_on(waiter).is_err()));
                }
                end.send(()).unwrap();
            });
        }
    }

    fn block_on(waiter: Waiter) -> Outcome {
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        runtime.unwrap().block_on(waiter)
    }
}
