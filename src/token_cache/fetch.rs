//! A fetch: one attempt, or two, inside an overall limit.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::time;

use super::{
    builder::Settings,
    entry::{Entry, Outcome},
    events,
};
use crate::{
    base::{back_off, clock::Moment, panic::catch_panic, single_flight::Landing},
    error::{
        ErrorCode, ErrorResponse, TokenError,
        TokenErrorKind::{NoRuntime, Request, Service, SignInRequired, Timeout},
    },
    message::{TokenRequest, TokenResponse},
    secret::RefreshToken,
};

/// What a fetch came to.
pub(super) struct Fetched {
    /// The moment just before the request was sent: a lifetime counts from there.
    pub(super) sent: Moment,
    pub(super) result: Result<TokenResponse, TokenError>,
}

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
    /// As it stands in the events of `tracing`.
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

/// How a fetch goes about it.
pub(super) struct FetchPlan {
    /// Names this fetch among all of its entry.
    pub(super) number: u64,
    pub(super) reason: Reason,
    /// How long to wait before it starts.
    pub(super) delay: Duration,
    /// Whether callers wait and nothing has failed before, so that one bad moment is worth a second attempt.
    pub(super) may_retry: bool,
    /// The request of a source that lives on refresh tokens, whose owner is told of each new one.
    pub(super) owner: Option<TokenRequest>,
}

const RETRY_PAUSE: Duration = Duration::from_millis(400);

/// Fetches a token and lands the flight.
pub(super) async fn run(
    settings: Arc<Settings>,
    entry: Weak<Entry>,
    request: TokenRequest,
    plan: FetchPlan,
    landing: Landing<Outcome>,
) {
    let fetched = catch_panic(fetch(&settings, &request, &plan)).await;
    let fetched = fetched.unwrap_or_else(|| Fetched {
        sent: settings.clock.now(),
        result: Err(panicked()),
    });
    if let (Ok(response), Some(owner)) = (&fetched.result, &plan.owner) {
        // The old refresh token is gone, whatever becomes of the rest.
        if let Some(entry) = entry.upgrade() {
            entry.note_refresh_token(response);
        }
        tell_owner(&settings, owner, response).await;
    }
    // The entry first and the waiters then, so that none of them finds the entry as it was before.
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
        result: Err(timeout(limit)),
    })
}

/// Hands a new refresh token to its owner before anything relies on it.
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
    let result = settings.endpoint.fetch(request.clone()).await;
    Fetched { sent, result }
}

/// A server that said when to come back is taken at its word.
fn is_worth_a_retry(error: &TokenError, request: &TokenRequest) -> bool {
    error.is_transient()
        && error.retry_after().is_none()
        && !(request.carries_one_time_credential() && error.may_have_been_processed())
}

fn timeout(limit: Duration) -> TokenError {
    TokenError::new(Timeout, format!("no token within {limit:?}"), None)
}

fn panicked() -> TokenError {
    TokenError::new(Service, "the token client panicked", None)
}

pub(super) fn no_runtime() -> TokenError {
    let message = "there is no tokio runtime here to fetch a token on, or it is shutting down";
    TokenError::new(NoRuntime, message, None)
}

// What the next fetch sends: the request itself, or the refresh token that came of it. Pure.
//
// A code, a device code, an `auth_req_id` and a refresh token can be sent once. A source over one of them goes on with the refresh
// token of the last answer, and ends for good when the server takes it no more.

pub(super) struct GrantState {
    request: TokenRequest,
    is_one_time: bool,
    was_sent: bool,
    is_spent: bool,
    refresh_token: Option<RefreshToken>,
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

    /// Whether what this knows must not be forgotten: else a credential would be sent twice that can be sent once.
    pub(super) fn is_precious(&self) -> bool {
        self.is_one_time && self.was_sent
    }

    /// Whether an answer that nobody takes in is lost for good.
    pub(super) fn is_one_time(&self) -> bool {
        self.is_one_time
    }

    /// What to send next.
    pub(super) fn next(&mut self) -> Result<TokenRequest, TokenError> {
        self.was_sent = true;
        match (&self.end, &self.refresh_token) {
            (Some(end), _) => Err(end.clone()),
            (None, Some(refresh_token)) => Ok(self.request.continued_by(refresh_token.clone())),
            (None, None) if self.is_spent => Err(no_refresh_token()),
            (None, None) => Ok(self.request.clone()),
        }
    }

    /// Takes in the refresh token of an answer; one without leaves the old one in use (RFC 6749 §6).
    pub(super) fn succeeded(&mut self, response: &TokenResponse) {
        if self.is_one_time {
            let is_refresh = self.request.grant_type() == REFRESH_TOKEN;
            self.is_spent = !is_refresh;
            if let Some(refresh_token) = response.refresh_token() {
                self.refresh_token = Some(refresh_token.clone());
            }
        }
    }

    /// Notes an error that no later attempt can heal, and says so in the error.
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
}

impl GrantState {
    /// Whether the code was sent and may have been taken, though no answer says so. A second use would revoke what the first one
    /// brought (RFC 6749 §4.1.2). A refresh token is all there is, so it is sent again; a device code is made to be.
    fn may_be_spent(&self, error: &TokenError) -> bool {
        self.request.grant_type() == AUTHORIZATION_CODE
            && self.refresh_token.is_none()
            && error.is_transient()
            && error.may_have_been_processed()
    }
}

const AUTHORIZATION_CODE: &str = "authorization_code";
const REFRESH_TOKEN: &str = "refresh_token";

/// What a source lives on has ended, as the server said with `error`.
fn sign_in_required(error: TokenError) -> TokenError {
    let message =
        "the user has to sign in again: the server takes the code or the refresh token no more";
    TokenError::new(SignInRequired, message, Some(error.into()))
}

/// What a source lives on has ended, since it was used and nothing came to go on with.
fn no_refresh_token() -> TokenError {
    let message = "the user has to sign in again: the token is over, and the server gave no refresh token; \
                   ask for one (often by the scope `offline_access`)";
    TokenError::new(SignInRequired, message, None)
}

fn uncacheable() -> TokenError {
    let message = "a token request with extensions cannot be cached, since they cannot be compared; send it to the \
                   token endpoint itself";
    TokenError::new(Request, message, None)
}
