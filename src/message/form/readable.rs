//! What can be read of a request: everything except secrets.

use std::{
    fmt,
    sync::{Arc, PoisonError},
};

use http::{HeaderName, HeaderValue, Uri};

use super::{Form, printable_names};
use crate::{
    base::{
        Quoted,
        sync::Mutex,
        uri::{self, Printable},
    },
    error::{About, CalledEndpoint},
    message::{TokenMark, TokenRequest},
};

/// A place in which an endpoint notes who sent a request, and to which host. The copies of the request share it.
///
/// Its type is hidden, because clippy would warn of every map with a request as its key (`mutable_key_type`), although this is not compared.
#[derive(Clone)]
pub(crate) struct CalledSlot(Arc<dyn Slot>);

trait Slot: Send + Sync {
    fn note(&self, called: Arc<CalledEndpoint>);
    fn get(&self) -> Option<Arc<CalledEndpoint>>;
}

impl Slot for Mutex<Option<Arc<CalledEndpoint>>> {
    fn note(&self, called: Arc<CalledEndpoint>) {
        *self.lock().unwrap_or_else(PoisonError::into_inner) = Some(called);
    }

    fn get(&self) -> Option<Arc<CalledEndpoint>> {
        let called = self.lock().unwrap_or_else(PoisonError::into_inner);
        called.clone()
    }
}

impl Default for CalledSlot {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(None)))
    }
}

impl CalledSlot {
    /// Returns what was noted last.
    pub(crate) fn get(&self) -> Option<Arc<CalledEndpoint>> {
        self.0.get()
    }
}

/// What a cache or a layer notes in a request for itself.
#[derive(Clone, Default)]
pub(in crate::message) struct Notes {
    /// Who sent the request, and to which host.
    pub(in crate::message) called: Option<CalledSlot>,
    /// The token that the response is to replace.
    pub(in crate::message) replaced: Option<TokenMark>,
    /// The request that this one asks for more than.
    pub(in crate::message) weaker: Option<TokenRequest>,
}

impl Form {
    /// Iterates over the parameters, with the values that are not secret.
    pub(in crate::message) fn readable_parameters(
        &self,
    ) -> impl Iterator<Item = (&str, Option<&str>)> {
        let parameters = self.parameters().iter();
        parameters.map(|parameter| (&*parameter.name, parameter.readable()))
    }

    /// Returns the value of the first parameter of this name, unless it is a secret.
    pub(in crate::message) fn readable(&self, name: &str) -> Option<&str> {
        let mut parameters = self.parameters().iter();
        parameters.find(|p| p.name == name)?.readable()
    }

    /// Iterates over the headers, with the values that are not sensitive.
    pub(in crate::message) fn readable_headers(
        &self,
    ) -> impl Iterator<Item = (&HeaderName, Option<&HeaderValue>)> {
        let headers = self.headers().iter();
        headers.map(|(name, value)| (name, Some(value).filter(|value| !value.is_sensitive())))
    }

    pub(in crate::message) fn label(&self) -> Option<&str> {
        self.extras().label.as_deref()
    }

    pub(in crate::message) fn partition(&self) -> Option<&str> {
        self.extras().partition.as_deref().map(String::as_str)
    }

    pub(in crate::message) fn sign_in(&self) -> Option<&str> {
        self.extras().sign_in.as_deref().map(String::as_str)
    }

    /// Returns the URI that this request names as its endpoint, without what may be secret.
    pub(in crate::message) fn readable_endpoint(&self) -> Option<Uri> {
        self.endpoint_override().map(uri::without_secrets)
    }

    /// Returns the id of the client, if the request names it.
    pub(in crate::message) fn client_id(&self) -> Option<&str> {
        let client = self.client_override().map(|client| client.client_id());
        let client = client.filter(|id| !id.is_empty());
        client.or_else(|| self.readable("client_id"))
    }

    /// Notes in the request who sends it, and to which host, so that whoever made it can tell.
    pub(crate) fn note_called(&self, called: &Arc<CalledEndpoint>) {
        if let Some(slot) = self.called_slot() {
            slot.0.note(called.clone());
        }
    }

    pub(in crate::message) fn called(&self) -> Option<Arc<CalledEndpoint>> {
        self.called_slot()?.get()
    }

    fn called_slot(&self) -> Option<&CalledSlot> {
        self.extras().notes.as_ref()?.called.as_ref()
    }

    pub(in crate::message) fn notes_mut(&mut self) -> &mut Notes {
        self.extras_mut().notes.get_or_insert_default()
    }

    pub(in crate::message) fn weaker(&self) -> Option<&TokenRequest> {
        self.extras().notes.as_ref()?.weaker.as_ref()
    }

    /// Returns the token that the response to this request is to replace.
    pub(in crate::message) fn replaced_token(&self) -> Option<TokenMark> {
        self.extras().notes.as_ref()?.replaced
    }

    /// Returns the host of the endpoint that this request names.
    pub(in crate::message) fn host(&self) -> Option<&str> {
        self.endpoint_override().and_then(uri::host)
    }

    /// Returns whose request this is, for an error.
    pub(crate) fn about(&self, called: Option<&CalledEndpoint>) -> About {
        let client_id = self.client_id().map(Into::into);
        let host = self.host().map(Into::into);
        let readable = |name| self.readable(name).map(Into::into);
        About {
            label: self.label().map(Into::into),
            grant_type: readable("grant_type"),
            scope: readable("scope"),
            client_id: client_id.or_else(|| called?.client_id.clone()),
            host: host.or_else(|| called?.host.clone()),
        }
    }

    /// Implements `Debug` for a request of this type, whose setter of the endpoint is called `endpoint`.
    pub(in crate::message) fn fmt(
        &self,
        request: &str,
        endpoint: &str,
        f: &mut fmt::Formatter<'_>,
    ) -> fmt::Result {
        let names = self.parameters().iter().map(|p| &*p.name);
        let mut debug = f.debug_struct(request);
        if let Some(label) = self.label() {
            debug.field("label", &Quoted(label));
        }
        debug
            .field("parameters", &printable_names(names))
            .field(endpoint, &self.endpoint_override().map(Printable))
            .field("client_authentication", &self.client_override())
            .finish_non_exhaustive()
    }
}
