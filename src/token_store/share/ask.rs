//! What a cache says about the token that it needs, and what it gets.

use std::{any::Any, sync::Arc, time::Duration};

use tokio::time::Instant;

use super::decide::Wanted;
use crate::{
    base::clock::{Clock, Moment},
    error::TokenError,
    message::{TokenMark, TokenRequest, TokenResponse},
    secret::RefreshToken,
    token_store::Fence,
};

/// What a cache says about the token that it needs.
pub(crate) struct Ask<'a> {
    pub(crate) wanted: Wanted,
    /// The first request of a source that goes on with refresh tokens.
    pub(crate) owner: Option<&'a TokenRequest>,
    pub(crate) known: Known,
    /// The token that was dropped last. It is not taken from the store again.
    pub(crate) dropped: Option<TokenMark>,
    /// Whether the last token was refused or discarded.
    pub(crate) was_refused: bool,
    /// How many fetches have failed in a row.
    pub(crate) failures: u32,
    /// Whether a transient failure is followed by another attempt at once.
    pub(crate) will_retry: bool,
    pub(crate) default_lifetime: Duration,
    pub(crate) max_lifetime: Duration,
    /// How long a fetch may take, and when that ends.
    pub(crate) limit: Duration,
    pub(crate) deadline: Instant,
    /// For how much of its lifetime a token is usable.
    pub(crate) usable: fn(Duration) -> Duration,
    pub(crate) clock: &'a Clock,
    /// Returns an error once the cache was shut down.
    pub(crate) check_shutdown: Box<dyn Fn() -> Result<(), TokenError> + Send + Sync + 'a>,
    /// Returns whether a refresh token must not be sent any more, because the server has replaced or refused it.
    pub(crate) is_spent: Arc<dyn Fn(&RefreshToken) -> bool + Send + Sync>,
    /// A shutdown waits until this is dropped.
    pub(crate) guard: Option<Arc<dyn Any + Send + Sync>>,
}

/// What a cache knows of the tokens that it has had for one request.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Known {
    /// The newest entry or lease, or zero: each entry of a cache has this, so it is small. Older entries are not taken.
    fence: u64,
}

impl Known {
    pub(crate) fn note(&mut self, fence: Option<Fence>) {
        self.fence = self.fence.max(fence.map_or(0, Fence::get));
    }

    pub(super) fn fence(self) -> Option<Fence> {
        (self.fence > 0).then(|| Fence::new(self.fence))
    }
}

/// A token from the store or from the server, or why there is none.
pub(crate) struct Obtained {
    pub(crate) result: Result<TokenResponse, TokenError>,
    /// The moment from which the lifetime counts, unless the token was older then.
    pub(crate) sent: Moment,
    /// How old the token was at `sent`.
    pub(crate) age: Duration,
    pub(crate) fence: Option<Fence>,
    /// Whether another instance fetched it.
    pub(crate) is_from_store: bool,
}

impl Obtained {
    pub(super) fn failed(sent: Moment, error: TokenError) -> Self {
        Self::fetched(sent, Err(error))
    }

    pub(super) fn fetched(sent: Moment, result: Result<TokenResponse, TokenError>) -> Self {
        Self {
            result,
            sent,
            age: Duration::ZERO,
            fence: None,
            is_from_store: false,
        }
    }
}
