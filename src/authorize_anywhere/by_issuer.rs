//! `ByIssuer`: one token endpoint for one cache, which sends each request to the endpoint of its issuer.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use tower_service::Service;

use super::http::ErasedHttp;
use crate::{
    authorization_server::token_endpoint::service::TokenEndpoint,
    base::erased_service::ready,
    error::TokenError,
    message::{TokenRequest, TokenResponse},
};

pub(super) type Endpoint = TokenEndpoint<ErasedHttp>;

/// See the [module](self).
#[derive(Clone)]
pub(super) struct ByIssuer;

/// The token endpoint of the issuer, in the context of a request.
#[derive(Clone)]
struct OfIssuer(Endpoint);

/// Addresses a request to `endpoint`, which is that of `issuer`.
///
/// The issuer and the client are a part of the key of the cache, so that no token, refresh token or pause of one issuer is used for another.
pub(super) fn address(
    request: TokenRequest,
    issuer: &Arc<str>,
    endpoint: Endpoint,
) -> TokenRequest {
    request
        .client_authentication(endpoint.client().clone())
        .of_issuer(issuer.clone())
        .context(OfIssuer(endpoint))
}

/// Sends one request.
pub(super) async fn send(
    mut endpoint: Endpoint,
    request: TokenRequest,
) -> Result<TokenResponse, TokenError> {
    ready(&mut endpoint).await?;
    endpoint.call(request).await
}

impl Service<TokenRequest> for ByIssuer {
    type Response = TokenResponse;
    type Error = TokenError;
    type Future = Pin<Box<dyn Future<Output = Result<TokenResponse, TokenError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), TokenError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: TokenRequest) -> Self::Future {
        let endpoint = request.get_context::<OfIssuer>().cloned();
        Box::pin(async move {
            match endpoint {
                Some(OfIssuer(endpoint)) => send(endpoint, request).await,
                None => Err(TokenError::request(
                    "the request was not sent: it was not made by `AuthorizeAnywhere`",
                )),
            }
        })
    }
}
