//! `TokenRequest`: a grant, its parameters, and overrides of the token endpoint's settings.

mod grants;
mod overrides;

use std::{
    borrow::Cow,
    fmt,
    hash::{Hash, Hasher},
    sync::{Arc, LazyLock},
    time::Duration,
};

use http::{Extensions, HeaderMap, HeaderName, HeaderValue, Uri};

use crate::{
    base::uri::Printable,
    client_authentication::ClientAuthentication,
    dpop::DpopKey,
    error::BoxError,
    message::scope::{self, Scope},
    secret::{Credential, Secret},
};

/// A request to a token endpoint
/// ([RFC 6749 §4](https://www.rfc-editor.org/rfc/rfc6749#section-4)).
///
/// There is one constructor for each grant. Setters add what the request asks for. A request can be sent any number of times, and
/// cloning is cheap.
///
/// Building a request never fails. If it is invalid (a parameter set twice, an empty code),
/// [`TokenEndpoint`](crate::TokenEndpoint) returns [`TokenErrorKind::Request`](crate::TokenErrorKind::Request) before anything is sent.
///
/// Two requests are equal if they have the same grant, the same parameters in the same order, the same headers and the same overrides.
/// The order of the words in `scope` does not matter. [Extensions](Self::extensions) are not compared.
///
/// # Security
///
/// `Debug` shows the grant type, the names of the parameters, and the overrides of the token endpoint and the client. It does not show
/// the values of parameters.
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
#[derive(Clone)]
pub struct TokenRequest(Arc<Inner>);

#[derive(Clone)]
struct Inner {
    parameters: Vec<Parameter>,
    /// Boxed, because most requests have none and a cache holds many requests.
    extras: Option<Box<Extras>>,
}

/// Everything in a request except its parameters.
#[derive(Clone, Default)]
struct Extras {
    headers: HeaderMap,
    token_endpoint: Option<Uri>,
    client_authentication: Option<ClientAuthentication>,
    dpop: Option<DpopKey>,
    polling_interval: Option<Duration>,
    extensions: Extensions,
    invalid: Option<String>,
}

/// A name and value in the form body.
#[derive(Clone)]
pub(crate) struct Parameter {
    pub(crate) name: Cow<'static, str>,
    pub(crate) value: Credential,
    pub(crate) repeatable: bool,
}

/// # Parameters and headers
impl TokenRequest {
    /// Sets the scope of the token ([RFC 6749 §3.3](https://www.rfc-editor.org/rfc/rfc6749#section-3.3)).
    ///
    /// Pass all words in one call: like any other parameter, the scope must not be set twice. An empty scope is ignored. Default is that
    /// the server decides.
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

    /// Adds a resource that the token is for, an absolute URI
    /// ([RFC 8707 §2](https://www.rfc-editor.org/rfc/rfc8707#section-2)).
    ///
    /// You can add several resources. Default is none.
    #[must_use]
    pub fn resource(self, resource: impl Into<String>) -> Self {
        self.with_repeatable("resource", resource.into())
    }

    /// Adds a service that the token is for, identified by its name
    /// ([RFC 8693 §2.1](https://www.rfc-editor.org/rfc/rfc8693#section-2.1)).
    ///
    /// You can add several audiences. Default is none.
    #[must_use]
    pub fn audience(self, audience: impl Into<String>) -> Self {
        self.with_repeatable("audience", audience.into())
    }

    /// Sets the PKCE code verifier ([RFC 7636 §4.5](https://www.rfc-editor.org/rfc/rfc7636#section-4.5)).
    ///
    /// It consists of 43 to 128 letters, digits and characters out of `-._~`. Default is none.
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
    /// If a parameter is set twice, the request fails before anything is sent
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

    /// Adds another parameter, which can be set several times.
    ///
    /// If a parameter that the RFCs allow only once is set twice, the request still fails before anything is sent.
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

    /// Adds a header to the HTTP request. Default is none.
    ///
    /// You can add a header several times. If the name or the value is invalid, or if this crate sets the header itself, the request
    /// fails before anything is sent. `authorization`, `cookie` and `proxy-authorization` are marked sensitive.
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
        let extras = self.extras_mut();
        let invalid = match name.try_into() {
            Ok(name) => match value.try_into() {
                Ok(value) => {
                    extras.headers.append(name, value);
                    return self;
                }
                Err(_) => format!("the value of the header `{name}` is invalid"),
            },
            Err(_) => "the name of a header is invalid".to_owned(),
        };
        extras.invalid.get_or_insert(invalid);
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
        let parameters = &mut Arc::make_mut(&mut self.0).parameters;
        // A request has few parameters, and a cache may hold many requests.
        parameters.reserve_exact(1);
        parameters.push(Parameter {
            name,
            value,
            repeatable,
        });
        self
    }
}

impl TokenRequest {
    /// Returns the grant type.
    #[must_use]
    pub fn grant_type(&self) -> &str {
        self.known("grant_type").unwrap_or_default()
    }

    fn extras(&self) -> &Extras {
        static NOTHING: LazyLock<Extras> = LazyLock::new(Extras::default);
        self.0.extras.as_deref().unwrap_or_else(|| &NOTHING)
    }

    fn extras_mut(&mut self) -> &mut Extras {
        Arc::make_mut(&mut self.0).extras.get_or_insert_default()
    }

    /// Returns the scope for logs, if it is a fixed string.
    pub(crate) fn known_scope(&self) -> Option<&str> {
        self.known("scope")
    }

    /// Returns the value of a parameter, if it is a fixed string.
    pub(crate) fn known(&self, name: &str) -> Option<&str> {
        let parameter = self.0.parameters.iter().find(|p| p.name == name)?;
        parameter.value.known().map(|secret| secret.expose())
    }

    /// Whether the request contains a credential that the server accepts only once.
    ///
    /// Such a credential must not be sent again after a failure that does not tell whether the server accepted it.
    pub(crate) fn carries_one_time_credential(&self) -> bool {
        self.0.parameters.iter().any(Parameter::is_one_time)
    }

    /// Returns whether no credential that the server accepts only once comes from a provider.
    pub(crate) fn has_known_one_time_credential(&self) -> bool {
        let mut one_time = self.0.parameters.iter().filter(|p| p.is_one_time());
        one_time.all(|p| p.value.known().is_some())
    }

    /// Returns this request with the text of a credential that the server accepts only once, obtained from its provider.
    pub(crate) async fn with_known_one_time_credential(&self) -> Result<Self, BoxError> {
        let mut request = self.clone();
        if !self.has_known_one_time_credential() {
            for parameter in &mut Arc::make_mut(&mut request.0).parameters {
                if parameter.is_one_time() {
                    parameter.value = parameter.value.to_fixed().await?;
                }
            }
        }
        Ok(request)
    }

    pub(crate) fn parameters(&self) -> &[Parameter] {
        &self.0.parameters
    }

    pub(crate) fn headers(&self) -> &HeaderMap {
        &self.extras().headers
    }

    /// Returns the error of the first setter that was passed an invalid value.
    pub(crate) fn invalid(&self) -> Option<&str> {
        self.extras().invalid.as_deref()
    }
}

impl fmt::Debug for TokenRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.0.parameters.iter().skip(1).map(|p| &*p.name).collect();
        f.debug_struct("TokenRequest")
            .field("grant_type", &self.grant_type())
            .field("parameters", &names)
            .field(
                "token_endpoint",
                &self.extras().token_endpoint.as_ref().map(Printable),
            )
            .field(
                "client_authentication",
                &self.extras().client_authentication,
            )
            .finish_non_exhaustive()
    }
}

impl PartialEq for TokenRequest {
    fn eq(&self, other: &Self) -> bool {
        let (a, b) = (self.extras(), other.extras());
        Arc::ptr_eq(&self.0, &other.0)
            || (self.0.parameters == other.0.parameters
                && a.headers == b.headers
                && a.token_endpoint == b.token_endpoint
                && a.client_authentication == b.client_authentication
                && a.dpop == b.dpop
                && a.invalid == b.invalid)
    }
}

impl Eq for TokenRequest {}

impl Hash for TokenRequest {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.parameters.hash(state);
        self.extras().token_endpoint.hash(state);
        self.extras().client_authentication.hash(state);
        self.extras().dpop.hash(state);
    }
}

impl Parameter {
    /// Returns whether this is a credential that the server accepts only once.
    fn is_one_time(&self) -> bool {
        const ONE_TIME: [&str; 4] = ["code", "refresh_token", "device_code", "auth_req_id"];
        ONE_TIME.contains(&&*self.name)
    }

    /// Returns the value if this is a fixed scope, which is compared as a set of words.
    fn scope(&self) -> Option<&str> {
        match &*self.name {
            "scope" => self.value.known().map(Secret::expose),
            _ => None,
        }
    }
}

impl PartialEq for Parameter {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
            && match (self.scope(), other.scope()) {
                (Some(a), Some(b)) => scope::is_same(a, b),
                _ => self.value == other.value,
            }
    }
}

impl Eq for Parameter {}

impl Hash for Parameter {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
        match self.scope() {
            Some(scope) => scope::hash(scope, state),
            None => self.value.hash(state),
        }
    }
}
