//! `RevocationRequest`: a token that is to be revoked.

use std::fmt;

use super::{
    Parameter,
    accessors::{client_request_setters, parameter_setter},
    form::{Form, printable_names},
};
use crate::{
    base::{Quoted, uri::Printable},
    secret::Credential,
};

/// A request to revoke a token ([RFC 7009 §2.1](https://www.rfc-editor.org/rfc/rfc7009#section-2.1)).
///
/// A request can be sent any number of times, and cloning is cheap. Building a request never fails. If it is invalid (an empty token, a
/// parameter set twice with different values), [`RevocationEndpoint`](crate::RevocationEndpoint) returns
/// [`TokenErrorKind::Request`](crate::TokenErrorKind::Request) before anything is sent.
///
/// Two requests are equal if they have the same parameters in the same order, the same headers and the same overrides.
/// Neither the label nor the context is compared.
///
/// # Security
///
/// `Debug` shows the label, the hint, the names of the other parameters, and the overrides of the endpoint and the client. It does not show the
/// token.
///
/// # Examples
///
/// ```
/// use tower_oauth2_client::{RefreshToken, RevocationRequest};
///
/// let token = RefreshToken::new("45ghiukldjahdnhzdauz");
/// let request = RevocationRequest::new(&token).token_type_hint("refresh_token");
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct RevocationRequest(Form);

impl RevocationRequest {
    /// Creates a request to revoke this token: an [`AccessToken`](crate::AccessToken), a [`RefreshToken`](crate::RefreshToken), or its
    /// text.
    ///
    /// If a refresh token is revoked, the server also revokes the access tokens of the same grant, if it can
    /// ([RFC 7009 §2.1](https://www.rfc-editor.org/rfc/rfc7009#section-2.1)).
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_oauth2_client::{AccessToken, RevocationRequest, TokenType};
    ///
    /// let token = AccessToken::new("2YotnFZFEjr1zCsicMWpAA", TokenType::BEARER)?;
    /// let request = RevocationRequest::new(&token);
    /// assert_eq!(request, RevocationRequest::new("2YotnFZFEjr1zCsicMWpAA"));
    /// # Ok::<_, tower_oauth2_client::InvalidAccessToken>(())
    /// ```
    pub fn new(token: impl Into<Credential>) -> Self {
        Self(Form::default()).push(Parameter::checked("token", token))
    }

    /// Tells the server which type of token this is: `access_token`, `refresh_token`, or another registered type
    /// ([RFC 7009 §2.1](https://www.rfc-editor.org/rfc/rfc7009#section-2.1)). Default is none.
    ///
    /// The hint only helps the server to find the token faster. Servers may ignore it, and look for other types if it is wrong.
    #[must_use]
    pub fn token_type_hint(self, hint: impl Into<String>) -> Self {
        self.push(Parameter::checked("token_type_hint", hint.into()))
    }
}

parameter_setter!(RevocationRequest, 0);

client_request_setters!(
    RevocationRequest,
    "revocation endpoint",
    "RevocationEndpoint",
    revocation_endpoint,
    0
);

/// The hints of RFC 7009 §2.1.
const HINTS: [&str; 2] = ["access_token", "refresh_token"];

impl fmt::Debug for RevocationRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.0.parameters().iter().map(|p| &*p.name);
        let others = names.filter(|name| !["token", "token_type_hint"].contains(name));
        let mut debug = f.debug_struct("RevocationRequest");
        if let Some(label) = self.get_label() {
            debug.field("label", &Quoted(label));
        }
        debug
            .field(
                "token_type_hint",
                // Any other hint may be the token, passed by mistake.
                &self
                    .0
                    .known("token_type_hint")
                    .filter(|hint| HINTS.contains(hint)),
            )
            .field("parameters", &printable_names(others))
            .field(
                "revocation_endpoint",
                &self.0.endpoint_override().map(Printable),
            )
            .field("client_authentication", &self.0.client_override())
            .finish_non_exhaustive()
    }
}
