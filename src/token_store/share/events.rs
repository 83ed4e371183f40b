//! The events that sharing reports to `tracing`; the docs of [`ShareTokens`](super::ShareTokens) list them. They contain no secret.

use crate::error::{BoxError, PrintableChain};

const TARGET: &str = "tower_oauth2_client::token_store";

pub(super) fn failed(error: &BoxError) {
    tracing::warn!(
        target: TARGET,
        error = %PrintableChain(&**error),
        "the token store failed; continuing without it",
    );
}

pub(super) fn recovered() {
    tracing::info!(target: TARGET, "the token store works again");
}

pub(super) fn unreadable(why: &str) {
    tracing::warn!(
        target: TARGET,
        why,
        "an entry of the token store is not readable; it will be overwritten",
    );
}

pub(super) fn holder_was_lost() {
    tracing::debug!(
        target: TARGET,
        "the lease of another instance ended before it stored a token; fetching again",
    );
}

pub(super) fn refresh_token_is_given_up() {
    tracing::error!(
        target: TARGET,
        "a new refresh token could not be put into the token store for ten minutes; other instances do not have it",
    );
}

pub(super) fn refresh_token_is_not_stored() {
    tracing::error!(
        target: TARGET,
        "a new refresh token could not be put into the token store; trying again in the background",
    );
}
