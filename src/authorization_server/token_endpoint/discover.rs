//! `TokenEndpoint::discover`: the token endpoint of an issuer, by the metadata of its authorization server.

use std::{fmt, future::Future, sync::Arc, time::Duration};

use http_body_util::Full;

use super::service::TokenEndpoint;
use crate::{
    authorization_server::{
        endpoint::EndpointCore, http_service::HttpService, metadata::ServerMetadata,
    },
    base::clock::Clock,
    client_authentication::ClientAuthentication,
    error::TokenError,
};

/// # Discovery by the issuer
impl<S> TokenEndpoint<S> {
    /// Creates a service for the token endpoint of `issuer`, which `client` calls through `inner`.
    ///
    /// The URI of the token endpoint comes from the metadata of the authorization server. The first token request fetches them through
    /// a clone of `inner`: once for all clones of this endpoint, even if many token requests wait. They are used for an hour (see
    /// [`metadata_lifetime`](Self::metadata_lifetime)), then renewed in the background. While that fails, the old metadata is used.
    ///
    /// A server can have its metadata at one of several addresses: that of [RFC 8414](https://www.rfc-editor.org/rfc/rfc8414#section-3),
    /// that of [OpenID Connect Discovery 1.0](https://openid.net/specs/openid-connect-discovery-1_0.html), and for an issuer with a path,
    /// that of OpenID Connect in front of the path. They are asked in this order, one after the other:
    ///
    /// 1. If one fails in whatever way, has a wrong document, or one without a good `token_endpoint`, the next is asked. If one does not
    ///    answer within three seconds, the next is asked too.
    /// 2. All of them together may take 30 seconds. If none has good metadata and one failed transiently, that failure is the error.
    /// 3. The metadata is renewed at the address where it was found. Other addresses are asked again only if that has failed for a day.
    ///
    /// A server that has its metadata at none of these addresses needs [`metadata_uri`](Self::metadata_uri).
    ///
    /// The metadata also decides:
    ///
    /// * which client authentication methods the server supports, and which algorithms of client assertions and DPoP proofs. A request
    ///   with another one fails before it is sent, unless [`allow_unlisted_methods`](Self::allow_unlisted_methods) is set. A public client
    ///   ([`none`](ClientAuthentication::none)) is not checked, since servers that support it do not list it;
    /// * the audience of a client assertion, which is the issuer as the metadata writes it;
    /// * where a client sends its requests that authenticates by [TLS](ClientAuthentication::tls_client_auth), if that is another URI
    ///   ([RFC 8705 §5](https://www.rfc-editor.org/rfc/rfc8705#section-5)).
    ///
    /// A request that [names its token endpoint](crate::TokenRequest::token_endpoint) does not use the metadata.
    ///
    /// It takes the issuer as a `&str`, a `String`, a `Uri`, a `Url`, or anything else that prints it. An empty path equals a slash:
    /// `https://as.example` and `https://as.example/` are the same issuer. Apart from that, write the issuer exactly as the server does: a
    /// slash at the end of a path makes it another issuer. It never fails: an invalid issuer is reported by the first request, before
    /// anything is sent.
    ///
    /// If `inner` takes another body than `Full<Bytes>`, call [`request_body`](Self::request_body).
    ///
    /// # Errors
    ///
    /// The service returns the errors of a token request. If fetching the metadata failed, the token request was not sent:
    /// [`TokenError::may_have_been_processed`] is `false`. All requests that waited share the error, and the next request fetches again.
    ///
    /// # Security
    ///
    /// The metadata must name this issuer ([RFC 8414 §3.3](https://www.rfc-editor.org/rfc/rfc8414#section-3.3)). The issuer and
    /// the URIs in the metadata must be `https`, or on this machine, unless [`danger_allow_http`](Self::danger_allow_http) is set.
    /// Redirects are not followed, and a document above [`max_response_body`](Self::max_response_body) is an error.
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
    pub fn discover(inner: S, issuer: impl fmt::Display, client: ClientAuthentication) -> Self {
        Self::over(EndpointCore::discover(inner, issuer, client, Full::new))
    }
}

/// # Discovery by the issuer
impl<S, B> TokenEndpoint<S, B> {
    /// Sets where the metadata document is. Default is the well-known URIs of the issuer.
    ///
    /// Some servers have their document elsewhere:
    ///
    /// * Keycloak inside a cluster. Its issuer is the public URL, and its document names internal endpoints only if it is requested
    ///   under the internal URL (`hostname-backchannel-dynamic`).
    /// * Azure AD B2C. The issuer contains the ID of the tenant, the URI of the document its name and a policy, also in the query.
    ///
    /// The URI is absolute, and may have a query. It is the only address that is asked. The document must still name the issuer that was
    /// given to [`discover`](TokenEndpoint::discover): that issuer is the audience of client assertions.
    ///
    /// Call this setter before you clone the endpoint: what was cloned before keeps its address and its metadata. It has no effect on an
    /// endpoint that was not created by [`discover`](TokenEndpoint::discover). An invalid URI is reported by the first request.
    ///
    /// # Security
    ///
    /// Whoever controls this URI decides where the client sends its secrets. The issuer in the document proves nothing then: anyone can
    /// write it. The URI must be `https` or on this machine, and so must the endpoints in the document. Endpoints may have any host. Plain
    /// `http` on this machine is accepted only in a document that comes from this machine.
    ///
    /// An internal URL is often plain `http`, which needs [`danger_allow_http`](Self::danger_allow_http). Then whoever can answer for
    /// that name in the network obtains the secrets, even if the issuer is `https`.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_oauth2_client::{ClientAuthentication, HttpsClient, TokenEndpoint};
    ///
    /// fn endpoint(http: HttpsClient, client: ClientAuthentication) -> TokenEndpoint<HttpsClient> {
    ///     TokenEndpoint::discover(http, "https://sso.example/realms/shop", client)
    ///         .metadata_uri(
    ///             "http://keycloak.auth.svc:8080/realms/shop/.well-known/openid-configuration",
    ///         )
    ///         // The mesh encrypts the connection.
    ///         .danger_allow_http()
    /// }
    /// ```
    #[must_use]
    pub fn metadata_uri(mut self, uri: impl fmt::Display) -> Self {
        self.core
            .set_discovery(|discovery| discovery.set_metadata_uri(uri));
        self
    }

    /// Sends requests although the metadata does not list the client authentication method or the algorithm. Default is that such a
    /// request fails before it is sent.
    ///
    /// It is for servers whose metadata is wrong. An example is a server that accepts `client_secret_post` for old clients and lists only
    /// `private_key_jwt`, or a gateway in front of the server that adds a method. The setting skips the lists of methods, of the
    /// algorithms of client assertions, and of the algorithms of DPoP proofs. Everything else in the metadata is still checked.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_oauth2_client::{ClientAuthentication, HttpsClient, TokenEndpoint};
    ///
    /// fn endpoint(http: HttpsClient) -> TokenEndpoint<HttpsClient> {
    ///     let client = ClientAuthentication::client_secret_post("client", "secret");
    ///     TokenEndpoint::discover(http, "https://as.example", client).allow_unlisted_methods()
    /// }
    /// ```
    #[must_use]
    pub fn allow_unlisted_methods(mut self) -> Self {
        self.core
            .set_discovery(|discovery| discovery.allow_unlisted = true);
        self
    }

    /// Sets how long the metadata of the issuer is used before it is renewed. Default is one hour.
    ///
    /// It has no effect on an endpoint that was not created by [`discover`](TokenEndpoint::discover). The metadata is renewed at most
    /// once in 30 seconds, and only when there is a token request. The server's `Cache-Control` is ignored.
    #[must_use]
    pub fn metadata_lifetime(mut self, lifetime: Duration) -> Self {
        self.core
            .set_discovery(|discovery| discovery.lifetime = lifetime);
        self
    }

    /// Asks for tokens that are bound to the certificate of the TLS connection
    /// ([RFC 8705 §3](https://www.rfc-editor.org/rfc/rfc8705#section-3)), although the client authenticates in another way.
    ///
    /// Requests are sent to the URI that the server has for TLS clients ([§5](https://www.rfc-editor.org/rfc/rfc8705#section-5)), if it
    /// has one. Default is that only clients that authenticate [by TLS](ClientAuthentication::tls_client_auth) use that URI; their
    /// tokens may be bound in the same way. It has no effect on an endpoint that was not created by
    /// [`discover`](TokenEndpoint::discover).
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_oauth2_client::{ClientAuthentication, HttpsClient, TokenEndpoint};
    ///
    /// // `http` presents a client certificate.
    /// fn endpoint(http: HttpsClient, client: ClientAuthentication) -> TokenEndpoint<HttpsClient> {
    ///     TokenEndpoint::discover(http, "https://as.example", client).certificate_bound_tokens()
    /// }
    /// ```
    #[must_use]
    pub fn certificate_bound_tokens(mut self) -> Self {
        self.core
            .set_discovery(|discovery| discovery.by_alias = true);
        self
    }

    /// Sets the clock that measures the lifetime of the metadata. Default is [`Clock::default`].
    #[must_use]
    pub fn metadata_clock(mut self, clock: impl Into<Clock>) -> Self {
        self.core
            .set_discovery(|discovery| discovery.clock = clock.into());
        self
    }

    /// Returns the issuer as it was given to [`discover`](TokenEndpoint::discover). `None` if this endpoint was created by
    /// [`new`](TokenEndpoint::new).
    ///
    /// [`ServerMetadata::issuer`] is the issuer as its server writes it.
    #[must_use]
    pub fn issuer(&self) -> Option<&str> {
        self.core.issuer()
    }

    /// Returns the metadata of the authorization server, for example to find its other endpoints.
    ///
    /// Token requests use the same metadata. It is fetched only if there is none yet or if its lifetime has ended.
    ///
    /// # Errors
    ///
    /// The same errors as for a token request that needs the metadata. But metadata without a `token_endpoint` is returned if there is no
    /// other. [`TokenErrorKind::Request`](crate::TokenErrorKind::Request) if
    /// this endpoint was created by [`new`](TokenEndpoint::new).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future changes nothing for others that wait for the metadata.
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
    ) -> impl Future<Output = Result<Arc<ServerMetadata>, TokenError>> + Send + use<S, B>
    where
        S: HttpService<B>,
        B: 'static,
    {
        let metadata = self.core.metadata();
        async move {
            match metadata {
                Some(metadata) => metadata.await,
                None => Err(TokenError::request(
                    "there is no metadata without an issuer; create the endpoint with `TokenEndpoint::discover`",
                )),
            }
        }
    }
}
