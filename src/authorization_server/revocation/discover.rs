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
    /// [`TokenEndpoint::discover`]. If you have a discovered token endpoint, use [`TokenEndpoint::revocation`] instead, which shares its
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

    /// Returns the issuer, if this endpoint was created by its issuer.
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
