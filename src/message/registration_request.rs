//! `RegistrationRequest`: a client that is to be registered.

use std::fmt;

use super::{AccessToken, Form, accessors::request_setters, client_metadata::ClientMetadata};
use crate::base::uri::Printable;

/// A request to register a client ([RFC 7591 §3.1](https://www.rfc-editor.org/rfc/rfc7591#section-3.1)).
///
/// Cloning is cheap. Building a request never fails. If the metadata is invalid, [`RegistrationEndpoint`](crate::RegistrationEndpoint)
/// returns [`TokenErrorKind::Request`](crate::TokenErrorKind::Request) before anything is sent.
///
/// # Security
///
/// `Debug` shows the names of the metadata's members. It does not show the initial access token.
///
/// # Examples
///
/// ```
/// use tower_oauth2_client::{ClientMetadata, RegistrationRequest};
///
/// let metadata = ClientMetadata::new()
///     .client_name("My CLI")
///     .redirect_uri("http://127.0.0.1/callback")
///     .token_endpoint_auth_method("none");
/// let request = RegistrationRequest::new(metadata);
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct RegistrationRequest {
    form: Form,
    metadata: ClientMetadata,
    initial_access_token: Option<AccessToken>,
}

impl RegistrationRequest {
    /// Creates a request to register a client with this metadata.
    #[must_use]
    pub fn new(metadata: ClientMetadata) -> Self {
        let mut form = Form::default();
        if let Err(why) = metadata.check() {
            form.refuse(why);
        }
        Self {
            form,
            metadata,
            initial_access_token: None,
        }
    }

    /// Sets the access token that allows the client to register
    /// ([RFC 7591 §1.2](https://www.rfc-editor.org/rfc/rfc7591#section-1.2)). Default is none: many servers register anybody.
    ///
    /// It is sent in the header `Authorization`. A token of the type `DPoP` needs its key, and is sent with a proof.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_oauth2_client::{AccessToken, ClientMetadata, RegistrationRequest, TokenType};
    ///
    /// let token = AccessToken::new("ey23f2.adfj230.af32", TokenType::BEARER)?;
    /// let request = RegistrationRequest::new(ClientMetadata::new()).initial_access_token(&token);
    /// # Ok::<_, tower_oauth2_client::InvalidAccessToken>(())
    /// ```
    #[must_use]
    pub fn initial_access_token(mut self, token: &AccessToken) -> Self {
        self.initial_access_token = Some(token.clone());
        self
    }

    pub(crate) fn authorization(&self) -> Option<&AccessToken> {
        self.initial_access_token.as_ref()
    }

    pub(crate) fn metadata(&self) -> &ClientMetadata {
        &self.metadata
    }
}

request_setters!(
    RegistrationRequest,
    "registration endpoint",
    "RegistrationEndpoint",
    registration_endpoint,
    form
);

impl fmt::Debug for RegistrationRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let endpoint = self.form.endpoint_override().map(Printable);
        f.debug_struct("RegistrationRequest")
            .field("metadata", &self.metadata)
            .field("registration_endpoint", &endpoint)
            .finish_non_exhaustive()
    }
}
