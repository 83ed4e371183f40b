//! What to ask a token endpoint for: a grant, its parameters, and what one request does differently.

mod grants;
mod overrides;

use std::{borrow::Cow, fmt};

use http::{HeaderName, HeaderValue};

use super::{form::Form, scope::Scope};
use crate::{base::uri::Printable, secret::Credential};

/// A request to a token endpoint
/// ([RFC 6749 §4](https://www.rfc-editor.org/rfc/rfc6749#section-4)): a constructor per grant, then what it asks for.
///
/// It can be sent any number of times, and cloning is cheap. Nothing fails while it is built: what is wrong with it (a
/// parameter set twice, an empty code) is said by the token endpoint, with
/// [`TokenErrorKind::Request`](crate::TokenErrorKind::Request), before anything is sent.
///
/// Two requests are equal when they would ask for the same thing: the same grant, parameters in the same order, headers and
/// overrides, where the order of the words in `scope` does not matter. [Extensions](Self::extensions) are not compared.
///
/// # Security
///
/// `Debug` shows the grant type and the names of the parameters, no values.
///
/// # Examples
///
/// ```
/// use tower_oauth2_client::TokenRequest;
///
/// let request = TokenRequest::client_credentials()
///     .scope("api:read api:write")
///     .resource("https://api.example/")
///     .parameter("tenant", "blue");
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct TokenRequest(Form);

/// # What the request asks for
impl TokenRequest {
    /// What the token is to be good for, all words in one scope
    /// ([RFC 6749 §3.3](https://www.rfc-editor.org/rfc/rfc6749#section-3.3)); a second one is refused, as any other
    /// parameter is. Default is that the server decides; an empty scope is the same.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_oauth2_client::TokenRequest;
    ///
    /// let request = TokenRequest::client_credentials().scope("api:read api:write");
    /// assert_eq!(request, TokenRequest::client_credentials().scope("api:write api:read"));
    /// ```
    #[must_use]
    pub fn scope(self, scope: impl Into<Scope>) -> Self {
        let scope = scope.into();
        if scope.iter().next().is_none() {
            return self;
        }
        self.with("scope", scope.as_str())
    }

    /// A resource that the token is for, an absolute URI; may be set several times
    /// ([RFC 8707 §2](https://www.rfc-editor.org/rfc/rfc8707#section-2)). Default is none.
    #[must_use]
    pub fn resource(self, resource: impl Into<String>) -> Self {
        self.with_repeatable("resource", resource.into())
    }

    /// A service that the token is for, by its name; may be set several times
    /// ([RFC 8693 §2.1](https://www.rfc-editor.org/rfc/rfc8693#section-2.1)). Default is none.
    #[must_use]
    pub fn audience(self, audience: impl Into<String>) -> Self {
        self.with_repeatable("audience", audience.into())
    }

    /// The verifier of PKCE ([RFC 7636 §4.5](https://www.rfc-editor.org/rfc/rfc7636#section-4.5)): 43 to 128 characters
    /// out of letters, digits and `-._~`. Default is none.
    #[must_use]
    pub fn code_verifier(self, code_verifier: impl Into<Credential>) -> Self {
        self.with("code_verifier", code_verifier)
    }

    /// Who acts on behalf of the subject, in a token exchange
    /// ([RFC 8693 §2.1](https://www.rfc-editor.org/rfc/rfc8693#section-2.1)). Default is nobody.
    #[must_use]
    pub fn actor_token(
        self,
        actor_token: impl Into<Credential>,
        actor_token_type: impl Into<String>,
    ) -> Self {
        self.with("actor_token", actor_token)
            .with("actor_token_type", actor_token_type.into())
    }

    /// Which type of token to issue, in a token exchange
    /// ([RFC 8693 §2.1](https://www.rfc-editor.org/rfc/rfc8693#section-2.1)). Default is that the server decides.
    #[must_use]
    pub fn requested_token_type(self, requested_token_type: impl Into<String>) -> Self {
        self.with("requested_token_type", requested_token_type.into())
    }

    /// Any other parameter. One that is set twice is refused before anything is sent
    /// ([RFC 6749 §3.2](https://www.rfc-editor.org/rfc/rfc6749#section-3.2)).
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_oauth2_client::TokenRequest;
    ///
    /// let request = TokenRequest::client_credentials().parameter("tenant", "blue");
    /// ```
    #[must_use]
    pub fn parameter(
        self,
        name: impl Into<Cow<'static, str>>,
        value: impl Into<Credential>,
    ) -> Self {
        self.with(name, value)
    }

    /// Any other parameter, which may be set several times. A parameter that the RFCs allow once is still refused when
    /// it stands twice.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_oauth2_client::TokenRequest;
    ///
    /// let request = TokenRequest::client_credentials()
    ///     .repeated_parameter("role", "reader")
    ///     .repeated_parameter("role", "writer");
    /// ```
    #[must_use]
    pub fn repeated_parameter(
        self,
        name: impl Into<Cow<'static, str>>,
        value: impl Into<Credential>,
    ) -> Self {
        self.with_repeatable(name, value)
    }

    /// A header of the HTTP request, beside those that the token endpoint sets itself; may be set several times. Default is
    /// none.
    ///
    /// An invalid name or value, and a header that this crate sets itself, are refused before anything is sent.
    /// `authorization`, `cookie` and `proxy-authorization` are marked sensitive.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_oauth2_client::TokenRequest;
    ///
    /// let request = TokenRequest::client_credentials().header("x-request-id", "42");
    /// ```
    #[must_use]
    pub fn header<K, V>(mut self, name: K, value: V) -> Self
    where
        K: TryInto<HeaderName>,
        V: TryInto<HeaderValue>,
    {
        self.0.push_header(name, value);
        self
    }

    fn with(self, name: impl Into<Cow<'static, str>>, value: impl Into<Credential>) -> Self {
        self.push(name.into(), value.into(), false)
    }

    fn with_repeatable(
        self,
        name: impl Into<Cow<'static, str>>,
        value: impl Into<Credential>,
    ) -> Self {
        self.push(name.into(), value.into(), true)
    }

    fn push(mut self, name: Cow<'static, str>, value: Credential, repeatable: bool) -> Self {
        self.0.push(name, value, repeatable);
        self
    }
}

impl TokenRequest {
    /// The type of the grant.
    #[must_use]
    pub fn grant_type(&self) -> &str {
        self.0.known("grant_type").unwrap_or_default()
    }

    /// The scope, if it is a fixed text, for those who read a log.
    pub(crate) fn known_scope(&self) -> Option<&str> {
        self.0.known("scope")
    }

    /// Whether it carries a credential that the server takes once, and that must not be sent again after a failure which
    /// leaves open whether it was taken.
    pub(crate) fn carries_one_time_credential(&self) -> bool {
        const ONE_TIME: [&str; 4] = ["code", "refresh_token", "device_code", "auth_req_id"];
        let mut parameters = self.0.parameters().iter();
        parameters.any(|p| ONE_TIME.contains(&&*p.name))
    }

    pub(crate) fn into_form(self) -> Form {
        self.0
    }
}

impl fmt::Debug for TokenRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self
            .0
            .parameters()
            .iter()
            .skip(1)
            .map(|p| &*p.name)
            .collect();
        f.debug_struct("TokenRequest")
            .field("grant_type", &self.grant_type())
            .field("parameters", &names)
            .field("token_endpoint", &self.0.endpoint_override().map(Printable))
            .field("client_authentication", &self.0.client_override())
            .finish_non_exhaustive()
    }
}
