//! The attempts of one fetch: the first one, one more after a transient failure, and one more with a credential that has changed.

use std::{borrow::Cow, sync::Arc, time::Duration};

use tokio::time::{self, Instant};

use super::{FetchPlan, Fetched, Fetching, grant, sharing};
use crate::{
    authorization_server::token_endpoint::refusal::{OneTime, is_final_refusal},
    base::back_off,
    error::{TokenError, TokenErrorKind::SignInRequired},
    message::{TokenRequest, TokenResponse},
    token_cache::{builder::Settings, events, fetch::spent::Spent},
};

/// The pause before the second attempt, of which the second half is random.
const RETRY_PAUSE: Duration = Duration::from_millis(400);

/// The attempts of one fetch that are left.
pub(super) struct Attempts<'a> {
    pub(super) settings: &'a Arc<Settings>,
    pub(super) request: &'a TokenRequest,
    pub(super) plan: &'a FetchPlan,
    /// When the fetch ends.
    pub(super) deadline: Instant,
    /// Whether a transient failure is worth a second attempt.
    pub(super) may_retry: bool,
    /// Whether the providers may be asked again after a refusal.
    pub(super) may_reread: bool,
}

/// A request whose one-time credential is a fixed text, and whether a provider returned that text.
#[derive(Clone)]
struct Sendable<'a> {
    request: Cow<'a, TokenRequest>,
    is_provided: bool,
}

impl<'a> Attempts<'a> {
    pub(super) async fn run(mut self) -> Fetched {
        let begun = self.settings.clock.now();
        let mut newer = None;
        loop {
            let is_superseded = newer.is_some();
            let sendable = match &newer {
                Some(newer) => Ok(Sendable::clone(newer)),
                None => self.obtain(self.request).await,
            };
            let (fetched, sent) = match sendable {
                Ok(sendable) => (self.attempt(&sendable).await, Some(sendable)),
                Err(error) => (Fetched::failed(begun, error), None),
            };
            let fetched = Fetched {
                is_superseded,
                ..fetched
            };
            if is_superseded {
                self.note_newer_refresh_token(&fetched);
            }
            let Err(error) = &fetched.result else {
                return fetched;
            };
            if self.may_retry && is_worth_a_retry(error, self.request) {
                self.may_retry = false;
                events::retrying(self.request, error);
                time::sleep(back_off::jittered(RETRY_PAUSE, fastrand::f64())).await;
                continue;
            }
            let Some(sent) = sent.filter(|_| self.may_reread && is_final_refusal(error)) else {
                return fetched;
            };
            self.may_reread = false;
            match self.changed(&sent, error).await {
                Some(Changed::RefreshToken(refresh_token)) => newer = Some(refresh_token),
                Some(Changed::Other) => {
                    events::retrying(self.request, error);
                    let second = self.attempt(&sent).await;
                    self.note_second_attempt(error, &second);
                    return second;
                }
                None => return fetched,
            }
            events::retrying(self.request, error);
        }
    }

    async fn attempt(&self, sendable: &Sendable<'_>) -> Fetched {
        let Sendable {
            request,
            is_provided,
        } = sendable;
        let send = |request| -> Fetching<'_> { Box::pin(async move { self.send(&request).await }) };
        let shared = sharing::obtain(
            self.settings,
            self.plan,
            request,
            self.may_retry,
            self.deadline,
            &send,
        );
        let fetched = match shared.await {
            Some(fetched) => fetched,
            None => {
                let sent = self.settings.clock.now();
                Fetched::new(sent, self.send(request).await)
            }
        };
        Fetched {
            refresh_token: grant::refresh_token(request).filter(|_| *is_provided),
            ..fetched
        }
    }

    async fn send(&self, request: &TokenRequest) -> Result<TokenResponse, TokenError> {
        match OneTime::of(request) {
            Some(credential) => grant::send_once(self.settings, request, credential).await,
            None => self.settings.endpoint.call(request.clone()).await,
        }
    }

    /// Obtains the one-time credential of a request, if it comes from a provider.
    async fn obtain(&self, request: &'a TokenRequest) -> Result<Sendable<'a>, TokenError> {
        if request.has_known_one_time_credential() {
            return Ok(Sendable {
                request: Cow::Borrowed(request),
                is_provided: false,
            });
        }
        let request = request.with_known_one_time_credential().await;
        let request = request.map_err(TokenError::credential)?;
        if self.is_replaced(&request) {
            return Err(grant::spent_before(&request, Spent::Used));
        }
        Ok(Sendable {
            request: Cow::Owned(request),
            is_provided: true,
        })
    }

    fn is_replaced(&self, request: &TokenRequest) -> bool {
        self.plan.replaced.is_some() && grant::refresh_token(request) == self.plan.replaced
    }

    /// Asks the providers again after a final refusal. Returns what has changed, if another attempt is allowed.
    async fn changed(&self, sent: &Sendable<'_>, error: &TokenError) -> Option<Changed<'a>> {
        let settings = self.settings;
        let credential = OneTime::of(&sent.request);
        if credential == Some(OneTime::RefreshToken)
            && let Some(newer) = self.newer_refresh_token(sent).await
        {
            return Some(Changed::RefreshToken(newer));
        }
        let may_be_sent_again = credential.is_none_or(|credential| {
            let is_over =
                grant::judged(settings, &sent.request, error.clone()).kind() == SignInRequired;
            !is_over && credential.may_be_sent_again_after(error)
        });
        let provided = error.provided().filter(|_| may_be_sent_again)?;
        let has_changed = provided.has_changed(settings.clock.now()).await;
        has_changed.then_some(Changed::Other)
    }

    /// Asks the provider of the refresh token again, because another process may have used the one that was sent.
    async fn newer_refresh_token(&self, sent: &Sendable<'_>) -> Option<Sendable<'a>> {
        let owner = self.plan.owner.as_ref()?;
        let now = self.settings.clock.now();
        let rereads = owner.one_time_rereads()?;
        if rereads.are_paused(now) {
            return None;
        }
        let newer = owner.with_known_one_time_credential().await.ok()?;
        let is_new = OneTime::of(&newer) == Some(OneTime::RefreshToken)
            && grant::refresh_token(&newer) != grant::refresh_token(&sent.request)
            && !self.is_replaced(&newer)
            && !grant::is_spent(self.settings, &newer);
        if !is_new {
            rereads.note(false, now);
            return None;
        }
        Some(Sendable {
            request: Cow::Owned(newer),
            is_provided: true,
        })
    }

    fn note_newer_refresh_token(&self, second: &Fetched) {
        let owner = self.plan.owner.as_ref();
        let rereads = owner.and_then(TokenRequest::one_time_rereads);
        if let Some((rereads, is_accepted)) = rereads.zip(is_accepted(second)) {
            rereads.note(is_accepted, self.settings.clock.now());
        }
    }

    fn note_second_attempt(&self, first: &TokenError, second: &Fetched) {
        if let Some((provided, is_accepted)) = first.provided().zip(is_accepted(second)) {
            provided.note_second_attempt(is_accepted, self.settings.clock.now());
        }
    }
}

/// Returns whether the server accepted a request, or `None` if that is not known.
fn is_accepted(fetched: &Fetched) -> Option<bool> {
    match &fetched.result {
        Ok(_) => Some(true),
        Err(error) => is_final_refusal(error).then_some(false),
    }
}

/// What has changed since the attempt that the server refused.
enum Changed<'a> {
    /// The provider of the refresh token returns another one.
    RefreshToken(Sendable<'a>),
    /// Another provider returns another text, which the next attempt obtains.
    Other,
}

/// Returns whether a second attempt is useful, harmless, and not against the `Retry-After` of the server.
fn is_worth_a_retry(error: &TokenError, request: &TokenRequest) -> bool {
    error.is_transient()
        && error.retry_after().is_none()
        // The endpoint has sent two requests already. A server that demands one nonce after another must not cost more.
        && !error.demands_nonce()
        && match OneTime::of(request) {
            None => true,
            // The next poll follows after the interval that the server asked for.
            Some(OneTime::Polled) => false,
            Some(_) => !error.may_have_been_processed(),
        }
}
