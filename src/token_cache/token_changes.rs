//! `TokenChanges`: a subscription to the token of a source.

use std::{fmt, sync::Arc, time::Duration};

use tokio::sync::watch;

use super::{
    IssuedToken, TokenCache,
    entry::Entry,
    keep_warm::{MAX_PAUSE, MIN_PAUSE},
    state::CachedToken,
};
use crate::{
    base::clock::{CLOCK_LAG, Moment},
    error::TokenError,
    message::AccessToken,
};

/// A subscription to a token; see [`TokenSource::subscribe`](crate::TokenSource::subscribe).
///
/// It keeps its token in the cache, as a [`TokenSource`](crate::TokenSource) does, also if the cache limits its
/// [number of entries](super::TokenCacheBuilder::max_entries). It needs no other handle: it ends when the cache is
/// [shut down](crate::TokenCache::shutdown), or when it is dropped.
pub struct TokenChanges(Kind);

enum Kind {
    Cached(Subscription),
    /// `None` after the token was returned.
    Fixed(Option<IssuedToken>),
}

struct Subscription {
    entry: Arc<Entry>,
    /// Dropping the last handle to a cache must not end the subscription.
    _cache: TokenCache,
    changes: watch::Receiver<u64>,
    /// The generation of the last token that was returned. It is zero at first, and those of tokens begin with one.
    seen: u64,
    /// When to ask for a token again, after an error or a token that had already expired.
    not_before: Option<Moment>,
}

impl TokenChanges {
    pub(super) fn cached(cache: &TokenCache, entry: &Arc<Entry>) -> Self {
        Self(Kind::Cached(Subscription {
            entry: entry.clone(),
            _cache: cache.clone(),
            changes: entry.subscribe(),
            seen: 0,
            not_before: None,
        }))
    }

    pub(super) fn fixed(token: AccessToken) -> Self {
        Self(Kind::Fixed(Some(token.into())))
    }

    /// Renews the token in the background, now and whenever that is due, also between two calls of [`changed`](Self::changed).
    ///
    /// Without it, nothing is renewed between two calls. So use it if you may be busy for longer than a token lives: the next call then
    /// returns a fresh token at once. It is the same as [`TokenSource::keep_warm`](crate::TokenSource::keep_warm), and the background task ends
    /// in the same way.
    ///
    /// # Errors
    ///
    /// Returns an error if there is no tokio runtime, if it has no timers, or if the cache was shut down.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower_oauth2_client::{TokenError, TokenSource};
    ///
    /// async fn export(source: TokenSource) -> Result<(), TokenError> {
    ///     let mut tokens = source.subscribe().keep_warm()?;
    ///     while let Some(token) = tokens.changed().await? {
    ///         println!("{} characters", token.expose_secret().len());
    ///         tokio::time::sleep(Duration::from_secs(24 * 3600)).await; // the next token is there at once
    ///     }
    ///     Ok(())
    /// }
    /// ```
    pub fn keep_warm(self) -> Result<Self, TokenError> {
        if let Kind::Cached(subscription) = &self.0 {
            subscription.entry.keep_warm()?;
        }
        Ok(self)
    }

    /// Returns the current token at first, and then waits for each token that replaces the last one.
    ///
    /// If there is no usable token, this method fetches one. While you wait for the next one, this method renews the token when that is
    /// due: neither [`keep_warm`](Self::keep_warm) nor another caller is needed. Between two calls, nothing is renewed without `keep_warm`.
    /// After several changes you get only the last token.
    ///
    /// Returns `None` when no other token will come: the cache was [shut down](crate::TokenCache::shutdown), or the token is
    /// [fixed](crate::TokenSource::fixed) and was returned before.
    ///
    /// # Errors
    ///
    /// Returns why there is no usable token, once for each fetch that failed. You can call this method again: it waits until the pause
    /// after the failure ends, and fetches then. A renewal that fails while the last token is still usable is not an error here; see
    /// [`TokenStatus`](super::TokenStatus).
    ///
    /// # Cancel safety
    ///
    /// This method is cancel safe: if its future is dropped, no token is lost, and a running fetch continues.
    pub async fn changed(&mut self) -> Result<Option<IssuedToken>, TokenError> {
        match &mut self.0 {
            Kind::Cached(subscription) => subscription.changed().await,
            Kind::Fixed(token) => Ok(token.take()),
        }
    }
}

impl Subscription {
    async fn changed(&mut self) -> Result<Option<IssuedToken>, TokenError> {
        loop {
            // Before the look, so that no change after it is missed.
            self.changes.borrow_and_update();
            if self.entry.is_shut_down() {
                return Ok(None);
            }
            let found = match self.remaining_pause() {
                Some(_) => Ok(self.entry.peek()),
                None => self.entry.clone().token().await.map(Some),
            };
            match found {
                Ok(Some(cached)) if cached.generation > self.seen => {
                    return Ok(Some(self.see(cached)));
                }
                Ok(_) => {}
                Err(_) if self.entry.is_shut_down() => return Ok(None),
                Err(error) => {
                    self.pause(self.until_due());
                    return Err(error);
                }
            }
            let pause = self.remaining_pause();
            let pause = pause.unwrap_or_else(|| self.until_due());
            let changed = self.changes.changed();
            self.entry.settings().runtime.timeout(pause, changed).await;
        }
    }

    fn see(&mut self, cached: Arc<CachedToken>) -> IssuedToken {
        self.seen = cached.generation;
        self.not_before = None;
        // A token that expires before it can be used would otherwise be fetched in a loop.
        if self.entry.now().has_reached(cached.expires_at) {
            self.pause(MAX_PAUSE);
        }
        IssuedToken::cached(cached)
    }

    fn pause(&mut self, pause: Duration) {
        self.not_before = Some(self.entry.now().after(pause));
    }

    fn remaining_pause(&self) -> Option<Duration> {
        let remaining = self.entry.now().until_outlasted(self.not_before?);
        (!remaining.is_zero()).then_some(remaining)
    }

    fn until_due(&self) -> Duration {
        (self.entry.until_due() + CLOCK_LAG).clamp(MIN_PAUSE, MAX_PAUSE)
    }
}

impl fmt::Debug for TokenChanges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenChanges").finish_non_exhaustive()
    }
}
