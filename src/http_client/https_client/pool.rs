//! The connection pools, which are replaced when the client certificate or the root certificates change.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use arc_swap::ArcSwap;
use http::{HeaderValue, Request, Uri, header::PROXY_AUTHORIZATION, uri::Scheme};
use http_body::Body;
use hyper_util::{
    client::legacy::{Client, connect::capture_connection},
    rt::{TokioExecutor, TokioTimer},
};
use rustls::{
    ClientConfig,
    client::Resumption,
    sign::{CertifiedKey, SingleCertAndKey},
};

use super::{
    connect::Connector,
    error::Target,
    future::HttpsFuture,
    proxy::{Proxies, Route},
    settings::{Limits, Settings},
    silence::Connections,
    trust::Trust,
};
use crate::{
    error::{BoxError, Presented},
    http_client::client_certificate::ClientCertificate,
    message::NoAccessToken,
};

/// What pools are made from.
pub(super) struct Recipe {
    pub(super) trust: Trust,
    pub(super) certificate: Option<ClientCertificate>,
    pub(super) proxies: Option<Arc<Proxies>>,
    pub(super) settings: Settings,
}

/// The connection pools of an `HttpsClient`. All their connections use the same certificates.
///
/// 1. Each generation of the certificates has its own pools, TLS configuration and session cache. A resolver that returns the current
///    client certificate is not enough: connections from before the change stay in the pool and use the old certificate, and so do
///    resumed TLS sessions, because the server does not request a certificate for them. Nor is a verifier that uses the current root
///    certificates: it is not asked about those connections and sessions.
/// 2. The certificates are checked when a request starts. Requests in flight finish on their old connections, and the old pools are
///    dropped with the last of them.
pub(super) struct Pool<B>(Arc<Shared<B>>);

struct Shared<B> {
    recipe: Recipe,
    current: ArcSwap<Generation<B>>,
    renewing: Mutex<()>,
}

struct Generation<B> {
    numbers: Numbers,
    token_requests: Lane<B>,
    api_requests: Lane<B>,
    /// The client certificate, if one is set.
    certificate: Option<Presented>,
}

/// How often the client certificate and the root certificates have changed.
#[derive(Clone, Copy)]
struct Numbers {
    certificate: u64,
    roots: u64,
}

/// A pool for one kind of request.
struct Lane<B> {
    client: Client<Connector, B>,
    connections: Arc<Connections>,
    response_head_timeout: Option<Duration>,
}

impl<B> Pool<B>
where
    B: Body + Send,
    B::Data: Send,
{
    pub(super) fn new(recipe: Recipe) -> Self {
        Self(Arc::new(Shared {
            current: ArcSwap::from_pointee(Generation::new(&recipe)),
            recipe,
            renewing: Mutex::new(()),
        }))
    }
}

impl<B> Pool<B>
where
    B: Body + Send + Unpin + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    pub(super) fn request(&self, mut request: Request<B>) -> HttpsFuture {
        if let Some(credentials) = self.0.recipe.forwarding_credentials(request.uri()) {
            request
                .headers_mut()
                .entry(PROXY_AUTHORIZATION)
                .or_insert(credentials);
        }
        let current = self.0.current.load();
        // Another caller may have stored a newer generation since the numbers were read.
        if current.numbers.include(self.0.recipe.numbers()) {
            return current.send(request);
        }
        drop(current);
        self.0.renew().send(request)
    }
}

impl<B> Shared<B>
where
    B: Body + Send,
    B::Data: Send,
{
    /// Creates the pools for new certificates. Concurrent callers wait for the first one and use its pools.
    fn renew(&self) -> Arc<Generation<B>> {
        let _renewing = self.renewing.lock().unwrap_or_else(PoisonError::into_inner);
        let current = self.current.load_full();
        if current.numbers.include(self.recipe.numbers()) {
            return current;
        }
        let renewed = Arc::new(Generation::new(&self.recipe));
        self.current.store(renewed.clone());
        renewed
    }
}

impl Recipe {
    fn numbers(&self) -> Numbers {
        let certificate = self.certificate.as_ref();
        Numbers {
            certificate: certificate.map_or(0, ClientCertificate::generation),
            roots: self.trust.generation(),
        }
    }

    /// Returns the credentials that a request needs if a proxy forwards it. A tunnel needs them only when it is opened.
    fn forwarding_credentials(&self, uri: &Uri) -> Option<HeaderValue> {
        let proxies = self.proxies.as_ref()?;
        if uri.scheme() != Some(&Scheme::HTTP) {
            return None;
        }
        match proxies.route(uri) {
            Route::Proxy(proxy) => proxy.basic_auth().cloned(),
            _ => None,
        }
    }
}

impl Numbers {
    fn include(self, others: Self) -> bool {
        self.certificate >= others.certificate && self.roots >= others.roots
    }
}

impl<B> Generation<B>
where
    B: Body + Send,
    B::Data: Send,
{
    fn new(recipe: &Recipe) -> Self {
        let (roots, tls) = recipe.trust.tls();
        let mut own = tls.clone();
        let mut numbers = Numbers {
            certificate: 0,
            roots,
        };
        if let Some(certificate) = &recipe.certificate {
            let current = certificate.current();
            numbers.certificate = current.generation;
            let certified = CertifiedKey::clone(&current.key_pair.certified);
            own.client_auth_cert_resolver = Arc::new(SingleCertAndKey::from(certified));
            own.resumption = Resumption::default();
        }
        let lane = |limits| Lane::new(recipe, own.clone(), tls.clone(), limits);
        Self {
            numbers,
            token_requests: lane(recipe.settings.token_requests),
            api_requests: lane(recipe.settings.api_requests),
            certificate: recipe
                .certificate
                .as_ref()
                .map(|certificate| Presented(Arc::new(certificate.presented(numbers.certificate)))),
        }
    }
}

impl<B> Generation<B>
where
    B: Body + Send + Unpin + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    fn send(&self, request: Request<B>) -> HttpsFuture {
        match request.extensions().get::<NoAccessToken>() {
            Some(_) => {
                let sending = self.token_requests.send(request);
                sending.presenting(self.certificate.clone())
            }
            None => self.api_requests.send(request),
        }
    }
}

impl<B> Lane<B>
where
    B: Body + Send,
    B::Data: Send,
{
    fn new(recipe: &Recipe, own: ClientConfig, to_proxy: ClientConfig, limits: Limits) -> Self {
        let settings = &recipe.settings;
        let connections = Arc::new(Connections::new(settings.max_silence));
        let connector = Connector::new(
            own,
            to_proxy,
            recipe.proxies.clone(),
            settings,
            connections.clone(),
        );
        let client = Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .http2_keep_alive_interval(limits.http2_keep_alive_interval)
            .http2_keep_alive_timeout(settings.http2_keep_alive_timeout)
            .build(connector);
        Self {
            client,
            connections,
            response_head_timeout: limits.response_head_timeout,
        }
    }
}

impl<B> Lane<B>
where
    B: Body + Send + Unpin + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    fn send(&self, mut request: Request<B>) -> HttpsFuture {
        self.connections.abandon_silent();
        let target = Target::of(request.uri());
        let connection = capture_connection(&mut request);
        let sending = self.client.request(request);
        HttpsFuture::new(sending, target, connection, self.response_head_timeout)
    }
}

impl<B> Clone for Pool<B> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}
