//! Hands out one token of a cache.

use std::{
    fmt,
    sync::{Arc, Weak},
};

use http::HeaderValue;
use tokio::sync::watch;

use super::{TokenCache, entry::Entry, state::CachedToken};
use crate::{
    error::TokenError,
    message::{AccessToken, TokenRequest},
};

/// Hands out the token that one [`TokenRequest`] brings: fresh, shared, renewed in time.
///
/// It is a cheap handle without type parameters; clones hand out the same token. It serves a layer that authenticates HTTP
/// requests, and everything else that wants a token: a Kafka client, a database, a mail server.
///
/// # Examples
///
/// ```
/// use tower_oauth2_client::{AccessToken, TokenSource, TokenType};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let source = TokenSource::fixed(AccessToken::new("for-tests", TokenType::BEARER)?);
/// assert_eq!(source.token().await?.expose_secret(), "for-tests");
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct TokenSource(Source);

#[derive(Clone)]
enum Source {
    Cached {
        cache: TokenCache,
        entry: Arc<Entry>,
    },
    Fixed(AccessToken),
}

impl TokenSource {
    /// Always the same token, which never expires: for tests, and for tokens that live as long as the process.
    #[must_use]
    pub fn fixed(token: AccessToken) -> Self {
        Self(Source::Fixed(token))
    }

    pub(super) fn cached(cache: TokenCache, entry: Arc<Entry>) -> Self {
        Self(Source::Cached { cache, entry })
    }

    /// The token: at once while there is one that can be used, else by waiting for the one fetch that brings it.
    ///
    /// # Errors
    ///
    /// Why there is no token. Those who wait for one fetch share its error.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future changes nothing: the fetch goes on for others, and its token is kept.
    pub async fn token(&self) -> Result<AccessToken, TokenError> {
        match &self.0 {
            Source::Cached { entry, .. } => Ok(held(entry).await?.token.clone()),
            Source::Fixed(token) => Ok(token.clone()),
        }
    }

    /// The token if there is one that can be used now. It starts nothing.
    #[must_use]
    pub fn peek(&self) -> Option<AccessToken> {
        match &self.0 {
            Source::Cached { entry, .. } => entry.peek().map(|held| held.token.clone()),
            Source::Fixed(token) => Some(token.clone()),
        }
    }

    /// Fetches the token before the first request needs it.
    ///
    /// # Errors
    ///
    /// As [`token`](Self::token).
    pub async fn warm_up(&self) -> Result<(), TokenError> {
        self.token().await.map(drop)
    }

    /// Fetches the token in the background, now and whenever it is time, even while nobody asks for it: no caller ever waits,
    /// not the first one after an idle hour either. It ends with the last handle to the token, or with the runtime it was called
    /// on; then it can be called again on another.
    ///
    /// # Errors
    ///
    /// If there is no tokio runtime here to do so.
    pub fn keep_warm(&self) -> Result<(), TokenError> {
        match &self.0 {
            Source::Cached { entry, .. } => entry.keep_warm(),
            Source::Fixed(_) => Ok(()),
        }
    }

    /// Fetches a new token even though the one that is held is good, or waits for the fetch that is under way. The old token
    /// is served until the new one is there. At most one fetch a second goes out.
    ///
    /// # Errors
    ///
    /// As [`token`](Self::token), and at once while the server wants to be left alone (`Retry-After`, the polling of a device
    /// code). The token that is held stays.
    ///
    /// # Cancel safety
    ///
    /// As [`token`](Self::token).
    pub async fn renew(&self) -> Result<AccessToken, TokenError> {
        match &self.0 {
            Source::Cached { entry, .. } => Ok(entry.clone().renew().await?.token.clone()),
            Source::Fixed(token) => Ok(token.clone()),
        }
    }

    /// Says that an API refused this very token. It is dropped, so that the next caller fetches another; if it has been
    /// replaced in the meantime, nothing happens.
    ///
    /// When tokens are refused again and again, each in the first half of its life, two are dropped at once, and then one after a
    /// pause that doubles from 5 seconds to 5 minutes: an API that refuses every token does not churn the tokens of all.
    pub fn invalidate(&self, token: &AccessToken) {
        if let Source::Cached { entry, .. } = &self.0 {
            entry.invalidate(|held| held.token == *token);
        }
    }

    /// As [`invalidate`](Self::invalidate), by the value of the header that bore the token.
    pub(crate) fn invalidate_sent(&self, sent: &HeaderValue) {
        if let Source::Cached { entry, .. } = &self.0 {
            entry.invalidate(|held| held.authorization == sent);
        }
    }

    /// Watches for new tokens.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn example(source: tower_oauth2_client::TokenSource) {
    /// let mut changes = source.subscribe();
    /// while let Some(token) = changes.changed().await {
    ///     // hand the new token to a connection that stays open
    ///     # drop(token);
    /// }
    /// # }
    /// ```
    #[must_use]
    pub fn subscribe(&self) -> TokenChanges {
        TokenChanges(match &self.0 {
            Source::Cached { entry, .. } => Some((Arc::downgrade(entry), entry.subscribe())),
            Source::Fixed(_) => None,
        })
    }

    /// The source of another token of the same cache; `None` for a fixed token, which has none.
    pub(crate) fn sibling(&self, request: TokenRequest) -> Option<Self> {
        match &self.0 {
            Source::Cached { cache, .. } => Some(cache.source(request)),
            Source::Fixed(_) => None,
        }
    }

    pub(super) fn entry(&self) -> Option<&Arc<Entry>> {
        match &self.0 {
            Source::Cached { entry, .. } => Some(entry),
            Source::Fixed(_) => None,
        }
    }

    pub(super) fn fixed_token(&self) -> Option<&AccessToken> {
        match &self.0 {
            Source::Cached { .. } => None,
            Source::Fixed(token) => Some(token),
        }
    }
}

async fn held(entry: &Arc<Entry>) -> Result<Arc<CachedToken>, TokenError> {
    match entry.usable(Arc::clone) {
        Some(held) => Ok(held),
        None => entry.clone().token().await,
    }
}

impl fmt::Debug for TokenSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Source::Cached { entry, .. } => {
                f.debug_tuple("TokenSource").field(entry.request()).finish()
            }
            Source::Fixed(_) => f.write_str("TokenSource(fixed)"),
        }
    }
}

/// Watches for new tokens; see [`TokenSource::subscribe`].
pub struct TokenChanges(Option<(Weak<Entry>, watch::Receiver<u64>)>);

impl TokenChanges {
    /// The next token that replaces the one that was current when this was called last. `None` when there will be none: the
    /// token is fixed, or the cache and all sources of the token are gone.
    ///
    /// It fetches nothing itself: tokens are renewed while somebody asks for them.
    ///
    /// # Cancel safety
    ///
    /// No change is lost when the future is dropped; of several changes in between, the last one is seen.
    pub async fn changed(&mut self) -> Option<AccessToken> {
        let (entry, generation) = self.0.as_mut()?;
        loop {
            generation.changed().await.ok()?;
            if let Some(held) = entry.upgrade()?.peek() {
                return Some(held.token.clone());
            }
        }
    }
}

impl fmt::Debug for TokenChanges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenChanges").finish_non_exhaustive()
    }
}
