//! A fetch: one attempt, or two, inside an overall limit.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::time;

use super::{entry::Entry, error, events, fetch_task::Outcome, settings::Settings, state::Reason};
use crate::{
    base::{back_off, clock::Moment, panic::catch_panic, single_flight::Landing},
    error::TokenError,
    message::{TokenRequest, TokenResponse},
};

/// What a fetch came to.
pub(super) struct Fetched {
    /// The moment just before the request was sent: a lifetime counts from there.
    pub(super) sent: Moment,
    pub(super) result: Result<TokenResponse, TokenError>,
}

/// How a fetch goes about it.
pub(super) struct Plan {
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
    plan: Plan,
    landing: Landing<Outcome>,
) {
    let fetched = catch_panic(fetch(&settings, &request, &plan)).await;
    let fetched = fetched.unwrap_or_else(|| Fetched {
        sent: settings.clock.now(),
        result: Err(error::panicked()),
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

async fn fetch(settings: &Settings, request: &TokenRequest, plan: &Plan) -> Fetched {
    if !plan.delay.is_zero() {
        time::sleep(plan.delay).await;
    }
    events::fetching(request, plan.reason);
    let begun = settings.clock.now();
    let limit = settings.fetch_timeout;
    let fetched = time::timeout(limit, attempts(settings, request, plan.may_retry)).await;
    fetched.unwrap_or_else(|_| Fetched {
        sent: begun,
        result: Err(error::timeout(limit)),
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
