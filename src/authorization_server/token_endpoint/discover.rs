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
    /// The URI of the token endpoint comes from the metadata of the authorization server
    /// ([RFC 8414](https://www.rfc-editor.org/rfc/rfc8414), or
    /// [OpenID Connect Discovery 1.0](https://openid.net/specs/openid-connect-discovery-1_0.html) if it has none). The first token
    /// request fetches them through a clone of `inner`: once for all clones of this endpoint, even if many token requests wait. They are
    /// used for an hour (see [`metadata_lifetime`](Self::metadata_lifetime)), then renewed in the background. While that fails, the old
    /// metadata is used. The metadata also decides:
    ///
    /// * which client authentication methods the server supports, and which algorithms of client assertions and DPoP proofs. A request
    ///   with another one fails before it is sent. A public client ([`none`](ClientAuthentication::none)) is not checked, since servers
    ///   that support it do not list it;
    /// * the audience of a client assertion, which is the issuer;
    /// * where a client sends its requests that authenticates by [TLS](ClientAuthentication::tls_client_auth), if that is another URI
    ///   ([RFC 8705 §5](https://www.rfc-editor.org/rfc/rfc8705#section-5)).
    ///
    /// A request that [names its token endpoint](crate::TokenRequest::token_endpoint) does not use the metadata.
    ///
    /// It takes the issuer as a `&str`, a `String`, a `Uri`, a `Url`, or anything else that prints it. Write it exactly as the server
    /// does: a slash at the end makes it another issuer. A `Uri` and a `Url` always print a slash if there is no path, so pass the text of
    /// an issuer such as `https://as.example`. It never fails: an invalid issuer is reported by the first request, before anything is sent.
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
    /// The metadata must name exactly this issuer ([RFC 8414 §3.3](https://www.rfc-editor.org/rfc/rfc8414#section-3.3)). The issuer and
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
    /// Sets how long the metadata of the issuer is used before it is renewed. Default is one hour.
    ///
    /// It has no effect on an endpoint that was not created by [`discover`](TokenEndpoint::discover). The metadata is renewed at most
    /// once in 30 seconds, and only when there is a token request. The server's `Cache-Control` is ignored.
    #[must_use]
    pub fn metadata_lifetime(mut self, lifetime: Duration) -> Self {
        if let Some(discovery) = self.core.discovery_mut() {
            discovery.lifetime = lifetime;
        }
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
        if let Some(discovery) = self.core.discovery_mut() {
            discovery.by_alias = true;
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

    /// Returns the issuer, if this endpoint was created by [`discover`](TokenEndpoint::discover).
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
    /// The same errors as for a token request that needs the metadata. [`TokenErrorKind::Request`](crate::TokenErrorKind::Request) if
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
