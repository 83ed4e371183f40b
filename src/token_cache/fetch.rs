//! One fetch of a token: what it sends, its attempts, and the call of `on_refresh_token`.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::time;

use super::{
    builder::Settings,
    entry::{Entry, FetchOutcome},
    events,
    operations::shutdown::UnderWay,
};
use crate::{
    base::{back_off, clock::Moment, panic::catch_panic, single_flight::Landing},
    error::{
        ErrorCode, ErrorResponse, TokenError,
        TokenErrorKind::{Request, Service, SignInRequired, Timeout},
    },
    message::{TokenRequest, TokenResponse},
    secret::RefreshToken,
};

/// Why a token is fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    First,
    Stale,
    Expired,
    Refused,
    Asked,
}

impl Reason {
    /// Returns the name for the events of `tracing`.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Stale => "stale",
            Self::Expired => "expired",
            Self::Refused => "refused",
            Self::Asked => "asked for",
        }
    }
}

/// How to run a fetch.
pub(super) struct FetchPlan {
    /// Identifies this fetch among all of its entry.
    pub(super) number: u64,
    pub(super) reason: Reason,
    /// How long to wait before the first attempt.
    pub(super) delay: Duration,
    /// Set if callers wait and nothing has failed before, so that a transient failure is worth a second attempt.
    pub(super) may_retry: bool,
    /// The request of a source that continues with refresh tokens, to pass to `on_refresh_token`.
    pub(super) owner: Option<TokenRequest>,
}

/// The result of a fetch.
pub(super) struct Fetched {
    /// The moment just before the request was sent, from which the lifetime of the token counts.
    pub(super) sent: Moment,
    pub(super) result: Result<TokenResponse, TokenError>,
}

/// The pause before the second attempt, of which the second half is random.
const RETRY_PAUSE: Duration = Duration::from_millis(400);

/// Fetches a token, and passes the result to the entry and then to the waiters.
pub(super) async fn run(
    settings: Arc<Settings>,
    entry: Weak<Entry>,
    request: TokenRequest,
    plan: FetchPlan,
    landing: Landing<FetchOutcome>,
) {
    // Held until the end: a shutdown waits for the response to a one-time credential.
    let under_way = plan.owner.as_ref().map(|_| UnderWay::new(&settings));
    if matches!(under_way, Some(None)) {
        return;
    }
    let fetched = catch_panic(fetch(&settings, &request, &plan)).await;
    let fetched = fetched.unwrap_or_else(|| Fetched {
        sent: settings.clock.now(),
        result: Err(panicked()),
    });
    if let (Ok(response), Some(owner)) = (&fetched.result, &plan.owner) {
        // First of all, because the server no longer accepts the old refresh token.
        let is_newest = entry
            .upgrade()
            .is_none_or(|entry| entry.note_refresh_token(&plan, response));
        if is_newest {
            tell_owner(&settings, owner, response).await;
        }
    }
    // The entry before the waiters, so that none of them finds the old state of the entry.
    let outcome = entry.upgrade().map(|entry| entry.land(&plan, fetched));
    if let Some(outcome) = outcome {
        landing.land(outcome);
    }
}

async fn fetch(settings: &Settings, request: &TokenRequest, plan: &FetchPlan) -> Fetched {
    if !plan.delay.is_zero() {
        time::sleep(plan.delay).await;
    }
    events::fetching(request, plan.reason);
    let begun = settings.clock.now();
    let limit = settings.fetch_timeout;
    let fetched = time::timeout(limit, attempts(settings, request, plan.may_retry)).await;
    fetched.unwrap_or_else(|_| Fetched {
        sent: begun,
        result: Err(timed_out(limit)),
    })
}

async fn attempts(settings: &Settings, request: &TokenRequest, may_retry: bool) -> Fetched {
    let first = attempt(settings, request).await;
    let Err(error) = &first.result else {
        return first;
    };
    if error.is_about_a_rotated_secret().await {
        events::retrying(request, error);
        attempt(settings, request).await
    } else if may_retry && is_worth_a_retry(error, request) {
        events::retrying(request, error);
        time::sleep(back_off::jittered(RETRY_PAUSE, fastrand::f64())).await;
        attempt(settings, request).await
    } else {
        first
    }
}

async fn attempt(settings: &Settings, request: &TokenRequest) -> Fetched {
    let sent = settings.clock.now();
    let result = settings.endpoint.call(request.clone()).await;
    Fetched { sent, result }
}

/// Returns whether a second attempt is useful, harmless, and not against the `Retry-After` of the server.
fn is_worth_a_retry(error: &TokenError, request: &TokenRequest) -> bool {
    error.is_transient()
        && error.retry_after().is_none()
        && !(request.carries_one_time_credential() && error.may_have_been_processed())
}

/// Passes a new refresh token to `on_refresh_token` before anything relies on it.
async fn tell_owner(settings: &Settings, owner: &TokenRequest, response: &TokenResponse) {
    if let (Some(tell), Some(token)) = (&settings.on_refresh_token, response.refresh_token()) {
        let told = async {
            let told = tell(owner.clone(), token.clone());
            time::timeout(settings.fetch_timeout, told).await
        };
        if !matches!(catch_panic(told).await, Some(Ok(()))) {
            events::owner_was_not_told(owner);
        }
    }
}

fn timed_out(limit: Duration) -> TokenError {
    TokenError::new(
        Timeout,
        format!("the fetch of an access token took longer than {limit:?}"),
        None,
    )
}

fn panicked() -> TokenError {
    TokenError::new(
        Service,
        "the token endpoint, or a layer around it, panicked",
        None,
    )
}

/// What the next fetch sends: the request itself, or the refresh token that replaced its credential. Pure.
///
/// A code, a device code, an `auth_req_id` and a refresh token are one-time credentials: they can be sent once. A source over one of
/// them continues with the refresh token of the last response, and ends for good when the server no longer accepts that.
pub(super) struct GrantState {
    request: TokenRequest,
    is_one_time: bool,
    was_sent: bool,
    /// Set once the credential of the request has been exchanged for a token, and cannot be sent again.
    is_spent: bool,
    refresh_token: Option<RefreshToken>,
    /// Why no fetch can succeed any longer.
    end: Option<TokenError>,
}

impl GrantState {
    pub(super) fn new(request: TokenRequest) -> Self {
        let is_comparable = request.extensions().is_empty();
        Self {
            is_one_time: request.carries_one_time_credential(),
            request,
            was_sent: false,
            is_spent: false,
            refresh_token: None,
            end: (!is_comparable).then(uncacheable),
        }
    }

    /// Returns whether the request carries a credential that can be sent once, so that each response to it is the only one.
    pub(super) fn is_one_time(&self) -> bool {
        self.is_one_time
    }

    /// Returns whether forgetting this state would send a one-time credential twice.
    pub(super) fn has_sent_one_time_credential(&self) -> bool {
        self.is_one_time && self.was_sent
    }

    /// Returns the request of the next fetch.
    pub(super) fn next_request(&mut self) -> Result<TokenRequest, TokenError> {
        self.was_sent = true;
        match (&self.end, &self.refresh_token) {
            (Some(end), _) => Err(end.clone()),
            (None, Some(refresh_token)) => Ok(self.request.continued_by(refresh_token.clone())),
            (None, None) if self.is_spent => Err(no_refresh_token()),
            (None, None) => Ok(self.request.clone()),
        }
    }

    /// Takes in the refresh token of a response. Without one, the old one stays in use (RFC 6749 §6).
    pub(super) fn succeeded(&mut self, response: &TokenResponse) {
        if self.is_one_time {
            let is_refresh = self.request.grant_type() == REFRESH_TOKEN;
            self.is_spent = !is_refresh;
            // A fetch that was thought to be lost can succeed after a later one was refused.
            self.end = None;
            if let Some(refresh_token) = response.refresh_token() {
                self.refresh_token = Some(refresh_token.clone());
            }
        }
    }

    /// Remembers an error after which no attempt can succeed, and returns it as `SignInRequired`. Returns any other error unchanged.
    pub(super) fn failed(&mut self, error: TokenError) -> TokenError {
        let is_refused = !error.is_transient()
            && matches!(
                error.error_response().map(ErrorResponse::code),
                Some(ErrorCode::InvalidGrant | ErrorCode::ExpiredToken | ErrorCode::AccessDenied)
            );
        if !self.is_one_time || !(is_refused || self.may_be_spent(&error)) {
            return error;
        }
        let end = sign_in_required(error);
        self.end = Some(end.clone());
        end
    }

    /// Returns whether the server may have accepted a code although no response says so.
    ///
    /// Sending the code again would revoke the tokens of the first time (RFC 6749 §4.1.2). A refresh token is sent again, because there
    /// is nothing else to send; a device code is meant to be sent again.
    fn may_be_spent(&self, error: &TokenError) -> bool {
        self.request.grant_type() == AUTHORIZATION_CODE
            && self.refresh_token.is_none()
            && error.is_transient()
            && error.may_have_been_processed()
    }
}

const AUTHORIZATION_CODE: &str = "authorization_code";
const REFRESH_TOKEN: &str = "refresh_token";

fn sign_in_required(error: TokenError) -> TokenError {
    let message =
        "the user has to sign in again: the server no longer accepts the code or the refresh token";
    TokenError::new(SignInRequired, message, Some(error.into()))
}

fn no_refresh_token() -> TokenError {
    let message = "the user has to sign in again: the access token is no longer usable, and the server issued no refresh token; \
                   request one (often with the scope `offline_access`)";
    TokenError::new(SignInRequired, message, None)
}

fn uncacheable() -> TokenError {
    let message = "a token request with extensions cannot be cached, because extensions cannot be compared; send it to the \
                   token endpoint directly";
    TokenError::new(Request, message, None)
}
