//! Renews a token in the background even while nobody asks for it, so that callers do not wait.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::{runtime::Handle, task::AbortHandle, time};

use super::{
    entry::{CLOCK_LAG, Entry, Lookup},
    fetch,
    state::CachedToken,
};
use crate::error::TokenError;

/// The task that keeps an entry warm. Dropping this ends it.
pub(super) struct KeepWarm(AbortHandle);

/// The shortest pause, also between checks of a running fetch.
const MIN_PAUSE: Duration = Duration::from_secs(1);

/// The longest pause: the wall clock may be stepped while the timer sleeps.
const MAX_PAUSE: Duration = Duration::from_secs(60);

impl KeepWarm {
    pub(super) fn start(entry: &Arc<Entry>) -> Result<Self, TokenError> {
        let runtime = Handle::try_current().map_err(|_| fetch::no_runtime())?;
        let task = runtime.spawn(keep_warm(Arc::downgrade(entry)));
        Ok(Self(task.abort_handle()))
    }

    /// Returns whether the task runs, that is, whether its runtime has not ended.
    pub(super) fn is_running(&self) -> bool {
        !self.0.is_finished()
    }
}

impl Drop for KeepWarm {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Holds the entry only briefly: the last handle may be dropped while this sleeps or waits.
async fn keep_warm(weak: Weak<Entry>) {
    while let Some(entry) = weak.upgrade() {
        let lookup = entry.look_up();
        let pause = entry.until_due();
        drop(entry);
        match lookup {
            Lookup::Wait(waiter) => match waiter.outcome().await {
                // A token that expires before it can be used would otherwise be fetched in a loop.
                Some(Ok(cached)) if has_expired(&weak, &cached) => time::sleep(MAX_PAUSE).await,
                // So would one whose fetches are lost.
                None => time::sleep(MIN_PAUSE).await,
                Some(_) => {}
            },
            Lookup::Token(_) if pause.is_zero() => time::sleep(MIN_PAUSE).await,
            Lookup::Token(_) => time::sleep((pause + CLOCK_LAG).min(MAX_PAUSE)).await,
            Lookup::Failed(_) => time::sleep((pause + CLOCK_LAG).clamp(MIN_PAUSE, MAX_PAUSE)).await,
        }
    }
}

fn has_expired(weak: &Weak<Entry>, cached: &CachedToken) -> bool {
    weak.upgrade()
        .is_some_and(|entry| entry.now().has_reached(cached.expires_at))
}
