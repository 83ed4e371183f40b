//! A clock that stands still until the model moves it.

#[path = "../../../../src/base/clock.rs"]
mod system;

use std::{
    cell::Cell,
    sync::LazyLock,
    time::{Duration, Instant},
};

pub(crate) use self::system::{CLOCK_LAG, Moment, tokio_deadline, tokio_now, wall_now};

static START: LazyLock<Moment> = LazyLock::new(|| system::Clock::system().now());

thread_local! {
    /// Shuttle runs all tasks of a model on one thread.
    static ELAPSED: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}

pub(crate) fn reset() {
    ELAPSED.set(Duration::ZERO);
}

pub(crate) fn advance(time: Duration) {
    ELAPSED.set(ELAPSED.get() + time);
}

#[derive(Clone, Debug, Default)]
pub struct Clock;

impl Clock {
    pub fn system() -> Self {
        Self
    }

    pub(crate) fn now(&self) -> Moment {
        START.after(ELAPSED.get())
    }

    pub(crate) fn instant(&self, moment: Moment) -> Option<Instant> {
        system::Clock::system().instant(moment)
    }
}
