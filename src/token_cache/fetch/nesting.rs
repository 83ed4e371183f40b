//! Whether a task runs a fetch. A fetch for which another fetch waits does not wait for a slot: the other one might hold the last.

use std::{
    cell::Cell,
    future::{Future, poll_fn},
    pin::pin,
};

use crate::base::sync::thread_local;

thread_local! {
    static IS_WITHIN_A_FETCH: Cell<bool> = const { Cell::new(false) };
}

/// Returns whether the current task runs a fetch, of any cache, which waits for what is called now.
pub(crate) fn is_within_a_fetch() -> bool {
    IS_WITHIN_A_FETCH.with(Cell::get)
}

/// Runs a fetch, and marks its task as such.
pub(super) async fn within_a_fetch<F: Future>(fetch: F) -> F::Output {
    let mut fetch = pin!(fetch);
    poll_fn(|cx| {
        let _restored = Restored(IS_WITHIN_A_FETCH.with(|is_within| is_within.replace(true)));
        fetch.as_mut().poll(cx)
    })
    .await
}

/// Restores the flag even if the fetch panics.
struct Restored(bool);

impl Drop for Restored {
    fn drop(&mut self) {
        IS_WITHIN_A_FETCH.with(|is_within| is_within.set(self.0));
    }
}
