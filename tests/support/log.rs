//! A log that a test can read.
#![allow(unreachable_pub, reason = "one test file uses this module alone")]

use std::{
    cell::RefCell,
    io,
    sync::{Arc, Mutex, Once},
};

use tracing::subscriber::DefaultGuard;

#[derive(Clone, Default)]
pub struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    /// Records the events of this thread, at the level TRACE, until the guard is dropped.
    ///
    /// The records of dependencies that use the crate `log` are included.
    pub fn record() -> (Self, Guard) {
        static SET: Once = Once::new();
        SET.call_once(|| {
            log::set_logger(&Records).unwrap();
            log::set_max_level(log::LevelFilter::Trace);
        });
        let log = Self::default();
        RECORDS.set(Some(log.clone()));
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::TRACE)
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .finish();
        (log, Guard(tracing::subscriber::set_default(subscriber)))
    }

    pub fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

thread_local! {
    static RECORDS: RefCell<Option<Log>> = const { RefCell::new(None) };
}

/// Stops the recording when it is dropped.
pub struct Guard(#[allow(dead_code, reason = "held until it is dropped")] DefaultGuard);

impl Drop for Guard {
    fn drop(&mut self) {
        RECORDS.set(None);
    }
}

/// The logger of the process. It writes each record to the log of its thread.
struct Records;

impl log::Log for Records {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        RECORDS.with_borrow(|log| {
            if let Some(log) = log {
                let line = format!(
                    "{} {}: {}\n",
                    record.level(),
                    record.target(),
                    record.args()
                );
                log.0.lock().unwrap().extend_from_slice(line.as_bytes());
            }
        });
    }

    fn flush(&self) {}
}
