//! The revocation endpoint of an issuer, by the metadata of its authorization server.

use std::{fmt, time::Duration};

use http_body_util::Full;

use super::service::RevocationEndpoint;
use crate::{
    authorization_server::{endpoint::EndpointCore, token_endpoint::service::TokenEndpoint},
    base::clock::Clock,
    client_authentication::ClientAuthentication,
};

/// # Discovery by the issuer
impl<S> RevocationEndpoint<S> {
    /// Creates a service for the revocation endpoint of `issuer`, which `client` calls through `inner`.
    ///
    /// The URI is the `revocation_endpoint` of the authorization server's metadata
    /// ([RFC 8414](https://www.rfc-editor.org/rfc/rfc8414)). The metadata is fetched, shared, renewed and checked in the same way as by
    /// [`TokenEndpoint::discover`], but needs no `token_endpoint`. If you have a discovered token endpoint, use [`TokenEndpoint::revocation`] instead, which shares its
    /// metadata.
    ///
    /// It takes the issuer as a `&str`, a `String`, a `Uri`, a `Url`, or anything else that prints it. It never fails: an invalid issuer,
    /// and metadata without a `revocation_endpoint`, are reported by the first request.
    ///
    /// If `inner` takes another body than `Full<Bytes>`, call [`request_body`](Self::request_body).
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_oauth2_client::{ClientAuthentication, HttpsClient, RevocationEndpoint};
    ///
    /// # fn example(http: HttpsClient) -> RevocationEndpoint<HttpsClient> {
    /// RevocationEndpoint::discover(
    ///     http,
    ///     "https://as.example/tenant",
    ///     ClientAuthentication::client_secret_basic("client", "secret"),
    /// )
    /// # }
    /// ```
    pub fn discover(inner: S, issuer: impl fmt::Display, client: ClientAuthentication) -> Self {
        Self {
            core: EndpointCore::discover(inner, issuer, client, Full::new),
        }
    }
}

/// # Discovery by the issuer
impl<S, B> RevocationEndpoint<S, B> {
    /// Sets where the metadata document is. Default is the well-known URIs of the issuer.
    ///
    /// Some servers have their document elsewhere:
    ///
    /// * Keycloak inside a cluster. Its issuer is the public URL, and its document names internal endpoints only if it is requested
    ///   under the internal URL (`hostname-backchannel-dynamic`).
    /// * Azure AD B2C. The issuer contains the ID of the tenant, the URI of the document its name and a policy, also in the query.
    ///
    /// The URI is absolute, and may have a query. It is the only address that is asked. The document must still name the issuer that was
    /// given to [`discover`](RevocationEndpoint::discover): that issuer is the audience of client assertions.
    ///
    /// Call this setter before you clone the endpoint: what was cloned before keeps its address and its metadata. It has no effect on an
    /// endpoint that was not created by [`discover`](RevocationEndpoint::discover). An invalid URI is reported by the first request.
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
    /// use tower_oauth2_client::{ClientAuthentication, HttpsClient, RevocationEndpoint};
    ///
    /// fn endpoint(http: HttpsClient, client: ClientAuthentication) -> RevocationEndpoint<HttpsClient> {
    ///     RevocationEndpoint::discover(http, "https://sso.example/realms/shop", client)
    ///         .metadata_uri(
    ///             "http://keycloak.auth.svc:8080/realms/shop/.well-known/openid-configuration",
    ///         )
    ///         // The mesh encrypts the connection.
    ///         .danger_allow_http()
    /// }
    /// ```
    #[must_use]
    pub fn metadata_uri(mut self, uri: impl fmt::Display) -> Self {
        if let Some(discovery) = self.core.discovery_mut() {
            discovery.set_metadata_uri(uri);
        }
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
    /// use tower_oauth2_client::{ClientAuthentication, HttpsClient, RevocationEndpoint};
    ///
    /// fn endpoint(http: HttpsClient) -> RevocationEndpoint<HttpsClient> {
    ///     let client = ClientAuthentication::client_secret_post("client", "secret");
    ///     RevocationEndpoint::discover(http, "https://as.example", client).allow_unlisted_methods()
    /// }
    /// ```
    #[must_use]
    pub fn allow_unlisted_methods(mut self) -> Self {
        if let Some(discovery) = self.core.discovery_mut() {
            discovery.allow_unlisted = true;
        }
        self
    }

    /// Sets how long the metadata of the issuer is used before it is renewed. Default is one hour.
    ///
    /// See [`TokenEndpoint::metadata_lifetime`].
    #[must_use]
    pub fn metadata_lifetime(mut self, lifetime: Duration) -> Self {
        if let Some(discovery) = self.core.discovery_mut() {
            discovery.lifetime = lifetime;
        }
        self
    }

    /// Sets the clock that measures the lifetime of the metadata. Default is [`Clock::default`].
    #[must_use]
    pub fn metadata_clock(mut self, clock: impl Into<Clock>) -> Self {
        if let Some(discovery) = self.core.discovery_mut() {
            discovery.clock = clock.into();
        }
        self
    }

    /// Returns the issuer as it was given, if this endpoint was created by its issuer.
    #[must_use]
    pub fn issuer(&self) -> Option<&str> {
        self.core.issuer()
    }
}

/// # Other endpoints of the same authorization server
impl<S: Clone, B> TokenEndpoint<S, B> {
    /// Creates a service for the revocation endpoint of the same issuer, with the same HTTP service, client and settings.
    ///
    /// Both share the metadata, so that they are fetched once.
    ///
    /// It never fails. If this endpoint was created by [`new`](TokenEndpoint::new), its issuer is not known: every request fails that
    /// does not [name its revocation endpoint](crate::RevocationRequest::revocation_endpoint). Use [`RevocationEndpoint::new`] then.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower::ServiceExt;
    /// use tower_oauth2_client::{
    ///     BoxError, ClientAuthentication, HttpsClient, RefreshToken, RevocationRequest,
    ///     TokenEndpoint,
    /// };
    ///
    /// # async fn example(http: HttpsClient, refresh_token: RefreshToken) -> Result<(), BoxError> {
    /// let endpoint = TokenEndpoint::discover(
    ///     http,
    ///     "https://as.example",
    ///     ClientAuthentication::client_secret_basic("client", "secret"),
    /// );
    ///
    /// let revocation = endpoint.revocation();
    /// revocation.oneshot(RevocationRequest::new(&refresh_token)).await?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn revocation(&self) -> RevocationEndpoint<S, B> {
        RevocationEndpoint {
            core: self.core.other_endpoint(),
        }
    }
}
