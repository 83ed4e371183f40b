//! Catches the panic of a future that others wait for.

use std::{
    future::{Future, poll_fn},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    task::Poll,
};

/// Returns the output of a future, or `None` if it panicked.
///
/// `std::thread::panicking` cannot replace this. When a panic shuts down a runtime, the runtime drops its tasks while the
/// thread is panicking, although those tasks did not panic.
pub(crate) async fn catch_panic<F: Future>(future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    // `AssertUnwindSafe` is fine here: after a panic, the future is not polled again.
    poll_fn(
        |cx| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
            Ok(poll) => poll.map(Some),
            Err(_) => Poll::Ready(None),
        },
    )
    .await
}
