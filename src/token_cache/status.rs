//! What can be told of an entry without its secrets.

use std::time::Duration;

use super::{
    entry::Entry,
    state::{self, Condition},
};
use crate::{error::TokenError, message::TokenRequest};

/// How the token of one request stands; see [`TokenCache::status`](super::TokenCache::status).
#[derive(Clone, Debug)]
pub struct TokenStatus {
    request: TokenRequest,
    state: TokenState,
    expires_in: Option<Duration>,
    last_error: Option<TokenError>,
}

/// The state of a token in a cache; see the [module](super).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TokenState {
    /// It can be used, and nothing is to be done.
    Fresh,
    /// It can be used, and the next caller starts its renewal.
    Stale,
    /// It is over.
    Expired,
    /// There is none, and it is too early to ask again.
    Failed,
    /// There is none yet, or it was refused.
    Empty,
}

impl TokenStatus {
    pub(super) fn of(entry: &Entry) -> Self {
        let now = entry.now();
        let (held, failure) = entry.inspect();
        let state = match state::classify(held.as_ref(), failure.as_ref(), now) {
            Condition::Fresh(_) => TokenState::Fresh,
            Condition::Stale(_) => TokenState::Stale,
            Condition::Expired => TokenState::Expired,
            Condition::Failed(_) => TokenState::Failed,
            Condition::Empty => TokenState::Empty,
        };
        Self {
            request: entry.request().clone(),
            state,
            expires_in: held.map(|held| now.until(held.expires_at)),
            last_error: failure.map(|failure| failure.error),
        }
    }

    /// What the token was or will be asked for with. `Debug` shows it without its secrets.
    #[must_use]
    pub fn request(&self) -> &TokenRequest {
        &self.request
    }

    /// How it stands.
    #[must_use]
    pub fn state(&self) -> TokenState {
        self.state
    }

    /// How long the token can still be used: zero if it is over, `None` if there is none.
    #[must_use]
    pub fn expires_in(&self) -> Option<Duration> {
        self.expires_in
    }

    /// Why the last fetch failed, if it did.
    #[must_use]
    pub fn last_error(&self) -> Option<&TokenError> {
        self.last_error.as_ref()
    }
}
