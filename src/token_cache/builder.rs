//! The settings of a cache.

use std::{fmt, future::Future, pin::Pin, sync::Arc, time::Duration};

use tower_service::Service;

use super::{Inner, TokenCache, entries::Entries, refresh_window::RefreshWindow};
use crate::{
    base::{
        clock::Clock,
        erased_service::{ErasedService, ready},
    },
    error::{BoxError, TokenError},
    message::{TokenRequest, TokenResponse},
    secret::RefreshToken,
};

/// Sets up a [`TokenCache`]; see [`TokenCache::builder`].
#[must_use = "nothing is built before `build`"]
pub struct TokenCacheBuilder {
    settings: Settings,
    max_entries: usize,
}

impl TokenCacheBuilder {
    pub(super) fn new(endpoint: EndpointStack) -> Self {
        let settings = Settings {
            endpoint,
            clock: Clock::system(),
            refresh_window: RefreshWindow::new(),
            default_lifetime: Duration::from_secs(300),
            fetch_timeout: Duration::from_secs(30),
            on_refresh_token: None,
        };
        Self {
            settings,
            max_entries: 100_000,
        }
    }

    /// When a token is renewed before it expires. Default is [`RefreshWindow::new`].
    pub fn refresh_window(mut self, refresh_window: RefreshWindow) -> Self {
        self.settings.refresh_window = refresh_window;
        self
    }

    /// How long a token lives whose server does not say (no `expires_in`, or one that makes no sense). Default is five
    /// minutes: RFC 6749 §5.1 leaves it to the documentation of the server.
    pub fn default_lifetime(mut self, default_lifetime: Duration) -> Self {
        self.settings.default_lifetime = default_lifetime;
        self
    }

    /// How long a fetch may take in all, a second attempt included. Default is 30 seconds.
    pub fn fetch_timeout(mut self, fetch_timeout: Duration) -> Self {
        self.settings.fetch_timeout = fetch_timeout;
        self
    }

    /// For how many distinct requests tokens are held; beyond that, a new one takes the place of one that is idle. A request whose
    /// [`TokenSource`](crate::TokenSource) is held somewhere keeps its place. Default is 100,000.
    pub fn max_entries(mut self, max_entries: usize) -> Self {
        self.max_entries = max_entries;
        self
    }

    /// Is told of each new refresh token, together with the request that its source was made for, before the token is relied on:
    /// so that it can be stored. Default is nobody.
    ///
    /// It is awaited before any caller gets the access token that came along, for as long as a fetch may take; after that the token
    /// is used all the same, since the server takes the old one no more.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_oauth2_client::{RefreshToken, TokenRequest, token_cache::TokenCacheBuilder};
    ///
    /// async fn store(token: RefreshToken) { /* ... */ }
    ///
    /// fn set_up(builder: TokenCacheBuilder) -> TokenCacheBuilder {
    ///     builder.on_refresh_token(|_: TokenRequest, token| store(token))
    /// }
    /// ```
    pub fn on_refresh_token<F, Fut>(mut self, tell: F) -> Self
    where
        F: Fn(TokenRequest, RefreshToken) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        self.settings.on_refresh_token = Some(Box::new(move |request, token| {
            Box::pin(tell(request, token))
        }));
        self
    }

    /// What to tell the time by. Default is [`Clock::system`].
    pub fn clock(mut self, clock: Clock) -> Self {
        self.settings.clock = clock;
        self
    }

    /// Builds the cache. It is empty.
    pub fn build(self) -> TokenCache {
        TokenCache(Arc::new(Inner {
            settings: Arc::new(self.settings),
            entries: Entries::new(self.max_entries),
        }))
    }
}

impl fmt::Debug for TokenCacheBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenCacheBuilder")
            .field("refresh_window", &self.settings.refresh_window)
            .field("default_lifetime", &self.settings.default_lifetime)
            .field("fetch_timeout", &self.settings.fetch_timeout)
            .field("clock", &self.settings.clock)
            .finish_non_exhaustive()
    }
}

/// What all entries of a cache share.
pub(crate) struct Settings {
    pub(super) endpoint: EndpointStack,
    pub(super) clock: Clock,
    pub(super) refresh_window: RefreshWindow,
    pub(super) default_lifetime: Duration,
    pub(super) fetch_timeout: Duration,
    pub(super) on_refresh_token: Option<OnRefreshToken>,
}

/// Tells the owner of a refresh token of its successor.
pub(super) type OnRefreshToken = Box<
    dyn Fn(TokenRequest, RefreshToken) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync,
>;

/// The endpoint stack without its type.
pub(super) struct EndpointStack(ErasedService<TokenRequest, Result<TokenResponse, TokenError>>);

impl EndpointStack {
    pub(super) fn new<S>(service: S) -> Self
    where
        S: Service<TokenRequest, Response = TokenResponse> + Clone + Send + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send,
    {
        Self(ErasedService::new(service, fetch))
    }

    pub(super) async fn fetch(&self, request: TokenRequest) -> Result<TokenResponse, TokenError> {
        self.0.call(request).await
    }
}

async fn fetch<S>(mut stack: S, request: TokenRequest) -> Result<TokenResponse, TokenError>
where
    S: Service<TokenRequest, Response = TokenResponse>,
    S::Error: Into<BoxError>,
{
    let failed = |error: S::Error| of_stack(error.into());
    ready(&mut stack).await.map_err(failed)?;
    stack.call(request).await.map_err(failed)
}

/// What a stack around the endpoint failed with: our own error somewhere below, or that of one of its layers.
fn of_stack(source: BoxError) -> TokenError {
    match TokenError::find_in_chain(&*source) {
        Some(error) => error.clone(),
        None => TokenError::service(source),
    }
}
