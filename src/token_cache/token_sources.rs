//! `TokenSources`: the sources of a cache by a key of the user's.

use std::{borrow::Borrow, fmt, hash::Hash, sync::Arc};

use super::{TokenCache, TokenSource, entry::Entry, key_index::KeyIndex};
use crate::message::TokenRequest;

/// The sources of a [`TokenCache`], found by a key of yours: the id of a tenant, of a user, or both.
///
/// A cache finds a token by its whole request. To build, hash and compare a request takes several times as long as to look up a key. So
/// this makes the request of a key once, and then finds the token by the key. Everything else is as with
/// [`TokenCache::source`]: two keys with equal requests share a token.
///
/// Errors, events and [`status`](TokenCache::status) do not know the key. Give each request a [label](TokenRequest::label), so that they say
/// whose token it is. [`TokenRequest::client_authentication`] has an example of tenants with a client of their own.
///
/// It is a cheap handle: clones share the keys. It holds no token and keeps no token in the cache: if the cache
/// [evicts](super::TokenCacheBuilder::max_entries) the token of a key, the request of the key is made again when the key is next used. The
/// number of keys is limited to about that of the entries of the cache; a key beyond that costs no more than its request.
///
/// # Examples
///
/// ```
/// use tower_oauth2_client::{BoxError, TokenCache, TokenRequest};
/// # use tower_oauth2_client::{AccessToken, TokenResponse, TokenType};
/// # use tower::service_fn;
///
/// #[derive(Clone, PartialEq, Eq, Hash)]
/// struct TenantId(u64);
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), BoxError> {
/// # let endpoint = service_fn(|_: TokenRequest| async {
/// #     Ok::<_, BoxError>(TokenResponse::builder(AccessToken::new("t", TokenType::BEARER)?).build())
/// # });
/// # let tokens = TokenCache::new(endpoint);
/// let base = TokenRequest::client_credentials().scope("orders");
/// let sources = tokens.sources_by(move |tenant: &TenantId| {
///     base.clone().parameter("tenant", tenant.0.to_string())
/// });
///
/// let token = sources.get(&TenantId(7)).token().await?;
/// let again = sources.get(&TenantId(7)).token().await?; // without a request
/// assert_eq!(token, again);
/// # Ok(())
/// # }
/// ```
///
/// # Unknown keys
///
/// The function may return an [`Option`] or a [`Result`] of a request. Then [`get`](Self::get) returns an `Option` or a `Result` of a source.
/// A key without a request is not remembered, so the function is called again when the key is next used:
///
/// ```
/// use std::{collections::HashMap, sync::{Arc, RwLock}};
/// use tower_oauth2_client::{TokenCache, TokenRequest, TokenSource, TokenSources};
///
/// type Tenants = Arc<RwLock<HashMap<String, TokenRequest>>>;
///
/// fn sources(tokens: &TokenCache, tenants: Tenants) -> TokenSources<String, Option<TokenRequest>> {
///     tokens.sources_by(move |id: &String| tenants.read().ok()?.get(id).cloned())
/// }
///
/// fn source(sources: &TokenSources<String, Option<TokenRequest>>, id: &str) -> Result<TokenSource, String> {
///     sources.get(id).ok_or_else(|| format!("there is no tenant {id}"))
/// }
/// ```
///
/// # When a tenant changes
///
/// The function is not called again for a key that is known. So first change what the function reads, and then tell this:
///
/// | what happened to the tenant | then call | what becomes of its token |
/// |---|---|---|
/// | it was deleted, or got another client, secret or issuer | [`remove`](Self::remove) | it is dropped |
/// | it got another scope | [`forget`](Self::forget) | it stays in the cache until it is evicted, for those who hold its source |
/// | the whole configuration was loaded again | [`forget_all`](Self::forget_all) | it is found again if its request is still the same |
/// | the secret comes from a [`Credential`](crate::Credential) of a file or a function | nothing | it stays; the next fetch reads the new secret |
///
/// A call of [`get`](Self::get) at the same time may still return the old source, but not one that begins later.
///
/// # Refresh tokens
///
/// A refresh token is good until the server replaces it. So let the function read the newest one, with which
/// [`on_refresh_token`](super::TokenCacheBuilder::on_refresh_token) was called, from where you have stored it: if the cache has evicted the
/// token of a user, the request is made again. When the user has signed in again, call [`remove`](Self::remove).
pub struct TokenSources<K, R = TokenRequest>(Arc<Inner<K, R>>);

struct Inner<K, R> {
    cache: TokenCache,
    request: Box<dyn Fn(&K) -> R + Send + Sync>,
    index: KeyIndex<K>,
}

/// What a function returns for a key: a [`TokenRequest`], or an `Option` or a `Result` of one; see [`TokenSources`].
///
/// It is sealed: nothing else implements it.
pub trait RequestOfKey: sealed::Sealed + Sized {
    /// What [`TokenSources::get`] returns: a [`TokenSource`], or an `Option` or a `Result` of one.
    type Source;

    #[doc(hidden)]
    fn known(source: TokenSource) -> Self::Source;

    #[doc(hidden)]
    fn source(self, make: impl FnOnce(TokenRequest) -> TokenSource) -> Self::Source;
}

impl RequestOfKey for TokenRequest {
    type Source = TokenSource;

    fn known(source: TokenSource) -> TokenSource {
        source
    }

    fn source(self, make: impl FnOnce(TokenRequest) -> TokenSource) -> TokenSource {
        make(self)
    }
}

impl RequestOfKey for Option<TokenRequest> {
    type Source = Option<TokenSource>;

    fn known(source: TokenSource) -> Option<TokenSource> {
        Some(source)
    }

    fn source(self, make: impl FnOnce(TokenRequest) -> TokenSource) -> Option<TokenSource> {
        self.map(make)
    }
}

impl<E> RequestOfKey for Result<TokenRequest, E> {
    type Source = Result<TokenSource, E>;

    fn known(source: TokenSource) -> Result<TokenSource, E> {
        Ok(source)
    }

    fn source(self, make: impl FnOnce(TokenRequest) -> TokenSource) -> Result<TokenSource, E> {
        self.map(make)
    }
}

mod sealed {
    use crate::message::TokenRequest;

    pub trait Sealed {}

    impl Sealed for TokenRequest {}
    impl Sealed for Option<TokenRequest> {}
    impl<E> Sealed for Result<TokenRequest, E> {}
}

impl<K, R> TokenSources<K, R> {
    /// Returns the source of a key. Makes its request if the key is new, or if its token was evicted.
    ///
    /// With `String` as the type of the key, the key may be a `&str`.
    #[must_use]
    pub fn get<Q>(&self, key: &Q) -> R::Source
    where
        R: RequestOfKey,
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        let Inner { cache, index, .. } = &*self.0;
        let hash = index.hash(key);
        match index.find(hash, key) {
            Some(entry) => {
                entry.mark_used();
                R::known(TokenSource::cached(cache.clone(), entry))
            }
            None => self.make(hash, key.to_owned()),
        }
    }

    #[cold]
    fn make(&self, hash: u64, key: K) -> R::Source
    where
        R: RequestOfKey,
    {
        let Inner {
            cache,
            request,
            index,
        } = &*self.0;
        // Before the request is made, because the key may be forgotten meanwhile.
        let epoch = index.epoch(hash);
        request(&key).source(|request| {
            let source = cache.source(request);
            if let Some(entry) = source.entry() {
                index.insert(hash, epoch, key, entry);
            }
            source
        })
    }

    /// Forgets a key, drops its token, and ends everything that the cache does for it. Returns whether the key was known.
    ///
    /// Call it when a tenant was deleted or has another client. It does what [`TokenCache::remove`] does: renewals end, and the token is no
    /// longer in the status of the cache. If another key has the same request, its token is gone as well, and is fetched again.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_oauth2_client::{TokenRequest, TokenSources};
    ///
    /// fn tenant_deleted(sources: &TokenSources<String, Option<TokenRequest>>, tenant: &str) {
    ///     // The function no longer finds the tenant.
    ///     sources.remove(tenant);
    /// }
    /// ```
    pub fn remove<Q>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let Some(entry) = self.0.index.remove(key) else {
            return false;
        };
        let entry = Entry::upgrade(&entry);
        if let Some(request) = entry.map(|entry| entry.request().clone()) {
            self.0.cache.remove(&request);
        }
        true
    }

    /// Forgets a key, so that its request is made again. Returns whether the key was known.
    ///
    /// Call it when the request of a key has changed, for example after a tenant got another scope. A source that is held keeps the old
    /// request, and the old token stays in the cache until it is evicted. [`remove`](Self::remove) drops it as well.
    pub fn forget<Q>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.0.index.remove(key).is_some()
    }

    /// Forgets all keys, so that their requests are made again, for example after a configuration was reloaded.
    pub fn forget_all(&self) {
        self.0.index.clear();
    }

    /// Returns the cache.
    #[must_use]
    pub fn cache(&self) -> &TokenCache {
        &self.0.cache
    }
}

impl TokenCache {
    /// Returns the sources of this cache by a key of yours. `request` makes the request of a key.
    ///
    /// Use it instead of [`source`](Self::source) where each call knows a key, such as the id of a tenant. See [`TokenSources`] for an
    /// example.
    ///
    /// It may return an `Option` or a `Result` of a request: [for keys that are unknown](TokenSources#unknown-keys).
    ///
    /// Call it once, and keep the result. `request` is called once for each key, and again after
    /// [`forget`](TokenSources::forget) or after its token was evicted. So it must depend on nothing but the key, or you
    /// [tell the sources](TokenSources#when-a-tenant-changes) when something else has changed.
    pub fn sources_by<K, R, F>(&self, request: F) -> TokenSources<K, R>
    where
        K: Hash + Eq,
        R: RequestOfKey,
        F: Fn(&K) -> R + Send + Sync + 'static,
    {
        TokenSources(Arc::new(Inner {
            index: KeyIndex::new(self.0.entries.max()),
            request: Box::new(request),
            cache: self.clone(),
        }))
    }
}

impl<K, R> Clone for TokenSources<K, R> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<K, R> fmt::Debug for TokenSources<K, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenSources").finish_non_exhaustive()
    }
}
