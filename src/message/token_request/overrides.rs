//! The settings of a single request that override those of the token endpoint or the cache.

use std::{fmt, sync::Arc, time::Duration};

use super::TokenRequest;
use crate::{
    client_authentication::ClientAuthentication,
    dpop::DpopKey,
    message::{IdTokenChecks, PollingTerms, form::OfIssuer},
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
        self.0.extras_mut().polling.interval = Some(interval);
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
    pub fn label(mut self, label: impl Into<Box<str>>) -> Self {
        self.0.extras_mut().label = Some(label.into());
        self
    }

    /// Adds a value for the layers below, in place of an earlier one of the same type. Default is none.
    ///
    /// Layers between the cache and the endpoint read it with [`get_context`](Self::get_context). The endpoint adds it to the
    /// [extensions](http::Extensions) of the HTTP request. It is not sent.
    ///
    /// It travels through a cache, but is not a part of its key: requests that differ only in their context are equal and share a token.
    /// **The cache then uses the context of the request that came first**, for every fetch and renewal until the entry is evicted. So a context
    /// belongs to the token, like the name of a tenant or an HTTP client for it. What belongs to one call, like a deadline or
    /// the span of a trace, must not be in it. If the context changes which token is right, the request needs a parameter or a header as well.
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

    /// Keeps the token apart from those of other issuers in the same cache.
    pub(crate) fn of_issuer(mut self, issuer: Arc<str>) -> Self {
        self.0.extras_mut().context.insert(OfIssuer(issuer));
        self
    }

    pub(crate) fn bound_to(mut self, key: Option<DpopKey>) -> Self {
        if key.is_some() {
            self.0.extras_mut().dpop = key;
        }
        self
    }

    pub(crate) fn shared_id_token_checks(&self) -> Option<Arc<IdTokenChecks>> {
        self.0.extras().id_token_checks.clone()
    }

    /// Sets what the server said about polling. It is neither sent nor compared.
    pub(crate) fn with_polling_terms(mut self, terms: PollingTerms) -> Self {
        self.0.extras_mut().polling = terms;
        self
    }

    pub(crate) fn polling_terms(&self) -> &PollingTerms {
        &self.0.extras().polling
    }
}
