//! `DeviceAuthorizationEndpoint`: the service that begins a device login.

use super::call::DeviceAuthorizationCall;
use crate::{
    authorization_server::endpoint::endpoint_service, message::DeviceAuthorizationResponse,
};

endpoint_service! {
    /// A [`Service`](https://docs.rs/tower-service/0.3/tower_service/trait.Service.html) that begins the login of a user on a device without a
    /// browser, such as a command-line program ([RFC 8628](https://www.rfc-editor.org/rfc/rfc8628)).
    ///
    /// It sends a [`DeviceAuthorizationRequest`](crate::DeviceAuthorizationRequest) and returns a [`DeviceAuthorizationResponse`]: a code
    /// that the user enters in a browser elsewhere, and what the device needs to wait for it.
    ///
    /// It sends HTTP requests through the service `S` in the same way as [`TokenEndpoint`](crate::TokenEndpoint) does: the same client
    /// authentication, checks, limits and security rules.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the HTTP request. Codes that the server has issued expire unused.
    ///
    /// # Examples
    ///
    /// With a cache, the user stays signed in by the refresh token:
    ///
    /// ```
    /// use tower::ServiceExt;
    /// use tower_oauth2_client::{
    ///     BoxError, ClientAuthentication, DeviceAuthorizationRequest, HttpsClient, TokenCache,
    ///     TokenEndpoint,
    /// };
    ///
    /// async fn sign_in(http: HttpsClient) -> Result<(), BoxError> {
    ///     let client = ClientAuthentication::none("my-cli");
    ///     let endpoint = TokenEndpoint::discover(http, "https://as.example", client);
    ///     let request = DeviceAuthorizationRequest::new().scope("openid offline_access");
    ///     let device = endpoint.device_authorization().oneshot(request).await?;
    ///     println!("open {} and enter {}", device.verification_uri(), device.user_code());
    ///
    ///     let source = TokenCache::new(endpoint).source(device.token_request());
    ///     source.wait_for_user().await?;
    ///     println!("{:?}", source.token().await?);
    ///     Ok(())
    /// }
    /// ```
    ///
    /// Without a cache:
    ///
    /// ```
    /// use tower::ServiceExt;
    /// use tower_oauth2_client::{
    ///     BoxError, ClientAuthentication, DeviceAuthorizationEndpoint, DeviceAuthorizationRequest,
    ///     TokenEndpoint, test_util::AuthorizationServer,
    /// };
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), BoxError> {
    /// let server = AuthorizationServer::new();
    /// let client = ClientAuthentication::client_secret_basic("client", "secret");
    /// let uri = server.uri("/device_authorization");
    /// let device = DeviceAuthorizationEndpoint::new(server.clone(), uri, client.clone())
    ///     .oneshot(DeviceAuthorizationRequest::new())
    ///     .await?;
    /// server.approve_device(device.user_code()); // the user, in a browser elsewhere
    ///
    /// let endpoint = TokenEndpoint::new(server.clone(), server.token_endpoint(), client);
    /// let response = device.wait_for_user(endpoint).await?;
    /// assert!(server.is_active(response.access_token().expose_secret()));
    /// # Ok(())
    /// # }
    /// ```
    pub struct DeviceAuthorizationEndpoint;

    endpoint = "device authorization endpoint" at "https://as.example/device";

    call = DeviceAuthorizationCall => DeviceAuthorizationCall;
    request = DeviceAuthorizationRequest;
    response = DeviceAuthorizationResponse;

    /// Creates a service for the device authorization endpoint of the same issuer, with the same HTTP service, client and settings.
    ///
    /// Both share the metadata, so that they are fetched once.
    ///
    /// It never fails. If this endpoint was created by [`new`](crate::TokenEndpoint::new), its issuer is not known: every request fails that
    /// does not [name its device authorization endpoint](crate::DeviceAuthorizationRequest::device_authorization_endpoint). Use
    /// [`DeviceAuthorizationEndpoint::new`] then.
    ///
    /// # Examples
    ///
    /// See [`DeviceAuthorizationEndpoint`].
    TokenEndpoint::device_authorization
}
