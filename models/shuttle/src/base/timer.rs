//! Timers that end when the model says so.

use std::{
    future::{Future, Pending, pending, poll_fn},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    runtime::Handle,
    time::{Timeout, timeout},
};

/// Without a timeout, it never ends.
pub(crate) struct Sleep(Option<Pin<Box<Timeout<Pending<()>>>>>);

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.0 {
            Some(timeout) => timeout.as_mut().poll(cx).map(drop),
            None => Poll::Pending,
        }
    }
}

pub(crate) fn is_available() -> bool {
    true
}

pub(crate) fn is_known_to_be_missing() -> bool {
    false
}

pub(crate) fn is_available_in(_: &Handle) -> bool {
    true
}

pub(crate) fn sleep(time: Duration) -> Option<Sleep> {
    Some(Sleep(Some(Box::pin(timeout(time, pending())))))
}

/// The heartbeat of a fetch is not needed: shuttle may keep a task that can run from running, and that looks the same.
pub(crate) fn sleep_here(_: Duration) -> Sleep {
    Sleep(None)
}

pub(crate) fn sleep_in(_: &Handle, time: Duration) -> Sleep {
    Sleep(Some(Box::pin(timeout(time, pending()))))
}

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
