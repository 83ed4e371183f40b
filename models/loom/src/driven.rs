//! A flight that its waiters drive.

use std::{
    future::{Future, poll_fn},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll, Waker},
};

use loom::{
    future::block_on,
    sync::{Mutex, atomic::AtomicUsize},
    thread,
};

use crate::{base::single_flight::driven::Driven, model};

/// Something that happens once and calls the last waker it was given, as an I/O resource does.
#[derive(Clone)]
struct Event(Arc<Mutex<(bool, Option<Waker>)>>);

impl Event {
    fn new() -> Self {
        Self(Arc::new(Mutex::new((false, None))))
    }

    fn happen(&self) {
        let waker = {
            let mut event = self.0.lock().unwrap();
            event.0 = true;
            event.1.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn poll(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut event = self.0.lock().unwrap();
        if event.0 {
            return Poll::Ready(());
        }
        event.1 = Some(cx.waker().clone());
        Poll::Pending
    }

    fn driven(&self) -> Arc<Driven<u8>> {
        let event = self.clone();
        Driven::new(poll_fn(move |cx| event.poll(cx).map(|()| 7)))
    }
}

fn wait(driven: Arc<Driven<u8>>) -> thread::JoinHandle<()> {
    thread::spawn(move || assert_eq!(block_on(driven.outcome()), Some(7)))
}

fn poll_once<T>(waiter: &mut Pin<Box<impl Future<Output = T>>>) -> Poll<T> {
    // Nobody listens to it: a waiter that is not polled again, whatever wakes it.
    waiter
        .as_mut()
        .poll(&mut Context::from_waker(Waker::noop()))
}

pub fn every_waiter_is_woken() {
    model(3, || {
        let event = Event::new();
        let driven = event.driven();
        let first = wait(driven.clone());
        let second = wait(driven);
        event.happen();
        first.join().unwrap();
        second.join().unwrap();
    });
}

/// An outcome at whose clone loom switches threads. It does not do so at the end of a critical section, and so would not see that a
/// waiter finds a lock taken by another that only reads the outcome.
struct Slow(Arc<AtomicUsize>);

impl Clone for Slow {
    fn clone(&self) -> Self {
        self.0.fetch_add(1, Ordering::Relaxed);
        Self(self.0.clone())
    }
}

pub fn waiters_that_join_after_the_end_do_not_hinder_each_other() {
    model(3, || {
        let outcome = Slow(Arc::new(AtomicUsize::new(0)));
        let driven = Driven::new(async { outcome });
        assert!(block_on(driven.clone().outcome()).is_some());
        let waiters = [driven.clone(), driven]
            .map(|driven| thread::spawn(move || block_on(driven.outcome()).is_some()));
        for waiter in waiters {
            assert!(waiter.join().unwrap());
        }
    });
}

pub fn a_waiter_goes_on_when_another_is_dropped_after_its_first_poll() {
    model(4, || {
        let event = Event::new();
        let driven = event.driven();
        let dropped = driven.clone();
        let dropped = thread::spawn(move || {
            let mut waiter = Box::pin(dropped.outcome());
            let _ = poll_once(&mut waiter);
        });
        let waiter = wait(driven);
        event.happen();
        dropped.join().unwrap();
        waiter.join().unwrap();
    });
}

pub fn a_waiter_goes_on_when_another_is_alive_but_no_longer_polled() {
    model(4, || {
        let event = Event::new();
        let driven = event.driven();
        let idle = driven.clone();
        let idle = thread::spawn(move || {
            let mut waiter = Box::pin(idle.outcome());
            let polled = poll_once(&mut waiter);
            (waiter, polled)
        });
        let waiter = wait(driven);
        event.happen();
        waiter.join().unwrap();
        let (mut waiter, polled) = idle.join().unwrap();
        let polled_later = match polled {
            Poll::Ready(_) => polled,
            Poll::Pending => poll_once(&mut waiter),
        };
        assert_eq!(polled_later, Poll::Ready(Some(7)));
    });
}

/// A future that takes two events, so that the waker is called more than once.
pub fn a_waiter_goes_on_when_the_future_takes_several_steps() {
    model(4, || {
        let (first, second) = (Event::new(), Event::new());
        let driven = Driven::new({
            let (first, second) = (first.clone(), second.clone());
            async move {
                poll_fn(|cx| first.poll(cx)).await;
                poll_fn(|cx| second.poll(cx)).await;
                7
            }
        });
        let dropped = driven.clone();
        let dropped = thread::spawn(move || {
            let mut waiter = Box::pin(dropped.outcome());
            let _ = poll_once(&mut waiter);
        });
        let waiter = wait(driven);
        first.happen();
        second.happen();
        dropped.join().unwrap();
        waiter.join().unwrap();
    });
}

pub fn the_future_is_dropped_with_the_last_waiter() {
    model(3, || {
        let event = Event::new();
        let held = Arc::new(());
        let alive = Arc::downgrade(&held);
        let driven = Driven::new({
            let event = event.clone();
            poll_fn(move |cx| {
                let _ = &held;
                event.poll(cx).map(|()| 7)
            })
        });
        let waiters = [driven.clone(), driven].map(|driven| {
            thread::spawn(move || {
                let mut waiter = Box::pin(driven.outcome());
                assert_eq!(poll_once(&mut waiter), Poll::Pending);
            })
        });
        for waiter in waiters {
            waiter.join().unwrap();
        }
        // The event still has the waker, which must not keep the future alive.
        assert!(alive.upgrade().is_none());
        event.happen();
    });
}

pub fn a_panic_of_the_future_is_the_end_for_every_waiter() {
    model(3, || {
        let driven = Driven::<u8>::new(poll_fn(|_| std::panic::resume_unwind(Box::new("told to"))));
        let waiters = [driven.clone(), driven].map(|driven| {
            thread::spawn(move || {
                let outcome = catch_unwind(AssertUnwindSafe(|| block_on(driven.outcome())));
                u8::from(outcome.is_err()) + u8::from(matches!(outcome, Ok(Some(_)))) * 8
            })
        });
        let panicked: u8 = waiters.into_iter().map(|it| it.join().unwrap()).sum();
        assert_eq!(panicked, 1, "the waiter that polled it, and no other");
    });
}
