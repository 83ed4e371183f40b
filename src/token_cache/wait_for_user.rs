//! `TokenSource::wait_for_user`: waits until the user has decided about a device login or a CIBA request.

use std::{sync::Arc, time::Duration};

use super::{TokenSource, entry::Entry};
use crate::{
    authorization_server::polling::{PollingInterval, goes_on_after},
    base::clock::tokio_now,
    error::TokenError,
    message::PollingTerms,
};

impl TokenSource {
    /// Waits until the user has approved a device login or a CIBA request.
    ///
    /// After that, the source has a token, and renews it with the refresh token. It is for a source over
    /// [`DeviceAuthorizationResponse::token_request`](crate::DeviceAuthorizationResponse::token_request) or
    /// [`BackchannelAuthenticationResponse::token_request`](crate::BackchannelAuthenticationResponse::token_request). For any other source,
    /// and after the user has approved, it does what [`warm_up`](Self::warm_up) does.
    ///
    /// 1. The first request is sent one [interval](crate::DeviceAuthorizationResponse::interval) after the codes were received, and each
    ///    later one an interval after the last response. Each `slow_down` makes the interval five seconds longer, for good.
    /// 2. After a failure that may be gone next time ([`TokenError::is_transient`]), it goes on. After connection errors and timeouts,
    ///    the pause doubles, up to a minute. `Retry-After` is obeyed, up to five minutes. [`TokenCache::status`](crate::TokenCache::status)
    ///    shows the failure.
    /// 3. It ends when the codes have expired, at the latest. A request made by hand
    ///    ([`TokenRequest::device_code`](crate::TokenRequest::device_code)) has no known end: then it ends when the server says so.
    ///
    /// # Errors
    ///
    /// | error | meaning |
    /// |---|---|
    /// | the kind [`SignInRequired`](crate::TokenErrorKind::SignInRequired) with the code [`ACCESS_DENIED`](crate::ErrorCode::ACCESS_DENIED) | the user refused |
    /// | the same kind with [`EXPIRED_TOKEN`](crate::ErrorCode::EXPIRED_TOKEN) | the user did not decide in time |
    /// | the same kind with another code | the server no longer accepts the code |
    /// | [`NoRuntime`](crate::TokenErrorKind::NoRuntime), [`ShutDown`](crate::TokenErrorKind::ShutDown) | as for [`token`](Self::token) |
    /// | anything else | a failure that no later request mends, such as a wrong client secret |
    ///
    /// # Cancel safety
    ///
    /// This method is cancel safe. If its future is dropped, a request that is under way continues, and its token is not lost. Call the
    /// method again to wait on: nothing is sent sooner than allowed.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_oauth2_client::{
    ///     DeviceAuthorizationResponse, ErrorCode, TokenCache, TokenError, TokenErrorKind, TokenSource,
    /// };
    ///
    /// /// `Ok(None)` if the user said no, or was too slow.
    /// async fn sign_in(
    ///     tokens: &TokenCache,
    ///     device: &DeviceAuthorizationResponse,
    /// ) -> Result<Option<TokenSource>, TokenError> {
    ///     println!("open {} and enter {}", device.verification_uri(), device.user_code());
    ///     let source = tokens.source(device.token_request());
    ///     match source.wait_for_user().await {
    ///         Ok(()) => Ok(Some(source)),
    ///         Err(error) if error.kind() == TokenErrorKind::SignInRequired => Ok(None),
    ///         Err(error) => Err(error),
    ///     }
    /// }
    /// ```
    pub async fn wait_for_user(&self) -> Result<(), TokenError> {
        if let Some(entry) = self.entry().filter(|entry| entry.is_polled()) {
            let polled = Polled::new(entry);
            polled.until_first_poll().await?;
            let mut changes = self.subscribe();
            loop {
                match changes.changed().await {
                    Ok(Some(_)) => return Ok(()),
                    Ok(None) if self.is_usable() => return Ok(()),
                    Ok(None) => return entry.settings().shutdown.check(),
                    Err(error) if goes_on_after(&error) => {
                        polled
                            .unless_expired(entry.until_due(), Some(error))
                            .await?;
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        self.warm_up().await
    }
}

/// An entry whose user has not decided yet.
struct Polled<'a> {
    entry: &'a Arc<Entry>,
    terms: PollingTerms,
}

impl<'a> Polled<'a> {
    fn new(entry: &'a Arc<Entry>) -> Self {
        let terms = entry.request().polling_terms();
        Self { entry, terms }
    }

    async fn until_first_poll(&self) -> Result<(), TokenError> {
        let interval = PollingInterval::of(self.entry.request()).as_duration();
        let pause = self.terms.until_first_poll(interval, tokio_now());
        if self.entry.peek().is_some() || pause.is_zero() {
            return Ok(());
        }
        self.unless_expired(pause, None).await?;
        self.sleep(pause).await;
        Ok(())
    }

    /// Returns at once if the next poll, after this pause, is before the end. Otherwise waits for the end.
    async fn unless_expired(
        &self,
        pause: Duration,
        last_error: Option<TokenError>,
    ) -> Result<(), TokenError> {
        match self.terms.left(tokio_now()) {
            Some(left) if left <= pause => {
                self.sleep(left).await;
                let expired = TokenError::expired_token(last_error);
                Err(self.entry.say_whose(expired, None))
            }
            _ => Ok(()),
        }
    }

    /// Returns at once if there is no timer. The next fetch reports that.
    async fn sleep(&self, pause: Duration) {
        let runtime = &self.entry.settings().runtime;
        if let Some(timer) = runtime.timer(pause) {
            timer.await;
        }
    }
}
