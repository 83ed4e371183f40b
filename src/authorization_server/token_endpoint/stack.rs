//! `EndpointStack`: a token endpoint with all layers around it, without its type.

use std::{future::Future, pin::Pin};

use tower_service::Service;

use crate::{
    base::erased_service::{ErasedService, ready},
    error::{BoxError, TokenError},
    message::{TokenRequest, TokenResponse},
};

/// A token endpoint, with all layers around it, without its type.
pub(crate) struct EndpointStack(ErasedService<TokenRequest, Result<TokenResponse, TokenError>>);

/// A request under way.
pub(crate) type Calling = Pin<Box<dyn Future<Output = Result<TokenResponse, TokenError>> + Send>>;

impl EndpointStack {
    pub(crate) fn new<S>(service: S) -> Self
    where
        S: Service<TokenRequest, Response = TokenResponse> + Clone + Send + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send,
    {
        Self(ErasedService::new(service, call))
    }

    /// Sends a request through a clone of the stack. Nothing happens before the future is polled.
    pub(crate) fn call(&self, request: TokenRequest) -> Calling {
        self.0.call(request)
    }
}

async fn call<S>(mut stack: S, request: TokenRequest) -> Result<TokenResponse, TokenError>
where
    S: Service<TokenRequest, Response = TokenResponse>,
    S::Error: Into<BoxError>,
{
    let failed = |error: S::Error| token_error(error.into());
    ready(&mut stack).await.map_err(failed)?;
    stack.call(request).await.map_err(failed)
}

/// Finds our own error in the chain, or wraps the error of one of the layers.
fn token_error(source: BoxError) -> TokenError {
    match TokenError::find_in_chain(&*source) {
        Some(error) => error.clone(),
        None => TokenError::service("token endpoint", source),
    }
}
