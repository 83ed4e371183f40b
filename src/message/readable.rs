//! What can be read of a request: everything except secrets.

use std::{
    borrow::Cow,
    sync::{Arc, Mutex, PoisonError},
};

use http::{HeaderName, HeaderValue, Uri};

use super::{Form, parameter::Parameter};
use crate::{
    base::uri,
    error::{About, CalledEndpoint},
    secret::Credential,
};

/// A place in which an endpoint notes who sent a request, and to which host. The copies of the request share it.
#[derive(Clone, Default)]
pub(crate) struct CalledSlot(Arc<Mutex<Option<Arc<CalledEndpoint>>>>);

impl CalledSlot {
    pub(crate) fn note(&self, called: Arc<CalledEndpoint>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(called);
    }

    pub(crate) fn get(&self) -> Option<Arc<CalledEndpoint>> {
        let called = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        called.clone()
    }
}

impl Form {
    /// Iterates over the parameters, with the values that are not secret.
    pub(super) fn readable_parameters(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        let parameters = self.parameters().iter();
        parameters.map(|parameter| (&*parameter.name, parameter.readable()))
    }

    /// Returns the value of the first parameter of this name, unless it is a secret.
    pub(super) fn readable(&self, name: &str) -> Option<&str> {
        let mut parameters = self.parameters().iter();
        parameters.find(|p| p.name == name)?.readable()
    }

    /// Iterates over the headers, with the values that are not sensitive.
    pub(super) fn readable_headers(
        &self,
    ) -> impl Iterator<Item = (&HeaderName, Option<&HeaderValue>)> {
        let headers = self.headers().iter();
        headers.map(|(name, value)| (name, Some(value).filter(|value| !value.is_sensitive())))
    }

    pub(super) fn label(&self) -> Option<&str> {
        self.extras().label.as_deref()
    }

    /// Returns the URI that this request names as its endpoint, without what may be secret.
    pub(super) fn readable_endpoint(&self) -> Option<Uri> {
        self.endpoint_override().map(uri::without_secrets)
    }

    /// Returns the id of the client, if the request names it.
    pub(super) fn client_id(&self) -> Option<&str> {
        let client = self.client_override().map(|client| client.client_id());
        let client = client.filter(|id| !id.is_empty());
        client.or_else(|| self.readable("client_id"))
    }

    /// Notes in the request who sends it, and to which host, so that whoever made it can tell.
    pub(crate) fn note_called(&self, called: &Arc<CalledEndpoint>) {
        if let Some(slot) = &self.extras().called {
            slot.note(called.clone());
        }
    }

    pub(super) fn called(&self) -> Option<Arc<CalledEndpoint>> {
        self.extras().called.as_ref()?.get()
    }

    /// Returns the host of the endpoint that this request names.
    pub(super) fn host(&self) -> Option<&str> {
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
}

/// Returns the parameter that a general setter makes.
pub(super) fn general_parameter(name: Cow<'static, str>, value: Credential) -> Parameter {
    Parameter {
        name,
        value,
        repeatable: false,
        checked: false,
    }
}
