//! `BackchannelAuthenticationRequest`: asks a user to approve something on a device of their own.

use std::{fmt, time::Duration};

use super::{
    Parameter, Scope,
    accessors::{client_request_setters, parameter_setter},
    form::Form,
};
use crate::secret::Credential;

/// A request to authenticate a user on a device of their own
/// ([OpenID Connect CIBA §7.1](https://openid.net/specs/openid-client-initiated-backchannel-authentication-core-1_0.html#auth_request)).
///
/// There is one constructor for each way to say who the user is. A request can be sent any number of times, and cloning is cheap. Building
/// a request never fails. If it is invalid (an empty hint, a parameter set twice with different values),
/// [`BackchannelAuthenticationEndpoint`](crate::BackchannelAuthenticationEndpoint) returns
/// [`TokenErrorKind::Request`](crate::TokenErrorKind::Request) before anything is sent.
///
/// Two requests are equal if they have the same parameters in the same order, the same headers and the same overrides.
/// A [label](Self::label) and a [context](Self::context) are not compared.
///
/// # Security
///
/// `Debug` shows the label, the names of the parameters, and the overrides of the endpoint and the client. It does not show the values of
/// parameters, which are about a person.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use tower_oauth2_client::BackchannelAuthenticationRequest;
///
/// let request = BackchannelAuthenticationRequest::login_hint("alice@example.com")
///     .scope("openid payments")
///     .binding_message("W4SCT")
///     .requested_expiry(Duration::from_secs(120));
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct BackchannelAuthenticationRequest(Form);

/// # Constructors, one for each way to say who the user is
impl BackchannelAuthenticationRequest {
    /// Asks for the user with this name, telephone number or other identifier, which the server defines.
    pub fn login_hint(hint: impl Into<Credential>) -> Self {
        Self(Form::default()).with("login_hint", hint)
    }

    /// Asks for the user that this token identifies. The server defines the form of the token.
    pub fn login_hint_token(token: impl Into<Credential>) -> Self {
        Self(Form::default()).with("login_hint_token", token)
    }

    /// Asks for the user of this ID token, which the server issued before.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_oauth2_client::{BackchannelAuthenticationRequest, IdToken};
    ///
    /// let earlier = IdToken::new("e30.e30.");
    /// let request = BackchannelAuthenticationRequest::id_token_hint(&earlier).scope("openid");
    /// ```
    pub fn id_token_hint(id_token: impl Into<Credential>) -> Self {
        Self(Form::default()).with("id_token_hint", id_token)
    }

    /// Sends a signed request, a JWT that you made and that contains all parameters
    /// ([CIBA §7.1.1](https://openid.net/specs/openid-client-initiated-backchannel-authentication-core-1_0.html#signed_auth_request)).
    ///
    /// This crate neither makes nor checks the JWT. Add no other parameters: the server ignores or refuses them.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_oauth2_client::BackchannelAuthenticationRequest;
    ///
    /// let request = BackchannelAuthenticationRequest::signed("eyJhbGciOiJFUzI1NiJ9.e30.c2ln");
    /// ```
    pub fn signed(request: impl Into<Credential>) -> Self {
        Self(Form::default()).with("request", request)
    }
}

/// # Parameters and headers
impl BackchannelAuthenticationRequest {
    /// Adds words to the scope of the token. Most servers require `openid`.
    ///
    /// It works like [`TokenRequest::scope`](crate::TokenRequest::scope). Default is none.
    #[must_use]
    pub fn scope(mut self, scope: impl Into<Scope>) -> Self {
        self.0.add_scope(&scope.into());
        self
    }

    /// Sets a text that both devices show, so that the user can compare them. Default is none.
    ///
    /// Servers limit its length and its characters, and answer a bad one with
    /// [`INVALID_BINDING_MESSAGE`](crate::ErrorCode::INVALID_BINDING_MESSAGE).
    #[must_use]
    pub fn binding_message(self, message: impl Into<String>) -> Self {
        self.with("binding_message", message.into())
    }

    /// Sets how long the user should have to decide, in whole seconds, rounded up. Default is that the server decides.
    #[must_use]
    pub fn requested_expiry(self, expiry: Duration) -> Self {
        let part = u64::from(expiry.subsec_nanos() > 0);
        let rounded_up = expiry.as_secs().saturating_add(part);
        self.with("requested_expiry", rounded_up.max(1).to_string())
    }

    /// Sets a secret that only the user and the server know, so that nobody else can start requests for the user. Default is none.
    #[must_use]
    pub fn user_code(self, user_code: impl Into<Credential>) -> Self {
        self.with("user_code", user_code)
    }

    /// Sets the authentication context classes that the client asks for, separated by spaces. Default is none.
    #[must_use]
    pub fn acr_values(self, acr_values: impl Into<String>) -> Self {
        self.with("acr_values", acr_values.into())
    }

    /// Adds a resource that the token is for, an absolute URI
    /// ([RFC 8707 §2](https://www.rfc-editor.org/rfc/rfc8707#section-2)).
    ///
    /// You can add several resources. Default is none.
    #[must_use]
    pub fn resource(self, resource: impl Into<String>) -> Self {
        self.push(Parameter::checked("resource", resource.into()).repeatable())
    }

    fn with(self, name: &'static str, value: impl Into<Credential>) -> Self {
        self.push(Parameter::checked(name, value))
    }
}

parameter_setter!(BackchannelAuthenticationRequest, 0);

client_request_setters!(
    BackchannelAuthenticationRequest,
    "backchannel authentication endpoint",
    "BackchannelAuthenticationEndpoint",
    backchannel_authentication_endpoint,
    0
);

impl fmt::Debug for BackchannelAuthenticationRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let endpoint = "backchannel_authentication_endpoint";
        self.0.fmt("BackchannelAuthenticationRequest", endpoint, f)
    }
}
