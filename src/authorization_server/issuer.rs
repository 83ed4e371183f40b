//! `Issuer`: an authorization server that is known by its issuer, and its metadata.

use std::{fmt, future::Future, sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::Full;

use super::{
    endpoint::EndpointCore, http_service::HttpService, metadata::ServerMetadata,
    token_endpoint::service::TokenEndpoint,
};
use crate::{
    base::{clock::Clock, uri::PrintableText},
    client_authentication::ClientAuthentication,
    error::TokenError,
};

/// An authorization server that is known by its issuer. It fetches and keeps the [`ServerMetadata`].
///
/// Use it where the metadata comes before the client: to find an authorization endpoint, or to choose how a client authenticates. If you
/// only need tokens, [`TokenEndpoint::discover`] is enough. Both look at the same addresses, under the same rules.
///
/// The metadata is fetched through `S` by the first call of [`metadata`](Self::metadata), once for all clones and for all endpoints that
/// are made here. It is used for an hour, and then renewed in the background.
///
/// # Security
///
/// The metadata must name this issuer. The issuer and the endpoints must be `https`, or on this machine, unless
/// [`danger_allow_http`](Self::danger_allow_http) is set. If the issuer comes from somebody else, as from the metadata of an API, set
/// [`public_addresses_only`](Self::public_addresses_only).
///
/// # Examples
///
/// ```
/// use tower_oauth2_client::{ClientAuthentication, HttpsClient, Issuer, TokenEndpoint, TokenError};
///
/// async fn endpoint(http: HttpsClient) -> Result<TokenEndpoint<HttpsClient>, TokenError> {
///     let issuer = Issuer::new(http, "https://as.example/tenant");
///     let metadata = issuer.metadata().await?;
///     let client = metadata.choose_client([
///         ClientAuthentication::client_secret_basic("client", "secret"),
///         ClientAuthentication::client_secret_post("client", "secret"),
///     ]);
///     Ok(issuer.token_endpoint(client.unwrap_or(ClientAuthentication::none("client"))))
/// }
/// ```
pub struct Issuer<S, B = Full<Bytes>> {
    core: EndpointCore<S, B>,
}

impl<S> Issuer<S> {
    /// Creates a handle for `issuer`, whose metadata is fetched through `http`.
    ///
    /// It takes the issuer as a `&str`, a `String`, a `Uri`, a `Url`, or anything else that prints it. It never fails: an invalid issuer
    /// is reported when the metadata is needed.
    ///
    /// If `http` takes another body than `Full<Bytes>`, call [`request_body`](Self::request_body).
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_oauth2_client::{HttpsClient, Issuer, TokenError};
    ///
    /// async fn supports_pkce(http: HttpsClient) -> Result<bool, TokenError> {
    ///     let metadata = Issuer::new(http, "https://as.example").metadata().await?;
    ///     let methods = metadata.code_challenge_methods_supported().unwrap_or_default();
    ///     Ok(methods.iter().any(|method| method == "S256"))
    /// }
    /// ```
    pub fn new(http: S, issuer: impl fmt::Display) -> Self {
        let client = ClientAuthentication::anonymous();
        Self {
            core: EndpointCore::discover(http, issuer, client, Full::new),
        }
    }
}

impl<S, B> Issuer<S, B> {
    /// Sets the function that makes the request body of `S` from its bytes. Default is `Full::new`.
    ///
    /// See [`TokenEndpoint::request_body`].
    pub fn request_body<C>(self, request_body: fn(Bytes) -> C) -> Issuer<S, C> {
        Issuer {
            core: self.core.request_body(request_body),
        }
    }

    /// Sets how many bytes the body of a response may have; more is an error. Default is 1 MiB.
    #[must_use]
    pub fn max_response_body(mut self, bytes: usize) -> Self {
        self.core.max_response_body = bytes;
        self
    }

    /// Allows plain `http` for the issuer and its endpoints, also on other machines. Default is that it is refused.
    ///
    /// # Security
    ///
    /// Secrets and tokens cross the network unencrypted, unless something below `S` protects the connection.
    #[must_use]
    pub fn danger_allow_http(mut self) -> Self {
        self.core.allow_http = true;
        self
    }

    /// Refuses the issuer and each of its endpoints on this machine or in a private network. Default is that they are allowed.
    ///
    /// Set it if you did not choose the issuer yourself: otherwise whoever did could make this client send requests to machines that
    /// only this client can reach. Refused are addresses that are not public, in every spelling, and names such as `localhost`,
    /// `as.internal` and names without a dot. An endpoint that is refused is not in the [`ServerMetadata`].
    ///
    /// Call this setter before you clone the handle: what was cloned before keeps its rules and its metadata.
    ///
    /// # Security
    ///
    /// Nothing is resolved. A public name can still have a private address, which only the HTTP client can refuse.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_oauth2_client::{HttpsClient, Issuer, ProtectedResource};
    ///
    /// fn first_issuer(http: HttpsClient, resource: &ProtectedResource) -> Option<Issuer<HttpsClient>> {
    ///     let issuer = resource.authorization_servers().first()?;
    ///     Some(Issuer::new(http, issuer).public_addresses_only())
    /// }
    /// ```
    #[must_use]
    pub fn public_addresses_only(mut self) -> Self {
        self.core
            .set_discovery(|discovery| discovery.set_public_only());
        self
    }

    /// Sets where the metadata document is. Default is the well-known URIs of the issuer.
    ///
    /// See [`TokenEndpoint::metadata_uri`].
    #[must_use]
    pub fn metadata_uri(mut self, uri: impl fmt::Display) -> Self {
        self.core
            .set_discovery(|discovery| discovery.set_metadata_uri(uri));
        self
    }

    /// Sets how long the metadata is used before it is renewed. Default is one hour.
    ///
    /// See [`TokenEndpoint::metadata_lifetime`].
    #[must_use]
    pub fn metadata_lifetime(mut self, lifetime: Duration) -> Self {
        self.core
            .set_discovery(|discovery| discovery.lifetime = lifetime);
        self
    }

    /// Sets the clock that measures the lifetime of the metadata. Default is [`Clock::default`].
    #[must_use]
    pub fn metadata_clock(mut self, clock: impl Into<Clock>) -> Self {
        self.core
            .set_discovery(|discovery| discovery.clock = clock.into());
        self
    }

    /// Returns the issuer as it was given to [`new`](Issuer::new).
    ///
    /// [`ServerMetadata::issuer`] is the issuer as its server writes it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.core.issuer().unwrap_or_default()
    }

    /// Returns the metadata of the authorization server.
    ///
    /// It is fetched only if there is none yet or if its lifetime has ended. Metadata without a `token_endpoint` is returned if there is
    /// no other.
    ///
    /// # Errors
    ///
    /// [`TokenErrorKind::Request`](crate::TokenErrorKind::Request) if the issuer is invalid or must not be used. Otherwise why the
    /// metadata could not be fetched, or why they are not those of this issuer.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future changes nothing for others that wait for the metadata.
    ///
    /// # Examples
    ///
    /// See [`Issuer`].
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
                None => Err(TokenError::request("there is no issuer")),
            }
        }
    }
}

/// # Endpoints
impl<S: Clone, B> Issuer<S, B> {
    /// Creates a service for the token endpoint of the issuer, which `client` calls.
    ///
    /// It shares the metadata with this handle. [`TokenEndpoint::revocation`] returns the revocation endpoint.
    ///
    /// # Examples
    ///
    /// See [`Issuer`].
    pub fn token_endpoint(&self, client: ClientAuthentication) -> TokenEndpoint<S, B> {
        TokenEndpoint::over(self.core.for_client(client))
    }
}

/// By hand, since a body type (axum's, hyper's) need not be `Clone`.
impl<S: Clone, B> Clone for Issuer<S, B> {
    fn clone(&self) -> Self {
        Self {
            core: self.core.clone(),
        }
    }
}

impl<S, B> fmt::Debug for Issuer<S, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Issuer")
            .field(&PrintableText(self.as_str()))
            .finish()
    }
}
