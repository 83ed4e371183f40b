//! `RevocationEndpoint`: the service that revokes tokens.

use super::call::RevocationCall;
use crate::authorization_server::endpoint::endpoint_service;

endpoint_service! {
    /// A [`Service`](https://docs.rs/tower-service/0.3/tower_service/trait.Service.html) that sends a [`RevocationRequest`](crate::RevocationRequest) to a revocation endpoint
    /// ([RFC 7009](https://www.rfc-editor.org/rfc/rfc7009)), for example when a user signs out.
    ///
    /// It sends HTTP requests through the service `S` in the same way as [`TokenEndpoint`](crate::TokenEndpoint) does: the same client
    /// authentication, checks, limits and security rules.
    ///
    /// 1. It returns `()` if the server answers with any 2xx status, whatever the body. The token is then invalid. It may have been invalid
    ///    before: a server does not report that.
    /// 2. Otherwise it returns a [`TokenError`](crate::TokenError). Assume that the token is still valid. If
    ///    [`TokenError::is_transient`](crate::TokenError::is_transient) is `true` (for example for a 503), send the request again, after
    ///    [`TokenError::retry_after`](crate::TokenError::retry_after) if the server sent one. Revoking a token twice does no harm.
    /// 3. [`ErrorCode::UNSUPPORTED_TOKEN_TYPE`](crate::ErrorCode::UNSUPPORTED_TOKEN_TYPE) means that the server does not revoke tokens of
    ///    this type.
    ///
    /// A [`TokenCache`](crate::TokenCache) does not notice a revocation: it uses a token until the token expires or an API refuses it.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the HTTP request. It is then not known whether the token was revoked. Send the request again.
    ///
    /// # Examples
    ///
    /// ```
    /// use bytes::Bytes;
    /// use http::{Request, Response};
    /// use http_body_util::Full;
    /// use tower::{ServiceExt, service_fn};
    /// use tower_oauth2_client::{
    ///     BoxError, ClientAuthentication, RefreshToken, RevocationEndpoint, RevocationRequest,
    /// };
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), BoxError> {
    /// # let http = service_fn(|_: Request<Full<Bytes>>| async {
    /// #     Ok::<_, BoxError>(Response::new(Full::new(Bytes::new())))
    /// # });
    /// let endpoint = RevocationEndpoint::new(
    ///     http,
    ///     "https://as.example/revoke",
    ///     ClientAuthentication::client_secret_basic("client", "secret"),
    /// );
    ///
    /// let token = RefreshToken::new("45ghiukldjahdnhzdauz");
    /// endpoint
    ///     .oneshot(RevocationRequest::new(&token).token_type_hint("refresh_token"))
    ///     .await?;
    /// # Ok(())
    /// # }
    /// ```
    pub struct RevocationEndpoint;

    endpoint = "revocation endpoint" at "https://as.example/revoke";

    call = RevocationCall => RevocationCall;
    request = RevocationRequest;
    response = ();

    /// Creates a service for the revocation endpoint of the same issuer, with the same HTTP service, client and settings.
    ///
    /// Both share the metadata, so that they are fetched once.
    ///
    /// It never fails. If this endpoint was created by [`new`](crate::TokenEndpoint::new), its issuer is not known: every request fails that
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
    TokenEndpoint::revocation
}
