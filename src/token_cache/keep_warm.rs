//! Renews a token that nobody asks for, so that whoever does ask never waits.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::{runtime::Handle, task::AbortHandle, time};

use super::{
    entry::{Entry, Lookup},
    fetch,
};
use crate::error::TokenError;

/// The task that keeps an entry warm; it ends with this.
pub(super) struct KeepWarm(AbortHandle);

/// The coarse clock lags behind the timer by so much at most.
const CLOCK_LAG: Duration = Duration::from_millis(10);

/// A fetch that is under way is looked after so often; a token is looked at at least so often, since the wall clock may be
/// stepped while the timer sleeps.
const MIN_PAUSE: Duration = Duration::from_secs(1);
const MAX_PAUSE: Duration = Duration::from_secs(60);

impl KeepWarm {
    pub(super) fn start(entry: &Arc<Entry>) -> Result<Self, TokenError> {
        let runtime = Handle::try_current().map_err(|_| fetch::no_runtime())?;
        let task = runtime.spawn(keep_warm(Arc::downgrade(entry)));
        Ok(Self(task.abort_handle()))
    }

    /// Whether the runtime that runs it has not ended.
    pub(super) fn is_going(&self) -> bool {
        !self.0.is_finished()
    }
}

impl Drop for KeepWarm {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Holds the entry only for moments: while this sleeps or waits, the last handle may go.
async fn keep_warm(entry: Weak<Entry>) {
    while let Some(held) = entry.upgrade() {
        let lookup = held.look_up();
        let pause = held.until_due();
        drop(held);
        match lookup {
            Lookup::Wait(waiter) => {
                let outcome = waiter.outcome().await;
                // A token without a use would be fetched without end; so would one that no runtime fetches.
                match (outcome, entry.upgrade()) {
                    (Some(Ok(held)), Some(entry)) if entry.now().has_reached(held.expires_at) => {
                        drop(entry);
                        time::sleep(MAX_PAUSE).await;
                    }
                    (None, _) => time::sleep(MIN_PAUSE).await,
                    _ => {}
                }
            }
            Lookup::Token(_) if pause.is_zero() => time::sleep(MIN_PAUSE).await,
            Lookup::Token(_) => time::sleep((pause + CLOCK_LAG).min(MAX_PAUSE)).await,
            Lookup::Failed(_) => time::sleep((pause + CLOCK_LAG).clamp(MIN_PAUSE, MAX_PAUSE)).await,
        }
    }
}
