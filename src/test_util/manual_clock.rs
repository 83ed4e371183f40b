//! Clocks that a test controls.

use std::{fmt, sync::Arc, time::Duration};

use tokio::time::Instant;

use crate::base::clock::{Clock, TestTime};

/// The two clocks of a cache, controlled by a test.
///
/// Both clocks follow tokio's clock. They stand still while a test pauses it (`#[tokio::test(start_paused = true)]`) and
/// advance when it advances. In addition, each clock can be moved separately, as it happens on real hosts.
///
/// [`AuthorizationServer::clock`](super::AuthorizationServer::clock) returns the clock of a server, so that a cache and the
/// server share it. Pass it to [`TokenCacheBuilder::clock`](crate::token_cache::TokenCacheBuilder::clock) as it is.
///
/// Timers do not follow this clock. A renewal in the background or a [`Failure::delay`](super::Failure::delay) waits for
/// tokio's clock.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use tower::service_fn;
/// use tower_oauth2_client::{
///     AccessToken, BoxError, TokenCache, TokenRequest, TokenResponse, TokenType,
///     test_util::ManualClock,
/// };
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), BoxError> {
/// let endpoint = service_fn(|_: TokenRequest| async {
///     let token = AccessToken::new("token", TokenType::BEARER)?;
///     let response = TokenResponse::builder(token).expires_in(Duration::from_secs(3600));
///     Ok::<_, BoxError>(response.build())
/// });
/// let clock = ManualClock::new();
/// let tokens = TokenCache::builder(endpoint).clock(&clock).build();
/// let source = tokens.source(TokenRequest::client_credentials());
///
/// source.token().await?;
/// assert!(source.peek().is_some());
/// clock.suspend(Duration::from_secs(7200)); // the laptop was closed for two hours
/// assert!(source.peek().is_none());
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct ManualClock(Arc<TestTime>);

impl ManualClock {
    /// Creates clocks that follow tokio's clock from now on.
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(TestTime::start()))
    }

    /// Returns the clock to pass to [`TokenCacheBuilder::clock`](crate::token_cache::TokenCacheBuilder::clock).
    #[must_use]
    pub fn clock(&self) -> Clock {
        Clock::test(self.0.clone())
    }

    /// Moves both clocks forward.
    pub fn advance(&self, time: Duration) {
        self.0.advance(nanos(time));
    }

    /// Moves the wall clock forward while the monotonic clock stands still, as after suspending a host.
    ///
    /// The time passes for an authorization server with this clock, because it is another host.
    pub fn suspend(&self, time: Duration) {
        self.0.pass_suspended(nanos(time));
    }

    /// Moves the wall clock back while the monotonic clock stands still, as after correcting a wrong time.
    ///
    /// An authorization server with this clock does not notice it, because it is another host.
    pub fn set_wall_back(&self, time: Duration) {
        self.0.shift_wall(-nanos(time));
    }

    /// Returns the time of the authorization server.
    pub(super) fn server_now(&self) -> Instant {
        self.0.elsewhere()
    }
}

impl From<&ManualClock> for Clock {
    fn from(clock: &ManualClock) -> Self {
        clock.clock()
    }
}

impl From<ManualClock> for Clock {
    fn from(clock: ManualClock) -> Self {
        clock.clock()
    }
}

impl Default for ManualClock {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for ManualClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ManualClock").finish_non_exhaustive()
    }
}

/// Saturates at 292 years, the most that fits.
fn nanos(time: Duration) -> i64 {
    i64::try_from(time.as_nanos()).unwrap_or(i64::MAX)
}
