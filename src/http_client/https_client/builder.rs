//! `HttpsClientBuilder`: certificates, proxies and time limits.

use std::{io, sync::Arc, time::Duration};

use http_body::Body;
use rustls::RootCertStore;

use super::{
    HttpsClient,
    pool::{Pool, Recipe},
    proxy::Proxies,
    settings::{Settings, unless_zero},
    trust::Trust,
};
use crate::http_client::{
    client_certificate::ClientCertificate,
    root_certificates::{self, RootCertificates},
};

/// Builds an [`HttpsClient`].
///
/// The setters whose time is an `Option` are turned off by `None` and by zero.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use tower_oauth2_client::{ClientCertificate, HttpsClient};
///
/// fn client(ca: &[u8], certificate: &ClientCertificate) -> std::io::Result<HttpsClient> {
///     HttpsClient::builder()
///         .root_certificates_pem(ca)?
///         .client_certificate(certificate.clone())
///         .connect_timeout(Duration::from_secs(3))
///         .response_head_timeout(Duration::from_secs(30))
///         .build()
/// }
/// ```
#[must_use = "a builder does nothing until `build` is called"]
#[derive(Debug)]
pub struct HttpsClientBuilder {
    roots: Option<RootCertStore>,
    replaceable_roots: Option<RootCertificates>,
    certificate: Option<ClientCertificate>,
    proxy_from_env: bool,
    settings: Settings,
}

impl HttpsClientBuilder {
    pub(super) fn new() -> Self {
        Self {
            roots: None,
            replaceable_roots: None,
            certificate: None,
            proxy_from_env: true,
            settings: Settings::default(),
        }
    }

    /// Trusts only these root certificates, for example those of a private CA.
    ///
    /// Further calls add more certificates. For certificates that can be replaced, use
    /// [`root_certificates`](Self::root_certificates). Default is the root certificates of the operating system.
    ///
    /// # Errors
    ///
    /// Returns an error if the PEM is malformed, contains no certificate, or contains one that cannot be a root certificate.
    pub fn root_certificates_pem(mut self, pem: impl AsRef<[u8]>) -> io::Result<Self> {
        let more = root_certificates::read_pem(pem.as_ref())?;
        let roots = self.roots.get_or_insert_with(RootCertStore::empty);
        roots.roots.extend(more.roots);
        Ok(self)
    }

    /// Trusts only these root certificates, and follows their [replacement](RootCertificates#rotation).
    ///
    /// Certificates of [`root_certificates_pem`](Self::root_certificates_pem) are trusted as well. Default is the root certificates of
    /// the operating system.
    pub fn root_certificates(mut self, roots: RootCertificates) -> Self {
        self.replaceable_roots = Some(roots);
        self
    }

    /// Presents this certificate to servers that request one. Default is none.
    ///
    /// After the certificate is [replaced](ClientCertificate#rotation), requests use new connections.
    pub fn client_certificate(mut self, certificate: ClientCertificate) -> Self {
        self.certificate = Some(certificate);
        self
    }

    /// Sets whether the [proxies that the environment names](HttpsClient#proxies) are used. Default is `true`.
    pub fn proxy_from_env(mut self, proxy_from_env: bool) -> Self {
        self.proxy_from_env = proxy_from_env;
        self
    }

    /// Sets how long connecting may take: name resolution, TCP, the tunnel through a proxy, and TLS. Default is 10 seconds.
    ///
    /// After this time, the request fails with [`TokenErrorKind::Timeout`](crate::TokenErrorKind::Timeout). The error proves that
    /// nothing was sent.
    pub fn connect_timeout(mut self, time: Duration) -> Self {
        self.settings.connect_timeout = time;
        self
    }

    /// Sets after how long without traffic TCP starts to probe the connection. Default is 15 seconds.
    ///
    /// Further probes follow at the same interval, and the connection fails when three in a row were lost. The time is rounded down to
    /// whole seconds.
    pub fn tcp_keepalive(mut self, time: impl Into<Option<Duration>>) -> Self {
        self.settings.tcp_keepalive = unless_zero(time);
        self
    }

    /// Sets how long TCP waits for the peer to acknowledge or accept data (`TCP_USER_TIMEOUT`). Default is 30 seconds.
    ///
    /// The connection then fails. Without this limit, Linux waits for about 15 minutes for an acknowledgement. It has an effect on Linux,
    /// Android and Fuchsia only. There it also ends a connection whose probes of [`tcp_keepalive`](Self::tcp_keepalive) are lost, and one
    /// to a server that stops reading a request body for that long.
    pub fn tcp_user_timeout(mut self, time: impl Into<Option<Duration>>) -> Self {
        self.settings.tcp_user_timeout = unless_zero(time);
        self
    }

    /// Sets how long an HTTP/2 connection may be silent before further requests use another one. Default is 5 seconds.
    ///
    /// It applies to all requests. A connection is silent while a request waits for the head of its response and nothing at all is
    /// received, or after the caller dropped such a request. The time is checked when the next request starts. Requests in flight are
    /// not affected, and nothing is sent, so it costs at most a new connection if the server was only slow.
    pub fn max_silence(mut self, time: impl Into<Option<Duration>>) -> Self {
        self.settings.max_silence = unless_zero(time);
        self
    }

    /// Sets after how long a silent HTTP/2 connection is pinged while an API request is in flight. Default is `None`: no pings.
    ///
    /// A ping that is not answered within [`http2_keep_alive_timeout`](Self::http2_keep_alive_timeout) closes the connection, and all its
    /// requests fail with a timeout. That is the only protection for an API request that is already waiting on a silent path, except for
    /// a time limit on the request.
    ///
    /// Do not turn it on for gRPC servers whose limits you do not know. With default settings, gRPC servers on the C core (C++, Python,
    /// Ruby) allow a ping every five minutes while nothing else is sent, and close the connection with `too_many_pings` at the fourth
    /// one. So an interval of ten seconds would end every stream that is silent for 40 seconds.
    pub fn http2_keep_alive_interval(mut self, time: impl Into<Option<Duration>>) -> Self {
        self.settings.api_requests.http2_keep_alive_interval = unless_zero(time);
        self
    }

    /// Sets after how long a silent HTTP/2 connection is pinged while a token request is in flight. Default is 5 seconds.
    ///
    /// A token request is one that a [`TokenEndpoint`](crate::TokenEndpoint) sends, or any with
    /// [`NoAccessToken`](crate::NoAccessToken) in its extensions. It never shares a connection with API requests.
    pub fn token_http2_keep_alive_interval(mut self, time: impl Into<Option<Duration>>) -> Self {
        self.settings.token_requests.http2_keep_alive_interval = unless_zero(time);
        self
    }

    /// Sets how long a server may take to answer a ping. Default is 5 seconds.
    ///
    /// It applies to all requests whose connections are pinged.
    pub fn http2_keep_alive_timeout(mut self, time: Duration) -> Self {
        self.settings.http2_keep_alive_timeout = time;
        self
    }

    /// Sets how long an API request waits for the head of the response: the status and the headers. Default is `None`: no limit.
    ///
    /// The time starts when the request has got a connection, and includes sending the request body. After this time, the request fails
    /// with a timeout, and its connection is not used for further requests, unless it served others meanwhile.
    ///
    /// Choose a time that is longer than your slowest API call. Mind long polling, and gRPC servers that send the head only with the
    /// first message of a stream.
    pub fn response_head_timeout(mut self, time: impl Into<Option<Duration>>) -> Self {
        self.settings.api_requests.response_head_timeout = unless_zero(time);
        self
    }

    /// Sets how long a token request waits for the head of the response. Default is 20 seconds.
    ///
    /// After this time, the request fails with [`TokenErrorKind::Timeout`](crate::TokenErrorKind::Timeout). The server may have processed
    /// it.
    pub fn token_response_head_timeout(mut self, time: impl Into<Option<Duration>>) -> Self {
        self.settings.token_requests.response_head_timeout = unless_zero(time);
        self
    }

    /// Builds the client.
    ///
    /// # Errors
    ///
    /// Returns an error if the root certificates of the operating system are needed but cannot be read.
    pub fn build<B>(self) -> io::Result<HttpsClient<B>>
    where
        B: Body + Send,
        B::Data: Send,
    {
        let proxies = match self.proxy_from_env {
            true => Proxies::from_env().map(Arc::new),
            false => None,
        };
        Ok(HttpsClient {
            pool: Pool::new(Recipe {
                trust: Trust::new(self.roots, self.replaceable_roots)?,
                certificate: self.certificate,
                proxies,
                settings: self.settings,
            }),
        })
    }
}
