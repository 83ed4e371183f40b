//! `Rounds`: how often something is authorized for, and how that failed.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::{error::NotAuthorized, table::Stop};
use crate::{add_access_token::step_up::pace::Pace, base::clock::Moment};

/// The rounds for a resource, or those that requests to one path have started.
#[derive(Default)]
pub(super) struct Rounds(Mutex<State>);

#[derive(Default)]
struct State {
    pace: Pace,
    failure: Option<NotAuthorized>,
}

impl Rounds {
    /// Starts a round, or says why it is too early.
    pub(super) fn start(&self, now: Moment, max_rounds: u32) -> Result<(), Stop> {
        let mut state = self.lock();
        if state.pace.start_round(now, max_rounds) {
            return Ok(());
        }
        Err(state.failure.clone().map_or(Stop::Keep, Stop::Failed))
    }

    pub(super) fn note_failure(
        &self,
        now: Moment,
        failure: &NotAuthorized,
        wait: Option<Duration>,
    ) {
        let mut state = self.lock();
        state.pace.note_failure(now, wait);
        state.failure = Some(failure.clone());
    }

    pub(super) fn note_success(&self) {
        let mut state = self.lock();
        state.pace.note_success();
        state.failure = None;
    }

    /// Until the next round, requests get this error.
    pub(super) fn end(&self, failure: &NotAuthorized) {
        self.lock().failure = Some(failure.clone());
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
