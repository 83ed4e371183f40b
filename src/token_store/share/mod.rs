//! `ShareTokens`: shares the tokens of a cache with the other instances of a service.

mod ask;
mod cache_key;
mod circuit;
mod damaged;
mod decide;
mod engine;
mod errors;
mod events;
mod holder;
mod issued_by;
mod lease;
mod reading;
mod session;
mod storing;

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::time;

pub use self::issued_by::IssuedBy;
pub(crate) use self::{
    ask::{Ask, Known, Obtained},
    decide::Wanted,
};
use self::{
    cache_key::{CacheKey, cache_key, dpop},
    damaged::Damaged,
    decide::{Route, operation_limit, route},
    engine::Engine,
    lease::Lease,
    session::{SHORTEST_WAIT, Session},
};
use super::{EntryName, Fence, Found, StoreKeys, TokenStore};
use crate::{
    base::clock::{tokio_deadline, tokio_now},
    client_authentication::ClientAuthentication,
    error::{BoxError, OwnError, TokenError},
    message::{TokenRequest, TokenResponse},
};

/// Shares the tokens of a cache with all instances of a service, through a [`TokenStore`].
///
/// Set it with [`TokenCacheBuilder::share`](crate::token_cache::TokenCacheBuilder::share). A service with a thousand instances then sends
/// one token request for each lifetime of a token, and not a thousand.
///
/// # How it works
///
/// 1. A usable token in the cache is served as before, without a look at the store.
/// 2. Otherwise, the cache looks into the store, which costs one round trip. If there is a token, the cache takes it.
/// 3. If there is none, one instance gets the lease, fetches a token and stores it. All others wait, and are woken when it is there. The lease
///    is renewed while the request is under way. If its holder crashes, the lease ends by itself, and the next instance fetches.
/// 4. The instance that fetched the token renews it. The others take the new one from the store a little later. If that
///    instance is gone, the next one renews it.
/// 5. A token that an API refused here, or that was discarded here, is not taken from the store again.
///
/// # What is shared
///
/// Requests that are equal, from caches with the same keys and the same [issuer](IssuedBy). So two clients never share a token, nor do two
/// tenants, scopes, resources or DPoP keys. A text from a [provider](crate::Credential) is compared, or the
/// [name](crate::Credential::named) of the provider if it has one. So a provider that returns another text each time, such as an
/// assertion that it signs, needs a name.
///
/// The secret of the endpoint's client is not compared, so it can be rotated. The secret of a client that a request names is.
///
/// What a layer between the cache and the endpoint adds is not seen. If it changes the token, set a [partition](TokenRequest::partition).
///
/// A code or a device code is exchanged by the instance that has it. The result is stored for the others.
///
/// # Refresh tokens
///
/// Sources over refresh tokens *need* the store: only the holder of the lease spends the refresh token, and it always spends the newest one
/// of all instances. If the store does not answer, a source serves the token that it has, and then fails transiently. An instance that finds that
/// its predecessor was lost in the middle of a token request waits for two seconds (twice the [limit](Self::limit) and a second, but at most a quarter of the `fetch_timeout`), and then sends the same refresh token again, because there
/// is nothing else to send. If the server had already replaced it, the user has to sign in again.
///
/// Each request with a code or a refresh token needs the [name of its sign-in](TokenRequest::sign_in), or a provider with a
/// [name](crate::Credential::named): instances that start at different times know different refresh tokens of the same sign-in. After the
/// user has signed in again, use another name.
///
/// A sign-in has one entry. It depends on the client id, the endpoint, the [partition](TokenRequest::partition) and the name of the sign-in.
/// Instances that otherwise differ, in a scope or a DPoP key, do not share access tokens, but they continue with the same refresh token.
///
/// # If the store fails
///
/// | the store | then |
/// |---|---|
/// | does not answer within the [limit](Self::limit) | each instance fetches its own token; the store is left alone for a quarter of a second, and longer each time, up to half a minute |
/// | refuses operations: it is full, read-only, or the connection is refused | tokens that are there are used; each instance fetches its own token |
/// | has lost its data | the next instance fetches and stores a token |
/// | has an entry that is damaged, or of another key or version | it is fetched again and overwritten; with a refresh token, it is a transient error; if it is damaged, until a process has seen that for an hour |
/// | is used by an instance whose clock is wrong | the age of a token is measured by the clock of the store |
///
/// # If the authorization server fails
///
/// If the server answers 429, a 5xx or with `Retry-After`, the whole fleet pauses, and then one instance tries again. After any other failure
/// (no connection, a timeout, a refused client) the next instance tries at once: the fault may be in one of them.
///
/// # Security
///
/// Entries are encrypted, see [`StoreKeys`]. A private key is never stored. A token that is bound to a DPoP key is only shared by those who
/// have the key. Tokens that are bound to a client certificate must only be shared by those who have the certificate: see
/// [`distinguished_by`](Self::distinguished_by).
///
/// # Events
///
/// Under the target `tower_oauth2_client::token_store`, beside those of the [cache](crate::token_cache#events):
///
/// | level | message | fields |
/// |---|---|---|
/// | `DEBUG` | `the lease of another instance ended before it stored a token; fetching again` | |
/// | `WARN` | `the token store failed; continuing without it`: once, until it works again | `error` |
/// | `INFO` | `the token store works again` | |
/// | `WARN` | `an entry of the token store is not readable; it will be overwritten`: once, until one is readable | `why` |
/// | `ERROR` | `a new refresh token could not be put into the token store; trying again in the background` | |
/// | `ERROR` | `a new refresh token could not be put into the token store for ten minutes; other instances do not have it` | |
///
/// # Examples
///
/// ```no_run
/// use tower_oauth2_client::{
///     BoxError, ClientAuthentication, Credential, HttpsClient, TokenCache, TokenEndpoint, TokenRequest,
///     token_store::{RedisTokenStore, ShareTokens, StoreKey, StoreKeys},
/// };
///
/// # async fn example() -> Result<(), BoxError> {
/// let endpoint = TokenEndpoint::new(
///     HttpsClient::new()?,
///     "https://as.example/token",
///     ClientAuthentication::client_secret_basic("orders", Credential::env("CLIENT_SECRET")),
/// );
/// let store = RedisTokenStore::open("rediss://orders:password@redis.example/")?;
/// let key = StoreKey::from_credential(&Credential::env("TOKEN_STORE_KEY")).await?;
/// let share = ShareTokens::new(store, StoreKeys::new("orders", key), &endpoint);
///
/// let tokens = TokenCache::builder(endpoint).share(share).build();
/// let token = tokens.source(TokenRequest::client_credentials()).token().await?;
/// # Ok(())
/// # }
/// ```
#[must_use = "it does nothing before it is passed to `TokenCacheBuilder::share`"]
pub struct ShareTokens {
    engine: Engine,
    keys: StoreKeys,
    issued_by: IssuedBy,
    distinguished_by: Option<Arc<dyn Fn() -> String + Send + Sync>>,
    limit: Duration,
    lease: Duration,
    keep_refresh_tokens: Duration,
    /// Whether the last entry could not be read, which the log has said.
    is_unreadable: Arc<AtomicBool>,
    /// The lock is never held across an await.
    damaged: Mutex<Damaged>,
}

/// How long the removal of an entry waits for an instance that is fetching its token.
const REMOVED_WITHIN: Duration = Duration::from_secs(60);

/// Sends a request to the endpoint.
pub(crate) type Fetch<'a> = dyn Fn(TokenRequest) -> Fetching<'a> + Send + Sync + 'a;
pub(crate) type Fetching<'a> =
    Pin<Box<dyn Future<Output = Result<TokenResponse, TokenError>> + Send + 'a>>;

impl ShareTokens {
    /// Shares the tokens that `issued_by` issues through `store`, encrypted with `keys`.
    ///
    /// `issued_by` is a reference to the [`TokenEndpoint`](crate::TokenEndpoint) below the cache, or a [name](IssuedBy). Its settings are read
    /// now, so pass the endpoint exactly as it goes into the cache. Each endpoint needs its own `ShareTokens`.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_oauth2_client::{
    ///     BoxError, TokenCache,
    ///     token_store::{MemoryTokenStore, ShareTokens, StoreKey, StoreKeys},
    /// };
    /// # use tower_oauth2_client::{ClientAuthentication, TokenEndpoint, test_util::AuthorizationServer};
    ///
    /// # fn main() -> Result<(), BoxError> {
    /// # let server = AuthorizationServer::new();
    /// # let client = ClientAuthentication::client_secret_basic("client", "secret");
    /// # let endpoint = TokenEndpoint::new(server.clone(), server.token_endpoint(), client);
    /// let keys = StoreKeys::new("orders", StoreKey::generate()?);
    /// let share = ShareTokens::new(MemoryTokenStore::new(), keys, &endpoint);
    /// let tokens = TokenCache::builder(endpoint).share(share).build();
    /// # Ok(())
    /// # }
    /// ```
    pub fn new(store: impl TokenStore, keys: StoreKeys, issued_by: impl Into<IssuedBy>) -> Self {
        Self {
            engine: Engine::new(Arc::new(store)),
            keys,
            issued_by: issued_by.into(),
            distinguished_by: None,
            limit: Duration::from_millis(500),
            lease: Duration::from_secs(10),
            keep_refresh_tokens: Duration::from_secs(30 * 24 * 3600),
            is_unreadable: Arc::default(),
            damaged: Mutex::default(),
        }
    }

    /// Sets a text that must be the same for instances to share access tokens. It is asked for at each fetch. Default is none.
    ///
    /// Use it for what changes a token, but is known neither to the endpoint nor to the request: the
    /// [thumbprint](crate::ClientCertificate::thumbprint) of a client certificate, to which a server may bind tokens
    /// ([RFC 8705 §3](https://www.rfc-editor.org/rfc/rfc8705#section-3)). A client that authenticates by TLS needs it, and so does an endpoint
    /// with [`certificate_bound_tokens`](crate::TokenEndpoint::certificate_bound_tokens): otherwise, each token request fails. If the server does
    /// not bind tokens, any fixed text will do.
    ///
    /// It is asked for again before a token is stored. A token is not shared if the text has changed meanwhile.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use tower_oauth2_client::{ClientCertificate, token_store::ShareTokens};
    ///
    /// fn for_holders_of(certificate: ClientCertificate, share: ShareTokens) -> ShareTokens {
    ///     share.distinguished_by(move || certificate.thumbprint())
    /// }
    /// ```
    pub fn distinguished_by<F>(mut self, text: F) -> Self
    where
        F: Fn() -> String + Send + Sync + 'static,
    {
        self.distinguished_by = Some(Arc::new(text));
        self
    }

    /// Sets how long an operation of the store may take, at most an eighth of a [lease](Self::lease). Default is half a second.
    ///
    /// A store that takes longer is left alone for a while, so that not every fetch waits for it. Until it has answered once, it gets two
    /// seconds, because a connection has to be opened.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use tower_oauth2_client::token_store::ShareTokens;
    ///
    /// fn set_up(share: ShareTokens) -> ShareTokens {
    ///     share.limit(Duration::from_millis(100))
    /// }
    /// ```
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self.limit_operations()
    }

    /// Sets how long a lease lasts unless it is renewed, at least a second. Default is 10 seconds.
    ///
    /// It is renewed after each third of this time while the token request is under way, however long that takes. After a crash of the
    /// holder, others wait for the rest of it. If an instance is suspended for longer than this, or is cut off from the store alone, another
    /// one may send the same refresh token.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use tower_oauth2_client::token_store::ShareTokens;
    ///
    /// fn set_up(share: ShareTokens) -> ShareTokens {
    ///     share.lease(Duration::from_secs(5))
    /// }
    /// ```
    pub fn lease(mut self, lease: Duration) -> Self {
        self.lease = lease.max(Duration::from_secs(1));
        self.limit_operations()
    }

    fn limit_operations(mut self) -> Self {
        self.engine.limit = operation_limit(self.limit, self.lease);
        self
    }

    /// Sets how long a refresh token is kept in the store after its last use. Default is 30 days.
    ///
    /// It should be at least as long as the server accepts a refresh token that is not used.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use tower_oauth2_client::token_store::ShareTokens;
    ///
    /// fn set_up(share: ShareTokens) -> ShareTokens {
    ///     share.keep_refresh_tokens(Duration::from_secs(90 * 24 * 3600))
    /// }
    /// ```
    pub fn keep_refresh_tokens(mut self, time: Duration) -> Self {
        self.keep_refresh_tokens = time;
        self
    }

    /// Gets a token from the store, or fetches one and stores it.
    pub(crate) async fn obtain<'a>(
        self: &'a Arc<Self>,
        ask: Ask<'a>,
        request: &'a TokenRequest,
        fetch: &'a Fetch<'a>,
    ) -> Obtained {
        let begun = ask.clock.now();
        let named = ask.owner.unwrap_or(request);
        let key = match self.key(named).await {
            Ok(key) => key,
            Err(error) => return Obtained::failed(begun, error),
        };
        let session = Session {
            share: self,
            ask,
            request,
            fetch,
            route: route(request.one_time_parameter()),
            dpop: dpop(&self.issued_by, named),
            name: self.keys.name(&key.entry),
            key,
            named,
            begun,
        };
        match session.route {
            Route::OwnResult => session.alone().await,
            Route::Helped | Route::RefreshToken => session.run().await,
        }
    }

    fn lease_of(&self, name: &EntryName) -> Lease {
        Lease::new(&self.engine, name, self.lease)
    }

    /// Returns whether this process has found the entry of a name damaged for long.
    fn has_long_been_damaged(&self, name: &EntryName, fence: Fence) -> bool {
        let damaged = self.damaged.lock();
        let mut damaged = damaged.unwrap_or_else(PoisonError::into_inner);
        damaged.has_lasted(name, fence, tokio_now())
    }

    fn note_unreadable(&self, why: &str) {
        if !self.is_unreadable.swap(true, Ordering::Relaxed) {
            events::unreadable(why);
        }
    }

    /// Removes the entry of a request.
    pub(crate) async fn remove(&self, request: &TokenRequest) -> Result<(), BoxError> {
        let key = self.key(request).await?;
        let name = self.keys.name(&key.entry);
        let deadline = tokio_deadline(REMOVED_WITHIN);
        let mut newer_than = None;
        let mut lease = self.lease_of(&name);
        loop {
            match lease.look(newer_than, Duration::MAX).await? {
                Found::Entry { fence, .. } => {
                    self.engine.remove(&name, fence).await?;
                    newer_than = Some(fence);
                }
                // It is about to store one.
                Found::Held { fence, rest } if tokio_now() < deadline => {
                    let rest = rest.min(deadline - tokio_now());
                    self.engine.wait(&name, fence, rest).await;
                    time::sleep(SHORTEST_WAIT).await;
                }
                Found::Held { .. } => {
                    let why = "another instance has been fetching this token for a long time; remove it again later";
                    return Err(OwnError::new(why).into());
                }
                Found::Leased { .. } | Found::Paused { .. } => return Ok(()),
            }
        }
    }

    async fn key(&self, request: &TokenRequest) -> Result<CacheKey, TokenError> {
        self.check(request)?;
        let text = self.distinguished_by.as_ref();
        let text = text.map_or_else(String::new, |text| text());
        cache_key(&self.issued_by, &text, request).await
    }

    fn check(&self, request: &TokenRequest) -> Result<(), TokenError> {
        let client = request.form().client_override();
        let client = client.or_else(|| self.issued_by.client());
        let is_by_tls = client.is_some_and(ClientAuthentication::is_by_tls);
        if self.distinguished_by.is_none() && (is_by_tls || self.issued_by.is_certificate_bound()) {
            return Err(TokenError::request(
                "the tokens may be bound to the certificate of the client, and only instances with the same certificate may share them; \
                 set its thumbprint with `ShareTokens::distinguished_by`",
            ));
        }
        Ok(())
    }
}

impl fmt::Debug for ShareTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShareTokens")
            .field("keys", &self.keys)
            .field("issued_by", &self.issued_by)
            .field("limit", &self.limit)
            .field("lease", &self.lease)
            .field("keep_refresh_tokens", &self.keep_refresh_tokens)
            .finish_non_exhaustive()
    }
}
