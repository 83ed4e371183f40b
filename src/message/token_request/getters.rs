//! What can be read of a token request.

use http::{HeaderName, HeaderValue, Uri};

use super::{AccessToken, Parameter, TokenRequest};
use crate::client_authentication::ClientAuthentication;
#[cfg(feature = "dpop")]
use crate::dpop::DpopKey;

/// # Getters
///
/// For layers between a cache and an endpoint, for logs and for metrics. Each getter is named after its setter, with `get_`, as in
/// [`std::process::Command`].
///
/// **No getter returns a secret.** The value of a parameter is a secret in any of these cases:
///
/// 1. It was passed as a [`ClientSecret`](crate::ClientSecret), a [`RefreshToken`](crate::RefreshToken), an
///    [`IdToken`](crate::IdToken), an [`AccessToken`](crate::AccessToken) or a [`Credential`](crate::Credential), not as a plain string.
/// 2. It comes from a provider.
/// 3. The name of the parameter says so: `code`, `password`, `assertion`, `api_key`, `otp` and others, in any case.
///
/// The first two also hold for the scope. So a secret that was passed as a plain string, under a name that does not tell, can be read. Pass
/// it as a [`Credential::fixed`](crate::Credential::fixed). Requests are equal even if a value is a secret in one and not in the other; a
/// cache shows that of the request that came first.
impl TokenRequest {
    /// Returns the grant type, which a constructor has set.
    #[must_use]
    pub fn grant_type(&self) -> &str {
        self.0.known("grant_type").unwrap_or_default()
    }

    /// Returns the scope, unless it comes from a provider.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_oauth2_client::TokenRequest;
    ///
    /// let request = TokenRequest::client_credentials().scope("api:read").scope("api:write");
    /// assert_eq!(request.get_scope(), Some("api:read api:write"));
    /// ```
    #[must_use]
    pub fn get_scope(&self) -> Option<&str> {
        self.get_parameter("scope")
    }

    /// Iterates over the parameters in the order in which they are sent, with their names and values. A secret value is `None`.
    ///
    /// The first one is `grant_type`. What the client authentication and the [defaults](crate::TokenEndpoint::default_parameter) of the
    /// endpoint add is not among them.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_oauth2_client::{Credential, TokenRequest};
    ///
    /// let request = TokenRequest::password("johndoe", "A3ddj3w")
    ///     .parameter("tenant", "blue")
    ///     .parameter("account", Credential::fixed("4711"));
    /// let parameters: Vec<_> = request.get_parameters().collect();
    /// assert_eq!(parameters, [
    ///     ("grant_type", Some("password")),
    ///     ("username", Some("johndoe")),
    ///     ("password", None), // by its name
    ///     ("tenant", Some("blue")),
    ///     ("account", None), // as its caller says
    /// ]);
    /// ```
    pub fn get_parameters(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        self.0.readable_parameters()
    }

    /// Returns the value of the first parameter of this name. It is `None` if there is none, or if its value is a secret.
    #[must_use]
    pub fn get_parameter(&self, name: &str) -> Option<&str> {
        self.0.readable(name)
    }

    /// Iterates over the headers that this request adds. A sensitive value is `None`.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_oauth2_client::TokenRequest;
    ///
    /// let request = TokenRequest::client_credentials().header("x-region", "eu").header("x-api-key", "k");
    /// for (name, value) in request.get_headers() {
    ///     match name.as_str() {
    ///         "x-region" => assert_eq!(value.unwrap(), "eu"),
    ///         name => assert_eq!((name, value), ("x-api-key", None)),
    ///     }
    /// }
    /// ```
    pub fn get_headers(&self) -> impl Iterator<Item = (&HeaderName, Option<&HeaderValue>)> {
        self.0.readable_headers()
    }

    /// Returns the token endpoint that this request names, without user name, password and query, which may be secrets.
    #[must_use]
    pub fn get_token_endpoint(&self) -> Option<Uri> {
        self.0.readable_endpoint()
    }

    /// Returns the client that this request names: its [id](ClientAuthentication::client_id) and its
    /// [method](ClientAuthentication::method).
    #[must_use]
    pub fn get_client_authentication(&self) -> Option<&ClientAuthentication> {
        self.0.client_override()
    }

    /// Returns the id of the client that this request is sent as, if it is known.
    ///
    /// It is that of the [client](Self::client_authentication) or the parameter `client_id` of this request. If this request has neither, and
    /// comes from a cache, it is that of the endpoint: from the moment when the endpoint is called, in
    /// [`on_refresh_token`](crate::token_cache::TokenCacheBuilder::on_refresh_token) and in the layers that the request has passed.
    #[must_use]
    pub fn get_client_id(&self) -> Option<String> {
        let own = self.0.client_id().map(Into::into);
        own.or_else(|| Some(self.0.called()?.client_id.as_deref()?.into()))
    }

    /// Returns the host of the token endpoint, with its port if the URI names one, if it is known.
    ///
    /// It is that of the [token endpoint](Self::token_endpoint) of this request, or otherwise, like the
    /// [client id](Self::get_client_id), that of the endpoint which was called.
    #[must_use]
    pub fn get_host(&self) -> Option<String> {
        let called = self.0.called();
        let called = called.and_then(|called| Some(called.host.as_deref()?.into()));
        called.or_else(|| self.0.host().map(Into::into))
    }

    /// Returns the [label](Self::label).
    #[must_use]
    pub fn get_label(&self) -> Option<&str> {
        self.0.label()
    }

    /// Returns the [partition](Self::partition).
    #[must_use]
    pub fn get_partition(&self) -> Option<&str> {
        self.0.partition()
    }

    /// Returns the name of the [sign-in](Self::sign_in).
    #[must_use]
    pub fn get_sign_in(&self) -> Option<&str> {
        self.0.sign_in()
    }

    /// Returns whether the request contains a credential that the server accepts only once: a code, a device code, an `auth_req_id` or a
    /// refresh token.
    ///
    /// Such a request must not be sent again after a failure that does not tell whether the server accepted it, and the response to it
    /// must not be given to anybody else.
    #[must_use]
    pub fn carries_one_time_credential(&self) -> bool {
        self.0.parameters().iter().any(Parameter::is_one_time)
    }

    /// Returns whether the cache sends this request to get another token than this one.
    ///
    /// It is the token that the cache has had for this request: it is to be renewed, has expired, was refused by an API, or was discarded. A
    /// layer between a cache and an endpoint that keeps tokens must not answer with it.
    ///
    /// It is always `false` for a request that does not come from a cache, and for the first token of an entry.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_oauth2_client::{TokenRequest, TokenResponse};
    ///
    /// /// Returns whether a stored response answers this request.
    /// fn is_good_for(request: &TokenRequest, stored: &TokenResponse) -> bool {
    ///     !request.replaces(stored.access_token())
    /// }
    /// ```
    #[must_use]
    pub fn replaces(&self, token: &AccessToken) -> bool {
        self.0.replaced_token() == Some(token.mark())
    }

    /// Returns the context of this type; see [`context`](Self::context).
    #[must_use]
    pub fn get_context<T: Send + Sync + 'static>(&self) -> Option<&T> {
        self.0.context().get()
    }

    /// Returns the key to which this request asks the token to be bound.
    #[cfg(feature = "dpop")]
    #[cfg_attr(docsrs, doc(cfg(feature = "dpop")))]
    #[must_use]
    pub fn get_dpop(&self) -> Option<&DpopKey> {
        self.0.dpop_override()
    }
}
