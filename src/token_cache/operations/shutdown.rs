//! Shuts down a cache without losing a refresh token.
//!
//! A fetch that spends a one-time credential counts itself before it sends anything. The count and the beginning of a shutdown are one
//! number. So either the fetch sees the shutdown and sends nothing, or the shutdown sees the fetch and waits for it.

use std::{
    pin::pin,
    sync::{Arc, atomic::Ordering::AcqRel, atomic::Ordering::Acquire},
};

use crate::{
    base::sync::{AtomicU64, Notify},
    error::{TokenError, TokenErrorKind::ShutDown},
    token_cache::{TokenCache, builder::Settings, events},
};

impl TokenCache {
    /// Stops all renewals, and waits for fetches whose response must not be lost.
    ///
    /// Call it after the last request has ended, and before the runtime ends:
    ///
    /// 1. [`keep_warm`](crate::TokenSource::keep_warm) ends for every source, and no new fetch starts. Callers that need one get an
    ///    error of the kind [`ShutDown`]. Usable tokens are still served.
    /// 2. Running fetches are cancelled, except those that have sent a code or a refresh token. The server may have replaced that
    ///    credential already, so the response is awaited, and so is [`on_refresh_token`](crate::token_cache::TokenCacheBuilder::on_refresh_token).
    ///
    /// It returns when all of this has ended: at once, if no source spends a one-time credential. It takes no longer than the limit of a
    /// fetch, which is twice the [`fetch_timeout`](crate::token_cache::TokenCacheBuilder::fetch_timeout) and a few seconds; then it reports an
    /// event of the level `ERROR` to `tracing`. It can be called again, from any clone of the cache, and does the same. A cache that was
    /// shut down stays so.
    ///
    /// # Cancel safety
    ///
    /// The cache is shut down at the first poll. If the future is dropped later, only the waiting ends.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_oauth2_client::TokenCache;
    ///
    /// async fn run(tokens: TokenCache, server: impl Future<Output = ()>) {
    ///     // Returns after a signal, when all requests have been answered.
    ///     server.await;
    ///     tokens.shutdown().await;
    ///     // Now the runtime can end, and with it the last tasks.
    /// }
    /// ```
    pub async fn shutdown(&self) {
        let settings = &self.0.settings;
        settings.shutdown.begin();
        for entry in self.0.entries.all() {
            entry.shut_down();
        }
        let ended = settings.shutdown.all_ended();
        let limit = settings.longest_fetch();
        if settings.runtime.timeout(limit, ended).await.is_none() {
            events::shut_down_too_early();
        }
    }
}

/// Whether a cache was shut down, and how many fetches must end before.
pub(crate) struct Shutdown {
    /// The number of fetches, and [`BEGUN`].
    fetches: AtomicU64,
    ended: Notify,
}

const BEGUN: u64 = 1 << 63;

impl Shutdown {
    pub(crate) fn new() -> Self {
        Self {
            fetches: AtomicU64::new(0),
            ended: Notify::new(),
        }
    }

    fn begin(&self) {
        self.fetches.fetch_or(BEGUN, AcqRel);
    }

    /// Returns an error if the cache was shut down.
    pub(crate) fn check(&self) -> Result<(), TokenError> {
        match self.fetches.load(Acquire) {
            BEGUN.. => Err(shut_down()),
            _ => Ok(()),
        }
    }

    async fn all_ended(&self) {
        loop {
            let mut ended = pin!(self.ended.notified());
            ended.as_mut().enable();
            if self.fetches.load(Acquire) == BEGUN {
                return;
            }
            ended.await;
        }
    }
}

/// A fetch for which a shutdown waits.
pub(crate) struct UnderWay(Arc<Settings>);

impl UnderWay {
    /// Returns `None` if a shutdown has begun.
    pub(crate) fn new(settings: &Arc<Settings>) -> Option<Self> {
        let before = settings.shutdown.fetches.fetch_add(1, AcqRel);
        // Dropped at once if it is refused, which takes it off the count.
        let this = Self(settings.clone());
        (before < BEGUN).then_some(this)
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let shutdown = &self.0.shutdown;
        if shutdown.fetches.fetch_sub(1, AcqRel) == BEGUN + 1 {
            shutdown.ended.notify_waiters();
        }
    }
}

fn shut_down() -> TokenError {
    let message = "no access token is fetched any longer, because the token cache was shut down";
    TokenError::new(ShutDown, message, None)
}
