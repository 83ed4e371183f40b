//! Connects to a server, directly or through a proxy, with a time limit.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context as TaskContext, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{
    Method, Request, Uri,
    header::{HOST, PROXY_AUTHORIZATION},
    uri::Scheme,
};
use http_body_util::Empty;
use hyper::{client::conn::http1, upgrade::Upgraded};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::{
    client::{
        legacy::connect::{Connection, HttpConnector},
        proxy::matcher::Intercept,
    },
    rt::TokioIo,
};
use rustls::ClientConfig;
use tokio::net::TcpStream;
use tower_service::Service;

use super::{
    error::{Context, Target, timed_out},
    proxy::{Proxies, Route},
    settings::Settings,
    silence::Connections,
    stream::{Transport, Watched},
};
use crate::error::BoxError;

/// How many keep-alive probes in a row may be lost.
const TCP_KEEPALIVE_RETRIES: u32 = 3;

type Connecting<T> = Pin<Box<dyn Future<Output = Result<T, BoxError>> + Send>>;

/// Connects to the server of a URI: over TCP or through a proxy, then over TLS, within a time limit.
#[derive(Clone)]
pub(super) struct Connector {
    https: HttpsConnector<TransportConnector>,
    connect_timeout: Duration,
    connections: Arc<Connections>,
}

impl Connector {
    /// Creates a connector. `to_proxy` is the TLS configuration for `https` proxies.
    pub(super) fn new(
        tls: ClientConfig,
        to_proxy: ClientConfig,
        proxies: Option<Arc<Proxies>>,
        settings: &Settings,
        connections: Arc<Connections>,
    ) -> Self {
        let tcp = tcp(settings);
        let to_proxy = HttpsConnectorBuilder::new()
            .with_tls_config(to_proxy)
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp.clone());
        let https = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_all_versions()
            .wrap_connector(TransportConnector {
                tcp,
                to_proxy,
                proxies,
            });
        Self {
            https,
            connect_timeout: settings.connect_timeout,
            connections,
        }
    }
}

fn tcp(settings: &Settings) -> HttpConnector {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    // hyper-util divides this time among the addresses of a host, so one that does not respond leaves time for the others.
    tcp.set_connect_timeout(Some(settings.connect_timeout));
    tcp.set_keepalive(settings.tcp_keepalive);
    tcp.set_keepalive_interval(settings.tcp_keepalive);
    tcp.set_keepalive_retries(settings.tcp_keepalive.map(|_| TCP_KEEPALIVE_RETRIES));
    #[cfg(any(target_os = "android", target_os = "fuchsia", target_os = "linux"))]
    tcp.set_tcp_user_timeout(settings.tcp_user_timeout);
    tcp
}

impl Service<Uri> for Connector {
    type Response = Watched<MaybeHttpsStream<Transport>>;
    type Error = BoxError;
    type Future = Connecting<Self::Response>;

    fn poll_ready(&mut self, cx: &mut TaskContext<'_>) -> Poll<Result<(), BoxError>> {
        self.https.poll_ready(cx)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connecting = self.https.call(uri);
        let limit = self.connect_timeout;
        let connections = self.connections.clone();
        Box::pin(async move {
            // hyper-util limits only TCP, and hyper-rustls has no limit.
            let stream = match tokio::time::timeout(limit, connecting).await {
                Ok(connected) => connected?,
                Err(_) => return Err(timed_out(format!("no connection within {limit:?}"))),
            };
            let is_shared = stream.connected().is_negotiated_h2();
            let silence = is_shared.then(|| connections.add());
            Ok(Watched::new(stream, silence))
        })
    }
}

/// Connects to the server of a URI over TCP, or through the proxy for it.
#[derive(Clone)]
struct TransportConnector {
    tcp: HttpConnector,
    to_proxy: HttpsConnector<HttpConnector>,
    proxies: Option<Arc<Proxies>>,
}

impl Service<Uri> for TransportConnector {
    type Response = Transport;
    type Error = BoxError;
    type Future = Connecting<Transport>;

    fn poll_ready(&mut self, cx: &mut TaskContext<'_>) -> Poll<Result<(), BoxError>> {
        self.tcp.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let route = match &self.proxies {
            Some(proxies) => proxies.route(&uri),
            None => Route::Direct,
        };
        match route {
            Route::Direct => {
                let connecting = self.tcp.call(uri);
                Box::pin(async move { Ok(Transport::Direct(connecting.await?)) })
            }
            Route::Proxy(proxy) => {
                let connecting = self.to_proxy.call(proxy.uri().clone());
                Box::pin(through(proxy, connecting, uri))
            }
            Route::Unusable(problem) => Box::pin(async { Err(problem.into()) }),
        }
    }
}

async fn through(
    proxy: Intercept,
    connecting: impl Future<Output = Result<MaybeHttpsStream<TokioIo<TcpStream>>, BoxError>>,
    uri: Uri,
) -> Result<Transport, BoxError> {
    let proxy_target = Target::of(proxy.uri());
    let stream = connecting.await.map_err(|error| {
        let message = format!("failed to connect to the proxy {proxy_target}");
        Context::new(message, error)
    })?;
    // Many proxies allow tunnels to port 443 only.
    if uri.scheme() == Some(&Scheme::HTTP) {
        return Ok(Transport::Forwarding(stream));
    }
    match tunnel(stream, &proxy, &uri).await {
        Ok(tunnel) => Ok(Transport::Tunnel(tunnel)),
        Err(error) => {
            let message = format!("the proxy {proxy_target} opened no tunnel");
            Err(Context::new(message, error).into())
        }
    }
}

/// Asks the proxy for a tunnel to the server ([RFC 9110 §9.3.6](https://www.rfc-editor.org/rfc/rfc9110#section-9.3.6)).
async fn tunnel(
    stream: MaybeHttpsStream<TokioIo<TcpStream>>,
    proxy: &Intercept,
    uri: &Uri,
) -> Result<Upgraded, BoxError> {
    let (mut sender, connection) = http1::handshake(stream).await?;
    // It ends when the tunnel is open, when the proxy refuses, and when `sender` is dropped.
    tokio::spawn(connection.with_upgrades());

    let server = Target::of(uri).to_string();
    let mut request = Request::builder()
        .method(Method::CONNECT)
        .uri(&server)
        .header(HOST, &server);
    if let Some(credentials) = proxy.basic_auth() {
        request = request.header(PROXY_AUTHORIZATION, credentials);
    }
    let response = sender
        .send_request(request.body(Empty::<Bytes>::new())?)
        .await?;
    match response.status().as_u16() {
        200..=299 => Ok(hyper::upgrade::on(response).await?),
        407 => Err(
            "it responded with status 407: set a valid user name and password in the proxy's URI"
                .into(),
        ),
        status => Err(format!("it responded with status {status}").into()),
    }
}

#[cfg(test)]
mod tests {
    use hyper_util::client::proxy::matcher::Matcher;
    use tokio::{io::AsyncReadExt, net::TcpListener};

    use super::*;

    /// The task of the connection must not outlive the attempt.
    #[tokio::test]
    async fn connection_to_the_proxy_is_closed_if_the_tunnel_is_abandoned() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stream = TcpStream::connect(address).await.unwrap();
        let stream = MaybeHttpsStream::Http(TokioIo::new(stream));
        let uri = Uri::from_static("https://as.example/");
        let proxy = Matcher::builder().all(address.to_string()).build();
        let proxy = proxy.intercept(&uri).unwrap();
        let abandoned =
            tokio::time::timeout(Duration::from_millis(100), tunnel(stream, &proxy, &uri)).await;
        assert!(abandoned.is_err());

        let (mut accepted, _) = listener.accept().await.unwrap();
        let mut sent = String::new();
        let closed = accepted.read_to_string(&mut sent);
        let closed = tokio::time::timeout(Duration::from_secs(30), closed).await;
        closed.expect("the connection is closed").unwrap();
        assert!(sent.starts_with("CONNECT as.example:443 "), "{sent}");
    }
}
