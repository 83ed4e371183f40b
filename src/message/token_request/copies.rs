//! Copies of a base request that differ from it: setters that replace.

use std::borrow::Cow;

use http::{HeaderName, HeaderValue};

use super::TokenRequest;
use crate::{
    message::{Parameter, scope::Scope},
    secret::Credential,
};

/// # Changing a copy of a base request
///
/// Setters add, and a parameter that is set twice with different values is an error. These methods replace instead. The other overrides
/// (client, endpoint, label, context) always replace.
///
/// # Examples
///
/// ```
/// use tower_oauth2_client::TokenRequest;
///
/// let base = TokenRequest::client_credentials().scope("read").parameter("tenant", "default");
/// let blue = base.clone().replace_parameter("tenant", "blue").label("blue");
///
/// let same = TokenRequest::client_credentials().scope("read").parameter("tenant", "blue");
/// assert_eq!(blue, same);
/// ```
impl TokenRequest {
    /// Sets several parameters, each like [`parameter`](Self::parameter).
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_oauth2_client::TokenRequest;
    ///
    /// let request = TokenRequest::client_credentials().parameters([("tenant", "blue"), ("region", "eu")]);
    /// assert_eq!(request.get_parameter("region"), Some("eu"));
    /// ```
    #[must_use]
    pub fn parameters<N, V>(self, parameters: impl IntoIterator<Item = (N, V)>) -> Self
    where
        N: Into<Cow<'static, str>>,
        V: Into<Credential>,
    {
        let parameters = parameters.into_iter();
        parameters.fold(self, |request, (name, value)| {
            request.parameter(name, value)
        })
    }

    /// Sets a parameter in place of all that have this name, at the place of the first one.
    ///
    /// If there is none, it is added. An empty optional parameter is not sent, so an empty value removes it.
    #[must_use]
    pub fn replace_parameter(
        mut self,
        name: impl Into<Cow<'static, str>>,
        value: impl Into<Credential>,
    ) -> Self {
        self.0.replace(Parameter::general(name, value));
        self
    }

    /// Sets the scope in place of the one that was set. An empty scope removes it.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_oauth2_client::TokenRequest;
    ///
    /// let base = TokenRequest::client_credentials().scope("read write");
    /// assert_eq!(base.clone().replace_scope("read").get_scope(), Some("read"));
    /// assert_eq!(base.replace_scope("").get_scope(), None);
    /// ```
    #[must_use]
    pub fn replace_scope(self, scope: impl Into<Scope>) -> Self {
        self.replace_parameter("scope", scope.into().as_str())
    }

    /// Sets a header in place of all that have this name. If there is none, it is added.
    ///
    /// What [`header`](Self::header) says of invalid and of sensitive headers holds here as well.
    #[must_use]
    pub fn replace_header<K, V>(mut self, name: K, value: V) -> Self
    where
        K: TryInto<HeaderName>,
        V: TryInto<HeaderValue>,
    {
        self.0.replace_header(name, value);
        self
    }
}
