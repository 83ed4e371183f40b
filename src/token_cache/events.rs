//! The events that the cache reports to `tracing`; the docs of [`super`] list them.
//!
//! Every event has the fields `grant_type` and `scope`, and never contains a token or a secret. None is sent while a lock is held: a
//! subscriber is foreign code, and may ask for a token itself.

use std::time::Duration;

use super::{entry::Invalidation, fetch::Reason, refresh_window::Lifespan};
use crate::{
    error::{PrintableChain, TokenError},
    message::TokenRequest,
};

const TARGET: &str = "tower_oauth2_client::token_cache";

pub(super) fn fetching(request: &TokenRequest, reason: Reason) {
    tracing::trace!(
        target: TARGET,
        grant_type = request.grant_type(),
        scope = request.known_scope(),
        reason = reason.as_str(),
        "fetching an access token",
    );
}

pub(super) fn retrying(request: &TokenRequest, error: &TokenError) {
    tracing::debug!(
        target: TARGET,
        grant_type = request.grant_type(),
        scope = request.known_scope(),
        error = %PrintableChain(error),
        "retrying the fetch of an access token",
    );
}

pub(super) fn taken_over(request: &TokenRequest) {
    tracing::warn!(
        target: TARGET,
        grant_type = request.grant_type(),
        scope = request.known_scope(),
        "nobody drives the runtime of a fetch; fetching the access token on another",
    );
}

pub(super) fn fetched(request: &TokenRequest, reason: Reason, lifespan: Lifespan) {
    tracing::debug!(
        target: TARGET,
        grant_type = request.grant_type(),
        scope = request.known_scope(),
        reason = reason.as_str(),
        fresh = ?lifespan.fresh,
        usable = ?lifespan.usable,
        "fetched an access token",
    );
}

pub(super) fn failed(
    request: &TokenRequest,
    reason: Reason,
    error: &TokenError,
    failures: u32,
    pause: Duration,
) {
    tracing::warn!(
        target: TARGET,
        grant_type = request.grant_type(),
        scope = request.known_scope(),
        reason = reason.as_str(),
        error = %PrintableChain(error),
        failures,
        ?pause,
        "failed to fetch an access token",
    );
}

pub(super) fn refused(request: &TokenRequest, invalidation: Invalidation) {
    let (grant_type, scope) = (request.grant_type(), request.known_scope());
    match invalidation {
        Invalidation::Dropped => tracing::debug!(
            target: TARGET,
            grant_type,
            scope,
            "an API refused an access token; dropped it",
        ),
        Invalidation::Kept => tracing::warn!(
            target: TARGET,
            grant_type,
            scope,
            "an API refused an access token; kept it, because tokens were refused too often recently",
        ),
        // An operator need not hear of a late response to an old token.
        Invalidation::Replaced => {}
    }
}

pub(super) fn learned_lifetime(request: &TokenRequest, lifetime: Duration) {
    tracing::debug!(
        target: TARGET,
        grant_type = request.grant_type(),
        scope = request.known_scope(),
        ?lifetime,
        "access tokens without a stated lifetime were refused twice after about the same time; renewing the next ones earlier",
    );
}

pub(super) fn owner_was_not_told(request: &TokenRequest) {
    tracing::error!(
        target: TARGET,
        grant_type = request.grant_type(),
        scope = request.known_scope(),
        "on_refresh_token did not complete; using the new refresh token anyway",
    );
}

pub(super) fn shut_down_too_early() {
    tracing::error!(
        target: TARGET,
        "the cache was shut down while a fetch that spends a one-time credential still ran; a refresh token may be lost",
    );
}
