//! `RevocationEndpoint`: the service, and its settings.

use std::{
    fmt,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::Uri;
use http_body_util::Full;
use tower_service::Service;

use super::call::RevocationCall;
#[cfg(feature = "dpop")]
use crate::dpop::DpopKey;
use crate::{
    authorization_server::{
        endpoint::{EndpointCore, response_future},
        http_service::HttpService,
    },
    client_authentication::ClientAuthentication,
    error::TokenError,
    message::RevocationRequest,
};

/// A [`Service`](https://docs.rs/tower-service/0.3/tower_service/trait.Service.html) that sends a [`RevocationRequest`] to a revocation endpoint
/// ([RFC 7009](https://www.rfc-editor.org/rfc/rfc7009)), for example when a user signs out.
///
/// It sends HTTP requests through the service `S` in the same way as [`TokenEndpoint`](crate::TokenEndpoint) does: the same client
/// authentication, checks, limits and security rules.
///
/// 1. It returns `()` if the server answers with any 2xx status, whatever the body. The token is then invalid. It may have been invalid
///    before: a server does not report that.
/// 2. Otherwise it returns a [`TokenError`]. Assume that the token is still valid. If
///    [`TokenError::is_transient`] is `true` (for example for a 503), send the request again, after
///    [`TokenError::retry_after`] if the server sent one. Revoking a token twice does no harm.
/// 3. [`ErrorCode::UNSUPPORTED_TOKEN_TYPE`](crate::ErrorCode::UNSUPPORTED_TOKEN_TYPE) means that the server does not revoke tokens of
///    this type.
///
/// A [`TokenCache`](crate::TokenCache) does not notice a revocation: it uses a token until the token expires or an API refuses it.
///
/// # Cancel safety
///
/// Dropping the future drops the HTTP request. It is then not known whether the token was revoked. Send the request again.
///
/// # Examples
///
/// ```
/// use bytes::Bytes;
/// use http::{Request, Response};
/// use http_body_util::Full;
/// use tower::{ServiceExt, service_fn};
/// use tower_oauth2_client::{
///     BoxError, ClientAuthentication, RefreshToken, RevocationEndpoint, RevocationRequest,
/// };
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), BoxError> {
/// # let http = service_fn(|_: Request<Full<Bytes>>| async {
/// #     Ok::<_, BoxError>(Response::new(Full::new(Bytes::new())))
/// # });
/// let endpoint = RevocationEndpoint::new(
///     http,
///     "https://as.example/revoke",
///     ClientAuthentication::client_secret_basic("client", "secret"),
/// );
///
/// let token = RefreshToken::new("45ghiukldjahdnhzdauz");
/// endpoint
///     .oneshot(RevocationRequest::new(&token).token_type_hint("refresh_token"))
///     .await?;
/// # Ok(())
/// # }
/// ```
pub struct RevocationEndpoint<S, B = Full<Bytes>> {
    pub(super) core: EndpointCore<S, B>,
}

impl<S> RevocationEndpoint<S> {
    /// Creates a service for the revocation endpoint at `uri`, which `client` calls through `inner`.
    ///
    /// It takes the URI as a `&str`, a `String`, a `Uri`, a `Url`, or anything else that prints it. It never fails: an invalid URI is
    /// reported by the first request, before anything is sent.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_oauth2_client::{ClientAuthentication, RevocationEndpoint};
    ///
    /// # fn example<S>(http: S) -> RevocationEndpoint<S> {
    /// RevocationEndpoint::new(
    ///     http,
    ///     "https://as.example/revoke",
    ///     ClientAuthentication::none("my-cli"),
    /// )
    /// # }
    /// ```
    pub fn new(inner: S, uri: impl fmt::Display, client: ClientAuthentication) -> Self {
        Self {
            core: EndpointCore::new(inner, uri, client, Full::new),
        }
    }
}

impl<S, B> RevocationEndpoint<S, B> {
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
    /// use tower_oauth2_client::{ClientAuthentication, RevocationEndpoint};
    ///
    /// fn endpoint(
    ///     http: Client<HttpConnector, Body>,
    ///     client: ClientAuthentication,
    /// ) -> RevocationEndpoint<Client<HttpConnector, Body>, Body> {
    ///     RevocationEndpoint::new(http, "https://as.example/revoke", client).request_body(Body::from)
    /// }
    ///
    /// fn discovered_endpoint(
    ///     http: Client<HttpConnector, Body>,
    ///     client: ClientAuthentication,
    /// ) -> RevocationEndpoint<Client<HttpConnector, Body>, Body> {
    ///     RevocationEndpoint::discover(http, "https://as.example", client).request_body(Body::from)
    /// }
    /// ```
    pub fn request_body<C>(self, request_body: fn(Bytes) -> C) -> RevocationEndpoint<S, C> {
        RevocationEndpoint {
            core: self.core.request_body(request_body),
        }
    }

    /// Sets how many bytes of the body of a response are read. Default is 1 MiB.
    ///
    /// The body only explains an error: a success with a larger body is still a success.
    #[must_use]
    pub fn max_response_body(mut self, bytes: usize) -> Self {
        self.core.max_response_body = bytes;
        self
    }

    /// Allows a plain `http` revocation endpoint that is not on this machine. Default is that it is refused.
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

    /// Sends a DPoP proof with each request ([RFC 9449](https://www.rfc-editor.org/rfc/rfc9449)). Default is none.
    ///
    /// RFC 9449 does not define a proof at the revocation endpoint, but some servers demand one at all their endpoints. If the server
    /// demands another nonce, the request is sent a second time at once, with a fresh proof and freshly obtained credentials.
    #[cfg(feature = "dpop")]
    #[cfg_attr(docsrs, doc(cfg(feature = "dpop")))]
    #[must_use]
    pub fn dpop(mut self, key: DpopKey) -> Self {
        self.core.dpop = Some(key);
        self
    }

    /// Returns the URI of the revocation endpoint. `None` if it comes from the metadata of the issuer, or is invalid.
    ///
    /// A request can [name another one](RevocationRequest::revocation_endpoint).
    #[must_use]
    pub fn uri(&self) -> Option<&Uri> {
        self.core.uri()
    }

    /// Returns the client that sends the requests. A request can [name another one](RevocationRequest::client_authentication).
    #[must_use]
    pub fn client(&self) -> &ClientAuthentication {
        &self.core.client
    }

    /// Returns the HTTP service.
    #[must_use]
    pub fn get_ref(&self) -> &S {
        &self.core.inner
    }

    /// Returns the HTTP service, to change it.
    ///
    /// A change applies to this endpoint, and to the clones that are made of it afterwards. Other clones keep their services, although
    /// they share the metadata of the issuer: the endpoint whose request needs the metadata first fetches them through its own service.
    #[must_use]
    pub fn get_mut(&mut self) -> &mut S {
        &mut self.core.inner
    }

    /// Returns the HTTP service and drops the rest.
    #[must_use]
    pub fn into_inner(self) -> S {
        self.core.inner
    }
}

/// By hand, since a body type (axum's, hyper's) need not be `Clone`.
impl<S: Clone, B> Clone for RevocationEndpoint<S, B> {
    fn clone(&self) -> Self {
        Self {
            core: self.core.clone(),
        }
    }
}

impl<S, B> Service<RevocationRequest> for RevocationEndpoint<S, B>
where
    S: HttpService<B>,
    B: 'static,
{
    type Response = ();
    type Error = TokenError;
    type Future = ResponseFuture<S, B>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.core.poll_ready::<RevocationCall>(cx)
    }

    fn call(&mut self, request: RevocationRequest) -> Self::Future {
        let inner = self.core.call(RevocationCall, request.into_form());
        ResponseFuture { inner }
    }
}

response_future! {
    /// The future of [`RevocationEndpoint`].
    RevocationCall => ()
}

impl<S, B> fmt::Debug for RevocationEndpoint<S, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.core.fmt("RevocationEndpoint", f)
    }
}
