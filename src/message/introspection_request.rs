//! `IntrospectionRequest`: a token whose state is asked for.

use std::fmt;

use http::header::ACCEPT;

use super::{
    AccessToken, Parameter,
    accessors::{client_request_setters, parameter_setter},
    form::{Form, printable_names},
};
use crate::{base::uri::Printable, secret::Credential};

/// A request for the state of a token ([RFC 7662 §2.1](https://www.rfc-editor.org/rfc/rfc7662#section-2.1)).
///
/// A request can be sent any number of times, and cloning is cheap. Building a request never fails. If it is invalid (an empty token, a
/// parameter set twice with different values), [`IntrospectionEndpoint`](crate::IntrospectionEndpoint) returns
/// [`TokenErrorKind::Request`](crate::TokenErrorKind::Request) before anything is sent.
///
/// Two requests are equal if they have the same parameters in the same order, the same headers and the same overrides.
/// A [label](Self::label) and a [context](Self::context) are not compared.
///
/// # Security
///
/// `Debug` shows the hint, the names of the other parameters, and the overrides of the endpoint and the client. It does not show the
/// token.
///
/// # Examples
///
/// ```
/// use tower_oauth2_client::IntrospectionRequest;
///
/// let request = IntrospectionRequest::new("2YotnFZFEjr1zCsicMWpAA").token_type_hint("access_token");
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct IntrospectionRequest {
    form: Form,
    wants_jwt: bool,
    authorized_by: Option<AccessToken>,
}

impl IntrospectionRequest {
    /// Creates a request for the state of this token: an [`AccessToken`], a [`RefreshToken`](crate::RefreshToken), or its text.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_oauth2_client::{AccessToken, IntrospectionRequest, TokenType};
    ///
    /// let token = AccessToken::new("2YotnFZFEjr1zCsicMWpAA", TokenType::BEARER)?;
    /// let request = IntrospectionRequest::new(&token);
    /// assert_eq!(request, IntrospectionRequest::new("2YotnFZFEjr1zCsicMWpAA"));
    /// # Ok::<_, tower_oauth2_client::InvalidAccessToken>(())
    /// ```
    pub fn new(token: impl Into<Credential>) -> Self {
        let request = Self {
            form: Form::default(),
            wants_jwt: false,
            authorized_by: None,
        };
        request.push(Parameter::checked("token", token))
    }

    /// Tells the server which type of token this is: `access_token`, `refresh_token`, or another registered type
    /// ([RFC 7662 §2.1](https://www.rfc-editor.org/rfc/rfc7662#section-2.1)). Default is none.
    ///
    /// The hint only helps the server to find the token faster. Servers may ignore it, and look for other types if it is wrong.
    #[must_use]
    pub fn token_type_hint(self, hint: impl Into<String>) -> Self {
        self.push(Parameter::checked("token_type_hint", hint.into()))
    }

    /// Asks for a signed answer: a JWT ([RFC 9701 §4](https://www.rfc-editor.org/rfc/rfc9701#section-4)). Default is a JSON object.
    ///
    /// This crate does not verify the JWT, so it does not read it either:
    /// [`IntrospectionResponse::is_active`](crate::IntrospectionResponse::is_active) is `false`, and
    /// [`IntrospectionResponse::unverified_jwt`](crate::IntrospectionResponse::unverified_jwt) returns it. Verify it, and then read its
    /// claim `token_introspection`. A server that returns a JSON object nevertheless causes an error.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_oauth2_client::IntrospectionRequest;
    ///
    /// let request = IntrospectionRequest::new("2YotnFZFEjr1zCsicMWpAA").jwt_response();
    /// ```
    #[must_use]
    pub fn jwt_response(mut self) -> Self {
        if !self.wants_jwt {
            let media_type = "application/token-introspection+jwt";
            self.form.push_header(ACCEPT, media_type);
            self.wants_jwt = true;
        }
        self
    }

    /// Authorizes this request by an access token, which is sent in the header `Authorization`. Default is the client authentication of
    /// the [`IntrospectionEndpoint`](crate::IntrospectionEndpoint).
    ///
    /// Some servers authorize an API by a token that was issued to it
    /// ([RFC 7662 §2.1](https://www.rfc-editor.org/rfc/rfc7662#section-2.1)). The client of the endpoint is not used then. A token of the
    /// type `DPoP` needs its key, and is sent with a proof.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_oauth2_client::{AccessToken, IntrospectionRequest, TokenType};
    ///
    /// let own = AccessToken::new("23410913-abewfq.123483", TokenType::BEARER)?;
    /// let request = IntrospectionRequest::new("2YotnFZFEjr1zCsicMWpAA").authorized_by(&own);
    /// # Ok::<_, tower_oauth2_client::InvalidAccessToken>(())
    /// ```
    #[must_use]
    pub fn authorized_by(mut self, token: &AccessToken) -> Self {
        self.authorized_by = Some(token.clone());
        self
    }

    pub(crate) fn wants_jwt(&self) -> bool {
        self.wants_jwt
    }

    pub(crate) fn authorization(&self) -> Option<&AccessToken> {
        self.authorized_by.as_ref()
    }
}

parameter_setter!(IntrospectionRequest, form);

client_request_setters!(
    IntrospectionRequest,
    "introspection endpoint",
    "IntrospectionEndpoint",
    introspection_endpoint,
    form
);

/// The hints of RFC 7662 §2.1.
const HINTS: [&str; 2] = ["access_token", "refresh_token"];

impl fmt::Debug for IntrospectionRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let form = &self.form;
        let names = form.parameters().iter().map(|p| &*p.name);
        let others = names.filter(|name| !["token", "token_type_hint"].contains(name));
        // Any other hint may be the token, passed by mistake.
        let hint = form.known("token_type_hint");
        f.debug_struct("IntrospectionRequest")
            .field("token_type_hint", &hint.filter(|it| HINTS.contains(it)))
            .field("parameters", &printable_names(others))
            .field(
                "introspection_endpoint",
                &form.endpoint_override().map(Printable),
            )
            .field("client_authentication", &form.client_override())
            .finish_non_exhaustive()
    }
}
