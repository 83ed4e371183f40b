//! The only file that reads a clock.
#![allow(clippy::disallowed_methods)]

use std::time::SystemTime;

/// The time of day, to read dates that a server sent.
pub(crate) fn wall_now() -> SystemTime {
    SystemTime::now()
}

/// The monotonic clock of the runtime, which stands still while a test has paused it.
#[cfg(feature = "test-util")]
pub(crate) fn tokio_now() -> tokio::time::Instant {
    tokio::time::Instant::now()
}
