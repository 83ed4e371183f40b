//! `AddAccessTokenLayer` as a middleware of the crate `reqwest-middleware`: the layer runs over the rest of the middlewares.

use std::{
    error::Error as StdError,
    fmt,
    future::Future,
    mem,
    pin::Pin,
    task::{Context, Poll},
};

use http::{Extensions, Uri};
use reqwest::{Body, Request, Response};
use reqwest_middleware::{Error, Middleware, Next, Result};
use tokio::sync::Mutex;
use tower_layer::Layer;
use tower_service::Service;

use crate::{
    add_access_token::{
        BufferBody, CloneBody, NoResend, Resend, layer::AddAccessTokenLayer,
        resend::sealed::KeepBody,
    },
    error::BoxError,
    message::TokenRequest,
    token_cache::TokenSource,
};

type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Implements `Middleware` by an `async fn`, whose future is boxed as the macro `async_trait` would do it.
macro_rules! middleware {
    ($(#[$doc:meta])* impl for $Layer:ty = $handle:path) => {
        $(#[$doc])*
        #[cfg_attr(docsrs, doc(cfg(feature = "reqwest-middleware")))]
        impl Middleware for $Layer {
            fn handle<'a, 'b, 'c, 'future>(
                &'a self,
                request: Request,
                extensions: &'b mut Extensions,
                next: Next<'c>,
            ) -> BoxFuture<'future, Result<Response>>
            where
                'a: 'future,
                'b: 'future,
                'c: 'future,
                Self: 'future,
            {
                Box::pin($handle(self, request, extensions, next))
            }
        }
    };
}

middleware! {
    /// # reqwest-middleware
    ///
    /// With the feature `reqwest-middleware`, the layer is a middleware of
    /// [that crate](https://docs.rs/reqwest-middleware/0.5) (0.5, for reqwest 0.13): it puts tokens on all requests of a client, by the same
    /// rules.
    ///
    /// ```
    /// use reqwest::redirect::Policy;
    /// use tower_oauth2_client::{
    ///     AddAccessTokenLayer, ClientAuthentication, ReqwestService, TokenCache, TokenEndpoint,
    ///     TokenRequest, add_access_token::CloneBody,
    /// };
    ///
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// let client = reqwest::Client::builder().redirect(Policy::none()).build()?;
    /// let tokens = TokenCache::new(TokenEndpoint::new(
    ///     ReqwestService::new(client.clone()),
    ///     "https://as.example/token",
    ///     ClientAuthentication::client_secret_basic("client", "secret"),
    /// ));
    /// let source = tokens.source(TokenRequest::client_credentials().scope("orders"));
    ///
    /// let layer = AddAccessTokenLayer::new(source)
    ///     .origin("https://api.example")?
    ///     .resend(CloneBody);
    /// let api = reqwest_middleware::ClientBuilder::new(client).with(layer).build();
    ///
    /// let orders = api.get("https://api.example/orders").send().await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// * `with_extension` of a request takes what the layer looks for in a request's extensions: a [`TokenRequest`](crate::TokenRequest), a
    ///   [`TokenSource`](crate::TokenSource), or [`NoAccessToken`](crate::NoAccessToken).
    /// * [`CloneBody`] resends the requests that [`reqwest::Request::try_clone`](https://docs.rs/reqwest/0.13/reqwest/struct.Request.html#method.try_clone) can clone. A body that is a stream is sent once;
    ///   [`BufferBody::reqwest`] resends it, too.
    /// * An error of the layer is a [`reqwest_middleware::Error::Middleware`](https://docs.rs/reqwest-middleware/0.5/reqwest_middleware/enum.Error.html), in which
    ///   [`TokenError::find_in_chain`](crate::TokenError::find_in_chain) finds the [`TokenError`](crate::TokenError). Errors of the
    ///   middlewares below, and those of reqwest, are passed on unchanged.
    /// * A middleware that retries belongs above the layer: `with(retry).with(layer)`.
    ///
    /// Security: the client must follow no redirects, as in the example. Otherwise reqwest follows them below the layer, and may send the
    /// token to [another origin](crate::add_access_token#where-the-token-goes).
    impl for AddAccessTokenLayer<NoResend> = send
}

middleware! {
    /// Resends the requests that reqwest can clone, once. See the middleware of the layer with [`NoResend`].
    impl for AddAccessTokenLayer<CloneBody> = send_cloned
}

middleware! {
    /// Resends also requests whose body is a stream, once. See the middleware of the layer with [`NoResend`].
    impl for AddAccessTokenLayer<BufferBody<Body>> = send_buffered
}

/// Keeps a request of reqwest, and records its body.
#[derive(Clone)]
struct BufferRequest(BufferBody<Body>);

impl Resend<Carried> for BufferRequest {}

impl KeepBody<Carried> for BufferRequest {
    /// The request without its body, and the record of the body.
    type Saved = Option<(Request, Option<<BufferBody<Body> as KeepBody<Body>>::Saved>)>;
    type Slot<T> = Option<T>;
    const IS_ON: bool = true;

    fn save(&self, request: http::Request<Carried>) -> (http::Request<Carried>, Self::Saved) {
        let (head, Carried(request)) = request.into_parts();
        let Some(mut request) = request else {
            return (http::Request::from_parts(head, Carried(None)), None);
        };
        let body = request.body_mut().take();
        let copy = request.try_clone();
        let saved = body.map(|body| self.0.save(http::Request::new(body)));
        let (body, record) = saved.unzip();
        *request.body_mut() = body.map(http::Request::into_body);
        let request = http::Request::from_parts(head, Carried(Some(request)));
        (request, copy.map(|copy| (copy, record)))
    }

    fn restore(saved: Self::Saved) -> Option<Carried> {
        let (mut request, record) = saved?;
        if let Some(record) = record {
            *request.body_mut() = Some(BufferBody::restore(record)?);
        }
        Some(Carried(Some(request)))
    }
}

/// Resends the request only if reqwest can clone its body.
async fn send_cloned(
    layer: &AddAccessTokenLayer<CloneBody>,
    request: Request,
    extensions: &mut Extensions,
    next: Next<'_>,
) -> Result<Response> {
    let is_stream = request.body().is_some_and(|body| body.as_bytes().is_none());
    if is_stream {
        let layer = layer.clone().resend(NoResend);
        return send(&layer, request, extensions, next).await;
    }
    send(layer, request, extensions, next).await
}

/// Records the body of the request in order to resend it.
async fn send_buffered(
    layer: &AddAccessTokenLayer<BufferBody<Body>>,
    request: Request,
    extensions: &mut Extensions,
    next: Next<'_>,
) -> Result<Response> {
    let resend = BufferRequest(layer.resend.clone());
    let layer = layer.clone().resend(resend);
    send(&layer, request, extensions, next).await
}

/// Sends a request through the service of `layer` over `next`.
async fn send<R: Resend<Carried>>(
    layer: &AddAccessTokenLayer<R>,
    mut request: Request,
    extensions: &mut Extensions,
    next: Next<'_>,
) -> Result<Response> {
    let mut head = http::Request::new(());
    *head.uri_mut() = Uri::try_from(request.url().as_str()).map_err(Error::middleware)?;
    head.method_mut().clone_from(request.method());
    *head.headers_mut() = mem::take(request.headers_mut());
    head.extensions_mut().clone_from(extensions);
    let extensions = Mutex::new(extensions);
    let next = NextService {
        next,
        extensions: &extensions,
    };
    let response = layer
        .layer(next)
        .call(head.map(|()| Carried(Some(request))))
        .await
        .map_err(into_error)?;
    let (head, mut response) = response.into_parts();
    *response.headers_mut() = head.headers;
    *response.extensions_mut() = head.extensions;
    Ok(response)
}

/// A request of reqwest as the body of one of `http`, which has its headers.
struct Carried(Option<Request>);

/// Only for requests that can be cloned; the clone of another one is empty.
impl Clone for Carried {
    fn clone(&self) -> Self {
        Self(self.0.as_ref().and_then(Request::try_clone))
    }
}

/// The rest of the middlewares. It is called again only after its future has ended.
#[derive(Clone)]
struct NextService<'a, 'b> {
    next: Next<'a>,
    extensions: &'a Mutex<&'b mut Extensions>,
}

impl<'a> Service<http::Request<Carried>> for NextService<'a, '_> {
    /// A response of reqwest as the body of one of `http`, which has its headers and extensions.
    type Response = http::Response<Response>;
    type Error = Error;
    type Future = BoxFuture<'a, Result<Self::Response>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Carried>) -> Self::Future {
        let Self { next, extensions } = self.clone();
        Box::pin(async move {
            let (head, Carried(request)) = request.into_parts();
            let Some(mut request) = request else {
                return Err(Error::middleware(NotCloned));
            };
            *request.headers_mut() = head.headers;
            let mut extensions = extensions.lock().await;
            let mut extensions = WithoutChoice::new(&mut extensions, &head.extensions);
            let mut carried = next.run(request, extensions.below()).await?;
            let mut response = http::Response::new(());
            *response.status_mut() = carried.status();
            *response.headers_mut() = mem::take(carried.headers_mut());
            *response.extensions_mut() = mem::take(carried.extensions_mut());
            Ok(response.map(|()| carried))
        })
    }
}

/// The extensions without what this layer has taken out of its copy of them. It is back when this is dropped: a middleware above may send
/// the request again.
struct WithoutChoice<'a> {
    extensions: &'a mut Extensions,
    token_request: Option<TokenRequest>,
    source: Option<TokenSource>,
}

impl<'a> WithoutChoice<'a> {
    fn new(extensions: &'a mut Extensions, kept: &Extensions) -> Self {
        fn taken<T: Clone + Send + Sync + 'static>(
            extensions: &mut Extensions,
            kept: &Extensions,
        ) -> Option<T> {
            match kept.get::<T>() {
                Some(_) => None,
                None => extensions.remove(),
            }
        }
        Self {
            token_request: taken(extensions, kept),
            source: taken(extensions, kept),
            extensions,
        }
    }

    fn below(&mut self) -> &mut Extensions {
        self.extensions
    }
}

impl Drop for WithoutChoice<'_> {
    fn drop(&mut self) {
        if let Some(token_request) = self.token_request.take() {
            self.extensions.insert(token_request);
        }
        if let Some(source) = self.source.take() {
            self.extensions.insert(source);
        }
    }
}

fn into_error(error: BoxError) -> Error {
    match error.downcast() {
        Ok(error) => *error,
        Err(error) => Error::middleware(NotAuthenticated(error)),
    }
}

/// The error of the layer. `reqwest_middleware::Error` is transparent: it shows only the sources of what it wraps.
#[derive(Debug)]
struct NotAuthenticated(BoxError);

impl fmt::Display for NotAuthenticated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl StdError for NotAuthenticated {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&*self.0)
    }
}

#[derive(Debug)]
struct NotCloned;

impl fmt::Display for NotCloned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the request cannot be cloned")
    }
}

impl StdError for NotCloned {}
