//! `DeviceAuthorizationRequest`: a device asks for a code that its user can enter elsewhere.

use std::fmt;

use super::{
    Parameter, Scope,
    accessors::{client_request_setters, parameter_setter},
    form::Form,
};

/// A request for a user code and a device code
/// ([RFC 8628 §3.1](https://www.rfc-editor.org/rfc/rfc8628#section-3.1)).
///
/// A request can be sent any number of times, and cloning is cheap. Each time, the server issues other codes. Building a request never
/// fails. If it is invalid (a parameter set twice with different values, a malformed scope),
/// [`DeviceAuthorizationEndpoint`](crate::DeviceAuthorizationEndpoint) returns
/// [`TokenErrorKind::Request`](crate::TokenErrorKind::Request) before anything is sent.
///
/// Two requests are equal if they have the same parameters in the same order, the same headers and the same overrides.
/// A [label](Self::label) and a [context](Self::context) are not compared.
///
/// # Security
///
/// `Debug` shows the label, the names of the parameters, and the overrides of the endpoint and the client. It does not show the values of parameters.
///
/// # Examples
///
/// ```
/// use tower_oauth2_client::DeviceAuthorizationRequest;
///
/// let request = DeviceAuthorizationRequest::new().scope("openid offline_access");
/// ```
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct DeviceAuthorizationRequest(Form);

impl DeviceAuthorizationRequest {
    /// Creates a request that contains only the client.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds words to the scope of the token ([RFC 6749 §3.3](https://www.rfc-editor.org/rfc/rfc6749#section-3.3)).
    ///
    /// It works like [`TokenRequest::scope`](crate::TokenRequest::scope). Many servers issue a refresh token only for the scope
    /// `offline_access`. Default is that the server decides.
    #[must_use]
    pub fn scope(mut self, scope: impl Into<Scope>) -> Self {
        self.0.add_scope(&scope.into());
        self
    }

    /// Adds a resource that the token is for, an absolute URI
    /// ([RFC 8707 §2](https://www.rfc-editor.org/rfc/rfc8707#section-2)).
    ///
    /// You can add several resources. Default is none.
    #[must_use]
    pub fn resource(self, resource: impl Into<String>) -> Self {
        self.push(Parameter::checked("resource", resource.into()).repeatable())
    }

    /// Adds a service that the token is for, identified by its name. You can add several audiences. Default is none.
    ///
    /// It is not in RFC 8628, but some servers need it.
    #[must_use]
    pub fn audience(self, audience: impl Into<String>) -> Self {
        self.push(Parameter::checked("audience", audience.into()).repeatable())
    }
}

parameter_setter!(DeviceAuthorizationRequest, 0);

client_request_setters!(
    DeviceAuthorizationRequest,
    "device authorization endpoint",
    "DeviceAuthorizationEndpoint",
    device_authorization_endpoint,
    0
);

impl fmt::Debug for DeviceAuthorizationRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let endpoint = "device_authorization_endpoint";
        self.0.fmt("DeviceAuthorizationRequest", endpoint, f)
    }
}
