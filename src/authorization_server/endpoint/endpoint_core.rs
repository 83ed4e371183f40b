//! `EndpointCore`: what the service of every endpoint is made of.

use std::{
    fmt,
    future::Future,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body::Body;
use tower_service::Service;

use super::{
    EndpointCall,
    check::{check, check_uri},
    encode::{self, Target},
    future::CallFuture,
    place::Place,
    preparation::Draft,
    sent_secrets::SentSecrets,
};
use crate::{
    authorization_server::metadata::{Discovery, Http, Rules, ServerMetadata},
    base::uri::{Printable, PrintableText},
    client_authentication::ClientAuthentication,
    dpop::DpopKey,
    error::{BoxError, SentTo, TokenError},
    message::Form,
    secret::Credential,
};

const MAX_RESPONSE_BODY: usize = 1024 * 1024;

/// An endpoint that is called through the HTTP service `S`: where it is, which client calls it, and the settings of a call.
pub(crate) struct EndpointCore<S, B> {
    pub(crate) inner: S,
    place: Place,
    pub(crate) client: ClientAuthentication,
    request_body: fn(Bytes) -> B,
    pub(crate) max_response_body: usize,
    pub(crate) allow_http: bool,
    pub(crate) dpop: Option<DpopKey>,
}

impl<S, B> EndpointCore<S, B> {
    pub(crate) fn new(
        inner: S,
        uri: Uri,
        client: ClientAuthentication,
        request_body: fn(Bytes) -> B,
    ) -> Self {
        Self::at(inner, Place::Known(uri), client, request_body)
    }

    pub(crate) fn discover<ResBody>(
        inner: S,
        issuer: String,
        client: ClientAuthentication,
        request_body: fn(Bytes) -> B,
    ) -> Self
    where
        S: Service<Request<B>, Response = Response<ResBody>> + Clone + Send + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send,
        B: 'static,
        ResBody: Body + Send + 'static,
        ResBody::Data: Send,
        ResBody::Error: Into<BoxError>,
    {
        let http = Http::new(inner.clone(), request_body);
        let place = Place::OfIssuer(Discovery::new(issuer, http));
        Self::at(inner, place, client, request_body)
    }

    fn at(
        inner: S,
        place: Place,
        client: ClientAuthentication,
        request_body: fn(Bytes) -> B,
    ) -> Self {
        Self {
            inner,
            place,
            client,
            request_body,
            max_response_body: MAX_RESPONSE_BODY,
            allow_http: false,
            dpop: None,
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
        }
    }

    pub(crate) fn uri(&self) -> Option<&Uri> {
        self.place.uri()
    }

    pub(crate) fn issuer(&self) -> Option<&str> {
        let discovery = self.place.discovery()?;
        Some(discovery.issuer())
    }

    pub(crate) fn discovery_mut(&mut self) -> Option<&mut Discovery> {
        self.place.discovery_mut()
    }

    /// The metadata of the issuer, if there is one.
    pub(crate) fn metadata(
        &self,
    ) -> Option<impl Future<Output = Result<Arc<ServerMetadata>, TokenError>> + Send + use<S, B>>
    {
        let discovery = self.place.discovery()?.clone();
        let rules = self.rules();
        Some(async move { discovery.metadata(rules).await })
    }

    fn rules(&self) -> Rules {
        Rules {
            allow_http: self.allow_http,
            limit: self.max_response_body,
        }
    }

    /// Implements `Debug` for the service with this name.
    pub(crate) fn fmt(&self, name: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct(name);
        match &self.place {
            Place::Known(uri) => debug.field("uri", &Printable(uri)),
            Place::OfIssuer(discovery) => debug.field("issuer", &PrintableText(discovery.issuer())),
            Place::Unknown => &mut debug,
        };
        debug.field("client", &self.client).finish_non_exhaustive()
    }
}

impl<S: Clone, B> EndpointCore<S, B> {
    /// The same settings for another endpoint of the same issuer.
    pub(crate) fn other_endpoint(&self) -> Self {
        Self {
            place: self.place.other_endpoint(),
            ..self.clone()
        }
    }

    /// Drops the ready inner service, whose reservation (a permit, a slot in a buffer) would otherwise be held until the next call.
    /// Returns a clone, which has to become ready first.
    fn give_reservation_back(&mut self) -> S {
        self.inner = self.inner.clone();
        self.inner.clone()
    }
}

impl<S, B> EndpointCore<S, B> {
    pub(crate) fn poll_ready<C: EndpointCall>(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), TokenError>>
    where
        S: Service<Request<B>>,
        S::Error: Into<BoxError>,
    {
        let ready = self.inner.poll_ready(cx);
        ready.map_err(|error| TokenError::not_ready(C::NAMES.endpoint, error.into()))
    }

    /// Calls the endpoint with `form`.
    ///
    /// If the URI and all credentials are known and there is no DPoP key, the ready inner service is called at once. Otherwise its
    /// reservation is given back: to obtain a credential can take long, and can take a call through the same stack.
    pub(crate) fn call<C, ResBody>(
        &mut self,
        call: C,
        form: Form,
    ) -> CallFuture<C, S, B, S::Future, ResBody>
    where
        C: EndpointCall,
        S: Service<Request<B>, Response = Response<ResBody>> + Clone,
        ResBody: Body,
        ResBody::Error: Into<BoxError>,
    {
        let client = form.client_override().unwrap_or(&self.client);
        let dpop = form.dpop_override().or(self.dpop.as_ref());
        let uri = form.endpoint_override().or(self.place.uri());
        let checked = uri.map_or(Ok(()), |uri| check_uri(&C::NAMES, uri, self.allow_http));
        if let Err(error) = checked.and_then(|()| check::<C>(&form, client, dpop)) {
            self.give_reservation_back();
            return CallFuture::failed(call, error);
        }
        let limit = self.max_response_body;
        let has_all = dpop.is_none() && !encode::must_obtain(&form, client);
        let Some(uri) = uri.filter(|_| has_all) else {
            let draft = Draft {
                call: call.clone(),
                place: uri.map_or_else(|| self.place.clone(), |uri| Place::Known(uri.clone())),
                client: client.clone(),
                rules: self.rules(),
                dpop: dpop.cloned(),
                form,
            };
            let request_body = self.request_body;
            let service = self.give_reservation_back();
            return CallFuture::prepare(call, draft, request_body, service, limit);
        };
        match call.encode(&form, &Target { uri, client }, None) {
            Ok(http) => {
                let sent_to = SentTo::of(&http);
                let secret = client.credential().and_then(Credential::known);
                let sent = SentSecrets::of_known(&http, secret.cloned(), form.headers());
                let sending = self.inner.call(http.map(self.request_body));
                CallFuture::sending(call, sending, sent_to, sent, limit)
            }
            Err(error) => {
                self.give_reservation_back();
                CallFuture::failed(call, error)
            }
        }
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
        }
    }
}
