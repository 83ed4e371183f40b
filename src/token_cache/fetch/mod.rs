//! One fetch of a token: its attempts, and the call of `on_refresh_token`.

mod attempts;
pub(crate) mod grant;
pub(crate) mod heartbeat;
pub(crate) mod limit;
pub(crate) mod nesting;
pub(crate) mod renewal_pause;
pub(crate) mod runtime;
#[cfg_attr(not(feature = "token-store"), path = "no_sharing.rs")]
pub(crate) mod sharing;
pub(crate) mod spent;

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::time;

use self::{
    attempts::Attempts,
    sharing::{Origin, SharedPlan},
};
use crate::token_cache::{
    builder::Settings,
    entry::{Entry, FetchOutcome},
    events,
    operations::shutdown::UnderWay,
};
use crate::{
    base::{
        clock::{Moment, tokio_deadline},
        panic::catch_panic,
        single_flight::Landing,
    },
    error::{
        CalledEndpoint, TokenError,
        TokenErrorKind::{Service, Timeout},
    },
    message::{CalledSlot, TokenMark, TokenRequest, TokenResponse},
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
pub(crate) struct FetchPlan {
    /// Identifies this fetch among all of its entry.
    pub(crate) number: u64,
    pub(crate) reason: Reason,
    /// How long to wait before the first attempt.
    pub(crate) delay: Duration,
    /// Set if callers wait and nothing has failed before, so that a transient failure is worth a second attempt.
    pub(crate) may_retry: bool,
    /// The request of a source that continues with refresh tokens, to pass to `on_refresh_token`.
    pub(crate) owner: Option<TokenRequest>,
    /// The text of a provider that must not be sent again, because the server has replaced it.
    pub(crate) replaced: Option<RefreshToken>,
    /// The token that the response is to replace.
    pub(crate) old_token: Option<TokenMark>,
    /// A shutdown waits until this is dropped, if the fetch may spend a one-time credential.
    pub(crate) under_way: Option<Arc<UnderWay>>,
    /// What is known of the store that the fleet shares.
    #[cfg_attr(not(feature = "token-store"), allow(dead_code))]
    pub(crate) shared: SharedPlan,
}

/// A request on its way to the endpoint.
type Fetching<'a> = Pin<Box<dyn Future<Output = Result<TokenResponse, TokenError>> + Send + 'a>>;

/// The result of a fetch.
pub(crate) struct Fetched {
    /// The moment just before the request was sent, from which the lifetime of the token counts.
    pub(crate) sent: Moment,
    pub(crate) origin: Origin,
    pub(crate) result: Result<TokenResponse, TokenError>,
    /// The refresh token that was sent, if a provider returned it.
    pub(crate) refresh_token: Option<RefreshToken>,
    /// Whether the provider of the refresh token returned a newer one than the one that the entry knows.
    pub(crate) is_superseded: bool,
    /// The client and the host that were called, as far as the endpoint has noted them.
    pub(crate) called: Option<Arc<CalledEndpoint>>,
}

impl Fetched {
    fn failed(sent: Moment, error: TokenError) -> Self {
        Self::new(sent, Err(error))
    }

    fn new(sent: Moment, result: Result<TokenResponse, TokenError>) -> Self {
        Self {
            sent,
            origin: Origin::default(),
            result,
            refresh_token: None,
            is_superseded: false,
            called: None,
        }
    }
}

/// Fetches a token, and passes the result to the entry and then to the waiters.
pub(crate) async fn run(
    settings: Arc<Settings>,
    entry: Weak<Entry>,
    request: TokenRequest,
    mut plan: FetchPlan,
    landing: Landing<FetchOutcome>,
) {
    // Held until the end: a shutdown waits for the response to a one-time credential.
    if plan.owner.is_some() {
        let Some(under_way) = UnderWay::new(&settings) else {
            return;
        };
        plan.under_way = Some(Arc::new(under_way));
    }
    // It tells whom a fetch has called even if a limit ends it.
    let slot = CalledSlot::default();
    let request = request
        .noting_endpoint(&slot)
        .noting_replaced_token(plan.old_token);
    let fetched = catch_panic(fetch(&settings, &request, &plan)).await;
    let fetched = fetched.unwrap_or_else(|| {
        let error = grant::judged(&settings, &request, panicked());
        Fetched::failed(settings.clock.now(), error)
    });
    let fetched = Fetched {
        called: slot.get(),
        ..fetched
    };
    if let (Ok(response), Some(owner)) = (&fetched.result, &plan.owner) {
        // First of all, because the server no longer accepts the old refresh token.
        let is_newest = entry.upgrade().is_none_or(|entry| {
            let sent = fetched.refresh_token.clone();
            entry.note_refresh_token(&plan, response, sent)
        });
        // The instance that fetched it tells the owner.
        if is_newest && !fetched.origin.is_from_store {
            tell_owner(&settings, owner, &slot, response).await;
        }
    }
    // The entry before the waiters, so that none of them finds the old state of the entry.
    let outcome = entry.upgrade().map(|entry| entry.land(&plan, fetched));
    if let Some(outcome) = outcome {
        landing.land(outcome);
    }
}

async fn fetch(settings: &Arc<Settings>, request: &TokenRequest, plan: &FetchPlan) -> Fetched {
    if !plan.delay.is_zero() {
        time::sleep(plan.delay).await;
    }
    events::fetching(request, plan.reason);
    let begun = settings.clock.now();
    let limit = settings.fetch_timeout;
    let deadline = tokio_deadline(limit);
    let attempts = Attempts {
        settings,
        request,
        plan,
        deadline,
        may_retry: plan.may_retry,
        may_reread: true,
    };
    let fetched = time::timeout_at(deadline, attempts.run()).await;
    let fetched = fetched.unwrap_or_else(|_| Fetched::failed(begun, timed_out(limit)));
    Fetched {
        result: fetched
            .result
            .map_err(|error| grant::judged(settings, request, error)),
        ..fetched
    }
}

/// Passes a new refresh token to `on_refresh_token` before anything relies on it.
///
/// `slot` tells whom the fetch has called.
async fn tell_owner(
    settings: &Settings,
    owner: &TokenRequest,
    slot: &CalledSlot,
    response: &TokenResponse,
) {
    if let (Some(tell), Some(token)) = (&settings.on_refresh_token, response.refresh_token()) {
        let told = async {
            let told = tell(owner.clone().noting_endpoint(slot), token.clone());
            time::timeout(settings.fetch_timeout, told).await
        };
        if !matches!(catch_panic(told).await, Some(Ok(()))) {
            events::owner_was_not_told(owner, slot.get().as_deref());
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
