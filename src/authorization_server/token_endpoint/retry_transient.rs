//! `RetryTransient`: which failed token requests are retried, and when.

use std::{
    error::Error,
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use pin_project_lite::pin_project;
use tower::retry::Policy;

use crate::{
    base::{back_off, timer},
    error::{self, TokenError},
    message::TokenRequest,
};

/// A [`Policy`](https://docs.rs/tower/0.5/tower/retry/trait.Policy.html) for tower's `Retry` that retries a token request after a transient failure, with growing pauses.
///
/// It works with any stack whose error is [`TokenError`] or tower's `BoxError`, so `Retry` can be above or below `Timeout`. Credentials
/// from a provider are obtained again for every attempt.
///
/// # What is retried
///
/// 1. Only failures that [`TokenError::is_transient`] calls transient, and requests that tower's `Timeout` aborted.
/// 2. A request with a one-time credential (a code, a refresh token, a device code, an `auth_req_id`) only if it is certain that the
///    server did not process it: see [`TokenError::may_have_been_processed`]. A server may treat a second use of a refresh token as
///    theft and revoke every token of the user ([RFC 9700 §4.14.2](https://www.rfc-editor.org/rfc/rfc9700#section-4.14.2)).
/// 3. After the time in `Retry-After`, if the server sent it. A time above the limit ends the retries at once, since an earlier attempt
///    would ignore the server's request; the caller finds it in [`TokenError::retry_after`].
///
/// Without a `Retry-After`, the pause is random, in the upper half of a window that doubles with every attempt.
///
/// The pause is a tokio timer. Without a tokio runtime, or in one that was built without timers (`enable_time`), nothing is retried.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use tower::ServiceBuilder;
/// use tower_oauth2_client::token_endpoint::RetryTransient;
///
/// # fn example<S: Clone>(endpoint: S) {
/// let endpoint = ServiceBuilder::new()
///     .retry(RetryTransient::new().max_retries(5))
///     .timeout(Duration::from_secs(10)) // of each attempt
///     .service(endpoint);
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct RetryTransient {
    max_retries: u32,
    initial_pause: Duration,
    max_pause: Duration,
    max_retry_after: Duration,
    retries: u32,
}

impl RetryTransient {
    /// Creates a policy with three retries, after pauses of at most 0.2, 0.4 and 0.8 seconds.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_oauth2_client::token_endpoint::RetryTransient;
    ///
    /// let policy = RetryTransient::new();
    /// ```
    #[must_use]
    pub fn new() -> Self {
        Self {
            max_retries: 3,
            initial_pause: Duration::from_millis(200),
            max_pause: Duration::from_secs(10),
            max_retry_after: Duration::from_secs(30),
            retries: 0,
        }
    }

    /// Sets how often a request is retried. Default is 3.
    #[must_use]
    pub fn max_retries(mut self, max_retries: u32) -> Self {
        self.max_retries = max_retries;
        self
    }

    /// Sets the maximum first pause. It doubles with every attempt. Default is 200 ms.
    #[must_use]
    pub fn initial_pause(mut self, initial_pause: Duration) -> Self {
        self.initial_pause = initial_pause;
        self
    }

    /// Sets the maximum pause when the server sends no `Retry-After`. Default is 10 seconds.
    #[must_use]
    pub fn max_pause(mut self, max_pause: Duration) -> Self {
        self.max_pause = max_pause;
        self
    }

    /// Sets the maximum `Retry-After` to wait for. Default is 30 seconds.
    #[must_use]
    pub fn max_retry_after(mut self, max_retry_after: Duration) -> Self {
        self.max_retry_after = max_retry_after;
        self
    }

    /// The pause before the next attempt, or `None` if there is none. `jitter` is from 0 to 1.
    fn decide(&self, failed: &FailedAttempt, is_one_time: bool, jitter: f64) -> Option<Duration> {
        if self.retries >= self.max_retries
            || !failed.is_transient
            || (is_one_time && failed.may_have_been_processed)
        {
            return None;
        }
        let window = back_off::doubled(self.initial_pause, self.retries, self.max_pause);
        match failed.retry_after {
            Some(retry_after) if retry_after > self.max_retry_after => None,
            // Later than asked for, never earlier: clients that were told the same time should not all come at once.
            Some(retry_after) => Some(retry_after.saturating_add(window.mul_f64(jitter / 2.0))),
            None => Some(back_off::jittered(window, jitter)),
        }
    }
}

impl Default for RetryTransient {
    fn default() -> Self {
        Self::new()
    }
}

/// What the decision needs to know about a failed attempt.
struct FailedAttempt {
    is_transient: bool,
    may_have_been_processed: bool,
    retry_after: Option<Duration>,
}

impl FailedAttempt {
    fn with(error: &(dyn Error + 'static)) -> Self {
        match TokenError::find_in_chain(error) {
            Some(error) => Self {
                is_transient: error.is_transient(),
                may_have_been_processed: error.may_have_been_processed(),
                retry_after: error.retry_after(),
            },
            None => Self {
                is_transient: error::is_timeout(error),
                may_have_been_processed: true,
                retry_after: None,
            },
        }
    }
}

impl<Res, E> Policy<TokenRequest, Res, E> for RetryTransient
where
    E: AsRef<dyn Error + Send + Sync>,
{
    type Future = Pause;

    fn retry(
        &mut self,
        request: &mut TokenRequest,
        result: &mut Result<Res, E>,
    ) -> Option<Self::Future> {
        let failed = FailedAttempt::with(result.as_ref().err()?.as_ref());
        let pause = self.decide(
            &failed,
            request.carries_one_time_credential(),
            fastrand::f64(),
        )?;
        let sleep = timer::sleep(pause)?;
        self.retries += 1;
        Some(Pause { sleep })
    }

    fn clone_request(&mut self, request: &TokenRequest) -> Option<TokenRequest> {
        Some(request.clone())
    }
}

pin_project! {
    /// The pause before a request is retried.
    #[must_use = "futures do nothing unless polled"]
    pub struct Pause {
        #[pin]
        sleep: tokio::time::Sleep,
    }
}

impl Future for Pause {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.project().sleep.poll(cx)
    }
}

impl fmt::Debug for Pause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pause").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(retry_after: Option<u64>) -> FailedAttempt {
        FailedAttempt {
            is_transient: true,
            may_have_been_processed: true,
            retry_after: retry_after.map(Duration::from_secs),
        }
    }

    #[test]
    fn window_doubles_up_to_its_limit() {
        let mut policy = RetryTransient::new()
            .max_retries(9)
            .max_pause(Duration::from_secs(1));
        for (retries, least, most) in [
            (0, 100, 200),
            (1, 200, 400),
            (2, 400, 800),
            (3, 500, 1000),
            (8, 500, 1000),
        ] {
            policy.retries = retries;
            for (jitter, expected) in [(0.0, least), (1.0, most)] {
                let pause = policy.decide(&failed(None), false, jitter);
                assert_eq!(
                    pause,
                    Some(Duration::from_millis(expected)),
                    "{retries} {jitter}"
                );
            }
        }
        policy.retries = 9;
        assert_eq!(policy.decide(&failed(None), false, 0.0), None);
    }

    #[test]
    fn retry_after_is_respected_or_ends_the_retries() {
        let policy = RetryTransient::new();
        for (retry_after, expected) in [
            (0, Some(0)),
            (7, Some(7)),
            (30, Some(30)),
            (31, None),
            (u64::MAX, None),
        ] {
            let pause = policy.decide(&failed(Some(retry_after)), false, 0.0);
            assert_eq!(pause, expected.map(Duration::from_secs), "{retry_after}");
        }
    }

    #[test]
    fn only_transient_failures_are_retried_and_one_time_credentials_only_if_unprocessed() {
        for (is_transient, may_have_been_processed, is_one_time, expected) in [
            (true, true, false, true),
            (true, false, false, true),
            (true, false, true, true),
            (true, true, true, false),
            (false, false, false, false),
        ] {
            let failed = FailedAttempt {
                is_transient,
                may_have_been_processed,
                retry_after: None,
            };
            let pause = RetryTransient::new().decide(&failed, is_one_time, 0.5);
            assert_eq!(pause.is_some(), expected);
        }
    }
}
