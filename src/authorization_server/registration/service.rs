//! `RegistrationEndpoint`: the service that registers clients.

use super::call::RegistrationCall;
use crate::{
    authorization_server::endpoint::protected_endpoint_service, message::RegistrationResponse,
};

protected_endpoint_service! {
    /// A [`Service`](https://docs.rs/tower-service/0.3/tower_service/trait.Service.html) that registers a client at a registration endpoint
    /// ([RFC 7591](https://www.rfc-editor.org/rfc/rfc7591)): a [`RegistrationRequest`](crate::RegistrationRequest).
    ///
    /// The request is a JSON document. No client authenticates, because there is none yet; an
    /// [initial access token](crate::RegistrationRequest::initial_access_token) authorizes it, if the server demands one. It is sent through
    /// the service `S` with the checks, limits and security rules of [`TokenEndpoint`](crate::TokenEndpoint).
    ///
    /// 1. It returns a [`RegistrationResponse`] if the server answers with any 2xx status and a client id. Its
    ///    [`client_authentication`](RegistrationResponse::client_authentication) is ready for a token endpoint.
    /// 2. Otherwise it returns a [`TokenError`](crate::TokenError). Its [`error_response`](crate::TokenError::error_response) has a code such
    ///    as [`ErrorCode::INVALID_REDIRECT_URI`](crate::ErrorCode::INVALID_REDIRECT_URI) or
    ///    [`ErrorCode::INVALID_CLIENT_METADATA`](crate::ErrorCode::INVALID_CLIENT_METADATA).
    ///
    /// To find the endpoint by the issuer, use [`TokenEndpoint::registration`](crate::TokenEndpoint::registration).
    ///
    /// To register twice makes two clients. If [`TokenError::may_have_been_processed`](crate::TokenError::may_have_been_processed) is
    /// `true`, a client may be left behind at the server, and an initial access token may be used up.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the HTTP request. It is then not known whether a client was registered.
    ///
    /// # Examples
    ///
    /// ```
    /// use bytes::Bytes;
    /// use http::{Request, Response};
    /// use http_body_util::Full;
    /// use tower::{ServiceExt, service_fn};
    /// use tower_oauth2_client::{
    ///     BoxError, ClientMetadata, RegistrationEndpoint, RegistrationRequest,
    /// };
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), BoxError> {
    /// # let http = service_fn(|_: Request<Full<Bytes>>| async {
    /// #     Ok::<_, BoxError>(Response::new(Full::new(Bytes::from(r#"{"client_id":"s6BhdRkqt3","token_endpoint_auth_method":"none"}"#))))
    /// # });
    /// let endpoint = RegistrationEndpoint::new(http, "https://as.example/register");
    ///
    /// let metadata = ClientMetadata::new()
    ///     .client_name("My CLI")
    ///     .redirect_uri("http://127.0.0.1/callback")
    ///     .token_endpoint_auth_method("none");
    /// let registered = endpoint.oneshot(RegistrationRequest::new(metadata)).await?;
    /// assert_eq!(registered.client_id(), "s6BhdRkqt3");
    /// let client = registered.client_authentication()?;
    /// # Ok(())
    /// # }
    /// ```
    pub struct RegistrationEndpoint;

    endpoint = "registration endpoint" at "https://as.example/register";

    call of request = RegistrationCall::of(request) => RegistrationCall;
    request = RegistrationRequest;
    response = RegistrationResponse;

    /// Creates a service for the registration endpoint of the same issuer, with the same HTTP service and settings.
    ///
    /// Both share the metadata, so that they are fetched once. The client of this endpoint does not authenticate there. If there is none
    /// yet, use [`ClientAuthentication::anonymous`](crate::ClientAuthentication::anonymous).
    ///
    /// It never fails. If this endpoint was created by [`new`](crate::TokenEndpoint::new), its issuer is not known: every request fails that
    /// does not [name its registration endpoint](crate::RegistrationRequest::registration_endpoint). Use [`RegistrationEndpoint::new`] then.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower::ServiceExt;
    /// use tower_oauth2_client::{
    ///     BoxError, ClientAuthentication, ClientMetadata, HttpsClient, RegistrationRequest,
    ///     TokenEndpoint,
    /// };
    ///
    /// # async fn example(http: HttpsClient) -> Result<(), BoxError> {
    /// let nobody = ClientAuthentication::anonymous();
    /// let endpoint = TokenEndpoint::discover(http, "https://as.example", nobody);
    /// let metadata = ClientMetadata::new().grant_type("client_credentials");
    /// let registered = endpoint.registration().oneshot(RegistrationRequest::new(metadata)).await?;
    /// # Ok(())
    /// # }
    /// ```
    TokenEndpoint::registration
}
