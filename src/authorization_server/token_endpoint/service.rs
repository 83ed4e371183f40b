//! `TokenEndpoint`: encode, send, decode.

use std::{
    fmt,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body::Body;
use http_body_util::Full;
use tower_service::Service;

use super::{
    check,
    encode::{self, OwnedTarget, Target},
    future::ResponseFuture,
    place::Place,
    preparation::Plan,
};
use crate::{
    authorization_server::metadata::Rules,
    base::uri::{Printable, PrintableText},
    client_authentication::ClientAuthentication,
    dpop::DpopKey,
    error::{BoxError, TokenError},
    message::{TokenRequest, TokenResponse},
};

const MAX_RESPONSE_BODY: usize = 1024 * 1024;

/// A [`Service`] that turns a [`TokenRequest`] into an HTTP request to a token endpoint
/// ([RFC 6749 §3.2](https://www.rfc-editor.org/rfc/rfc6749#section-3.2)), sends it through the service `S`, and turns the
/// answer into a [`TokenResponse`] or a [`TokenError`].
///
/// `S` is any HTTP client that is a `Service<http::Request<B>>`: hyper-util's, one with tower layers around it, an axum
/// router, a function. It must be `Clone`, for two reasons: a request that is refused before it is sent gives the place that
/// `S` had reserved for it back, and so does one that must first obtain a credential.
///
/// # What is sent and what is not
///
/// 1. A request that is wrong in itself is refused with [`TokenErrorKind::Request`](crate::TokenErrorKind::Request): a
///    parameter set twice, an empty secret, two ways of client authentication. So is a token endpoint that is reached by
///    plain `http` beyond this machine.
/// 2. Only then are credentials that come from a provider obtained, and is a client assertion signed, anew for every request;
///    what comes is judged as above.
/// 3. The request goes out once, with a mark ([`NoAccessToken`](crate::NoAccessToken)) in its extensions. Nothing is
///    retried here, but for a demand for another DPoP nonce; see `RetryTransient` (feature `retry`). A retry belongs around this
///    service and not below it: a client assertion and a DPoP proof are good for one request.
/// 4. Redirects are not followed here. A client or layer below that follows them by itself (reqwest's default, tower-http's
///    `FollowRedirect`) takes the request elsewhere before its answer is seen: use it without, or `ReqwestService` (feature
///    `reqwest`), which stops it for token requests. A body above the limit is an error. There is no time limit here: put tower's
///    `Timeout` around.
///
/// # Cancel safety
///
/// Dropping the future drops the HTTP request. Whether the server has acted on it is not known then, which matters for
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
///     "https://as.example/token".parse()?,
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
    inner: S,
    pub(super) place: Place,
    client: ClientAuthentication,
    request_body: fn(Bytes) -> B,
    max_response_body: usize,
    allow_http: bool,
    dpop: Option<DpopKey>,
    allow_bearer: bool,
}

impl<S> TokenEndpoint<S> {
    /// Speaks to the token endpoint at `uri` through `inner`, as `client`.
    ///
    /// It never fails: a bad URI is said by the first request.
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
    ///     Uri::from_static("https://as.example/token"),
    ///     ClientAuthentication::client_secret_basic("client", "secret"),
    /// )
    /// # }
    /// ```
    pub fn new(inner: S, uri: Uri, client: ClientAuthentication) -> Self {
        Self::at(inner, Place::Known(uri), client, Full::new)
    }
}

impl<S, B> TokenEndpoint<S, B> {
    pub(super) fn at(
        inner: S,
        place: Place,
        client: ClientAuthentication,
        request_body: fn(Bytes) -> B,
    ) -> Self {
        Self {
            inner,
            place,
            client,
            request_body,
            max_response_body: MAX_RESPONSE_BODY,
            allow_http: false,
            dpop: None,
            allow_bearer: false,
        }
    }

    /// How to make the request body that `S` takes. Default is `Full::new`.
    ///
    /// # Examples
    ///
    /// ```
    /// use axum::{Router, body::Body};
    /// use http::Uri;
    /// use tower_oauth2_client::{ClientAuthentication, TokenEndpoint};
    ///
    /// let endpoint: TokenEndpoint<Router, Body> = TokenEndpoint::new(
    ///     Router::new(),
    ///     Uri::from_static("https://as.example/token"),
    ///     ClientAuthentication::none("client"),
    /// )
    /// .request_body(Body::from);
    /// ```
    pub fn request_body<C>(self, request_body: fn(Bytes) -> C) -> TokenEndpoint<S, C> {
        TokenEndpoint {
            inner: self.inner,
            place: self.place,
            client: self.client,
            request_body,
            max_response_body: self.max_response_body,
            allow_http: self.allow_http,
            dpop: self.dpop,
            allow_bearer: self.allow_bearer,
        }
    }

    /// How many bytes the body of an answer may have; more is an error. Default is 1 MiB.
    #[must_use]
    pub fn max_response_body(mut self, bytes: usize) -> Self {
        self.max_response_body = bytes;
        self
    }

    /// Allows a plain `http` token endpoint that is not on this machine. Default is that it is refused.
    ///
    /// # Security
    ///
    /// Secrets and tokens cross the network in the clear, unless something below `S` protects the connection, for example
    /// the sidecar of a mesh.
    #[must_use]
    pub fn danger_allow_http(mut self) -> Self {
        self.allow_http = true;
        self
    }

    /// Asks for tokens that are bound to this key (DPoP, [RFC 9449](https://www.rfc-editor.org/rfc/rfc9449)). Default is none.
    ///
    /// 1. Each request bears a proof, new for every attempt, with the last nonce that the server handed out.
    /// 2. A server that demands another nonce gets a second request at once: with a new proof, and with credentials that are obtained
    ///    anew. It did not process the first.
    /// 3. The tokens that come are [bound](crate::AccessToken::dpop_key) to the key. A `Bearer` token in their place is an error,
    ///    [`UnsupportedTokenType`](crate::TokenErrorKind::UnsupportedTokenType); see [`danger_allow_bearer`](Self::danger_allow_bearer).
    ///
    /// # Examples
    ///
    /// See [`DpopKey`].
    #[cfg(feature = "dpop")]
    #[cfg_attr(docsrs, doc(cfg(feature = "dpop")))]
    #[must_use]
    pub fn dpop(mut self, key: DpopKey) -> Self {
        self.dpop = Some(key);
        self
    }

    /// Takes a `Bearer` token where one that is bound to the DPoP key was asked for: for a server that does not know DPoP yet. Default
    /// is that it is an error.
    ///
    /// # Security
    ///
    /// Whoever steals such a token can use it, and nobody notices that the binding is gone.
    #[cfg(feature = "dpop")]
    #[cfg_attr(docsrs, doc(cfg(feature = "dpop")))]
    #[must_use]
    pub fn danger_allow_bearer(mut self) -> Self {
        self.allow_bearer = true;
        self
    }

    /// Where requests go that name no other token endpoint. `None` if the metadata of the issuer say that.
    #[must_use]
    pub fn uri(&self) -> Option<&Uri> {
        self.place.uri()
    }

    pub(super) fn rules(&self) -> Rules {
        Rules {
            allow_http: self.allow_http,
            limit: self.max_response_body,
        }
    }

    /// On whose behalf requests are made that name no other client.
    #[must_use]
    pub fn client(&self) -> &ClientAuthentication {
        &self.client
    }

    /// The HTTP service that it speaks through.
    #[must_use]
    pub fn get_ref(&self) -> &S {
        &self.inner
    }

    /// The HTTP service that it speaks through, to change it. The metadata of an issuer are asked for through the one that was given to
    /// [`discover`](TokenEndpoint::discover), since all clones share them.
    #[must_use]
    pub fn get_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    /// Gives the HTTP service back.
    #[must_use]
    pub fn into_inner(self) -> S {
        self.inner
    }
}

/// By hand, since a body type (axum's, hyper's) need not be `Clone`.
impl<S: Clone, B> Clone for TokenEndpoint<S, B> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            place: self.place.clone(),
            client: self.client.clone(),
            request_body: self.request_body,
            max_response_body: self.max_response_body,
            allow_http: self.allow_http,
            dpop: self.dpop.clone(),
            allow_bearer: self.allow_bearer,
        }
    }
}

impl<S, B, ResBody> Service<TokenRequest> for TokenEndpoint<S, B>
where
    S: Service<Request<B>, Response = Response<ResBody>> + Clone,
    S::Error: Into<BoxError>,
    ResBody: Body,
    ResBody::Error: Into<BoxError>,
{
    type Response = TokenResponse;
    type Error = TokenError;
    type Future = ResponseFuture<S, B, S::Future, ResBody>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner
            .poll_ready(cx)
            .map_err(|error| TokenError::not_ready(error.into()))
    }

    fn call(&mut self, request: TokenRequest) -> Self::Future {
        let client = request.client_override().unwrap_or(&self.client);
        let dpop = request.dpop_override().or(self.dpop.as_ref());
        let uri = request.token_endpoint_override().or(self.place.uri());
        let checked = uri.map_or(Ok(()), |uri| check::check_uri(uri, self.allow_http));
        if let Err(error) = checked.and_then(|()| check::check(&request, client, dpop)) {
            self.give_reservation_back();
            return ResponseFuture::failed(error);
        }
        let limit = self.max_response_body;
        let has_all = dpop.is_none() && !encode::must_prepare(&request, client);
        let Some(uri) = uri.filter(|_| has_all) else {
            let target = OwnedTarget {
                place: uri.map_or_else(|| self.place.clone(), |uri| Place::Known(uri.clone())),
                client: client.clone(),
                rules: self.rules(),
                dpop: dpop.cloned(),
            };
            let plan = Plan {
                target,
                request,
                allow_bearer: self.allow_bearer,
            };
            let request_body = self.request_body;
            let service = self.give_reservation_back();
            return ResponseFuture::prepare(plan, request_body, service, limit);
        };
        let target = Target { uri, client };
        match encode::encode(&request, &target, None) {
            Ok(http) => {
                let sending = self.inner.call(http.map(self.request_body));
                ResponseFuture::sending(sending, limit)
            }
            Err(error) => {
                self.give_reservation_back();
                ResponseFuture::failed(error)
            }
        }
    }
}

impl<S: Clone, B> TokenEndpoint<S, B> {
    /// Drops the readied inner service, whose reservation (a permit, a slot in a buffer) would else be held until the next
    /// call, and returns a clone that has to be readied first.
    fn give_reservation_back(&mut self) -> S {
        self.inner = self.inner.clone();
        self.inner.clone()
    }
}

impl<S, B> fmt::Debug for TokenEndpoint<S, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("TokenEndpoint");
        match &self.place {
            Place::Known(uri) => debug.field("uri", &Printable(uri)),
            Place::OfIssuer(discovery) => debug.field("issuer", &PrintableText(discovery.issuer())),
        };
        debug.field("client", &self.client).finish_non_exhaustive()
    }
}
