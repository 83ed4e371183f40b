//! `AddAccessToken`: the service that the layer makes.

use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

use http::{Request, Response};
use tower_service::Service;

use super::{
    follow_up::{FollowUp, ResendsLeft},
    future::ResponseFuture,
    grpc,
    needs::Needs,
    resend::{NoResend, Resend},
    route::{Route, ServiceParts},
    token_choice::{TokenChoice, TokenRules},
    unsent::Unsent,
};
use crate::{
    base::{clone_service::CloneService, origin_id::OriginId},
    error::BoxError,
    token_cache::{LocalCopy, TokenName, TokenSource},
};

/// Puts an access token on each request. Made by [`AddAccessTokenLayer`](crate::AddAccessTokenLayer).
///
/// See the [module](super) for the rules.
///
/// # Errors
///
/// These errors, boxed: any error of the inner service, a [`TokenError`](crate::TokenError) if there is no token,
/// [`NoOriginNamed`](super::NoOriginNamed) if no origin was named that the request could be compared with, and
/// [`InsecureTransport`](super::InsecureTransport) if the network would see the token. In the last three cases nothing was sent, and
/// with the feature `tonic` the error of a gRPC request is a [status](super#grpc), whose source is that error.
///
/// # Cancel safety
///
/// If the future is dropped while it waits for a token, the request is not sent, and nothing changes for other requests.
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
        if let Ok(TokenChoice::ByFunction) = choice {
            (request, choice) = rules.choose_by_function(request);
        }
        let origin = rules.destinations.origin_id(request.uri());
        let header = rules.header.as_deref();
        let (token, own_source) = match choice {
            Ok(TokenChoice::OfLayer | TokenChoice::ByFunction) => {
                let source = &rules.source;
                let token = self.copy.authorize(request.headers_mut(), source, header);
                (token.map(|token| source.sent(token, origin)), None)
            }
            Ok(TokenChoice::OfRequest(source)) => {
                let token = source.authorize(request.headers_mut(), header);
                // A service below that notices refusals learns from this that the token is not that of the layer.
                let name = token.unwrap_or(TokenName::NONE);
                request.extensions_mut().insert(name);
                (token.map(|token| source.sent(token, origin)), Some(source))
            }
            Ok(TokenChoice::NoToken) => {
                return ResponseFuture::without_token(self.inner.call(request));
            }
            Err(error) => {
                self.give_reservation_back();
                return ResponseFuture::failed(grpc::not_sent(&request, error));
            }
        };
        let Some(token) = token else {
            return self.prove_or_wait(request, own_source, origin);
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
        let (request, body) = self.resend.save(request);
        let route = self.route(own_source, origin);
        let follow_up =
            FollowUp::resendable(&request, body, None, ResendsLeft::ALL, &self.inner, route);
        ResponseFuture::sending(self.inner.call(request), token, follow_up, refusals)
    }
}

impl<S: Clone, R: Clone> AddAccessToken<S, R> {
    /// The route of a request that is sent later.
    fn route(&self, own_source: Option<TokenSource>, origin: Option<OriginId>) -> Route<S, R> {
        Route {
            parts: self.parts.clone(),
            own_source,
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
        own_source: Option<TokenSource>,
        origin: Option<OriginId>,
    ) -> ResponseFuture<S, B, S::Future, R, ResBody>
    where
        S: Service<Request<B>, Response = Response<ResBody>>,
        R: Resend<B>,
    {
        let target = self.parts.rules.destinations.target(request.uri());
        let uri = target.as_ref().unwrap_or(request.uri());
        let route = self.route(own_source, origin);
        match Needs::of(&request, uri, route.source(), route.header()) {
            // The inner service is ready.
            Ok(Needs::Service { headers, .. }) => {
                let token = route.source().sent(headers.authorization.token, origin);
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
            .field("source", &self.parts.rules.source)
            .finish_non_exhaustive()
    }
}
