//! What the cache tells `tracing`, under the target `tower_oauth2_client::token_cache`; the docs of [`super`] list it.
//!
//! Every event bears `grant_type` and `scope`, and never a token or a secret. None is sent while a lock is held: a subscriber is code
//! of the user, and may well want a token itself.

use std::{error::Error, fmt, time::Duration};

use super::{entry::Invalidation, fetch::Reason, refresh_window::Lifespan};
use crate::{
    error::{TokenError, TokenErrorKind},
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
        error = %Chain(error),
        "the fetch failed; it is tried once more",
    );
}

pub(super) fn fetched(request: &TokenRequest, reason: Reason, windows: Lifespan) {
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
        error = %Chain(error),
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
        Invalidation::StillInUse => tracing::warn!(
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

/// An error and what is below it, which says whether it was the name, the connection or TLS that failed. The error of a
/// credential's provider is left out: it is not ours, and may hold what it was asked for.
struct Chain<'a>(&'a TokenError);

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut below = match self.0.kind() {
            TokenErrorKind::Credential => None,
            _ => self.0.source(),
        };
        while let Some(error) = below {
            write!(f, ": {error}")?;
            below = error.source();
        }
        Ok(())
    }
}
