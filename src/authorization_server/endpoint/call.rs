//! Calls an endpoint: checks the request, and sends it at once if everything that it needs is known.

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use super::{
    EndpointCall,
    about::{CallAbout, called},
    check::{check, check_uri},
    encode::{self, Target},
    endpoint_core::{ANONYMOUS, EndpointCore},
    future::CallFuture,
    place::Lookup,
    preparation::Draft,
    sent_secrets::SentSecrets,
};
use crate::{
    authorization_server::{http_service::HttpService, metadata::Http},
    base::{secure_uri::Protection, uri::host},
    error::{CalledEndpoint, SentTo, TokenError},
    message::Form,
    secret::Credential,
};

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
    /// Drops the ready inner service, whose reservation (a permit, a slot in a buffer) would otherwise be held until the next call.
    /// Returns a clone, which has to become ready first.
    fn give_reservation_back(&mut self) -> S {
        self.inner = self.inner.clone();
        self.inner.clone()
    }
}
