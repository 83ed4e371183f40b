//! `AddAccessToken`: the service that the layer makes.

use std::{
    borrow::Cow,
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

use http::{Request, Response};
use tower_service::Service;

use super::{
    deadline,
    follow_up::{FollowUp, ResendsLeft},
    future::ResponseFuture,
    grpc,
    needs::Needs,
    resend::{NoResend, Resend},
    route::{Route, ServiceParts},
    token_choice::{TokenChoice, TokenRules},
    unsent::Unsent,
    watch_trailers,
};
use crate::{
    base::{clone_service::CloneService, origin_id::OriginId},
    error::BoxError,
    message::TokenRequest,
    token_cache::{LocalCopy, TokenName, TokenSource},
};

/// Puts an access token on each request. Made by [`AddAccessTokenLayer`](crate::AddAccessTokenLayer).
///
/// See the [module](super) for the rules.
///
/// # Errors
///
/// These errors, boxed: any error of the inner service, a [`TokenError`](crate::TokenError) if there is no token,
/// [`NoOriginNamed`](super::NoOriginNamed) if no origin was named that the request could be compared with,
/// [`InsecureTransport`](super::InsecureTransport) if the network would see the token, and [`NoTokenNamed`](super::NoTokenNamed) if neither
/// the request nor the layer names a token. In all cases except the first, nothing was sent, and with the feature `tonic` the error of a
/// gRPC request is a [status](super#grpc), whose source is that error.
///
/// # Cancel safety
///
/// If the future is dropped while it waits for a token, the request is not sent, and nothing changes for other requests.
///
/// # Generic code
///
/// `AddAccessToken<S, R>` is `Clone`, `Send`, `Sync` and `'static` if `S` is. Its future is `Send` if `S`, the future of `S`, the body of the
/// request and the body of the response are. The future needs no `Sync`.
///
/// A function that is generic over an API client needs one bound, [`HttpService`](crate::HttpService) for the body of its requests. It holds
/// for this service over any HTTP client, and for most stacks of layers around it. It makes the service `Clone + Send + 'static` and its
/// future `Send`, so that calls can be spawned:
///
/// ```
/// use bytes::Bytes;
/// use http::{Request, StatusCode};
/// use http_body_util::Full;
/// use tokio::task::JoinHandle;
/// use tower::ServiceExt;
/// use tower_oauth2_client::{AddAccessTokenLayer, BoxError, HttpService, TokenSource};
///
/// fn delete_order(
///     api: &impl HttpService<Full<Bytes>>,
///     id: u64,
/// ) -> JoinHandle<Result<StatusCode, BoxError>> {
///     let api = api.clone();
///     tokio::spawn(async move {
///         let uri = format!("https://api.example/orders/{id}");
///         let request = Request::delete(uri).body(Full::default())?;
///         let response = api.oneshot(request).await.map_err(Into::into)?;
///         Ok(response.status())
///     })
/// }
///
/// # fn example(http: impl HttpService<Full<Bytes>>, source: TokenSource) -> Result<(), BoxError> {
/// use tower::Layer;
///
/// let layer = AddAccessTokenLayer::new(source).origin("https://api.example")?;
/// let deleted = delete_order(&layer.layer(http), 42);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct AddAccessToken<S, R = NoResend> {
    inner: S,
    parts: Arc<ServiceParts<S>>,
    resend: R,
    copy: LocalCopy,
}

impl<S, R> AddAccessToken<S, R> {
    pub(super) fn new(inner: S, rules: TokenRules, resend: R) -> Self {
        Self {
            inner,
            parts: Arc::new(ServiceParts::new(rules)),
            resend,
            copy: LocalCopy::new(),
        }
    }

    /// Returns a reference to the inner service.
    pub fn get_ref(&self) -> &S {
        &self.inner
    }

    /// Returns a mutable reference to the inner service.
    pub fn get_mut(&mut self) -> &mut S {
        if self.parts.has_spare() {
            self.parts = Arc::new(self.parts.without_spare());
        }
        &mut self.inner
    }

    /// Returns the inner service.
    pub fn into_inner(self) -> S {
        self.inner
    }
}

impl<S, R, B, ResBody> Service<Request<B>> for AddAccessToken<S, R>
where
    S: Service<Request<B>, Response = Response<ResBody>> + CloneService,
    S::Error: Into<BoxError>,
    R: Resend<B>,
{
    type Response = Response<ResBody>;
    type Error = BoxError;
    type Future = ResponseFuture<S, B, S::Future, R, ResBody>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let rules = &self.parts.rules;
        let mut choice = rules.choose(&request);
        if let Ok(TokenChoice::ByFunction(function)) = choice {
            (request, choice) = rules.choose_by_function(function, request);
        }
        let origin = rules.destinations.origin_id(request.uri());
        let header = rules.header.as_deref();
        let (token, source) = match choice {
            Ok(TokenChoice::OfLayer(source)) => {
                let token = self.copy.authorize(request.headers_mut(), source, header);
                (
                    token.map(|token| source.sent(token, origin)),
                    Cow::Borrowed(source),
                )
            }
            Ok(TokenChoice::OfRequest(source)) => {
                // They are for this layer: a layer below would send the token request to its own authorization server.
                request.extensions_mut().remove::<TokenRequest>();
                request.extensions_mut().remove::<TokenSource>();
                let token = source.authorize(request.headers_mut(), header);
                let name = token.unwrap_or(TokenName::NONE);
                watch_trailers::name_token(name, request.extensions_mut());
                (
                    token.map(|token| source.sent(token, origin)),
                    Cow::Owned(source),
                )
            }
            Ok(TokenChoice::NoToken | TokenChoice::ByFunction(_)) => {
                return ResponseFuture::without_token(self.inner.call(request));
            }
            Err(error) => {
                self.give_reservation_back();
                return ResponseFuture::failed(grpc::not_sent(&request, error));
            }
        };
        let Some(token) = token else {
            let source = source.into_owned();
            return self.prove_or_wait(request, source, origin);
        };
        let refusals = rules.refusals.clone();
        if !R::IS_ON {
            return ResponseFuture::sending(
                self.inner.call(request),
                token,
                FollowUp::none(),
                refusals,
            );
        }
        deadline::note(&mut request);
        let route = self.route(source.into_owned(), origin);
        let (request, body) = self.resend.save(request);
        let follow_up =
            FollowUp::resendable(&request, body, None, ResendsLeft::ALL, &self.inner, route);
        ResponseFuture::sending(self.inner.call(request), token, follow_up, refusals)
    }
}

impl<S: Clone, R: Clone> AddAccessToken<S, R> {
    /// The route of a request that is sent later.
    fn route(&self, source: TokenSource, origin: Option<OriginId>) -> Route<S, R> {
        Route {
            parts: self.parts.clone(),
            source,
            origin,
            resend: self.resend.clone(),
        }
    }

    /// Drops the readied inner service, which gives back what it has reserved. A token client that shares a limit with this
    /// stack could otherwise wait forever.
    fn give_reservation_back(&mut self) {
        self.inner = self.inner.clone();
    }

    /// Sends a request whose token needs a proof, or lets it wait for its token or its proof.
    #[cold]
    fn prove_or_wait<B, ResBody>(
        &mut self,
        mut request: Request<B>,
        source: TokenSource,
        origin: Option<OriginId>,
    ) -> ResponseFuture<S, B, S::Future, R, ResBody>
    where
        S: Service<Request<B>, Response = Response<ResBody>>,
        R: Resend<B>,
    {
        deadline::note(&mut request);
        let target = self.parts.rules.destinations.target(request.uri());
        let uri = target.as_ref().unwrap_or(request.uri());
        let route = self.route(source, origin);
        match Needs::of(&request, uri, &route.source, route.header()) {
            // The inner service is ready.
            Ok(Needs::Service { headers, .. }) => {
                let token = route.source.sent(headers.authorization.token, origin);
                let header = route.header().map(|header| &**header);
                let proof = headers.put_on(&mut request, target.as_ref(), header);
                let refusals = route.refusals().cloned();
                let (request, follow_up) =
                    FollowUp::of(request, proof, ResendsLeft::ALL, &self.inner, || route);
                ResponseFuture::sending(self.inner.call(request), token, follow_up, refusals)
            }
            Ok(needs) => {
                self.give_reservation_back();
                let service = self.inner.clone();
                ResponseFuture::unsent(Unsent::first(needs, service, route, request, target))
            }
            Err(error) => {
                self.give_reservation_back();
                ResponseFuture::failed(grpc::not_sent(&request, error))
            }
        }
    }
}

impl<S, R> fmt::Debug for AddAccessToken<S, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AddAccessToken")
            .field("source", &self.parts.rules.tokens)
            .finish_non_exhaustive()
    }
}
