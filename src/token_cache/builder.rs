//! The settings of a cache, and the endpoint stack without its type.

use std::{fmt, future::Future, ops::RangeInclusive, pin::Pin, sync::Arc, time::Duration};

use tokio::runtime::Handle;

use super::{
    Inner, TokenCache, entries::Entries, fetch::limit::FetchLimit, fetch::runtime::FetchRuntime,
    fetch::spent::SpentCredentials, kept_members::KeepMembers, operations::shutdown::Shutdown,
    refresh_window::RefreshWindow, refusals::RefusalBound,
};
#[cfg(feature = "token-store")]
use crate::token_store::ShareTokens;
use crate::{
    authorization_server::token_endpoint::stack::EndpointStack, base::clock::Clock,
    error::TokenError, message::TokenRequest, secret::RefreshToken,
};

/// Configures a [`TokenCache`]; see [`TokenCache::builder`].
#[must_use = "nothing is built before `build`"]
pub struct TokenCacheBuilder {
    settings: Settings,
    max_entries: usize,
}

impl TokenCacheBuilder {
    pub(super) fn new(endpoint: EndpointStack) -> Self {
        let settings = Settings {
            endpoint,
            clock: Clock::default(),
            refresh_window: RefreshWindow::new(),
            default_lifetime: Duration::from_secs(300),
            max_lifetime: Duration::MAX,
            learn_lifetime: true,
            refusal_bound: RefusalBound {
                per_minute: RefusalBound::PER_MINUTE,
                pauses: RefusalBound::PAUSES,
            },
            fetch_timeout: Duration::from_secs(30),
            on_refresh_token: None,
            ends_refresh_token: None,
            spent: SpentCredentials::new(),
            runtime: FetchRuntime::default(),
            limit: FetchLimit::new(256),
            keep: KeepMembers::default(),
            shutdown: Shutdown::new(),
            #[cfg(feature = "token-store")]
            share: None,
        };
        Self {
            settings,
            max_entries: 100_000,
        }
    }

    /// Sets when a token is renewed before it expires. Default is [`RefreshWindow::new`].
    pub fn refresh_window(mut self, refresh_window: RefreshWindow) -> Self {
        self.settings.refresh_window = refresh_window;
        self
    }

    /// Sets the lifetime of a token if the server does not tell it. Default is five minutes.
    ///
    /// It applies if a response has no `expires_in`, or one that makes no sense: RFC 6749 §5.1 then leaves the lifetime to the
    /// documentation of the server.
    pub fn default_lifetime(mut self, default_lifetime: Duration) -> Self {
        self.settings.default_lifetime = default_lifetime;
        self
    }

    /// Sets the longest lifetime of a token, whatever the server says. Default is no limit.
    ///
    /// Set it if the server overstates the lifetime. Some servers send milliseconds in `expires_in` (reported for OAuth-Apis): 3600000 then
    /// is 41 days instead of an hour. At others, tokens end earlier than `expires_in` says, for example with the session of the user. A
    /// token that lives longer than this limit is renewed and expires as if it lived exactly that long.
    ///
    /// The limit also holds for [`default_lifetime`](Self::default_lifetime).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower_oauth2_client::token_cache::TokenCacheBuilder;
    ///
    /// fn set_up(builder: TokenCacheBuilder) -> TokenCacheBuilder {
    ///     // This server says 3600000 for an hour.
    ///     builder.max_lifetime(Duration::from_secs(3600))
    /// }
    /// ```
    pub fn max_lifetime(mut self, max_lifetime: Duration) -> Self {
        self.settings.max_lifetime = max_lifetime;
        self
    }

    /// Sets whether refusals teach the lifetime of tokens if the server does not tell it. Default is `true`.
    ///
    /// If an origin accepts two tokens in a row and refuses each after about the same time, later tokens are renewed before that time.
    /// The learned lifetime is never shorter than a second. Each later token that is not refused lengthens it by a thirty-second part,
    /// up to the [`default_lifetime`](Self::default_lifetime).
    pub fn learn_lifetime(mut self, learn_lifetime: bool) -> Self {
        self.settings.learn_lifetime = learn_lifetime;
        self
    }

    /// Sets how many refused tokens of one request are replaced in any minute. Default is 60.
    ///
    /// Three are replaced at once. After that the rate is spread evenly: about one a second by default, and callers wait for their turn. A
    /// refused token for which the turn does not come within two seconds is kept, and the caller gets the refusal.
    ///
    /// This limit holds for every refusal, also for tokens that were accepted before. Two replicas of one client need it at a server
    /// where each new token revokes the last one: each replaces up to this many tokens, and with less than 30, calls fail.
    ///
    /// Zero keeps every refused token until it is due. `u32::MAX` sets no limit.
    pub fn max_replacements_per_minute(mut self, max_replacements_per_minute: u32) -> Self {
        self.settings.refusal_bound.per_minute = max_replacements_per_minute;
        self
    }

    /// Sets the pauses between replacements of tokens that were never accepted. Default is from 5 seconds to 5 minutes.
    ///
    /// If an API refuses token after token, each in the first half of its life, two are replaced at once. Then one is replaced after
    /// each pause, and the pauses double, from the start to the end of the range. So an API that refuses every token, because of a wrong
    /// audience, does not use up the tokens of everybody else.
    ///
    /// A token that the same origin has accepted with a 2xx is replaced without these pauses. At most four origins are remembered for each
    /// token.
    ///
    /// `Duration::ZERO..=Duration::ZERO` switches the pauses off; the
    /// [limit of a minute](Self::max_replacements_per_minute) remains.
    pub fn refusal_pauses(mut self, refusal_pauses: RangeInclusive<Duration>) -> Self {
        self.settings.refusal_bound.pauses = refusal_pauses;
        self
    }

    /// Sets how long a fetch may take in total, including a second attempt. Default is 30 seconds.
    #[doc(alias = "timeout")]
    pub fn fetch_timeout(mut self, fetch_timeout: Duration) -> Self {
        self.settings.fetch_timeout = fetch_timeout;
        self
    }

    /// Sets how many fetches may be under way at the same time, for all tokens of the cache together. Default is 256, and the least is 1.
    ///
    /// It spares the authorization server when many tokens are due at once, and this process when somebody makes up tenants while the
    /// server does not respond. 256 fetches of 100 milliseconds each return 2,560 tokens a second.
    ///
    /// When the limit is reached, fetches wait in a queue, in order; renewals of stale tokens and fetches that callers wait for take turns.
    /// A fetch that waits takes some hundred bytes and no task, and leaves the queue when its last caller is dropped. The time in the
    /// queue does not count towards [`fetch_timeout`](Self::fetch_timeout), and callers wait for as long as it takes: if `n` fetches are
    /// before theirs, at most about `n / max_concurrent_fetches` times the `fetch_timeout` (twice that, if each also exhausts the
    /// time for [`on_refresh_token`](Self::on_refresh_token)). Put a limit of your own around callers that must not wait so long, such as
    /// tower's `Timeout`.
    ///
    /// The client of the token endpoint may itself need a token of the same cache, for example for a proxy. Then one fetch waits for
    /// another. The cache notices this if both are on the same task, and starts the inner fetch at once, whatever the limit. It does not
    /// notice it if the client runs on a task of its own, as below tower's `Buffer`. For such a client, set a limit that is greater than
    /// the number of fetches that wait for others; otherwise all places may be taken by fetches that wait, and they time out.
    pub fn max_concurrent_fetches(mut self, max_concurrent_fetches: usize) -> Self {
        self.settings.limit = FetchLimit::new(max_concurrent_fetches);
        self
    }

    /// Sets for how many distinct requests the cache holds tokens. Default is 100,000.
    ///
    /// When the cache is full, a new request takes the place of an idle one. A request whose
    /// [`TokenSource`](crate::TokenSource) is held somewhere, or whose fetch is under way, keeps its place. This holds for sources over
    /// codes and refresh tokens, too: see [the module](super#refresh-tokens) for what remains of them.
    #[doc(alias = "capacity")]
    #[doc(alias = "max_capacity")]
    pub fn max_entries(mut self, max_entries: usize) -> Self {
        self.max_entries = max_entries;
        self
    }

    /// Sets a function that is called with each new refresh token, so that you can store it. Default is none.
    ///
    /// It also gets the request of the source that the refresh token belongs to. The getters of that request tell whose refresh token it is:
    /// its [label](TokenRequest::get_label), its [context](TokenRequest::get_context) and its [sign-in](TokenRequest::get_sign_in), and also the
    /// [client](TokenRequest::get_client_id) and the [host](TokenRequest::get_host) that were called. The cache awaits the function before any caller gets the
    /// access token of the same response, for at most as long as a fetch may take. After that it uses the new refresh token anyway,
    /// because the server no longer accepts the old one.
    ///
    /// With a shared store (feature `token-store`), the instance that fetched the refresh token calls it, and no other.
    ///
    /// Without it, a refresh token is lost when its entry is evicted (see [`max_entries`](Self::max_entries)) or the process ends, and
    /// the user has to sign in again.
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

    /// Declares which refusals mean that a refresh token is dead, in addition to `invalid_grant`. Default is none.
    ///
    /// A source over a refresh token ends when the server says that the token is no longer valid: callers then get
    /// [`SignInRequired`](crate::TokenErrorKind::SignInRequired), and nothing more is sent. The standard says so by `invalid_grant` with
    /// a 4xx status ([RFC 6749 §5.2](https://www.rfc-editor.org/rfc/rfc6749#section-5.2)). After any other refusal (`access_denied`, a
    /// wrong client secret) the source stays, and the refresh token is sent again after a pause.
    ///
    /// Some servers use codes of their own, often with status 200: GitHub says `bad_refresh_token`, Slack says `invalid_refresh_token`.
    /// Declare them, so that the user is asked to sign in. The function is called only with final refusals: never with a transient
    /// error, never with one with a 5xx status. A second call replaces the function.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_oauth2_client::{TokenError, token_cache::TokenCacheBuilder};
    ///
    /// fn set_up(builder: TokenCacheBuilder) -> TokenCacheBuilder {
    ///     builder.ends_refresh_token(|error: &TokenError| {
    ///         let code = error.error_response().map(|response| response.code().as_str());
    ///         matches!(code, Some("bad_refresh_token" | "invalid_refresh_token"))
    ///     })
    /// }
    /// ```
    ///
    /// A server whose errors have members of its own:
    ///
    /// ```
    /// # use tower_oauth2_client::{TokenError, token_cache::TokenCacheBuilder};
    /// fn set_up(builder: TokenCacheBuilder) -> TokenCacheBuilder {
    ///     builder.ends_refresh_token(|error: &TokenError| {
    ///         error.get("errorCode").is_some_and(|code| *code == "refresh_token_revoked")
    ///     })
    /// }
    /// ```
    pub fn ends_refresh_token<F>(mut self, is_dead: F) -> Self
    where
        F: Fn(&TokenError) -> bool + Send + Sync + 'static,
    {
        self.settings.ends_refresh_token = Some(Box::new(is_dead));
        self
    }

    /// Keeps these members of each response beside its token, for [`IssuedToken::get`](super::IssuedToken::get). Default is none.
    ///
    /// Some servers tell more than the token: Salesforce the `instance_url`, Snowflake and Shopify the scope of an account, an OpenID
    /// provider the `id_token`. Only what is named here is kept, because a cache may hold many tokens. The expiry and the scope of a token
    /// are always there. You can call this method several times; each call adds names.
    ///
    /// With the name `id_token`, the ID token is kept for [`IssuedToken::id_token`](super::IssuedToken::id_token), and not for `get`.
    /// `access_token` and `refresh_token` are never kept here.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_oauth2_client::{BoxError, TokenCache, TokenEndpoint, TokenRequest};
    /// # use tower_oauth2_client::{ClientAuthentication, NotSent};
    /// # use http::{Request, Response};
    /// # use http_body_util::Full;
    /// # use bytes::Bytes;
    /// # use tower::service_fn;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), BoxError> {
    /// # let http = service_fn(|_: Request<Full<Bytes>>| async {
    /// #     let body = r#"{"access_token":"00Dx0","instance_url":"https://eu1.my.salesforce.com"}"#;
    /// #     Ok::<_, BoxError>(Response::new(Full::<Bytes>::from(body)))
    /// # });
    /// # let endpoint = TokenEndpoint::new(http, "https://login.salesforce.com/services/oauth2/token", ClientAuthentication::none("client"));
    /// let tokens = TokenCache::builder(endpoint)
    ///     .keep_members(["instance_url"])
    ///     .build();
    /// let source = tokens.source(TokenRequest::client_credentials());
    ///
    /// let token = source.token().await?;
    /// assert_eq!(token.get("instance_url")?, "https://eu1.my.salesforce.com");
    /// # Ok(())
    /// # }
    /// ```
    pub fn keep_members<I>(mut self, names: I) -> Self
    where
        I: IntoIterator<Item: Into<String>>,
    {
        let names = names.into_iter().map(Into::into);
        self.settings.keep.add(names);
        self
    }

    /// Keeps all members of each response, except `access_token` and `refresh_token`. Default is none.
    ///
    /// See [`keep_members`](Self::keep_members), which needs less memory. The ID token is kept as well.
    pub fn keep_all_members(mut self) -> Self {
        self.settings.keep.add_all();
        self
    }

    /// Sets the runtime on which the cache fetches tokens and keeps them warm. Default is the runtime of each caller.
    ///
    /// Set it if callers come from several runtimes, or from none: from threads that use another executor, or from a blocking API that
    /// uses `block_on` on a small runtime of its own. They then need no runtime of tokio at all. The runtime must have timers
    /// (`enable_time` or `enable_all`), and everything else that your HTTP client needs. It must run for as long as you use the cache:
    /// after it has shut down, callers get the error [`NoRuntime`](crate::TokenErrorKind::NoRuntime).
    ///
    /// # Examples
    ///
    /// ```
    /// use tokio::runtime::Runtime;
    /// use tower_oauth2_client::{BoxError, TokenCache, TokenRequest};
    /// # use tower_oauth2_client::{AccessToken, TokenResponse, TokenType};
    /// # use tower::service_fn;
    ///
    /// # fn main() -> Result<(), BoxError> {
    /// # let endpoint = service_fn(|_: TokenRequest| async {
    /// #     Ok::<_, BoxError>(TokenResponse::builder(AccessToken::new("t", TokenType::BEARER)?).build())
    /// # });
    /// let runtime = Runtime::new()?;
    /// let tokens = TokenCache::builder(endpoint)
    ///     .runtime(runtime.handle().clone())
    ///     .build();
    /// let source = tokens.source(TokenRequest::client_credentials());
    ///
    /// // Any executor can wait for the token.
    /// let token = futures_util::FutureExt::now_or_never(source.token());
    /// # drop(token);
    /// # Ok(())
    /// # }
    /// ```
    pub fn runtime(mut self, runtime: Handle) -> Self {
        self.settings.runtime = FetchRuntime::new(runtime);
        self
    }

    /// Shares the tokens of this cache with the other instances of a service, through a store such as Redis. Default is none.
    ///
    /// [`ShareTokens`] explains how, and what happens when the store or the server fails.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_oauth2_client::{
    ///     BoxError, TokenCache,
    ///     token_store::{ShareTokens, StoreKeys, TokenStore},
    /// };
    /// # use tower_oauth2_client::{HttpService, TokenEndpoint};
    /// # use http_body_util::Full;
    /// # use bytes::Bytes;
    ///
    /// # fn example<S>(endpoint: TokenEndpoint<S>, store: impl TokenStore, keys: StoreKeys)
    /// # where
    /// #     S: HttpService<Full<Bytes>>,
    /// # {
    /// let share = ShareTokens::new(store, keys, &endpoint);
    /// let tokens = TokenCache::builder(endpoint).share(share).build();
    /// # }
    /// ```
    #[cfg(feature = "token-store")]
    #[cfg_attr(docsrs, doc(cfg(feature = "token-store")))]
    pub fn share(mut self, share: ShareTokens) -> Self {
        self.settings.share = Some(Arc::new(share));
        self
    }

    /// Sets the clock that tells the time.
    ///
    /// Default is [`Clock::default`]: the system's clocks, or tokio's clock in a test that has paused it before the builder is created.
    pub fn clock(mut self, clock: impl Into<Clock>) -> Self {
        self.settings.clock = clock.into();
        self
    }

    /// Builds the cache, which is empty.
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
            .field("max_lifetime", &self.settings.max_lifetime)
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
    pub(super) max_lifetime: Duration,
    pub(super) learn_lifetime: bool,
    pub(super) refusal_bound: RefusalBound,
    pub(super) fetch_timeout: Duration,
    pub(super) on_refresh_token: Option<OnRefreshToken>,
    pub(super) ends_refresh_token: Option<EndsRefreshToken>,
    pub(super) spent: SpentCredentials,
    pub(super) runtime: FetchRuntime,
    pub(super) limit: Arc<FetchLimit>,
    pub(super) keep: KeepMembers,
    pub(super) shutdown: Shutdown,
    #[cfg(feature = "token-store")]
    pub(super) share: Option<Arc<ShareTokens>>,
}

impl Settings {
    /// Returns how long a fetch may take: this is the limit of its attempts, and then again that of `on_refresh_token`.
    pub(super) fn longest_fetch(&self) -> Duration {
        self.fetch_timeout.saturating_mul(2).saturating_add(GRACE)
    }
}

/// What a fetch needs beside its limits.
const GRACE: Duration = Duration::from_secs(5);

/// Tells the owner of a refresh token about its successor.
pub(super) type OnRefreshToken = Box<
    dyn Fn(TokenRequest, RefreshToken) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync,
>;

/// Tells by a final refusal whether the refresh token is dead.
pub(super) type EndsRefreshToken = Box<dyn Fn(&TokenError) -> bool + Send + Sync>;
