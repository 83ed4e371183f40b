//! `AddAccessTokenLayer`: configures which token goes on which requests.

use std::{fmt, sync::Arc};

use http::request;
use tower_layer::Layer;

use super::{
    destination::Destinations, error::InvalidOrigin, resend::NoResend, service::AddAccessToken,
    token_choice::TokenRules,
};
use crate::{message::TokenRequest, token_cache::TokenSource};

/// Puts the token of a [`TokenSource`] on outgoing requests. See the [module](super) for the rules.
///
/// The token goes only to the origins that are named with [`origin`](Self::origin). If none is named, every request that would carry a
/// token is an error.
///
/// The wrapped service must be `Clone`. A request that has to wait for a token gives up the instance that was made ready, and a
/// clone is made ready afterwards. Over tower's `LoadShed`, such a request was admitted once and may still be shed when its token
/// has come.
///
/// # Examples
///
/// ```
/// use tower::ServiceBuilder;
/// use tower_oauth2_client::{AddAccessTokenLayer, TokenCache, TokenRequest};
///
/// # fn example<S>(tokens: TokenCache, http: S) -> Result<(), Box<dyn std::error::Error>> {
/// let source = tokens.source(TokenRequest::client_credentials().scope("api1"));
/// let api = ServiceBuilder::new()
///     .layer(AddAccessTokenLayer::new(source).origin("https://api.example")?)
///     .service(http);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
#[must_use = "a layer does nothing until it wraps a service"]
pub struct AddAccessTokenLayer<R = NoResend> {
    rules: TokenRules,
    resend: R,
}

impl AddAccessTokenLayer {
    /// Creates a layer that puts the token of `source` on requests to the named origins.
    ///
    /// Name at least one [`origin`](Self::origin).
    pub fn new(source: TokenSource) -> Self {
        Self {
            rules: TokenRules {
                source,
                destinations: Destinations::default(),
                token_request_for: None,
            },
            resend: NoResend,
        }
    }
}

impl<R> AddAccessTokenLayer<R> {
    /// Names an origin (scheme, host and port) that may see the token.
    ///
    /// It takes a `&str`, a `String`, a `Uri`, a `Url`, or anything else that prints a URI; everything after the port is ignored. It may
    /// be called several times. A request to any other origin is sent without a token.
    ///
    /// A request without an authority in its URI, as tonic's generated clients make them, goes to the one origin that is named. If none
    /// or several are named, it is an error: [`NoOriginNamed`](super::NoOriginNamed).
    ///
    /// Default is that no origin is named, and every request that would carry a token is an error.
    ///
    /// # Errors
    ///
    /// Returns an error if the URI is not valid, or has no scheme or no host.
    ///
    /// # Security
    ///
    /// Only the URI of a request counts, and not its `Host` header. Origins are compared byte for byte, except that the case of scheme and
    /// host and a default port make no difference: `wss://api.example` and `https://api.example.` are other origins than
    /// `https://api.example`, and an internationalized domain name is named in its ASCII form (`xn--…`).
    ///
    /// Where a request without an authority goes is up to the inner service. Name the origin that it really sends to.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_oauth2_client::{AddAccessTokenLayer, TokenSource};
    ///
    /// # fn example(source: TokenSource) -> Result<(), Box<dyn std::error::Error>> {
    /// let layer = AddAccessTokenLayer::new(source).origin("https://api.example")?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn origin(mut self, origin: impl fmt::Display) -> Result<Self, InvalidOrigin> {
        self.rules.destinations.name(origin)?;
        Ok(self)
    }

    /// Names several origins, for example from a configuration. See [`origin`](Self::origin).
    ///
    /// # Errors
    ///
    /// Returns an error if one of the URIs is not valid, or has no scheme or no host.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_oauth2_client::{AddAccessTokenLayer, TokenSource};
    ///
    /// # fn example(source: TokenSource) -> Result<(), Box<dyn std::error::Error>> {
    /// let layer = AddAccessTokenLayer::new(source)
    ///     .origins(["https://eu.api.example", "https://us.api.example"])?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn origins(
        self,
        origins: impl IntoIterator<Item: fmt::Display>,
    ) -> Result<Self, InvalidOrigin> {
        origins.into_iter().try_fold(self, Self::origin)
    }

    /// Sends the token to any origin over `https`, and over plain `http` on this machine.
    ///
    /// A request without an authority in its URI remains an error, unless one [`origin`](Self::origin) is named: such a URI does not
    /// say whether it goes over https.
    ///
    /// Default is that only the named origins may see the token.
    ///
    /// # Security
    ///
    /// Whoever decides where a request goes gets the token. That may be the caller, a link in a response, or a redirect: tower-http's
    /// `FollowRedirect` above this layer removes the token from a request to another origin, and this layer adds it again.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_oauth2_client::{AddAccessTokenLayer, TokenSource};
    ///
    /// # fn example(source: TokenSource) {
    /// let layer = AddAccessTokenLayer::new(source).danger_any_https_origin();
    /// # }
    /// ```
    pub fn danger_any_https_origin(mut self) -> Self {
        self.rules.destinations.danger_any_https();
        self
    }

    /// Makes the token request from each request, for example for tenants by header or by host.
    ///
    /// A token request or a source in the extensions of a request takes precedence.
    ///
    /// The tokens come from the cache of the layer's source. Where callers choose the tenant, the cache should bound their number
    /// ([`max_entries`](crate::token_cache::TokenCacheBuilder::max_entries)). If the source is a fixed token, every request is an
    /// error.
    ///
    /// Default is the token of the layer's source for every request.
    ///
    /// # Examples
    ///
    /// ```
    /// use http::request::Parts;
    /// use tower_oauth2_client::{AddAccessTokenLayer, TokenCache, TokenRequest};
    ///
    /// # fn example(tokens: TokenCache) -> Result<(), Box<dyn std::error::Error>> {
    /// let base = TokenRequest::client_credentials().scope("api1");
    /// let layer = AddAccessTokenLayer::new(tokens.source(base.clone()))
    ///     .origin("https://api.example")?
    ///     .token_request_for(move |request: &Parts| {
    ///         match request.headers.get("x-tenant").and_then(|tenant| tenant.to_str().ok()) {
    ///             Some(tenant) => base.clone().parameter("tenant", tenant),
    ///             None => base.clone(),
    ///         }
    ///     });
    /// # Ok(())
    /// # }
    /// ```
    pub fn token_request_for(
        mut self,
        token_request_for: impl Fn(&request::Parts) -> TokenRequest + Send + Sync + 'static,
    ) -> Self {
        self.rules.token_request_for = Some(Arc::new(token_request_for));
        self
    }

    /// Allows requests over plain `http` to other machines.
    ///
    /// They still go only to the named origins, unless [`danger_any_https_origin`](Self::danger_any_https_origin) is set, too.
    ///
    /// Default is that they are an error.
    ///
    /// # Security
    ///
    /// The token crosses the network in the clear, unless something below protects the connection, such as the sidecar of a mesh.
    pub fn danger_allow_http(mut self) -> Self {
        self.rules.destinations.danger_allow_http();
        self
    }

    /// Resends a request whose token was refused, with another token.
    ///
    /// A request is resent immediately, and once. It is never resent with the token that was refused, nor when tokens were refused
    /// too often recently; the caller then gets the refusal.
    ///
    /// Default is [`NoResend`]: the caller gets the refusal, and the next request gets another token.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_oauth2_client::{AddAccessTokenLayer, TokenSource, add_access_token::CloneBody};
    ///
    /// # fn example(source: TokenSource) -> Result<(), Box<dyn std::error::Error>> {
    /// let layer = AddAccessTokenLayer::new(source)
    ///     .origin("https://api.example")?
    ///     .resend(CloneBody);
    /// # Ok(())
    /// # }
    /// ```
    pub fn resend<Q>(self, resend: Q) -> AddAccessTokenLayer<Q> {
        AddAccessTokenLayer {
            rules: self.rules,
            resend,
        }
    }
}

impl<S, R: Clone> Layer<S> for AddAccessTokenLayer<R> {
    type Service = AddAccessToken<S, R>;

    fn layer(&self, inner: S) -> Self::Service {
        AddAccessToken::new(inner, Arc::new(self.rules.clone()), self.resend.clone())
    }
}

impl<R> fmt::Debug for AddAccessTokenLayer<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AddAccessTokenLayer")
            .field("source", &self.rules.source)
            .field("origins", &self.rules.destinations.named())
            .finish_non_exhaustive()
    }
}
