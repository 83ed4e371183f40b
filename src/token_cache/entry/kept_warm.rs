//! An entry whose token is renewed even while nobody uses it.

use std::{sync::Arc, time::Duration};

use super::Entry;
use crate::{
    error::TokenError,
    token_cache::{
        keep_warm::KeepWarm,
        state::{self, Condition},
    },
};

impl Entry {
    /// Keeps the token warm for as long as this entry and the runtime live.
    pub(crate) fn keep_warm(self: &Arc<Self>) -> Result<(), TokenError> {
        let runtime = self.settings.runtime.get()?;
        let now = self.now();
        let mut state = self.lock();
        self.settings.shutdown.check()?;
        let is_running = |keep_warm: &KeepWarm| keep_warm.is_running(now);
        if !state.keep_warm.as_ref().is_some_and(is_running) {
            state.keep_warm = Some(KeepWarm::start(self, &runtime));
        }
        Ok(())
    }

    /// Notes that the task which keeps the token warm will look again after this time at the latest.
    pub(crate) fn keep_warm_is_back_after(&self, pause: Duration) {
        let back_at = self.now().after(pause);
        if let Some(keep_warm) = &mut self.lock().keep_warm {
            keep_warm.back_at(back_at);
        }
    }

    /// Returns the time until the token is to be renewed, or until the pause after a failure ends.
    pub(crate) fn until_due(&self) -> Duration {
        let now = self.now();
        let state = self.lock();
        let cached = self.current.load();
        match state::classify(cached.as_ref(), state.failure.as_deref(), now) {
            Condition::Fresh(cached) => now.until(cached.stale_at),
            Condition::Failed(failure) => failure.remaining(now),
            _ => match &state.failure {
                Some(failure) => failure.remaining(now),
                None => Duration::ZERO,
            },
        }
    }
}
