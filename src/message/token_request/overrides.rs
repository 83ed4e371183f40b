//! The settings of a single request that override those of the token endpoint or the cache.

use std::{borrow::Cow, fmt, sync::Arc, time::Duration};

use super::TokenRequest;
use crate::{
    client_authentication::ClientAuthentication,
    dpop::DpopKey,
    message::{IdTokenChecks, PollingTerms},
};

/// # Overrides for this request
impl TokenRequest {
    /// Sends this request to another token endpoint. Default is the URI of the [`TokenEndpoint`](crate::TokenEndpoint).
    ///
    /// It takes the URI as a `&str`, a `String`, a `Uri`, a `Url`, or anything else that prints it. If the URI is invalid, the request
    /// fails before anything is sent.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_oauth2_client::{ClientAuthentication, TokenRequest};
    ///
    /// let request = TokenRequest::client_credentials()
    ///     .token_endpoint("https://blue.example/token")
    ///     .client_authentication(ClientAuthentication::client_secret_basic("blue", "secret"));
    /// ```
    #[must_use]
    pub fn token_endpoint(mut self, uri: impl fmt::Display) -> Self {
        self.0.set_endpoint("token endpoint", uri);
        self
    }

    /// Sends this request as another client. Default is the client of the [`TokenEndpoint`](crate::TokenEndpoint).
    ///
    /// Use it where each tenant has a client of its own. If every request names its client, give the endpoint
    /// [`ClientAuthentication::anonymous`]: a request that names none then authenticates as nobody, and not as somebody else.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_oauth2_client::{ClientAuthentication, ClientSecret, TokenCache, TokenRequest, TokenSources};
    ///
    /// struct Tenant {
    ///     client_id: String,
    ///     secret: ClientSecret,
    ///     scope: String,
    /// }
    ///
    /// fn sources(tokens: &TokenCache, tenant: impl Fn(&str) -> Tenant + Send + Sync + 'static) -> TokenSources<String> {
    ///     tokens.sources_by(move |id: &String| {
    ///         let tenant = tenant(id);
    ///         let client = ClientAuthentication::client_secret_basic(tenant.client_id, tenant.secret);
    ///         TokenRequest::client_credentials()
    ///             .client_authentication(client)
    ///             .scope(tenant.scope)
    ///             .label(id) // the logs, the errors and `TokenCache::status` say whose token it is
    ///     })
    /// }
    /// ```
    #[must_use]
    pub fn client_authentication(mut self, client: ClientAuthentication) -> Self {
        self.0.extras_mut().client_authentication = Some(Box::new(client));
        self
    }

    /// Sets the minimum time between two requests while the user has not decided.
    ///
    /// Pass the `interval` from the response that contained the device code
    /// ([RFC 8628 §3.2](https://www.rfc-editor.org/rfc/rfc8628#section-3.2)) or the `auth_req_id`.
    /// [`DeviceAuthorizationResponse::token_request`](crate::DeviceAuthorizationResponse::token_request) has set it already. Less than one
    /// second counts as one second. The interval is ignored when requests are compared. Default is 5 seconds.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower_oauth2_client::TokenRequest;
    ///
    /// let request = TokenRequest::device_code("GmRhmhcxhwAzkoEqiMEg_DnyEysNkuNhszIySk9eS")
    ///     .polling_interval(Duration::from_secs(10));
    /// ```
    #[must_use]
    pub fn polling_interval(mut self, interval: Duration) -> Self {
        self.0.extras_mut().polling.get_or_insert_default().interval = Some(interval);
        self
    }

    /// Requests a token that is bound to this key ([RFC 9449 §5](https://www.rfc-editor.org/rfc/rfc9449#section-5)).
    ///
    /// A cache stores one token for each key. Default is the key of the [`TokenEndpoint`](crate::TokenEndpoint).
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_oauth2_client::{DpopKey, TokenRequest};
    ///
    /// # fn main() -> Result<(), tower_oauth2_client::jwt::InvalidKey> {
    /// let request = TokenRequest::client_credentials().dpop(DpopKey::generate()?);
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(feature = "dpop")]
    #[cfg_attr(docsrs, doc(cfg(feature = "dpop")))]
    #[must_use]
    pub fn dpop(mut self, key: DpopKey) -> Self {
        self.0.extras_mut().dpop = Some(key);
        self
    }

    /// Checks the ID token in the response, if there is one. Default is that it is not checked.
    ///
    /// If it does not pass, the request fails. The checks are ignored when requests are compared, and do not apply to later renewals.
    ///
    /// # Examples
    ///
    /// See [`IdTokenChecks`].
    #[must_use]
    pub fn id_token_checks(mut self, checks: IdTokenChecks) -> Self {
        self.0.extras_mut().id_token_checks = Some(Arc::new(checks));
        self
    }

    /// Sets a name for logs, metrics and the status of a cache: whose token this is. Default is none.
    ///
    /// It appears in `Debug`, in the events and the status of a cache, and in errors, so it must not be a secret. It is not sent.
    ///
    /// It is not a part of the key of a cache: requests that differ only in their labels are equal and share a token. The cache then uses the
    /// label of the request that came first.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_oauth2_client::TokenRequest;
    ///
    /// let request = TokenRequest::client_credentials().scope("orders").label("orders of tenant blue");
    /// assert_eq!(request.get_label(), Some("orders of tenant blue"));
    /// assert_eq!(request, TokenRequest::client_credentials().scope("orders"));
    /// ```
    #[must_use]
    pub fn label<'a>(mut self, label: impl Into<Cow<'a, str>>) -> Self {
        self.0.extras_mut().label = Some(label.into().into());
        self
    }

    /// Keeps the token of this request apart from those of equal requests in other partitions. Default is none.
    ///
    /// It is a part of the key of a cache, and is not sent. Set it if layers below the cache treat equal requests differently: if they choose
    /// the authorization server by the tenant, for example. Layers read it with [`get_partition`](Self::get_partition), so what they choose
    /// by is always a part of the key. It appears in `Debug`, so it must not be a secret.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_oauth2_client::TokenRequest;
    ///
    /// let base = TokenRequest::client_credentials().scope("orders");
    /// let blue = base.clone().partition("blue");
    /// assert_eq!(blue.get_partition(), Some("blue"));
    /// assert_ne!(blue, base.partition("red"));
    /// ```
    #[must_use]
    pub fn partition(mut self, partition: impl Into<String>) -> Self {
        self.0.extras_mut().partition = Some(Arc::new(partition.into()));
        self
    }

    /// Names the sign-in that the code or refresh token of this request belongs to. Default is none.
    ///
    /// It is a part of the key of a cache, it is not sent, and `Debug` does not show it. Instances of a service that
    /// share tokens (`token_store::ShareTokens`) need it, because each of them may know another refresh token of the same sign-in: take
    /// the id of the session or of the row in which the refresh token is kept. A new sign-in of the same user needs a new name. Whoever uses a
    /// name gets the tokens of its sign-in, so it must not come from a client that could choose another one.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_oauth2_client::TokenRequest;
    ///
    /// let request = TokenRequest::refresh_token("from the database").sign_in("session 7");
    /// assert_eq!(request.get_sign_in(), Some("session 7"));
    /// ```
    #[must_use]
    pub fn sign_in(mut self, name: impl Into<String>) -> Self {
        self.0.extras_mut().sign_in = Some(Arc::new(name.into()));
        self
    }

    pub(crate) fn without_sign_in(&self) -> Cow<'_, Self> {
        if self.get_sign_in().is_none() {
            return Cow::Borrowed(self);
        }
        let mut request = self.clone();
        request.0.extras_mut().sign_in = None;
        Cow::Owned(request)
    }

    /// Adds a value for the layers below, in place of an earlier one of the same type. Default is none.
    ///
    /// Layers between the cache and the endpoint read it with [`get_context`](Self::get_context). The endpoint adds it to the
    /// [extensions](http::Extensions) of the HTTP request. It is not sent.
    ///
    /// It travels through a cache, but is not a part of its key: requests that differ only in their context are equal and share a token.
    /// **The cache then uses the context of the request that came first**, for every fetch and renewal until the entry is evicted. So a context
    /// belongs to the token, like the name of a tenant or an HTTP client for it. What belongs to one call, like a deadline or
    /// the span of a trace, must not be in it. If the context changes which token is right, set a [`partition`](Self::partition) as well:
    /// otherwise one tenant gets the token of another.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_oauth2_client::TokenRequest;
    ///
    /// #[derive(Clone, Debug, PartialEq)]
    /// struct Tenant(u64);
    ///
    /// let request = TokenRequest::client_credentials().context(Tenant(7));
    /// assert_eq!(request.get_context(), Some(&Tenant(7)));
    /// ```
    #[must_use]
    pub fn context<T: Clone + Send + Sync + 'static>(mut self, value: T) -> Self {
        self.0.extras_mut().context.insert(value);
        self
    }

    pub(crate) fn bound_to(mut self, key: Option<DpopKey>) -> Self {
        if key.is_some() {
            self.0.extras_mut().dpop = key;
        }
        self
    }

    /// Refuses every endpoint that belongs to another issuer, also for renewals.
    #[cfg(feature = "authorization-code")]
    pub(crate) fn only_for(mut self, issuer: &str) -> Self {
        self.0.extras_mut().issuer = Some(Arc::new(issuer.to_owned()));
        self
    }

    pub(crate) fn shared_id_token_checks(&self) -> Option<Arc<IdTokenChecks>> {
        self.0.extras().id_token_checks.clone()
    }

    /// Sets what the server said about polling. It is neither sent nor compared.
    pub(crate) fn with_polling_terms(mut self, terms: PollingTerms) -> Self {
        self.0.extras_mut().polling = Some(Box::new(terms));
        self
    }

    pub(crate) fn polling_terms(&self) -> PollingTerms {
        self.0
            .extras()
            .polling
            .as_deref()
            .copied()
            .unwrap_or_default()
    }
}
