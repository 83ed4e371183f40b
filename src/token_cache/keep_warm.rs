//! Renews a token in the background even while nobody asks for it, so that callers do not wait.

use std::{
    pin::pin,
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::{runtime::Handle, task::AbortHandle, time};

use super::{
    builder::Settings,
    entry::{Entry, FetchWaiter, Lookup, Waited},
    state::CachedToken,
};
use crate::base::clock::{CLOCK_LAG, Moment};

/// The task that keeps an entry warm. Dropping this ends it.
pub(super) struct KeepWarm {
    task: AbortHandle,
    /// When the task has to be back at the latest.
    back_at: Moment,
}

/// The shortest pause, also between checks of a running fetch.
pub(super) const MIN_PAUSE: Duration = Duration::from_secs(1);

/// The longest pause: the wall clock may be stepped while the timer sleeps.
pub(super) const MAX_PAUSE: Duration = Duration::from_secs(60);

/// A task that comes back so much too late is not driven.
const MAX_DELAY: Duration = Duration::from_secs(2);

impl KeepWarm {
    pub(super) fn start(entry: &Arc<Entry>, runtime: &Handle) -> Self {
        let keep_warm = keep_warm(Arc::downgrade(entry), entry.settings().clone());
        Self {
            task: runtime.spawn(keep_warm).abort_handle(),
            back_at: entry.now(),
        }
    }

    /// Returns whether the task runs: its runtime has not ended, and somebody drives it.
    pub(super) fn is_running(&self, now: Moment) -> bool {
        !self.task.is_finished() && !now.has_outlasted(self.back_at.after(MAX_DELAY))
    }

    pub(super) fn back_at(&mut self, back_at: Moment) {
        self.back_at = back_at;
    }
}

impl Drop for KeepWarm {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Holds the entry only briefly: the last handle may be dropped while this sleeps or waits.
async fn keep_warm(weak: Weak<Entry>, settings: Arc<Settings>) {
    while let Some(entry) = weak.upgrade() {
        let lookup = entry.look_up();
        let until_due = entry.until_due();
        drop(entry);
        let pause = match lookup {
            Lookup::Token(_) if until_due.is_zero() => MIN_PAUSE,
            Lookup::Token(_) => (until_due + CLOCK_LAG).min(MAX_PAUSE),
            Lookup::Failed(_) => (until_due + CLOCK_LAG).clamp(MIN_PAUSE, MAX_PAUSE),
            Lookup::Wait(waiter) => match wait(waiter, &weak, &settings).await {
                // A token that expires before it can be used would otherwise be fetched in a loop.
                Waited::Landed(Ok(cached)) if has_expired(&weak, &cached) => MAX_PAUSE,
                // So would one whose fetches are lost.
                Waited::Lost => MIN_PAUSE,
                Waited::Landed(_) | Waited::GivenUp => continue,
                Waited::Undriven(silent) => {
                    if let Some(entry) = weak.upgrade() {
                        entry.take_over(&silent);
                    }
                    continue;
                }
            },
        };
        back_after(pause, &weak);
        time::sleep(pause).await;
    }
}

async fn wait(mut waiter: FetchWaiter, weak: &Weak<Entry>, settings: &Settings) -> Waited {
    let mut waiting = pin!(async {
        waiter.until_started(settings).await;
        waiter.wait(settings).await
    });
    loop {
        back_after(MIN_PAUSE, weak);
        if let Ok(waited) = time::timeout(MIN_PAUSE, waiting.as_mut()).await {
            return waited;
        }
    }
}

fn back_after(pause: Duration, weak: &Weak<Entry>) {
    if let Some(entry) = weak.upgrade() {
        entry.keep_warm_is_back_after(pause);
    }
}

fn has_expired(weak: &Weak<Entry>, cached: &CachedToken) -> bool {
    weak.upgrade()
        .is_some_and(|entry| entry.now().has_reached(cached.expires_at))
}
