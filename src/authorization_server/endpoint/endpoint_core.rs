//! `EndpointCore`: what the service of every endpoint is made of.

use std::{
    fmt,
    future::Future,
    sync::{Arc, LazyLock},
};

use bytes::Bytes;
use http::Uri;

use super::{about::called, place::Place};
use crate::{
    authorization_server::{
        http_service::HttpService,
        metadata::{Discovery, Http, Rules, ServerMetadata},
    },
    base::uri::{Printable, PrintableText},
    client_authentication::ClientAuthentication,
    dpop::DpopKey,
    error::{CalledEndpoint, TokenError},
};

const MAX_RESPONSE_BODY: usize = 1024 * 1024;

/// The client of a request that an access token authorizes.
pub(super) static ANONYMOUS: LazyLock<ClientAuthentication> =
    LazyLock::new(ClientAuthentication::anonymous);

/// An endpoint that is called through the HTTP service `S`: where it is, which client calls it, and the settings of a call.
pub(crate) struct EndpointCore<S, B> {
    pub(crate) inner: S,
    pub(super) place: Place,
    pub(crate) client: ClientAuthentication,
    pub(super) request_body: fn(Bytes) -> B,
    pub(crate) max_response_body: usize,
    pub(crate) allow_http: bool,
    pub(crate) dpop: Option<DpopKey>,
    /// Who calls which host, unless a request says otherwise.
    pub(super) called: Arc<CalledEndpoint>,
}

impl<S, B> EndpointCore<S, B> {
    pub(crate) fn new(
        inner: S,
        uri: impl fmt::Display,
        client: ClientAuthentication,
        request_body: fn(Bytes) -> B,
    ) -> Self {
        Self::at(inner, Place::at(uri), client, request_body)
    }

    pub(crate) fn discover(
        inner: S,
        issuer: impl fmt::Display,
        client: ClientAuthentication,
        request_body: fn(Bytes) -> B,
    ) -> Self {
        let place = Place::OfIssuer(Discovery::new(issuer.to_string()));
        Self::at(inner, place, client, request_body)
    }

    fn at(
        inner: S,
        place: Place,
        client: ClientAuthentication,
        request_body: fn(Bytes) -> B,
    ) -> Self {
        let called = called(&client, place.host());
        Self {
            inner,
            place,
            client,
            request_body,
            max_response_body: MAX_RESPONSE_BODY,
            allow_http: false,
            dpop: None,
            called,
        }
    }

    pub(crate) fn request_body<C>(self, request_body: fn(Bytes) -> C) -> EndpointCore<S, C> {
        EndpointCore {
            inner: self.inner,
            place: self.place,
            client: self.client,
            request_body,
            max_response_body: self.max_response_body,
            allow_http: self.allow_http,
            dpop: self.dpop,
            called: self.called,
        }
    }

    pub(crate) fn uri(&self) -> Option<&Uri> {
        self.place.uri()
    }

    pub(crate) fn issuer(&self) -> Option<&str> {
        let discovery = self.place.discovery()?;
        Some(discovery.issuer())
    }

    /// Whether the tokens of each client may be bound to its certificate (RFC 8705 §5).
    #[cfg(feature = "token-store")]
    pub(crate) fn is_certificate_bound(&self) -> bool {
        self.place.discovery().is_some_and(|it| it.by_alias)
    }

    /// Changes the discovery of the issuer, if there is one.
    pub(crate) fn set_discovery(&mut self, change: impl FnOnce(&mut Discovery)) {
        if let Some(discovery) = self.place.discovery_mut() {
            change(discovery);
        }
    }

    /// The metadata of the issuer, if there is one.
    pub(crate) fn metadata(
        &self,
    ) -> Option<impl Future<Output = Result<Arc<ServerMetadata>, TokenError>> + Send + use<S, B>>
    where
        S: HttpService<B>,
        B: 'static,
    {
        let discovery = self.place.discovery()?.clone();
        let http = Http::new(self.inner.clone(), self.request_body);
        let rules = self.rules();
        Some(async move { discovery.metadata(&http, rules, None).await })
    }

    pub(super) fn rules(&self) -> Rules {
        Rules {
            allow_http: self.allow_http,
            // The issuer decides.
            public_only: false,
            limit: self.max_response_body,
        }
    }

    /// Implements `Debug` for the service with this name.
    pub(crate) fn fmt(&self, name: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct(name);
        match &self.place {
            Place::Known(uri, _) => debug.field("uri", &Printable(uri)),
            Place::Invalid(_) => debug.field("uri", &format_args!("not a URI")),
            Place::OfIssuer(discovery) => debug.field("issuer", &PrintableText(discovery.issuer())),
            Place::Unknown => &mut debug,
        };
        debug.field("client", &self.client).finish_non_exhaustive()
    }
}

impl<S: Clone, B> EndpointCore<S, B> {
    /// The same settings for another client.
    pub(crate) fn for_client(&self, client: ClientAuthentication) -> Self {
        Self {
            client,
            ..self.clone()
        }
    }

    /// The same settings for another endpoint of the same issuer.
    pub(crate) fn other_endpoint(&self) -> Self {
        Self {
            place: self.place.other_endpoint(),
            ..self.clone()
        }
    }

    /// The same settings for an endpoint of the same issuer at which no client authenticates.
    pub(crate) fn other_endpoint_without_client(&self) -> Self {
        let mut core = self.other_endpoint();
        let is_by_tls = core.client.is_by_tls();
        core.client = ANONYMOUS.clone();
        core.dpop = None;
        // The tokens of such a client may be bound to its certificate.
        if is_by_tls {
            core.set_discovery(|discovery| discovery.by_alias = true);
        }
        core
    }
}

/// By hand, since a body type (axum's, hyper's) need not be `Clone`.
impl<S: Clone, B> Clone for EndpointCore<S, B> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            place: self.place.clone(),
            client: self.client.clone(),
            request_body: self.request_body,
            max_response_body: self.max_response_body,
            allow_http: self.allow_http,
            dpop: self.dpop.clone(),
            called: self.called.clone(),
        }
    }
}
