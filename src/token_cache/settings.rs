//! What all entries of a cache share.

use std::{future::Future, pin::Pin, time::Duration};

use tower_service::Service;

use super::{error, refresh_window::RefreshWindow};
use crate::{
    base::{
        clock::Clock,
        erased_service::{ErasedService, ready},
    },
    error::{BoxError, TokenError},
    message::{TokenRequest, TokenResponse},
    secret::RefreshToken,
};

pub(crate) struct Settings {
    pub(super) endpoint: Endpoint,
    pub(super) clock: Clock,
    pub(super) refresh_window: RefreshWindow,
    pub(super) default_lifetime: Duration,
    pub(super) fetch_timeout: Duration,
    pub(super) on_refresh_token: Option<OnRefreshToken>,
}

/// Tells the owner of a refresh token of its successor.
pub(super) type OnRefreshToken = Box<
    dyn Fn(TokenRequest, RefreshToken) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync,
>;

/// The endpoint stack without its type.
pub(super) struct Endpoint(ErasedService<TokenRequest, Result<TokenResponse, TokenError>>);

impl Endpoint {
    pub(super) fn new<S>(service: S) -> Self
    where
        S: Service<TokenRequest, Response = TokenResponse> + Clone + Send + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send,
    {
        Self(ErasedService::new(service, fetch))
    }

    pub(super) async fn fetch(&self, request: TokenRequest) -> Result<TokenResponse, TokenError> {
        self.0.call(request).await
    }
}

async fn fetch<S>(mut stack: S, request: TokenRequest) -> Result<TokenResponse, TokenError>
where
    S: Service<TokenRequest, Response = TokenResponse>,
    S::Error: Into<BoxError>,
{
    let failed = |error: S::Error| error::of_stack(error.into());
    ready(&mut stack).await.map_err(failed)?;
    stack.call(request).await.map_err(failed)
}
