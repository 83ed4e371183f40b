//! `EndpointCore`: what the service of every endpoint is made of.

use std::{
    fmt,
    future::Future,
    sync::{Arc, LazyLock},
    task::{Context, Poll},
};

use bytes::Bytes;
use http::Uri;

use super::{
    EndpointCall,
    about::{CallAbout, called},
    check::{check, check_uri},
    encode::{self, Target},
    future::CallFuture,
    place::{Lookup, Place},
    preparation::Draft,
    sent_secrets::SentSecrets,
};
use crate::{
    authorization_server::{
        http_service::HttpService,
        metadata::{Discovery, Http, Rules, ServerMetadata},
    },
    base::{
        secure_uri::Protection,
        uri::{Printable, PrintableText, host},
    },
    client_authentication::ClientAuthentication,
    dpop::DpopKey,
    error::{CalledEndpoint, SentTo, TokenError},
    message::Form,
    secret::Credential,
};

const MAX_RESPONSE_BODY: usize = 1024 * 1024;

/// The client of a request that an access token authorizes.
static ANONYMOUS: LazyLock<ClientAuthentication> = LazyLock::new(ClientAuthentication::anonymous);

/// An endpoint that is called through the HTTP service `S`: where it is, which client calls it, and the settings of a call.
pub(crate) struct EndpointCore<S, B> {
    pub(crate) inner: S,
    place: Place,
    pub(crate) client: ClientAuthentication,
    request_body: fn(Bytes) -> B,
    pub(crate) max_response_body: usize,
    pub(crate) allow_http: bool,
    pub(crate) dpop: Option<DpopKey>,
    /// Who calls which host, unless a request says otherwise.
    called: Arc<CalledEndpoint>,
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

    fn rules(&self) -> Rules {
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

impl<S, B> EndpointCore<S, B> {
    /// Who calls which host with this request.
    fn called_for(&self, form: &Form) -> Arc<CalledEndpoint> {
        let (uri, client) = (form.endpoint_override(), form.client_override());
        match (uri, client) {
            (None, None) => self.called.clone(),
            _ => called(
                client.unwrap_or(&self.client),
                uri.map_or_else(|| self.place.host(), |uri| host(uri).map(Into::into)),
            ),
        }
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
        S: HttpService<B>,
    {
        let ready = self.inner.poll_ready(cx);
        ready.map_err(|error| TokenError::not_ready(C::NAMES.endpoint, error.into()))
    }

    /// Calls the endpoint with `form`.
    ///
    /// If the URI and all credentials are known and there is no DPoP key, the ready inner service is called at once. Otherwise its
    /// reservation is given back: to obtain a credential can take long, and can take a call through the same stack.
    pub(crate) fn call<C>(
        &mut self,
        call: C,
        form: Form,
    ) -> CallFuture<C, S, B, S::Sending, S::ResponseBody>
    where
        C: EndpointCall,
        S: HttpService<B>,
        B: 'static,
    {
        let called = self.called_for(&form);
        form.note_called(&called);
        let about = CallAbout::new(form.clone(), called);
        let token = call.access_token();
        let client = match form.client_override() {
            Some(client) => client,
            None if token.is_some() => &ANONYMOUS,
            None => &self.client,
        };
        let dpop = match token {
            Some(token) => token.binding().map(|binding| &binding.key),
            None => form.dpop_override().or(self.dpop.as_ref()),
        };
        let named = form.endpoint_override();
        let checked = match named {
            Some(uri) => check_uri(&C::NAMES, Protection::of(uri), self.allow_http),
            None => self.place.check(&C::NAMES, self.allow_http),
        };
        if let Err(error) = checked.and_then(|()| check(&call, &form, client, dpop)) {
            self.give_reservation_back();
            return CallFuture::failed(call, error, about);
        }
        let limit = self.max_response_body;
        let has_all = dpop.is_none() && !encode::must_obtain(&form, client);
        let uri = named.or(self.place.uri());
        let Some(uri) = uri.filter(|_| has_all) else {
            let request_body = self.request_body;
            let lookup = match named {
                Some(uri) => Lookup::Known(uri.clone()),
                None => {
                    let http = || Http::new(self.inner.clone(), request_body);
                    self.place.lookup(&C::NAMES, http)
                }
            };
            let draft = Draft {
                call: call.clone(),
                lookup,
                client: client.clone(),
                rules: self.rules(),
                dpop: dpop.cloned(),
                form,
            };
            let service = self.give_reservation_back();
            return CallFuture::prepare(call, draft, request_body, service, limit, about);
        };
        match call.encode(&form, &Target { uri, client }, None) {
            Ok(http) => {
                let sent_to = SentTo::of(&http);
                let secret = client.credential().and_then(Credential::known);
                let sent = match token {
                    Some(_) => SentSecrets::of(&http),
                    None => SentSecrets::of_known(&http, secret.cloned(), form.headers()),
                };
                let what_to_check = call.what_to_check(client);
                let sending = self.inner.call(http.map(self.request_body));
                CallFuture::sending(call, sending, sent_to, sent, what_to_check, limit, about)
            }
            Err(error) => {
                self.give_reservation_back();
                CallFuture::failed(call, error, about)
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
            called: self.called.clone(),
        }
    }
}
