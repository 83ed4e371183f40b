//! `TokenEndpoint` by its issuer: what the authorization server says of itself decides where requests go.

use std::{future::Future, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use http_body_util::Full;
use tower_service::Service;

use super::{place::Place, service::TokenEndpoint};
use crate::{
    authorization_server::metadata::{Discovery, Http, ServerMetadata},
    base::clock::Clock,
    client_authentication::ClientAuthentication,
    error::{BoxError, TokenError},
};

/// # By the issuer
impl<S> TokenEndpoint<S> {
    /// Speaks to the token endpoint of `issuer` through `inner`, as `client`.
    ///
    /// Where the token endpoint is, the authorization server says in its metadata
    /// ([RFC 8414](https://www.rfc-editor.org/rfc/rfc8414), or
    /// [OpenID Connect Discovery 1.0](https://openid.net/specs/openid-connect-discovery-1_0.html) where it has none). They are
    /// asked for through a clone of `inner` by the first token request, once for all clones of this endpoint, however many token
    /// requests wait for them; they are used for an hour (see [`metadata_lifetime`](Self::metadata_lifetime)), then renewed in
    /// the background, and used further while that fails. They also say:
    ///
    /// * which methods of client authentication the server supports, and which algorithms of client assertions and DPoP proofs:
    ///   another one is refused before anything is sent. A public client ([`none`](ClientAuthentication::none)) is not checked,
    ///   since servers that serve it do not list it;
    /// * that the audience of a client assertion is the issuer;
    /// * where a client goes that proves itself by [TLS](ClientAuthentication::tls_client_auth), if that is another place
    ///   ([RFC 8705 §5](https://www.rfc-editor.org/rfc/rfc8705#section-5)).
    ///
    /// A request that [names its token endpoint](crate::TokenRequest::token_endpoint) asks for nothing.
    ///
    /// It never fails: a bad issuer is said by the first request. Give the issuer exactly as the server writes it: a slash at the
    /// end makes another one.
    ///
    /// # Errors
    ///
    /// Those of a token request, which was not sent if the metadata could not be obtained:
    /// [`TokenError::may_have_been_processed`] is `false`. All who waited share the error, and the next request asks again.
    ///
    /// # Security
    ///
    /// The metadata must name this very issuer ([RFC 8414 §3.3](https://www.rfc-editor.org/rfc/rfc8414#section-3.3)). The issuer
    /// and what they name must be `https`, or on this machine, unless [`danger_allow_http`](Self::danger_allow_http). Redirects are
    /// not followed, and a document above [`max_response_body`](Self::max_response_body) is an error.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_oauth2_client::{ClientAuthentication, HttpsClient, TokenEndpoint};
    ///
    /// # fn example(http: HttpsClient) -> TokenEndpoint<HttpsClient> {
    /// TokenEndpoint::discover(
    ///     http,
    ///     "https://as.example/tenant",
    ///     ClientAuthentication::client_secret_basic("client", "secret"),
    /// )
    /// # }
    /// ```
    pub fn discover<ResBody>(
        inner: S,
        issuer: impl Into<String>,
        client: ClientAuthentication,
    ) -> Self
    where
        S: Service<Request<Full<Bytes>>, Response = Response<ResBody>> + Clone + Send + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send,
        ResBody: Body + Send + 'static,
        ResBody::Data: Send,
        ResBody::Error: Into<BoxError>,
    {
        Self::discover_with_body(inner, issuer, client, Full::new)
    }
}

/// # By the issuer
impl<S, B> TokenEndpoint<S, B> {
    /// As [`discover`](TokenEndpoint::discover), for a service that takes another request body, which `request_body` makes.
    ///
    /// # Examples
    ///
    /// ```
    /// use axum::{Router, body::Body};
    /// use tower_oauth2_client::{ClientAuthentication, TokenEndpoint};
    ///
    /// let endpoint = TokenEndpoint::discover_with_body(
    ///     Router::<()>::new(),
    ///     "https://as.example",
    ///     ClientAuthentication::none("client"),
    ///     Body::from,
    /// );
    /// ```
    pub fn discover_with_body<ResBody>(
        inner: S,
        issuer: impl Into<String>,
        client: ClientAuthentication,
        request_body: fn(Bytes) -> B,
    ) -> Self
    where
        S: Service<Request<B>, Response = Response<ResBody>> + Clone + Send + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send,
        B: 'static,
        ResBody: Body + Send + 'static,
        ResBody::Data: Send,
        ResBody::Error: Into<BoxError>,
    {
        let http = Http::new(inner.clone(), request_body);
        let place = Place::OfIssuer(Discovery::new(issuer.into(), http));
        Self::at(inner, place, client, request_body)
    }

    /// How long the metadata of the issuer are used before they are renewed, if this endpoint was made by
    /// [`discover`](TokenEndpoint::discover); one that was made otherwise has none to renew. Default is one hour.
    ///
    /// They are renewed at most once in 30 seconds, and only when there is a token request. What the server says by
    /// `Cache-Control` is not looked at.
    #[must_use]
    pub fn metadata_lifetime(mut self, lifetime: Duration) -> Self {
        if let Some(discovery) = self.place.discovery_mut() {
            discovery.lifetime = lifetime;
        }
        self
    }

    /// Asks for tokens that are bound to the certificate of the TLS connection
    /// ([RFC 8705 §3](https://www.rfc-editor.org/rfc/rfc8705#section-3)), though the client proves itself in another way, if this
    /// endpoint was made by [`discover`](TokenEndpoint::discover): requests go where the server wants TLS clients
    /// ([§5](https://www.rfc-editor.org/rfc/rfc8705#section-5)), if that is another place. Default is that only those go there which
    /// prove themselves [by TLS](ClientAuthentication::tls_client_auth), whose tokens may be bound just so.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_oauth2_client::{ClientAuthentication, HttpsClient, TokenEndpoint};
    ///
    /// // `http` shows a client certificate.
    /// fn endpoint(http: HttpsClient, client: ClientAuthentication) -> TokenEndpoint<HttpsClient> {
    ///     TokenEndpoint::discover(http, "https://as.example", client).certificate_bound_tokens()
    /// }
    /// ```
    #[must_use]
    pub fn certificate_bound_tokens(mut self) -> Self {
        if let Some(discovery) = self.place.discovery_mut() {
            discovery.by_alias = true;
        }
        self
    }

    /// What the lifetime of the metadata is told by. Default is [`Clock::system`].
    #[must_use]
    pub fn metadata_clock(mut self, clock: Clock) -> Self {
        if let Some(discovery) = self.place.discovery_mut() {
            discovery.clock = clock;
        }
        self
    }

    /// The issuer, if this endpoint was made by [`discover`](TokenEndpoint::discover).
    #[must_use]
    pub fn issuer(&self) -> Option<&str> {
        self.place
            .discovery()
            .map(|discovery| &**discovery.issuer())
    }

    /// What the authorization server says of itself, if this endpoint was made by [`discover`](TokenEndpoint::discover): for its
    /// other endpoints. They are those that token requests use, and are asked for only if there are none yet, or they are to
    /// be renewed.
    ///
    /// # Errors
    ///
    /// As for a token request that needs them. [`TokenErrorKind::Request`](crate::TokenErrorKind::Request) if this endpoint was
    /// made by [`new`](TokenEndpoint::new).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future changes nothing for others who wait.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_oauth2_client::{BoxError, HttpsClient, TokenEndpoint};
    ///
    /// # async fn example(endpoint: TokenEndpoint<HttpsClient>) -> Result<(), BoxError> {
    /// let metadata = endpoint.metadata().await?;
    /// let authorization_endpoint = metadata.get("authorization_endpoint");
    /// # Ok(())
    /// # }
    /// ```
    pub fn metadata(
        &self,
    ) -> impl Future<Output = Result<Arc<ServerMetadata>, TokenError>> + Send + use<S, B> {
        let discovery = self.place.discovery().cloned();
        let rules = self.rules();
        async move {
            match discovery {
                Some(discovery) => discovery.metadata(rules).await,
                None => Err(TokenError::request(
                    "there are no metadata without an issuer; make the endpoint by `TokenEndpoint::discover`",
                )),
            }
        }
    }
}
