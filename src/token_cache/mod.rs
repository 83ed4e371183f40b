//! Fetches tokens once, shares them, and renews them before they expire.
//!
//! A [`TokenCache`] wraps a [`TokenEndpoint`](crate::TokenEndpoint), or any stack of tower layers around one. It holds one token for
//! each distinct [`TokenRequest`]; a [`TokenSource`] hands that token out.
//!
//! # The life of a token
//!
//! ```text
//!   the request                 the stale point,                     the end, a leeway
//!   is sent                     chosen randomly                      before expires_in
//!      |                               |                                   |
//!      |============= fresh ===========|============== stale ==============|==== expired ====>
//!      |                               |                                   |
//!      |   served                      |   served; the first caller        |   not served;
//!      |                               |   starts a renewal, and           |   callers wait for
//!      |                               |   nobody waits for it             |   one fetch
//!      |
//!      |   refused by an API: dropped at once, in any state; callers wait for one fetch
//!
//!   a fetch that fails:  callers with a usable token do not notice
//!                        callers without one get the error, and get it at once during the pause that follows:
//!                        |-- 1 s --|--- 2 s ---|----- 4 s -----|  ...  60 s   (the second half of each is random)
//! ```
//!
//! The stale point lies between 0.4 and 0.9 of the lifetime for the first token of a source, and between 0.75 and 0.85 for later
//! ones. The leeway is a twentieth of the lifetime, between 10 milliseconds and 10 seconds.
//! [`RefreshWindow`](crate::RefreshWindow) explains why, and changes it.
//!
//! # What happens when
//!
//! | when | then |
//! |---|---|
//! | the token is *fresh* | it is served |
//! | the token is *stale*: in the last part of its life | it is served, while one renewal runs in the background |
//! | the token is *expired*, or there is none | callers wait for one fetch and share its outcome |
//! | a renewal fails | the token is served until it expires; the next attempt follows after a pause |
//! | a renewal fails transiently, and the pause would outlast the token | the pause is shorter: six attempts fit into the life that is left, at most one a second |
//! | a fetch fails, and no usable token is left | waiting callers get its error; callers during the pause that follows get it at once |
//! | a fetch that callers wait for fails transiently, and none failed before it | it is retried once, within the overall limit |
//! | the server sends `Retry-After` | the pause is at least that long, up to five minutes |
//! | the error is final (a wrong scope) | it is remembered for some seconds, then the fetch is tried again |
//! | the error is final, and a [provider](crate::Credential) returned the secret, an assertion or another text of the request | the providers are asked again; if a text has changed, the fetch is retried at once |
//! | the error is final, and the [client certificate](crate::ClientCertificate#rotation) comes from files | they are read again; if they have changed, the fetch is retried at once |
//! | the providers were asked again twice in a row without success | they are asked once per attempt for a minute, then for longer, up to an hour |
//! | the response has no `expires_in` | the token lives for the [default lifetime](TokenCacheBuilder::default_lifetime) |
//! | the token lives longer than the [maximum](TokenCacheBuilder::max_lifetime), if one is set | it is renewed and expires as if it lived that long |
//! | the response has `refresh_in` | the token is stale from then on |
//! | the lifetime is zero or negative, or at most 10 milliseconds | only the callers that waited for the token get it; at most one fetch a second is sent |
//! | the token expires before it arrives | waiting callers get an error; the next attempt follows after a pause |
//! | the server returns the same token again | the token is not renewed early a second time |
//! | the server returns a refused token again | it is served, but no request is resent with it |
//! | an API refuses a token | exactly that token is dropped, and the next caller fetches another; a late refusal of an old token does nothing |
//! | an API refuses a token that the same origin has accepted | it is replaced at once; a replacement that lived for less than two seconds, after up to a second, so that another replica can use its token; every eighth is kept once, to see whether the origin accepts it again |
//! | APIs refuse token after token, each in the first half of its life, and none was accepted there | two are replaced at once (two more, if they lived for less than two seconds), then one after each [pause](TokenCacheBuilder::refusal_pauses); pauses double from 5 seconds to 5 minutes |
//! | too many tokens are refused | at most 60 are replaced [in any minute](TokenCacheBuilder::max_replacements_per_minute): callers wait up to two seconds, then the refused token is kept |
//! | tokens without a stated lifetime are refused, twice after about the same time | later ones are [renewed before that](TokenCacheBuilder::learn_lifetime) |
//! | somebody [discards](TokenSource::discard) a token | it is dropped unconditionally, and the next caller fetches another |
//! | a caller is dropped while it waits | the fetch continues for the others |
//! | [many fetches](TokenCacheBuilder::max_concurrent_fetches) are under way | others wait in a queue, in order, without a task; a fetch leaves the queue with its last caller |
//! | the cache [shares](TokenCacheBuilder#method.share) its tokens with other instances (feature `token-store`) | a fetch looks into the store first; one instance fetches, the others take its token |
//! | the server takes long to answer | callers wait for the one request, for as long as [`fetch_timeout`](TokenCacheBuilder::fetch_timeout) |
//! | the runtime that runs a fetch ends | a waiter on another runtime starts the fetch again |
//! | nobody drives the runtime that runs a fetch | after about a second, a waiter on another runtime starts the fetch again; if a code or a refresh token may have been sent, only after the limit of the fetch |
//! | there is no runtime, or it was built without timers | callers get the error [`NoRuntime`](crate::TokenErrorKind::NoRuntime), unless a [runtime was set](TokenCacheBuilder::runtime) |
//! | all tokens are [invalidated](TokenCache::invalidate_all) while callers wait | they wait for the next fetch |
//! | the cache is [shut down](TokenCache::shutdown) | usable tokens are served; callers that need a fetch get the error [`ShutDown`](crate::TokenErrorKind::ShutDown) |
//! | the endpoint panics | waiting callers get an error; the next attempt follows after a pause |
//! | the last handle is dropped | a running fetch is cancelled, unless it spends a code or a refresh token |
//! | the clock is stepped, or the host was suspended | a token expires when either the monotonic or the wall clock says so |
//! | there are too many distinct requests | the token of an idle request is evicted, but never one whose [`TokenSource`] is held, nor one whose fetch is under way |
//! | a code, or a refresh token that the server replaced, is used again | nothing is sent, and callers get the error [`SignInRequired`](crate::TokenErrorKind::SignInRequired) |
//!
//! # What a source gives
//!
//! [`IssuedToken`] is the token with its expiry and its scope, and with the members of the response that the cache was asked to
//! [keep](TokenCacheBuilder::keep_members): the `instance_url` of Salesforce, the `id_token`. [`TokenSource::token`] returns it, and so do
//! [`peek`](TokenSource::peek), [`renew`](TokenSource::renew) and [`TokenChanges::changed`].
//!
//! # Many tenants
//!
//! One cache has the tokens of all tenants and users, each under its request. [`TokenSources`] finds them by a key of yours, such as the id of
//! a tenant, in less time than it takes to build a request.
//!
//! # Refresh tokens
//!
//! Some requests can be sent only once: those with a code, a device code, an `auth_req_id` or a refresh token. A source over one of
//! them sends it once and continues with the refresh token of the last response. A response without one leaves the old one in use; a
//! transient failure never discards it. [`on_refresh_token`](TokenCacheBuilder::on_refresh_token) is called with each new one before
//! anything relies on it.
//!
//! While the user has not decided (`authorization_pending`), callers get that error, without a request to the server, until the polling
//! interval has passed. The next caller after that asks the server again. The interval is the
//! [`polling_interval`](TokenRequest::polling_interval) of the request, or five seconds; each `slow_down` adds five seconds to it. Each
//! connection error in a row doubles the pause, up to a minute. [`TokenSource::wait_for_user`] waits until the user has decided.
//!
//! A source ends when its credential is dead. Then every call returns [`SignInRequired`](crate::TokenErrorKind::SignInRequired):
//!
//! | the source is over | it ends with |
//! |---|---|
//! | a refresh token, given or from a response | `invalid_grant` with a 4xx status, or what [`ends_refresh_token`](TokenCacheBuilder::ends_refresh_token) declares; never with `access_denied`, a wrong client secret or a 5xx |
//! | a code | any final refusal that does not concern the client, and any failure after which the server may have used the code |
//! | a device code, an `auth_req_id` | any error code except `authorization_pending`, `slow_down`, transient ones, and those that concern the client (RFC 8628 §3.5) |
//!
//! A refusal concerns the client if the error code contains the word `client` (`invalid_client`, `unauthorized_client`), or if the status
//! is 401 and the code does not name anything else. The server then has not looked at the grant, so it is sent again later.
//!
//! Make a source over a new code or refresh token then. If the credential comes from a [provider](crate::Credential), the source recovers
//! by itself: the provider is asked again by each fetch, and what it returns is sent if it is new. So several processes can share a store of
//! refresh tokens: when the server refuses one, because another process has used it, the newer one from the store is sent at once.
//!
//! When the cache is full, it evicts sources over these requests like any other if nobody holds them. Then only
//! [`on_refresh_token`](TokenCacheBuilder::on_refresh_token) has their newest refresh token: without this callback the refresh token is
//! lost, and the user has to sign in again. So set it, or hold the [`TokenSource`]. An entry stays until its fetch has landed and the
//! callback has been called.
//!
//! The cache remembers which codes and refresh tokens must not be sent again, and does not send them, whether or not their entry has
//! been evicted:
//!
//! | a new source over | then |
//! |---|---|
//! | a code that the server accepted, or may have accepted | `SignInRequired`; the error says that the code was used |
//! | a refresh token that the server replaced | `SignInRequired`; the error tells you to use the newest refresh token, with which `on_refresh_token` was called |
//! | a refresh token that the server did not replace | it is sent |
//! | a code or a refresh token that the server refused | `SignInRequired` |
//! | a code that provably did not reach the server, or was not processed | it is sent |
//! | a device code or an `auth_req_id` for which the user has not decided | the server is polled again, no sooner than it asked for |
//!
//! What it remembers is a digest of the request, keyed randomly for each cache, and no text of a credential. A digest is remembered for
//! at least 12 and at most 24 hours: those of the newest 50,000 used credentials and of the newest 50,000 refused ones, and never more
//! than twice as many. Polling intervals are remembered in the same way, 10,000 of them. If the credential comes from a
//! [provider](crate::Credential), what the provider returns is compared.
//!
//! # Runtimes
//!
//! A fetch runs on a task of its own, on the tokio runtime of the caller that starts it, or on the one that was
//! [set](TokenCacheBuilder::runtime). Other callers wait for it on any runtime, and on any other executor.
//!
//! A runtime may stop without ending, for example because a blocking function calls `block_on` on a small runtime of its own and
//! returns after a limit of its own, or because a worker thread is blocked. The tasks of such a runtime are not polled. So the task of
//! a fetch shows four times a second that it is polled. Waiters look twice a second, and after a second of silence one of them starts
//! the fetch again on its own runtime. A slow server does not cause silence, and neither does an endpoint that blocks its thread while
//! it is polled.
//!
//! If your callers come from several runtimes, or from none, set one runtime for the cache.
//!
//! # Start, probe and stop
//!
//! [`warm_up`](TokenCache::warm_up) fetches many tokens before the first requests need them, [`health`](TokenCache::health) is a summary
//! for probes, and [`shutdown`](TokenCache::shutdown) ends everything that runs in the background without losing a refresh token.
//!
//! # Events
//!
//! The cache reports each change to [`tracing`](https://docs.rs/tracing), under the target `tower_oauth2_client::token_cache`. No event
//! contains a token or a secret. Every event except the last tells whose token it is about, by these fields. Each is absent if it is not known:
//!
//! | field | value |
//! |---|---|
//! | `label` | the [label](TokenRequest::label) of the request |
//! | `client_id` | the id of the client |
//! | `host` | the host of the token endpoint, with its port if the URI names one |
//! | `grant_type` | the grant type of the request |
//! | `scope` | the requested scope, unless it comes from a provider |
//!
//! `client_id` and `host` are known if the request names them, and otherwise as soon as a [`TokenEndpoint`](crate::TokenEndpoint) has been
//! called. The same values are in the [errors](crate::TokenError#whose-token-and-which-host) of the cache, in
//! [`TokenStatus`], and in the request that [`on_refresh_token`](TokenCacheBuilder::on_refresh_token) gets.
//!
//! | level | message | more fields |
//! |---|---|---|
//! | `TRACE` | `fetching an access token` | `reason`: `first`, `stale`, `expired`, `refused`, `asked for` |
//! | `DEBUG` | `fetched an access token` | `reason`, `fresh` and `usable`: for how long |
//! | `DEBUG` | `took an access token from the token store` | `reason`, `fresh` and `usable`: for how long |
//! | `DEBUG` | `retrying the fetch of an access token` | `error` |
//! | `WARN` | `failed to fetch an access token` | `reason`, `error`, `failures` in a row, `pause` before the next attempt |
//! | `DEBUG` | `an API refused an access token; dropped it` | |
//! | `WARN` | `an API refused an access token; kept it, because tokens were refused too often recently` | |
//! | `DEBUG` | `access tokens without a stated lifetime were refused twice after about the same time; renewing the next ones earlier` | `lifetime` |
//! | `WARN` | `nobody drives the runtime of a fetch; fetching the access token on another` | |
//! | `ERROR` | `on_refresh_token did not complete; using the new refresh token anyway` | |
//! | `ERROR` | `the cache was shut down while a fetch that spends a one-time credential still ran; a refresh token may be lost` | |

// The way of one fetch.
//
// Each file answers one question. A fetch passes through them in this order:
//
//   TokenCache::source                                    mod.rs          settings: builder.rs
//      |  or by a key of the user's                       token_sources.rs, key_index.rs
//      |  find the entry of the request, or make one      entries.rs
//      v
//   TokenSource::token                                    source.rs       keep_warm: keep_warm.rs
//      |  or: set the Authorization header                header.rs       subscribe: token_changes.rs
//      |  by the copy that each service has of its value  local_copy.rs   a user who decides: wait_for_user.rs
//      v
//   is there a token? is it fresh, stale, expired?        entry/mod.rs    without the lock
//      |                                                  state.rs
//      |-- fresh, stale -------------> the token
//      v
//   look again, now with the lock                         entry/look_up.rs
//      |-- fresh, stale -------------> the token
//      |-- pausing after a failure --> its error          pauses.rs
//      v
//   join the fetch that is under way, or start one        entry/look_up.rs
//      |                |  what to send: the request       fetch/grant.rs  GrantState
//      |                |  itself, or a refresh token
//      |                |  too many under way? wait        fetch/limit.rs  entry/queue.rs
//      |                v
//      |             fetch, on a task of its own:         fetch/mod.rs    run
//      |                |  one attempt, perhaps a second   fetch/attempts.rs
//      |                |  through a store?                fetch/sharing.rs  token_store/share
//      |                |  send no credential twice        fetch/grant.rs  fetch/spent.rs
//      |                |  call on_refresh_token
//      |                v
//      |             land:                                entry/land.rs
//      |                |  a token: how long is it fresh?  refresh_window.rs
//      |                |  an error: how long to pause?    pauses.rs       fetch/renewal_pause.rs
//      |                |  publish the token               base/published.rs
//      |                v
//      |<------------ wake all waiters                    base/single_flight
//      v
//   the token or the error
//
// If nobody polls the task of the fetch (fetch/heartbeat.rs), somebody who waits takes the fetch over (entry/look_up.rs). The folder operations
// contains what concerns all entries together: warm-up, health, shutdown.
//
// Later, an API accepts or refuses the token. Then sent_token.rs finds the entry by its number. entry/accepted.rs remembers who accepted the
// token, refusals.rs decides whether a refused one is replaced, entry/refuse.rs drops it, and learned_lifetime.rs learns from it. events.rs
// contains all events that are reported on the way; each error is in the file in which it arises. What callers get is in issued_token.rs,
// and what stays of a response in kept_members.rs.
//
// In `entry`, mod.rs only reads, end.rs and kept_warm.rs say how long it lives, look_up.rs starts fetches, fetch_task.rs waits for them, queue.rs waits until one may start, and
// land.rs and refuse.rs change the token. fetch/heartbeat.rs tells whether the task of a fetch is polled, and fetch/runtime.rs on which runtime it runs.
// state.rs, refresh_window.rs, pauses.rs, refusals.rs and learned_lifetime.rs are pure: the time and the random numbers are arguments. Only `entry`, entries.rs, key_index.rs,
// fetch/limit.rs and fetch/spent.rs lock, and only entry/look_up.rs and keep_warm.rs spawn tasks.
//
// Locks are taken in this order: a shard of entries.rs, an entry, then fetch/limit.rs or fetch/spent.rs. No other lock
// is taken while a shard of key_index.rs is locked.

mod builder;
mod entries;
mod entry;
mod events;
mod fetch;
mod header;
mod issued_token;
mod keep_warm;
mod kept_members;
mod key_index;
mod learned_lifetime;
mod local_copy;
mod operations;
mod pauses;
pub(crate) mod refresh_window;
mod refusals;
mod sent_token;
pub(crate) mod source;
mod state;
mod token_changes;
mod token_sources;
mod wait_for_user;

use std::{fmt, sync::Arc};

use tower_service::Service;

use self::{builder::Settings, entries::Entries};
pub use self::{
    builder::TokenCacheBuilder,
    entry::Invalidation,
    issued_token::IssuedToken,
    kept_members::MissingMember,
    operations::TokenHealth,
    state::{TokenState, TokenStatus},
    token_changes::TokenChanges,
    token_sources::{RequestOfKey, TokenSources},
};
pub(crate) use self::{
    header::{Authorization, TokenHeader},
    local_copy::LocalCopy,
    sent_token::{SentToken, TokenName},
    source::TokenSource,
};
use crate::{
    authorization_server::token_endpoint::stack::EndpointStack,
    error::BoxError,
    message::{TokenRequest, TokenResponse},
};

/// Holds the tokens that an endpoint stack returns, one for each distinct [`TokenRequest`].
///
/// It is a cheap handle without type parameters: clones share the tokens. The stack must be `Clone + Send`; it is cloned for
/// each fetch, so it may contain tower's `Timeout`, `Retry` or `ConcurrencyLimit`.
///
/// The key of a token is the whole request: its grant, every parameter and header, and its overrides. The order of the words in
/// the scope does not matter.
///
/// Each fetch runs on a task of its own, on the tokio runtime of the first caller that needs it, or on the one that was set with
/// [`runtime`](TokenCacheBuilder::runtime). Without a runtime, or in one without timers, callers get an error, not a panic.
///
/// # Examples
///
/// ```
/// use tower_oauth2_client::{BoxError, TokenCache, TokenRequest};
/// # use tower_oauth2_client::{AccessToken, TokenResponse, TokenType};
/// # use tower::service_fn;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), BoxError> {
/// # let endpoint = service_fn(|_: TokenRequest| async {
/// #     Ok::<_, BoxError>(TokenResponse::builder(AccessToken::new("t", TokenType::BEARER)?).build())
/// # });
/// let tokens = TokenCache::new(endpoint);
/// let source = tokens.source(TokenRequest::client_credentials().scope("api1"));
///
/// let token = source.token().await?; // fetched
/// let again = source.token().await?; // the same
/// assert_eq!(token, again);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct TokenCache(Arc<Inner>);

struct Inner {
    settings: Arc<Settings>,
    entries: Entries,
}

impl TokenCache {
    /// Creates a cache with the default settings over an endpoint stack.
    pub fn new<S>(endpoint: S) -> Self
    where
        S: Service<TokenRequest, Response = TokenResponse> + Clone + Send + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send,
    {
        Self::builder(endpoint).build()
    }

    /// Returns a builder to change the settings of a cache over an endpoint stack.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower_oauth2_client::TokenCache;
    /// # use tower_oauth2_client::{BoxError, TokenRequest, TokenResponse};
    /// # fn example<S>(endpoint: S)
    /// # where
    /// #     S: tower::Service<TokenRequest, Response = TokenResponse, Error = BoxError>,
    /// #     S: Clone + Send + 'static,
    /// #     S::Future: Send,
    /// # {
    /// let tokens = TokenCache::builder(endpoint)
    ///     .fetch_timeout(Duration::from_secs(5))
    ///     .build();
    /// # }
    /// ```
    pub fn builder<S>(endpoint: S) -> TokenCacheBuilder
    where
        S: Service<TokenRequest, Response = TokenResponse> + Clone + Send + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send,
    {
        TokenCacheBuilder::new(EndpointStack::new(endpoint))
    }

    /// Returns the source of the token for `request`, without fetching it yet.
    ///
    /// The [label](TokenRequest::label) and the [context](TokenRequest::context) of a request are not a part of its key. Requests that
    /// differ only in them share a token, and the label and the context of the first one are used.
    #[must_use]
    pub fn source(&self, request: TokenRequest) -> TokenSource {
        let entry = self.0.entries.get(request, &self.0.settings);
        TokenSource::cached(self.clone(), entry)
    }

    /// Returns whether a source is of this cache.
    pub(crate) fn is_of(&self, source: &TokenSource) -> bool {
        source
            .entry()
            .is_some_and(|entry| Arc::ptr_eq(entry.settings(), &self.0.settings))
    }

    /// Returns the source of a token that was sent, if it is of this cache.
    pub(crate) fn sender_of(&self, token: &SentToken) -> Option<TokenSource> {
        let entry = token.entry()?;
        Arc::ptr_eq(entry.settings(), &self.0.settings)
            .then(|| TokenSource::cached(self.clone(), entry))
    }

    /// Drops the entry of a request, unless somebody holds its source or fetches its token. Returns whether it is gone.
    pub(crate) fn forget(&self, request: &TokenRequest) -> bool {
        let now = self.0.settings.clock.now();
        self.0.entries.remove_if_idle(request, now)
    }

    /// Drops the token of a request, and ends everything that the cache does for it. Returns whether the cache knew the request.
    ///
    /// Call it when nobody needs the token any longer, for example when a tenant was deleted. [`keep_warm`](TokenSource::keep_warm) ends, a
    /// running fetch is cancelled unless it spends a code or a refresh token, and [`status`](Self::status) and [`health`](Self::health) no
    /// longer mention the token.
    ///
    /// A [`TokenSource`] or a subscription that somebody holds can fetch the token again, and the cache keeps its entry for it. So drop them
    /// before.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_oauth2_client::{TokenCache, TokenRequest};
    ///
    /// fn tenant_deleted(tokens: &TokenCache, request: &TokenRequest) {
    ///     tokens.remove(request);
    /// }
    /// ```
    pub fn remove(&self, request: &TokenRequest) -> bool {
        let Some(entry) = self.0.entries.find(request) else {
            return false;
        };
        entry.retire();
        drop(entry);
        self.forget(request);
        true
    }

    /// Drops the token of a request like [`remove`](Self::remove), and from the token store that this cache [shares](crate::token_store::ShareTokens).
    ///
    /// Call it when a user has signed out, after you have [revoked](crate::RevocationEndpoint) the refresh token. For a code or a refresh token, it
    /// removes the whole [sign-in](TokenRequest::sign_in), so a request with the name of it and any refresh token finds it. Other instances keep
    /// the token that they have until it is due, so end the session of the user there as well.
    ///
    /// Without a store, it does what `remove` does.
    ///
    /// # Errors
    ///
    /// Returns an error if the store does not answer. The token of this cache is dropped all the same.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_oauth2_client::{BoxError, TokenCache, TokenRequest};
    ///
    /// async fn sign_out(tokens: &TokenCache, session: &str, refresh_token: &str) -> Result<(), BoxError> {
    ///     let request = TokenRequest::refresh_token(refresh_token).sign_in(session);
    ///     tokens.remove_shared(&request).await
    /// }
    /// ```
    #[cfg(feature = "token-store")]
    #[cfg_attr(docsrs, doc(cfg(feature = "token-store")))]
    pub async fn remove_shared(&self, request: &TokenRequest) -> Result<(), BoxError> {
        self.remove(request);
        match &self.0.settings.share {
            Some(share) => share.remove(request).await,
            None => Ok(()),
        }
    }

    /// Drops every token, so that the next callers fetch new ones.
    ///
    /// Call it when you learn from elsewhere that tokens were revoked, or that the client certificate to which they are bound was
    /// replaced (see `ClientCertificate`, feature `rustls`). It cancels running fetches, except those that spend a code or a refresh
    /// token. It ends the pauses after failures, except those that the server asked for.
    #[doc(alias = "clear")]
    pub fn invalidate_all(&self) {
        self.0.entries.all().iter().for_each(|entry| entry.clear());
    }

    /// Returns the status of the token of each request, in no particular order.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_oauth2_client::TokenCache;
    ///
    /// fn report(tokens: &TokenCache) {
    ///     for token in tokens.status() {
    ///         let whose = token.label().unwrap_or("a token without a label");
    ///         println!("{whose} of {:?}: {:?}, {:?}", token.host(), token.state(), token.last_error());
    ///     }
    /// }
    /// ```
    #[must_use]
    pub fn status(&self) -> Vec<TokenStatus> {
        let entries = self.0.entries.all();
        entries
            .iter()
            .map(|entry| TokenStatus::new(entry))
            .collect()
    }
}

impl fmt::Debug for TokenCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenCache").finish_non_exhaustive()
    }
}
