//! `TokenRequest`: a grant, its parameters, and overrides of the token endpoint's settings.

mod copies;
mod getters;
mod grants;
mod overrides;

use std::{borrow::Cow, fmt, sync::Arc};

use http::{HeaderName, HeaderValue};

use super::{
    AccessToken, AuthorizationDetail, CalledSlot, Parameter, TokenMark,
    form::{Form, printable_names},
    scope::Scope,
};
use crate::{
    base::{Quoted, uri::Printable},
    error::{About, BoxError, CalledEndpoint},
    secret::{Credential, SharedRereads},
};

/// A request to a token endpoint
/// ([RFC 6749 §4](https://www.rfc-editor.org/rfc/rfc6749#section-4)).
///
/// There is one constructor for each grant. Setters add what the request asks for. A request can be sent any number of times, and
/// cloning is cheap.
///
/// Building a request never fails. If it is invalid (a parameter set twice with different values, an empty code),
/// [`TokenEndpoint`](crate::TokenEndpoint) returns [`TokenErrorKind::Request`](crate::TokenErrorKind::Request) before anything is sent.
///
/// Two requests are equal, and share a token in a [`TokenCache`](crate::TokenCache), if they have the same grant, the same parameters in
/// the same order, the same headers and the same overrides. The scope counts as one parameter, at the place of its first word. The order
/// of the words in it does not matter, nor does the order of headers with different names. A request that repeats a
/// parameter wrongly never equals one that may repeat it. Neither the [label](Self::label) nor the [context](Self::context) is compared. A
/// [partition](Self::partition) keeps requests apart that are otherwise equal.
///
/// # Security
///
/// `Debug` shows the label, the partition, the grant type, the names of the parameters, and the overrides of the token endpoint and the client. It does
/// not show the values of parameters. The [getters](#getters) return no secret.
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

/// # Parameters and headers
impl TokenRequest {
    /// Adds words to the scope of the token ([RFC 6749 §3.3](https://www.rfc-editor.org/rfc/rfc6749#section-3.3)).
    ///
    /// Pass a text with spaces between the words, a list of words, or a [`Scope`]. The words are sent in the order in which they were
    /// added, each once. To request another scope instead, start from a request without one. An empty scope is not sent. If a word
    /// contains a character that a scope must not contain, the request fails before anything is sent, with an error that names the
    /// character.
    ///
    /// This method also adds to a fixed text that was set with [`parameter`](Self::parameter), but not to the result of a provider: a
    /// request with both fails before anything is sent. Default is that the server decides.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_oauth2_client::TokenRequest;
    ///
    /// let request = TokenRequest::client_credentials().scope("api:read api:write");
    /// assert_eq!(request, TokenRequest::client_credentials().scope(["api:read", "api:write"]));
    /// assert_eq!(request, TokenRequest::client_credentials().scope("api:write").scope("api:read"));
    /// ```
    ///
    /// A scope for each tenant:
    ///
    /// ```
    /// use tower_oauth2_client::TokenRequest;
    ///
    /// let base = TokenRequest::client_credentials().resource("https://api.example/");
    /// let of_tenant = |tenant: &str| base.clone().scope(format!("tenant:{tenant}"));
    /// assert_ne!(of_tenant("blue"), of_tenant("red"));
    /// ```
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

    /// Adds a service that the token is for, identified by its name
    /// ([RFC 8693 §2.1](https://www.rfc-editor.org/rfc/rfc8693#section-2.1)).
    ///
    /// You can add several audiences. Default is none.
    #[must_use]
    pub fn audience(self, audience: impl Into<String>) -> Self {
        self.push(Parameter::checked("audience", audience.into()).repeatable())
    }

    /// Sets what the token permits, in more detail than a scope
    /// ([RFC 9396 §6](https://www.rfc-editor.org/rfc/rfc9396#section-6)). Default is none.
    ///
    /// [`TokenResponse::authorization_details`](crate::TokenResponse::authorization_details) returns what was granted.
    ///
    /// # Examples
    ///
    /// See [`AuthorizationDetail`].
    #[must_use]
    pub fn authorization_details(
        self,
        details: impl IntoIterator<Item = AuthorizationDetail>,
    ) -> Self {
        self.parameter(
            "authorization_details",
            AuthorizationDetail::write_all(details),
        )
    }

    /// Sets the PKCE code verifier ([RFC 7636 §4.5](https://www.rfc-editor.org/rfc/rfc7636#section-4.5)).
    ///
    /// It consists of 43 to 128 letters, digits and characters out of `-._~`. For a server that uses another form, set it with
    /// [`parameter`](Self::parameter). Default is none.
    #[must_use]
    pub fn code_verifier(self, code_verifier: impl Into<Credential>) -> Self {
        self.with("code_verifier", code_verifier)
    }

    /// Sets the token of the party that acts on behalf of the subject, in a token exchange
    /// ([RFC 8693 §2.1](https://www.rfc-editor.org/rfc/rfc8693#section-2.1)). Default is none.
    #[must_use]
    pub fn actor_token(
        self,
        actor_token: impl Into<Credential>,
        actor_token_type: impl Into<String>,
    ) -> Self {
        self.with("actor_token", actor_token)
            .with("actor_token_type", actor_token_type.into())
    }

    /// Sets the type of token to issue, in a token exchange
    /// ([RFC 8693 §2.1](https://www.rfc-editor.org/rfc/rfc8693#section-2.1)). Default is that the server decides.
    #[must_use]
    pub fn requested_token_type(self, requested_token_type: impl Into<String>) -> Self {
        self.with("requested_token_type", requested_token_type.into())
    }

    /// Sets another parameter.
    ///
    /// The value is sent as it is. A parameter that has a setter of its own is not checked here, except that one that a grant requires
    /// must not be empty. So this is the way to send, for example, a code verifier in another form than that of RFC 7636.
    ///
    /// An empty optional parameter is not sent, since it means the same
    /// ([RFC 6749 §3.2](https://www.rfc-editor.org/rfc/rfc6749#section-3.2)). A parameter that is set twice with the same value is sent
    /// once. If the values differ, the request fails before anything is sent.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_oauth2_client::TokenRequest;
    ///
    /// let request = TokenRequest::client_credentials().parameter("tenant", "blue");
    /// assert_eq!(request, request.clone().parameter("tenant", "blue").parameter("region", ""));
    /// ```
    #[doc(alias = "extra_param")]
    #[doc(alias = "add_extra_param")]
    #[must_use]
    pub fn parameter(
        self,
        name: impl Into<Cow<'static, str>>,
        value: impl Into<Credential>,
    ) -> Self {
        self.push(Parameter::general(name, value))
    }

    /// Adds another parameter, which can be set several times, also with the same value.
    ///
    /// An empty optional parameter is not sent. If a parameter that the RFCs allow only once is set twice, the request still fails before
    /// anything is sent.
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
        self.push(Parameter::general(name, value).repeatable())
    }

    /// Adds a header to the HTTP request. Default is none.
    ///
    /// You can add a header several times. If the name or the value is invalid, or if this crate sets the header itself, the request
    /// fails before anything is sent.
    ///
    /// A header whose name says that it is a secret (`auth`, `cookie`, `credential`, `dpop`, `jwt`, `key`, `password`, `secret`, `session`,
    /// `signature`, `token` and others, also as a part of a word) is marked [sensitive](HeaderValue::set_sensitive). Then neither `Debug` of
    /// the HTTP request nor [`get_headers`](Self::get_headers) shows its value. Mark the value of any other header that is a secret.
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

    /// Adds a parameter for a setter of its own.
    fn with(self, name: &'static str, value: impl Into<Credential>) -> Self {
        self.push(Parameter::checked(name, value))
    }

    fn push(mut self, parameter: Parameter) -> Self {
        self.0.push(parameter);
        self
    }
}

impl TokenRequest {
    /// Returns the value of a parameter, if it is a fixed string.
    pub(crate) fn known(&self, name: &str) -> Option<&str> {
        self.0.known(name)
    }

    /// Whether the request has a parameter of this name.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.parameters().iter().any(|p| p.name == name)
    }

    /// Sets a parameter, in place of the one that has this name. It is a secret if that was.
    pub(crate) fn replacing(self, name: &'static str, value: String) -> Self {
        let mut value = Credential::from(value);
        if let Some(old) = self.0.parameters().iter().find(|p| p.name == name) {
            value.hide_like(&old.value);
        }
        self.replace_parameter(name, value)
    }

    /// Returns this request with a place in which the endpoint notes who sends it, and to which host. It is neither sent nor compared.
    pub(crate) fn noting_endpoint(mut self, slot: &CalledSlot) -> Self {
        self.0.notes_mut().called = Some(slot.clone());
        self
    }

    /// Notes the token that the response to this request is to replace. It is neither sent nor compared.
    pub(crate) fn noting_replaced_token(mut self, token: Option<TokenMark>) -> Self {
        if token.is_some() {
            self.0.notes_mut().replaced = token;
        }
        self
    }

    /// Returns the id of the client, if the request names it.
    pub(crate) fn named_client_id(&self) -> Option<&str> {
        self.0.client_id()
    }

    /// Returns the host of the token endpoint, if the request names it.
    pub(crate) fn named_host(&self) -> Option<&str> {
        self.0.host()
    }

    /// Returns what the endpoint has [noted](Self::noting_endpoint).
    pub(crate) fn called(&self) -> Option<Arc<CalledEndpoint>> {
        self.0.called()
    }

    /// Returns whose token this is, for an error.
    pub(crate) fn about(&self, called: Option<&CalledEndpoint>) -> About {
        self.0.about(called)
    }

    /// Notes the request that this one asks for more than. It is neither sent nor compared.
    pub(crate) fn stepped_up_from(mut self, weaker: Self) -> Self {
        self.0.notes_mut().weaker = Some(weaker);
        self
    }

    /// Returns what [`stepped_up_from`](Self::stepped_up_from) noted.
    pub(crate) fn weaker(&self) -> Option<&Self> {
        self.0.weaker()
    }

    /// Returns the name of the first parameter with a credential that the server accepts only once.
    pub(crate) fn one_time_parameter(&self) -> Option<&str> {
        let one_time = self.0.parameters().iter().find(|p| p.is_one_time());
        one_time.map(|p| &*p.name)
    }

    /// Returns whether no credential that the server accepts only once comes from a provider.
    pub(crate) fn has_known_one_time_credential(&self) -> bool {
        let mut one_time = self.0.parameters().iter().filter(|p| p.is_one_time());
        one_time.all(|p| p.value.known().is_some())
    }

    /// Returns what is known of the second readings of the provider of a credential that the server accepts only once.
    pub(crate) fn one_time_rereads(&self) -> Option<&SharedRereads> {
        let mut one_time = self.0.parameters().iter().filter(|p| p.is_one_time());
        one_time.find_map(|p| p.value.rereads())
    }

    /// Returns this request with the text of a credential that the server accepts only once, obtained from its provider.
    pub(crate) async fn with_known_one_time_credential(&self) -> Result<Self, BoxError> {
        let mut request = self.clone();
        if !self.has_known_one_time_credential() {
            for parameter in request.0.parameters_mut() {
                if parameter.is_one_time() {
                    parameter.value = parameter.value.to_fixed().await?;
                }
            }
        }
        Ok(request)
    }

    /// Adds the parameters of `defaults` whose names this request does not have.
    ///
    /// With a code or a refresh token, no scope means the one that was granted (RFC 6749 §6), so a default could only narrow it.
    pub(crate) fn with_defaults(mut self, defaults: &[Parameter]) -> Self {
        if defaults.is_empty() {
            return self;
        }
        let is_granted = || self.one_time_parameter().is_some();
        let is_set = |name: &str| self.has(name) || (name == "scope" && is_granted());
        let missing = defaults.iter().filter(|default| !is_set(&default.name));
        for default in missing.cloned().collect::<Vec<_>>() {
            self.0.push(default);
        }
        self
    }

    #[cfg(feature = "token-store")]
    pub(crate) fn form(&self) -> &Form {
        &self.0
    }

    pub(crate) fn into_form(self) -> Form {
        self.0
    }
}

impl fmt::Debug for TokenRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.0.parameters().iter().skip(1).map(|p| &*p.name);
        let mut debug = f.debug_struct("TokenRequest");
        if let Some(label) = self.get_label() {
            debug.field("label", &Quoted(label));
        }
        if let Some(partition) = self.get_partition() {
            debug.field("partition", &Quoted(partition));
        }
        debug
            .field("grant_type", &Quoted(self.grant_type()))
            .field("parameters", &printable_names(names))
            .field("token_endpoint", &self.0.endpoint_override().map(Printable))
            .field("client_authentication", &self.0.client_override())
            .finish_non_exhaustive()
    }
}
