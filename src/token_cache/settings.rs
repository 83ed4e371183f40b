//! What all entries of a cache share.

use std::{
    future::Future,
    pin::Pin,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tower_service::Service;

use super::{error, refresh_window::RefreshWindow};
use crate::{
    base::clock::Clock,
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

pub(super) type Fetching = Pin<Box<dyn Future<Output = Result<TokenResponse, TokenError>> + Send>>;

/// The endpoint stack without its type, cloned out for each fetch. It need not be `Sync`, hence the lock, which is held
/// while it is cloned.
pub(super) struct Endpoint(Mutex<Box<dyn Fetch>>);

trait Fetch: Send {
    fn clone_boxed(&self) -> Box<dyn Fetch>;
    fn fetch(self: Box<Self>, request: TokenRequest) -> Fetching;
}

impl Endpoint {
    pub(super) fn new<S>(service: S) -> Self
    where
        S: Service<TokenRequest, Response = TokenResponse> + Clone + Send + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send,
    {
        Self(Mutex::new(Box::new(Stack(service))))
    }

    pub(super) fn fetch(&self, request: TokenRequest) -> Fetching {
        let stack = self
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone_boxed();
        stack.fetch(request)
    }
}

struct Stack<S>(S);

impl<S> Fetch for Stack<S>
where
    S: Service<TokenRequest, Response = TokenResponse> + Clone + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
{
    fn clone_boxed(&self) -> Box<dyn Fetch> {
        Box::new(Self(self.0.clone()))
    }

    fn fetch(self: Box<Self>, request: TokenRequest) -> Fetching {
        let mut service = self.0;
        Box::pin(async move {
            std::future::poll_fn(|cx| service.poll_ready(cx))
                .await
                .map_err(|error| error::of_stack(error.into()))?;
            let response = service.call(request).await;
            response.map_err(|error| error::of_stack(error.into()))
        })
    }
}
