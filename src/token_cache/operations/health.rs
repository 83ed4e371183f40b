//! A summary of all tokens, for probes.

use std::time::Duration;

use crate::{
    base::clock::Moment,
    error::{TokenError, TokenErrorKind::SignInRequired},
    token_cache::{
        TokenCache,
        pauses::FailedFetch,
        state::{self, CachedToken, Condition},
    },
};

/// How well the tokens of a cache are; see [`TokenCache::health`].
#[derive(Clone, Debug, Default)]
pub struct TokenHealth {
    entries: usize,
    usable: usize,
    stale: usize,
    failing: usize,
    unavailable: usize,
    signed_out: usize,
    failing_for: Option<Duration>,
    last_error: Option<TokenError>,
}

impl TokenCache {
    /// Returns a summary of all tokens, for a probe or a dashboard.
    ///
    /// It fetches nothing and waits for nothing. It looks at every entry, so it takes time in proportion to their number: about a
    /// tenth of a second for a million. For the details of each token, see [`status`](Self::status).
    ///
    /// # Examples
    ///
    /// A readiness probe. It tolerates failed renewals for as long as the old tokens are usable, since callers do not notice them, and
    /// also short outages without a usable token:
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower_oauth2_client::TokenCache;
    ///
    /// fn is_ready(tokens: &TokenCache) -> bool {
    ///     let health = tokens.health();
    ///     let is_long = health.failing_for() > Some(Duration::from_secs(30));
    ///     health.unavailable() == 0 || !is_long
    /// }
    /// ```
    ///
    /// A probe that fails because the authorization server is down takes all instances out of service together. Let it fail only if
    /// they cannot do anything useful without a token.
    #[must_use]
    pub fn health(&self) -> TokenHealth {
        let now = self.0.settings.clock.now();
        let mut health = TokenHealth::default();
        let mut last = None;
        for entry in self.0.entries.all() {
            let (cached, failure) = entry.inspect();
            health.count(cached.as_ref(), failure.as_ref(), now);
            if let Some(failure) = failure {
                last = Some(match last {
                    Some(last) if failure.is_before(&last) => last,
                    _ => failure,
                });
            }
        }
        health.last_error = last.map(|failure| failure.error);
        health
    }
}

impl TokenHealth {
    fn count(
        &mut self,
        cached: Option<&std::sync::Arc<CachedToken>>,
        failure: Option<&FailedFetch>,
        now: Moment,
    ) {
        self.entries += 1;
        let is_usable = match state::classify(cached, None, now) {
            Condition::Fresh(_) => true,
            Condition::Stale(_) => {
                self.stale += 1;
                true
            }
            Condition::Expired | Condition::Failed(_) | Condition::Empty => false,
        };
        self.usable += usize::from(is_usable);
        let Some(failure) = failure else {
            return;
        };
        if failure.error.kind() == SignInRequired {
            self.signed_out += 1;
        } else if let Some(failing_for) = failure.failing_for(now) {
            self.failing += 1;
            self.unavailable += usize::from(!is_usable);
            self.failing_for = self.failing_for.max(Some(failing_for));
        }
    }

    /// Returns the number of entries: of distinct requests for which the cache holds a token or fetches one.
    #[doc(alias = "len")]
    #[must_use]
    pub fn entries(&self) -> usize {
        self.entries
    }

    /// Returns the number of tokens that are usable now. Stale ones are usable.
    #[must_use]
    pub fn usable(&self) -> usize {
        self.usable
    }

    /// Returns the number of usable tokens whose renewal is due.
    #[must_use]
    pub fn stale(&self) -> usize {
        self.stale
    }

    /// Returns the number of entries whose last fetch failed, whether or not they have a usable token.
    ///
    /// It includes neither sources that wait for the user to decide ([`ErrorCode::AUTHORIZATION_PENDING`]) nor those that
    /// [`signed_out`](Self::signed_out) counts.
    ///
    /// [`ErrorCode::AUTHORIZATION_PENDING`]: crate::ErrorCode::AUTHORIZATION_PENDING
    #[must_use]
    pub fn failing(&self) -> usize {
        self.failing
    }

    /// Returns the number of [`failing`](Self::failing) entries without a usable token. Their callers get errors.
    #[must_use]
    pub fn unavailable(&self) -> usize {
        self.unavailable
    }

    /// Returns the number of entries that have ended for good, because the user must sign in again.
    ///
    /// See [`SignInRequired`](crate::TokenErrorKind::SignInRequired). This is normal in a service with many users, and no reason to
    /// restart it.
    #[must_use]
    pub fn signed_out(&self) -> usize {
        self.signed_out
    }

    /// Returns for how long fetches have failed: the time since the first failure of the entry that has been failing longest.
    ///
    /// Returns `None` if no entry is [`failing`](Self::failing).
    #[must_use]
    pub fn failing_for(&self) -> Option<Duration> {
        self.failing_for
    }

    /// Returns the error of the last failed fetch, of all entries whose last fetch failed.
    #[must_use]
    pub fn last_error(&self) -> Option<&TokenError> {
        self.last_error.as_ref()
    }
}
