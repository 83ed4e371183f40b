//! The panic of a future that others wait for.

use std::{
    future::{Future, poll_fn},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    task::Poll,
};

/// The output of a future, or `None` if it panicked.
///
/// That a thread panics does not tell: a runtime that is torn down by a panic drops its tasks, and such a flight is lost.
pub(crate) async fn catch_panic<F: Future>(future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    // It is not polled again after a panic.
    poll_fn(
        |cx| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
            Ok(poll) => poll.map(Some),
            Err(_) => Poll::Ready(None),
        },
    )
    .await
}
