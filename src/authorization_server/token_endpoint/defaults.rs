//! The parameters that a token endpoint adds to requests that do not set them.

use std::borrow::Cow;

use super::service::TokenEndpoint;
use crate::{message::Parameter, secret::Credential};

impl<S, B> TokenEndpoint<S, B> {
    /// Adds a parameter to every request that does not set it. Default is none.
    ///
    /// Call it several times to set several parameters, or to repeat one: a request that sets a parameter of this name gets none of them. A
    /// scope is a default, too: `default_parameter("scope", "orders")`.
    ///
    /// A default is not a part of the key of a cache, because all tokens of a cache come through the same endpoint. It is added to refresh
    /// requests as well, except for the scope: a request with a code, a device code, an `auth_req_id` or a refresh token gets no default
    /// scope, because the user has granted one, and another could only narrow it
    /// ([RFC 6749 §6](https://www.rfc-editor.org/rfc/rfc6749#section-6)). The value may come from a provider, but must not be one that the server accepts only once, such as a code.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_oauth2_client::{ClientAuthentication, TokenEndpoint, TokenRequest};
    ///
    /// # fn example<S>(http: S) -> TokenEndpoint<S> {
    /// let client = ClientAuthentication::client_secret_basic("client", "secret");
    /// TokenEndpoint::new(http, "https://tenant.auth0.example/oauth/token", client)
    ///     .default_parameter("audience", "https://api.example/")
    /// # }
    /// # let client = TokenRequest::client_credentials(); // with the audience above
    /// # let other = TokenRequest::client_credentials().audience("https://other.example/"); // with this one alone
    /// ```
    #[must_use]
    pub fn default_parameter(
        mut self,
        name: impl Into<Cow<'static, str>>,
        value: impl Into<Credential>,
    ) -> Self {
        let default = Parameter::general(name, value).repeatable();
        self.defaults.push(default);
        self
    }
}
