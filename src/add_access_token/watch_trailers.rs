//! A layer that notices refusals in the trailers of gRPC responses.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use http::{HeaderValue, Request, Response, header::AUTHORIZATION};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::refusal;
use crate::token_cache::{TokenName, TokenSource};

/// Invalidates the token when the trailers of a gRPC response say `UNAUTHENTICATED`.
///
/// It never resends: when the trailers come, the caller already has the response. A refusal in the headers, as most servers send
/// it, is noticed without this layer.
///
/// It belongs below [`AddAccessTokenLayer`](crate::AddAccessTokenLayer), with the same source. If a request carries the token of
/// another source or another tenant, that token is invalidated. The response to a request that carries no token invalidates none.
///
/// # Examples
///
/// ```
/// use tower::ServiceBuilder;
/// use tower_oauth2_client::{AddAccessTokenLayer, TokenSource, add_access_token::WatchTrailersLayer};
///
/// # fn example<S>(source: TokenSource, channel: S) -> Result<(), Box<dyn std::error::Error>> {
/// let channel = ServiceBuilder::new()
///     .layer(AddAccessTokenLayer::new(source.clone()).origin("https://api.example")?)
///     .layer(WatchTrailersLayer::new(source))
///     .service(channel);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use = "a layer does nothing until it wraps a service"]
pub struct WatchTrailersLayer {
    source: TokenSource,
}

impl WatchTrailersLayer {
    /// Creates a layer that invalidates the token of `source` when it is refused.
    pub fn new(source: TokenSource) -> Self {
        Self { source }
    }
}

impl<S> Layer<S> for WatchTrailersLayer {
    type Service = WatchTrailers<S>;

    fn layer(&self, inner: S) -> Self::Service {
        WatchTrailers {
            inner,
            source: self.source.clone(),
        }
    }
}

/// Notices refusals in trailers. Made by [`WatchTrailersLayer`].
#[derive(Clone)]
pub struct WatchTrailers<S> {
    inner: S,
    source: TokenSource,
}

impl<S> WatchTrailers<S> {
    /// Returns a reference to the inner service.
    pub fn get_ref(&self) -> &S {
        &self.inner
    }

    /// Returns a mutable reference to the inner service.
    pub fn get_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    /// Returns the inner service.
    pub fn into_inner(self) -> S {
        self.inner
    }
}

impl<S, B, ResBody> Service<Request<B>> for WatchTrailers<S>
where
    S: Service<Request<B>, Response = Response<ResBody>>,
{
    type Response = Response<WatchedBody<ResBody>>;
    type Error = S::Error;
    type Future = WatchTrailersFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        // A service between both layers that follows redirects removes the token from some requests, but may keep their extensions.
        let sent = request.headers().get(AUTHORIZATION);
        let watch = sent.map(|sent| match request.extensions().get::<TokenName>() {
            Some(token) => WatchedToken::Own(*token),
            None => WatchedToken::Source {
                source: self.source.clone(),
                sent: sent.clone(),
            },
        });
        WatchTrailersFuture {
            sending: self.inner.call(request),
            watch,
        }
    }
}

impl<S> fmt::Debug for WatchTrailers<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WatchTrailers")
            .field("source", &self.source)
            .finish_non_exhaustive()
    }
}

/// The token that a request carries.
enum WatchedToken {
    /// A token that is not from the source of the layer. The layer above has named it.
    Own(TokenName),
    /// The token of the source, if it is still the one that was sent.
    Source {
        source: TokenSource,
        sent: HeaderValue,
    },
}

impl WatchedToken {
    fn refuse(self) {
        match self {
            Self::Own(token) => drop(token.refuse()),
            Self::Source { source, sent } => source.invalidate_sent(&sent),
        }
    }
}

pin_project! {
    /// The future of [`WatchTrailers`].
    #[must_use = "futures do nothing unless polled"]
    pub struct WatchTrailersFuture<F> {
        #[pin]
        sending: F,
        watch: Option<WatchedToken>,
    }
}

impl<F, ResBody, E> Future for WatchTrailersFuture<F>
where
    F: Future<Output = Result<Response<ResBody>, E>>,
{
    type Output = Result<Response<WatchedBody<ResBody>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let response = ready!(this.sending.poll(cx));
        let watch = this.watch.take();
        Poll::Ready(response.map(|response| {
            let watch = watch.filter(|_| refusal::is_grpc(response.headers()));
            response.map(|body| WatchedBody { body, watch })
        }))
    }
}

impl<F> fmt::Debug for WatchTrailersFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WatchTrailersFuture")
            .finish_non_exhaustive()
    }
}

pin_project! {
    /// A response body whose trailers are watched. See [`WatchTrailersLayer`].
    pub struct WatchedBody<B> {
        #[pin]
        body: B,
        watch: Option<WatchedToken>,
    }
}

impl<B: Body> Body for WatchedBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let this = self.project();
        let frame = ready!(this.body.poll_frame(cx));
        if let Some(Ok(frame)) = &frame {
            let is_refusal = frame
                .trailers_ref()
                .is_some_and(refusal::is_unauthenticated);
            if let Some(watch) = this.watch.take_if(|_| is_refusal) {
                watch.refuse();
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl<B> fmt::Debug for WatchedBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WatchedBody").finish_non_exhaustive()
    }
}
