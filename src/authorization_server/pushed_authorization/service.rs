//! `PushedAuthorizationEndpoint`: the service that pushes authorization requests.

use super::call::PushedAuthorizationCall;
use crate::authorization_server::endpoint::endpoint_service;

endpoint_service! {
    /// A [`Service`](https://docs.rs/tower-service/0.3/tower_service/trait.Service.html) that sends a [`PushedAuthorizationRequest`](crate::PushedAuthorizationRequest) to the
    /// server before the user goes there ([RFC 9126](https://www.rfc-editor.org/rfc/rfc9126)).
    ///
    /// [`TokenEndpoint::begin_authorization`](crate::TokenEndpoint::begin_authorization) uses it by itself. Use it directly if the metadata
    /// of the server is not known, or to put layers around it.
    ///
    /// It sends HTTP requests through the service `S` in the same way as [`TokenEndpoint`](crate::TokenEndpoint) does: the same client
    /// authentication, checks, limits and security rules. With a DPoP key, the code is bound to the key
    /// ([RFC 9449 §10.1](https://www.rfc-editor.org/rfc/rfc9449#section-10.1)).
    ///
    /// A request that failed [transiently](crate::TokenError::is_transient) can be sent again: a pushed request that nobody uses expires.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the HTTP request.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower::ServiceExt;
    /// use tower_oauth2_client::{
    ///     BoxError, ClientAuthentication, HttpsClient, PushedAuthorizationEndpoint,
    ///     authorization_code::{AuthorizationEndpoint, AuthorizationRequest, PendingAuthorization},
    /// };
    ///
    /// # async fn example(http: HttpsClient) -> Result<(String, PendingAuthorization), BoxError> {
    /// let client = ClientAuthentication::client_secret_basic("client", "secret");
    /// let push = PushedAuthorizationEndpoint::new(http, "https://as.example/par", client);
    /// let authorization = AuthorizationEndpoint::new("https://as.example/authorize")
    ///     .issuer("https://as.example");
    ///
    /// let request = AuthorizationRequest::new("https://app.example/callback").scope("orders");
    /// let (request, pending) = authorization.begin_pushed(request, "client")?;
    /// let pushed = push.oneshot(request).await?;
    /// let url = authorization.pushed_url(&pushed, "client")?;
    /// # Ok((url, pending))
    /// # }
    /// ```
    pub struct PushedAuthorizationEndpoint;

    endpoint = "pushed authorization request endpoint" at "https://as.example/par";

    call = PushedAuthorizationCall => PushedAuthorizationCall;
    request = PushedAuthorizationRequest;
    response = crate::PushedAuthorizationResponse;

    /// Creates a service for the pushed authorization request endpoint of the same issuer, with the same HTTP service, client and
    /// settings.
    ///
    /// Both share the metadata, so that they are fetched once.
    ///
    /// It never fails. If this endpoint was created by [`new`](crate::TokenEndpoint::new), its issuer is not known: every request fails that
    /// does not name its endpoint. Use [`PushedAuthorizationEndpoint::new`](crate::PushedAuthorizationEndpoint::new) then.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_oauth2_client::{
    ///     ClientAuthentication, HttpsClient, PushedAuthorizationEndpoint, TokenEndpoint,
    /// };
    ///
    /// # fn example(http: HttpsClient) -> PushedAuthorizationEndpoint<HttpsClient> {
    /// let client = ClientAuthentication::client_secret_basic("client", "secret");
    /// TokenEndpoint::discover(http, "https://as.example", client).pushed_authorization()
    /// # }
    /// ```
    #[cfg_attr(docsrs, doc(cfg(feature = "authorization-code")))]
    TokenEndpoint::pushed_authorization
}
