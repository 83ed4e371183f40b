//! `TokenSource` hands out the token of one request.

use std::{
    fmt,
    future::Future,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use http::HeaderValue;

use super::{
    IssuedToken, TokenCache, TokenChanges,
    entry::{Entry, Invalidation, SentTo},
};
use crate::{
    base::clock::Moment,
    error::TokenError,
    message::{AccessToken, Scope, TokenRequest},
};

/// A longer scope that the server chose is not requested together with another.
const MAX_GRANTED_SCOPE: usize = 4 * 1024;

/// Hands out the token for one [`TokenRequest`]: fresh, shared, renewed in time.
///
/// It is a cheap handle without type parameters; clones hand out the same token. It serves the layer that authenticates HTTP
/// requests, and everything else that needs a token: a Kafka client, a database, a mail server.
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
pub struct TokenSource(pub(super) SourceKind);

#[derive(Clone)]
pub(super) enum SourceKind {
    Cached {
        cache: TokenCache,
        entry: Arc<Entry>,
    },
    Fixed(AccessToken),
}

impl TokenSource {
    /// Returns a source that always hands out this token, which never expires.
    ///
    /// It is meant for tests, and for tokens that live as long as the process.
    #[must_use]
    pub fn fixed(token: AccessToken) -> Self {
        Self(SourceKind::Fixed(token))
    }

    pub(super) fn cached(cache: TokenCache, entry: Arc<Entry>) -> Self {
        Self(SourceKind::Cached { cache, entry })
    }

    /// Returns the token: at once if a usable one is cached, otherwise after the one fetch for all callers.
    ///
    /// With the token come its expiry, its scope, and the members of the response that the cache
    /// [keeps](super::TokenCacheBuilder::keep_members).
    ///
    /// # Errors
    ///
    /// Returns why there is no token. All callers that wait for the same fetch get the same error.
    ///
    /// # Cancel safety
    ///
    /// This method is cancel safe. If its future is dropped, the fetch continues and its token is cached.
    #[doc(alias = "get")]
    #[doc(alias = "access_token")]
    pub async fn token(&self) -> Result<IssuedToken, TokenError> {
        match &self.0 {
            SourceKind::Cached { entry, .. } => {
                match entry.usable(|cached| IssuedToken::cached(cached.clone())) {
                    Some(token) => Ok(token),
                    None => Ok(IssuedToken::cached(entry.clone().token().await?)),
                }
            }
            SourceKind::Fixed(token) => Ok(token.clone().into()),
        }
    }

    /// Returns the cached token if it is usable now. Never starts a fetch.
    ///
    /// It is for code that cannot wait, such as a synchronous callback of a library. Let [`keep_warm`](Self::keep_warm) renew the token
    /// then. The example `kafka` shows both.
    #[must_use]
    pub fn peek(&self) -> Option<IssuedToken> {
        match &self.0 {
            SourceKind::Cached { entry, .. } => entry.peek().map(IssuedToken::cached),
            SourceKind::Fixed(token) => Some(token.clone().into()),
        }
    }

    /// Fetches the token before the first request needs it.
    ///
    /// # Errors
    ///
    /// Returns the same errors as [`token`](Self::token).
    pub async fn warm_up(&self) -> Result<(), TokenError> {
        self.token().await.map(drop)
    }

    /// Fetches the token in the background, now and whenever a renewal is due, even while nobody asks for it.
    ///
    /// So callers do not wait, not even the first one after an idle hour. The background task runs on the current tokio runtime, or on
    /// the one that was [set](super::TokenCacheBuilder::runtime) for the cache. It ends with the cache, with the runtime, or when the cache is
    /// [shut down](super::TokenCache::shutdown). If the runtime has ended, or nobody drives it any longer, you can call this method again on
    /// another runtime.
    ///
    /// It does not end when you drop this source, because the cache still has the token: [remove](super::TokenCache::remove) it if nobody
    /// needs it any longer.
    ///
    /// # Errors
    ///
    /// Returns an error if there is no tokio runtime, if it has no timers, or if the cache was shut down.
    pub fn keep_warm(&self) -> Result<(), TokenError> {
        match &self.0 {
            SourceKind::Cached { entry, .. } => entry.keep_warm(),
            SourceKind::Fixed(_) => Ok(()),
        }
    }

    /// Fetches a new token even if the cached one is usable, or waits for the fetch that is already running.
    ///
    /// Other callers get the old token until the new one arrives. At most one fetch a second is sent.
    ///
    /// # Errors
    ///
    /// Returns the same errors as [`token`](Self::token). Returns an error at once during a pause that the server asked for
    /// (`Retry-After`, the polling interval of a device code). The cached token stays.
    ///
    /// # Cancel safety
    ///
    /// This method is cancel safe, as [`token`](Self::token) is.
    #[doc(alias = "refresh")]
    pub async fn renew(&self) -> Result<IssuedToken, TokenError> {
        match &self.0 {
            SourceKind::Cached { entry, .. } => {
                Ok(IssuedToken::cached(entry.clone().renew().await?))
            }
            SourceKind::Fixed(token) => Ok(token.clone().into()),
        }
    }

    /// Drops this token because an API refused it, so that the next caller fetches another.
    ///
    /// If the token has been replaced in the meantime, nothing happens.
    ///
    /// If token after token is reported, each in the first half of its life, the cache drops two at once, and then one after each
    /// [pause](super::TokenCacheBuilder::refusal_pauses); the pauses double from 5 seconds to 5 minutes. So an API that refuses every token
    /// does not use up the tokens of everybody else. [`AddAccessTokenLayer`](crate::AddAccessTokenLayer) also knows which origins have
    /// accepted the token, and spares their refusals these pauses.
    ///
    /// Returns what became of the token.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_oauth2_client::{TokenSource, token_cache::Invalidation};
    /// # use tower_oauth2_client::{AccessToken, BoxError, TokenCache, TokenRequest, TokenResponse, TokenType};
    /// # use tower::service_fn;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), BoxError> {
    /// # let endpoint = service_fn(|_: TokenRequest| async {
    /// #     Ok::<_, BoxError>(TokenResponse::builder(AccessToken::new("t", TokenType::BEARER)?).build())
    /// # });
    /// # let source = TokenCache::new(endpoint).source(TokenRequest::client_credentials());
    /// let refused = source.token().await?;
    /// assert_eq!(source.invalidate(&refused), Invalidation::Dropped);
    /// assert_eq!(source.invalidate(&refused), Invalidation::Replaced); // a second, late refusal
    /// # Ok(())
    /// # }
    /// ```
    pub fn invalidate(&self, token: &AccessToken) -> Invalidation {
        match &self.0 {
            SourceKind::Cached { entry, .. } => {
                entry.invalidate(SentTo::NOWHERE, |cached| cached.token == *token)
            }
            SourceKind::Fixed(fixed) if fixed == token => Invalidation::Kept,
            SourceKind::Fixed(_) => Invalidation::Replaced,
        }
    }

    /// Drops the cached token unconditionally, so that the next caller fetches another.
    ///
    /// Call it when you learn that the token is out of date, for example because the permissions of the user have changed. It does
    /// not count as a refusal by an API. Like [`invalidate_all`](crate::TokenCache::invalidate_all), it cancels a running fetch, unless that
    /// spends a code or a refresh token, and ends the pause after a failure, unless the server asked for it. A fixed token stays.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_oauth2_client::TokenSource;
    ///
    /// async fn permissions_changed(source: &TokenSource) -> Result<(), tower_oauth2_client::TokenError> {
    ///     source.discard();
    ///     source.warm_up().await // with the new permissions
    /// }
    /// ```
    pub fn discard(&self) {
        if let SourceKind::Cached { entry, .. } = &self.0 {
            entry.clear();
        }
    }

    /// Drops the refused token like [`invalidate`](Self::invalidate), given the value of the header that carried it.
    pub(crate) fn invalidate_sent(&self, sent: &HeaderValue) {
        if let SourceKind::Cached { entry, .. } = &self.0 {
            entry.invalidate(SentTo::NOWHERE, |cached| cached.token.is_sent_as(sent));
        }
    }

    /// Subscribes to the token: gives the current one first, and then each one that replaces it.
    ///
    /// Use it for what outlives a token: a connection that stays open, a client that takes a token instead of a layer.
    /// [`changed`](TokenChanges::changed) fetches the first token if there is none, and renews it while you wait for the next. `subscribe`
    /// itself fetches nothing. The subscription keeps the source alive, so this source and the cache may be dropped. With
    /// [`keep_warm`](TokenChanges::keep_warm) it also renews the token while you do something else.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_oauth2_client::{IssuedToken, TokenError, TokenSource};
    ///
    /// async fn authenticate(source: &TokenSource, connection: &Connection) -> Result<(), TokenError> {
    ///     let mut tokens = source.subscribe();
    ///     while let Some(token) = tokens.changed().await? {
    ///         connection.authenticate(&token);
    ///     }
    ///     Ok(()) // the cache was shut down
    /// }
    /// # struct Connection;
    /// # impl Connection {
    /// #     fn authenticate(&self, _: &IssuedToken) {}
    /// # }
    /// # use tower_oauth2_client::{AccessToken, TokenType};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let source = TokenSource::fixed(AccessToken::new("t", TokenType::BEARER)?);
    /// # authenticate(&source, &Connection).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// To go on after a failure of the authorization server, handle the error in the loop. The next call waits until the pause after the
    /// failure ends:
    ///
    /// ```
    /// use tower_oauth2_client::TokenSource;
    ///
    /// async fn authenticate(source: TokenSource) {
    ///     let mut tokens = source.subscribe();
    ///     loop {
    ///         match tokens.changed().await {
    ///             Ok(Some(token)) => println!("authenticate with a new {} token", token.token_type()),
    ///             Ok(None) => break,
    ///             Err(error) => println!("no token: {error:#}"),
    ///         }
    ///     }
    /// }
    /// ```
    #[must_use]
    pub fn subscribe(&self) -> TokenChanges {
        match &self.0 {
            SourceKind::Cached { cache, entry } => TokenChanges::cached(cache, entry),
            SourceKind::Fixed(token) => TokenChanges::fixed(token.clone()),
        }
    }

    /// Returns the source of another token of the same cache; `None` if this source has a fixed token, and no cache.
    pub(crate) fn sibling(&self, request: TokenRequest) -> Option<Self> {
        match &self.0 {
            SourceKind::Cached { cache, .. } => Some(cache.source(request)),
            SourceKind::Fixed(_) => None,
        }
    }

    /// Returns the cache; `None` if this source has a fixed token.
    pub(crate) fn cache(&self) -> Option<&TokenCache> {
        match &self.0 {
            SourceKind::Cached { cache, .. } => Some(cache),
            SourceKind::Fixed(_) => None,
        }
    }

    /// Returns the request; `None` if this source has a fixed token.
    pub(crate) fn request(&self) -> Option<&TokenRequest> {
        Some(self.entry()?.request())
    }

    /// Returns the time of the cache; `None` if this source has a fixed token.
    pub(crate) fn now(&self) -> Option<Moment> {
        Some(self.entry()?.now())
    }

    /// Returns the scope that the server chose for the current token. `None` if the request names the scope, or if it is very long.
    pub(crate) fn granted_scope(&self) -> Option<Scope> {
        let (cached, _) = self.entry()?.inspect();
        let cached = cached.filter(|cached| !cached.request.has("scope"))?;
        let scope = cached.kept.as_ref()?.scope()?;
        (scope.as_str().len() <= MAX_GRANTED_SCOPE).then(|| scope.clone())
    }

    /// Returns whether there is a usable token. Never starts a fetch.
    pub(crate) fn is_usable(&self) -> bool {
        match &self.0 {
            SourceKind::Cached { entry, .. } => entry.peek().is_some(),
            SourceKind::Fixed(_) => true,
        }
    }

    /// Starts a fetch if there is no usable token, and returns the result if it is already known.
    pub(crate) fn start_fetch(&self) -> Option<Result<(), TokenError>> {
        let mut fetch = pin!(self.warm_up());
        match fetch.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(result) => Some(result),
            Poll::Pending => None,
        }
    }

    pub(super) fn entry(&self) -> Option<&Arc<Entry>> {
        match &self.0 {
            SourceKind::Cached { entry, .. } => Some(entry),
            SourceKind::Fixed(_) => None,
        }
    }
}

impl fmt::Debug for TokenSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            SourceKind::Cached { entry, .. } => {
                f.debug_tuple("TokenSource").field(entry.request()).finish()
            }
            SourceKind::Fixed(_) => f.write_str("TokenSource(fixed)"),
        }
    }
}
