//! `BackchannelAuthenticationEndpoint`: the service that asks a user on a device of their own.

use super::call::BackchannelAuthenticationCall;
use crate::{
    authorization_server::endpoint::endpoint_service, message::BackchannelAuthenticationResponse,
};

endpoint_service! {
    /// A [`Service`](https://docs.rs/tower-service/0.3/tower_service/trait.Service.html) that asks a user to approve something on a device of
    /// their own, for example a payment on their telephone
    /// ([OpenID Connect CIBA](https://openid.net/specs/openid-client-initiated-backchannel-authentication-core-1_0.html), poll mode).
    ///
    /// It sends a [`BackchannelAuthenticationRequest`](crate::BackchannelAuthenticationRequest) and returns a
    /// [`BackchannelAuthenticationResponse`], with which the client waits for the decision of the user. The modes ping and push, in which the
    /// server calls the client, are not supported; in the ping mode, polling works too.
    ///
    /// It sends HTTP requests through the service `S` in the same way as [`TokenEndpoint`](crate::TokenEndpoint) does: the same client
    /// authentication, checks, limits and security rules.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the HTTP request. The server may have asked the user already.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower::ServiceExt;
    /// use tower_oauth2_client::{
    ///     BackchannelAuthenticationRequest, BoxError, ClientAuthentication, TokenCache, TokenEndpoint,
    ///     test_util::AuthorizationServer,
    /// };
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), BoxError> {
    /// let server = AuthorizationServer::new();
    /// let client = ClientAuthentication::client_secret_basic("client", "secret");
    /// let endpoint = TokenEndpoint::discover(server.clone(), server.issuer(), client);
    ///
    /// let request = BackchannelAuthenticationRequest::login_hint("alice")
    ///     .scope("openid")
    ///     .binding_message("W4SCT");
    /// let asked = endpoint.backchannel_authentication().oneshot(request).await?;
    /// server.approve_auth_request(asked.auth_req_id().expose_secret()); // the user, on a telephone
    ///
    /// let source = TokenCache::new(endpoint).source(asked.token_request());
    /// source.wait_for_user().await?;
    /// assert!(server.is_active(source.token().await?.expose_secret()));
    /// # Ok(())
    /// # }
    /// ```
    pub struct BackchannelAuthenticationEndpoint;

    endpoint = "backchannel authentication endpoint" at "https://as.example/bc-authorize";

    call = BackchannelAuthenticationCall => BackchannelAuthenticationCall;
    request = BackchannelAuthenticationRequest;
    response = BackchannelAuthenticationResponse;

    /// Creates a service for the backchannel authentication endpoint of the same issuer, with the same HTTP service, client and settings.
    ///
    /// Both share the metadata, so that they are fetched once.
    ///
    /// It never fails. If this endpoint was created by [`new`](crate::TokenEndpoint::new), its issuer is not known: every request fails that does
    /// not [name its endpoint](crate::BackchannelAuthenticationRequest::backchannel_authentication_endpoint). Use
    /// [`BackchannelAuthenticationEndpoint::new`] then.
    ///
    /// # Examples
    ///
    /// See [`BackchannelAuthenticationEndpoint`].
    TokenEndpoint::backchannel_authentication
}
