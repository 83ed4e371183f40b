//! The connection pool, which is replaced when the client certificate changes.

use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use http::Request;
use http_body::Body;
use hyper_util::{
    client::legacy::{Client, ResponseFuture},
    rt::{TokioExecutor, TokioTimer},
};
use rustls::{
    ClientConfig,
    client::Resumption,
    sign::{CertifiedKey, SingleCertAndKey},
};

use super::connect::{self, Connector};
use crate::{
    error::BoxError,
    http_client::client_certificate::{ClientCertificate, Current},
};

type Pooled<B> = Client<Connector, B>;

/// The connection pool of an `HttpsClient`.
pub(super) enum Pool<B> {
    Fixed(Arc<Pooled<B>>),
    Rotating(Arc<Rotating<B>>),
}

/// A pool in which all connections use the same certificate.
///
/// 1. Each generation of the certificate has its own pool, TLS configuration and session cache. A resolver that returns the current
///    certificate is not enough: connections from before the change stay in the pool and use the old certificate, and so do resumed TLS
///    sessions, because the server does not request a certificate for them.
/// 2. The certificate is checked when a request starts. Requests in flight finish on their old connections, and the old pool is dropped
///    with the last of them.
pub(super) struct Rotating<B> {
    certificate: ClientCertificate,
    tls: ClientConfig,
    current: ArcSwap<Generation<B>>,
    renewing: Mutex<()>,
}

struct Generation<B> {
    number: u64,
    client: Pooled<B>,
}

impl<B> Pool<B>
where
    B: Body + Send,
    B::Data: Send,
{
    pub(super) fn new(tls: ClientConfig, certificate: Option<ClientCertificate>) -> Self {
        match certificate {
            None => Self::Fixed(Arc::new(pooled(tls))),
            Some(certificate) => Self::Rotating(Arc::new(Rotating {
                current: ArcSwap::from_pointee(Generation::new(&tls, &certificate.current())),
                certificate,
                tls,
                renewing: Mutex::new(()),
            })),
        }
    }
}

impl<B> Pool<B>
where
    B: Body + Send + Unpin + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    pub(super) fn request(&self, request: Request<B>) -> ResponseFuture {
        match self {
            Self::Fixed(client) => client.request(request),
            Self::Rotating(rotating) => rotating.request(request),
        }
    }
}

impl<B> Rotating<B>
where
    B: Body + Send + Unpin + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    fn request(&self, request: Request<B>) -> ResponseFuture {
        let certificate = self.certificate.current();
        let current = self.current.load();
        // Another caller may have stored a newer generation since `certificate` was loaded.
        if current.number >= certificate.generation {
            return current.client.request(request);
        }
        drop(current);
        self.renew(&certificate).client.request(request)
    }

    /// Creates the pool for a new certificate. Concurrent callers wait for the first one and use its pool.
    fn renew(&self, certificate: &Current) -> Arc<Generation<B>> {
        let _renewing = self.renewing.lock().unwrap_or_else(PoisonError::into_inner);
        let current = self.current.load_full();
        if current.number >= certificate.generation {
            return current;
        }
        let renewed = Arc::new(Generation::new(&self.tls, certificate));
        self.current.store(renewed.clone());
        renewed
    }
}

impl<B> Generation<B>
where
    B: Body + Send,
    B::Data: Send,
{
    fn new(tls: &ClientConfig, certificate: &Current) -> Self {
        let mut tls = tls.clone();
        let certified = CertifiedKey::clone(&certificate.key_pair.certified);
        tls.client_auth_cert_resolver = Arc::new(SingleCertAndKey::from(certified));
        tls.resumption = Resumption::default();
        Self {
            number: certificate.generation,
            client: pooled(tls),
        }
    }
}

impl<B> Clone for Pool<B> {
    fn clone(&self) -> Self {
        match self {
            Self::Fixed(client) => Self::Fixed(client.clone()),
            Self::Rotating(rotating) => Self::Rotating(rotating.clone()),
        }
    }
}

fn pooled<B>(tls: ClientConfig) -> Pooled<B>
where
    B: Body + Send,
    B::Data: Send,
{
    Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .build(connect::connector(tls))
}
