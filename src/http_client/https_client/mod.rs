//! `HttpsClient`: a ready-made HTTPS client.

mod builder;
mod connect;
mod pool;

use std::{
    fmt,
    future::Future,
    io,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::client::legacy;
use pin_project_lite::pin_project;
use tower_service::Service;

pub use self::builder::HttpsClientBuilder;
use self::pool::Pool;
use crate::error::{BoxError, NotSent};

/// A ready-made HTTPS client: hyper-util's pooled client over rustls.
///
/// 1. It supports HTTP/1.1 and HTTP/2, `https` and `http`.
/// 2. It trusts the root certificates of the operating system.
/// 3. Connecting takes at most ten seconds, including name resolution, TCP and TLS.
/// 4. There is no time limit for the response: wrap the client in tower's `Timeout`.
///
/// Cloning is cheap; clones share the pool. For a private CA or a client certificate, use [`builder`](Self::builder). If you need other
/// settings, build a `hyper_util` client yourself: every part of this crate accepts it.
///
/// # Errors
///
/// Returns the errors of hyper-util. If the client failed to connect, the error is wrapped in [`NotSent`].
///
/// With TLS 1.2, a server rejects the client certificate during the handshake, so nothing was sent. With TLS 1.3, it does so after the
/// client has finished the handshake and may have sent the request. That error is not wrapped, and its chain contains the server's alert,
/// such as `UnknownCA` or `CertificateRequired`.
///
/// # Examples
///
/// ```
/// use http::Uri;
/// use tower_oauth2_client::{ClientAuthentication, HttpsClient, TokenEndpoint};
///
/// # fn main() -> std::io::Result<()> {
/// let http = HttpsClient::new()?;
/// let endpoint: TokenEndpoint<HttpsClient> = TokenEndpoint::new(
///     http.clone(),
///     Uri::from_static("https://as.example/token"),
///     ClientAuthentication::client_secret_basic("client", "secret"),
/// );
/// # Ok(())
/// # }
/// ```
pub struct HttpsClient<B = Full<Bytes>> {
    pool: Pool<B>,
}

impl HttpsClient {
    /// Returns a builder, for a client with other root certificates or with a client certificate.
    pub fn builder() -> HttpsClientBuilder {
        HttpsClientBuilder::new()
    }
}

impl<B> HttpsClient<B>
where
    B: Body + Send,
    B::Data: Send,
{
    /// Creates a client with the default settings.
    ///
    /// # Errors
    ///
    /// Returns an error if the root certificates of the operating system cannot be read.
    pub fn new() -> io::Result<Self> {
        HttpsClientBuilder::new().build()
    }
}

impl<B> Clone for HttpsClient<B> {
    fn clone(&self) -> Self {
        Self {
            pool: self.pool.clone(),
        }
    }
}

impl<B> Service<Request<B>> for HttpsClient<B>
where
    B: Body + Send + Unpin + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    type Response = Response<Incoming>;
    type Error = BoxError;
    type Future = HttpsFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        HttpsFuture {
            sending: self.pool.request(request),
        }
    }
}

impl<B> fmt::Debug for HttpsClient<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpsClient").finish_non_exhaustive()
    }
}

pin_project! {
    /// The future of [`HttpsClient`].
    #[must_use = "futures do nothing unless polled"]
    pub struct HttpsFuture {
        #[pin]
        sending: legacy::ResponseFuture,
    }
}

impl Future for HttpsFuture {
    type Output = Result<Response<Incoming>, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.project()
            .sending
            .poll(cx)
            .map_err(|error| match error.is_connect() {
                true => NotSent::new(error).into(),
                false => error.into(),
            })
    }
}

impl fmt::Debug for HttpsFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpsFuture").finish_non_exhaustive()
    }
}
