//! What the cache tells `tracing`, under the target `tower_oauth2_client::token_cache`; the docs of [`super`] list it.
//!
//! Every event bears `grant_type` and `scope`, and never a token or a secret. None is sent while a lock is held: a subscriber is code
//! of the user, and may well want a token itself.

use std::time::Duration;

use super::{entry::Invalidation, refresh_window::Windows, state::Reason};
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
        "the fetch failed; it is tried once more",
    );
}

pub(super) fn fetched(request: &TokenRequest, reason: Reason, windows: Windows) {
    tracing::debug!(
        target: TARGET,
        grant_type = request.grant_type(),
        scope = request.known_scope(),
        reason = reason.as_str(),
        fresh = ?windows.fresh,
        usable = ?windows.usable,
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
        "no new access token",
    );
}

pub(super) fn refused(request: &TokenRequest, invalidation: Invalidation) {
    let (grant_type, scope) = (request.grant_type(), request.known_scope());
    match invalidation {
        Invalidation::Dropped => tracing::debug!(
            target: TARGET,
            grant_type,
            scope,
            "an access token was refused; it is dropped",
        ),
        Invalidation::Kept => tracing::warn!(
            target: TARGET,
            grant_type,
            scope,
            "an access token was refused, as others were of late; it is kept",
        ),
        // A late answer to an old token is nothing that an operator would want to hear of.
        Invalidation::Replaced => {}
    }
}

pub(super) fn owner_was_not_told(request: &TokenRequest) {
    tracing::error!(
        target: TARGET,
        grant_type = request.grant_type(),
        scope = request.known_scope(),
        "a new refresh token could not be handed to its owner in time; it is used all the same",
    );
}
