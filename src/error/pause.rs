//! How long to pause after an error. Pure.

use std::time::Duration;

use super::TokenError;
use crate::base::back_off;

/// The longest pause that this crate chooses itself.
pub(crate) const MAX_PAUSE: Duration = Duration::from_secs(60);

const FIRST_PAUSE: Duration = Duration::from_secs(1);
const FIRST_PAUSE_TERMINAL: Duration = Duration::from_secs(5);
const MAX_RETRY_AFTER: Duration = Duration::from_secs(300);

/// Returns the pause after this many failures in a row, of which this error is the last. `jitter` is from 0 to 1.
///
/// A final error, such as a wrong secret, is remembered longer than a transient one, because only a person can fix it.
pub(crate) fn pause_after(error: &TokenError, failures: u32, jitter: f64) -> Duration {
    let first = if error.is_transient() {
        FIRST_PAUSE
    } else {
        FIRST_PAUSE_TERMINAL
    };
    let pause = back_off::doubled(first, failures.saturating_sub(1), MAX_PAUSE);
    back_off::jittered(pause, jitter)
}

/// Returns the pause, or what the server asked for with `Retry-After` if that is longer, up to five minutes.
pub(crate) fn obeying_retry_after(pause: Duration, error: &TokenError) -> Duration {
    match error.retry_after() {
        Some(retry_after) => pause.max(retry_after.min(MAX_RETRY_AFTER)),
        None => pause,
    }
}
