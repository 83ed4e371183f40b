//! The only file that reads a clock.
//!
//! The lifetime of a token is measured with two clocks, because each can run slow: the monotonic clock stops while the host is
//! suspended, and the wall clock can be set back. A deadline is reached as soon as either clock has reached it.
#![allow(clippy::disallowed_methods)]

use std::{
    fmt,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// Returns the wall-clock time, to compare with dates that a server sent.
pub(crate) fn wall_now() -> SystemTime {
    SystemTime::now()
}

/// Returns the wall-clock time in seconds since the Unix epoch, as used in JWTs.
#[cfg(any(feature = "jwt", feature = "test-util"))]
pub(crate) fn unix_now() -> u64 {
    wall_now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

/// Returns the time of tokio's clock, which stops while a test has paused it.
pub(crate) fn tokio_now() -> tokio::time::Instant {
    tokio::time::Instant::now()
}

/// Returns when a time from now is over, on tokio's clock.
pub(crate) fn tokio_deadline(time: Duration) -> tokio::time::Instant {
    /// For times that are too long for the clock.
    const FAR_AWAY: Duration = Duration::from_secs(30 * 365 * 24 * 3600);

    let now = tokio_now();
    now.checked_add(time).unwrap_or(now + FAR_AWAY)
}

/// The coarse clocks lag behind timers by at most this much.
pub(crate) const CLOCK_LAG: Duration = Duration::from_millis(10);

/// The clock that a cache reads.
///
/// Default is the system's clocks. In a test that has paused tokio's clock, default is tokio's clock. For tests that move the time
/// themselves, use `test_util::ManualClock` (feature `test-util`).
///
/// On Linux and Android, the coarse system clocks are used: they lag by up to ten milliseconds, but reading them takes a tenth
/// of the time.
///
/// # Examples
///
/// ```
/// use tower_oauth2_client::Clock;
///
/// let clock = Clock::system();
/// ```
#[derive(Clone)]
pub struct Clock(TimeSource);

#[derive(Clone)]
enum TimeSource {
    System,
    Test(Arc<TestTime>),
}

impl Clock {
    /// Returns the system's clocks.
    #[must_use]
    pub fn system() -> Self {
        Self(TimeSource::System)
    }

    pub(crate) fn test(time: Arc<TestTime>) -> Self {
        Self(TimeSource::Test(time))
    }

    #[inline]
    pub(crate) fn now(&self) -> Moment {
        match &self.0 {
            TimeSource::System => system::now(),
            TimeSource::Test(time) => time.now(),
        }
    }

    /// Returns when the monotonic clock reaches a moment. `None` if that is too far away for an `Instant`.
    ///
    /// The result for the same moment is the same at each call, unless a test shifts the clock.
    pub(crate) fn instant(&self, moment: Moment) -> Option<Instant> {
        match &self.0 {
            TimeSource::System => system_instant(moment),
            TimeSource::Test(time) => time.instant(moment),
        }
    }
}

/// Both clocks were read here once, because an `Instant` does not tell its number.
static ANCHOR: LazyLock<(Instant, Moment)> = LazyLock::new(|| (Instant::now(), system::now()));

fn system_instant(moment: Moment) -> Option<Instant> {
    let (instant, anchor) = *ANCHOR;
    match moment.monotonic.checked_sub(anchor.monotonic) {
        Some(later) => instant.checked_add(Duration::from_nanos(later)),
        None => instant.checked_sub(Duration::from_nanos(anchor.monotonic - moment.monotonic)),
    }
}

/// Returns tokio's clock if a test has paused it in the current runtime, and otherwise [`Clock::system`].
///
/// Later calls of `tokio::time::pause` have no effect on the system's clocks.
impl Default for Clock {
    fn default() -> Self {
        match tokio_is_paused() {
            true => Self::test(Arc::new(TestTime::start())),
            false => Self::system(),
        }
    }
}

/// Whether tokio's clock stands still while the monotonic clock advances.
///
/// tokio does not tell, so two readings are compared. Without tokio's feature `test-util`, its clock is the monotonic clock.
fn tokio_is_paused() -> bool {
    /// More than enough for clocks that count in microseconds. It bounds the loop if the monotonic clock itself is simulated.
    const MAX_READINGS: usize = 10_000;

    let (tokio, monotonic) = (tokio_now(), Instant::now());
    let mut readings = (0..MAX_READINGS).map(|_| Instant::now());
    readings.any(|now| now > monotonic) && tokio_now() == tokio
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.0 {
            TimeSource::System => "Clock(system)",
            TimeSource::Test(_) => "Clock(test)",
        })
    }
}

/// A point in time on both clocks, in nanoseconds: since an arbitrary start, and since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Moment {
    monotonic: u64,
    wall: u64,
}

impl Moment {
    #[cfg(test)]
    pub(crate) const fn new(monotonic: Duration, wall: Duration) -> Self {
        Self {
            monotonic: monotonic.as_nanos() as u64,
            wall: wall.as_nanos() as u64,
        }
    }

    /// Adds a duration on both clocks. A duration that is too long saturates.
    pub(crate) fn after(self, time: Duration) -> Self {
        let time = nanos(time);
        Self {
            monotonic: self.monotonic.saturating_add(time),
            wall: self.wall.saturating_add(time),
        }
    }

    /// Whether either clock has reached the deadline.
    #[inline]
    pub(crate) fn has_reached(self, deadline: Self) -> bool {
        self.monotonic >= deadline.monotonic || self.wall >= deadline.wall
    }

    /// Whether the monotonic clock has reached the deadline. The wall clock is ignored.
    ///
    /// Use it to time work on this host.
    pub(crate) fn has_outlasted(self, deadline: Self) -> bool {
        self.monotonic >= deadline.monotonic
    }

    /// Returns how long until [`has_outlasted`](Self::has_outlasted) is true.
    pub(crate) fn until_outlasted(self, deadline: Self) -> Duration {
        Duration::from_nanos(deadline.monotonic.saturating_sub(self.monotonic))
    }

    /// Returns how much time has passed on the monotonic clock since an earlier moment.
    pub(crate) fn time_since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.monotonic.saturating_sub(earlier.monotonic))
    }

    /// Returns the time of a deadline on the wall clock, as it goes now. `None` if that is too far away for a `SystemTime`.
    ///
    /// If the wall clock was set back since the deadline was set, the monotonic clock tells when the deadline is reached. Smaller differences
    /// do not count: they come from reading two clocks, and the result should be the same at each call.
    pub(crate) fn wall_time(self, now: Self) -> Option<SystemTime> {
        const TOLERANCE: i128 = 1_000_000_000;

        let left = i128::from(self.monotonic) - i128::from(now.monotonic);
        let by_monotonic = i128::from(now.wall) + left;
        let wall = match by_monotonic + TOLERANCE < i128::from(self.wall) {
            true => u64::try_from(by_monotonic.max(0)).ok()?,
            false => self.wall,
        };
        UNIX_EPOCH.checked_add(Duration::from_nanos(wall))
    }

    /// Returns how long until the first of the two clocks reaches the deadline.
    pub(crate) fn until(self, deadline: Self) -> Duration {
        Duration::from_nanos(
            deadline
                .monotonic
                .saturating_sub(self.monotonic)
                .min(deadline.wall.saturating_sub(self.wall)),
        )
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(any(target_os = "linux", target_os = "android"))]
mod system {
    use rustix::time::{ClockId, Timespec, clock_gettime};

    use super::Moment;

    #[inline]
    pub(super) fn now() -> Moment {
        Moment {
            monotonic: nanos(clock_gettime(ClockId::MonotonicCoarse)),
            wall: nanos(clock_gettime(ClockId::RealtimeCoarse)),
        }
    }

    #[inline]
    fn nanos(time: Timespec) -> u64 {
        (time.tv_sec as u64)
            .wrapping_mul(1_000_000_000)
            .wrapping_add(time.tv_nsec as u64)
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
mod system {
    use std::{
        sync::LazyLock,
        time::{Instant, SystemTime},
    };

    use super::{Moment, nanos, since_epoch};

    static START: LazyLock<Instant> = LazyLock::new(Instant::now);

    pub(super) fn now() -> Moment {
        Moment {
            monotonic: nanos(START.elapsed()),
            wall: since_epoch(SystemTime::now()),
        }
    }
}

#[allow(dead_code, reason = "used by platforms without coarse clocks")]
fn since_epoch(time: SystemTime) -> u64 {
    nanos(time.duration_since(UNIX_EPOCH).unwrap_or_default())
}

/// Two clocks for tests. Both follow tokio's clock, paused or not, and each can be shifted on its own.
pub(crate) struct TestTime {
    start: tokio::time::Instant,
    monotonic: AtomicI64,
    wall: AtomicI64,
    /// The time of other hosts, which no suspended or wrong clock of this host affects.
    #[cfg(feature = "test-util")]
    elsewhere: AtomicI64,
}

impl TestTime {
    /// Far enough from zero that a test can move both clocks back.
    const ORIGIN: u64 = 1_000_000_000 * 1_000_000_000;

    pub(crate) fn start() -> Self {
        Self {
            start: tokio_now(),
            monotonic: AtomicI64::new(0),
            wall: AtomicI64::new(0),
            #[cfg(feature = "test-util")]
            elsewhere: AtomicI64::new(0),
        }
    }

    fn now(&self) -> Moment {
        let elapsed = nanos(tokio_now() - self.start);
        let shifted = |shift: &AtomicI64| {
            Self::ORIGIN
                .saturating_add(elapsed)
                .saturating_add_signed(shift.load(Ordering::Relaxed))
        };
        Moment {
            monotonic: shifted(&self.monotonic),
            wall: shifted(&self.wall),
        }
    }
}

impl TestTime {
    /// Returns when tokio's clock stands at a moment, if it is not shifted further.
    fn instant(&self, moment: Moment) -> Option<Instant> {
        let shift = self.monotonic.load(Ordering::Relaxed);
        let elapsed = moment
            .monotonic
            .saturating_add_signed(shift.saturating_neg());
        let elapsed = Duration::from_nanos(elapsed.saturating_sub(Self::ORIGIN));
        self.start.into_std().checked_add(elapsed)
    }
}

#[cfg(feature = "test-util")]
impl TestTime {
    /// Lets this time pass on all hosts.
    pub(crate) fn advance(&self, nanos: i64) {
        self.monotonic.fetch_add(nanos, Ordering::Relaxed);
        self.pass_suspended(nanos);
    }

    /// Lets this time pass on all hosts while the monotonic clock of this host stands still.
    pub(crate) fn pass_suspended(&self, nanos: i64) {
        self.elsewhere.fetch_add(nanos, Ordering::Relaxed);
        self.shift_wall(nanos);
    }

    /// Shifts only the wall clock of this host.
    pub(crate) fn shift_wall(&self, nanos: i64) {
        self.wall.fetch_add(nanos, Ordering::Relaxed);
    }

    /// Returns the time at which another host is.
    pub(crate) fn elsewhere(&self) -> tokio::time::Instant {
        let passed = u64::try_from(self.elsewhere.load(Ordering::Relaxed)).unwrap_or(0);
        let now = tokio_now();
        now.checked_add(Duration::from_nanos(passed)).unwrap_or(now)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    #[test]
    fn deadline_is_reached_when_either_clock_reaches_it() {
        let deadline = Moment::new(secs(100), secs(1000)).after(secs(10));
        for (monotonic, wall, reached, until) in [
            (100, 1000, false, 10),
            (109, 1009, false, 1),
            (110, 1000, true, 0),
            (100, 1010, true, 0),
            (100, 9000, true, 0),
            (109, 0, false, 1),
            (200, 0, true, 0),
        ] {
            let now = Moment::new(secs(monotonic), secs(wall));
            assert_eq!(now.has_reached(deadline), reached, "{now:?}");
            assert_eq!(now.until(deadline), secs(until), "{now:?}");
        }
    }

    #[test]
    fn deadline_saturates_instead_of_overflowing() {
        let end = Moment::new(secs(1), secs(1)).after(Duration::MAX);
        assert!(!Moment::new(secs(1 << 33), secs(1 << 33)).has_reached(end));
    }

    #[tokio::test(start_paused = true)]
    async fn default_clock_follows_a_paused_tokio_clock() {
        let clock = Clock::default();
        let before = clock.now();
        std::thread::sleep(Duration::from_millis(20));
        assert_eq!(clock.now(), before);
        tokio::time::advance(secs(3600)).await;
        assert_eq!(clock.now(), before.after(secs(3600)));
    }

    #[tokio::test(start_paused = true)]
    async fn default_clock_is_the_system_clock_unless_tokio_is_paused_now() {
        let is_system = |clock: &Clock| format!("{clock:?}") == "Clock(system)";
        assert!(!is_system(&Clock::default()));
        tokio::time::resume();
        assert!(is_system(&Clock::default()));
        tokio::time::pause();
        assert!(!is_system(&Clock::default()));
        let elsewhere = std::thread::spawn(Clock::default).join().unwrap();
        assert!(is_system(&elsewhere), "no runtime is paused there");
        assert!(is_system(&Clock::system()));
    }

    #[test]
    fn wall_time_of_a_deadline_follows_a_wall_clock_that_was_set_back() {
        let at = |monotonic, wall| Moment::new(secs(monotonic), secs(wall));
        let deadline = at(1_100, 10_100);
        for (now, expected) in [
            (at(1_000, 10_000), 10_100),
            (at(1_500, 10_500), 10_100),
            // Set back, by more and less than a second can tell, and to the time before 1970.
            (at(1_000, 9_000), 9_100),
            (at(1_500, 9_500), 9_100),
            (at(1_050, 10_049), 10_100),
            (at(1_050, 10_048), 10_098),
            (at(9_000, 0), 0),
            // Set forward, or the host was suspended.
            (at(1_000, 20_000), 10_100),
            (at(1_000, 10_090), 10_100),
        ] {
            let expected = UNIX_EPOCH + secs(expected);
            assert_eq!(deadline.wall_time(now), Some(expected), "{now:?}");
        }
        let far = at(0, 0).after(Duration::MAX);
        let _ = far.wall_time(at(0, 0));
        let _ = far.wall_time(far);
    }

    #[test]
    fn system_clocks_do_not_go_backwards() {
        let clock = Clock::system();
        let before = clock.now();
        assert!(clock.now().has_reached(before));
    }

    /// The coarse clock lags, so an instant may be early by that much.
    #[test]
    fn instant_and_wall_time_of_a_moment_are_those_of_the_system() {
        let clock = Clock::system();
        let (instant, wall) = (Instant::now(), SystemTime::now());
        let hour = clock.now().after(secs(3600));
        let tolerance = secs(1);
        let early =
            |found: Duration| found + tolerance >= secs(3600) && found <= secs(3600) + tolerance;
        let found = clock.instant(hour).unwrap();
        assert!(early(found - instant));
        assert!(early(
            hour.wall_time(clock.now())
                .unwrap()
                .duration_since(wall)
                .unwrap()
        ));
        assert_eq!(
            clock.instant(hour),
            Some(found),
            "it is the same at each call"
        );
        let before = Moment {
            monotonic: 0,
            ..hour
        };
        assert!(clock.instant(before).is_none_or(|before| before < instant));
    }

    #[tokio::test(start_paused = true)]
    async fn instant_of_a_moment_is_when_tokios_clock_stands_there() {
        let clock = Clock::default();
        let later = clock.now().after(secs(3600));
        let instant = clock.instant(later).unwrap();
        assert_eq!(instant, (tokio_now() + secs(3600)).into_std());
        tokio::time::advance(secs(3600)).await;
        assert_eq!(tokio_now().into_std(), instant);
        assert_eq!(clock.instant(later), Some(instant));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// The remaining time is zero exactly when the deadline is reached, and waiting for it reaches the deadline.
        #[test]
        fn deadline_is_reached_when_the_remaining_time_is_zero(start: [u64; 2], now: [u64; 2], time: Duration) {
            let [start, now] = [start, now].map(|[monotonic, wall]| Moment { monotonic, wall });
            let deadline = start.after(time);
            let left = now.until(deadline);
            prop_assert_eq!(now.has_reached(deadline), left.is_zero());
            prop_assert!(now.after(left).has_reached(deadline));
        }
    }
}
