//! Obtains tokens once, shares them, and renews them before they expire.
//!
//! A [`TokenCache`] stands over a [`TokenEndpoint`](crate::TokenEndpoint), or over any stack of tower layers around one. For each
//! distinct [`TokenRequest`](crate::TokenRequest) it holds one token; a [`TokenSource`] hands that token out.
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
//! | the error is final (a wrong secret) | it is remembered for some seconds, then tried again |
//! | a caller is dropped while it waits | the fetch goes on for the others |
//! | the last handle is dropped | a fetch that is under way is cancelled |
//! | a token is refused by an API | that very token is dropped, and the next caller fetches another |
//! | tokens are refused again and again | two are replaced at once, then one after a pause that doubles from 5 seconds to 5 minutes |
//! | the clock is stepped, or the host was suspended | a token is over when the monotonic or the wall clock says so |

mod builder;
mod entries;
mod entry;
mod error;
mod events;
mod failure;
mod fetch;
mod grant;
mod keep_warm;
mod key;
mod local_copy;
pub(crate) mod refresh_window;
mod refusals;
mod registry;
mod settings;
mod single_flight;
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
use crate::{error::BoxError, token_request::TokenRequest, token_response::TokenResponse};

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

    /// Drops every token, so that the next callers fetch others: for a signal from outside that tokens have been revoked.
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
