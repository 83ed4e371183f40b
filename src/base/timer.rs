//! Timers of tokio, for callers whose runtime may have none.
//!
//! A runtime that was built without `enable_time` has no timers. tokio panics when one is made there, and offers no way to ask first. Such
//! a runtime must be an error for the caller, not a panic. So:
//!
//! 1. Each thread asks once, when it first needs a timer: a thread of our own tries to make one in that runtime. If there are none,
//!    that thread panics and not the caller's, and the panic hook reports a thread whose name explains it.
//! 2. A thread that has seen a runtime with timers makes its next timer at once. If that fails after all, because the thread has
//!    entered another runtime in the meantime, the panic is caught.
//!
//! With `panic = "abort"` nothing can be caught, so nothing is tried: tokio's own message then ends the process.

use std::{
    cell::Cell,
    future::{Future, poll_fn},
    panic::catch_unwind,
    pin::Pin,
    task::Poll,
    thread,
    time::Duration,
};

use tokio::{runtime::Handle, time};

pub(crate) use tokio::time::Sleep;

const PROBE: &str =
    "tower-oauth2-client, which checks whether a tokio runtime has timers; it handles this panic";

/// What a thread knows about the timers of its runtime.
#[derive(Clone, Copy, PartialEq)]
enum Known {
    Nothing,
    HasTimers,
    HasNone,
}

thread_local! {
    static KNOWN: Cell<Known> = const { Cell::new(Known::Nothing) };
}

/// Returns whether the current thread is in a runtime, and that runtime has timers.
pub(crate) fn is_available() -> bool {
    Handle::try_current().is_ok_and(|runtime| match KNOWN.get() {
        Known::HasTimers => remember(catch_unwind(|| drop(time::sleep(Duration::ZERO))).is_ok()),
        Known::Nothing | Known::HasNone => remember(is_available_in(&runtime)),
    })
}

/// Returns whether the current thread has found that its runtime has no timers, without looking again.
pub(crate) fn is_known_to_be_missing() -> bool {
    KNOWN.get() == Known::HasNone
}

fn remember(has_timers: bool) -> bool {
    KNOWN.set(if has_timers {
        Known::HasTimers
    } else {
        Known::HasNone
    });
    has_timers
}

/// Returns whether a runtime has timers.
pub(crate) fn is_available_in(runtime: &Handle) -> bool {
    if cfg!(panic = "abort") {
        return true;
    }
    let runtime = runtime.clone();
    let probe = thread::Builder::new()
        .name(PROBE.to_owned())
        .spawn(move || {
            let _entered = runtime.enter();
            drop(time::sleep(Duration::ZERO));
        });
    // Without a thread nothing is known, and hardly any runtime lacks timers.
    probe.map_or(true, |probe| probe.join().is_ok())
}

/// Returns a timer of the current runtime, or `None` if there is no runtime or it has no timers.
pub(crate) fn sleep(time: Duration) -> Option<Sleep> {
    if KNOWN.get() != Known::HasTimers && !is_available() {
        return None;
    }
    Handle::try_current().ok()?;
    let sleep = catch_unwind(|| time::sleep(time)).ok();
    remember(sleep.is_some());
    sleep
}

/// Returns a timer of the current runtime, which has timers.
pub(crate) fn sleep_here(time: Duration) -> Sleep {
    time::sleep(time)
}

/// Returns a timer of a runtime that has timers. It needs no runtime where it is polled.
pub(crate) fn sleep_in(runtime: &Handle, time: Duration) -> Sleep {
    let _entered = runtime.enter();
    time::sleep(time)
}

/// Returns the output of a future, or `None` if the timer ends first.
///
/// Both are pinned elsewhere, so that they are not moved and this future is small.
pub(crate) fn unless_elapsed<F: Future>(
    mut timer: Pin<&mut Option<Sleep>>,
    mut future: Pin<&mut F>,
) -> impl Future<Output = Option<F::Output>> {
    poll_fn(move |cx| match future.as_mut().poll(cx) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => match timer.as_mut().as_pin_mut() {
            Some(timer) => timer.poll(cx).map(|()| None),
            None => Poll::Pending,
        },
    })
}

#[cfg(test)]
mod tests {
    use tokio::runtime::{Builder, Runtime};

    use super::*;

    fn runtime(has_timers: bool) -> Runtime {
        let mut builder = Builder::new_current_thread();
        if has_timers {
            builder.enable_time();
        }
        builder.build().unwrap()
    }

    /// In every order on one thread.
    #[test]
    fn timers_are_found_only_where_they_are() {
        for order in [[true, false], [false, true]] {
            thread::spawn(move || {
                for has_timers in order.repeat(2) {
                    let runtime = runtime(has_timers);
                    assert!(!is_available(), "there is no runtime here");
                    assert!(sleep(Duration::ZERO).is_none());
                    runtime.block_on(async {
                        assert_eq!(sleep(Duration::ZERO).is_some(), has_timers);
                        assert_eq!(is_available(), has_timers);
                        assert_eq!(is_known_to_be_missing(), !has_timers);
                    });
                    assert_eq!(is_available_in(runtime.handle()), has_timers);
                }
            })
            .join()
            .unwrap();
        }
    }
}
