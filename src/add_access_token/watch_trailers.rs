//! A layer that notices refusals in the trailers of gRPC responses.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
};

use http::{
    Extensions, HeaderName, HeaderValue, Request, Response, StatusCode, header::AUTHORIZATION,
};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::refusal::{self, RefusalRules};
use crate::token_cache::{TokenName, TokenSource};

/// Invalidates the token when the trailers of a gRPC response refuse it.
///
/// They refuse it with the status `UNAUTHENTICATED`, and by what the layer above counts as a refusal.
///
/// It never resends: when the trailers come, the caller already has the response. A refusal in the headers, as most servers send
/// it, is noticed without this layer.
///
/// It belongs below [`AddAccessTokenLayer`](crate::AddAccessTokenLayer), whose
/// [`watch_trailers`](crate::AddAccessTokenLayer::watch_trailers) makes one with the same source, header and rules. If a request carries the token of
/// another source or another tenant, that token is invalidated. The response to a request that carries no token invalidates none.
///
/// # Examples
///
/// ```
/// use tower::ServiceBuilder;
/// use tower_oauth2_client::{AddAccessTokenLayer, TokenSource};
///
/// # fn example<S>(source: TokenSource, channel: S) -> Result<(), Box<dyn std::error::Error>> {
/// let layer = AddAccessTokenLayer::new(source).origin("https://api.example")?;
/// let channel = ServiceBuilder::new()
///     .layer(layer.clone())
///     .layer(layer.watch_trailers())
///     .service(channel);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
#[must_use = "a layer does nothing until it wraps a service"]
pub struct WatchTrailersLayer {
    /// `None` if each request names its token.
    source: Option<TokenSource>,
    header: HeaderName,
    rules: Option<Arc<RefusalRules>>,
}

impl WatchTrailersLayer {
    /// Creates a layer that invalidates the token of `source` when it is refused.
    ///
    /// It expects the token in the header `Authorization`.
    pub fn new(source: TokenSource) -> Self {
        Self::with_rules(Some(source), AUTHORIZATION, None)
    }

    pub(super) fn with_rules(
        source: Option<TokenSource>,
        header: HeaderName,
        rules: Option<Arc<RefusalRules>>,
    ) -> Self {
        IS_USED.store(true, Ordering::Relaxed);
        Self {
            source,
            header,
            rules,
        }
    }
}

/// Whether there has been such a layer in this process. Extensions allocate, and most programs have no use for the name of a token.
static IS_USED: AtomicBool = AtomicBool::new(false);

/// Tells a service below that the token is not that of the layer.
pub(super) fn name_token(name: TokenName, extensions: &mut Extensions) {
    if IS_USED.load(Ordering::Relaxed) {
        extensions.insert(name);
    }
}

impl<S> Layer<S> for WatchTrailersLayer {
    type Service = WatchTrailers<S>;

    fn layer(&self, inner: S) -> Self::Service {
        WatchTrailers {
            inner,
            layer: self.clone(),
        }
    }
}

/// Notices refusals in trailers. Made by [`WatchTrailersLayer`].
#[derive(Clone)]
pub struct WatchTrailers<S> {
    inner: S,
    layer: WatchTrailersLayer,
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
        let sent = request.headers().get(&self.layer.header);
        let watch = sent.and_then(|sent| match request.extensions().get::<TokenName>() {
            Some(token) => Some(WatchedToken::Own(*token)),
            None => Some(WatchedToken::Source {
                source: self.layer.source.clone()?,
                sent: sent.clone(),
            }),
        });
        let rules = self.layer.rules.clone();
        WatchTrailersFuture {
            sending: self.inner.call(request),
            watch: watch.map(|token| Watch { token, rules }),
        }
    }
}

impl fmt::Debug for WatchTrailersLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WatchTrailersLayer")
            .field("source", &self.source)
            .finish_non_exhaustive()
    }
}

impl<S> fmt::Debug for WatchTrailers<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WatchTrailers")
            .field("source", &self.layer.source)
            .finish_non_exhaustive()
    }
}

/// The token that a request carries, and what refuses it.
struct Watch {
    token: WatchedToken,
    rules: Option<Arc<RefusalRules>>,
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
        watch: Option<Watch>,
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
            let status = response.status();
            response.map(|body| WatchedBody {
                body,
                status,
                watch,
            })
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
        status: StatusCode,
        watch: Option<Watch>,
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
        let mut frame = ready!(this.body.poll_frame(cx));
        let trailers = match &mut frame {
            Some(Ok(frame)) => frame.trailers_mut(),
            _ => None,
        };
        if let Some((trailers, watch)) = trailers.and_then(|it| Some((it, this.watch.take()?))) {
            let rules = watch.rules.as_deref();
            if refusal::refuses_in_trailers(rules, *this.status, trailers) {
                watch.token.refuse();
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
