//! What a fetch has to do with the other instances of a service, which share tokens through a store.

use std::{any::Any, sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{FetchPlan, Fetched, Fetching, Reason, grant};
use crate::{
    message::{TokenMark, TokenRequest},
    secret::RefreshToken,
    token_cache::{builder::Settings, refresh_window::usable},
    token_store::{
        Fence,
        share::{Ask, Wanted},
    },
};

pub(crate) use crate::token_store::share::Known;

/// What a fetch of an entry knows of the store.
#[derive(Clone, Copy, Default)]
pub(crate) struct SharedPlan {
    pub(crate) known: Known,
    /// The token that was dropped last.
    pub(crate) dropped: Option<TokenMark>,
    /// How many fetches have failed in a row.
    pub(crate) failures: u32,
}

/// Where a token comes from.
#[derive(Clone, Copy, Default)]
pub(crate) struct Origin {
    /// How old the token was when its lifetime began to count here.
    pub(crate) age: Duration,
    pub(crate) is_from_store: bool,
    pub(crate) fence: Option<Fence>,
}

/// Gets a token from the store or the endpoint. `None` if tokens are not shared.
pub(super) async fn obtain<'a>(
    settings: &'a Arc<Settings>,
    plan: &'a FetchPlan,
    request: &'a TokenRequest,
    will_retry: bool,
    deadline: Instant,
    send: &'a (dyn Fn(TokenRequest) -> Fetching<'a> + Send + Sync + 'a),
) -> Option<Fetched> {
    let share = settings.share.as_ref()?;
    let guard = plan.under_way.clone();
    let is_spent = {
        let (settings, request) = (settings.clone(), request.clone());
        Arc::new(move |token: &RefreshToken| {
            grant::is_spent(&settings, &request.continued_by(token.clone()))
        })
    };
    let ask = Ask {
        wanted: match plan.reason {
            Reason::Stale => Wanted::Renewal,
            Reason::Asked => Wanted::NewToken,
            Reason::First | Reason::Expired | Reason::Refused => Wanted::Token,
        },
        owner: plan.owner.as_ref(),
        known: plan.shared.known,
        dropped: plan.shared.dropped,
        was_refused: plan.reason == Reason::Refused,
        failures: plan.shared.failures,
        will_retry,
        default_lifetime: settings.default_lifetime,
        max_lifetime: settings.max_lifetime,
        limit: settings.fetch_timeout,
        deadline,
        usable,
        clock: &settings.clock,
        check_shutdown: Box::new(|| settings.shutdown.check()),
        is_spent,
        guard: guard.map(|guard| guard as Arc<dyn Any + Send + Sync>),
    };
    let obtained = Box::pin(share.obtain(ask, request, send)).await;
    Some(Fetched {
        origin: Origin {
            age: obtained.age,
            is_from_store: obtained.is_from_store,
            fence: obtained.fence,
        },
        ..Fetched::new(obtained.sent, obtained.result)
    })
}
