//! The events that the cache reports to `tracing`; the docs of [`super`] list them.
//!
//! Every event tells whose token it is about, by the fields of [`Whose`], and never contains a token or a secret. None is sent while a lock is
//! held: a subscriber is foreign code, and may ask for a token itself.

use std::time::Duration;

use super::{entry::Invalidation, fetch::Reason, refresh_window::Lifespan};
use crate::{
    error::{CalledEndpoint, PrintableChain, TokenError},
    message::TokenRequest,
};

const TARGET: &str = "tower_oauth2_client::token_cache";

/// Whose token an event is about.
pub(super) struct Whose<'a> {
    request: &'a TokenRequest,
    client_id: Option<&'a str>,
    host: Option<&'a str>,
}

impl<'a> Whose<'a> {
    /// `called` is what an endpoint has noted, if one was called.
    pub(super) fn new(request: &'a TokenRequest, called: Option<&'a CalledEndpoint>) -> Self {
        Self {
            request,
            client_id: called
                .and_then(|called| called.client_id.as_deref())
                .or_else(|| request.named_client_id()),
            host: called
                .and_then(|called| called.host.as_deref())
                .or_else(|| request.named_host()),
        }
    }

    /// `called` counts if the error does not say whom its request has called.
    fn of_error(
        request: &'a TokenRequest,
        error: &'a TokenError,
        called: Option<&'a CalledEndpoint>,
    ) -> Self {
        let whose = Self::new(request, called);
        Self {
            client_id: error.client_id().or(whose.client_id),
            host: error.host().or(whose.host),
            request,
        }
    }
}

/// Reports an event with the fields of a [`Whose`].
macro_rules! event {
    ($level:ident, $whose:expr, $($rest:tt)+) => {{
        let whose: Whose<'_> = $whose;
        tracing::$level!(
            target: TARGET,
            label = whose.request.get_label(),
            client_id = whose.client_id,
            host = whose.host,
            grant_type = whose.request.grant_type(),
            scope = whose.request.get_scope(),
            $($rest)+
        )
    }};
}

pub(super) fn fetching(request: &TokenRequest, reason: Reason) {
    event!(
        trace,
        Whose::new(request, None),
        reason = reason.as_str(),
        "fetching an access token",
    );
}

pub(super) fn retrying(request: &TokenRequest, error: &TokenError) {
    let called = request.called();
    event!(
        debug,
        Whose::of_error(request, error, called.as_deref()),
        error = %PrintableChain(error),
        "retrying the fetch of an access token",
    );
}

pub(super) fn taken_over(request: &TokenRequest) {
    event!(
        warn,
        Whose::new(request, None),
        "nobody drives the runtime of a fetch; fetching the access token on another",
    );
}

pub(super) fn fetched(whose: Whose<'_>, reason: Reason, lifespan: Lifespan) {
    event!(
        debug,
        whose,
        reason = reason.as_str(),
        fresh = ?lifespan.fresh,
        usable = ?lifespan.usable,
        "fetched an access token",
    );
}

pub(super) fn shared(whose: Whose<'_>, reason: Reason, lifespan: Lifespan) {
    event!(
        debug,
        whose,
        reason = reason.as_str(),
        fresh = ?lifespan.fresh,
        usable = ?lifespan.usable,
        "took an access token from the token store",
    );
}

pub(super) fn failed(
    request: &TokenRequest,
    reason: Reason,
    error: &TokenError,
    failures: u32,
    pause: Duration,
) {
    event!(
        warn,
        Whose::of_error(request, error, None),
        reason = reason.as_str(),
        error = %PrintableChain(error),
        failures,
        ?pause,
        "failed to fetch an access token",
    );
}

pub(super) fn refused(whose: Whose<'_>, invalidation: Invalidation) {
    match invalidation {
        Invalidation::Dropped => {
            event!(debug, whose, "an API refused an access token; dropped it",)
        }
        Invalidation::Kept => event!(
            warn,
            whose,
            "an API refused an access token; kept it, because tokens were refused too often recently",
        ),
        // An operator need not hear of a late response to an old token.
        Invalidation::Replaced => {}
    }
}

pub(super) fn learned_lifetime(whose: Whose<'_>, lifetime: Duration) {
    event!(
        debug,
        whose,
        ?lifetime,
        "access tokens without a stated lifetime were refused twice after about the same time; renewing the next ones earlier",
    );
}

pub(super) fn owner_was_not_told(request: &TokenRequest, called: Option<&CalledEndpoint>) {
    event!(
        error,
        Whose::new(request, called),
        "on_refresh_token did not complete; using the new refresh token anyway",
    );
}

pub(super) fn shut_down_too_early() {
    tracing::error!(
        target: TARGET,
        "the cache was shut down while a fetch that spends a one-time credential still ran; a refresh token may be lost",
    );
}
