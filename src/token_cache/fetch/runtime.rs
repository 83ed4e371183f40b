//! The runtime that fetches run on: the one that was set, or that of the caller.

use std::{future::Future, pin::pin, sync::OnceLock, time::Duration};

use tokio::runtime::Handle;

use crate::{
    base::timer::{self, Sleep},
    error::{TokenError, TokenErrorKind::NoRuntime},
};

/// The runtime of a cache, if one was set.
#[derive(Default)]
pub(crate) struct FetchRuntime(Option<Given>);

struct Given {
    runtime: Handle,
    has_timers: OnceLock<bool>,
}

impl FetchRuntime {
    pub(crate) fn new(runtime: Handle) -> Self {
        Self(Some(Given {
            runtime,
            has_timers: OnceLock::new(),
        }))
    }

    /// Returns the runtime for a new task. It has timers.
    ///
    /// Do not call it while a lock is held: a panic hook may run.
    pub(crate) fn get(&self) -> Result<Handle, TokenError> {
        let (runtime, has_timers) = match &self.0 {
            Some(given) => (given.runtime.clone(), given.has_timers()),
            None => {
                let runtime = Handle::try_current().map_err(|_| no_runtime())?;
                (runtime, timer::is_available())
            }
        };
        if has_timers {
            Ok(runtime)
        } else {
            Err(no_timers())
        }
    }

    /// Like [`get`](Self::get), but does not look again for timers that were missing.
    pub(crate) fn get_again(&self) -> Option<Handle> {
        if self.0.is_none() && timer::is_known_to_be_missing() {
            return None;
        }
        self.get().ok()
    }

    /// Returns a timer of the current runtime, or otherwise of the runtime that was set, if either has timers.
    pub(crate) fn timer(&self, time: Duration) -> Option<Sleep> {
        timer::sleep(time).or_else(|| {
            let given = self.0.as_ref().filter(|given| given.has_timers())?;
            Some(timer::sleep_in(&given.runtime, time))
        })
    }

    /// Returns the output of a future, or `None` if that takes longer than `limit`. Without a timer, there is no limit.
    pub(crate) async fn timeout<F: Future>(&self, limit: Duration, future: F) -> Option<F::Output> {
        timer::unless_elapsed(pin!(self.timer(limit)), pin!(future)).await
    }
}

impl Given {
    fn has_timers(&self) -> bool {
        *self
            .has_timers
            .get_or_init(|| timer::is_available_in(&self.runtime))
    }
}

pub(crate) fn no_runtime() -> TokenError {
    let message = "fetching an access token needs a tokio runtime; there is none here, or it is shutting down; call this within a \
                   runtime, or set one with `TokenCacheBuilder::runtime(..)`";
    TokenError::new(NoRuntime, message, None)
}

fn no_timers() -> TokenError {
    let message = "fetching an access token needs the timers of the tokio runtime, which are disabled; call `enable_time()` or \
                   `enable_all()` when you build the runtime, or set another with `TokenCacheBuilder::runtime(..)`";
    TokenError::new(NoRuntime, message, None)
}

/// The error of a caller whose fetches were taken over again and again, but whose new tasks never run either.
pub(crate) fn not_driven() -> TokenError {
    let message = "fetching an access token needs a tokio runtime that runs; the tasks on this one do not run, because a thread of \
                   it is blocked, or because nobody calls `block_on`";
    TokenError::new(NoRuntime, message, None)
}
