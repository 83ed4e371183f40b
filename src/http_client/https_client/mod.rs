//! `HttpsClient`: a ready-made HTTPS client.

mod builder;
mod connect;
mod error;
mod future;
mod pool;
mod proxy;
mod settings;
mod silence;
mod stream;
mod trust;

use std::{
    fmt, io,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use http_body_util::Full;
use hyper::body::Incoming;
use tower_service::Service;

use self::pool::Pool;
pub use self::{builder::HttpsClientBuilder, future::HttpsFuture};
use crate::error::BoxError;

/// A ready-made HTTPS client: hyper-util's pooled client over rustls.
///
/// 1. It supports HTTP/1.1 and HTTP/2, `https` and `http`.
/// 2. It trusts the root certificates of the operating system.
/// 3. It uses the proxies that the environment names.
/// 4. It notices dead connections within seconds, see the table below.
/// 5. It does not limit how long an API takes to respond, or how long a response body takes: wrap the client in tower's `Timeout`, or set
///    a [`response_head_timeout`](HttpsClientBuilder::response_head_timeout).
///
/// Cloning is cheap; clones share the pool. For a private CA, a client certificate or other limits, use [`builder`](Self::builder). If
/// you need other settings, build a `hyper_util` client yourself: every part of this crate accepts it. hyper-util's `capture_connection` has
/// no effect on requests to this client, which uses it itself.
///
/// # Time limits
///
/// A network can fail without a word: a firewall, a NAT gateway or a load balancer forgets the connection, or the host dies. Requests on
/// it are then never answered. What helps depends on who still acknowledges TCP segments.
///
/// | Failure | Protection | Default |
/// |---|---|---|
/// | The server or the proxy cannot be reached, or does not finish TCP, the tunnel or TLS | [`connect_timeout`](HttpsClientBuilder::connect_timeout) | the request fails after 10 s |
/// | Nobody acknowledges TCP segments | [`tcp_user_timeout`](HttpsClientBuilder::tcp_user_timeout) (Linux), [`tcp_keepalive`](HttpsClientBuilder::tcp_keepalive) | the connection and its requests fail after about 30 s (Linux); while only reading, after 60 s (elsewhere) |
/// | A proxy acknowledges them but forwards nothing, HTTP/2, token request | [`token_http2_keep_alive_interval`](HttpsClientBuilder::token_http2_keep_alive_interval) and [`http2_keep_alive_timeout`](HttpsClientBuilder::http2_keep_alive_timeout) | the request fails after 5 s + 5 s, and the next one uses another connection |
/// | The same, API request | [`max_silence`](HttpsClientBuilder::max_silence) | requests that start 5 s later use another connection; the request itself waits for its caller's time limit |
/// | The same, API request that must fail by itself | [`http2_keep_alive_interval`](HttpsClientBuilder::http2_keep_alive_interval) or [`response_head_timeout`](HttpsClientBuilder::response_head_timeout) | off |
/// | The same, HTTP/1.1, token request | [`token_response_head_timeout`](HttpsClientBuilder::token_response_head_timeout) | the request fails after 20 s, and the next one uses another connection |
/// | The same, HTTP/1.1, API request | [`response_head_timeout`](HttpsClientBuilder::response_head_timeout) | off; once the caller drops the request, the next one uses another connection |
/// | An idle connection was closed without a word | idle connections are closed | after 90 s |
///
/// Token requests are those of a [`TokenEndpoint`](crate::TokenEndpoint), and any request with [`NoAccessToken`](crate::NoAccessToken) in
/// its extensions. They use connections of their own. API requests are all others. Their connections are not pinged by default, because
/// gRPC servers close a connection after a few pings while a stream is silent.
///
/// # Proxies
///
/// The client reads these environment variables when it is built, unless [`proxy_from_env`](HttpsClientBuilder::proxy_from_env) is
/// `false`. For each of them, the variable in lower case is used if the one in upper case is missing or empty.
///
/// * `HTTPS_PROXY` is the proxy for `https`, `HTTP_PROXY` the one for `http`, and `ALL_PROXY` the one for both where the other is missing.
///   The value is the URI of an `http://` or `https://` proxy, with a user name and a password if it demands them. If the variable
///   `REQUEST_METHOD` exists, the program may be a CGI script, and `HTTP_PROXY` is ignored in upper case because it may come from a
///   request header.
/// * `NO_PROXY` lists the hosts that are connected directly, separated by commas: host names, which include their subdomains, IP
///   addresses, networks such as `10.0.0.0/8`, and `*` for all hosts.
///
/// Plain `http` to `localhost` and to loopback addresses is always connected directly. A request for `https` goes through a tunnel (`CONNECT`), so the proxy
/// sees only the host and the port. A request for `http` is sent to the proxy as it is. If the proxy for a request cannot be used, the
/// request fails instead of going around it.
///
/// # Errors
///
/// Returns the errors of hyper-util. If the client failed to connect, the error is wrapped in [`NotSent`](crate::NotSent), and its source
/// names the host and the port: "failed to connect to as.example:443". If the response did not start in time or a ping was not answered,
/// the error is an `io::Error` of the kind `TimedOut` that names them too. Passwords of proxies are in no error.
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
///     "https://as.example/token",
///     ClientAuthentication::client_secret_basic("client", "secret"),
/// );
/// # Ok(())
/// # }
/// ```
pub struct HttpsClient<B = Full<Bytes>> {
    pool: Pool<B>,
}

impl HttpsClient {
    /// Returns a builder, for a client with other certificates or other limits.
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
        self.pool.request(request)
    }
}

impl<B> fmt::Debug for HttpsClient<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpsClient").finish_non_exhaustive()
    }
}
