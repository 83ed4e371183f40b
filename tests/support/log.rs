//! A log that a test can read.
#![allow(unreachable_pub, reason = "one test file uses this module alone")]

use std::{
    cell::RefCell,
    io,
    sync::{Arc, Mutex, Once},
};

#[derive(Clone, Default)]
pub struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    /// Records the events of this thread, at the level TRACE, until the guard is dropped.
    ///
    /// The records of dependencies that use the crate `log` are included.
    // One subscriber serves the whole process. With one for each thread, an event that a thread
    // without a subscriber reaches first can stay disabled for all of them: tracing caches that.
    pub fn record() -> (Self, Guard) {
        static SET: Once = Once::new();
        SET.call_once(|| {
            log::set_logger(&Records).unwrap();
            log::set_max_level(log::LevelFilter::Trace);
            let subscriber = tracing_subscriber::fmt()
                .with_max_level(tracing::Level::TRACE)
                .with_ansi(false)
                .with_writer(|| ThisThread)
                .finish();
            tracing::subscriber::set_global_default(subscriber).unwrap();
        });
        let log = Self::default();
        RECORDS.set(Some(log.clone()));
        (log, Guard(()))
    }

    pub fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

thread_local! {
    static RECORDS: RefCell<Option<Log>> = const { RefCell::new(None) };
}

/// Writes to the log of this thread, if there is one.
struct ThisThread;

impl io::Write for ThisThread {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        RECORDS.with_borrow(|log| {
            if let Some(log) = log {
                log.0.lock().unwrap().extend_from_slice(bytes);
            }
        });
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Stops the recording when it is dropped.
pub struct Guard(());

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
        let line = format!(
            "{} {}: {}\n",
            record.level(),
            record.target(),
            record.args()
        );
        let _ = io::Write::write_all(&mut ThisThread, line.as_bytes());
    }

    fn flush(&self) {}
}
