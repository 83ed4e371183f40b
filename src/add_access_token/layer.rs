//! `AddAccessTokenLayer`: configures which token goes on which requests.

use std::{fmt, sync::Arc};

use http::{
    HeaderName,
    header::{AUTHORIZATION, PROXY_AUTHORIZATION},
    request, response,
};
use tower_layer::Layer;

use super::{
    destination::Destinations,
    error::{InvalidOrigin, InvalidScheme},
    refusal::RefusalRules,
    resend::NoResend,
    service::AddAccessToken,
    step_up::{StepUp, StepUpRules, StrongerTokens},
    token_choice::{LayerTokens, TokenFor, TokenRules},
    watch_trailers::WatchTrailersLayer,
};
use crate::{
    message::TokenRequest,
    token_cache::{TokenCache, TokenHeader, TokenSource},
};

/// Puts the token of a [`TokenSource`] on outgoing requests. See the [module](super) for the rules.
///
/// The token goes only to the origins that are named with [`origin`](Self::origin). If none is named, every request that would carry a
/// token is an error.
///
/// The wrapped service must be `Clone`. A request that has to wait for a token gives its ready service back, so that a permit or a slot in
/// a buffer is free for others. When the token has come, the layer makes a clone of the service ready and calls that. This second wait
/// has its own outcome: tower's `LoadShed`, below the layer, may reject such a request although it was ready before.
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
    pub(crate) resend: R,
}

impl AddAccessTokenLayer {
    /// Creates a layer that puts the token of `source` on requests to the named origins.
    ///
    /// Name at least one [`origin`](Self::origin).
    pub fn new(source: TokenSource) -> Self {
        Self::with_tokens(LayerTokens::Default(source))
    }

    /// Creates a layer without a default token: each request names its own, from `cache`.
    ///
    /// A request names its token by a [`TokenRequest`] or a [`TokenSource`] in its extensions, or by the function of
    /// [`token_source_for`](Self::token_source_for) or [`token_request_for`](Self::token_request_for). A request that names none is an error, [`NoTokenNamed`](super::NoTokenNamed),
    /// and is not sent. Use it for tenants: with [`new`](Self::new), a request whose tenant was forgotten gets the default token. A request
    /// with [`NoAccessToken`](crate::NoAccessToken) or with a header of its own is sent unchanged.
    ///
    /// Name at least one [`origin`](Self::origin).
    ///
    /// # Examples
    ///
    /// ```
    /// use bytes::Bytes;
    /// use http::Request;
    /// use http_body_util::Full;
    /// use tower::{BoxError, Service, ServiceBuilder, ServiceExt};
    /// use tower_oauth2_client::{AddAccessTokenLayer, TokenCache, TokenRequest};
    ///
    /// # async fn example<S>(tokens: TokenCache, http: S) -> Result<(), BoxError>
    /// # where
    /// #     S: Service<Request<Full<Bytes>>, Response = http::Response<Full<Bytes>>, Error = BoxError> + Clone,
    /// # {
    /// let api = ServiceBuilder::new()
    ///     .layer(AddAccessTokenLayer::per_request(tokens).origin("https://api.example")?)
    ///     .service(http);
    ///
    /// let tenant = "acme";
    /// let token = TokenRequest::client_credentials().scope("orders").parameter("tenant", tenant);
    /// let request = Request::get("https://api.example/orders").extension(token).body(Full::default())?;
    /// let response = api.oneshot(request).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn per_request(cache: TokenCache) -> Self {
        Self::with_tokens(LayerTokens::PerRequest(cache))
    }

    fn with_tokens(tokens: LayerTokens) -> Self {
        Self {
            rules: TokenRules {
                tokens,
                destinations: Destinations::default(),
                token_for: None,
                header: None,
                refusals: None,
                stronger_tokens: None,
                is_special: false,
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
    #[doc(alias = "host")]
    #[doc(alias = "base_url")]
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
    /// The function returns a [`TokenRequest`] or an `Option` of one. `None` stands for the default token; for a layer from
    /// [`per_request`](Self::per_request), which has none, it is the error [`NoTokenNamed`](super::NoTokenNamed). A token request or a
    /// source in the extensions of a request takes precedence, and the function is not called.
    ///
    /// The tokens come from the cache of the layer, or of its source. A layer over [`TokenSource::fixed`] has no cache: a request for
    /// which the function returns a token request is then an error. Where callers choose the tenant, the cache should bound their number
    /// ([`max_entries`](crate::token_cache::TokenCacheBuilder::max_entries)).
    ///
    /// Each call builds a request, and finds its token by comparing requests. With many tenants,
    /// [`token_source_for`](Self::token_source_for) is faster. Of both methods, the last call counts.
    ///
    /// Default is the default token for every request.
    ///
    /// # Examples
    ///
    /// ```
    /// use http::request::Parts;
    /// use tower_oauth2_client::{AddAccessTokenLayer, TokenCache, TokenRequest};
    ///
    /// # fn example(tokens: TokenCache) -> Result<(), Box<dyn std::error::Error>> {
    /// let base = TokenRequest::client_credentials().scope("api1");
    /// let layer = AddAccessTokenLayer::per_request(tokens)
    ///     .origin("https://api.example")?
    ///     .token_request_for(move |request: &Parts| {
    ///         let tenant = request.headers.get("x-tenant")?.to_str().ok()?;
    ///         Some(base.clone().parameter("tenant", tenant))
    ///     });
    /// # Ok(())
    /// # }
    /// ```
    pub fn token_request_for<T>(
        mut self,
        token_request_for: impl Fn(&request::Parts) -> T + Send + Sync + 'static,
    ) -> Self
    where
        T: Into<Option<TokenRequest>>,
    {
        let function = move |request: &request::Parts| token_request_for(request).into();
        self.rules.token_for = Some(TokenFor::Request(Arc::new(function)));
        self.rules.is_special = true;
        self
    }

    /// Chooses the source of the token for each request, for example for tenants by header or by host.
    ///
    /// The function returns a [`TokenSource`] or an `Option` of one. [`TokenSources`](crate::TokenSources) finds it by a key, without
    /// a token request. `None` stands for the default token; for a layer from [`per_request`](Self::per_request), which has none, it is
    /// the error [`NoTokenNamed`](super::NoTokenNamed). A token request or a source in the extensions of a request takes precedence, and
    /// the function is not called. The source may be of any cache, or fixed.
    ///
    /// Of this method and [`token_request_for`](Self::token_request_for), the last call counts. Default is the default token for every
    /// request.
    ///
    /// # Examples
    ///
    /// ```
    /// use http::request::Parts;
    /// use tower_oauth2_client::{AddAccessTokenLayer, TokenCache, TokenRequest};
    ///
    /// # fn example(tokens: TokenCache) -> Result<(), Box<dyn std::error::Error>> {
    /// let base = TokenRequest::client_credentials().scope("api1");
    /// let sources = tokens
    ///     .sources_by(move |tenant: &String| base.clone().parameter("tenant", tenant.as_str()));
    /// let layer = AddAccessTokenLayer::per_request(tokens)
    ///     .origin("https://api.example")?
    ///     .token_source_for(move |request: &Parts| {
    ///         let tenant = request.headers.get("x-tenant")?.to_str().ok()?;
    ///         Some(sources.get(tenant))
    ///     });
    /// # Ok(())
    /// # }
    /// ```
    pub fn token_source_for<T>(
        mut self,
        token_source_for: impl Fn(&request::Parts) -> T + Send + Sync + 'static,
    ) -> Self
    where
        T: Into<Option<TokenSource>>,
    {
        let function = move |request: &request::Parts| token_source_for(request).into();
        self.rules.token_for = Some(TokenFor::Source(Arc::new(function)));
        self.rules.is_special = true;
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

    /// Sets the header that carries the token.
    ///
    /// With `Proxy-Authorization`, the token is for a proxy, and the proxy refuses it with the status 407 and `Proxy-Authenticate`. This is
    /// for a proxy that receives the request itself. A client that reaches an `https` origin through a tunnel (`CONNECT`) sends the
    /// header through the tunnel: the origin gets it, and the proxy does not see it.
    ///
    /// A request that has this header already is sent unchanged. Its `Authorization` header does not count then. A token of the type
    /// `DPoP` is sent in this header, too, together with its proof in the header `DPoP`.
    ///
    /// Default is `Authorization`.
    ///
    /// # Security
    ///
    /// The value is marked sensitive whatever the name is. But HTTP clients that follow redirects below this layer remove only the headers
    /// that they know from a request to another origin: `Authorization` and `Proxy-Authorization`, for example. They send any other header
    /// wherever the redirect leads. Turn redirects off below, or follow them above this layer.
    ///
    /// # Examples
    ///
    /// ```
    /// use http::HeaderName;
    /// use tower_oauth2_client::{AddAccessTokenLayer, TokenSource};
    ///
    /// # fn example(source: TokenSource) -> Result<(), Box<dyn std::error::Error>> {
    /// let layer = AddAccessTokenLayer::new(source)
    ///     .origin("https://api.example")?
    ///     .header(HeaderName::from_static("x-serverless-authorization"));
    /// # Ok(())
    /// # }
    /// ```
    pub fn header(mut self, name: HeaderName) -> Self {
        let is_for_proxy = name == PROXY_AUTHORIZATION;
        if is_for_proxy || self.rules.refusals.is_some() {
            self.refusals_mut().is_for_proxy = is_for_proxy;
        }
        self.header_mut().name = name;
        self
    }

    /// Sets the scheme, the word before the token in its header.
    ///
    /// A token of the type `DPoP` always has the scheme `DPoP` ([RFC 9449 §7.1](https://www.rfc-editor.org/rfc/rfc9449#section-7.1)).
    ///
    /// Default is `Bearer`.
    ///
    /// # Errors
    ///
    /// Returns an error if `scheme` is empty, or is not a token of RFC 9110 §5.6.2. For a token without a scheme, use
    /// [`without_scheme`](Self::without_scheme).
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_oauth2_client::{AddAccessTokenLayer, TokenSource};
    ///
    /// # fn example(source: TokenSource) -> Result<(), Box<dyn std::error::Error>> {
    /// let layer = AddAccessTokenLayer::new(source)
    ///     .origin("https://api.example")?
    ///     .scheme("Token")?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn scheme(mut self, scheme: &str) -> Result<Self, InvalidScheme> {
        // The names of headers are tokens, too.
        if HeaderName::from_bytes(scheme.as_bytes()).is_err() {
            return Err(InvalidScheme);
        }
        self.header_mut().scheme = (scheme != "Bearer").then(|| scheme.into());
        Ok(self)
    }

    /// Sends the token without a scheme before it, as in `X-Api-Key: 2YotnFZFEjr1zCsicMWpAA`.
    ///
    /// A token of the type `DPoP` keeps its scheme.
    ///
    /// Default is the scheme `Bearer`.
    ///
    /// # Examples
    ///
    /// ```
    /// use http::HeaderName;
    /// use tower_oauth2_client::{AddAccessTokenLayer, TokenSource};
    ///
    /// # fn example(source: TokenSource) -> Result<(), Box<dyn std::error::Error>> {
    /// let layer = AddAccessTokenLayer::new(source)
    ///     .origin("https://api.example")?
    ///     .header(HeaderName::from_static("x-api-key"))
    ///     .without_scheme();
    /// # Ok(())
    /// # }
    /// ```
    pub fn without_scheme(mut self) -> Self {
        self.header_mut().scheme = Some("".into());
        self
    }

    /// Counts further responses as refusals of the token, for APIs that refuse it in a way of their own.
    ///
    /// The function gets the head of each response to a request that carried a token of this layer. It decides in addition to the
    /// [rules](super#refusals) of the module; to replace them, use [`refused_only_when`](Self::refused_only_when). If this method is called
    /// several times, each function counts. For a layer from [`watch_trailers`](Self::watch_trailers), the headers of the head are the
    /// trailers of the gRPC response.
    ///
    /// With [`resend`](Self::resend), a request is resent after such a refusal if the response has a 4xx status or a gRPC error. After any
    /// other response it is resent only with [`resend_even_if_processed`](Self::resend_even_if_processed).
    ///
    /// Default is that only the rules of the module count.
    ///
    /// # Examples
    ///
    /// ```
    /// use http::StatusCode;
    /// use tower_oauth2_client::{AddAccessTokenLayer, TokenSource, add_access_token::CloneBody};
    ///
    /// # fn example(source: TokenSource) -> Result<(), Box<dyn std::error::Error>> {
    /// // Answers 403 when the token has expired.
    /// let layer = AddAccessTokenLayer::new(source.clone())
    ///     .origin("https://api.example")?
    ///     .refused_when(|response| response.status == StatusCode::FORBIDDEN)
    ///     .resend(CloneBody);
    ///
    /// // Answers with the gRPC status `PERMISSION_DENIED`.
    /// let layer = AddAccessTokenLayer::new(source)
    ///     .origin("https://grpc.example")?
    ///     .refused_when(|response| response.headers.get("grpc-status").is_some_and(|status| status == "7"));
    /// # Ok(())
    /// # }
    /// ```
    pub fn refused_when(
        mut self,
        refuses: impl Fn(&response::Parts) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.refusals_mut().refused_when.push(Arc::new(refuses));
        self
    }

    /// Counts only these responses as refusals of the token.
    ///
    /// It replaces the [rules](super#refusals) of the module, and earlier functions. Use it for an API whose 401 is not about the token,
    /// for example because its requests carry a second credential: each 401 would otherwise cost a token request. `|_| false` means that
    /// the token is never refused. A demand for a DPoP nonce is still met, and a response that a service below has marked with
    /// [`AccessTokenRefused`](super::AccessTokenRefused) still counts.
    ///
    /// Default is that the rules of the module count.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_oauth2_client::{AddAccessTokenLayer, TokenSource};
    ///
    /// # fn example(source: TokenSource) -> Result<(), Box<dyn std::error::Error>> {
    /// let layer = AddAccessTokenLayer::new(source)
    ///     .origin("https://api.example")?
    ///     .refused_only_when(|response| response.headers.contains_key("x-token-expired"));
    /// # Ok(())
    /// # }
    /// ```
    pub fn refused_only_when(
        mut self,
        refuses: impl Fn(&response::Parts) -> bool + Send + Sync + 'static,
    ) -> Self {
        let rules = self.refusals_mut();
        rules.has_built_in_rules = false;
        rules.refused_when = vec![Arc::new(refuses)];
        self
    }

    /// Resends a request whose token was refused, with another token.
    ///
    /// A request is resent once, as soon as there is another token. It is never resent with the token that was refused, nor when tokens
    /// were refused too often recently; the caller then gets the refusal. If another replica seems to revoke the tokens, the cache waits up
    /// to a second before it fetches the next one.
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

    /// Resends also after a response that may come from a request that was carried out.
    ///
    /// This concerns refusals that [`refused_when`](Self::refused_when) or the mark
    /// [`AccessTokenRefused`](super::AccessTokenRefused) finds in a response without a 4xx status and without a gRPC error, such as an
    /// error inside a 200 of a GraphQL API. It needs [`resend`](Self::resend).
    ///
    /// Default is that such a refusal invalidates the token, and the caller gets the response.
    ///
    /// # Security
    ///
    /// A GraphQL request may contain several mutations, of which some were carried out before the token was refused. Resending carries
    /// them out again. Use this only if requests to this API have no effects, or may be repeated.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_oauth2_client::{AddAccessTokenLayer, TokenSource, add_access_token::CloneBody};
    ///
    /// # fn example(source: TokenSource) -> Result<(), Box<dyn std::error::Error>> {
    /// let layer = AddAccessTokenLayer::new(source)
    ///     .origin("https://api.example")?
    ///     .resend(CloneBody)
    ///     .resend_even_if_processed();
    /// # Ok(())
    /// # }
    /// ```
    pub fn resend_even_if_processed(mut self) -> Self {
        self.refusals_mut().resends_even_if_processed = true;
        self
    }

    /// Answers challenges that demand a stronger token.
    ///
    /// Such a challenge comes with a 4xx (usually 401 or 403), from an [origin](Self::origin) that is named:
    ///
    /// | the challenge | the stronger token request |
    /// |---|---|
    /// | `insufficient_scope` with `scope` ([RFC 6750 §3.1](https://www.rfc-editor.org/rfc/rfc6750#section-3.1)) | the union of its scope and the demanded one |
    /// | `insufficient_claims` or `invalid_token` with `claims`, in base64 or JSON ([Microsoft Entra](https://learn.microsoft.com/en-us/entra/identity-platform/claims-challenge)) | the parameter `claims`: those of the request together with the demanded ones |
    /// | `insufficient_user_authentication` with `acr_values` or `max_age` ([RFC 9470 §3](https://www.rfc-editor.org/rfc/rfc9470#section-3)) | the parameters of these names, unless the grant is `client_credentials` |
    ///
    /// With [`resend`](Self::resend), the request waits for the stronger token, and is resent once with it. Without, the caller gets the
    /// challenge, and the stronger token is fetched in the background. Later requests use the stronger token at once. It is fetched
    /// and renewed by the cache like any other.
    ///
    /// If it cannot be fetched, the caller gets the challenge, later requests carry the weaker token, and the next
    /// attempt follows after a pause of at least 5 seconds, which doubles up to 5 minutes. If an API demands more and more, pauses follow
    /// after [`max_rounds`](StepUp::max_rounds) stronger tokens.
    ///
    /// Each token request has a stronger one of its own: that of the layer's source, one from
    /// [`token_request_for`](Self::token_request_for), and one in the extensions of a request. The layer remembers those of 1,000 token
    /// requests. Its clones share them.
    ///
    /// Nothing is answered in these cases, and the caller gets the challenge:
    ///
    /// * The token is fixed, or from another cache than that of the layer's source.
    /// * The token was requested with all that is demanded.
    /// * The grant can be sent only once: a code, a device code, an `auth_req_id` or a refresh token. Let the user sign in again.
    /// * A scope is demanded, but neither the token request nor the response names the scope so far, which the union would lose.
    /// * The demand is too large: more than 64 words or 4 KiB of scope, or 4 KiB of claims.
    ///
    /// Entra sends claims only to clients that announce the capability `cp1`
    /// ([client capabilities](https://learn.microsoft.com/en-us/entra/identity-platform/claims-challenge#client-capabilities)). Announce it in the
    /// claims of the token request, as in the example. The demanded claims are added to it.
    ///
    /// Default is that the caller gets every challenge.
    ///
    /// # Security
    ///
    /// The API decides what is requested, and the authorization server decides what is granted. Limit the scope with
    /// [`StepUp::allowed_scope`]. All origins that the layer names get the stronger token: use one layer for each API. A redirect that
    /// is followed below this layer lets another origin answer with a challenge.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_oauth2_client::{
    ///     AddAccessTokenLayer, TokenCache, TokenRequest,
    ///     add_access_token::{CloneBody, StepUp},
    /// };
    ///
    /// # fn example(tokens: TokenCache) -> Result<(), Box<dyn std::error::Error>> {
    /// let request = TokenRequest::client_credentials()
    ///     .scope("https://graph.microsoft.com/.default")
    ///     .parameter("claims", r#"{"access_token":{"xms_cc":{"values":["cp1"]}}}"#);
    /// let layer = AddAccessTokenLayer::new(tokens.source(request))
    ///     .origin("https://graph.microsoft.com")?
    ///     .step_up(StepUp::new())
    ///     .resend(CloneBody);
    /// # Ok(())
    /// # }
    /// ```
    pub fn step_up(mut self, step_up: StepUp) -> Self {
        let (cache, source) = (
            self.rules.tokens.cache(),
            self.rules.tokens.default_source(),
        );
        let tokens = StrongerTokens::new(step_up, cache.cloned(), source.cloned());
        self.rules.stronger_tokens = Some(Arc::new(tokens));
        self.rules.is_special = true;
        self
    }

    /// Returns a layer that notices refusals in the trailers of gRPC responses.
    ///
    /// It has the source, the header and the refusal rules of this layer, and belongs below it. See
    /// [`WatchTrailersLayer`].
    pub fn watch_trailers(&self) -> WatchTrailersLayer {
        let TokenRules {
            tokens,
            header,
            refusals,
            ..
        } = &self.rules;
        let header = header.as_ref().map(|header| header.name.clone());
        WatchTrailersLayer::with_rules(
            tokens.default_source().cloned(),
            header.unwrap_or(AUTHORIZATION),
            refusals.clone(),
        )
    }

    fn header_mut(&mut self) -> &mut TokenHeader {
        let header = self.rules.header.get_or_insert_with(|| {
            Arc::new(TokenHeader {
                name: AUTHORIZATION,
                scheme: None,
            })
        });
        Arc::make_mut(header)
    }

    fn refusals_mut(&mut self) -> &mut RefusalRules {
        Arc::make_mut(self.rules.refusals.get_or_insert_default())
    }
}

impl<S, R: Clone> Layer<S> for AddAccessTokenLayer<R> {
    type Service = AddAccessToken<S, R>;

    fn layer(&self, inner: S) -> Self::Service {
        let mut rules = self.rules.clone();
        if let Some(tokens) = &rules.stronger_tokens {
            let step_up = StepUpRules {
                tokens: tokens.clone(),
                origins: rules.destinations.named_ids().collect(),
            };
            let refusals = rules.refusals.get_or_insert_default();
            Arc::make_mut(refusals).step_up = Some(step_up);
        }
        AddAccessToken::new(inner, rules, self.resend.clone())
    }
}

impl<R> fmt::Debug for AddAccessTokenLayer<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AddAccessTokenLayer")
            .field("source", &self.rules.tokens)
            .field("origins", &self.rules.destinations.named())
            .finish_non_exhaustive()
    }
}
