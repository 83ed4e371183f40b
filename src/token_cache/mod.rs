//! Obtains tokens once, shares them, and renews them before they expire.
//!
//! A [`TokenCache`] stands over a [`TokenEndpoint`](crate::TokenEndpoint), or over any stack of tower layers around one. For each
//! distinct [`TokenRequest`] it holds one token; a [`TokenSource`] hands that token out.
//!
//! # The life of a token
//!
//! ```text
//!   the request                 the stale point,                     the end, a leeway
//!   is sent                     drawn by chance                      before expires_in
//!      |                               |                                   |
//!      |============= fresh ===========|============== stale ==============|==== expired ====>
//!      |                               |                                   |
//!      |   served                      |   served; the first caller        |   nobody gets it;
//!      |                               |   starts a renewal, and           |   callers wait for
//!      |                               |   nobody waits for it             |   one fetch
//!      |
//!      |   refused by an API: dropped at once, whatever its state; callers wait for one fetch
//!
//!   a fetch that fails:  callers with a usable token do not notice
//!                        callers without get the error, at once during the pause after it:
//!                        |-- 1 s --|--- 2 s ---|----- 4 s -----|  ...  60 s   (half of it by chance)
//! ```
//!
//! The stale point lies between 0.4 and 0.9 of the lifetime for the first token of a source, and between 0.75 and 0.85 for later
//! ones; the leeway is a twentieth of the lifetime, between 10 milliseconds and 10 seconds. See
//! [`RefreshWindow`](crate::RefreshWindow) for why, and to change it.
//!
//! # What happens when
//!
//! | when | then |
//! |---|---|
//! | the token is *fresh* | it is served |
//! | the token is *stale*: in the last part of its life | it is served, while one renewal runs in the background |
//! | the token is *expired*, or there is none | callers wait for one fetch, and share its outcome |
//! | a renewal fails | the token is served to its end; the next attempt comes after a pause |
//! | a fetch fails, and no usable token is left | those who waited get its error; so do those who come during the pause after it, at once |
//! | the first fetch fails for a moment's reason | it is tried once more at once, inside the overall limit |
//! | the server sends `Retry-After` | the pause is at least so long, up to five minutes |
//! | the error is final (a wrong scope) | it is remembered for some seconds, then tried again |
//! | the error is `invalid_client`, and the secret has a provider | the secret is read again; if it was rotated, the fetch is tried once more at once |
//! | the answer has no `expires_in` | the token lives for the [default lifetime](TokenCacheBuilder::default_lifetime) |
//! | the answer has `refresh_in` | the token is stale from then on |
//! | the token is over when it arrives, or nearly | it goes to those who waited for it, and to nobody else; at most one fetch a second goes out |
//! | the server hands out the same token once more | it is not renewed early a second time |
//! | the same, and that token was refused | it is served, but no request is resent with it |
//! | a token is refused by an API | that very token is dropped, and the next caller fetches another; a late refusal of an old token does nothing |
//! | tokens are refused again and again, each in the first half of its life | two are replaced at once, then one after a pause that doubles from 5 seconds to 5 minutes |
//! | a caller is dropped while it waits | the fetch goes on for the others |
//! | the runtime that runs a fetch ends | a waiter on another runtime takes the fetch up |
//! | there is no runtime | an error, [`NoRuntime`](crate::TokenErrorKind::NoRuntime) |
//! | the endpoint panics | an error for those who waited; the next attempt comes after a pause |
//! | the last handle is dropped | a fetch that is under way is cancelled, unless it spends a refresh token |
//! | the clock is stepped, or the host was suspended | a token is over when the monotonic or the wall clock says so |
//! | there are too many distinct requests | the token of an idle one is given up; one whose [`TokenSource`] is held is not |
//!
//! # Refresh tokens
//!
//! A source over a request that can be sent once (a code, a device code, an `auth_req_id`, a refresh token) sends it once, and goes on
//! with the refresh token of the last answer. An answer without one leaves the old one in use; a failure that passes never discards
//! it. [`on_refresh_token`](TokenCacheBuilder::on_refresh_token) is told of each new one before anything relies on it.
//!
//! While the user has not decided (`authorization_pending`), callers get that error, and the server is asked again by the first
//! caller after five seconds or the [`polling_interval`](TokenRequest::polling_interval) of the request, and five more for each
//! `slow_down`. When the server takes the grant no more, the error is
//! [`SignInRequired`](crate::TokenErrorKind::SignInRequired) for good: make a source of a new code.
//!
//! # Events
//!
//! The cache tells [`tracing`](https://docs.rs/tracing) of each change, under the target `tower_oauth2_client::token_cache`. Every event has
//! the fields `grant_type` and `scope` (if it is a fixed text), and never a token or a secret.
//!
//! | level | message | fields |
//! |---|---|---|
//! | `TRACE` | `fetching an access token` | `reason`: `first`, `stale`, `expired`, `refused`, `asked for` |
//! | `DEBUG` | `fetched an access token` | `reason`, `fresh` and `usable`: for how long |
//! | `DEBUG` | `the fetch failed; it is tried once more` | `error` |
//! | `WARN` | `no new access token` | `reason`, `error`, `failures` in a row, `pause` before the next attempt |
//! | `DEBUG` | `an access token was refused; it is dropped` | |
//! | `WARN` | `an access token was refused, as others were of late; it is kept` | |
//! | `ERROR` | `a new refresh token could not be handed to its owner in time; it is used all the same` | |

mod builder;
mod entries;
mod entry;
mod error;
mod events;
mod failure;
mod fetch;
mod fetch_task;
mod grant;
mod keep_warm;
mod key;
mod local_copy;
mod published;
pub(crate) mod refresh_window;
mod refusals;
mod registry;
mod settings;
pub(crate) mod source;
mod state;
mod status;

use std::{fmt, sync::Arc};

use tower_service::Service;

pub use self::{
    builder::TokenCacheBuilder,
    source::TokenChanges,
    status::{TokenState, TokenStatus},
};
use self::{entries::Entries, settings::Settings};
pub(crate) use self::{
    entry::Invalidation,
    local_copy::{Authorization, LocalCopy, TokenName},
    source::TokenSource,
};
use crate::{
    error::BoxError,
    message::{TokenRequest, TokenResponse},
};

/// Holds the tokens that an endpoint stack brings, one for each distinct [`TokenRequest`].
///
/// It is a cheap handle without type parameters: clones share the tokens. The stack need only be `Clone + Send`; it is cloned
/// for each fetch, so tower's `Timeout`, `Retry` or `ConcurrencyLimit` may be part of it.
///
/// The key of a token is the whole request: grant, every parameter and header, overrides. The order of the words in the scope
/// does not matter.
///
/// Fetches run on tasks of their own, on the tokio runtime of the caller that needs them first. No runtime is an error, not a
/// panic.
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
    /// A cache with the default settings over an endpoint stack.
    pub fn new<S>(endpoint: S) -> Self
    where
        S: Service<TokenRequest, Response = TokenResponse> + Clone + Send + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send,
    {
        Self::builder(endpoint).build()
    }

    /// A cache with settings of one's own over an endpoint stack.
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
        TokenCacheBuilder::new(settings::Endpoint::new(endpoint))
    }

    /// The source of the token that `request` brings. Nothing is fetched yet.
    ///
    /// A request with [extensions](TokenRequest::extensions) cannot be cached, since they cannot be compared: its source gives
    /// an error.
    #[must_use]
    pub fn source(&self, request: TokenRequest) -> TokenSource {
        let entry = self.0.entries.get(request, &self.0.settings);
        TokenSource::cached(self.clone(), entry)
    }

    /// Drops every token, so that the next callers fetch others: for a signal from outside that tokens have been revoked, or that the
    /// client certificate to which they are bound was replaced (see `ClientCertificate`, feature `rustls`). Fetches under way are given
    /// up, except those that spend a code or a refresh token. A pause after a failure ends, unless the server asked for it.
    pub fn invalidate_all(&self) {
        self.0.entries.all().iter().for_each(|entry| entry.clear());
    }

    /// How the token of each request stands, in no order.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_oauth2_client::TokenCache;
    ///
    /// fn report(tokens: &TokenCache) {
    ///     for token in tokens.status() {
    ///         println!("{:?}: {:?}, {:?}", token.request(), token.state(), token.last_error());
    ///     }
    /// }
    /// ```
    #[must_use]
    pub fn status(&self) -> Vec<TokenStatus> {
        let entries = self.0.entries.all();
        entries.iter().map(|entry| TokenStatus::of(entry)).collect()
    }
}

impl fmt::Debug for TokenCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenCache").finish_non_exhaustive()
    }
}
