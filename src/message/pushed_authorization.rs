//! `PushedAuthorizationRequest` and its response: an authorization request that goes straight to the server (RFC 9126).

use std::{borrow::Cow, fmt, sync::Arc, time::Duration};

use serde_json::Value;

use super::{
    Parameter,
    accessors::{answer_accessors, client_request_setters},
    authorization_request::REPEATABLE,
    form::{Form, printable_names},
};
use crate::dpop::DpopKey;
use crate::{base::uri::Printable, error::Answer, secret::Credential};

/// An authorization request that is sent straight to the server, and not through the browser of the user
/// ([RFC 9126 §2.1](https://www.rfc-editor.org/rfc/rfc9126#section-2.1)).
///
/// [`AuthorizationEndpoint::begin_pushed`](crate::authorization_code::AuthorizationEndpoint::begin_pushed) makes one with everything that it
/// needs. Building one by hand never fails; an invalid one fails before anything is sent.
///
/// # Security
///
/// `Debug` shows the names of the parameters, and the overrides.
///
/// # Examples
///
/// See [`PushedAuthorizationEndpoint`](crate::PushedAuthorizationEndpoint).
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct PushedAuthorizationRequest(Form);

impl PushedAuthorizationRequest {
    /// Creates a request with these parameters.
    ///
    /// An empty parameter is not sent. `resource` may occur several times. `client_id` must be one of them
    /// ([RFC 9126 §2.1](https://www.rfc-editor.org/rfc/rfc9126#section-2.1)), also for a client that authenticates in a header. The client
    /// authentication adds its own parameters.
    pub fn new<N, V>(parameters: impl IntoIterator<Item = (N, V)>) -> Self
    where
        N: Into<Cow<'static, str>>,
        V: Into<Credential>,
    {
        let parameters = parameters.into_iter();
        parameters.fold(Self(Form::default()), |request, (name, value)| {
            request.parameter(name, value)
        })
    }

    /// Adds a parameter. `resource` may be added several times.
    #[must_use]
    pub fn parameter(
        mut self,
        name: impl Into<Cow<'static, str>>,
        value: impl Into<Credential>,
    ) -> Self {
        let parameter = Parameter::general(name, value);
        self.0.push(match &*parameter.name {
            REPEATABLE => parameter.repeatable(),
            _ => parameter,
        });
        self
    }

    /// Proves possession of this key, so that the code is bound to it
    /// ([RFC 9449 §10.1](https://www.rfc-editor.org/rfc/rfc9449#section-10.1)). Default is the key of the
    /// [`PushedAuthorizationEndpoint`](crate::PushedAuthorizationEndpoint).
    #[cfg(feature = "dpop")]
    #[cfg_attr(docsrs, doc(cfg(feature = "dpop")))]
    #[must_use]
    pub fn dpop(self, key: DpopKey) -> Self {
        self.bound_to(Some(key))
    }

    pub(crate) fn bound_to(mut self, key: Option<DpopKey>) -> Self {
        if key.is_some() {
            self.0.extras_mut().dpop = key;
        }
        self
    }
}

client_request_setters!(
    PushedAuthorizationRequest,
    "pushed authorization request endpoint",
    "PushedAuthorizationEndpoint",
    pushed_authorization_request_endpoint,
    0
);

impl fmt::Debug for PushedAuthorizationRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.0.parameters().iter().map(|p| &*p.name);
        f.debug_struct("PushedAuthorizationRequest")
            .field("parameters", &printable_names(names))
            .field("endpoint", &self.0.endpoint_override().map(Printable))
            .field("client_authentication", &self.0.client_override())
            .finish_non_exhaustive()
    }
}

/// The reference to a pushed authorization request ([RFC 9126 §2.2](https://www.rfc-editor.org/rfc/rfc9126#section-2.2)).
///
/// # Security
///
/// `Debug` shows the status and the lifetime. The reference stands for the whole request, and travels in a URL.
#[derive(Clone)]
pub struct PushedAuthorizationResponse(Arc<Inner>);

struct Inner {
    request_uri: String,
    expires_in: Option<Duration>,
    json: Value,
    answer: Answer,
}

impl PushedAuthorizationResponse {
    pub(crate) fn new(request_uri: String, expires_in: Option<Duration>, answer: Answer) -> Self {
        Self(Arc::new(Inner {
            request_uri,
            expires_in,
            json: answer.json().cloned().unwrap_or_default(),
            answer,
        }))
    }

    /// Returns the reference, which the URL for the browser contains as `request_uri`. It can be used once.
    #[must_use]
    pub fn request_uri(&self) -> &str {
        &self.0.request_uri
    }

    /// Returns how long the reference can be used. `None` if the server did not say so.
    #[must_use]
    pub fn expires_in(&self) -> Option<Duration> {
        self.0.expires_in
    }
}

answer_accessors!(
    PushedAuthorizationResponse,
    "It contains the reference, which stands for the whole request."
);

impl fmt::Debug for PushedAuthorizationResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PushedAuthorizationResponse")
            .field("status", &self.status())
            .field("expires_in", &self.expires_in())
            .finish_non_exhaustive()
    }
}
