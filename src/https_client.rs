//! A ready HTTPS client for those who have none.

use std::{
    fmt,
    future::Future,
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body::Body;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{self, Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use pin_project_lite::pin_project;
use tower_service::Service;

use crate::error::{BoxError, NotSent};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// hyper-util's pooled client over rustls: HTTP/1.1 and HTTP/2, `https` and `http`, the root certificates of the operating
/// system, ten seconds to connect (the name, TCP and TLS together). There is no time limit on the answer: put tower's
/// `Timeout` around.
///
/// Cloning is cheap; clones share the pool. Where something else is wanted (a private CA, client certificates), build a
/// `hyper_util` client: every part of this crate takes it just as well.
///
/// # Errors
///
/// Those of hyper-util. One that says that no connection could be made is wrapped in [`NotSent`].
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
    client: Client<Limited<HttpsConnector<HttpConnector>>, B>,
}

impl<B> HttpsClient<B>
where
    B: Body + Send,
    B::Data: Send,
{
    /// Builds the client.
    ///
    /// # Errors
    ///
    /// If the operating system has no root certificates that can be read.
    pub fn new() -> io::Result<Self> {
        let mut http = HttpConnector::new();
        http.enforce_http(false);
        http.set_nodelay(true);
        // Shared out among the addresses of a name, so that one which is silent does not take the time of the next.
        http.set_connect_timeout(Some(CONNECT_TIMEOUT));
        let https = HttpsConnectorBuilder::new()
            .with_provider_and_native_roots(rustls::crypto::aws_lc_rs::default_provider())?
            .https_or_http()
            .enable_all_versions()
            .wrap_connector(http);
        Ok(Self {
            client: Client::builder(TokioExecutor::new())
                .pool_timer(TokioTimer::new())
                .build(Limited { connector: https }),
        })
    }
}

impl<B> Clone for HttpsClient<B> {
    fn clone(&self) -> Self {
        Self {
            client: self.client.clone(),
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
            sending: self.client.request(request),
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

/// A connector that gives up after [`CONNECT_TIMEOUT`]. hyper-util has a limit for TCP alone, hyper-rustls none.
#[derive(Clone)]
struct Limited<C> {
    connector: C,
}

impl<C> Service<Uri> for Limited<C>
where
    C: Service<Uri, Error = BoxError>,
    C::Future: Send + 'static,
{
    type Response = C::Response;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<C::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.connector.poll_ready(cx)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connecting = self.connector.call(uri);
        Box::pin(async move {
            match tokio::time::timeout(CONNECT_TIMEOUT, connecting).await {
                Ok(connected) => connected,
                Err(_) => {
                    let message = format!("no connection within {CONNECT_TIMEOUT:?}");
                    Err(io::Error::new(io::ErrorKind::TimedOut, message).into())
                }
            }
        })
    }
}
