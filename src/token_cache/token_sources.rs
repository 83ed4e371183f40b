//! `TokenSources`: the sources of a cache by a key of the user's.

use std::{borrow::Borrow, fmt, hash::Hash, sync::Arc};

use super::{TokenCache, TokenSource, key_index::KeyIndex};
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
pub struct TokenSources<K>(Arc<Inner<K>>);

struct Inner<K> {
    cache: TokenCache,
    request: Box<dyn Fn(&K) -> TokenRequest + Send + Sync>,
    index: KeyIndex<K>,
}

impl<K> TokenSources<K> {
    /// Returns the source of a key. Makes its request if the key is new, or if its token was evicted.
    ///
    /// With `String` as the type of the key, the key may be a `&str`.
    #[must_use]
    pub fn get<Q>(&self, key: &Q) -> TokenSource
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        let Inner { cache, index, .. } = &*self.0;
        let hash = index.hash(key);
        match index.find(hash, key) {
            Some(entry) => {
                entry.mark_used();
                TokenSource::cached(cache.clone(), entry)
            }
            None => self.make(hash, key.to_owned()),
        }
    }

    #[cold]
    fn make(&self, hash: u64, key: K) -> TokenSource {
        let source = self.0.cache.source((self.0.request)(&key));
        if let Some(entry) = source.entry() {
            self.0.index.insert(hash, key, entry);
        }
        source
    }

    /// Forgets a key, so that its request is made again. Returns whether the key was known.
    ///
    /// Call it when the request of a key has changed, for example after a tenant got another scope. A source that is held keeps the old
    /// request, and the old token stays in the cache until it is evicted. To drop it as well, call
    /// [`discard`](TokenSource::discard) on its source before.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_oauth2_client::TokenSources;
    ///
    /// fn tenant_changed(sources: &TokenSources<String>, tenant: &str) {
    ///     sources.get(tenant).discard();
    ///     sources.forget(tenant);
    /// }
    /// ```
    pub fn forget<Q>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.0.index.remove(key)
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
    /// Call it once, and keep the result. `request` is called once for each key, and again after
    /// [`forget`](TokenSources::forget) or after its token was evicted. So it must depend on nothing but the key.
    pub fn sources_by<K, F>(&self, request: F) -> TokenSources<K>
    where
        K: Hash + Eq,
        F: Fn(&K) -> TokenRequest + Send + Sync + 'static,
    {
        TokenSources(Arc::new(Inner {
            index: KeyIndex::new(self.0.entries.max()),
            request: Box::new(request),
            cache: self.clone(),
        }))
    }
}

impl<K> Clone for TokenSources<K> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<K> fmt::Debug for TokenSources<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenSources").finish_non_exhaustive()
    }
}
