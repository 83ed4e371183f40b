//! `UserinfoEndpoint`: the service that returns claims about a user.

use super::call::UserinfoCall;
use crate::{
    authorization_server::endpoint::protected_endpoint_service, message::UserinfoResponse,
};

protected_endpoint_service! {
    /// A [`Service`](https://docs.rs/tower-service/0.3/tower_service/trait.Service.html) that asks a userinfo endpoint
    /// ([OpenID Connect Core §5.3](https://openid.net/specs/openid-connect-core-1_0.html#UserInfo)) for the user of an access token: a
    /// [`UserinfoRequest`](crate::UserinfoRequest).
    ///
    /// The request is a `GET` that the access token authorizes; no client authenticates. It is sent through the service `S` with the
    /// checks, limits and security rules of [`TokenEndpoint`](crate::TokenEndpoint). With a token that is bound to a DPoP key, it has a
    /// proof. If the server demands a nonce, it is sent a second time at once, with a fresh proof.
    ///
    /// 1. It returns a [`UserinfoResponse`]: claims about the [subject](crate::UserinfoRequest::subject) that was asked for, or a JWT.
    /// 2. Otherwise it returns a [`TokenError`](crate::TokenError). A challenge in the header `WWW-Authenticate` is its
    ///    [`error_response`](crate::TokenError::error_response): [`ErrorCode::INVALID_TOKEN`](crate::ErrorCode::INVALID_TOKEN) if the token
    ///    is wrong or expired, [`ErrorCode::INSUFFICIENT_SCOPE`](crate::ErrorCode::INSUFFICIENT_SCOPE) if it lacks the scope `openid`.
    ///
    /// To find the endpoint by the issuer, use [`TokenEndpoint::userinfo`](crate::TokenEndpoint::userinfo). Its example begins with the
    /// sign-in of a user.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the HTTP request. Nothing else happens.
    ///
    /// # Examples
    ///
    /// ```
    /// use bytes::Bytes;
    /// use http::{Request, Response};
    /// use http_body_util::Full;
    /// use tower::{ServiceExt, service_fn};
    /// use tower_oauth2_client::{AccessToken, BoxError, TokenType, UserinfoEndpoint, UserinfoRequest};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), BoxError> {
    /// # let http = service_fn(|_: Request<Full<Bytes>>| async {
    /// #     Ok::<_, BoxError>(Response::new(Full::new(Bytes::from(r#"{"sub":"248289761001","name":"Jane Doe"}"#))))
    /// # });
    /// let endpoint = UserinfoEndpoint::new(http, "https://as.example/userinfo");
    ///
    /// let token = AccessToken::new("SlAV32hkKG", TokenType::BEARER)?;
    /// let subject = "248289761001"; // of the ID token
    /// let user = endpoint.oneshot(UserinfoRequest::new(&token).subject(subject)).await?;
    /// assert_eq!(user.name(), Some("Jane Doe"));
    /// # Ok(())
    /// # }
    /// ```
    pub struct UserinfoEndpoint;

    endpoint = "userinfo endpoint" at "https://as.example/userinfo";

    call of request = UserinfoCall::of(request) => UserinfoCall;
    request = UserinfoRequest;
    response = UserinfoResponse;

    /// Creates a service for the userinfo endpoint of the same issuer, with the same HTTP service and settings.
    ///
    /// Both share the metadata, so that they are fetched once. The client of this endpoint does not authenticate there: the access token
    /// of the request does.
    ///
    /// It never fails. If this endpoint was created by [`new`](crate::TokenEndpoint::new), its issuer is not known: every request fails that
    /// does not [name its userinfo endpoint](crate::UserinfoRequest::userinfo_endpoint). Use [`UserinfoEndpoint::new`] then.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower::ServiceExt;
    /// use tower_oauth2_client::{
    ///     BoxError, HttpsClient, IdTokenClaims, TokenEndpoint, TokenSource, UserinfoRequest,
    ///     UserinfoResponse,
    /// };
    ///
    /// /// `user` is a source over an authorization code. Its cache was built with `keep_members(["id_token"])`.
    /// async fn userinfo(
    ///     endpoint: &TokenEndpoint<HttpsClient>,
    ///     user: &TokenSource,
    /// ) -> Result<UserinfoResponse, BoxError> {
    ///     let token = user.token().await?;
    ///     let claims = IdTokenClaims::unverified(token.id_token()?).ok_or("the ID token is malformed")?;
    ///     let subject = claims.sub().ok_or("the ID token names nobody")?;
    ///     let request = UserinfoRequest::new(&token).subject(subject);
    ///     Ok(endpoint.userinfo().oneshot(request).await?)
    /// }
    /// ```
    TokenEndpoint::userinfo
}
