//! `TokenEndpoint`: the service, and its settings.

use std::{
    fmt,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::Uri;
use http_body_util::Full;
use tower_service::Service;

use super::call::TokenCall;
#[cfg(feature = "dpop")]
use crate::dpop::DpopKey;
use crate::{
    authorization_server::{
        endpoint::{EndpointCore, inner_service, response_future},
        http_service::HttpService,
    },
    client_authentication::ClientAuthentication,
    error::TokenError,
    message::{Parameter, TokenRequest, TokenResponse, TokenType},
};

/// A [`Service`](https://docs.rs/tower-service/0.3/tower_service/trait.Service.html) that sends a [`TokenRequest`] to a token endpoint
/// ([RFC 6749 §3.2](https://www.rfc-editor.org/rfc/rfc6749#section-3.2)) and returns a [`TokenResponse`] or a [`TokenError`].
///
/// It sends HTTP requests through the service `S`. `S` is any HTTP client that is an [`HttpService`]: hyper-util's, one with tower layers
/// around it, an axum router, a function. It must be `Clone`: if a request fails before it is sent, or must first obtain a credential,
/// the reservation that `S` made for it is given back, and another clone sends the request.
///
/// `B` is the body of the HTTP requests. If `S` takes another one than `Full<Bytes>`, set it with [`request_body`](Self::request_body).
///
/// # What is sent and what is not
///
/// 1. A request that is invalid in itself fails with [`TokenErrorKind::Request`](crate::TokenErrorKind::Request): a parameter is set
///    twice, a secret is empty, there are two client authentications. The same holds for a token endpoint that is reached by plain
///    `http` and is not on this machine.
/// 2. After that, credentials are obtained from their providers and a client assertion is signed, afresh for every request. What a
///    provider returns is checked in the same way.
/// 3. The request is sent once, with the mark [`NoAccessToken`](crate::NoAccessToken) in its extensions. Nothing is retried here except
///    a request whose server demands another DPoP nonce; see `RetryTransient` (feature `retry`). Put a retry around this service and
///    not below it: a client assertion and a DPoP proof are valid for one request.
/// 4. Unless the request sets them, it has the headers `Accept: application/json`, `Accept-Encoding: identity`, since a compressed
///    response is an error if the HTTP client does not decompress it, and `User-Agent: tower-oauth2-client/<version>`. With
///    `ReqwestService` (feature `reqwest`), the user agent of the reqwest client stays, if it has one. Layers below that only add
///    missing headers find these set.
/// 5. Redirects are not followed here; see [Security](#security). A body above the limit is an error. There is no time limit here: put
///    tower's `Timeout` around this service.
///
/// # Security
///
/// The HTTP client below must not follow redirects. Build reqwest's client with `redirect::Policy::none()`, and put tower-http's
/// `FollowRedirect` elsewhere. A client that follows them sends a part of the request to another server before this service sees the
/// response. tower-http 0.6, and reqwest 0.13 that uses it, even send `Authorization` with the client's secret, as soon as the other
/// server redirects to another of its own URLs.
///
/// A redirect can turn the `POST` into a `GET` at any server, also over plain `http`. What comes from there is not taken for an answer
/// where this service can tell: the error is [`UnexpectedStatus`](crate::TokenErrorKind::UnexpectedStatus).
///
/// * `ReqwestService` (feature `reqwest`) compares the URL of the response with that of the request.
/// * With the feature `tower-http`, this service recognizes the responses of tower-http's `FollowRedirect`, of the versions 0.6 and 0.7.
/// * Without that feature, and with any other client or layer that follows redirects, nobody notices: a token, the success of a
///   revocation or the metadata of an issuer may come from another server.
///
/// `Debug` shows the URI without its query, and the client without its secret.
///
/// Secrets are wiped from memory where this crate owns them: the text of credentials and tokens, and the form body of a request, when
/// the last handle to them is dropped. These copies are not wiped:
///
/// 1. The `Authorization` header of `client_secret_basic`, and whatever the HTTP client copies while it sends a request: its buffers of
///    headers, and those of TLS.
/// 2. The body of a response, which the HTTP client allocates. [`TokenResponse`] and [`TokenError`] keep it until they are dropped.
/// 3. What a provider of credentials keeps.
///
/// # Cancel safety
///
/// Dropping the future drops the HTTP request. It is then not known whether the server has processed the request, which matters for
/// codes and refresh tokens.
///
/// # Examples
///
/// ```
/// use bytes::Bytes;
/// use http::{Request, Response};
/// use http_body_util::Full;
/// use tower::{ServiceExt, service_fn};
/// use tower_oauth2_client::{BoxError, ClientAuthentication, TokenEndpoint, TokenRequest};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), BoxError> {
/// let http = service_fn(|_: Request<Full<Bytes>>| async {
///     let body = r#"{"access_token":"2YotnFZFEjr1zCsicMWpAA","token_type":"Bearer","expires_in":3600}"#;
///     Ok::<_, BoxError>(Response::new(Full::new(Bytes::from(body))))
/// });
/// let endpoint = TokenEndpoint::new(
///     http,
///     "https://as.example/token",
///     ClientAuthentication::client_secret_basic("client", "secret"),
/// );
///
/// let response = endpoint
///     .oneshot(TokenRequest::client_credentials().scope("api1"))
///     .await?;
/// assert_eq!(response.access_token().expose_secret(), "2YotnFZFEjr1zCsicMWpAA");
/// # Ok(())
/// # }
/// ```
pub struct TokenEndpoint<S, B = Full<Bytes>> {
    pub(crate) core: EndpointCore<S, B>,
    pub(crate) call: TokenCall,
    /// The parameters that are added to requests that do not set them.
    pub(crate) defaults: Vec<Parameter>,
}

impl<S> TokenEndpoint<S> {
    /// Creates a service for the token endpoint at `uri`, which `client` calls through `inner`.
    ///
    /// It takes the URI as a `&str`, a `String`, a `Uri`, a `Url`, or anything else that prints it. It never fails: an invalid URI is
    /// reported by the first request, before anything is sent.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_oauth2_client::{ClientAuthentication, TokenEndpoint};
    ///
    /// # fn example<S>(http: S) -> TokenEndpoint<S> {
    /// TokenEndpoint::new(
    ///     http,
    ///     "https://as.example/token",
    ///     ClientAuthentication::client_secret_basic("client", "secret"),
    /// )
    /// # }
    /// ```
    pub fn new(inner: S, uri: impl fmt::Display, client: ClientAuthentication) -> Self {
        Self::over(EndpointCore::new(inner, uri, client, Full::new))
    }
}

impl<S, B> TokenEndpoint<S, B> {
    pub(in crate::authorization_server) fn over(core: EndpointCore<S, B>) -> Self {
        Self {
            core,
            call: TokenCall::default(),
            defaults: Vec::new(),
        }
    }

    /// Sets the function that makes the request body of `S` from its bytes. Default is `Full::new`.
    ///
    /// It is needed if the HTTP service takes another body than `Full<Bytes>`, as a hyper-util client with the body of axum does. Most
    /// bodies are made by `Body::from`.
    ///
    /// # Examples
    ///
    /// ```
    /// use axum::body::Body;
    /// use hyper_util::client::legacy::{Client, connect::HttpConnector};
    /// use tower_oauth2_client::{ClientAuthentication, TokenEndpoint};
    ///
    /// fn endpoint(
    ///     http: Client<HttpConnector, Body>,
    ///     client: ClientAuthentication,
    /// ) -> TokenEndpoint<Client<HttpConnector, Body>, Body> {
    ///     TokenEndpoint::new(http, "https://as.example/token", client).request_body(Body::from)
    /// }
    ///
    /// fn discovered_endpoint(
    ///     http: Client<HttpConnector, Body>,
    ///     client: ClientAuthentication,
    /// ) -> TokenEndpoint<Client<HttpConnector, Body>, Body> {
    ///     TokenEndpoint::discover(http, "https://as.example", client).request_body(Body::from)
    /// }
    /// ```
    pub fn request_body<C>(self, request_body: fn(Bytes) -> C) -> TokenEndpoint<S, C> {
        TokenEndpoint {
            core: self.core.request_body(request_body),
            call: self.call,
            defaults: self.defaults,
        }
    }

    /// Sets how many bytes the body of a response may have; more is an error. Default is 1 MiB.
    #[must_use]
    pub fn max_response_body(mut self, bytes: usize) -> Self {
        self.core.max_response_body = bytes;
        self
    }

    /// Allows a plain `http` token endpoint that is not on this machine. Default is that it is refused.
    ///
    /// # Security
    ///
    /// Secrets and tokens cross the network unencrypted, unless something below `S` protects the connection, for example the sidecar of
    /// a mesh.
    #[must_use]
    pub fn danger_allow_http(mut self) -> Self {
        self.core.allow_http = true;
        self
    }

    /// Sets how a token of an unknown type is sent. Default is that it is not: a cache reports
    /// [`UnsupportedTokenType`](crate::TokenErrorKind::UnsupportedTokenType).
    ///
    /// Some servers issue Bearer tokens under a type of their own: `BearerToken` (Apigee), `Application Access Token` (eBay), `jwt-bearer`
    /// (Azure DevOps). For them, set [`TokenType::BEARER`], which then is the [type](TokenResponse::token_type) of these tokens. Any other
    /// type leaves the tokens unsent. `Bearer` in any case, an empty `token_type` and none need no setting.
    ///
    /// These tokens are never sent as Bearer tokens:
    ///
    /// * tokens of the types `N_A`, `mac`, `pop` and `DPoP`, which are known to be something else;
    /// * tokens that were requested with a DPoP key. They are an error.
    ///
    /// # Examples
    ///
    /// ```
    /// use http::Uri;
    /// use tower_oauth2_client::{ClientAuthentication, TokenEndpoint, TokenType};
    ///
    /// # fn example<S>(http: S) -> TokenEndpoint<S> {
    /// TokenEndpoint::new(
    ///     http,
    ///     Uri::from_static("https://api.ebay.com/identity/v1/oauth2/token"),
    ///     ClientAuthentication::client_secret_basic("client", "secret"),
    /// )
    /// .token_type(TokenType::BEARER)
    /// # }
    /// ```
    #[must_use]
    pub fn token_type(mut self, token_type: TokenType) -> Self {
        self.call.unknown_as_bearer = token_type == TokenType::BEARER;
        self
    }

    /// Uses the ID token in a response as the access token, also if there is an access token beside it. Default is that a response
    /// without an access token is an error.
    ///
    /// Google's token endpoint answers an assertion with the claim `target_audience` with an ID token alone, for an API behind Cloud Run
    /// or the Identity-Aware Proxy. The ID token is sent as a Bearer token. [`TokenResponse::expires_in`] is then the time from `iat`, or
    /// from the `Date` of the response if that is later, to the `exp` of the ID token. Nothing else of it is read, and its signature is
    /// not verified: that is for the API to do.
    ///
    /// A response without an ID token is read as usual.
    ///
    /// # Examples
    ///
    /// ```
    /// use http::Uri;
    /// use tower_oauth2_client::{ClientAuthentication, TokenEndpoint};
    ///
    /// # fn example<S>(http: S) -> TokenEndpoint<S> {
    /// TokenEndpoint::new(
    ///     http,
    ///     Uri::from_static("https://oauth2.googleapis.com/token"),
    ///     ClientAuthentication::anonymous(),
    /// )
    /// .use_id_token()
    /// # }
    /// ```
    #[must_use]
    pub fn use_id_token(mut self) -> Self {
        self.call.use_id_token = true;
        self
    }

    /// Asks for tokens that are bound to this key (DPoP, [RFC 9449](https://www.rfc-editor.org/rfc/rfc9449)). Default is none.
    ///
    /// 1. Each request carries a fresh proof with the last nonce that the server sent.
    /// 2. If the server demands another nonce, the request is sent a second time at once, with a fresh proof and freshly obtained
    ///    credentials. The server did not process the first request.
    /// 3. The returned tokens are [bound](crate::AccessToken::dpop_key) to the key. A `Bearer` token instead is an error,
    ///    [`UnsupportedTokenType`](crate::TokenErrorKind::UnsupportedTokenType); see [`danger_allow_bearer`](Self::danger_allow_bearer).
    ///
    /// # Examples
    ///
    /// See [`DpopKey`].
    #[cfg(feature = "dpop")]
    #[cfg_attr(docsrs, doc(cfg(feature = "dpop")))]
    #[must_use]
    pub fn dpop(mut self, key: DpopKey) -> Self {
        self.core.dpop = Some(key);
        self
    }

    /// Accepts a `Bearer` token although a bound token was requested, for a server that does not support DPoP yet.
    /// Default is that it is an error.
    ///
    /// # Security
    ///
    /// Whoever steals such a token can use it, and nobody notices that the binding is gone.
    #[cfg(feature = "dpop")]
    #[cfg_attr(docsrs, doc(cfg(feature = "dpop")))]
    #[must_use]
    pub fn danger_allow_bearer(mut self) -> Self {
        self.call.allow_bearer = true;
        self
    }

    /// Returns the URI of the token endpoint. `None` if it comes from the metadata of the issuer, or is invalid.
    ///
    /// A request can [name another one](TokenRequest::token_endpoint).
    #[must_use]
    pub fn uri(&self) -> Option<&Uri> {
        self.core.uri()
    }

    /// Returns the client that sends the requests. A request can [name another one](TokenRequest::client_authentication).
    #[must_use]
    pub fn client(&self) -> &ClientAuthentication {
        &self.core.client
    }
}

inner_service!(TokenEndpoint);

/// By hand, since a body type (axum's, hyper's) need not be `Clone`.
impl<S: Clone, B> Clone for TokenEndpoint<S, B> {
    fn clone(&self) -> Self {
        Self {
            core: self.core.clone(),
            call: self.call.clone(),
            defaults: self.defaults.clone(),
        }
    }
}

impl<S, B> Service<TokenRequest> for TokenEndpoint<S, B>
where
    S: HttpService<B>,
    B: 'static,
{
    type Response = TokenResponse;
    type Error = TokenError;
    type Future = ResponseFuture<S, B>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.core.poll_ready::<TokenCall>(cx)
    }

    fn call(&mut self, request: TokenRequest) -> Self::Future {
        let call = TokenCall {
            id_token_checks: request.shared_id_token_checks(),
            ..self.call
        };
        let request = request.with_defaults(&self.defaults);
        let inner = self.core.call(call, request.into_form());
        ResponseFuture { inner }
    }
}

response_future! {
    /// The future of [`TokenEndpoint`].
    TokenCall => TokenResponse
}

impl<S, B> fmt::Debug for TokenEndpoint<S, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.core.fmt("TokenEndpoint", f)
    }
}
