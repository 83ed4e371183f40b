//! A ready HTTPS client for those who have none.

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

/// hyper-util's pooled client over rustls: HTTP/1.1 and HTTP/2, `https` and `http`, the root certificates of the operating
/// system, ten seconds to connect (the name, TCP and TLS together). There is no time limit on the answer: put tower's
/// `Timeout` around.
///
/// Cloning is cheap; clones share the pool. [`builder`](Self::builder) is for a private CA and for client certificates. Where something
/// else is wanted, build a `hyper_util` client: every part of this crate takes it just as well.
///
/// # Errors
///
/// Those of hyper-util. One that says that no connection could be made is wrapped in [`NotSent`].
///
/// A server that does not take the client certificate says so during the handshake of TLS 1.2, so nothing was sent. In TLS 1.3 it says
/// so after the client has finished its part and may have sent the request; that error is not wrapped, and it has the alert of the server
/// in its chain, such as `UnknownCA` or `CertificateRequired`.
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
    /// Builds a client that trusts other servers, or that has a certificate of its own.
    pub fn builder() -> HttpsClientBuilder {
        HttpsClientBuilder::new()
    }
}

impl<B> HttpsClient<B>
where
    B: Body + Send,
    B::Data: Send,
{
    /// A client with all defaults.
    ///
    /// # Errors
    ///
    /// If the operating system has no root certificates that can be read.
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
