//! The only file that reads a clock.

/// Now, by the clock of the tokio runtime: it stands still while its time is paused.
#[cfg(feature = "test-util")]
#[allow(clippy::disallowed_methods)]
pub(crate) fn tokio_now() -> tokio::time::Instant {
    tokio::time::Instant::now()
}
