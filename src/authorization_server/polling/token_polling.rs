//! `TokenPolling`: the future that polls a token endpoint until the user has decided.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::time::Instant;
use tower_service::Service;

use super::pace::{self, PollingInterval};
use crate::{
    authorization_server::token_endpoint::stack::{Calling, EndpointStack},
    base::{
        clock::tokio_now,
        timer::{self, Sleep},
    },
    error::{BoxError, TokenError, TokenErrorKind, obeying_retry_after},
    message::{
        BackchannelAuthenticationResponse, DeviceAuthorizationResponse, TokenRequest, TokenResponse,
    },
};

/// Asks a token endpoint again and again until the user has decided
/// ([RFC 8628 §3.4](https://www.rfc-editor.org/rfc/rfc8628#section-3.4), OpenID Connect CIBA §10.1).
///
/// It is a future, which returns the [`TokenResponse`] once the user has approved the request. It needs no cache. With a
/// [`TokenCache`](crate::TokenCache), use [`TokenSource::wait_for_user`](crate::TokenSource::wait_for_user) instead: the source renews the
/// token later.
///
/// 1. The first request is sent one [interval](crate::DeviceAuthorizationResponse::interval) after the codes were received, and each later
///    one an interval after the last response. Each `slow_down` makes the interval five seconds longer, for good.
/// 2. After a failure that may be gone next time ([`TokenError::is_transient`]), it goes on. After connection errors and timeouts, the
///    pause doubles, up to a minute. `Retry-After` is obeyed, up to five minutes. [`last_error`](Self::last_error) shows the failure.
/// 3. It ends when the codes have expired, at the latest. A request made by hand
///    ([`TokenRequest::device_code`]) has no known end: then it ends when the server says so.
///
/// # Errors
///
/// | error | meaning |
/// |---|---|
/// | the kind [`SignInRequired`](TokenErrorKind::SignInRequired) with the code [`ACCESS_DENIED`](crate::ErrorCode::ACCESS_DENIED) | the user refused |
/// | the same kind with [`EXPIRED_TOKEN`](crate::ErrorCode::EXPIRED_TOKEN) | the user did not decide in time |
/// | the same kind with another code | the server no longer accepts the code |
/// | [`NoRuntime`](TokenErrorKind::NoRuntime) | there is no tokio runtime with timers |
/// | anything else | a failure that no later request mends, such as a wrong client secret |
///
/// After it has ended, it returns the same result again.
///
/// # Cancel safety
///
/// Poll it through a reference, for example `&mut polling` in `select!`. You can drop that reference and poll again later: nothing is sent
/// sooner than allowed, and no response is lost, because a request that is under way stays in `TokenPolling`. There it keeps what it holds,
/// such as a permit of a `ConcurrencyLimit`. If you drop `TokenPolling` itself while a request is under way, its token may be lost.
/// [`TokenSource::wait_for_user`](crate::TokenSource::wait_for_user) has neither limit.
///
/// # Examples
///
/// Waits for the user, but not after Ctrl-C:
///
/// ```
/// use tower_oauth2_client::{BoxError, DeviceAuthorizationResponse, HttpsClient, TokenEndpoint};
///
/// async fn sign_in(
///     endpoint: TokenEndpoint<HttpsClient>,
///     device: &DeviceAuthorizationResponse,
///     ctrl_c: impl Future<Output = ()>,
/// ) -> Result<(), BoxError> {
///     println!("open {} and enter {}", device.verification_uri(), device.user_code());
///     tokio::select! {
///         response = device.wait_for_user(endpoint) => println!("{:?}", response?.scope()),
///         () = ctrl_c => println!("cancelled"),
///     }
///     Ok(())
/// }
/// ```
///
/// Shows the time that is left, and polls on:
///
/// ```
/// use std::{pin::pin, time::Duration};
/// use tokio::time;
/// use tower_oauth2_client::{TokenError, TokenPolling, TokenResponse};
///
/// async fn wait(mut polling: TokenPolling) -> Result<TokenResponse, TokenError> {
///     loop {
///         match time::timeout(Duration::from_secs(1), &mut polling).await {
///             Ok(result) => return result,
///             Err(_) => println!("{:?}", polling.last_error()),
///         }
///     }
/// }
/// ```
#[must_use = "futures do nothing unless polled"]
pub struct TokenPolling {
    endpoint: EndpointStack,
    request: TokenRequest,
    interval: PollingInterval,
    /// How many polls failed in a row.
    failures: u32,
    request_timeout: Duration,
    last_error: Option<TokenError>,
    state: State,
}

enum State {
    Pausing {
        until: Instant,
        /// Set once the pause has been polled.
        timer: Option<Pin<Box<Sleep>>>,
    },
    Sending {
        response: Calling,
        limit: Limit,
    },
    Ended(Result<TokenResponse, TokenError>),
}

impl TokenPolling {
    /// Creates the future. `request` contains a device code or an `auth_req_id`; `endpoint` is a
    /// [`TokenEndpoint`](crate::TokenEndpoint), or any stack of tower layers around one.
    ///
    /// Nothing is sent before it is polled. Usually, [`DeviceAuthorizationResponse::wait_for_user`] is shorter.
    ///
    /// # Examples
    ///
    /// A request that needs a parameter of the server's own:
    ///
    /// ```
    /// use tower_oauth2_client::{
    ///     DeviceAuthorizationResponse, HttpsClient, TokenEndpoint, TokenPolling,
    /// };
    ///
    /// fn poll(
    ///     endpoint: TokenEndpoint<HttpsClient>,
    ///     device: &DeviceAuthorizationResponse,
    /// ) -> TokenPolling {
    ///     TokenPolling::new(endpoint, device.token_request().parameter("tenant", "blue"))
    /// }
    /// ```
    pub fn new<S>(endpoint: S, request: TokenRequest) -> Self
    where
        S: Service<TokenRequest, Response = TokenResponse> + Clone + Send + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send,
    {
        let interval = PollingInterval::of(&request);
        let terms = request.polling_terms();
        let pause = terms.until_first_poll(interval.as_duration(), tokio_now());
        Self {
            endpoint: EndpointStack::new(endpoint),
            interval,
            failures: 0,
            request_timeout: Duration::from_secs(30),
            last_error: None,
            state: State::pausing(pause, &request),
            request,
        }
    }

    /// Sets how long each request may take. Default is 30 seconds.
    ///
    /// A request that takes longer is dropped, and counts as a connection error. If nobody polled this future when the time was over, the
    /// time begins again, once.
    pub fn request_timeout(mut self, request_timeout: Duration) -> Self {
        self.request_timeout = request_timeout;
        self
    }

    /// Returns why there is no token yet: the error of the last request. `None` before the first response.
    ///
    /// Its code is `authorization_pending` or `slow_down` while the server waits for the user.
    #[must_use]
    pub fn last_error(&self) -> Option<&TokenError> {
        self.last_error.as_ref()
    }

    /// Returns the minimum time between two requests, with what each `slow_down` has added.
    #[must_use]
    pub fn interval(&self) -> Duration {
        self.interval.as_duration()
    }

    /// Returns the state after a pause: the next request, or the end.
    fn after_pause(&self) -> State {
        if self.has_expired() {
            return self.ended(TokenError::expired_token(self.last_error.clone()));
        }
        State::Sending {
            response: self.endpoint.call(self.request.clone()),
            limit: Limit::new(self.request_timeout),
        }
    }

    /// Returns the state after a request has failed: a pause, or the end.
    fn after_error(&mut self, error: TokenError) -> State {
        if let Some(end) = pace::end(&error) {
            return self.ended(end);
        }
        self.interval = self.interval.after(&error);
        self.failures = match pace::is_pending(&error) {
            true => 0,
            false => self.failures.saturating_add(1),
        };
        let pause = self.interval.pause(&error, self.failures, fastrand::f64());
        let pause = obeying_retry_after(pause, &error);
        self.last_error = Some(self.about_request(error));
        State::pausing(pause, &self.request)
    }

    fn ended(&self, error: TokenError) -> State {
        State::Ended(Err(self.about_request(error)))
    }

    /// Adds to an error whose request it is about.
    fn about_request(&self, error: TokenError) -> TokenError {
        error.about(|| self.request.about(None))
    }

    fn has_expired(&self) -> bool {
        let left = self.request.polling_terms().left(tokio_now());
        left.is_some_and(|left| left.is_zero())
    }
}

/// How long a request may take.
///
/// If nobody polled when the limit ended, it begins again: the response may have arrived meanwhile, and take several polls to be read. It
/// begins again only once, so that a caller who polls seldom does not wait for a silent server forever.
struct Limit {
    ends_at: Instant,
    has_begun_again: bool,
    /// `None` if the runtime has no timers.
    timer: Option<Pin<Box<Sleep>>>,
}

impl Limit {
    /// A timer wakes the task in less than this time. Whoever comes later has not polled.
    const LATE: Duration = Duration::from_secs(1);

    fn new(time: Duration) -> Self {
        Self {
            ends_at: tokio_now() + time.min(MAX_PAUSE),
            has_begun_again: false,
            timer: timer::sleep(time).map(Box::pin),
        }
    }

    /// Returns once the limit has elapsed.
    fn poll_elapsed(&mut self, cx: &mut Context<'_>, time: Duration) -> Poll<()> {
        loop {
            match &mut self.timer {
                Some(timer) => ready!(timer.as_mut().poll(cx)),
                None => return Poll::Pending,
            }
            let is_late = tokio_now().saturating_duration_since(self.ends_at) > Self::LATE;
            if !is_late || self.has_begun_again {
                return Poll::Ready(());
            }
            *self = Self::new(time);
            self.has_begun_again = true;
        }
    }
}

impl State {
    /// Pauses for this time, but not longer than the request can be polled.
    fn pausing(pause: Duration, request: &TokenRequest) -> Self {
        let now = tokio_now();
        let left = request.polling_terms().left(now).unwrap_or(MAX_PAUSE);
        let until = now + pause.min(left).min(MAX_PAUSE);
        Self::Pausing { until, timer: None }
    }
}

/// As far as every clock reaches.
const MAX_PAUSE: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

impl Future for TokenPolling {
    type Output = Result<TokenResponse, TokenError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        loop {
            this.state = match &mut this.state {
                State::Pausing { until, timer } => match timer {
                    Some(timer) => {
                        ready!(timer.as_mut().poll(cx));
                        this.after_pause()
                    }
                    None => match until.saturating_duration_since(tokio_now()) {
                        Duration::ZERO => this.after_pause(),
                        left => match timer::sleep(left) {
                            Some(sleep) => {
                                *timer = Some(Box::pin(sleep));
                                continue;
                            }
                            None => this.ended(no_timers()),
                        },
                    },
                },
                State::Sending { response, limit } => match response.as_mut().poll(cx) {
                    Poll::Ready(Ok(response)) => State::Ended(Ok(response)),
                    Poll::Ready(Err(error)) => this.after_error(error),
                    Poll::Pending => {
                        ready!(limit.poll_elapsed(cx, this.request_timeout));
                        let error = timed_out(this.request_timeout);
                        this.after_error(error)
                    }
                },
                State::Ended(result) => return Poll::Ready(result.clone()),
            };
        }
    }
}

impl fmt::Debug for TokenPolling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenPolling")
            .field("request", &self.request)
            .field("interval", &self.interval())
            .field("last_error", &self.last_error)
            .finish_non_exhaustive()
    }
}

impl DeviceAuthorizationResponse {
    /// Polls a token endpoint until the user has decided. See [`TokenPolling`].
    ///
    /// `endpoint` is a [`TokenEndpoint`](crate::TokenEndpoint), or any stack of tower layers around one. Keep the refresh token of the
    /// response, if there is one: [`TokenRequest::refresh_token`].
    pub fn wait_for_user<S>(&self, endpoint: S) -> TokenPolling
    where
        S: Service<TokenRequest, Response = TokenResponse> + Clone + Send + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send,
    {
        TokenPolling::new(endpoint, self.token_request())
    }
}

impl BackchannelAuthenticationResponse {
    /// Polls a token endpoint until the user has decided. See [`TokenPolling`].
    ///
    /// `endpoint` is a [`TokenEndpoint`](crate::TokenEndpoint), or any stack of tower layers around one. Keep the refresh token of the
    /// response, if there is one: [`TokenRequest::refresh_token`].
    pub fn wait_for_user<S>(&self, endpoint: S) -> TokenPolling
    where
        S: Service<TokenRequest, Response = TokenResponse> + Clone + Send + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send,
    {
        TokenPolling::new(endpoint, self.token_request())
    }
}

fn timed_out(limit: Duration) -> TokenError {
    TokenError::new(
        TokenErrorKind::Timeout,
        format!("the token endpoint did not respond within {limit:?}"),
        None,
    )
}

fn no_timers() -> TokenError {
    let message = "waiting for the user needs a tokio runtime with timers; poll this future within a runtime that was built with \
                   `enable_time()` or `enable_all()`";
    TokenError::new(TokenErrorKind::NoRuntime, message, None)
}
