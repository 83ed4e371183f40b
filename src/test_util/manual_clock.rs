//! Clocks that a test moves by hand.

use std::{fmt, sync::Arc, time::Duration};

use crate::base::clock::{Clock, ManualTime};

/// The two clocks of a cache, under the control of a test.
///
/// Both go on with tokio's clock, so that they stand still while a test has paused it (`#[tokio::test(start_paused = true)]`) and
/// move when tokio's time does. Beyond that each can be moved on its own, as it happens to real hosts.
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
/// let tokens = TokenCache::builder(endpoint).clock(clock.clock()).build();
/// let source = tokens.source(TokenRequest::client_credentials());
///
/// source.token().await?;
/// assert!(source.peek().is_some());
/// clock.suspend(Duration::from_secs(7200)); // the lid was closed for two hours
/// assert!(source.peek().is_none());
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct ManualClock(Arc<ManualTime>);

impl ManualClock {
    /// Clocks that go with tokio's from here on.
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(ManualTime::start()))
    }

    /// The clock to give to [`TokenCacheBuilder::clock`](crate::token_cache::TokenCacheBuilder::clock).
    #[must_use]
    pub fn clock(&self) -> Clock {
        Clock::manual(self.0.clone())
    }

    /// Moves both clocks forward.
    pub fn advance(&self, time: Duration) {
        self.0.shift(nanos(time), nanos(time));
    }

    /// Moves the wall clock forward while the monotonic one stands still, as a suspended host finds it.
    pub fn suspend(&self, time: Duration) {
        self.0.shift(0, nanos(time));
    }

    /// Moves the wall clock back while the monotonic one stands still, as when a wrong time is set right.
    pub fn set_wall_back(&self, time: Duration) {
        self.0.shift(0, -nanos(time));
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

/// At most the 292 years that fit.
fn nanos(time: Duration) -> i64 {
    i64::try_from(time.as_nanos()).unwrap_or(i64::MAX)
}
