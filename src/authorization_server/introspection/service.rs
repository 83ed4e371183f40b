//! `IntrospectionEndpoint`: the service that says whether a token is active.

use super::call::IntrospectionCall;
use crate::{authorization_server::endpoint::endpoint_service, message::IntrospectionResponse};

endpoint_service! {
    /// A [`Service`](https://docs.rs/tower-service/0.3/tower_service/trait.Service.html) that asks an introspection endpoint
    /// ([RFC 7662](https://www.rfc-editor.org/rfc/rfc7662)) for the state of a token: an [`IntrospectionRequest`](crate::IntrospectionRequest).
    ///
    /// It sends HTTP requests through the service `S` in the same way as [`TokenEndpoint`](crate::TokenEndpoint) does: the same client
    /// authentication, checks, limits and security rules.
    ///
    /// 1. It returns an [`IntrospectionResponse`], also for a token that is not active. A token is active only if the server returned
    ///    `"active": true`. Anything else that is not `false` is an error: another type, a member that is there twice, a standard member
    ///    of a wrong type in the state of an active token.
    /// 2. Otherwise it returns a [`TokenError`](crate::TokenError). Treat the token as not active.
    ///    If [`TokenError::is_transient`](crate::TokenError::is_transient) is `true`, ask again later.
    ///
    /// An API that knows only the issuer of its tokens begins with a [`TokenEndpoint`](crate::TokenEndpoint), although it requests no
    /// tokens: `TokenEndpoint::discover(http, issuer, client).introspection()`. `client` is that of the API.
    ///
    /// Nothing is cached: each request asks the server. Put a cache above this service if you need one, and read
    /// [RFC 7662 §4](https://www.rfc-editor.org/rfc/rfc7662#section-4) first: a cached answer does not know of a revocation.
    ///
    /// # Security
    ///
    /// This crate is a client. It does not decide what an active token may do: check its scope and its audience.
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
    /// use tower_oauth2_client::{
    ///     BoxError, ClientAuthentication, IntrospectionEndpoint, IntrospectionRequest,
    /// };
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), BoxError> {
    /// # let http = service_fn(|_: Request<Full<Bytes>>| async {
    /// #     Ok::<_, BoxError>(Response::new(Full::new(Bytes::from(r#"{"active":true,"sub":"Z5O3upPC88QrAjx00dis"}"#))))
    /// # });
    /// let endpoint = IntrospectionEndpoint::new(
    ///     http,
    ///     "https://as.example/introspect",
    ///     ClientAuthentication::client_secret_basic("my-api", "secret"),
    /// );
    ///
    /// let state = endpoint.oneshot(IntrospectionRequest::new("mF_9.B5f-4.1JqM")).await?;
    /// assert!(state.is_active());
    /// assert_eq!(state.sub(), Some("Z5O3upPC88QrAjx00dis"));
    /// # Ok(())
    /// # }
    /// ```
    pub struct IntrospectionEndpoint;

    endpoint = "introspection endpoint" at "https://as.example/introspect";

    call of request = IntrospectionCall::of(request) => IntrospectionCall;
    request = IntrospectionRequest;
    response = IntrospectionResponse;

    /// Creates a service for the introspection endpoint of the same issuer, with the same HTTP service, client and settings.
    ///
    /// Both share the metadata, so that they are fetched once.
    ///
    /// It never fails. If this endpoint was created by [`new`](crate::TokenEndpoint::new), its issuer is not known: every request fails that
    /// does not [name its introspection endpoint](crate::IntrospectionRequest::introspection_endpoint). Use
    /// [`IntrospectionEndpoint::new`] then.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower::ServiceExt;
    /// use tower_oauth2_client::{BoxError, HttpsClient, IntrospectionRequest, TokenEndpoint};
    ///
    /// # async fn example(endpoint: TokenEndpoint<HttpsClient>) -> Result<bool, BoxError> {
    /// let introspection = endpoint.introspection();
    /// let state = introspection.oneshot(IntrospectionRequest::new("mF_9.B5f-4.1JqM")).await?;
    /// # Ok(state.is_active())
    /// # }
    /// ```
    TokenEndpoint::introspection
}
